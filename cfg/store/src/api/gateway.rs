//! The same API as JSON over HTTP, as etcd's gateway has it: bytes in base64, 64-bit numbers as strings, names as in
//! the definitions, what is empty left out. Streams are one object a line, under `result`.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use cfg_api::etcdserverpb as pb;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::json;
use std::sync::LazyLock;
use tokio_stream::StreamExt;
use tonic::Status;

use super::Api;
use crate::machine::Refused;

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(cfg_api::DESCRIPTORS).map_err(|error| error.to_string()));

fn descriptor(name: &str) -> Result<MessageDescriptor, Refused> {
    let pool = POOL.as_ref().map_err(|error| Refused::unavailable(error.clone()))?;
    let found = pool.get_message_by_name(&format!("etcdserverpb.{name}"));
    found.ok_or_else(|| Refused::unavailable(format!("{name} is not defined")))
}

/// What an error says of a word that is not in its list.
const UNKNOWN_WORD: &str = "unrecognized enum value";

/// A message of the kind `name` out of JSON.
fn read<M: Message + Default>(name: &str, json: &[u8]) -> Result<M, Refused> {
    let wrong = |error: serde_json::Error| Refused::argument(format!("the body is no {name}: {error}"));
    let json = if json.is_empty() { b"{}" } else { json };
    let kind = descriptor(name)?;
    let read = |strict| {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(strict);
        DynamicMessage::deserialize_with_options(kind.clone(), &mut reader, &options)
    };
    // etcd's gateway lets fields pass that it does not know, and no word that it does not know where it has a list.
    let message = match read(true) {
        Err(error) if !error.to_string().contains(UNKNOWN_WORD) => read(false),
        strict => strict,
    };
    message.map_err(wrong)?.transcode_to().map_err(|error| Refused::argument(error.to_string()))
}

/// JSON out of a message of the kind `name`.
fn write<M: Message>(name: &str, message: &M) -> Result<serde_json::Value, Refused> {
    let odd = |error: String| Refused::unavailable(format!("an answer that is no {name}: {error}"));
    let mut dynamic = DynamicMessage::new(descriptor(name)?);
    dynamic.transcode_from(message).map_err(|error| odd(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(true);
    let json = dynamic.serialize_with_options(serde_json::value::Serializer, &options);
    json.map_err(|error| odd(error.to_string()))
}

/// HTTP's status for one of gRPC, as etcd's gateway translates it.
fn http_status(code: tonic::Code) -> StatusCode {
    match code {
        tonic::Code::Ok => StatusCode::OK,
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange | tonic::Code::FailedPrecondition => {
            StatusCode::BAD_REQUEST
        }
        tonic::Code::NotFound => StatusCode::NOT_FOUND,
        tonic::Code::AlreadyExists | tonic::Code::Aborted => StatusCode::CONFLICT,
        tonic::Code::PermissionDenied => StatusCode::FORBIDDEN,
        tonic::Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        tonic::Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        tonic::Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        tonic::Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        tonic::Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refusal(refused: &Refused) -> serde_json::Value {
    json!({"error": refused.text, "message": refused.text, "code": refused.code as i32})
}

fn answer(result: Result<serde_json::Value, Refused>) -> Response {
    let (status, json) = match result {
        Ok(json) => (StatusCode::OK, json),
        Err(refused) => (http_status(refused.code), refusal(&refused)),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], json.to_string()).into_response()
}

/// A call with one answer.
macro_rules! call {
    ($api:expr, $request:ident, $response:ident, $call:expr) => {{
        let api = $api.clone();
        post(move |body: Bytes| async move {
            let result = async {
                let request: pb::$request = read(stringify!($request), &body)?;
                let call: std::pin::Pin<
                    Box<dyn Future<Output = Result<pb::$response, Refused>> + Send + '_>,
                > = Box::pin($call(&api, request));
                write(stringify!($response), &call.await?)
            };
            answer(result.await)
        })
    }};
}

/// A stream of answers, one a line.
fn stream<M: Message + 'static>(
    name: &'static str,
    answers: impl tokio_stream::Stream<Item = Result<M, Status>> + Send + 'static,
) -> Response {
    let line = move |message: Result<M, Status>| {
        let result = message.map_err(Refused::from).and_then(|message| write(name, &message));
        let json =
            result.map_or_else(|refused| json!({"error": refusal(&refused)}), |json| json!({"result": json}));
        Ok::<_, std::convert::Infallible>(format!("{json}\n"))
    };
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(answers.map(line))).into_response()
}

/// The requests of a streaming call: the body has one JSON object or several; the stream stays open behind them.
fn requests<M: Message + Default>(name: &str, body: &[u8]) -> Result<Vec<M>, Refused> {
    let values = serde_json::Deserializer::from_slice(body).into_iter::<serde_json::Value>();
    let one = |value: Result<serde_json::Value, serde_json::Error>| {
        let value = value.map_err(|error| Refused::argument(format!("the body is no {name}: {error}")))?;
        read(name, value.to_string().as_bytes())
    };
    values.map(one).collect()
}

/// Adds the gateway to `router`, under `/v3/` and, as etcd 3.4 does, `/v3beta/`.
pub(super) fn add(router: Router, api: &Api) -> Router {
    let mut router = router;
    for version in ["/v3", "/v3beta"] {
        router = router.nest(version, routes(api));
    }
    router
}

fn routes(api: &Api) -> Router {
    let kv = Router::new()
        .route("/kv/range", call!(api, RangeRequest, RangeResponse, Api::read_range))
        .route("/kv/put", call!(api, PutRequest, PutResponse, Api::write_put))
        .route(
            "/kv/deleterange",
            call!(api, DeleteRangeRequest, DeleteRangeResponse, Api::write_delete_range),
        )
        .route("/kv/txn", call!(api, TxnRequest, TxnResponse, Api::do_txn))
        .route("/kv/compaction", call!(api, CompactionRequest, CompactionResponse, Api::do_compact));
    let revoke = || call!(api, LeaseRevokeRequest, LeaseRevokeResponse, Api::revoke);
    let time = || call!(api, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Api::time_to_live);
    let all = async |api: &Api, _: pb::LeaseLeasesRequest| api.all_leases().await;
    let status = async |api: &Api, _: pb::StatusRequest| Ok(api.status_of());
    let members = async |api: &Api, _: pb::MemberListRequest| api.member_list_of(true).await;
    let others = Router::new()
        .route("/lease/grant", call!(api, LeaseGrantRequest, LeaseGrantResponse, Api::grant))
        .route("/lease/revoke", revoke())
        .route("/kv/lease/revoke", revoke())
        .route("/lease/timetolive", time())
        .route("/kv/lease/timetolive", time())
        .route("/lease/leases", call!(api, LeaseLeasesRequest, LeaseLeasesResponse, all))
        .route("/kv/lease/leases", call!(api, LeaseLeasesRequest, LeaseLeasesResponse, all))
        .route("/maintenance/status", call!(api, StatusRequest, StatusResponse, status))
        .route("/maintenance/alarm", call!(api, AlarmRequest, AlarmResponse, Api::do_alarm))
        .route("/cluster/member/list", call!(api, MemberListRequest, MemberListResponse, members));
    let (watching, keeping) = (api.clone(), api.clone());
    let streams = Router::new()
        .route(
            "/watch",
            post(move |body: Bytes| async move {
                match requests::<pb::WatchRequest>("WatchRequest", &body) {
                    Ok(requests) => {
                        // The body is all that the client says; the stream lasts until it goes.
                        let said =
                            tokio_stream::iter(requests.into_iter().map(Ok)).chain(tokio_stream::pending());
                        stream("WatchResponse", watching.watch_stream(Box::pin(said), false))
                    }
                    Err(refused) => answer(Err(refused)),
                }
            }),
        )
        .route(
            "/lease/keepalive",
            post(move |body: Bytes| async move {
                match requests::<pb::LeaseKeepAliveRequest>("LeaseKeepAliveRequest", &body) {
                    Ok(requests) => {
                        let said = tokio_stream::iter(requests.into_iter().map(Ok));
                        stream("LeaseKeepAliveResponse", keeping.keep_alives(said, false))
                    }
                    Err(refused) => answer(Err(refused)),
                }
            }),
        );
    kv.merge(others).merge(streams)
}

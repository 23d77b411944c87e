//! What is plain HTTP beside the JSON gateway: health, version, metrics; and the answer to calls that nobody serves.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, extract::State};
use serde_json::json;

use super::{Api, VERSION};

/// gRPC's path for the state of health.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Adds them to `router`.
pub(super) fn add(router: Router, api: Api) -> Router {
    let own = Router::new()
        .route("/health", get(health))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .with_state(api.clone());
    router.merge(own).fallback(move |uri: Uri, headers: HeaderMap| unknown(api.clone(), uri, headers))
}

async fn health(State(api): State<Api>) -> Response {
    let full = api.node.read(crate::machine::Machine::is_full);
    let reason = if full {
        "ALARM NOSPACE".to_string()
    } else {
        match api.node.read_barrier().await {
            Ok(()) => return Json(json!({"health": "true"})).into_response(),
            Err(refused) => refused.text,
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"health": "false", "reason": reason}))).into_response()
}

async fn version() -> Response {
    Json(json!({"etcdserver": VERSION, "etcdcluster": VERSION, "ovs": env!("CARGO_PKG_VERSION")}))
        .into_response()
}

async fn metrics(State(api): State<Api>) -> Response {
    match api.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Calls that are not served get a status that says so; clients of etcd that try to log in learn that they need not.
async fn unknown(api: Api, uri: Uri, headers: HeaderMap) -> Response {
    let grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !grpc {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    if uri.path() == HEALTH {
        return serving(api.node.leader().is_some());
    }
    let status = if uri.path().starts_with("/etcdserverpb.Auth/") {
        tonic::Status::failed_precondition("etcdserver: authentication is not enabled")
    } else {
        tonic::Status::unimplemented(format!("{} is not served by this store", uri.path()))
    };
    status.into_http::<Body>().map(Body::new).into_response()
}

/// The answer of gRPC's health service: one field, 1 for serving and 2 for not.
fn serving(well: bool) -> Response {
    let message = [0, 0, 0, 0, 2, 8, if well { 1 } else { 2 }];
    let frames = http_body_util::StreamBody::new(tokio_stream::iter([
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::copy_from_slice(&message))),
        Ok(http_body::Frame::trailers(HeaderMap::from_iter([(
            header::HeaderName::from_static("grpc-status"),
            header::HeaderValue::from_static("0"),
        )]))),
    ]));
    ([(header::CONTENT_TYPE, "application/grpc")], Body::new(frames)).into_response()
}

//! Requests and answers as HTTP carries them.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dxr::{Fault, FaultResponse, MethodCall, MethodResponse};
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::timeout;

use super::Server;
use super::failed::{FAULT, NO_METHOD};
use super::scan::{Refused, scan};
use super::values::clean;
use crate::failure::Failure;

/// Bytes of a request that is parsed where it arrives. Longer ones take milliseconds, and may be meant to.
const SHORT: usize = 4096;

/// What stands before each answer.
const PROLOGUE: &str = "<?xml version=\"1.0\"?>\r\n";

/// All routes: the paths at which clients look.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new().route("/RPC2", post(request)).route("/", post(request)).with_state(server)
}

/// What clients must show. Kept as a keyed hash, so that the comparison takes the same time for all that is shown.
pub(super) struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Token {
    /// The token of the configuration; empty: none.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn of(token: &str) -> Result<Option<Token>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| Failure::failed("no random numbers for the token of the admin RPC"))?;
        let tag = hmac::sign(&key, token.as_bytes());
        Ok(Some(Token { key, tag }))
    }

    /// Whether a client shows it: as a bearer token, or as the password of any user.
    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
            return false;
        };
        let Some((scheme, credentials)) = shown.split_once(' ') else { return false };
        let token = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => Some(credentials.trim().as_bytes().to_vec()),
            "basic" => password(credentials.trim()),
            _ => None,
        };
        token.is_some_and(|token| hmac::verify(&self.key, &token, self.tag.as_ref()).is_ok())
    }
}

/// The password of `user:password` in base64.
fn password(credentials: &str) -> Option<Vec<u8>> {
    let decoded = STANDARD.decode(credentials).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

async fn request(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    if server.token.as_ref().is_some_and(|token| !token.is_shown(&headers)) {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"ovs\", Basic realm=\"ovs\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "the token is missing or wrong\n").into_response();
    }
    let is_long = body.len() > SHORT;
    let answer = answer(Arc::clone(&server), body).await;
    match is_long {
        true => server.aside.run(|| written(answer)).await.unwrap_or_else(unwritten),
        false => written(answer),
    }
}

/// The call that a body is: the method's name and the parameters.
fn parse(body: &[u8], depth_limit: usize) -> Result<(String, Vec<dxr::Value>), Fault> {
    let refused = |problem: &str| Fault::new(NO_METHOD, format!("the request is no XML-RPC call: {problem}"));
    let text = str::from_utf8(body).map_err(|_| refused("it is no UTF-8 text"))?;
    scan(text, depth_limit).map_err(|why| {
        refused(&match why {
            Refused::Depth => format!("more than {depth_limit} elements are inside each other"),
            Refused::DocumentType => "a document type, and with it entities, is not allowed".to_owned(),
            Refused::Unfinished => "a tag does not end".to_owned(),
        })
    })?;
    // The parser's own words would give the whole document back.
    let call = MethodCall::from_xml(text);
    let call = call.map_err(|_| refused("its XML is not a methodCall with known types"))?;
    Ok((call.name.into_owned(), call.params))
}

/// Answers a request when its turn comes, so that few are in memory in parsed form. The call is a task of its own: it
/// comes to its end also if the client goes away, or the time is over.
async fn answer(server: Arc<Server>, body: Bytes) -> Result<dxr::Value, Fault> {
    let (begun, time) = (Instant::now(), server.call_timeout);
    let busy =
        || Fault::new(FAULT, format!("the server had no time for the request within {time:?}; try again"));
    let turn = timeout(time, Arc::clone(&server.turns).acquire_owned()).await.map_err(|_| busy())?;
    let turn = turn.map_err(|_| busy())?;
    let depth_limit = server.depth_limit;
    let (name, params) = match body.len() {
        ..=SHORT => parse(&body, depth_limit)?,
        _ => {
            let parsed = server.aside.run(move || parse(&body, depth_limit));
            let parsed = timeout(time.saturating_sub(begun.elapsed()), parsed).await.map_err(|_| busy())?;
            parsed.unwrap_or_else(|| {
                Err(Fault::new(FAULT, "the request cannot be read; the log has more".to_owned()))
            })?
        }
    };
    let task = tokio::spawn({
        let name = name.clone();
        async move {
            let result = server.call(&name, params).await;
            drop(turn);
            result
        }
    });
    let result = match timeout(time.saturating_sub(begun.elapsed()), task).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => {
            tracing::error!(method = name, %error, "a call broke down");
            Err(Fault::new(FAULT, format!("{name} Caught unknown exception; the log has more")))
        }
        Err(_) => Err(Fault::new(FAULT, format!("{name} takes longer than {time:?}; what it began goes on"))),
    };
    let took_us = begun.elapsed().as_micros() as u64;
    match &result {
        Ok(_) => tracing::debug!(method = name, took_us, "call"),
        Err(fault) => tracing::info!(method = name, took_us, fault = fault.string(), "call"),
    }
    result
}

/// An answer as HTTP has it: a fault is one of status 200, too.
fn written(answer: Result<dxr::Value, Fault>) -> Response {
    let xml = match answer {
        Ok(value) => MethodResponse { value }.to_xml(),
        Err(fault) => FaultResponse { fault: Fault::new(fault.code(), clean(fault.string())) }.to_xml(),
    };
    match xml {
        Ok(xml) => ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], format!("{PROLOGUE}{xml}\r\n"))
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as XML");
            unwritten()
        }
    }
}

fn unwritten() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written as XML\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_bearer_or_a_password() {
        let token = Token::of("open sesame").expect("random numbers").expect("a token");
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
            token.is_shown(&headers)
        };
        assert!(shown("Bearer open sesame") && shown("bearer open sesame"));
        // "ovs:open sesame" and ":open sesame"
        assert!(shown("Basic b3ZzOm9wZW4gc2VzYW1l") && shown("Basic Om9wZW4gc2VzYW1l"));
        for wrong in [
            "Bearer",
            "Bearer open",
            "Bearer open sesame2",
            "Basic b3ZzOm9wZW4",
            "Basic !",
            "Digest open sesame",
        ] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!token.is_shown(&HeaderMap::new()));
        assert!(Token::of("").expect("none is needed").is_none());
    }

    #[test]
    fn what_is_no_call_is_refused_without_being_repeated() {
        let long = format!("<methodCall>{}</methodCall>", "x".repeat(10_000));
        for wrong in ["", "hello", "<a/>", "<methodCall><params/></methodCall>", long.as_str()] {
            let fault = parse(wrong.as_bytes(), 64).expect_err("refused");
            assert_eq!(fault.code(), NO_METHOD);
            assert!(
                fault.string().starts_with("the request is no XML-RPC call") && fault.string().len() < 200
            );
        }
        let deep = format!(
            "<methodCall><methodName>a</methodName><params><param>{}",
            "<value><array><data>".repeat(50)
        );
        assert!(parse(deep.as_bytes(), 64).expect_err("deep").string().contains("64 elements"));
        assert!(parse(b"<methodCall><methodName>a\xff", 64).expect_err("bytes").string().contains("UTF-8"));
    }
}

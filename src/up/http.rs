//! Serving HTTP with bounds on everything: connections, the time for a request and for its answer, the body's length.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use cfg_store::Acceptor;
use http_body_util::{BodyExt, Limited};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use volumedriver::parameters::{Parameters, Xmlrpc};

/// For the whole life of a connection that asks for metrics or health.
const LOOK: Duration = Duration::from_secs(60);

/// The same for one that asks for an operation, whose client waits less.
const OPERATION: Duration = Duration::from_secs(600);

/// Bounds of one server.
#[derive(Clone)]
pub(crate) struct Options {
    connections: usize,
    read_timeout: Duration,
    body_limit: usize,
    lifetime: Duration,
    tls: Option<Arc<Acceptor>>,
}

impl Options {
    /// For questions that are answered at once.
    pub(crate) fn new(parameters: &Parameters) -> Options {
        let http = &parameters.http;
        Options {
            connections: http.http_max_connections as usize,
            read_timeout: http.http_read_timeout_ms.duration(),
            body_limit: usize::try_from(http.http_body_limit.bytes()).unwrap_or(usize::MAX),
            lifetime: LOOK,
            tls: None,
        }
    }

    /// For the admin RPC, with TLS or without.
    pub(crate) fn for_calls(parameters: &Xmlrpc, tls: Option<Arc<Acceptor>>) -> Options {
        let read_timeout = parameters.xmlrpc_read_timeout_ms.duration();
        Options {
            connections: parameters.xmlrpc_max_connections as usize,
            read_timeout,
            body_limit: usize::try_from(parameters.xmlrpc_request_limit.bytes()).unwrap_or(usize::MAX),
            // TLS, head and body of a request, and the answer.
            lifetime: 4 * read_timeout + parameters.xmlrpc_call_timeout_ms.duration(),
            tls,
        }
    }

    /// For operations that take their time.
    pub(crate) fn for_operations(&self) -> Options {
        Options { lifetime: OPERATION, ..self.clone() }
    }
}

/// Serves `router` on `listener` until `stop` is true, then answers what was asked and returns.
pub(crate) async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    options: Options,
    mut stop: watch::Receiver<bool>,
) {
    let (read_timeout, body_limit) = (options.read_timeout, options.body_limit);
    let router =
        router.layer(from_fn(move |request, next| read_body(request, next, read_timeout, body_limit)));
    let mut connections = JoinSet::new();
    loop {
        // At the limit new clients wait in the kernel's backlog until somebody leaves.
        let full = connections.len() >= options.connections;
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            (stream, _) = listener.accept(), if !full => {
                connections.spawn(connection(stream, router.clone(), options.clone(), stop.clone()));
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection<S>(stream: S, router: Router, options: Options, stop: watch::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = &options.tls else { return talk(stream, router, options, stop).await };
    match timeout(options.read_timeout, TlsAcceptor::from(tls.config()).accept(stream)).await {
        Ok(Ok(stream)) => talk(stream, router, options, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
        Err(_) => tracing::debug!("TLS took too long"),
    }
}

async fn talk<S>(stream: S, router: Router, options: Options, mut stop: watch::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.read_timeout)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let ended = timeout(options.lifetime, async {
        tokio::select! {
            result = served.as_mut() => result,
            () = stopped(&mut stop) => {
                served.as_mut().graceful_shutdown();
                served.as_mut().await
            }
        }
    });
    match ended.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "HTTP connection"),
        Err(_) => tracing::debug!("HTTP connection lasted too long"),
    }
}

/// Ends when `stop` is true, or when nobody is left to set it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Reads the whole body before the request goes on, so that a client can neither send too much nor too slowly.
async fn read_body(request: Request, next: Next, time: Duration, limit: usize) -> Response {
    let (head, body) = request.into_parts();
    match timeout(time, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body.to_bytes()))).await,
        Ok(Err(_)) => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or broken\n").into_response(),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n").into_response(),
    }
}

//! Metrics and health over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::node::Node;

/// The exposition format of Prometheus.
const METRICS: [(header::HeaderName, &str); 1] =
    [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];

/// All routes.
pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(node)
}

async fn ready(State(node): State<Arc<Node>>) -> (StatusCode, &'static str) {
    match node.ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let ready = u8::from(node.ready());
    let driver = node.look(|driver| driver.metrics_text()).await.unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let process = format!(
        "# HELP ovs_build_info The program that runs.\n\
         # TYPE ovs_build_info gauge\n\
         ovs_build_info{{version=\"{version}\"}} 1\n\
         # HELP ovs_ready Whether volumes are served.\n\
         # TYPE ovs_ready gauge\n\
         ovs_ready {ready}\n"
    );
    (METRICS, process + &driver)
}

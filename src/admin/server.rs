//! The node's side of the admin API.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::api::{ApiError, ChangeVolume, CreateVolume, Deleted, ErrorBody, ErrorKind, Volume};
use crate::driver::{Driver, VolumeError, VolumeName};
use crate::up::node::Node;

/// All routes.
pub(crate) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/v1/volumes", get(list).post(create))
        .route("/v1/volumes/{name}", get(info).patch(change).delete(delete))
        .route("/v1/volumes/{name}/stats", get(stats))
        .fallback(async || ApiError::new(ErrorKind::BadRequest, "there is no such request in this version"))
        .with_state(node)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(ErrorBody { error: self })).into_response()
    }
}

type Answer<T> = Result<Json<T>, ApiError>;

/// Does `operation` about the volume `name` on a thread that may block.
async fn run<T: Send + 'static>(
    node: Arc<Node>,
    name: &str,
    operation: impl FnOnce(&Driver) -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, ApiError> {
    match node.operate(operation).await {
        Some(result) => result.map_err(|error| ApiError::of_volume(name, &error)),
        None => Err(unavailable()),
    }
}

fn unavailable() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the node is starting or stopping; try again")
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new(ErrorKind::BadRequest, format!("the body is not what is expected: {error}"))
    })
}

async fn list(State(node): State<Arc<Node>>) -> Answer<Vec<Volume>> {
    let volumes = run(node, "", |driver| Ok(driver.list())).await?;
    Ok(Json(volumes.into_iter().map(Volume::from).collect()))
}

async fn create(State(node): State<Arc<Node>>, body: Bytes) -> Result<(StatusCode, Json<Volume>), ApiError> {
    let CreateVolume { name, size } = parse(&body)?;
    let parsed =
        VolumeName::parse(&name).map_err(|error| ApiError::new(ErrorKind::Invalid, error.to_string()))?;
    node.claims()?.claim(&name).await?;
    let created = node.create(parsed, size).await.ok_or_else(unavailable)?;
    let volume = created.map_err(|error| ApiError::of_volume(&name, &error))?;
    Ok((StatusCode::CREATED, Json(volume.into())))
}

async fn info(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<Volume> {
    let wanted = name.clone();
    run(node, &name, move |driver| driver.info(&wanted)).await.map(|volume| Json(volume.into()))
}

async fn change(State(node): State<Arc<Node>>, Path(name): Path<String>, body: Bytes) -> Answer<Volume> {
    let ChangeVolume { size } = parse(&body)?;
    let wanted = name.clone();
    let volume = run(node, &name, move |driver| driver.resize(&wanted, size)).await?;
    tracing::info!(volume = name, size, "volume resized");
    Ok(Json(volume.into()))
}

async fn delete(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<Deleted> {
    let deleted = node.delete(&name).await.ok_or_else(unavailable)?;
    deleted.map_err(|error| ApiError::of_volume(&name, &error))?;
    Ok(Json(Deleted { deleted: name }))
}

async fn stats(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<impl Serialize> {
    let wanted = name.clone();
    run(node, &name, move |driver| driver.stats(&wanted)).await.map(Json)
}

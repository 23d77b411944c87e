//! The running driver, as the servers of this process see it.

use std::sync::{Arc, OnceLock};

use tokio::sync::{RwLock, Semaphore};
use tokio::task::spawn_blocking;

use super::claims::Claims;
use crate::admin::api::{ApiError, ErrorKind};
use crate::driver::{Driver, VolumeError, VolumeInfo, VolumeName};

/// Holds the driver from the end of its start to the beginning of its stop.
pub(crate) struct Node {
    /// Every operation reads; the stop writes, and so waits for all of them.
    driver: RwLock<Option<Driver>>,
    /// Set once, before anything is made.
    claims: OnceLock<Claims>,
    operations: Arc<Semaphore>,
}

impl Node {
    /// Without a driver yet. At most `operations` run at once.
    pub(crate) fn new(operations: u32) -> Arc<Node> {
        let operations = Arc::new(Semaphore::new(operations as usize));
        Arc::new(Node { driver: RwLock::new(None), claims: OnceLock::new(), operations })
    }

    /// From now on volumes are claimed before they are made.
    pub(crate) fn claims_by(&self, claims: Claims) {
        // A second one would be a fault of the start; the first one stays.
        let _ = self.claims.set(claims);
    }

    /// The claims of this driver.
    pub(crate) fn claims(&self) -> Result<&Claims, ApiError> {
        let starting = || ApiError::new(ErrorKind::Unavailable, "the node is starting; try again");
        self.claims.get().ok_or_else(starting)
    }

    /// From now on operations are possible.
    pub(crate) async fn started(&self, driver: Driver) {
        *self.driver.write().await = Some(driver);
    }

    /// Runs `operation` on a thread that may block, when its turn comes; to its end, also if the caller goes away.
    /// `None`: the driver is not there yet, or not any more.
    pub(crate) async fn operate<T: Send + 'static>(
        self: &Arc<Node>,
        operation: impl FnOnce(&Driver) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.operations).acquire_owned().await.ok()?;
        self.look(move |driver| {
            let result = operation(driver);
            drop(turn);
            result
        })
        .await
    }

    /// Makes a volume that is claimed. When that fails, and there is none of the name here, its claim is released.
    /// `None` as in [`Node::operate`].
    pub(crate) async fn create(
        self: &Arc<Node>,
        name: VolumeName,
        size: u64,
    ) -> Option<Result<VolumeInfo, VolumeError>> {
        let wanted = name.clone();
        let created = self.operate(move |driver| driver.create_volume(wanted, size)).await;
        match &created {
            Some(Ok(_)) => tracing::info!(volume = %name, size, "volume created"),
            Some(Err(VolumeError::Exists)) => {}
            Some(Err(_)) | None => self.release(name.as_str()).await,
        }
        created
    }

    /// Deletes a volume and gives up its claim. `None` as in [`Node::operate`].
    pub(crate) async fn delete(self: &Arc<Node>, name: &str) -> Option<Result<(), VolumeError>> {
        let wanted = name.to_owned();
        let deleted = self.operate(move |driver| driver.delete(&wanted)).await?;
        if deleted.is_ok() {
            self.release(name).await;
            tracing::info!(volume = name, "volume deleted");
        }
        Some(deleted)
    }

    async fn release(&self, name: &str) {
        let released = async { self.claims()?.release(name).await };
        if let Err(error) = released.await {
            // The next start finds a claim without a volume and releases it.
            tracing::warn!(volume = name, error = error.message, "a claim stays behind");
        }
    }

    /// As [`Node::operate`], at once: for what only looks.
    pub(crate) async fn look<T: Send + 'static>(
        self: &Arc<Node>,
        question: impl FnOnce(&Driver) -> T + Send + 'static,
    ) -> Option<T> {
        let node = Arc::clone(self);
        let answer = spawn_blocking(move || node.driver.blocking_read().as_ref().map(question)).await;
        answer.unwrap_or_else(|error| {
            tracing::error!(%error, "an operation failed unexpectedly");
            None
        })
    }

    /// As [`Node::look`], on a thread that may block.
    pub(crate) fn wait_for<T>(&self, question: impl FnOnce(&Driver) -> T) -> Option<T> {
        self.driver.blocking_read().as_ref().map(question)
    }

    /// Whether volumes are served.
    pub(crate) fn ready(&self) -> bool {
        self.driver.try_read().is_ok_and(|driver| driver.as_ref().is_some_and(Driver::ready))
    }

    /// Waits for operations that run, then lets the driver finish and make durable what is in flight.
    pub(crate) async fn stop(&self) {
        let Some(driver) = self.driver.write().await.take() else { return };
        if let Err(error) = spawn_blocking(move || driver.shutdown()).await {
            tracing::error!(%error, "the driver did not stop cleanly");
        }
    }
}

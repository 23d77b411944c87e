//! The parameters that a driver runs with. Only calls of people read them here; data threads have copies of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::parameters::Parameters;
use crate::volume::Settings;

/// One set of parameters, and what follows from them.
pub(super) struct Snapshot {
    pub(super) parameters: Parameters,
    pub(super) settings: Arc<Settings>,
}

impl Snapshot {
    /// How long a call waits for a data thread.
    pub(super) fn call_timeout(&self) -> Duration {
        self.parameters.volume_manager.volume_call_timeout_ms.duration()
    }
}

/// See the module.
pub(super) struct Running {
    now: Mutex<Arc<Snapshot>>,
    /// Somebody prepares a change.
    changing: AtomicBool,
}

impl Running {
    pub(super) fn new(parameters: Parameters, settings: Arc<Settings>) -> Self {
        Self {
            now: Mutex::new(Arc::new(Snapshot { parameters, settings })),
            changing: AtomicBool::new(false),
        }
    }

    /// What holds now.
    pub(super) fn now(&self) -> Arc<Snapshot> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, snapshot: Snapshot) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}

/// The right to change the parameters; one at a time has it.
pub(super) struct Turn(Arc<Running>);

impl Turn {
    /// `None`: somebody else has it.
    pub(super) fn take(running: &Arc<Running>) -> Option<Self> {
        (!running.changing.swap(true, Ordering::AcqRel)).then(|| Self(running.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.changing.store(false, Ordering::Release);
    }
}

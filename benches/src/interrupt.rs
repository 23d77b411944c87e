//! SIGINT and SIGTERM end the harness in order: every wait looks here, so every child is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{BenchError, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Makes SIGINT and SIGTERM set the flag that [`check`] reads.
pub(crate) fn install() {
    let handler = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Fails once a signal has arrived.
pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(BenchError::Interrupted) } else { Ok(()) }
}

/// Waits for `done` to give a value, looking every `step`, for at most `limit`; `Ok(None)` when time is up.
pub(crate) fn wait_for<T>(
    limit: Duration,
    step: Duration,
    mut done: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let end = Instant::now() + limit;
    loop {
        check()?;
        if let Some(value) = done()? {
            return Ok(Some(value));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(step);
    }
}

/// Sleeps for `duration`, unless a signal arrives.
pub(crate) fn pause(duration: Duration) -> Result<()> {
    wait_for(duration, Duration::from_millis(50), || Ok(None::<()>)).map(|_| ())
}

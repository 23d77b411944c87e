//! SIGTERM and ^C.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Signals that ask this process to stop.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over.
    pub(crate) fn new() -> Result<Signals, Failure> {
        let failed = |error: io::Error| Failure::failed(format!("signals cannot be handled: {error}"));
        let take = |kind| signal(kind).map_err(failed);
        Ok(Signals { terminate: take(SignalKind::terminate())?, interrupt: take(SignalKind::interrupt())? })
    }

    /// The first one. After ^C, whoever sits there is told what another one does.
    pub(crate) async fn first(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {
                eprintln!("ovs: finishing what is in flight; press ^C again to stop at once");
            }
        }
    }

    /// A second ^C. Another SIGTERM changes nothing.
    pub(crate) async fn second(&mut self) {
        let _ = self.interrupt.recv().await;
    }
}

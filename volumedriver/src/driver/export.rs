//! Volumes as NBD sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::directory::{Directory, Place};
use crate::data_thread::letters::Letter;
use crate::data_thread::mailbox::Mailbox;
use crate::nbd::handshake::{ExportInfo, Exports};
use crate::nbd::listener::{Attach, Attached};

/// The served volumes, and the way to their threads.
pub(super) struct Served {
    directory: Arc<Directory>,
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
    stopping: Arc<AtomicBool>,
}

impl Served {
    pub(super) fn new(
        directory: Arc<Directory>,
        mailboxes: Vec<Arc<Mailbox<Letter>>>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self { directory, mailboxes, stopping }
    }
}

impl Exports for Served {
    fn list(&self) -> Vec<String> {
        let entries = self.directory.entries();
        let served = entries.iter().filter(|entry| entry.place != Place::Nowhere);
        served.map(|entry| entry.name.clone()).collect()
    }

    fn lookup(&self, name: &str) -> Option<ExportInfo> {
        let entry = self.directory.find(name).ok()?;
        (entry.place != Place::Nowhere).then(|| ExportInfo { size: entry.size() })
    }
}

impl Attach for Served {
    fn attach(&self, connection: Attached) {
        if self.stopping.load(Ordering::Acquire) {
            return;
        }
        let (home, count) = match self.directory.connect(&connection.negotiated.export) {
            Ok(found) => found,
            Err(error) => {
                tracing::info!(export = connection.negotiated.export, %error, "NBD connection closed");
                return;
            }
        };
        let peer = connection.peer.clone();
        let letter = Letter::Attach { volume: home.volume, attached: Box::new(connection), count };
        if self.mailboxes[home.thread as usize].try_post(letter).is_err() {
            tracing::warn!(
                peer,
                thread = home.thread,
                "NBD connection closed: its data thread is overloaded"
            );
        }
    }
}

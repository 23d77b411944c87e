//! The right to drive a roll-out: a key on a lease.

use std::time::Duration;

use cfg_client::{Compare, Error, Event, Item, KeyRange, Proof, Store, Transaction, Write};
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Keys, Session};
use crate::config::{author, failure_of};
use crate::failure::{Failure, Kind};

/// How often the lease is kept while its time goes by once.
const KEEPS: u32 = 4;

/// A lease that is kept until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    store: Store,
    id: i64,
    /// The driver's key is unchanged since this revision, or the right is lost.
    compare: Compare,
    lost: watch::Receiver<bool>,
    keeper: JoinHandle<()>,
}

/// What the driver's key says.
fn value() -> String {
    json!({"by": author::author(), "pid": std::process::id(), "since": author::now()}).to_string()
}

/// A driver in words.
pub(super) fn named(driver: &Json) -> String {
    let (by, pid) = (driver["by"].as_str().unwrap_or("somebody"), &driver["pid"]);
    format!("{by} (process {pid})")
}

impl Lease {
    /// A lease, and the write of the driver's key, which is to be part of the transaction that takes the right.
    pub(super) async fn grant(
        session: &Session,
        keys: &Keys,
        ttl: Duration,
    ) -> Result<(i64, Write), Failure> {
        let id = session.store.grant_lease(ttl).await.map_err(failure_of)?.id;
        Ok((id, Write::Put { key: keys.driver.clone(), value: value().into(), lease: id }))
    }

    /// Keeps the lease `id`, whose key was written at `revision`.
    pub(super) fn keep(session: &Session, keys: &Keys, id: i64, revision: i64, ttl: Duration) -> Lease {
        let (store, (tell, lost)) = (session.store.clone(), watch::channel(false));
        let keeper = tokio::spawn({
            let store = store.clone();
            async move {
                loop {
                    sleep(ttl / KEEPS).await;
                    // A store that does not answer may extend it when it does again.
                    if let Err(Error::Absent { .. }) = store.keep_lease(id).await {
                        let _ = tell.send(true);
                        return;
                    }
                }
            }
        });
        let compare = Compare::Unchanged { key: keys.driver.clone(), mod_revision: revision };
        Lease { store, id, compare, lost, keeper }
    }

    /// Takes the right when nobody has it, which is waited for; `None`: whoever had it has ended the roll-out.
    pub(super) async fn take(
        session: &Session,
        keys: &Keys,
        patience: Duration,
        ttl: Duration,
    ) -> Result<Option<Lease>, Failure> {
        let until = Instant::now() + patience;
        let mut told = false;
        loop {
            let (id, put) = Lease::grant(session, keys, ttl).await?;
            let absent = Compare::Absent(KeyRange::from(&keys.driver));
            let transaction = Transaction { compares: vec![absent], writes: vec![put] };
            match session.store.change(transaction, Proof::Marker).await {
                Ok(revision) => return Ok(Some(Lease::keep(session, keys, id, revision, ttl))),
                Err(Error::Conflict) => {}
                Err(error) => return Err(failure_of(error)),
            }
            session.store.revoke_lease(id).await.map_err(failure_of)?;
            let Some(driver) = session.driver_of(keys).await? else { continue };
            if !told && !session.json {
                eprintln!("ovs: {} is driven by {}; waiting until it ends", keys.id, named(&driver));
            }
            told = true;
            if !gone(session, keys, until).await? {
                let message = format!(
                    "the roll-out {} is driven by {}; wait for it, or `ovs config rollout abort {}`",
                    keys.id,
                    named(&driver),
                    keys.id
                );
                return Err(Failure::new(Kind::Conflict, message));
            }
            if !session.load(keys).await?.rollout.state.is_open() {
                return Ok(None);
            }
        }
    }

    /// Holds while nobody else has the right.
    pub(super) fn compare(&self) -> Compare {
        self.compare.clone()
    }

    /// Whether it is known to be lost.
    pub(super) fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Waits until it is lost.
    pub(super) async fn lost(&mut self) {
        if self.lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Gives the right back at once.
    pub(super) async fn release(self) {
        self.keeper.abort();
        if let Err(error) = self.store.revoke_lease(self.id).await {
            tracing::debug!(%error, "the lease of a roll-out's driver ends by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Waits until the driver's key is gone; `false`: it is still there.
async fn gone(session: &Session, keys: &Keys, until: Instant) -> Result<bool, Failure> {
    let mut watch = session.store.watch(&keys.driver, None);
    loop {
        let Ok(item) = timeout_at(until, watch.next()).await else { return Ok(false) };
        let gone = match item.map_err(failure_of)? {
            Item::Listed(listing) => listing.pairs.is_empty(),
            Item::Changed { events, .. } => events.iter().any(|event| matches!(event, Event::Deleted(_))),
        };
        if gone {
            return Ok(true);
        }
    }
}

//! Writing what a process says: its answers, and its status under a lease.

use std::time::{Duration, Instant};

use cfg_client::{Content, Error, Store, Transaction, Write};
use cfg_engine::{Feedback, KEPT, Kept, Options, Status, Update, Written, trim};

use super::place::Place;

/// Writes for one process. It is used by one job at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    store: Store,
    place: Place,
    /// How long the status outlives a process that says nothing more.
    ttl: Duration,
    lease: Option<Held>,
    /// A status was stored.
    heard: bool,
    /// Answers that are stored, with the revision and the time of their writing; `None`: nobody looked yet.
    stored: Option<Vec<(String, i64, Instant)>>,
}

/// A lease that the status is under.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: i64,
    /// The life that was asked for.
    ttl: Duration,
}

/// The ids under which the update keys that stand now are answered.
async fn standing_ids(store: &Store, place: &Place) -> Result<Vec<String>, Error> {
    let mut ids = Vec::new();
    for key in [&place.update, &place.vpool_update] {
        match store.get(key, None).await {
            Ok(pair) => {
                ids.push(format!("r{}", pair.mod_revision));
                let limit = Options::default().update_bytes;
                ids.extend(
                    Update::read(&pair.value, limit).map_or_else(|wrong| wrong.id, |update| Some(update.id)),
                );
            }
            Err(Error::Absent { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ids)
}

/// What the engine is told of a failure.
fn written(result: Result<(), Error>, what: &str) -> Written {
    match result {
        Ok(()) => Written::Done,
        Err(error @ (Error::Refused { .. } | Error::Key { .. } | Error::TooLarge { .. })) => {
            tracing::error!(%error, what, "is not stored");
            Written::Refused
        }
        Err(error) => {
            tracing::warn!(%error, what, "is not stored yet");
            Written::Away
        }
    }
}

impl Writer {
    pub(crate) fn new(store: Store, place: Place, ttl: Duration) -> Writer {
        Writer { store, place, ttl, lease: None, heard: false, stored: None }
    }

    /// From the next status on: how long it outlives a process that says nothing more.
    pub(crate) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// Stores an answer, and deletes those that are too many.
    pub(crate) async fn feedback(&mut self, feedback: &Feedback) -> Written {
        written(self.try_feedback(feedback).await, "an answer to an update")
    }

    async fn try_feedback(&mut self, feedback: &Feedback) -> Result<(), Error> {
        let key = self.place.feedback.join(&feedback.id)?;
        let put = Transaction { compares: Vec::new(), writes: vec![Write::put(&key, feedback.text())] };
        let revision = match self.store.transact(&put).await {
            // The same again is the same.
            Err(Error::Unknown { .. }) => self.store.transact(&put).await?,
            result => result?,
        };
        if let Err(error) = self.trim(&feedback.id, revision).await {
            tracing::debug!(%error, "old answers are deleted after the next one");
        }
        Ok(())
    }

    async fn trim(&mut self, id: &str, revision: i64) -> Result<(), Error> {
        let now = Instant::now();
        if self.stored.is_none() {
            let listing = self.store.list(&self.place.feedback.below(), Content::Keys, None).await?;
            let folder = self.place.feedback.folder();
            let id = |key: &[u8]| str::from_utf8(key).ok()?.strip_prefix(&folder).map(str::to_owned);
            let known = listing.pairs.iter();
            self.stored =
                Some(known.filter_map(|pair| Some((id(&pair.key)?, pair.mod_revision, now))).collect());
        }
        let stored = self.stored.get_or_insert_default();
        stored.retain(|(known, ..)| known != id);
        stored.push((id.to_owned(), revision, now));
        if stored.len() <= KEPT {
            return Ok(());
        }
        let standing = standing_ids(&self.store, &self.place).await?;
        let kept = |(id, revision, at): &(String, i64, Instant)| Kept {
            id: id.clone(),
            revision: *revision,
            standing: standing.contains(id),
            age: now - *at,
        };
        for gone in trim(stored.iter().map(kept).collect()) {
            let key = self.place.feedback.join(&gone)?;
            self.store.delete(&cfg_client::KeyRange::key(key.as_str())).await?;
            if let Some(stored) = &mut self.stored {
                stored.retain(|(known, ..)| *known != gone);
            }
        }
        Ok(())
    }

    /// Stores a status: under the lease, and for later.
    pub(crate) async fn status(&mut self, status: &Status) -> Written {
        written(self.try_status(status).await, "the status")
    }

    async fn try_status(&mut self, status: &Status) -> Result<(), Error> {
        let text = status.text();
        for _ in 0..2 {
            let before = self.lease;
            let lease = match before {
                Some(lease) if lease.ttl == self.ttl => lease,
                _ => Held { id: self.store.grant_lease(self.ttl).await?.id, ttl: self.ttl },
            };
            self.lease = Some(lease);
            let under =
                Write::Put { key: self.place.status.clone(), value: text.clone().into(), lease: lease.id };
            let writes = vec![under, Write::put(&self.place.last_status, text.clone())];
            match self.store.transact(&Transaction { compares: Vec::new(), writes }).await {
                // The lease is over.
                Err(Error::Absent { .. }) => self.lease = None,
                Err(Error::Unknown { .. }) => {}
                result => {
                    result?;
                    self.heard = true;
                    if let Some(before) = before.filter(|before| before.id != lease.id) {
                        self.end(before).await;
                    }
                    return Ok(());
                }
            }
        }
        Err(Error::Unknown { problem: "the status was written twice without an answer".to_owned() })
    }

    /// Whether a status was stored that is still there, as far as is known.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard && self.lease.is_some()
    }

    /// Whether there is a lease to keep: without one a sign of life asks nothing of the store.
    pub(crate) fn has_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// A sign of life. False: the status is gone with its lease.
    pub(crate) async fn live(&mut self) -> Result<bool, Error> {
        let Some(lease) = self.lease else { return Ok(true) };
        match self.store.keep_lease(lease.id).await {
            Ok(_) => Ok(true),
            Err(Error::Absent { .. }) => {
                self.lease = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the status away: the process ends, and is not unreachable.
    pub(crate) async fn leave(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.end(lease).await;
        }
    }

    async fn end(&self, lease: Held) {
        if let Err(error) = self.store.revoke_lease(lease.id).await {
            tracing::debug!(%error, "what is under the lease stays until it ends");
        }
    }
}

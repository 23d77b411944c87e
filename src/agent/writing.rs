//! Writing what a process says: its answers, and its status under a lease.

use std::time::{Duration, Instant};

use cfg_client::{Content, Error, KeyRange, Store, Transaction, Write};
use cfg_engine::{Feedback, Kept, Status, Written, trim};

use super::place::Place;

/// Old answers that go with one new one at most: a transaction has a limit, and the next answer takes more.
const TRIMMED: usize = 64;

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

    /// Stores an answer, and deletes those that are too many with the same write. Those with the ids `standing` answer
    /// update keys that stand. A `status` goes with it, if there is a lease to put it under.
    pub(crate) async fn feedback(
        &mut self,
        feedback: &Feedback,
        status: Option<&Status>,
        standing: &[String],
    ) -> Written {
        let lease = self.lease.filter(|lease| lease.ttl == self.ttl);
        if let Some((status, lease)) = status.zip(lease) {
            let with = self.status_writes(status, lease);
            match self.try_feedback(feedback, with, standing).await {
                // An answer is not held up by its status.
                Err(Error::Absent { .. }) => self.lease = None,
                Err(Error::TooLarge { .. } | Error::Refused { .. }) => {}
                result => {
                    self.heard |= result.is_ok();
                    return written(result, "an answer to an update");
                }
            }
        }
        match written(self.try_feedback(feedback, Vec::new(), standing).await, "an answer to an update") {
            Written::Done if status.is_some() => Written::Alone,
            result => result,
        }
    }

    async fn try_feedback(
        &mut self,
        feedback: &Feedback,
        with: Vec<Write>,
        standing: &[String],
    ) -> Result<(), Error> {
        let key = self.place.feedback.join(&feedback.id)?;
        let gone = self.too_many(&feedback.id, standing);
        let mut writes = vec![Write::put(&key, feedback.text())];
        for id in &gone {
            writes.push(Write::Delete(KeyRange::from(&self.place.feedback.join(id)?)));
        }
        writes.extend(with);
        let put = Transaction { compares: Vec::new(), writes };
        let revision = match self.store.transact(&put).await {
            // The same again is the same.
            Err(Error::Unknown { .. }) => self.store.transact(&put).await?,
            result => result?,
        };
        match &mut self.stored {
            Some(stored) => {
                stored.retain(|(id, ..)| *id != feedback.id && !gone.contains(id));
                stored.push((feedback.id.clone(), revision, Instant::now()));
            }
            None => match self.look().await {
                Ok(stored) => self.stored = Some(stored),
                Err(error) => tracing::debug!(%error, "old answers are looked for after the next one"),
            },
        }
        Ok(())
    }

    /// The stored answers that are too many beside the new one `id`.
    fn too_many(&self, id: &str, standing: &[String]) -> Vec<String> {
        let now = Instant::now();
        let kept = |(id, revision, at): &(String, i64, Instant)| Kept {
            id: id.clone(),
            revision: *revision,
            standing: standing.contains(id),
            age: now - *at,
        };
        let others = self.stored.iter().flatten().filter(|(other, ..)| other != id);
        let newest = Kept { id: id.to_owned(), revision: i64::MAX, standing: true, age: Duration::ZERO };
        trim(others.map(kept).chain([newest]).collect()).into_iter().take(TRIMMED).collect()
    }

    /// The answers that are stored.
    async fn look(&self) -> Result<Vec<(String, i64, Instant)>, Error> {
        let listing = self.store.list(&self.place.feedback.below(), Content::Keys, None).await?;
        let (folder, now) = (self.place.feedback.folder(), Instant::now());
        let id = |key: &[u8]| str::from_utf8(key).ok()?.strip_prefix(&folder).map(str::to_owned);
        let stored = listing.pairs.iter().filter_map(|pair| Some((id(&pair.key)?, pair.mod_revision, now)));
        Ok(stored.collect())
    }

    /// Stores a status: under the lease, and for later.
    pub(crate) async fn status(&mut self, status: &Status) -> Written {
        written(self.try_status(status).await, "the status")
    }

    /// What stores a status.
    fn status_writes(&self, status: &Status, lease: Held) -> Vec<Write> {
        let text = bytes::Bytes::from(status.text());
        let under = Write::Put { key: self.place.status.clone(), value: text.clone(), lease: lease.id };
        vec![under, Write::put(&self.place.last_status, text)]
    }

    async fn try_status(&mut self, status: &Status) -> Result<(), Error> {
        for _ in 0..2 {
            let before = self.lease;
            let lease = match before {
                Some(lease) if lease.ttl == self.ttl => lease,
                _ => Held { id: self.store.grant_lease(self.ttl).await?.id, ttl: self.ttl },
            };
            self.lease = Some(lease);
            let writes = self.status_writes(status, lease);
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

//! What the store tells: news, and looks at what is stored.

use std::time::Duration;

use cfg_engine::{Input, UpdateKey};
use tokio::time::{Instant, sleep};

use super::{Done, Drive};
use crate::agent::reading;
use crate::agent::watching::News;

impl Drive {
    pub(super) async fn hear(&mut self, news: News) {
        match news {
            News::Update(key) => {
                self.stands(&key);
                self.tell(Input::Seen(key)).await;
            }
            News::Frozen(revision, frozen) => self.tell(Input::Frozen(revision, frozen)).await,
            News::Documents(revision) => {
                self.newest = self.newest.max(revision);
                self.look_at.get_or_insert(Instant::now() + self.timing.borrow().look_pause);
            }
            News::Missed if !self.looking => self.look(Duration::ZERO),
            News::Missed => {}
            News::Away => self.away().await,
        }
    }

    /// An update key stands: its answer is kept.
    pub(super) fn stands(&mut self, key: &UpdateKey) {
        let known = self.standing.entry(key.scope).or_default();
        if known.0 <= key.revision {
            *known = (key.revision, reading::answer_ids(key, self.options.update_bytes));
        }
    }

    /// The store does not answer: from now on it is asked until it does.
    pub(super) async fn away(&mut self) {
        self.announced();
        if !self.looking {
            self.tell(Input::StoreAway).await;
            self.look(self.retry());
        }
    }

    /// Says so when the process is known to be alive and its copy is written.
    pub(super) fn announce_life(&mut self) {
        if self.known && self.copied {
            self.announced();
        }
    }

    /// The process is known to be alive, or nobody can be told.
    pub(super) fn announced(&mut self) {
        if let Some(announce) = self.announce.take() {
            // Nobody may wait any more.
            let _ = announce.send(());
        }
    }

    pub(super) fn retry(&self) -> Duration {
        self.timing.borrow().retry
    }

    pub(super) fn look(&mut self, after: Duration) {
        self.looking = true;
        let (store, place, bytes) = (self.store.clone(), self.place.clone(), self.options.update_bytes);
        self.jobs.spawn(async move {
            sleep(after).await;
            Done::Looked(reading::standing(&store, &place, None, bytes).await)
        });
    }

    /// Reads what is stored now, without taking it.
    pub(super) fn observe(&mut self) {
        if std::mem::replace(&mut self.observing, true) {
            self.changed = true;
            return;
        }
        let (store, place, limits) =
            (self.store.clone(), self.place.clone(), self.options.references.clone());
        self.jobs
            .spawn(async move { Done::Observed(reading::read(&store, &place, None, None, &limits).await) });
    }
}

//! Driving a roll-out: does what `cfg_engine::Driver` says, and stores what came of it.

use std::time::Duration;

use cfg_client::{Compare, Error, Event, Item, KeyPath, KeyRange, Proof, Transaction, Watch, Write};
use cfg_engine::{Conflict, Driver, HostWrite, Rollout, Step, Update};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::lease::Lease;
use super::{Keys, Session, Stored, tell};
use crate::config::change::{self, Batch, Edit, Intent};
use crate::config::failure_of;
use crate::config::secret::Content;
use crate::config::update::hearing::Hearing;
use crate::config::update::targets::Targets;
use crate::config::write::{TRIES, busy};
use crate::failure::{Failure, Kind};

/// Compares of each transaction: the driver's key and the document.
pub(super) const COMPARES: usize = 2;

/// One who drives.
pub(super) struct Drive<'s> {
    session: &'s Session,
    keys: Keys,
    lease: Lease,
    driver: Driver,
    /// Of the document as the driver knows it.
    revision: i64,
    hearing: Hearing,
    /// Others may write the document too: who wants to abort does.
    document: Watch,
    stop: Stop,
    began: Instant,
    /// Writes in a row that were refused because something had changed.
    conflicts: usize,
    /// What people were told of.
    told: Rollout,
}

/// Whether somebody wants this process to end.
struct Stop {
    wanted: watch::Receiver<bool>,
    listener: JoinHandle<()>,
}

impl Stop {
    /// From now on signals do not end the process.
    fn listen() -> Result<Stop, Failure> {
        let failed = |error| Failure::failed(format!("signals cannot be received: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let (tell, wanted) = watch::channel(false);
        let listener = tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            let _ = tell.send(true);
        });
        Ok(Stop { wanted, listener })
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// A write of keys that is checked and can be sent.
struct Ready {
    /// Nothing is left to be written of an undo, but the update.
    batch: Option<Batch>,
    update: Write,
    guards: Vec<Compare>,
}

impl<'s> Drive<'s> {
    /// Begins to drive what is stored.
    pub(super) async fn begin(
        session: &'s Session,
        keys: &Keys,
        lease: Lease,
        stored: Stored,
        pause: Option<Duration>,
    ) -> Result<Drive<'s>, Failure> {
        let Stored { rollout, revision } = stored;
        let targets = Targets { vpool: keys.vpool.clone(), host: None };
        let mut hearing = Hearing::new(&session.store, &targets)?;
        let stop = Stop::listen()?;
        hearing.next().await?;
        if !session.json {
            crate::output::line(&tell::beginning(&rollout))?;
        }
        Ok(Drive {
            session,
            keys: keys.clone(),
            lease,
            driver: Driver::new(rollout.clone(), pause),
            revision,
            hearing,
            document: session.store.watch(&keys.document, Some(revision + 1)),
            stop,
            began: Instant::now(),
            conflicts: 0,
            told: rollout,
        })
    }

    /// Drives to the end.
    pub(super) async fn run(mut self) -> Result<Rollout, Failure> {
        let result = self.work().await;
        let rollout = self.driver.rollout().clone();
        self.lease.release().await;
        let id = &self.keys.id;
        let advice = format!(
            "`ovs config rollout resume {id}` goes on, `ovs config rollout abort {id}` takes it back"
        );
        match result {
            Ok(()) => Ok(rollout),
            Err(failure) => Err(Failure::new(failure.kind(), format!("{failure}; {advice}"))),
        }
    }

    async fn work(&mut self) -> Result<(), Failure> {
        loop {
            if self.lease.is_lost() {
                return Err(self.lost());
            }
            if *self.stop.wanted.borrow() {
                let at = tell::stage(self.driver.rollout());
                return Err(Failure::failed(format!("the roll-out {} stopped: {at}", self.keys.id)));
            }
            let step = self.driver.next(self.began.elapsed(), self.hearing.hosts());
            match &step {
                Step::End => return Ok(()),
                Step::Wait(until) => self.wait(self.began + *until).await?,
                Step::Save => self.store(&step, None, Vec::new()).await?,
                Step::Ask { update, .. } => {
                    let host = self.driver.rollout().targets().next().cloned().unwrap_or_default();
                    let key = Session::place_of(&self.keys, &host)?.vpool_update;
                    self.store(&step, None, vec![update_write(&key, update)?]).await?;
                }
                Step::Write(write) => self.write(write, &step).await?,
            }
        }
    }

    /// Waits until there is news, or until `until`.
    async fn wait(&mut self, until: Instant) -> Result<(), Failure> {
        let item = tokio::select! {
            heard = self.hearing.next() => return heard,
            item = self.document.next() => item.map_err(failure_of)?,
            () = sleep_until(until) => return Ok(()),
            () = self.lease.lost() => return Ok(()),
            stopped = self.stop.wanted.wait_for(|wanted| *wanted) => {
                drop(stopped);
                return Ok(());
            }
        };
        let other = match item {
            Item::Listed(_) => true,
            Item::Changed { events, .. } => events.iter().any(|event| match event {
                Event::Put(pair) => pair.mod_revision > self.revision,
                Event::Deleted(_) => true,
            }),
        };
        if other { self.reload().await } else { Ok(()) }
    }

    /// Writes the documents of one host and its update key, if they are as expected.
    async fn write(&mut self, write: &HostWrite, step: &Step) -> Result<(), Failure> {
        let (mut edits, mut found) = (Vec::new(), Vec::new());
        for key in &write.keys {
            let path = KeyPath::parse(&key.path).map_err(failure_of)?;
            let before = self.session.current(&path).await?;
            let revision = before.as_ref().map_or(0, |pair| pair.mod_revision);
            if revision != key.expected {
                found.push(Conflict { key: key.path.clone(), revision });
                continue;
            }
            let after = key.value.as_ref().map(|value| value.as_bytes().to_vec());
            // An undo may find nothing to do: a key that was not there and is gone.
            if before.is_some() || after.is_some() {
                edits.push(Edit { key: path, before, after, other: None });
            }
        }
        if !found.is_empty() {
            self.driver.changed(write, found);
            return Ok(());
        }
        match self.ready(write, &edits).await? {
            Some(Ready { batch, update, guards }) => {
                let mut more = Transaction { compares: guards, writes: vec![update] };
                let room = batch.as_ref().map_or(usize::MAX, Batch::room);
                more.compares.truncate(room.saturating_sub(COMPARES));
                self.store_with(step, batch, more).await
            }
            None => Ok(()),
        }
    }

    /// Makes the write of a host ready; `None`: the driver was told why it cannot be.
    async fn ready(&mut self, write: &HostWrite, edits: &[Edit]) -> Result<Option<Ready>, Failure> {
        if let Err(failure) = change::check_places(&self.session.store, edits).await {
            if failure.kind() != Kind::Conflict {
                return Err(failure);
            }
            if write.undo {
                let made = edits.iter().filter(|edit| edit.before.is_none());
                let conflict = |edit: &Edit| Conflict { key: edit.key.to_string(), revision: 0 };
                self.driver.changed(write, made.map(conflict).collect());
            } else {
                self.driver.refused(&write.host, &failure.to_string());
            }
            return Ok(None);
        }
        let mut guards = Vec::new();
        if !write.undo {
            let report = self.session.check(edits).await?;
            if let Some(problem) = report.problem() {
                self.driver.refused(&write.host, &problem);
                return Ok(None);
            }
            guards = report.hosts.into_iter().map(|host| host.guard).collect();
        }
        let note = format!("roll-out {}", self.keys.id);
        let note = match self.driver.rollout().note.as_str() {
            "" => note,
            why => format!("{note}: {why}"),
        };
        let intent = Intent::new(if write.undo { "undo" } else { "rollout" }, Some(note))?;
        let hasher = change::hasher_for(&self.session.store, edits).await?;
        change::record_found(&self.session.store, edits, hasher.as_ref()).await?;
        let (mut batches, _) = change::batches(edits, &intent, hasher.as_ref())?;
        let batch = batches.pop();
        if !batches.is_empty() {
            return Err(Failure::rejected(format!("{} has too much for one transaction", write.host)));
        }
        let place = Session::place_of(&self.keys, &write.host)?;
        Ok(Some(Ready { batch, update: update_write(&place.update, &write.update)?, guards }))
    }

    async fn store(&mut self, step: &Step, batch: Option<Batch>, writes: Vec<Write>) -> Result<(), Failure> {
        self.store_with(step, batch, Transaction { compares: Vec::new(), writes }).await
    }

    /// Stores the document together with what a step writes.
    async fn store_with(
        &mut self,
        step: &Step,
        batch: Option<Batch>,
        mut more: Transaction,
    ) -> Result<(), Failure> {
        self.driver.begin(step);
        let rollout = self.driver.rollout();
        let document = &self.keys.document;
        more.compares.push(self.lease.compare());
        more.compares.push(Compare::Unchanged { key: document.clone(), mod_revision: self.revision });
        if rollout.state.is_open() {
            more.writes.push(Write::put(document, rollout.text()));
        } else {
            // Nobody needs the secrets any more.
            let mut content = Content::of(rollout.text().as_bytes());
            content.mask(document);
            more.writes.push(Write::put(document, content.bytes()));
            more.writes.push(Write::Delete(KeyRange::from(&self.keys.driver)));
        }
        let store = &self.session.store;
        let result = match batch {
            Some(batch) => batch.apply(store, more).await,
            None => store.change(more, Proof::Marker).await,
        };
        match result {
            Ok(revision) => {
                (self.revision, self.conflicts) = (revision, 0);
                self.driver.stored(revision);
                self.tell()
            }
            Err(Error::Conflict) => {
                self.conflicts += 1;
                if self.conflicts > TRIES {
                    return Err(busy(&self.keys.document));
                }
                self.reload().await
            }
            Err(error) => Err(failure_of(error)),
        }
    }

    /// Reads again what is stored.
    async fn reload(&mut self) -> Result<(), Failure> {
        let driver = self.session.current(&self.keys.driver).await?;
        let found = driver.map_or(0, |pair| pair.mod_revision);
        let own = Compare::Unchanged { key: self.keys.driver.clone(), mod_revision: found };
        if own != self.lease.compare() {
            return Err(self.lost());
        }
        let Stored { rollout, revision } = self.session.load(&self.keys).await?;
        self.revision = revision;
        self.driver.reload(rollout);
        self.tell()
    }

    fn lost(&self) -> Failure {
        let message = format!(
            "the right to drive the roll-out {} was lost: its lease ended before it was extended, or somebody took it",
            self.keys.id
        );
        Failure::new(Kind::Conflict, message)
    }

    /// Tells people what is new.
    fn tell(&mut self) -> Result<(), Failure> {
        if !self.session.json {
            for line in tell::news(&self.told, self.driver.rollout()) {
                crate::output::line(&line)?;
            }
        }
        self.told = self.driver.rollout().clone();
        Ok(())
    }
}

fn update_write(key: &KeyPath, update: &Update) -> Result<Write, Failure> {
    let text = serde_json::to_string(update)
        .map_err(|error| Failure::failed(format!("the update is no JSON: {error}")))?;
    Ok(Write::put(key, text))
}

//! The task that owns the engine: tells it what happens, and carries out what it wants.

mod looking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cfg_client::{Error, Store};
use cfg_engine::{Engine, Feedback, Input, Options, Output, Scope, Start, Status, Written};
use cfg_schema::{Change, Problem};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until, timeout};
use volumedriver::parameters::Parameters;

use super::component::{Component, Guards, prepare_all};
use super::keeping::Keeper;
use super::place::Place;
use super::timing::Timing;
use super::writing::Writer;
use super::{Surroundings, reading, watching};

/// News that wait for the engine; the watches wait then.
const NEWS: usize = 64;

/// What ends beside the engine.
enum Done {
    Input(Input<Parameters>),
    Prepared(u64, Result<Guards, Vec<Problem>>),
    /// The deadline passed, and the prepare goes on.
    Late(u64, JoinHandle<Result<Guards, Vec<Problem>>>),
    /// With the writer that is free again.
    Wrote(u64, Written, Box<Writer>),
    /// A sign of life, or its failure.
    Lived(Result<bool, Error>, Box<Writer>),
    Looked(Result<Vec<cfg_engine::Standing>, Error>),
    Observed(Result<reading::Stored, Error>),
    /// A last good copy is written.
    Kept,
}

/// What is to be written, one after the other.
enum Words {
    /// With the status that goes with it.
    Feedback(Box<Feedback>, Option<Box<Status>>),
    Status(Box<Status>),
}

/// The task that owns the engine.
pub(super) struct Drive {
    store: Store,
    place: Place,
    keeper: Keeper,
    components: Arc<[Box<dyn Component>]>,
    options: Options,
    timing: watch::Receiver<Timing>,
    engine: Engine<Parameters>,
    began: Instant,
    jobs: JoinSet<Done>,
    /// What was prepared and is neither committed nor abandoned.
    guards: BTreeMap<u64, Guards>,
    /// `None` while it writes.
    writer: Option<Box<Writer>>,
    /// A sign of life is due.
    life_due: bool,
    /// At most one: the engine waits for its answer.
    words: Option<(u64, Words)>,
    /// The newest update keys that were seen: their revisions, and the ids of their answers.
    standing: BTreeMap<Scope, (i64, Vec<String>)>,
    /// The store is asked until it answers.
    looking: bool,
    observing: bool,
    /// Documents changed since the last look was begun.
    changed: bool,
    /// The newest revision at which documents are known to have changed, and when they are looked at.
    newest: i64,
    look_at: Option<tokio::time::Instant>,
    /// Documents refer to others, which are not watched: they are looked at with each sign of life.
    refers: bool,
    /// The status of this life is stored, and the last good copy has what it started with.
    known: bool,
    copied: bool,
    /// Told once when both are, or the store cannot be reached.
    announce: Option<oneshot::Sender<()>>,
    gone: bool,
}

impl Drive {
    /// For a process in these surroundings.
    pub(super) fn new(
        surroundings: Surroundings,
        timing: watch::Receiver<Timing>,
        announce: oneshot::Sender<()>,
    ) -> Drive {
        let Surroundings { store, place, url, last_good, process, components } = surroundings;
        let (status_ttl, prepare) = (timing.borrow().status_ttl, timing.borrow().prepare);
        let options = Options { prepare_deadline: prepare, ..Options::default() };
        let writer = Box::new(Writer::new(store.clone(), place.clone(), status_ttl));
        Drive {
            store,
            place,
            keeper: Keeper::new(url, process.cluster_id, last_good),
            components: components.into(),
            engine: Engine::new(options.clone(), process),
            options,
            timing,
            began: Instant::now(),
            jobs: JoinSet::new(),
            guards: BTreeMap::new(),
            writer: Some(writer),
            life_due: false,
            words: None,
            standing: BTreeMap::new(),
            looking: false,
            observing: false,
            changed: false,
            newest: 0,
            look_at: None,
            refers: false,
            known: false,
            copied: false,
            announce: Some(announce),
            gone: false,
        }
    }

    /// Runs until it is told to stop, and what can be said is said.
    pub(super) async fn run(mut self, start: Start<Parameters>, mut stopped: oneshot::Receiver<()>) {
        let read = match &start.source {
            cfg_engine::Source::Store => Some(start.revision),
            cfg_engine::Source::LastGood { observed, .. } => *observed,
        };
        let (news, mut heard) = mpsc::channel(NEWS);
        let _watches =
            watching::watch(&self.store, &self.place, read.map(|read| read + 1), &self.timing, &news);
        drop(news);
        start.standing.iter().for_each(|standing| self.stands(&standing.key));
        let mut timing = self.timing.clone();
        let mut life = signs_of_life(&timing.borrow_and_update());
        let mut stopping = false;
        self.keeper.holds(start.revision, start.documents.clone());
        // Else it comes from there.
        self.copied = !matches!(start.source, cfg_engine::Source::Store);
        self.tell(Input::Started(Box::new(start))).await;
        match read {
            None => self.away().await,
            // Whether there are references, and what is stored after a start with the last good copy.
            Some(_) => self.observe(),
        }
        while !self.gone {
            tokio::select! {
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.done(done).await,
                    Err(error) => tracing::error!(%error, "a job of the agent failed"),
                },
                Some(news) = heard.recv() => self.hear(news).await,
                () = sleep_until(self.look_at.unwrap_or_else(tokio::time::Instant::now)), if self.look_at.is_some() => {
                    self.look_at = None;
                    if self.engine.observed_revision() < self.newest {
                        self.observe();
                    }
                }
                _ = life.tick() => {
                    self.life_due = true;
                    self.write();
                    if self.refers {
                        self.observe();
                    }
                }
                Ok(()) = timing.changed() => {
                    let timing = timing.borrow_and_update();
                    life = signs_of_life(&timing);
                    self.engine.set_prepare_deadline(timing.prepare);
                    // The next one waits as long as is wanted now.
                    self.keeper.hurry();
                }
                _ = &mut stopped, if !stopping => {
                    stopping = true;
                    self.tell(Input::Shutdown).await;
                }
            }
        }
        self.keeper.release();
        // A prepare is not waited for: what comes of it is dropped.
        while self.writer.is_none() || !self.keeper.is_idle() {
            match self.jobs.join_next().await {
                Some(Ok(Done::Wrote(_, _, writer) | Done::Lived(_, writer))) => self.writer = Some(writer),
                Some(Ok(Done::Kept)) => self.kept(),
                Some(_) => {}
                None => break,
            }
        }
        if let Some(mut writer) = self.writer.take() {
            writer.leave().await;
        }
    }

    /// Tells the engine, and does what it wants.
    async fn tell(&mut self, input: Input<Parameters>) {
        for output in self.engine.handle(self.began.elapsed(), input) {
            self.carry_out(output).await;
        }
    }

    async fn carry_out(&mut self, output: Output<Parameters>) {
        match output {
            Output::Read { token, revision, rollout } => {
                let (store, place, limits) =
                    (self.store.clone(), self.place.clone(), self.options.references.clone());
                self.jobs.spawn(async move {
                    let read = reading::read(&store, &place, revision, rollout.as_deref(), &limits).await;
                    let read = read.map(|stored| stored.reading);
                    Done::Input(Input::Read(token, read.map_err(|error| reading::failure(&error))))
                });
            }
            Output::Prepare { token, values, changes, deadline } => {
                self.prepare(token, *values, changes, deadline)
            }
            Output::Commit { token } => {
                let Some(guards) = self.guards.remove(&token) else { return };
                let all_broken = guards.all_broken();
                self.jobs.spawn(async move {
                    let broken = spawn_blocking(move || guards.commit()).await;
                    let broken = broken.unwrap_or_else(|error| {
                        tracing::error!(%error, "a component broke its word");
                        all_broken
                    });
                    Done::Input(Input::Committed(token, broken))
                });
            }
            Output::Abandon { token } => {
                if let Some(guards) = self.guards.remove(&token) {
                    // It may have files to close.
                    drop(spawn_blocking(move || drop(guards)));
                }
            }
            Output::WriteFeedback { token, feedback, status } => {
                log(&feedback);
                self.say(token, Words::Feedback(feedback, status));
            }
            Output::WriteStatus { token, status } => self.say(token, Words::Status(status)),
            Output::Keep { revision, documents } => {
                self.keeper.put(revision, documents);
                self.keep();
            }
            Output::Exit => self.gone = true,
        }
    }

    fn prepare(&mut self, token: u64, values: Parameters, changes: Vec<Change>, deadline: Duration) {
        let components = Arc::clone(&self.components);
        self.jobs.spawn(async move {
            let mut preparing = spawn_blocking(move || prepare_all(&components, &values, &changes));
            match timeout(deadline, &mut preparing).await {
                Ok(prepared) => Done::Prepared(token, prepared.unwrap_or_else(|error| Err(failed(&error)))),
                Err(_) => Done::Late(token, preparing),
            }
        });
    }

    /// Writes when the writer is free.
    fn say(&mut self, token: u64, words: Words) {
        self.words = Some((token, words));
        self.write();
    }

    /// Lets the writer do what is next, if it is free.
    fn write(&mut self) {
        let (life_due, words_wait) = (self.life_due, self.words.is_some());
        let Some(mut writer) = self.writer.take_if(|_| life_due || words_wait) else { return };
        writer.set_ttl(self.timing.borrow().status_ttl);
        // First of all it lives: a write is no sign of life, and there may always be something to write.
        if std::mem::take(&mut self.life_due) {
            self.jobs.spawn(async move { Done::Lived(writer.live().await, writer) });
        } else if let Some((token, words)) = self.words.take() {
            let standing: Vec<String> = self.standing.values().flat_map(|(_, ids)| ids).cloned().collect();
            self.jobs.spawn(async move {
                let written = match words {
                    Words::Feedback(feedback, status) => {
                        writer.feedback(&feedback, status.as_deref(), &standing).await
                    }
                    Words::Status(status) => writer.status(&status).await,
                };
                Done::Wrote(token, written, writer)
            });
        }
    }

    /// Begins to write the next last good copy.
    fn keep(&mut self) {
        // Whoever hears that the process runs may count on its copy.
        let delay = if self.copied { self.timing.borrow().keep_delay } else { Duration::ZERO };
        if let Some(writing) = self.keeper.begin(delay) {
            self.jobs.spawn(async move {
                writing.await;
                Done::Kept
            });
        }
    }

    fn kept(&mut self) {
        self.keeper.ended();
        self.copied = true;
        self.announce_life();
        self.keep();
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Input(input) => {
                if let Input::Read(_, Ok(reading)) = &input {
                    self.refers = !reading.snapshot.targets.is_empty();
                }
                let away = matches!(&input, Input::Read(_, Err(cfg_engine::ReadFailure::Away)));
                self.tell(input).await;
                if away {
                    self.away().await;
                }
            }
            Done::Prepared(token, Ok(guards)) => {
                self.guards.insert(token, guards);
                self.tell(Input::Prepared(token, Ok(()))).await;
            }
            Done::Prepared(token, Err(problems)) => self.tell(Input::Prepared(token, Err(problems))).await,
            Done::Late(token, preparing) => {
                self.tell(Input::PrepareTimedOut(token)).await;
                self.jobs.spawn(async move {
                    Done::Prepared(token, preparing.await.unwrap_or_else(|error| Err(failed(&error))))
                });
            }
            Done::Wrote(token, written, writer) => {
                self.known |= writer.is_heard();
                self.announce_life();
                self.writer = Some(writer);
                self.tell(Input::Written(token, written)).await;
                if written == Written::Away {
                    self.away().await;
                }
                self.write();
            }
            Done::Lived(lived, writer) => {
                let heard_of = writer.has_lease();
                self.writer = Some(writer);
                match lived {
                    // The age of the copy is that of the last contact, however seldom the configuration changes.
                    Ok(true) if heard_of => {
                        self.keeper.refresh(self.timing.borrow().refresh);
                        self.keep();
                    }
                    Ok(true) => {}
                    Ok(false) => self.tell(Input::StatusLost).await,
                    Err(error) => {
                        tracing::debug!(%error, "no sign of life");
                        self.away().await;
                    }
                }
                self.write();
            }
            Done::Looked(Ok(standing)) => {
                self.looking = false;
                standing.iter().for_each(|standing| self.stands(&standing.key));
                self.tell(Input::Listed(standing)).await;
                self.observe();
            }
            Done::Looked(Err(error)) => {
                tracing::debug!(%error, "the configuration store is away");
                self.look(self.retry());
            }
            Done::Kept => self.kept(),
            Done::Observed(stored) => {
                self.observing = false;
                match stored {
                    Ok(stored) => {
                        self.refers = !stored.reading.snapshot.targets.is_empty();
                        self.tell(Input::Observed(stored.reading)).await;
                    }
                    Err(error) => tracing::debug!(%error, "no look at what is stored"),
                }
                if std::mem::take(&mut self.changed) {
                    self.observe();
                }
            }
        }
    }
}

/// Three in the life of a status. One that was missed is not made up for.
fn signs_of_life(timing: &Timing) -> Interval {
    let mut signs = interval(timing.status_ttl / 3);
    signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    signs
}

/// A component that broke down while it prepared.
fn failed(error: &tokio::task::JoinError) -> Vec<Problem> {
    vec![Problem::new("update", "", serde_json::Value::Null, format!("a component failed: {error}"))]
}

/// Says on the log what came of an update.
fn log(feedback: &Feedback) {
    let Feedback { id, revision, outcome, applied, pending_restart, rejected, .. } = feedback;
    let (outcome, applied, pending) =
        (format!("{outcome:?}").to_lowercase(), applied.len(), pending_restart.len());
    tracing::info!(id, revision, outcome, applied, pending_restart = pending, "update of the configuration");
    for rejected in rejected {
        let place = format!("{}.{}", rejected.component, rejected.param);
        tracing::warn!(id, place, problem = rejected.problem, "refused");
    }
}

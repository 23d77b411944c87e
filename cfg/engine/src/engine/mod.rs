//! The engine of one process: a state machine with inputs and outputs.
//!
//! Invariants:
//! 1. At most one update is between its reading and its answer.
//! 2. What runs changes by the answer to a commit and by nothing else.
//! 3. Every guard that the shell got is committed or abandoned.
//! 4. Every update that was seen is answered once, unless the process ends before: then it still stands in the store,
//!    or the answer of one that stands there covers it.
//! 5. What is taken is never older than what was taken before.

mod answer;
mod current;
mod hashes;
mod input;
mod outbox;
mod output;
mod queue;

use std::collections::BTreeSet;
use std::time::Duration;

use cfg_schema::{Problem, SectionDeclaration};

pub use input::{Broken, Input, ReadFailure, Reading, Scope, Source, Standing, Start, UpdateKey, Written};
pub use output::Output;

use crate::feedback::{Applied, Rejected};
use crate::running::{Configuration, Values};
use crate::{Options, Process, Status, Update, secret};
use current::Current;
use hashes::Hashes;
use outbox::{Next, Outbox};
use queue::{Queue, Waiting};

/// The engine of one process with the parameters `T`.
#[derive(Debug)]
pub struct Engine<T> {
    options: Options,
    process: Process,
    declarations: &'static [SectionDeclaration],
    schema: String,
    /// `None`: it has not started.
    state: Option<State<T>>,
    queue: Queue,
    current: Option<Current<T>>,
    /// The last update that was not a dry run: the revision up to which nothing else is to be done, and its id.
    covered: Option<(i64, String)>,
    /// Prepares that missed their deadline and have not ended.
    late: BTreeSet<u64>,
    outbox: Outbox,
    /// Whether the store answers, as far as is known.
    connected: bool,
    /// Whether the process is frozen, and the revision that says so.
    frozen: (i64, bool),
    leaving: bool,
    gone: bool,
    tokens: u64,
    now: Duration,
}

/// What there is since the process has started.
#[derive(Debug)]
struct State<T> {
    values: Values<T>,
    hashes: Hashes<T>,
    /// The revision of what runs.
    running_revision: i64,
    /// The newest revision at which the store was read.
    observed_revision: i64,
    /// How it started: answers the updates of before.
    start: AtStart,
    /// What was wrong at the start with what is stored.
    degraded: Vec<Rejected>,
    /// What a component that broke its word left.
    mixed: Vec<Rejected>,
    stale: bool,
}

/// How the process started.
#[derive(Debug)]
struct AtStart {
    /// Updates up to here were taken by the start itself.
    taken: i64,
    /// Updates up to here, and not taken, were refused by it.
    refused: i64,
    /// What the start changed.
    applied: Vec<Applied>,
    problems: Vec<Rejected>,
    frozen: bool,
    no_effect: Vec<String>,
    unknown: Vec<String>,
}

impl<T: Configuration> Engine<T> {
    /// An engine of a process that has not started.
    pub fn new(options: Options, process: Process) -> Engine<T> {
        let declarations = T::declarations();
        Engine {
            options,
            process,
            schema: cfg_schema::schema_hash(declarations),
            declarations,
            state: None,
            queue: Queue::default(),
            current: None,
            covered: None,
            late: BTreeSet::new(),
            outbox: Outbox::default(),
            connected: true,
            frozen: (0, false),
            leaving: false,
            gone: false,
            tokens: 0,
            now: Duration::ZERO,
        }
    }

    /// What the process runs with; `None` before it has started.
    pub fn running(&self) -> Option<&T> {
        self.state.as_ref().map(|state| &state.values.running)
    }

    /// Gives updates that are prepared from now on another time for it; see [`Options::prepare_deadline`].
    pub fn set_prepare_deadline(&mut self, deadline: Duration) {
        self.options.prepare_deadline = deadline;
    }

    /// What the process says about itself now: what is or will be stored as its status.
    pub fn status(&mut self) -> Status {
        self.status_with(self.outbox.last_feedback.clone(), self.outbox.lost)
    }

    /// The newest revision at which the process has read what is stored; 0: it has not.
    pub fn observed_revision(&self) -> i64 {
        self.state.as_ref().map_or(0, |state| state.observed_revision)
    }

    /// Takes one input. `now` is the time of a clock that never goes back. The outputs are to be carried out in their
    /// order; those with a token are answered later, by other calls.
    pub fn handle(&mut self, now: Duration, input: Input<T>) -> Vec<Output<T>> {
        self.now = now;
        let mut outputs = Vec::new();
        match input {
            Input::Started(start) => self.started(*start, &mut outputs),
            Input::Seen(key) => self.seen(&key),
            Input::Read(token, result) => self.read(token, result, &mut outputs),
            Input::Prepared(token, result) => self.prepared(token, result, &mut outputs),
            Input::PrepareTimedOut(token) => self.prepare_timed_out(token, &mut outputs),
            Input::Committed(token, broken) => self.committed(token, &broken, &mut outputs),
            Input::Written(token, result) => {
                if self.outbox.written(token, result) {
                    self.connected = false;
                }
            }
            Input::Observed(reading) => self.observed(&reading),
            Input::Frozen(revision, frozen) => self.freeze(revision, frozen),
            Input::StoreAway => self.connected = false,
            Input::Listed(standing) => {
                self.connected = true;
                // The lease may have ended meanwhile.
                self.outbox.forget_status();
                standing.into_iter().for_each(|standing| self.standing(standing));
            }
            Input::StatusLost => self.outbox.forget_status(),
            Input::Shutdown => self.leaving = true,
        }
        self.advance(&mut outputs);
        outputs
    }

    fn started(&mut self, start: Start<T>, outputs: &mut Vec<Output<T>>) {
        if self.state.is_some() {
            return;
        }
        let Start { values, documents, revision, source, previous, frozen, standing } = start;
        let reading = T::read(&documents);
        let applied =
            previous.map(|previous| answer::applied(&previous.changes(&values))).unwrap_or_default();
        let mut values = Values::new(values, &documents);
        let (observed, problems) = match source {
            Source::Store => {
                values.stored = Some(values.running.clone());
                outputs.push(Output::Keep { revision, documents });
                (Some(revision), Vec::new())
            }
            Source::LastGood { observed, problems } => (observed, problems),
        };
        let problems = self.shown(&problems, &BTreeSet::new());
        let at_start = AtStart {
            taken: revision,
            refused: observed.filter(|_| frozen || !problems.is_empty()).unwrap_or(0),
            applied,
            problems: problems.clone(),
            frozen,
            no_effect: reading.no_effect,
            unknown: reading.unknown,
        };
        self.state = Some(State {
            values,
            hashes: Hashes::default(),
            running_revision: revision,
            observed_revision: observed.unwrap_or(0),
            start: at_start,
            degraded: problems,
            mixed: Vec::new(),
            stale: observed.is_none(),
        });
        self.connected = observed.is_some();
        self.freeze(observed.unwrap_or(0), frozen);
        standing.into_iter().for_each(|standing| self.standing(standing));
    }

    fn standing(&mut self, standing: Standing) {
        let Standing { key, answered } = standing;
        if answered {
            self.queue.note(key.scope, key.revision, None);
        } else {
            self.seen(&key);
        }
    }

    /// Takes an update key that is news.
    fn seen(&mut self, key: &UpdateKey) {
        let UpdateKey { scope, revision, value } = key;
        let read = Update::read(value, self.options.update_bytes);
        if !self.queue.note(*scope, *revision, read.as_ref().ok()) {
            return;
        }
        match read {
            Ok(update) => {
                self.queue.push(Waiting { scope: *scope, revision: *revision, update, seen: self.now });
            }
            Err(malformed) => {
                let id = malformed.id.unwrap_or_else(|| format!("r{revision}"));
                let update = Update { id, dry_run: malformed.dry_run, ..Update::default() };
                let waiting = Waiting { scope: *scope, revision: *revision, update, seen: self.now };
                self.reject(&waiting, malformed.problems);
            }
        }
        if self.queue.len() > self.options.waiting {
            self.supersede_waiting();
        }
        while self.queue.len() > self.options.waiting.max(1)
            && let Some(waiting) = self.queue.pop_dry_run()
        {
            let problem = format!("{} updates wait already; write it again later", self.options.waiting);
            self.reject(&waiting, vec![answer::of_update(problem)]);
        }
    }

    fn freeze(&mut self, revision: i64, frozen: bool) {
        if revision >= self.frozen.0 {
            self.frozen = (revision, frozen);
        }
    }

    /// Takes note of what is stored now.
    fn observed(&mut self, reading: &Reading) {
        self.freeze(reading.revision, reading.frozen);
        let Some(state) = &mut self.state else { return };
        if reading.revision < state.observed_revision {
            return;
        }
        state.observed_revision = reading.revision;
        match reading.snapshot.resolve(&self.options.references) {
            Ok(documents) => {
                let checked = state.values.check(&documents, false);
                state.values.observe(&checked);
            }
            Err(_) => state.values.stored = None,
        }
        if state.values.stored.as_ref() == Some(&state.values.running) {
            (state.degraded, state.stale) = (Vec::new(), false);
        }
    }

    /// Begins what can begin now.
    fn advance(&mut self, outputs: &mut Vec<Output<T>>) {
        if self.state.is_some() {
            if self.leaving {
                self.leave(outputs);
            } else if self.current.is_none() && self.connected {
                self.settle();
                if let Some(waiting) = self.queue.pop() {
                    self.begin(waiting, outputs);
                }
            }
            self.write(outputs);
        }
        let quiet = self.outbox.is_idle() || !self.connected;
        if self.leaving && self.current.is_none() && quiet && !self.gone {
            self.gone = true;
            outputs.push(Output::Exit);
        }
    }

    /// Answers what needs no doing: updates that a newer one covers, and those of before the start.
    fn settle(&mut self) {
        self.supersede_waiting();
        let Some(state) = &self.state else { return };
        let (taken, refused) = (state.start.taken, state.start.refused);
        let of_start = |waiting: &Waiting| !waiting.update.dry_run && waiting.revision <= taken.max(refused);
        for waiting in self.queue.take(of_start) {
            self.answer_at_start(&waiting);
        }
        let Some((covered, by)) = self.covered.clone() else { return };
        let old = |waiting: &Waiting| {
            waiting.revision <= covered && (!waiting.update.dry_run || waiting.update.rollout.is_none())
        };
        for waiting in self.queue.take(old) {
            self.supersede(&waiting, &by);
        }
    }

    /// From now on nothing is done that is not newer than `revision`.
    fn cover(&mut self, revision: i64, by: &Waiting) {
        if self.covered.as_ref().is_none_or(|(covered, _)| *covered <= revision) {
            self.covered = Some((revision, by.update.id.clone()));
        }
    }

    fn supersede_waiting(&mut self) {
        for (waiting, by) in self.queue.take_covered() {
            self.supersede(&waiting, &by);
        }
    }

    /// Drops what was begun and is not committed, and answers what nobody else will: what still stands is answered at
    /// the next start.
    fn leave(&mut self, outputs: &mut Vec<Output<T>>) {
        self.interrupt(outputs);
        self.settle();
        for (waiting, by) in self.queue.take_overwritten() {
            match by {
                Some(by) => self.supersede(&waiting, &by),
                None => {
                    let problem =
                        "the process ends before it is done; what is stored counts at its next start"
                            .to_owned();
                    self.reject(&waiting, vec![answer::of_update(problem)]);
                }
            }
        }
    }

    /// Writes what waits to be written.
    fn write(&mut self, outputs: &mut Vec<Output<T>>) {
        if !self.connected {
            return;
        }
        // Between the reading of an update and its answer a status would be old as soon as it is stored, and the answer
        // would wait for it.
        let busy = self.current.as_ref().is_some_and(Current::is_past_reading);
        let token = self.tokens + 1;
        let mut outbox = std::mem::take(&mut self.outbox);
        let next = outbox.next(token, busy, |last, lost| self.status_with(last, lost));
        self.outbox = outbox;
        match next {
            None => return,
            Some(Next::Feedback(feedback, status)) => {
                outputs.push(Output::WriteFeedback { token, feedback, status });
            }
            Some(Next::Status(status)) => outputs.push(Output::WriteStatus { token, status }),
        }
        self.tokens = token;
    }

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    /// Problems as they are shown.
    fn shown(&self, problems: &[Problem], secrets: &BTreeSet<String>) -> Vec<Rejected> {
        problems.iter().map(|problem| secret::shown(problem, self.declarations, secrets)).collect()
    }
}

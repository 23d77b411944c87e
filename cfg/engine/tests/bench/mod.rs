//! An engine on a bench: its clock, its store and what it asked for.

use std::time::Duration;

use cfg_engine::{
    Broken, Engine, Feedback, Input, Options, Outcome, Output, Process, Reading, Scope, Snapshot, Source,
    Standing, Start, Status, UpdateKey, Written,
};
use cfg_schema::Documents;
use serde_json::Value as Json;

use crate::kettle::Kettle;

const FOLDER: &str = "/k/config";

/// An engine with a clock that goes 10 µs an input, and everything that it wrote.
pub struct Bench {
    pub engine: Engine<Kettle>,
    pub now: Duration,
    /// What was asked for and not answered.
    pub open: Vec<Output<Kettle>>,
    pub feedback: Vec<Feedback>,
    pub status: Status,
    pub kept: Vec<i64>,
    /// Everything that came out, as text.
    pub all: String,
    /// What comes of writes.
    pub store: Written,
}

pub fn documents(documents: Json) -> Documents {
    serde_json::from_value(documents).expect("an object")
}

pub fn key(scope: Scope, revision: i64, update: Json) -> UpdateKey {
    UpdateKey { scope, revision, value: update.to_string().into_bytes() }
}

pub fn standing(revision: i64, update: Json, answered: bool) -> Standing {
    Standing { key: key(Scope::Host, revision, update), answered }
}

pub fn start(stored: Json, revision: i64) -> Start<Kettle> {
    let documents = documents(stored);
    let values = Kettle::read(&documents).parameters.expect("valid");
    Start {
        values,
        documents,
        revision,
        source: Source::Store,
        previous: None,
        frozen: false,
        standing: Vec::new(),
    }
}

pub fn reading(revision: i64, stored: Json) -> Reading {
    Reading { revision, snapshot: Snapshot::new(FOLDER, documents(stored)), frozen: false }
}

impl Bench {
    pub fn new(options: Options) -> Bench {
        let process = Process { node: "n".to_owned(), ..Process::default() };
        Bench {
            engine: Engine::new(options, process),
            now: Duration::ZERO,
            open: Vec::new(),
            feedback: Vec::new(),
            status: Status::default(),
            kept: Vec::new(),
            all: String::new(),
            store: Written::Done,
        }
    }

    /// One that has started with `stored` at revision 10.
    pub fn started(stored: Json) -> Bench {
        let mut bench = Bench::new(Options::default());
        bench.input(Input::Started(Box::new(start(stored, 10))));
        bench
    }

    pub fn input(&mut self, input: Input<Kettle>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.now += Duration::from_micros(10);
            for output in self.engine.handle(self.now, input) {
                self.all.push_str(&format!("{output:?}\n"));
                match output {
                    Output::WriteFeedback { token, feedback, status } => {
                        assert_eq!(Feedback::read(feedback.text().as_bytes()), Ok(*feedback.clone()));
                        if matches!(self.store, Written::Done | Written::Alone) {
                            self.feedback.push(*feedback);
                        }
                        if let Some(status) = status.filter(|_| self.store == Written::Done) {
                            self.status = *status;
                        }
                        inputs.push(Input::Written(token, self.store));
                    }
                    Output::WriteStatus { token, status } => {
                        if self.store == Written::Done {
                            self.status = *status;
                        }
                        inputs.push(Input::Written(token, self.store));
                    }
                    Output::Keep { revision, .. } => self.kept.push(revision),
                    other => self.open.push(other),
                }
            }
        }
    }

    pub fn seen(&mut self, revision: i64, update: Json) {
        self.input(Input::Seen(key(Scope::Host, revision, update)));
    }

    /// The only thing that is asked for.
    pub fn asked(&mut self) -> Output<Kettle> {
        assert_eq!(self.open.len(), 1, "{:?}", self.open);
        self.open.remove(0)
    }

    /// Answers the read that is asked for, which is at `revision`.
    pub fn read(&mut self, revision: i64, stored: Json) {
        match self.asked() {
            Output::Read { token, revision: Some(asked), rollout: None } => {
                assert_eq!(asked, revision);
                self.input(Input::Read(token, Ok(reading(revision, stored))));
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn prepare(&mut self) -> u64 {
        match self.asked() {
            Output::Prepare { token, .. } => token,
            other => panic!("{other:?}"),
        }
    }

    pub fn commit(&mut self, broken: Vec<Broken>) {
        match self.asked() {
            Output::Commit { token } => self.input(Input::Committed(token, broken)),
            other => panic!("{other:?}"),
        }
    }

    pub fn abandoned(&mut self) -> u64 {
        match self.asked() {
            Output::Abandon { token } => token,
            other => panic!("{other:?}"),
        }
    }

    pub fn least(&self) -> u64 {
        self.engine.running().map_or(0, |kettle| kettle.heater.least.bytes())
    }

    /// Id, outcome and `by` of each feedback.
    pub fn answers(&self) -> Vec<(&str, Outcome, Option<&str>)> {
        self.feedback.iter().map(|f| (f.id.as_str(), f.outcome, f.by.as_deref())).collect()
    }

    pub fn last(&self) -> &Feedback {
        self.feedback.last().expect("an answer")
    }

    pub fn problem(&self) -> &str {
        &self.last().rejected.first().expect("a problem").problem
    }
}

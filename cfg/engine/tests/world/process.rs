//! One process: an engine, a shell that does what it says and fails as shells do, and the model beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cfg_engine::{
    Broken, Engine, Feedback, Input, Options, Outcome, Output, Process as Name, ReadFailure, Reading, Scope,
    Snapshot, Source, Standing, Start, Status, UpdateKey, Written,
};
use cfg_schema::{Documents, Problem};

use super::life::Life;
use super::model::{ALL, DYNAMIC, IMMUTABLE, Model, RESTART, Stored, fits, plain, sections};
use super::rules::{Plain, Verdict, differences, with};
use super::store::{Random, Store};
use super::{Shared, host};
use crate::kettle::Kettle;

/// What the engine asked for.
#[derive(Debug)]
pub enum Op {
    Read {
        token: u64,
        revision: Option<i64>,
        rollout: Option<String>,
    },
    /// A read that nobody waits for any more.
    Idle {
        token: u64,
    },
    Prepare {
        token: u64,
    },
    /// A prepare that missed its deadline.
    Late {
        token: u64,
    },
    Commit {
        token: u64,
    },
    Feedback {
        token: u64,
        feedback: Box<Feedback>,
        status: Option<Box<Status>>,
    },
    Status {
        token: u64,
        status: Box<Status>,
    },
}

#[derive(Default)]
pub struct Process {
    pub index: usize,
    pub life: Option<Life>,
    lives: u64,
    pub connected: bool,
    identity: Option<Plain>,
    last_good: Option<(i64, Documents)>,
    /// Revision of an update → the life whose answer is stored.
    pub answered: BTreeMap<i64, u64>,
    now: u64,
}

/// The values in `documents`, with `identity` where they are silent: as a shell does with what its data directory says.
fn complete(documents: &Documents, identity: &Plain) -> Kettle {
    let mut documents = documents.clone();
    let plate = documents.entry("plate".to_owned()).or_insert_with(|| serde_json::json!({}));
    for (section, key) in IMMUTABLE {
        let value = identity[&(*section, *key)].clone();
        plate.as_object_mut().expect("an object").entry(*key).or_insert(value.into());
    }
    Kettle::read(&documents).parameters.expect("valid")
}

impl Process {
    pub fn new(index: usize) -> Process {
        Process { index, connected: true, ..Process::default() }
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", host(self.index))
    }

    pub fn update_key(&self, scope: Scope) -> String {
        match scope {
            Scope::Host => self.key("update"),
            Scope::VPool => "/v/update".to_owned(),
        }
    }

    fn frozen(&self, store: &Store, revision: i64) -> bool {
        store.get(&self.key("frozen"), revision).is_some()
    }

    fn stored<'s>(&self, store: &'s Store, revision: i64) -> Stored<'s> {
        let documents = store.documents(&self.key("config"), revision);
        Stored { documents, store: Some(store), over: BTreeMap::new(), revision }
    }

    fn standing(&self, store: &Store) -> Vec<Standing> {
        let folder = self.key("feedback");
        let feedback: Vec<i64> = store
            .below(&folder)
            .iter()
            .map(|text| Feedback::read(text.as_bytes()).expect("a feedback").revision)
            .collect();
        let standing = |scope| {
            let (revision, value) = store.get(&self.update_key(scope), store.revision)?;
            let key = UpdateKey { scope, revision, value: value.as_bytes().to_vec() };
            Some(Standing { key, answered: feedback.contains(&revision) })
        };
        [Scope::Host, Scope::VPool].into_iter().filter_map(standing).collect()
    }

    fn snapshot(
        &self,
        store: &Store,
        revision: i64,
        over: &BTreeMap<String, Option<serde_json::Value>>,
    ) -> Snapshot {
        let folder = self.key("config");
        let mut snapshot = Snapshot::new(&folder, store.documents(&folder, revision));
        snapshot.lay_over(over);
        let limits = Options::default().references;
        loop {
            let missing = snapshot.missing(&limits);
            if missing.is_empty() {
                return snapshot;
            }
            for path in missing {
                let document = store.json(&path, revision);
                snapshot.targets.insert(path, document);
            }
        }
    }

    /// Starts, if that is possible now. Whether it did.
    pub fn start(&mut self, store: &Store, shared: &mut Shared, random: &mut Random) -> bool {
        let revision = store.revision;
        let frozen = self.connected && self.frozen(store, revision);
        let stored = self.stored(store, revision);
        let defaults = plain(&Kettle::default());
        let identity = self.identity.clone().unwrap_or_else(|| {
            let found = stored.evaluate(&defaults);
            found.map_or(defaults.clone(), |found| with(&defaults, &found, IMMUTABLE))
        });
        let good = stored
            .evaluate(&identity)
            .filter(|values| fits(values) && differences(values, &identity, IMMUTABLE).is_empty());
        let last_good = self.last_good.clone();
        let (documents, at, source, taken, refused) = match (self.connected, good.is_some(), &last_good) {
            (true, _, _) if stored.documents.is_empty() => return false,
            (true, true, _) if !(frozen && last_good.is_some()) => {
                let resolved =
                    self.snapshot(store, revision, &BTreeMap::new()).resolve(&Options::default().references);
                (resolved.expect("resolves"), revision, Source::Store, revision, 0)
            }
            (true, _, Some((at, documents))) => {
                let problems = match frozen {
                    true => Vec::new(),
                    false => vec![Problem::new("heater", "", serde_json::Value::Null, "is wrong")],
                };
                (
                    documents.clone(),
                    *at,
                    Source::LastGood { observed: Some(revision), problems },
                    *at,
                    revision,
                )
            }
            (false, _, Some((at, documents))) => {
                (documents.clone(), *at, Source::LastGood { observed: None, problems: vec![] }, *at, 0)
            }
            _ => return false,
        };
        let running =
            Stored { documents: documents.clone(), store: None, over: BTreeMap::new(), revision: at };
        let running = running.evaluate(&identity).expect("good before");
        let complete = |documents: &Documents| complete(documents, &identity);
        let values = complete(&documents);
        let before = last_good.as_ref().map(|(_, documents)| plain(&complete(documents)));
        let now = running.clone();
        assert_eq!(plain(&values), running, "the model reads what the schema reads");
        let away = matches!(source, Source::LastGood { observed: None, .. });
        let standing = if away { vec![] } else { self.standing(store) };
        let model = Model {
            running: running.clone(),
            sections: sections(&documents),
            next_sections: BTreeSet::new(),
            accepted: running.clone(),
            stored: (source == Source::Store).then_some(running),
            observed: if away { 0 } else { revision },
            late: 0,
        };
        self.lives += 1;
        self.identity = Some(identity.clone());
        let name = Name { node: format!("h{}", self.index), incarnation: self.lives, ..Name::default() };
        let options = Options { late_prepares: 2, ..Options::default() };
        self.life = Some(Life {
            engine: Engine::new(options, name),
            ops: Vec::new(),
            model,
            listed: !away,
            watch: [revision + 1; 3],
            leaving: false,
            seen: BTreeSet::new(),
            sent: BTreeMap::new(),
            expected: BTreeMap::new(),
            read_at: BTreeMap::new(),
            current: 0,
            plan: None,
            guards: BTreeSet::new(),
            taken,
            refused,
            brought: before.map(|before| differences(&before, &now, ALL)).unwrap_or_default(),
            from_store: source == Source::Store,
            gone: false,
        });
        // The watch may be first.
        for early in standing.iter().filter(|standing| !standing.answered && random.once_in(4)) {
            self.see(early);
            let key = early.key.clone();
            self.tell(Input::Seen(key), shared);
        }
        for standing in standing.iter().filter(|standing| !standing.answered) {
            self.see(standing);
        }
        let previous = last_good.map(|(_, documents)| complete(&documents));
        let start = Start { values, documents, revision: at, source, previous, frozen, standing };
        self.tell(Input::Started(Box::new(start)), shared);
        true
    }

    fn see(&mut self, standing: &Standing) {
        if let Some(life) = &mut self.life
            && !standing.answered
        {
            life.seen.insert(standing.key.revision);
        }
    }

    /// The store is there (again).
    pub fn list(&mut self, store: &Store, shared: &mut Shared) {
        let standing = self.standing(store);
        for standing in &standing {
            self.see(standing);
        }
        if let Some(life) = &mut self.life {
            life.listed = true;
            life.watch = [store.revision + 1; 3];
        }
        self.tell(Input::Listed(standing), shared);
        let frozen = self.frozen(store, store.revision);
        self.tell(Input::Frozen(store.revision, frozen), shared);
    }

    /// Tells the next thing that one of the watches has. Whether there was one.
    pub fn watch(&mut self, which: usize, store: &Store, shared: &mut Shared) -> bool {
        let Some(life) = &self.life else { return false };
        if !self.connected || !life.listed {
            return false;
        }
        let scope = [Scope::Host, Scope::VPool][which % 2];
        let key = if which == 2 { self.key("frozen") } else { self.update_key(scope) };
        let Some((revision, value)) = store.since(&key, life.watch[which]).into_iter().next() else {
            return false;
        };
        let life = self.life.as_mut().expect("alive");
        life.watch[which] = revision + 1;
        if which == 2 {
            self.tell(Input::Frozen(revision, value.is_some()), shared);
        } else if let Some(value) = value {
            life.seen.insert(revision);
            self.tell(Input::Seen(UpdateKey { scope, revision, value: value.into_bytes() }), shared);
        }
        true
    }

    /// Begins the end of the process.
    pub fn shut_down(&mut self, shared: &mut Shared) {
        let Some(life) = &mut self.life else { return };
        life.leaving = true;
        for op in &mut life.ops {
            if let Op::Read { token, .. } = op {
                *op = Op::Idle { token: *token };
            }
        }
        self.tell(Input::Shutdown, shared);
    }

    /// Tells what is stored now.
    pub fn observe(&mut self, store: &Store, shared: &mut Shared) {
        let revision = store.revision;
        let (stored, frozen) = (self.stored(store, revision), self.frozen(store, revision));
        let snapshot = self.snapshot(store, revision, &BTreeMap::new());
        let Some(life) = &mut self.life else { return };
        let verdict = life.model.judge(&stored, false);
        life.model.observe(revision, stored.evaluate(&life.model.running), &verdict);
        self.tell(Input::Observed(Reading { revision, snapshot, frozen }), shared);
    }

    /// Carries out the op at `at`. `kind`: nothing goes wrong.
    pub fn carry_out(
        &mut self,
        at: usize,
        kind: bool,
        store: &mut Store,
        shared: &mut Shared,
        random: &mut Random,
    ) {
        let connected = self.connected;
        let Some(life) = &mut self.life else { return };
        let op = life.ops.remove(at);
        match op {
            Op::Read { token, .. } if !connected => {
                life.listed = false;
                self.tell(Input::Read(token, Err(ReadFailure::Away)), shared);
            }
            Op::Read { token, revision: Some(revision), .. } if revision < store.compacted => {
                shared.tally.compacted += 1;
                self.tell(Input::Read(token, Err(ReadFailure::Compacted)), shared);
            }
            Op::Read { token, revision, rollout } => self.read(token, revision, rollout, store, shared),
            Op::Idle { token } => self.tell(Input::Read(token, Err(ReadFailure::Away)), shared),
            Op::Prepare { token } => {
                let what = if kind { 9 } else { random.below(10) };
                if what < 2 {
                    shared.tally.late += 1;
                    life.ops.push(Op::Late { token });
                    life.model.late += 1;
                    life.expect(Outcome::Rejected);
                    self.tell(Input::PrepareTimedOut(token), shared);
                } else if what == 2 {
                    let password = life.password();
                    life.expect(Outcome::Rejected);
                    let text = format!("{password} is wrong");
                    let problem = Problem::new("heater", "password", password.into(), text);
                    self.tell(Input::Prepared(token, Err(vec![problem])), shared);
                } else {
                    life.guards.insert(token);
                    self.tell(Input::Prepared(token, Ok(())), shared);
                }
            }
            Op::Late { token } => {
                life.model.late = life.model.late.saturating_sub(1);
                let result = if random.once_in(3) { Err(vec![]) } else { Ok(()) };
                if result.is_ok() {
                    life.guards.insert(token);
                }
                self.tell(Input::Prepared(token, result), shared);
            }
            Op::Commit { token } => {
                let broken = if !kind && random.once_in(8) { Some(*random.of(DYNAMIC)) } else { None };
                let password = life.password();
                life.commit(broken);
                let broken = broken.map(|(section, key)| Broken {
                    section: section.to_owned(),
                    key: key.to_owned(),
                    problem: format!("stuck at {password}"),
                });
                self.tell(Input::Committed(token, broken.into_iter().collect()), shared);
            }
            Op::Feedback { token, feedback, status } => {
                let alone = status.is_some() && !kind && random.once_in(6);
                let result = self.written(connected, kind, shared, random, |process| {
                    let (revision, text) = (feedback.revision, feedback.text());
                    let key = process.key(&format!("feedback/{}", feedback.id));
                    // Another update with the same id may have taken its place.
                    let stands =
                        store.json(&key, store.revision).is_some_and(|stored| stored["revision"] == revision);
                    store.put(&key, Some(text));
                    let before = process.answered.insert(revision, process.lives);
                    let again = stands && before.is_some_and(|life| life != process.lives);
                    assert!(!again, "{revision} is answered by two lives");
                    if let Some(status) = status.filter(|_| !alone) {
                        store.put(&process.key("status"), Some(status.text()));
                    }
                });
                let result = if result == Written::Done && alone { Written::Alone } else { result };
                shared.tally.alone += u64::from(result == Written::Alone);
                self.tell(Input::Written(token, result), shared);
            }
            Op::Status { token, status } => {
                let result = self.written(connected, kind, shared, random, |process| {
                    store.put(&process.key("status"), Some(status.text()));
                });
                self.tell(Input::Written(token, result), shared);
            }
        }
    }

    /// Writes, or not, or does and does not know it.
    fn written(
        &mut self,
        connected: bool,
        kind: bool,
        shared: &mut Shared,
        random: &mut Random,
        write: impl FnOnce(&mut Process),
    ) -> Written {
        let lost = !kind && random.once_in(12);
        if connected {
            write(self);
        }
        if connected && !lost {
            return Written::Done;
        }
        shared.tally.unsure += u64::from(connected);
        if let Some(life) = &mut self.life {
            life.listed = false;
        }
        Written::Away
    }

    fn read(
        &mut self,
        token: u64,
        revision: Option<i64>,
        rollout: Option<String>,
        store: &Store,
        shared: &mut Shared,
    ) {
        let revision = revision.unwrap_or(store.revision);
        let mut over = BTreeMap::new();
        if let Some(rollout) = &rollout {
            let changes = store.json(&format!("/v/rollouts/{rollout}"), revision).expect("is made before");
            let changes = changes.as_object().expect("an object").clone();
            // Of a change set only what is about this host is in its folder.
            over = changes
                .into_iter()
                .map(|(key, value)| (key.replace("HOST", &host(self.index)), Some(value)))
                .collect();
        }
        let frozen = self.frozen(store, revision);
        let snapshot = self.snapshot(store, revision, &over);
        let mut stored = self.stored(store, revision);
        let folder = format!("{}/", self.key("config"));
        for (key, value) in &over {
            if let Some(section) = key.strip_prefix(&folder) {
                stored.documents.insert(section.to_owned(), value.clone().expect("a document"));
            }
        }
        stored.over = over;
        let Some(life) = &mut self.life else { return };
        let told = &shared.updates[&life.current];
        let verdict = life.model.judge(&stored, told.allow_reset);
        if !frozen && rollout.is_none() {
            life.model.observe(revision, stored.evaluate(&life.model.running), &verdict);
        }
        life.read_at.insert(life.current, revision);
        if frozen {
            life.expect(Outcome::Rejected).frozen = true;
        } else if let Verdict::Good { stored: values, next } = verdict {
            let applied = differences(&life.model.running, &next, DYNAMIC);
            let pending = differences(&next, &values, RESTART);
            if told.dry_run || applied.is_empty() {
                let expected = life.expect(Outcome::Applied);
                (expected.applied, expected.pending) = (applied, pending);
                if !told.dry_run {
                    life.model.sections = sections(&stored.documents);
                }
            } else if life.model.late >= 2 {
                shared.tally.too_late += 1;
                life.expect(Outcome::Rejected);
            } else {
                life.plan = Some((revision, next, values));
                life.model.next_sections = sections(&stored.documents);
            }
        } else {
            life.expect(Outcome::Rejected);
        }
        self.tell(Input::Read(token, Ok(Reading { revision, snapshot, frozen })), shared);
    }

    /// Gives the engine one input, and looks at everything that comes out.
    pub fn tell(&mut self, input: Input<Kettle>, shared: &mut Shared) {
        self.now += 1;
        let Some(life) = &mut self.life else { return };
        let shown = if shared.verbose { format!("{input:?}") } else { String::new() };
        let started = life.engine.running().is_some() || matches!(input, Input::Started(_));
        let outputs = life.engine.handle(Duration::from_micros(self.now), input);
        if shared.verbose {
            println!("h{} <- {shown}\n     -> {outputs:?}", self.index);
        }
        for output in outputs {
            self.take(output, shared);
        }
        let Some(life) = &self.life else { return };
        assert!(life.guards.is_empty(), "guards are left: {:?}", life.guards);
        if started {
            let running = life.engine.running().map(plain);
            assert_eq!(running.as_ref(), Some(&life.model.running), "what runs");
        }
        if life.gone {
            self.life = None;
        }
    }

    fn take(&mut self, output: Output<Kettle>, shared: &mut Shared) {
        let Some(life) = &mut self.life else { return };
        let busy = |op: &Op| matches!(op, Op::Read { .. } | Op::Prepare { .. } | Op::Commit { .. });
        match output {
            Output::Read { token, revision, rollout } => {
                assert!(!life.ops.iter().any(busy) && !life.leaving, "one at a time");
                if let Some(revision) = revision {
                    life.current = revision;
                }
                life.ops.push(Op::Read { token, revision, rollout });
            }
            Output::Prepare { token, values, .. } => {
                assert!(!life.ops.iter().any(busy), "one at a time");
                let (_, next, _) = life.plan.as_ref().expect("the model has something to prepare");
                assert_eq!(&plain(&values), next);
                life.ops.push(Op::Prepare { token });
            }
            Output::Commit { token } => {
                assert!(life.guards.remove(&token), "there is a guard");
                life.ops.push(Op::Commit { token });
            }
            Output::Abandon { token } => {
                if !life.guards.remove(&token)
                    && let Some(op) =
                        life.ops.iter_mut().find(|op| matches!(op, Op::Prepare { token: t } if *t == token))
                {
                    *op = Op::Late { token };
                }
            }
            Output::WriteFeedback { token, feedback, status } => {
                life.check_feedback(self.index, &feedback, shared);
                if let Some(status) = &status {
                    assert_eq!(status.last_feedback.as_ref(), Some(&feedback.id), "it goes with this answer");
                    life.check_status(status, shared);
                }
                life.ops.push(Op::Feedback { token, feedback, status });
            }
            Output::WriteStatus { token, status } => {
                life.check_status(&status, shared);
                life.ops.push(Op::Status { token, status });
            }
            Output::Keep { revision, documents } => {
                assert!(self.last_good.as_ref().is_none_or(|(kept, _)| *kept <= revision), "never older");
                self.last_good = Some((revision, documents));
            }
            Output::Exit => {
                assert!(life.leaving && !life.ops.iter().any(busy), "{:?}", life.ops);
                life.gone = true;
            }
        }
    }
}

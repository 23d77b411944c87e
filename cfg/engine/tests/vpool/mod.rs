//! A vPool whose hosts apply, refuse, fail, stay silent and die, with somebody else who writes, and drivers of one
//! roll-out that are killed and lose their lease.

mod hosts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cfg_engine::{
    Abort, AbortOn, Conflict, Driver, Heard, HostWrite, Old, ROLLOUT_VERSION, Rollout, State, Step,
};
use serde_json::json;

pub use hosts::{Host, Random};

tally! {
    done refused undone undone_with_conflicts left_alone skipped rejected failed silent superseded at_start
    foreign deaths kills takeovers zombies aborts conflicts_before lost_answers pauses
}

/// The document of the roll-out.
const DOCUMENT: &str = "rollout";
/// The key that its driver has under a lease.
const DRIVER: &str = "driver";

/// Who wrote a key last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Before,
    Rollout,
    Somebody,
}

/// A driver between two of its calls.
struct Running {
    driver: Driver,
    /// Of the document as it knows it.
    revision: i64,
    /// Of its own key.
    lease: i64,
    /// What it has heard, which may be old.
    heard: BTreeMap<String, Heard>,
    /// What it is about to write.
    step: Option<Step>,
}

/// Everything.
pub struct World {
    pub random: Random,
    pub tally: Tally,
    verbose: bool,
    now: Duration,
    revision: i64,
    keys: BTreeMap<String, (i64, String)>,
    writers: BTreeMap<String, Writer>,
    /// Who else wrote it last, and whether it was there then: a key that somebody makes and deletes is as it was.
    others: BTreeMap<String, (Writer, bool)>,
    /// Keys that somebody ever wrote.
    touched: BTreeSet<String>,
    hosts: BTreeMap<String, Host>,
    drivers: Vec<Running>,
    /// Nothing goes wrong any more.
    calm: bool,
}

/// `(path, host)` of all documents.
fn paths(host: &str, count: u64) -> Vec<String> {
    (0..count).map(|number| format!("/{host}/config/s{number}")).collect()
}

impl World {
    pub fn new(seed: u64, verbose: bool) -> World {
        let mut world = World {
            random: Random(seed),
            tally: Tally::default(),
            verbose,
            now: Duration::ZERO,
            revision: 1,
            keys: BTreeMap::new(),
            writers: BTreeMap::new(),
            others: BTreeMap::new(),
            touched: BTreeSet::new(),
            hosts: BTreeMap::new(),
            drivers: Vec::new(),
            calm: false,
        };
        let count = 1 + world.random.below(6);
        let peaceful = world.random.one_in(3);
        for number in 0..count {
            let host = Host::new(&mut world.random, peaceful);
            world.hosts.insert(format!("h{number}"), host);
        }
        let rollout = world.plan();
        world.create(rollout);
        world
    }

    /// A roll-out of random changes.
    fn plan(&mut self) -> Rollout {
        let (mut changes, mut old) = (BTreeMap::new(), BTreeMap::new());
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        for host in &names {
            for path in paths(host, 1 + self.random.below(3)) {
                let there = !self.random.one_in(4);
                let goes = there && self.random.one_in(6);
                let mut before = Old { host: host.clone(), revision: 0, value: None };
                if there {
                    let value = json!({"old": path}).to_string();
                    before.revision =
                        self.transact(&[], vec![(path.clone(), Some(value.clone()))]).expect("written");
                    before.value = Some(value);
                }
                self.writers.insert(path.clone(), Writer::Before);
                self.others.insert(path.clone(), (Writer::Before, there));
                changes.insert(path.clone(), (!goes).then(|| json!({"new": path})));
                old.insert(path, before);
            }
        }
        let mut stages = Vec::new();
        let mut rest = names;
        while !rest.is_empty() {
            let size = 1 + usize::try_from(self.random.below(rest.len() as u64)).expect("small");
            let behind = rest.split_off(size);
            stages.push(std::mem::replace(&mut rest, behind));
        }
        Rollout {
            version: ROLLOUT_VERSION,
            id: "r1".to_owned(),
            by: "eve@h".to_owned(),
            time: "2026-11-21T17:34:56Z".to_owned(),
            note: String::new(),
            changes,
            old,
            stages,
            skipped: BTreeMap::new(),
            wait_secs: 30,
            pause_secs: if self.random.one_in(2) { 0 } else { 20 },
            abort_on: if self.random.one_in(3) { AbortOn::Failed } else { AbortOn::Rejected },
            allow_reset: false,
            state: State::Checking,
            stage: 0,
            hosts: BTreeMap::new(),
            abort: None,
            reason: None,
            conflicts: Vec::new(),
        }
    }

    fn create(&mut self, rollout: Rollout) {
        assert!(rollout.text().len() <= rollout.largest());
        let writes =
            vec![(DOCUMENT.to_owned(), Some(rollout.text())), (DRIVER.to_owned(), Some("1".to_owned()))];
        let revision = self.transact(&[], writes).expect("written");
        let driver = Driver::new(rollout, None);
        self.drivers.push(Running { driver, revision, lease: revision, heard: BTreeMap::new(), step: None });
    }

    fn say(&self, what: &str) {
        if self.verbose {
            println!("{:>6} {:>4} {what}", self.now.as_secs(), self.revision);
        }
    }

    fn revision_of(&self, key: &str) -> i64 {
        self.keys.get(key).map_or(0, |(revision, _)| *revision)
    }

    /// All writes at one revision, if all keys have the given ones.
    fn transact(&mut self, compares: &[(String, i64)], writes: Vec<(String, Option<String>)>) -> Option<i64> {
        if compares.iter().any(|(key, revision)| self.revision_of(key) != *revision) {
            return None;
        }
        self.revision += 1;
        for (key, value) in writes {
            match value {
                Some(value) => drop(self.keys.insert(key, (self.revision, value))),
                None => drop(self.keys.remove(&key)),
            }
        }
        Some(self.revision)
    }

    /// The document as it is stored.
    pub fn stored(&self) -> Rollout {
        let (revision, value) = &self.keys[DOCUMENT];
        Rollout::read("r1", value.as_bytes(), *revision).expect("a roll-out")
    }

    /// What there is to hear.
    fn heard(&self) -> BTreeMap<String, Heard> {
        self.hosts.iter().map(|(name, host)| (name.clone(), host.heard())).collect()
    }

    /// Something happens.
    pub fn step(&mut self) {
        self.now += Duration::from_millis(self.random.below(700));
        match self.random.below(if self.calm { 6 } else { 12 }) {
            0..=3 => self.drive(),
            4 | 5 => {
                let names: Vec<String> = self.hosts.keys().cloned().collect();
                let name = self.random.pick(&names);
                self.host_acts(&name);
            }
            6 => self.somebody_writes(),
            7 => self.somebody_updates(),
            8 | 9 => {
                let names: Vec<String> = self.hosts.keys().cloned().collect();
                let name = self.random.pick(&names);
                self.host_lives_or_dies(&name);
            }
            10 => self.driver_ends(),
            _ => self.abort(),
        }
    }

    /// One of the drivers, or a new one, goes one half of a step on.
    fn drive(&mut self) {
        if self.drivers.is_empty() {
            return self.take_over();
        }
        let index = usize::try_from(self.random.below(self.drivers.len() as u64)).expect("small");
        let mut running = self.drivers.swap_remove(index);
        let stays = match running.step.take() {
            Some(step) => self.finish(&mut running, &step),
            None => {
                self.look(&mut running);
                true
            }
        };
        if stays {
            self.drivers.push(running);
        }
    }

    /// The first half: what is next.
    fn look(&mut self, running: &mut Running) {
        if self.calm || !self.random.one_in(3) {
            running.heard = self.heard();
        }
        let before = running.driver.rollout().stage;
        let step = running.driver.next(self.now, &running.heard);
        if let Step::Write(write) = &step {
            let changed = |key: &&cfg_engine::KeyWrite| self.revision_of(&key.path) != key.expected;
            let conflict = |key: &cfg_engine::KeyWrite| Conflict {
                key: key.path.clone(),
                revision: self.revision_of(&key.path),
            };
            let found: Vec<Conflict> = write.keys.iter().filter(changed).map(conflict).collect();
            if !found.is_empty() {
                if !write.undo {
                    self.tally.conflicts_before += 1;
                }
                running.driver.changed(write, found);
                return;
            }
        }
        if let Step::Wait(until) = &step {
            let waiting = running.driver.rollout();
            let all = waiting
                .hosts
                .values()
                .all(|p| p.apply.as_ref().is_none_or(|a| !a.live || a.answer.is_some()));
            if before > 0 && waiting.state == State::Applying && all {
                self.tally.pauses += 1;
            }
            assert!(*until <= self.now + Duration::from_secs(30), "every wait has an end");
        }
        running.step = Some(step);
    }

    /// The second half: it is written. `false`: the driver is not there any more.
    fn finish(&mut self, running: &mut Running, step: &Step) -> bool {
        let mut compares = vec![(DRIVER.to_owned(), running.lease), (DOCUMENT.to_owned(), running.revision)];
        let mut writes = Vec::new();
        match step {
            Step::Wait(_) => return self.refresh(running),
            Step::End => {
                self.transact(&[(DRIVER.to_owned(), running.lease)], vec![(DRIVER.to_owned(), None)]);
                return false;
            }
            Step::Save => {}
            Step::Ask { update, .. } => {
                writes.push(("update".to_owned(), Some(serde_json::to_string(update).expect("JSON"))));
            }
            Step::Write(write) => {
                compares.extend(write.keys.iter().map(|key| (key.path.clone(), key.expected)));
                writes.extend(write.keys.iter().map(|key| (key.path.clone(), key.value.clone())));
                let update = serde_json::to_string(&write.update).expect("JSON");
                writes.push((format!("/{}/update", write.host), Some(update)));
            }
        }
        running.driver.begin(step);
        writes.push((DOCUMENT.to_owned(), Some(running.driver.rollout().text())));
        let before = self.stored();
        let Some(revision) = self.transact(&compares, writes) else {
            // What it noted is not stored.
            running.revision = 0;
            return self.refresh(running);
        };
        assert_eq!(before.allow_reset, self.stored().allow_reset);
        assert!(running.driver.rollout().text().len() <= before.largest(), "the document stays in its bound");
        self.say(&format!("{step:?}"));
        match step {
            Step::Write(write) => self.written(write, &self.stored(), revision),
            Step::Ask { update, .. } => {
                self.hosts.values_mut().for_each(|host| host.told(revision, update.clone()));
            }
            _ => {}
        }
        if !self.calm && self.random.one_in(20) {
            // It ends before it hears that this was done.
            self.tally.lost_answers += 1;
            return false;
        }
        running.revision = revision;
        running.driver.stored(revision);
        assert_eq!(running.driver.rollout(), &self.stored());
        true
    }

    /// Documents and update key of a host were written by a driver.
    fn written(&mut self, write: &HostWrite, rollout: &Rollout, revision: i64) {
        for key in &write.keys {
            assert_ne!(self.writers[&key.path], Writer::Somebody, "{} was somebody else's", key.path);
            self.writers.insert(key.path.clone(), Writer::Rollout);
            self.others.insert(key.path.clone(), (Writer::Rollout, key.value.is_some()));
        }
        if !write.undo {
            let own = rollout.stages.iter().position(|stage| stage.contains(&write.host)).expect("a stage");
            for host in rollout.stages[..own].iter().flatten() {
                let apply = rollout.hosts.get(host).and_then(|progress| progress.apply.as_ref());
                let answered = apply.is_some_and(|apply| !apply.live || apply.answer.is_some());
                assert!(answered || rollout.skipped.contains_key(host), "{host} comes before {}", write.host);
            }
        }
        let host = self.hosts.get_mut(&write.host).expect("a host");
        host.new_values = !write.undo;
        host.told(revision, write.update.clone());
    }

    /// A driver looks what is stored. `false`: it is not the driver any more.
    fn refresh(&mut self, running: &mut Running) -> bool {
        if self.revision_of(DRIVER) != running.lease {
            self.tally.zombies += 1;
            return false;
        }
        let revision = self.revision_of(DOCUMENT);
        if revision != running.revision {
            running.revision = revision;
            running.driver.reload(self.stored());
        }
        true
    }

    fn take_over(&mut self) {
        if self.revision_of(DRIVER) != 0 {
            // Its lease ends.
            self.transact(&[], vec![(DRIVER.to_owned(), None)]);
        }
        let lease = self.transact(&[], vec![(DRIVER.to_owned(), Some("2".to_owned()))]).expect("written");
        self.tally.takeovers += 1;
        self.say("another driver");
        let driver = Driver::new(self.stored(), None);
        let (revision, heard) = (self.revision_of(DOCUMENT), BTreeMap::new());
        self.drivers.push(Running { driver, revision, lease, heard, step: None });
    }

    /// A driver is killed, or goes on after its lease has ended.
    fn driver_ends(&mut self) {
        if !self.random.one_in(4) {
            return;
        }
        if self.random.one_in(2) {
            self.tally.kills += u64::from(!self.drivers.is_empty());
            self.drivers.clear();
        } else {
            self.take_over();
        }
    }

    fn abort(&mut self) {
        let mut rollout = self.stored();
        if !self.random.one_in(30) || !rollout.state.is_open() || rollout.abort.is_some() {
            return;
        }
        let (by, time) = ("adam@h".to_owned(), "2026-11-21T17:34:57Z".to_owned());
        rollout.abort = Some(Abort { by, time, note: String::new() });
        self.transact(&[], vec![(DOCUMENT.to_owned(), Some(rollout.text()))]);
        self.tally.aborts += 1;
        self.say("abort");
    }

    /// Nothing goes wrong any more; it has to come to an end.
    pub fn settle(&mut self) {
        self.calm = true;
        for _ in 0..5000 {
            if !self.stored().state.is_open() {
                return self.judge();
            }
            self.step();
        }
        panic!("no end: {:?}", self.stored());
    }

    /// All hosts have all new values or all old ones.
    fn judge(&mut self) {
        let rollout = self.stored();
        match rollout.state {
            State::Done => self.tally.done += 1,
            State::Refused => self.tally.refused += 1,
            State::Undone if rollout.conflicts.is_empty() => self.tally.undone += 1,
            State::Undone => self.tally.undone_with_conflicts += 1,
            state => panic!("{state:?} is no end"),
        }
        assert_eq!(rollout.reason.is_some(), rollout.state != State::Done);
        let conflicts: BTreeSet<&String> = rollout.conflicts.iter().map(|conflict| &conflict.key).collect();
        for host in rollout.targets() {
            let progress = rollout.hosts.get(host);
            let applied = progress.is_some_and(|progress| progress.apply.is_some());
            let undone = progress.is_some_and(|progress| progress.undo.is_some());
            let skipped = rollout.skipped.contains_key(host);
            self.tally.skipped += u64::from(skipped);
            match rollout.state {
                State::Done => assert!(applied != skipped && !undone, "{host}"),
                _ => assert_eq!(applied, undone, "{host}"),
            }
            for path in rollout.paths(host) {
                let value = self.keys.get(path).map(|(_, value)| value.clone());
                let new = rollout.changes[path].as_ref().map(ToString::to_string);
                let wanted =
                    if rollout.state == State::Done && !skipped { &new } else { &rollout.old[path].value };
                let writer = self.writers[path];
                match writer {
                    // Even if somebody has deleted again what was made in place of a document that went.
                    _ if conflicts.contains(path) => self.tally.left_alone += 1,
                    Writer::Somebody => {}
                    _ => assert_eq!(value, *wanted, "{path} of {host}: {writer:?}"),
                }
                assert!(self.touched.contains(path) || !conflicts.contains(path), "{path}");
                assert!(applied || writer != Writer::Rollout, "{path} was written and {host} was not");
            }
        }
        self.judge_answers(&rollout);
    }

    fn judge_answers(&mut self, rollout: &Rollout) {
        use cfg_engine::Ended::{Failed, Rejected, Silent};
        for (host, progress) in &rollout.hosts {
            let outcome = progress.apply.as_ref().and_then(|asked| Some(asked.answer.as_ref()?.outcome));
            self.tally.rejected += u64::from(outcome == Some(Rejected));
            self.tally.failed += u64::from(outcome == Some(Failed));
            self.tally.silent += u64::from(outcome == Some(Silent));
            if rollout.state == State::Done {
                assert!(!matches!(outcome, Some(Failed | Silent)), "{host}");
                assert!(outcome != Some(Rejected) || rollout.abort_on == AbortOn::Failed, "{host}");
            }
        }
        if rollout.state == State::Done {
            let first = rollout.stages[0].iter().filter_map(|host| rollout.hosts.get(host)?.apply.as_ref());
            assert!(first.into_iter().any(|apply| apply.answer.is_some()), "the first stage says something");
        }
    }
}

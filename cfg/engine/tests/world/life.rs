//! The life of one process, and whether what its engine says is what must come.

use std::collections::{BTreeMap, BTreeSet};

use cfg_engine::{Engine, Feedback, Outcome, Runs, Status};

use super::model::{DYNAMIC, Model, RESTART};
use super::process::Op;
use super::rules::{Plain, Told, differences};
use super::{Shared, Tally};
use crate::kettle::Kettle;

/// The answer that must come.
#[derive(Clone, Debug)]
pub struct Expected {
    pub outcome: Outcome,
    pub applied: BTreeSet<String>,
    pub pending: BTreeSet<String>,
    pub old: BTreeSet<String>,
    pub frozen: bool,
}

/// What is gone when the process is.
pub struct Life {
    pub engine: Engine<Kettle>,
    pub ops: Vec<Op>,
    pub model: Model,
    /// Whether the shell believes that the store answers.
    pub listed: bool,
    /// The next revision that each watch tells: host, vPool, frozen.
    pub watch: [i64; 3],
    pub leaving: bool,
    /// Revisions of updates that the engine was told of.
    pub seen: BTreeSet<i64>,
    /// Feedback by the revision of its update.
    pub sent: BTreeMap<i64, Feedback>,
    pub expected: BTreeMap<i64, Expected>,
    /// Revision of an update → revision at which it was read.
    pub read_at: BTreeMap<i64, i64>,
    /// The update that is being done.
    pub current: i64,
    /// What is to run after the commit, and what is stored.
    pub plan: Option<(i64, Plain, Plain)>,
    pub guards: BTreeSet<u64>,
    /// Updates up to here were taken, and up to there refused, by the start.
    pub taken: i64,
    pub refused: i64,
    /// What the start changed.
    pub brought: BTreeSet<String>,
    /// Whether it started with what is stored.
    pub from_store: bool,
    pub gone: bool,
}

fn names<'n>(pairs: impl Iterator<Item = (&'n String, &'n String)>) -> BTreeSet<String> {
    pairs.map(|(component, param)| format!("{component}.{param}")).collect()
}

impl Life {
    /// Whether a feedback is the one that must come.
    pub fn check_feedback(&mut self, index: usize, feedback: &Feedback, shared: &mut Shared) {
        assert!(!feedback.text().contains("secret-"), "{}", feedback.text());
        let revision = feedback.revision;
        if let Some(sent) = self.sent.insert(revision, feedback.clone()) {
            assert_eq!(&sent, feedback, "the same again");
            return;
        }
        assert!(self.seen.contains(&revision), "an answer to what was seen");
        let told = &shared.updates[&revision];
        assert_eq!((&feedback.id, feedback.node.clone()), (&told.answer_id(revision), format!("h{}", index)));
        if told.malformed {
            assert_eq!(feedback.outcome, Outcome::Rejected);
            shared.tally.malformed += 1;
            return;
        }
        if feedback.outcome == Outcome::Superseded {
            assert!(!self.expected.contains_key(&revision), "what was done is not superseded");
            let by = feedback.by.as_deref().expect("by");
            self.check_superseded(revision, told, by, &shared.updates);
            shared.tally.superseded += 1;
            return;
        }
        let of_start = revision <= self.taken.max(self.refused);
        assert_eq!(feedback.at_start, of_start);
        assert_eq!(feedback.dry_run, told.dry_run);
        let Some(expected) = self.expected.get(&revision) else {
            let taken = revision <= self.taken && !told.dry_run;
            let outcome = if taken { Outcome::Applied } else { Outcome::Rejected };
            assert!((of_start && !told.dry_run) || self.leaving, "{feedback:?} answers what was not done");
            assert_eq!(feedback.outcome, outcome);
            if taken {
                let applied = names(feedback.applied.iter().map(|a| (&a.component, &a.param)));
                assert_eq!(applied, self.brought, "what the start changed");
            }
            // Another start than one with what is stored may have seen by then what is.
            assert!(feedback.pending_restart.is_empty() || !self.from_store);
            shared.tally.at_start += 1;
            return;
        };
        let applied = names(feedback.applied.iter().map(|a| (&a.component, &a.param)));
        let pending = names(feedback.pending_restart.iter().map(|p| (&p.component, &p.param)));
        let old = feedback.mixed.iter().filter(|mixed| mixed.runs == Runs::Old);
        let old = names(old.map(|m| (&m.component, &m.param)));
        let found = (feedback.outcome, &applied, &pending, &old, feedback.frozen);
        let Expected { outcome, applied, pending, old, frozen } = expected;
        assert_eq!(found, (*outcome, applied, pending, old, *frozen), "{feedback:?}");
        assert_eq!(feedback.rejected.is_empty(), *outcome != Outcome::Rejected);
        shared.tally.count(feedback);
    }

    /// The current update must be answered so.
    pub fn expect(&mut self, outcome: Outcome) -> &mut Expected {
        self.plan = None;
        let (applied, pending, old) = Default::default();
        let expected = Expected { outcome, applied, pending, old, frozen: false };
        self.expected.entry(self.current).insert_entry(expected).into_mut()
    }

    /// A secret that components get to know.
    pub fn password(&self) -> String {
        self.plan.as_ref().map(|(_, next, _)| next[&("heater", "password")].clone()).unwrap_or_default()
    }

    /// What a commit makes of what runs; `broken` keeps its value.
    pub fn commit(&mut self, broken: Option<(&'static str, &'static str)>) {
        let (_, next, stored) = self.plan.take().expect("a plan");
        let before = std::mem::replace(&mut self.model.running, next.clone());
        self.model.sections = self.model.next_sections.clone();
        let mut applied = differences(&before, &next, DYNAMIC);
        let expected = self.expect(Outcome::Applied);
        expected.pending = differences(&next, &stored, RESTART);
        if let Some(broken) = broken {
            expected.outcome = Outcome::Failed;
            let name = format!("{}.{}", broken.0, broken.1);
            if applied.remove(&name) {
                expected.old.insert(name);
            }
        }
        expected.applied = applied;
        if let Some(broken) = broken {
            self.model.running.insert(broken, before[&broken].clone());
        }
    }

    pub fn check_superseded(&self, revision: i64, told: &Told, by: &str, updates: &BTreeMap<i64, Told>) {
        let covers = |(other, update): &(&i64, &Told)| {
            let newer = **other > revision || self.read_at.get(other).is_some_and(|at| *at >= revision);
            let of_start =
                **other <= self.taken.max(self.refused) && revision <= self.taken.max(self.refused);
            update.covers(told) && update.id == by && self.seen.contains(other) && (newer || of_start)
        };
        assert!(updates.iter().any(|update| covers(&update)), "{by} does not cover {revision}");
    }

    pub fn check_status(&self, status: &Status, shared: &mut Shared) {
        assert!(!status.text().contains("secret-"));
        let model = &self.model;
        shared.same_hash(&status.config_hash, &model.running);
        assert_eq!(status.stored_hash.is_some(), model.stored.is_some(), "what is stored is known");
        if let (Some(hash), Some(stored)) = (&status.stored_hash, &model.stored) {
            shared.same_hash(hash, stored);
        }
        let pending = names(status.pending_restart.iter().map(|p| (&p.component, &p.param)));
        assert_eq!(pending, model.pending());
        assert_eq!(status.observed_revision, model.observed);
        if let Some(last) = &status.last_feedback {
            assert!(self.sent.values().any(|sent| sent.id == *last));
        }
    }

    /// Updates that were seen and not answered.
    pub fn unanswered(&self, answered: &BTreeMap<i64, u64>) -> Vec<i64> {
        self.seen.iter().filter(|revision| !answered.contains_key(revision)).copied().collect()
    }
}

impl Tally {
    fn count(&mut self, feedback: &Feedback) {
        match feedback.outcome {
            Outcome::Applied if feedback.dry_run => self.dry_runs += 1,
            Outcome::Applied => self.applied += 1,
            Outcome::Rejected if feedback.frozen => self.frozen += 1,
            Outcome::Rejected => self.rejected += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Superseded => {}
        }
    }
}

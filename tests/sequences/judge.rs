//! Whether what a process said during one life is what it must have said.

use std::collections::{BTreeMap, BTreeSet};

use cfg_client::LastGood;
use cfg_engine::{Feedback, Outcome, Status};
use cfg_schema::{Category, Change};
use serde_json::Value;

use super::harness::tree::History;
use super::rules::{Plain, Told, Verdict, differences};
use super::values::{SUBJECT, Stored, identity, typed};

/// What the test knows of one life of a process.
#[derive(Clone, Debug, Default)]
pub struct Life {
    pub pid: u32,
    /// The start read what is stored at a revision within these.
    pub from: i64,
    pub to: i64,
    /// The store was away during the start.
    pub away: bool,
    /// The exit code of a start that was refused.
    pub code: Option<i32>,
    /// It was told to end at this revision.
    pub leaves: Option<i64>,
    pub killed: bool,
    /// The store was away at its end.
    pub cut: bool,
    /// The store was away while it lived; when it noticed that, and for how long, only the process knows.
    pub shaken: bool,
    /// What it said stands up to here.
    pub end: i64,
    /// The last good copies at both ends.
    pub before: Option<LastGood>,
    pub after: Option<LastGood>,
}

/// Where a host has its keys.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: String,
    /// `/ovs/vpools/GUID/hosts/ID`
    pub base: String,
    /// The update key of all.
    pub vpool_update: String,
}

/// What a start brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Store,
    Degraded,
    Frozen,
    Stale,
}

/// What a process runs with, and what it has said.
#[derive(Clone, Debug)]
pub struct State {
    pub source: Source,
    pub running: Plain,
    running_revision: i64,
    sections: BTreeSet<String>,
    /// What was stored when it took something last.
    copy: Plain,
    /// The revisions and documents that it took before that.
    copies: Vec<(i64, Plain)>,
    /// Updates up to here were taken, and up to there refused, by the start.
    taken: i64,
    refused: i64,
    frozen: bool,
    brought: BTreeSet<String>,
    /// The newest update that was done.
    done: i64,
    observed: i64,
    /// Whether something was applied since the start.
    applied: bool,
    last_feedback: Option<String>,
    /// Answers by the revision of their update.
    pub sent: BTreeMap<i64, Feedback>,
}

/// What was written under an update key at a revision.
pub fn told(history: &History, place: &Place, revision: i64) -> Option<Told> {
    let keys = [format!("{}/update", place.base), place.vpool_update.clone()];
    let text = keys.iter().find_map(|key| {
        let (written, text) = history.get(key, revision)?;
        (written == revision).then_some(text)
    })?;
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let is_id = |id: &&str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=64).contains(&id.len()) && id.bytes().all(allowed) && !matches!(*id, "." | "..")
    };
    let id = value["id"].as_str().filter(is_id).unwrap_or_default().to_owned();
    let flag = |name: &str| value[name].as_bool();
    let wrong = |name: &str| !value[name].is_null() && flag(name).is_none();
    Some(Told {
        malformed: id.is_empty() || wrong("dry_run") || wrong("allow_reset"),
        dry_run: flag("dry_run").unwrap_or(false),
        allow_reset: flag("allow_reset").unwrap_or(false),
        rollout: None,
        id,
    })
}

/// Section, key and both values of changes.
fn listed<'c>(changes: impl Iterator<Item = &'c Change>) -> Vec<[String; 4]> {
    let texts = |c: &Change| [c.section.to_owned(), c.key.to_owned(), c.old.clone(), c.new.clone()];
    let mut listed: Vec<_> = changes.map(texts).collect();
    listed.sort();
    listed
}

/// What must be listed as changed, and as pending.
fn lists(running: &Plain, next: &Plain, stored: &Plain) -> [Vec<[String; 4]>; 2] {
    let changes = typed(running).changes(&typed(next));
    let pending = typed(next).changes(&typed(stored));
    [listed(changes.iter()), listed(pending.iter().filter(|change| change.category == Category::Restart))]
}

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

/// How a start ends that reads what is stored at `revision`: a state, or an exit code.
fn start(history: &History, place: &Place, life: &Life, revision: i64) -> Result<State, i32> {
    let identity = identity();
    let config = format!("{}/config", place.base);
    let found = Stored::at(history, &config, revision).found(&identity);
    let frozen = history.get(&format!("{}/frozen", place.base), revision).is_some();
    let nothing = BTreeSet::new();
    let good = SUBJECT.judge(&identity, &nothing, &found, false);
    let copy = life.before.as_ref().map(|copy| (copy.revision as i64, Stored::copied(&copy.documents)));
    let (source, at, values, sections) = match (life.away, good, copy) {
        (false, ..) if found.is_empty => return Err(3),
        (false, Verdict::Good { stored, .. }, copy) if !frozen || copy.is_none() => {
            (Source::Store, revision, stored, found.sections)
        }
        (away, _, Some((at, copy))) => {
            let found = copy.found(&identity);
            let source = match (away, frozen) {
                (true, _) => Source::Stale,
                (false, true) => Source::Frozen,
                (false, false) => Source::Degraded,
            };
            (source, at, found.values.expect("a copy is good"), found.sections)
        }
        (false, _, None) => return Err(5),
        (true, _, None) => return Err(6),
    };
    let before = life.before.as_ref().filter(|_| source == Source::Store);
    let brought = before.map(|before| {
        let before = Stored::copied(&before.documents).found(&identity).values.expect("a copy is good");
        let all: Vec<_> = values.keys().copied().collect();
        differences(&before, &values, &all)
    });
    let refused = if matches!(source, Source::Degraded | Source::Frozen) { revision } else { 0 };
    Ok(State {
        source,
        running: values.clone(),
        copy: values,
        copies: Vec::new(),
        running_revision: at,
        sections,
        taken: at,
        refused,
        frozen: frozen && !life.away,
        brought: brought.unwrap_or_default(),
        done: 0,
        observed: if source == Source::Stale { 0 } else { revision },
        applied: false,
        last_feedback: None,
        sent: BTreeMap::new(),
    })
}

/// Looks at a whole life: the state at its end; `None`: the start was refused, as it must be.
pub fn judge(history: &History, place: &Place, life: &Life) -> Result<Option<State>, String> {
    let mut problems = Vec::new();
    let candidates = if life.away { 0..=0 } else { life.from..=life.to };
    for revision in candidates {
        match (start(history, place, life, revision), life.code) {
            (Err(expected), Some(code)) if expected == code => return Ok(None),
            (Err(expected), found) => {
                problems.push(format!("at {revision}: ends with {expected}, not {found:?}"))
            }
            (Ok(_), Some(code)) => {
                problems.push(format!("at {revision}: serves, and does not end with {code}"))
            }
            (Ok(state), None) => match live(history, place, life, state, revision) {
                Ok(state) => return Ok(Some(state)),
                Err(problem) => problems.push(format!("at {revision}: {problem}")),
            },
        }
    }
    problems.dedup();
    Err(format!("{}: {life:?}\n  {}", place.name, problems.join("\n  ")))
}

fn live(history: &History, place: &Place, life: &Life, mut state: State, read: i64) -> Result<State, String> {
    for (revision, name, value) in history.events(&place.base) {
        if revision <= life.from || revision > life.end {
            continue;
        }
        let Some(value) = value else { continue };
        if name.starts_with("feedback/") {
            let feedback = Feedback::read(value.as_bytes())?;
            state
                .answered(history, place, life, &feedback)
                .map_err(|problem| format!("{problem}\n    {revision}: {value}"))?;
            state.last_feedback = Some(feedback.id.clone());
            ensure!(name == format!("feedback/{}", feedback.id), "{name} holds {value}");
        } else if name == "status" {
            let status = Status::read(value.as_bytes())?;
            // A write on its way outlives a process that is killed.
            if status.pid != life.pid {
                continue;
            }
            state.says(history, place, &status, revision, read).map_err(|problem| {
                format!("{problem}\n    {revision}: {value}\n    runs {:?}", state.running)
            })?;
            let last = history.get(&format!("{}/last_status", place.base), revision);
            ensure!(last == Some((revision, value)), "last_status is {last:?}, status {value}");
        }
    }
    if let Some(after) = &life.after {
        state.kept(history, place, life, after)?;
    }
    Ok(state)
}

impl State {
    fn of_start(&self, revision: i64) -> bool {
        revision <= self.taken.max(self.refused)
    }

    /// Takes an answer, if it is the one that must come.
    fn answered(
        &mut self,
        history: &History,
        place: &Place,
        life: &Life,
        feedback: &Feedback,
    ) -> Result<(), String> {
        let revision = feedback.revision;
        if let Some(sent) = self.sent.insert(revision, feedback.clone()) {
            ensure!(&sent == feedback, "another answer to the same: {sent:?}");
            return Ok(());
        }
        let told = told(history, place, revision).ok_or("an answer to nothing")?;
        let id = told.answer_id(revision);
        ensure!((&feedback.id, &feedback.node) == (&id, &place.name), "must be {id} of {}", place.name);
        ensure!(feedback.dry_run == told.dry_run, "dry_run must be {}", told.dry_run);
        ensure!(feedback.at_start == self.of_start(revision), "at_start, taken {}", self.taken);
        ensure!(feedback.mixed.is_empty(), "nothing can be mixed");
        let outcome = feedback.outcome;
        if told.malformed {
            ensure!(outcome == Outcome::Rejected, "must be rejected: it cannot be read");
            ensure!(feedback.rejected.iter().all(|r| r.component == "update"), "must speak of the update");
            return Ok(());
        }
        if outcome == Outcome::Superseded {
            return self.superseded(history, place, &told, feedback);
        }
        let ends = |rejected: &cfg_engine::Rejected| rejected.problem.contains("the process ends before");
        if life.leaves.is_some() && outcome == Outcome::Rejected && feedback.rejected.iter().any(ends) {
            return Ok(());
        }
        if self.of_start(revision) && !told.dry_run {
            return self.answered_at_start(feedback);
        }
        self.expected(history, place, &told, feedback)
    }

    fn superseded(
        &self,
        history: &History,
        place: &Place,
        older: &Told,
        feedback: &Feedback,
    ) -> Result<(), String> {
        let by = feedback.by.as_deref().ok_or("superseded by nothing")?;
        let keys = [format!("{}/update", place.base), place.vpool_update.clone()];
        let written = keys.iter().flat_map(|key| history.keys.get(key).into_iter().flatten());
        let covers = |newer: i64| {
            let told = told(history, place, newer)?;
            let later = newer > feedback.revision || self.of_start(newer) && self.of_start(feedback.revision);
            (told.id == by && told.covers(older) && later).then_some(())
        };
        let is_covered = written
            .filter_map(|(revision, value)| value.as_ref().map(|_| *revision))
            .any(|newer| covers(newer).is_some());
        ensure!(is_covered, "{by} does not cover it");
        Ok(())
    }

    fn answered_at_start(&mut self, feedback: &Feedback) -> Result<(), String> {
        self.done = self.done.max(self.taken.max(self.refused));
        let taken = feedback.revision <= self.taken;
        let outcome = if taken { Outcome::Applied } else { Outcome::Rejected };
        ensure!(feedback.outcome == outcome, "the start must have {outcome:?} it");
        ensure!(feedback.frozen == (!taken && self.frozen), "frozen");
        ensure!(taken || !feedback.rejected.is_empty(), "must say why");
        let applied = feedback.applied.iter().map(|a| format!("{}.{}", a.component, a.param)).collect();
        ensure!(!taken || self.brought == applied, "the start brought {:?}", self.brought);
        Ok(())
    }

    /// An update that was read at its revision.
    fn expected(
        &mut self,
        history: &History,
        place: &Place,
        told: &Told,
        feedback: &Feedback,
    ) -> Result<(), String> {
        let revision = feedback.revision;
        ensure!(revision > self.done, "{} was done before it", self.done);
        if !told.dry_run {
            self.done = revision;
        }
        let stored = Stored::at(history, &format!("{}/config", place.base), revision);
        let found = stored.found(&identity());
        let frozen = history.get(&format!("{}/frozen", place.base), revision).is_some();
        ensure!(feedback.frozen == frozen, "frozen must be {frozen}");
        let verdict = SUBJECT.judge(&self.running, &self.sections, &found, told.allow_reset);
        let Verdict::Good { stored: values, next } = verdict else {
            ensure!(feedback.outcome == Outcome::Rejected, "must be rejected: {found:?}");
            ensure!(!feedback.rejected.is_empty(), "must say why");
            return Ok(());
        };
        if frozen {
            ensure!(feedback.outcome == Outcome::Rejected, "must be rejected: it is frozen");
            return Ok(());
        }
        ensure!(feedback.outcome == Outcome::Applied, "must be applied");
        let [applied, pending] = lists(&self.running, &next, &values);
        let said =
            |c: &String, p: &String, o: &String, n: &String| [c.clone(), p.clone(), o.clone(), n.clone()];
        let mut found: Vec<_> =
            feedback.applied.iter().map(|a| said(&a.component, &a.param, &a.old, &a.new)).collect();
        found.sort();
        ensure!(found == applied, "applied must be {applied:?}");
        let mut found: Vec<_> = feedback
            .pending_restart
            .iter()
            .map(|p| said(&p.component, &p.param, &p.running, &p.stored))
            .collect();
        found.sort();
        ensure!(found == pending, "pending_restart must be {pending:?}");
        let strange = stored.strange();
        let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
        ensure!(set(&feedback.unknown) == strange.unknown, "unknown must be {:?}", strange.unknown);
        ensure!(set(&feedback.no_effect) == strange.no_effect, "no_effect must be {:?}", strange.no_effect);
        if !told.dry_run {
            self.sections = stored.found(&identity()).sections;
            self.copies.push((self.running_revision, std::mem::replace(&mut self.copy, values)));
            (self.running, self.running_revision, self.applied) = (next, revision, true);
        }
        Ok(())
    }

    /// Whether a status says what is.
    fn says(
        &mut self,
        history: &History,
        place: &Place,
        status: &Status,
        revision: i64,
        read: i64,
    ) -> Result<(), String> {
        let hash = typed(&self.running).config_hash();
        ensure!(status.config_hash == hash, "config_hash must be {hash}");
        let (at, observed) = (self.running_revision, status.observed_revision);
        ensure!(status.running_revision == at, "running_revision must be {at}");
        ensure!((self.observed..revision).contains(&observed), "it observed {} before", self.observed);
        self.observed = observed;
        let last = &self.last_feedback;
        ensure!(&status.last_feedback == last, "last_feedback must be {last:?}");
        let stored = Stored::at(history, &format!("{}/config", place.base), observed).found(&identity());
        let stored = stored.values.as_ref().map(|values| typed(values).config_hash());
        // After a start on a copy it looks once more.
        let unread = self.source != Source::Store && (observed == 0 || observed == read);
        let is_right = status.stored_hash == stored || (unread && status.stored_hash.is_none());
        ensure!(is_right, "stored_hash must be {stored:?}");
        let in_sync = status.stored_hash.as_ref() == Some(&status.config_hash);
        let (stale, degraded) = (status.stale, !status.degraded.is_empty());
        ensure!(!stale || (self.source == Source::Stale && !self.applied), "stale");
        ensure!(!degraded || (self.source == Source::Degraded && !self.applied), "degraded");
        if !self.applied && !in_sync {
            ensure!(stale == (self.source == Source::Stale) || self.observed > read, "stale, as it started");
            ensure!(degraded || self.source != Source::Degraded || self.observed > read, "degraded");
        }
        Ok(())
    }

    /// Whether the last good copy is one of what ran last. A process that was killed, or ended while the store was away
    /// for it, may have taken one update more than it could tell. One that was killed may have told of a start or an
    /// update whose copy was still to be written.
    fn kept(&self, history: &History, place: &Place, life: &Life, copy: &LastGood) -> Result<(), String> {
        let (revision, values) = (copy.revision as i64, Stored::copied(&copy.documents));
        let values = values.found(&identity()).values.ok_or("the last good copy is not good")?;
        if (revision, &values) == (self.running_revision, &self.copy) {
            return Ok(());
        }
        let is_of_before = life.before.as_ref() == Some(copy);
        if life.killed && (is_of_before || self.copies.contains(&(revision, values.clone()))) {
            return Ok(());
        }
        let problem = format!("the last good copy is of {revision}, and runs {}", self.running_revision);
        ensure!((life.killed || life.cut || life.shaken) && revision > self.running_revision, "{problem}");
        let told = told(history, place, revision).filter(|told| !told.dry_run && !told.malformed);
        let told = told.ok_or(problem.clone())?;
        let found = Stored::at(history, &format!("{}/config", place.base), revision).found(&identity());
        match SUBJECT.judge(&self.running, &self.sections, &found, told.allow_reset) {
            Verdict::Good { stored, .. } if stored == values => Ok(()),
            _ => Err(problem),
        }
    }
}

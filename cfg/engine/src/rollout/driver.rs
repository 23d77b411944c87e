//! What is to be done next for a roll-out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::{
    AbortOn, Answer, Asked, Cause, Conflict, Ended, Progress, REASON_LIMIT, Reason, Rollout, State,
    TEXT_LIMIT,
};
use crate::Update;
use crate::feedback::{Feedback, Outcome, Runs, answer};

/// What is known of one host now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// Its status is there.
    pub live: bool,
    /// It takes no update.
    pub frozen: bool,
    /// Its answers by their ids.
    pub feedback: BTreeMap<String, Feedback>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask these hosts, which live, for a dry run by this update. To be given to [`Driver::begin`], then stored with
    /// the document in one transaction.
    Ask {
        /// The update of all.
        update: Update,
        /// Who is waited for.
        hosts: Vec<String>,
    },
    /// Look at the keys of a host: if they are as expected, the same with them and the host's update key; if not,
    /// [`Driver::changed`].
    Write(HostWrite),
    /// Store the document.
    Save,
    /// Do nothing until this time, or until something is heard.
    Wait(Duration),
    /// It is over.
    End,
}

/// What is written to one host.
#[derive(Clone, PartialEq)]
pub struct HostWrite {
    /// The host.
    pub host: String,
    /// Its documents.
    pub keys: Vec<KeyWrite>,
    /// Its update.
    pub update: Update,
    /// Whether these are the old values.
    pub undo: bool,
    /// Whether it lives.
    pub live: bool,
}

/// What one key gets.
#[derive(Clone, PartialEq)]
pub struct KeyWrite {
    /// The key.
    pub path: String,
    /// The revision that it must have; 0: it must not be there.
    pub expected: i64,
    /// Its new value; `None`: it goes.
    pub value: Option<String>,
}

impl std::fmt::Debug for HostWrite {
    /// The values may be secrets, and are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<(&str, i64)> = self.keys.iter().map(|key| (key.path.as_str(), key.expected)).collect();
        let mut shown = f.debug_struct("HostWrite");
        shown.field("host", &self.host).field("keys", &keys).field("undo", &self.undo).finish_non_exhaustive()
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Answers,
    Pause,
}

/// One who carries a roll-out out.
#[derive(Debug)]
pub struct Driver {
    rollout: Rollout,
    /// In place of the document's.
    pause: Option<Duration>,
    /// Since when it waits, and for what. Another driver begins to wait anew.
    began: Option<(State, usize, Waiting, Duration)>,
    /// The document is not stored as it is.
    dirty: bool,
}

impl Driver {
    /// One who goes on with a document as it was read or just stored. `pause` holds in place of the document's.
    pub fn new(rollout: Rollout, pause: Option<Duration>) -> Driver {
        Driver { rollout, pause, began: None, dirty: false }
    }

    /// The document as it has to be stored.
    pub fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// The document was stored at this revision, with all that the last step wrote.
    pub fn stored(&mut self, revision: i64) {
        self.rollout.stored_at(revision);
        self.dirty = false;
    }

    /// It was not stored: this is what is.
    pub fn reload(&mut self, rollout: Rollout) {
        self.rollout = rollout;
        self.dirty = false;
    }

    /// What to do now. `now` is the time of a clock that never goes back, the same for each call.
    pub fn next(&mut self, now: Duration, heard: &BTreeMap<String, Heard>) -> Step {
        self.hear(heard);
        loop {
            let step = match self.rollout.state {
                State::Checking => self.checking(now, heard),
                State::Applying => self.applying(now, heard),
                State::Undoing => self.undoing(now, heard),
                State::Done | State::Refused | State::Undone => Some(Step::End),
            };
            match step {
                // The state is another one.
                None => self.dirty = true,
                Some(Step::Wait(_) | Step::End) if self.dirty => return Step::Save,
                Some(step) => return step,
            }
        }
    }

    /// Notes in the document that a step is taken; to be stored with what it writes. Where that is refused, the
    /// document has to be read again: [`Driver::reload`].
    pub fn begin(&mut self, step: &Step) {
        let asked = |update: &Update, live| {
            Some(Asked { update: update.id.clone(), revision: 0, live, answer: None })
        };
        match step {
            Step::Ask { update, hosts } => {
                for host in hosts {
                    self.rollout.hosts.entry(host.clone()).or_default().check = asked(update, true);
                }
            }
            Step::Write(write) => {
                let progress = self.rollout.hosts.entry(write.host.clone()).or_default();
                let place = if write.undo { &mut progress.undo } else { &mut progress.apply };
                *place = asked(&write.update, write.live);
            }
            Step::Save | Step::Wait(_) | Step::End => {}
        }
        self.dirty = true;
    }

    /// Keys of a write do not have the revision that is expected, but this one: somebody else wrote them.
    pub fn changed(&mut self, write: &HostWrite, found: Vec<Conflict>) {
        self.dirty = true;
        if write.undo {
            self.rollout.conflicts.extend(found);
        } else if let Some(Conflict { key, revision }) = found.first() {
            let what = match revision {
                0 => "deleted".to_owned(),
                revision => format!("written at revision {revision}"),
            };
            let problem = format!("{key} was {what} by somebody else since the roll-out began");
            self.stop(Cause::Conflict, Some(&write.host), &problem);
        }
    }

    /// A host's documents would not be valid, so it is not written.
    pub fn refused(&mut self, host: &str, problem: &str) {
        self.stop(Cause::Rejected, Some(host), problem);
    }

    /// Takes answers into the document.
    fn hear(&mut self, heard: &BTreeMap<String, Heard>) {
        for (host, progress) in &mut self.rollout.hosts {
            let asked = match self.rollout.state {
                State::Checking => &mut progress.check,
                State::Applying => &mut progress.apply,
                State::Undoing => &mut progress.undo,
                State::Done | State::Refused | State::Undone => return,
            };
            let (Some(asked), Some(heard)) = (asked, heard.get(host)) else { continue };
            if asked.answer.is_none() && asked.revision > 0 {
                let feedback = answer(&heard.feedback, &asked.update, asked.revision);
                asked.answer = feedback.and_then(ended);
                self.dirty |= asked.answer.is_some();
            }
        }
    }

    fn checking(&mut self, now: Duration, heard: &BTreeMap<String, Heard>) -> Option<Step> {
        if self.aborted() {
            return None;
        }
        let lives = |host: &&String| heard.get(*host).is_some_and(|heard| heard.live && !heard.frozen);
        if self.rollout.hosts.values().all(|progress| progress.check.is_none()) {
            let hosts: Vec<String> = self.rollout.targets().filter(lives).cloned().collect();
            if hosts.is_empty() {
                self.stop(Cause::Failed, None, "no host lives that could say whether it takes the change");
                return None;
            }
            return Some(Step::Ask { update: self.update("check", true, self.rollout.allow_reset), hosts });
        }
        if let Some(wait) = self.answers(now, |host, asked| asked.live && lives(&host)) {
            return Some(wait);
        }
        let check = |host: &String| self.rollout.hosts.get(host)?.check.as_ref()?.answer.clone();
        let answers: Vec<(String, Answer)> =
            self.rollout.targets().filter_map(|host| Some((host.clone(), check(host)?))).collect();
        let refused = answers.iter().filter(|(_, answer)| answer.outcome != Ended::Applied);
        let refused: Vec<&(String, Answer)> = refused.collect();
        if let Some((host, answer)) = refused.first() {
            let more = match refused.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            self.stop(cause(answer.outcome), Some(host), &format!("{}{more}", answer.problem));
        } else if answers.is_empty() {
            self.stop(Cause::Failed, None, "no host that was asked lives any more");
        } else {
            (self.rollout.state, self.rollout.stage) = (State::Applying, 1);
        }
        None
    }

    fn applying(&mut self, now: Duration, heard: &BTreeMap<String, Heard>) -> Option<Step> {
        if self.aborted() || self.stop_for_answer() {
            return None;
        }
        let stage = self.rollout.stages[self.rollout.stage - 1].clone();
        let live = |host: &String| heard.get(host).is_some_and(|heard| heard.live);
        for host in &stage {
            let written = self.rollout.hosts.get(host).is_some_and(|progress| progress.apply.is_some());
            if written || self.rollout.skipped.contains_key(host) {
                continue;
            }
            if heard.get(host).is_some_and(|heard| heard.frozen) {
                self.rollout.skipped.insert(host.clone(), "frozen".to_owned());
                self.dirty = true;
                continue;
            }
            return Some(Step::Write(self.forward(host, live(host))));
        }
        if let Some(wait) = self.answers(now, |host, asked| asked.live && stage.contains(host)) {
            return Some(wait);
        }
        if self.stop_for_answer() {
            return None;
        }
        let apply = |host: &String| self.rollout.hosts.get(host)?.apply.as_ref();
        let answered: Vec<String> =
            stage.iter().filter(|host| apply(host).is_some_and(|a| a.answer.is_some())).cloned().collect();
        if self.rollout.stage == 1 && answered.is_empty() {
            self.stop(
                Cause::Failed,
                None,
                "no host of the first stage answered, so nothing is known of the change",
            );
            return None;
        }
        let last = self.rollout.stage == self.rollout.stages.len();
        let pause = self.pause.unwrap_or(Duration::from_secs(self.rollout.pause_secs));
        if !last {
            let until = self.since(now, Waiting::Pause) + pause;
            if now < until {
                return Some(Step::Wait(until));
            }
        }
        if let Some(host) = answered.iter().find(|host| !live(host)) {
            self.stop(Cause::Failed, Some(host), "took the change, and is down since");
        } else if last {
            self.rollout.state = State::Done;
        } else {
            self.rollout.stage += 1;
        }
        None
    }

    fn undoing(&mut self, now: Duration, heard: &BTreeMap<String, Heard>) -> Option<Step> {
        let written = |progress: &Progress| progress.apply.is_some() && progress.undo.is_none();
        let hosts = self.rollout.hosts.iter();
        let hosts: Vec<String> =
            hosts.filter(|(_, progress)| written(progress)).map(|(host, _)| host.clone()).collect();
        for host in hosts {
            let write = self.backward(&host, heard.get(&host).is_some_and(|heard| heard.live));
            if !write.keys.is_empty() {
                return Some(Step::Write(write));
            }
            let problem = "somebody else wrote all of its keys".to_owned();
            let answer = Some(Answer { outcome: Ended::Conflict, problem });
            if let Some(progress) = self.rollout.hosts.get_mut(&host) {
                progress.undo = Some(Asked { update: write.update.id, revision: 0, live: false, answer });
            }
            self.dirty = true;
        }
        if let Some(wait) = self.answers(now, |_, asked| asked.live) {
            return Some(wait);
        }
        self.rollout.state = State::Undone;
        None
    }

    /// Waits for hosts that were asked in this state and are `waited` for, and have not answered; when it is too late,
    /// that is their answer.
    fn answers(&mut self, now: Duration, waited: impl Fn(&String, &Asked) -> bool) -> Option<Step> {
        let (state, seconds) = (self.rollout.state, self.rollout.wait_secs);
        let asked = |progress: &Progress| match state {
            State::Checking => progress.check.clone(),
            State::Undoing => progress.undo.clone(),
            _ => progress.apply.clone(),
        };
        let waiting = self.rollout.hosts.iter().filter(|(host, progress)| {
            asked(progress).is_some_and(|asked| asked.answer.is_none() && waited(host, &asked))
        });
        let waiting: Vec<String> = waiting.map(|(host, _)| host.clone()).collect();
        if waiting.is_empty() {
            return None;
        }
        let until = self.since(now, Waiting::Answers) + Duration::from_secs(seconds);
        if now < until {
            return Some(Step::Wait(until));
        }
        let problem = format!("did not answer within {seconds} s");
        for host in waiting {
            let Some(progress) = self.rollout.hosts.get_mut(&host) else { continue };
            let asked = match state {
                State::Checking => &mut progress.check,
                State::Undoing => &mut progress.undo,
                _ => &mut progress.apply,
            };
            if let Some(asked) = asked {
                asked.answer = Some(Answer { outcome: Ended::Silent, problem: problem.clone() });
            }
        }
        self.dirty = true;
        None
    }

    /// Since when this is waited for.
    fn since(&mut self, now: Duration, waiting: Waiting) -> Duration {
        let (state, stage) = (self.rollout.state, self.rollout.stage);
        match self.began {
            Some((known, at, what, since)) if (known, at, what) == (state, stage, waiting) => since,
            _ => {
                self.began = Some((state, stage, waiting, now));
                now
            }
        }
    }

    /// Whether somebody wanted it to end; then it does.
    fn aborted(&mut self) -> bool {
        let Some(abort) = self.rollout.abort.clone() else { return false };
        let note = if abort.note.is_empty() { String::new() } else { format!(": {}", abort.note) };
        self.stop(Cause::Aborted, None, &format!("aborted by {} at {}{note}", abort.by, abort.time));
        true
    }

    /// Whether an answer undoes it; then it is undone.
    fn stop_for_answer(&mut self) -> bool {
        let abort_on = self.rollout.abort_on;
        let bad = |answer: &&Answer| match answer.outcome {
            Ended::Applied | Ended::Conflict => false,
            Ended::Rejected => abort_on == AbortOn::Rejected,
            Ended::Failed | Ended::Silent => true,
        };
        let found = self.rollout.hosts.iter().find_map(|(host, progress)| {
            let answer = progress.apply.as_ref()?.answer.as_ref().filter(bad)?;
            Some((host.clone(), answer.clone()))
        });
        let Some((host, answer)) = found else { return false };
        self.stop(cause(answer.outcome), Some(&host), &answer.problem);
        true
    }

    /// Ends it for this reason; what was written is undone.
    fn stop(&mut self, cause: Cause, host: Option<&str>, problem: &str) {
        let written = self.rollout.hosts.values().any(|progress| progress.apply.is_some());
        self.rollout.state = if written { State::Undoing } else { State::Refused };
        let problem = shortened(problem, REASON_LIMIT);
        self.rollout.reason = Some(Reason { cause, host: host.map(str::to_owned), problem });
        self.dirty = true;
    }

    /// The new values of a host.
    fn forward(&self, host: &str, live: bool) -> HostWrite {
        let key = |path: &String| KeyWrite {
            path: path.clone(),
            expected: self.rollout.old[path].revision,
            value: self.rollout.changes.get(path).cloned().flatten().map(|value| value.to_string()),
        };
        let keys = self.rollout.paths(host).map(key).collect();
        let update = self.update(&format!("stage-{}", self.rollout.stage), false, self.rollout.allow_reset);
        HostWrite { host: host.to_owned(), keys, update, undo: false, live }
    }

    /// The old values of a host, but where somebody else wrote.
    fn backward(&self, host: &str, live: bool) -> HostWrite {
        let written = self.rollout.hosts.get(host).and_then(|progress| progress.apply.as_ref());
        let written = written.map_or(0, |asked| asked.revision);
        let left = |path: &&String| !self.rollout.conflicts.iter().any(|conflict| conflict.key == **path);
        let key = |path: &String| KeyWrite {
            path: path.clone(),
            expected: if self.rollout.changes[path].is_some() { written } else { 0 },
            value: self.rollout.old[path].value.clone(),
        };
        let keys: Vec<KeyWrite> = self.rollout.paths(host).filter(left).map(key).collect();
        let going = keys.iter().any(|key| key.value.is_none());
        let update = self.update("undo", false, going || self.rollout.allow_reset);
        HostWrite { host: host.to_owned(), keys, update, undo: true, live }
    }

    /// An update of the roll-out. Its id is the same whoever drives.
    fn update(&self, what: &str, dry_run: bool, allow_reset: bool) -> Update {
        let Rollout { id, by, note, .. } = &self.rollout;
        let (by, note, rollout) = (by.clone(), note.clone(), Some(id.clone()));
        Update { id: format!("{id}-{what}"), by, note, dry_run, allow_reset, rollout }
    }
}

/// The end that a feedback tells of; `None`: it tells of none.
fn ended(feedback: &Feedback) -> Option<Answer> {
    let named = |component: &str, param: &str| match param {
        "" => component.to_owned(),
        param => format!("{component}.{param}"),
    };
    let rejected = feedback.rejected.iter().map(|rejected| {
        let value = rejected.value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default();
        format!("{}{value}: {}", named(&rejected.component, &rejected.param), rejected.problem)
    });
    let mixed = feedback.mixed.iter().filter(|mixed| mixed.runs == Runs::Old).map(|mixed| {
        let why = mixed.problem.as_deref().unwrap_or("was not switched over");
        format!("{}: {why}", named(&mixed.component, &mixed.param))
    });
    let outcome = match feedback.outcome {
        Outcome::Applied => Ended::Applied,
        Outcome::Rejected => Ended::Rejected,
        Outcome::Failed => Ended::Failed,
        Outcome::Superseded => return None,
    };
    let problems: Vec<String> = rejected.chain(mixed).collect();
    Some(Answer { outcome, problem: shortened(&problems.join("; "), TEXT_LIMIT) })
}

fn cause(outcome: Ended) -> Cause {
    if outcome == Ended::Rejected { Cause::Rejected } else { Cause::Failed }
}

/// One line of at most `limit` bytes.
fn shortened(text: &str, limit: usize) -> String {
    let text = text.replace(char::is_control, " ");
    match text.len() {
        length if length > limit => format!("{}…", &text[..text.floor_char_boundary(limit)]),
        _ => text,
    }
}

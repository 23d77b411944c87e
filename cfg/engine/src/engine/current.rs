//! The update that is being done: read, prepare, commit.

use std::collections::BTreeSet;

use cfg_schema::{Documents, Problem};

use super::{Engine, Output, ReadFailure, Reading, Waiting, answer};
use crate::engine::input::Broken;
use crate::feedback::{Feedback, Mixed, Outcome, Rejected, Runs};
use crate::running::{Configuration, Plan, pending};
use crate::secret;

/// The update that is being done.
#[derive(Debug)]
pub(super) struct Current<T> {
    waiting: Waiting,
    step: Step<T>,
}

impl<T> Current<T> {
    /// Whether what is stored was read and found good.
    pub(super) fn is_past_reading(&self) -> bool {
        !matches!(self.step, Step::Reading { .. })
    }
}

#[derive(Debug)]
enum Step<T> {
    /// `newest`: not at the revision of the update, which is forgotten.
    Reading {
        token: u64,
        newest: bool,
    },
    Preparing {
        token: u64,
        checked: Box<Ready<T>>,
    },
    Committing {
        token: u64,
        checked: Box<Ready<T>>,
    },
}

/// What was read and found good.
#[derive(Debug)]
struct Ready<T> {
    revision: i64,
    documents: Documents,
    plan: Plan<T>,
    unknown: Vec<String>,
    no_effect: Vec<String>,
    secrets: BTreeSet<String>,
}

impl<T: Configuration> Engine<T> {
    pub(super) fn begin(&mut self, waiting: Waiting, outputs: &mut Vec<Output<T>>) {
        let revision = Some(waiting.revision);
        self.read_for(waiting, revision, outputs);
    }

    fn read_for(&mut self, waiting: Waiting, revision: Option<i64>, outputs: &mut Vec<Output<T>>) {
        let token = self.token();
        let rollout = waiting.update.rollout.clone().filter(|_| waiting.update.dry_run);
        outputs.push(Output::Read { token, revision, rollout });
        self.current = Some(Current { waiting, step: Step::Reading { token, newest: revision.is_none() } });
    }

    /// Takes the current update if `chosen` knows its step.
    fn take_current(&mut self, chosen: impl Fn(&Step<T>) -> bool) -> Option<Current<T>> {
        self.current.take_if(|current| chosen(&current.step))
    }

    pub(super) fn read(
        &mut self,
        token: u64,
        result: Result<Reading, ReadFailure>,
        outputs: &mut Vec<Output<T>>,
    ) {
        let is_this =
            |step: &Step<T>| matches!(step, Step::Reading { token: expected, .. } if *expected == token);
        let Some(Current { waiting, step }) = self.take_current(is_this) else { return };
        match result {
            Ok(reading) => self.check(waiting, &reading, outputs),
            Err(ReadFailure::Away) => {
                self.connected = false;
                self.queue.push(waiting);
            }
            Err(ReadFailure::Compacted) if matches!(step, Step::Reading { newest: false, .. }) => {
                self.read_for(waiting, None, outputs);
            }
            Err(ReadFailure::Compacted) => {
                let problem = "what is stored changes faster than it can be read; apply again";
                let revision = waiting.revision;
                self.refuse(&waiting, revision, vec![answer::of_update(problem.to_owned())]);
            }
        }
    }

    /// Checks what was read. Has no side effects on components.
    fn check(&mut self, waiting: Waiting, reading: &Reading, outputs: &mut Vec<Output<T>>) {
        let Reading { revision, snapshot, frozen } = reading;
        self.freeze(*revision, *frozen);
        if *frozen {
            let mut feedback = self.feedback(&waiting, Outcome::Rejected);
            feedback.frozen = true;
            feedback.rejected = vec![answer::frozen()];
            self.finish(&waiting, *revision, feedback);
            return;
        }
        let laid_over = waiting.update.dry_run && waiting.update.rollout.is_some();
        let resolved = snapshot.resolve(&self.options.references);
        let Some(state) = &mut self.state else { return };
        let newest = *revision >= state.observed_revision && !laid_over;
        if newest {
            state.observed_revision = *revision;
        }
        let documents = match resolved {
            Ok(documents) => documents,
            Err(problems) => {
                if newest {
                    state.values.stored = None;
                }
                let problems = self.shown(&problems, &BTreeSet::new());
                self.refuse(&waiting, *revision, problems);
                return;
            }
        };
        let checked = state.values.check(&documents, waiting.update.allow_reset);
        if newest {
            state.values.observe(&checked);
        }
        let mut secrets = secret::secrets(&documents, self.declarations);
        secrets.extend(secret::secrets(&state.values.running.documents(), self.declarations));
        let plan = match checked.plan {
            Ok(plan) => plan,
            Err(problems) => {
                let mut feedback = self.feedback(&waiting, Outcome::Rejected);
                feedback.rejected = self.shown(&problems, &secrets);
                (feedback.unknown, feedback.no_effect) = (checked.unknown, checked.no_effect);
                self.finish(&waiting, *revision, feedback);
                return;
            }
        };
        let (unknown, no_effect) = (checked.unknown, checked.no_effect);
        let ready = Ready { revision: *revision, documents, plan, unknown, no_effect, secrets };
        self.prepare(waiting, ready, outputs);
    }

    /// Goes on with what is good.
    fn prepare(&mut self, waiting: Waiting, ready: Ready<T>, outputs: &mut Vec<Output<T>>) {
        if waiting.update.dry_run {
            let feedback = self.feedback_of(&waiting, &ready, Outcome::Applied);
            self.send(feedback);
        } else if ready.plan.changes.is_empty() {
            self.apply(&waiting, ready, &[], outputs);
        } else if self.late.len() >= self.options.late_prepares.max(1) {
            let problem = format!(
                "{} earlier updates are still being prepared, long after their deadline; restart the process if they \
                 do not end",
                self.late.len()
            );
            self.refuse(&waiting, ready.revision, vec![answer::of_update(problem)]);
        } else {
            let token = self.token();
            outputs.push(Output::Prepare {
                token,
                values: Box::new(ready.plan.next.clone()),
                changes: ready.plan.changes.clone(),
                deadline: self.options.prepare_deadline,
            });
            self.current =
                Some(Current { waiting, step: Step::Preparing { token, checked: Box::new(ready) } });
        }
    }

    pub(super) fn prepared(
        &mut self,
        token: u64,
        result: Result<(), Vec<Problem>>,
        outputs: &mut Vec<Output<T>>,
    ) {
        let is_this =
            |step: &Step<T>| matches!(step, Step::Preparing { token: expected, .. } if *expected == token);
        match (self.take_current(is_this), result) {
            (Some(Current { waiting, step: Step::Preparing { checked, .. } }), Ok(())) => {
                outputs.push(Output::Commit { token });
                self.current = Some(Current { waiting, step: Step::Committing { token, checked } });
            }
            (Some(Current { waiting, step: Step::Preparing { checked, .. } }), Err(problems)) => {
                let mut problems = self.shown(&problems, &checked.secrets);
                if problems.is_empty() {
                    problems.push(answer::of_update(
                        "a component cannot prepare it and does not say why".to_owned(),
                    ));
                }
                self.refuse(&waiting, checked.revision, problems);
            }
            // Too late, or the process ends: nobody waits for it.
            (_, Ok(())) => {
                self.late.remove(&token);
                outputs.push(Output::Abandon { token });
            }
            (_, Err(_)) => drop(self.late.remove(&token)),
        }
    }

    pub(super) fn prepare_timed_out(&mut self, token: u64, outputs: &mut Vec<Output<T>>) {
        let is_this =
            |step: &Step<T>| matches!(step, Step::Preparing { token: expected, .. } if *expected == token);
        let Some(Current { waiting, step: Step::Preparing { checked, .. } }) = self.take_current(is_this)
        else {
            return;
        };
        self.late.insert(token);
        outputs.push(Output::Abandon { token });
        let deadline = self.options.prepare_deadline;
        let problem =
            format!("the components were not prepared within {deadline:?}; nothing changed, apply again");
        self.refuse(&waiting, checked.revision, vec![answer::of_update(problem)]);
    }

    pub(super) fn committed(&mut self, token: u64, broken: &[Broken], outputs: &mut Vec<Output<T>>) {
        let is_this =
            |step: &Step<T>| matches!(step, Step::Committing { token: expected, .. } if *expected == token);
        if let Some(Current { waiting, step: Step::Committing { checked, .. } }) = self.take_current(is_this)
        {
            self.apply(&waiting, *checked, broken, outputs);
        }
    }

    /// Takes what was committed.
    fn apply(&mut self, waiting: &Waiting, ready: Ready<T>, broken: &[Broken], outputs: &mut Vec<Output<T>>) {
        let reason = |section: &str, key: &str| {
            let names =
                |broken: &&Broken| broken.section == section && (broken.key.is_empty() || broken.key == key);
            let broken = broken.iter().find(names)?;
            Some(secret::without(&broken.problem, &ready.secrets))
        };
        let mut feedback = self.feedback_of(waiting, &ready, Outcome::Applied);
        let mut mixed = Vec::new();
        if !broken.is_empty() {
            feedback.outcome = Outcome::Failed;
            feedback.applied.retain(|applied| reason(&applied.component, &applied.param).is_none());
            for change in &ready.plan.changes {
                let problem = reason(change.section, change.key);
                mixed.extend(problem.as_ref().map(|problem| answer::still_old(change, problem)));
                feedback.mixed.push(Mixed {
                    component: change.section.to_owned(),
                    param: change.key.to_owned(),
                    old: change.old.clone(),
                    new: change.new.clone(),
                    runs: if problem.is_some() { Runs::Old } else { Runs::New },
                    problem,
                });
            }
        }
        let Ready { revision, documents, plan, .. } = ready;
        let Some(state) = &mut self.state else { return };
        let names: Vec<(&str, &str)> =
            broken.iter().map(|broken| (broken.section.as_str(), broken.key.as_str())).collect();
        if let Err(problems) = state.values.commit(plan, &names) {
            // Cannot be: what was written is read again. If it is, it is said.
            feedback.outcome = Outcome::Failed;
            feedback.rejected = self.shown(&problems, &BTreeSet::new());
        } else {
            (state.running_revision, state.mixed) = (revision, mixed);
            (state.degraded, state.stale) = (Vec::new(), false);
            if broken.is_empty() {
                outputs.push(Output::Keep { revision, documents });
            }
        }
        self.finish(waiting, revision, feedback);
    }

    /// What an update changes, or would change.
    fn feedback_of(&self, waiting: &Waiting, ready: &Ready<T>, outcome: Outcome) -> Feedback {
        let mut feedback = self.feedback(waiting, outcome);
        feedback.applied = answer::applied(&ready.plan.changes);
        feedback.pending_restart = answer::pending(&pending(&ready.plan.next, &ready.plan.stored));
        feedback.unknown.clone_from(&ready.unknown);
        feedback.no_effect.clone_from(&ready.no_effect);
        feedback
    }

    /// Ends an update that was read at `revision` with problems.
    fn refuse(&mut self, waiting: &Waiting, revision: i64, problems: Vec<Rejected>) {
        let mut feedback = self.feedback(waiting, Outcome::Rejected);
        feedback.rejected = problems;
        self.finish(waiting, revision, feedback);
    }

    /// Ends an update that was read at `revision`.
    fn finish(&mut self, waiting: &Waiting, revision: i64, feedback: Feedback) {
        if !waiting.update.dry_run {
            self.cover(revision, waiting);
        }
        self.send(feedback);
    }

    /// Gives the current update back, unless it is being committed.
    pub(super) fn interrupt(&mut self, outputs: &mut Vec<Output<T>>) {
        let stops = |step: &Step<T>| !matches!(step, Step::Committing { .. });
        let Some(Current { waiting, step }) = self.take_current(stops) else { return };
        if let Step::Preparing { token, .. } = step {
            self.late.insert(token);
            outputs.push(Output::Abandon { token });
        }
        self.queue.push(waiting);
    }
}

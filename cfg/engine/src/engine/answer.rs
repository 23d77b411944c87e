//! Answers, and what the process says about itself.

use cfg_schema::{Change, MASK};

use super::{Engine, Waiting};
use crate::feedback::{Applied, Feedback, Outcome, Pending, Rejected};
use crate::running::Configuration;
use crate::{Status, fit};

/// Changes as a feedback has them.
pub(super) fn applied(changes: &[Change]) -> Vec<Applied> {
    let applied = |change: &Change| Applied {
        component: change.section.to_owned(),
        param: change.key.to_owned(),
        old: change.old.clone(),
        new: change.new.clone(),
    };
    changes.iter().map(applied).collect()
}

/// Changes that take effect at the next start.
pub(super) fn pending(changes: &[Change]) -> Vec<Pending> {
    let pending = |change: &Change| Pending {
        component: change.section.to_owned(),
        param: change.key.to_owned(),
        running: change.old.clone(),
        stored: change.new.clone(),
    };
    changes.iter().map(pending).collect()
}

/// A problem of an update as a whole.
pub(super) fn of_update(problem: String) -> Rejected {
    Rejected { component: "update".to_owned(), param: String::new(), value: None, problem }
}

impl<T: Configuration> Engine<T> {
    /// An answer to `waiting` that says nothing yet.
    pub(super) fn feedback(&self, waiting: &Waiting, outcome: Outcome) -> Feedback {
        let mut feedback = Feedback::new(&waiting.update.id, &self.process.node, waiting.revision, outcome);
        feedback.dry_run = waiting.update.dry_run;
        let took = self.now.saturating_sub(waiting.seen);
        feedback.took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let start = self.state.as_ref().map(|state| &state.start);
        feedback.at_start = start.is_some_and(|start| waiting.revision <= start.taken.max(start.refused));
        feedback
    }

    pub(super) fn send(&mut self, feedback: Feedback) {
        let (length, characters) = (self.options.list_length, self.options.text_length);
        let feedback = fit::fit(feedback, length, characters, self.options.feedback_bytes);
        self.outbox.push(feedback, self.options.feedback_kept);
    }

    pub(super) fn supersede(&mut self, waiting: &Waiting, by: &str) {
        let mut feedback = self.feedback(waiting, Outcome::Superseded);
        feedback.by = Some(by.to_owned());
        self.send(feedback);
    }

    pub(super) fn reject(&mut self, waiting: &Waiting, problems: Vec<Rejected>) {
        let mut feedback = self.feedback(waiting, Outcome::Rejected);
        feedback.rejected = problems;
        self.send(feedback);
    }

    /// Answers an update that stood before the process started: the start took or refused what it was about.
    pub(super) fn answer_at_start(&mut self, waiting: &Waiting) {
        let Some(state) = &self.state else { return };
        let start = &state.start;
        let taken = waiting.revision <= start.taken;
        let mut feedback = self.feedback(waiting, if taken { Outcome::Applied } else { Outcome::Rejected });
        if taken {
            feedback.applied.clone_from(&start.applied);
            feedback.no_effect.clone_from(&start.no_effect);
            feedback.unknown.clone_from(&start.unknown);
            feedback.pending_restart = pending(&state.values.pending());
        } else if start.frozen {
            feedback.frozen = true;
            feedback.rejected = vec![frozen()];
        } else {
            feedback.rejected.clone_from(&start.problems);
        }
        let revision = start.taken.max(start.refused);
        self.cover(revision, waiting);
        self.send(feedback);
    }

    /// The status, with this as the last feedback, and so many lost.
    pub(super) fn status_with(&mut self, last_feedback: Option<String>, feedback_lost: u64) -> Status {
        let process = &self.process;
        let mut status = Status {
            node: process.node.clone(),
            pid: process.pid,
            version: process.version.clone(),
            schema: self.schema.clone(),
            cluster_id: process.cluster_id,
            incarnation: process.incarnation,
            started: process.started.clone(),
            xmlrpc: process.xmlrpc.clone(),
            vrouter_cluster_id: process.vrouter_cluster_id.clone(),
            last_feedback,
            frozen: self.frozen.1,
            feedback_lost,
            ..Status::default()
        };
        if let Some(state) = &mut self.state {
            status.observed_revision = state.observed_revision;
            status.running_revision = state.running_revision;
            status.config_hash = state.hashes.of(&state.values.running);
            status.stored_hash = state.values.stored.as_ref().map(|stored| state.hashes.of(stored));
            status.degraded = state.degraded.iter().chain(&state.mixed).cloned().collect();
            status.pending_restart = pending(&state.values.pending());
            status.stale = state.stale;
        }
        fit::fit_status(&mut status, self.options.list_length, self.options.text_length);
        status
    }
}

/// Why a frozen process takes no update.
pub(super) fn frozen() -> Rejected {
    of_update("the process is frozen; thaw it, then apply again".to_owned())
}

/// A parameter that a component did not switch over.
pub(super) fn still_old(change: &Change, problem: &str) -> Rejected {
    let value = if change.old == MASK { MASK.to_owned() } else { change.old.clone() };
    Rejected {
        component: change.section.to_owned(),
        param: change.key.to_owned(),
        value: Some(value),
        problem: format!("still runs, and should be {}: {problem}", change.new),
    }
}

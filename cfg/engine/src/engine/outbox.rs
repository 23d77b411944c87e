//! What is to be written into the store.

use std::collections::VecDeque;

use crate::engine::input::Written;
use crate::{Feedback, Status};

/// A write that was not answered yet.
#[derive(Debug, PartialEq)]
enum InFlight {
    /// The first of the feedbacks, and the status that goes with it.
    Feedback(u64, Option<Box<Status>>),
    Status(u64, Box<Status>),
}

/// What is to be written next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// With the status that holds from then on.
    Feedback(Box<Feedback>, Option<Box<Status>>),
    Status(Box<Status>),
}

/// Feedbacks, in the order of the answers, and with the last of them the status. One write at a time: so a status never
/// speaks of a feedback that is not stored.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    feedbacks: VecDeque<Feedback>,
    in_flight: Option<InFlight>,
    /// The status as it is stored.
    stored: Option<Box<Status>>,
    /// The newest feedback that is stored.
    pub(super) last_feedback: Option<String>,
    /// Feedbacks that were given up.
    pub(super) lost: u64,
}

impl Outbox {
    /// Adds a feedback; beyond `most`, without the one that is being written, the oldest is given up.
    pub(super) fn push(&mut self, feedback: Feedback, most: usize) {
        self.feedbacks.push_back(feedback);
        let first = usize::from(matches!(self.in_flight, Some(InFlight::Feedback(..))));
        while self.feedbacks.len() > first + most.max(1) {
            self.feedbacks.remove(first);
            self.lost += 1;
        }
    }

    /// What comes next, under `token`; nothing while something is being written, or if the status is what is stored.
    /// `status` makes one with this as the last feedback, and so many lost. `busy`: an answer comes soon, and until
    /// then no status takes the place of one that is stored.
    pub(super) fn next(
        &mut self,
        token: u64,
        busy: bool,
        status: impl FnOnce(Option<String>, u64) -> Status,
    ) -> Option<Next> {
        if self.in_flight.is_some() {
            return None;
        }
        let busy = busy && self.stored.is_some();
        if let Some(feedback) = self.feedbacks.front() {
            let last = self.feedbacks.len() == 1 && !busy;
            let status = last.then(|| Box::new(status(Some(feedback.id.clone()), self.lost)));
            self.in_flight = Some(InFlight::Feedback(token, status.clone()));
            return Some(Next::Feedback(Box::new(feedback.clone()), status));
        }
        if busy {
            return None;
        }
        let status = Box::new(status(self.last_feedback.clone(), self.lost));
        if self.stored.as_ref() == Some(&status) {
            return None;
        }
        self.in_flight = Some(InFlight::Status(token, status.clone()));
        Some(Next::Status(status))
    }

    /// Takes the result of a write. Whether the store is away.
    pub(super) fn written(&mut self, token: u64, result: Written) -> bool {
        match self.in_flight.take() {
            Some(InFlight::Feedback(expected, status)) if expected == token => match result {
                Written::Done | Written::Alone => {
                    self.last_feedback = self.feedbacks.pop_front().map(|feedback| feedback.id);
                    if let Some(status) = status.filter(|_| result == Written::Done) {
                        self.stored = Some(status);
                    }
                }
                Written::Refused => {
                    self.feedbacks.pop_front();
                    self.lost += 1;
                }
                Written::Away => {}
            },
            // A refused status would be refused again; the next one that differs is tried.
            Some(InFlight::Status(expected, status)) if expected == token => {
                if result != Written::Away {
                    self.stored = Some(status);
                }
            }
            other => {
                self.in_flight = other;
                return false;
            }
        }
        result == Written::Away
    }

    /// What is stored as status is not known any more.
    pub(super) fn forget_status(&mut self) {
        self.stored = None;
    }

    /// Whether nothing is being written.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    fn feedback(id: &str) -> Feedback {
        Feedback::new(id, "n", 1, Outcome::Applied)
    }

    fn status(last_feedback: Option<String>, feedback_lost: u64) -> Status {
        Status { last_feedback, feedback_lost, ..Status::default() }
    }

    #[test]
    fn the_newest_are_kept_and_the_loss_is_counted() {
        let mut outbox = Outbox::default();
        outbox.push(feedback("0"), 2);
        assert!(
            matches!(outbox.next(1, false, status), Some(Next::Feedback(first, Some(_))) if first.id == "0")
        );
        assert_eq!(outbox.next(2, false, status), None, "one at a time");
        for id in ["1", "2", "3"] {
            outbox.push(feedback(id), 2);
        }
        assert!(outbox.written(1, Written::Away));
        let mut written = Vec::new();
        for token in 10.. {
            match outbox.next(token, false, status) {
                Some(Next::Feedback(feedback, status)) => written.push((feedback.id, status)),
                Some(Next::Status(_)) => panic!("it goes with the last answer"),
                None => break,
            }
            assert!(!outbox.written(99, Written::Done), "of something else");
            assert!(!outbox.written(token, Written::Done));
        }
        let last = Some(Box::new(status(Some("3".to_owned()), 1)));
        let expected = [("0", None), ("2", None), ("3", last)];
        assert_eq!(written, expected.map(|(id, status)| (id.to_owned(), status)));
        outbox.forget_status();
        assert!(matches!(outbox.next(50, false, status), Some(Next::Status(_))));
    }

    #[test]
    fn a_status_that_could_not_go_with_the_answer_follows_it() {
        let mut outbox = Outbox::default();
        outbox.push(feedback("0"), 9);
        assert!(matches!(outbox.next(1, false, status), Some(Next::Feedback(_, Some(_)))));
        assert!(!outbox.written(1, Written::Alone));
        let follows = Box::new(status(Some("0".to_owned()), 0));
        assert_eq!(outbox.next(2, false, status), Some(Next::Status(follows)));
        assert!(!outbox.written(2, Written::Done));
        assert_eq!(outbox.next(3, false, status), None);
    }

    #[test]
    fn a_status_waits_for_an_answer_that_comes_soon() {
        let mut outbox = Outbox::default();
        assert!(matches!(outbox.next(1, true, status), Some(Next::Status(_))), "none is stored");
        outbox.written(1, Written::Done);
        outbox.lost = 1;
        assert_eq!(outbox.next(2, true, status), None);
        outbox.push(feedback("0"), 9);
        assert!(matches!(outbox.next(3, true, status), Some(Next::Feedback(_, None))));
        outbox.written(3, Written::Done);
        assert!(matches!(outbox.next(4, false, status), Some(Next::Status(_))));
    }

    #[test]
    fn what_the_store_refuses_does_not_stop_the_rest() {
        let mut outbox = Outbox::default();
        outbox.push(feedback("0"), 9);
        assert!(outbox.next(1, false, status).is_some());
        assert!(!outbox.written(1, Written::Refused));
        assert!(
            matches!(outbox.next(2, false, status), Some(Next::Status(status)) if status.feedback_lost == 1)
        );
        assert!(!outbox.written(2, Written::Refused));
        assert_eq!(outbox.next(3, false, status), None, "not again and again");
    }
}

//! What the engine wants done.

use std::fmt;
use std::time::Duration;

use cfg_schema::{Change, Documents};

use crate::{Feedback, Status};

/// What the shell does. Tokens never repeat in the life of an engine. Values may be secret, so `Debug` leaves them out.
#[derive(Clone, PartialEq)]
pub enum Output<T> {
    /// Read all documents of the process, and what they refer to ([`Snapshot::missing`](crate::Snapshot::missing)), at
    /// one revision. Answered by [`Input::Read`](crate::Input::Read).
    Read {
        /// Of the answer.
        token: u64,
        /// The revision; `None`: the newest one.
        revision: Option<i64>,
        /// Lay the change set of this roll-out over what was read
        /// ([`Snapshot::lay_over`](crate::Snapshot::lay_over)), before asking what is missing.
        rollout: Option<String>,
    },
    /// Let all components do what can fail. Answered by [`Input::Prepared`](crate::Input::Prepared), and by
    /// [`Input::PrepareTimedOut`](crate::Input::PrepareTimedOut) if that takes longer than the deadline.
    Prepare {
        /// Of the answers, of the commit and of the abandoning.
        token: u64,
        /// What is to run.
        values: Box<T>,
        /// What is different from what runs. At least one, all of them dynamic.
        changes: Vec<Change>,
        /// Time that this may take.
        deadline: Duration,
    },
    /// Let all components switch over. Answered by [`Input::Committed`](crate::Input::Committed).
    Commit {
        /// Of the prepare.
        token: u64,
    },
    /// Drop what was prepared; if the prepare still goes on, stop it if that is possible.
    Abandon {
        /// Of the prepare.
        token: u64,
    },
    /// Store a feedback under its id, then delete those that [`trim`](crate::trim) names. Answered by
    /// [`Input::Written`](crate::Input::Written).
    WriteFeedback {
        /// Of the answer.
        token: u64,
        /// The feedback.
        feedback: Box<Feedback>,
        /// The status that holds once the feedback is stored, to be stored in the same transaction. If it cannot be, or
        /// not at once, the feedback goes without it: [`Written::Alone`](crate::Written::Alone).
        status: Option<Box<Status>>,
    },
    /// Store a status: as `status` under the lease and as `last_status`, in one transaction. Answered by
    /// [`Input::Written`](crate::Input::Written).
    WriteStatus {
        /// Of the answer.
        token: u64,
        /// The status.
        status: Box<Status>,
    },
    /// Make these the last good copy. They are valid, and were committed.
    Keep {
        /// Their revision.
        revision: i64,
        /// The documents, references resolved.
        documents: Documents,
    },
    /// Nothing is left to do: end.
    Exit,
}

impl<T> fmt::Debug for Output<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Read { token, revision, rollout } => {
                let mut shown = f.debug_struct("Read");
                shown.field("token", token).field("revision", revision).field("rollout", rollout).finish()
            }
            Output::Prepare { token, values: _, changes, deadline } => {
                let mut shown = f.debug_struct("Prepare");
                shown.field("token", token).field("changes", changes).field("deadline", deadline).finish()
            }
            Output::Commit { token } => f.debug_struct("Commit").field("token", token).finish(),
            Output::Abandon { token } => f.debug_struct("Abandon").field("token", token).finish(),
            Output::WriteFeedback { token, feedback, status } => {
                let mut shown = f.debug_struct("WriteFeedback");
                shown.field("token", token).field("feedback", feedback).field("status", status).finish()
            }
            Output::WriteStatus { token, status } => {
                f.debug_struct("WriteStatus").field("token", token).field("status", status).finish()
            }
            Output::Keep { revision, documents } => {
                let documents: Vec<&String> = documents.keys().collect();
                f.debug_struct("Keep").field("revision", revision).field("documents", &documents).finish()
            }
            Output::Exit => f.write_str("Exit"),
        }
    }
}

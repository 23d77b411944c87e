//! What the engine wants done.

use std::time::Duration;

use cfg_schema::{Change, Documents};

use crate::{Feedback, Status};

/// What the shell does. Tokens never repeat in the life of an engine.
#[derive(Clone, Debug, PartialEq)]
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

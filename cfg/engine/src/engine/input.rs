//! What the engine is told.

use std::fmt;

use cfg_schema::{Documents, Problem};

use crate::references::Snapshot;

/// Whose update key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// That of the process alone: `…/hosts/<id>/update`.
    Host,
    /// That of its vPool: `/ovs/vpools/<guid>/update`.
    VPool,
}

/// An update key that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateKey {
    /// Which one.
    pub scope: Scope,
    /// Its mod revision.
    pub revision: i64,
    /// Its value, as it is.
    pub value: Vec<u8>,
}

/// An update key that stands in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The key.
    pub key: UpdateKey,
    /// Whether there is a feedback of this process whose `revision` is the key's mod revision.
    pub answered: bool,
}

/// Where the values come from that a process starts with.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// From the store, as they are stored at [`Start::revision`].
    Store,
    /// From the last good copy.
    LastGood {
        /// The revision at which the store was read; `None`: it did not answer.
        observed: Option<i64>,
        /// What is wrong with what is stored; nothing if the process is frozen.
        problems: Vec<Problem>,
    },
}

/// How a process starts. Values may be secret, so `Debug` leaves them out.
#[derive(Clone, PartialEq)]
pub struct Start<T> {
    /// What it runs with. The shell checked it, also against the identity of the data directory.
    pub values: T,
    /// The documents that say so, references resolved.
    pub documents: Documents,
    /// Their revision.
    pub revision: i64,
    /// Where they are from.
    pub source: Source,
    /// What ran before, from the last good copy, if the process starts with something else.
    pub previous: Option<T>,
    /// Whether the process is frozen.
    pub frozen: bool,
    /// The update keys that stand in the store, read at the revision at which it was read; none if it did not answer.
    pub standing: Vec<Standing>,
}

impl<T> fmt::Debug for Start<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Start");
        shown.field("revision", &self.revision).field("source", &self.source).field("frozen", &self.frozen);
        shown.field("standing", &self.standing).finish_non_exhaustive()
    }
}

/// What was read for a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The revision at which all of it was read.
    pub revision: i64,
    /// The documents, and what they refer to; a roll-out's change set is laid over it if [`Output::Read`] asked for it.
    ///
    /// [`Output::Read`]: crate::Output::Read
    pub snapshot: Snapshot,
    /// Whether the process was frozen at that revision.
    pub frozen: bool,
}

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadFailure {
    /// The revision is forgotten.
    Compacted,
    /// The store does not answer. The update is tried again after [`Input::Listed`].
    Away,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of it is stored.
    Done,
    /// The feedback is stored, and the status that should go with it is not.
    Alone,
    /// The store does not answer, and it may be stored or not. It is written again after [`Input::Listed`].
    Away,
    /// The store refuses it, and would do so again.
    Refused,
}

/// A parameter that still has its old value after a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The section.
    pub section: String,
    /// The key; empty: all that changed in the section.
    pub key: String,
    /// Why.
    pub problem: String,
}

/// What happens to a process. Everything that the engine asked for with a token is answered once.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<T> {
    /// The process starts with these values. Update keys may be seen before.
    Started(Box<Start<T>>),
    /// An update key was written.
    Seen(UpdateKey),
    /// Answers [`Output::Read`](crate::Output::Read).
    Read(u64, Result<Reading, ReadFailure>),
    /// Answers [`Output::Prepare`](crate::Output::Prepare), also after its deadline. With `Ok` the shell holds a guard.
    Prepared(u64, Result<(), Vec<Problem>>),
    /// The deadline of a prepare passed before it ended.
    PrepareTimedOut(u64),
    /// Answers [`Output::Commit`](crate::Output::Commit); every component that did not do what its prepare promised.
    Committed(u64, Vec<Broken>),
    /// Answers [`Output::WriteFeedback`](crate::Output::WriteFeedback) and
    /// [`Output::WriteStatus`](crate::Output::WriteStatus).
    Written(u64, Written),
    /// Stored documents changed without an update, or were not read at the start: what they are now.
    Observed(Reading),
    /// The process is frozen or thawed, since this revision.
    Frozen(i64, bool),
    /// The store does not answer. Nothing is asked of it until [`Input::Listed`].
    StoreAway,
    /// The store answers, and these update keys stand there now: after it was away, and after a watch that missed
    /// revisions.
    Listed(Vec<Standing>),
    /// What was written as status is gone: its lease ended.
    StatusLost,
    /// The process ends. No further update is begun.
    Shutdown,
}

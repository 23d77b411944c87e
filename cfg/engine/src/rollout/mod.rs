//! A roll-out: a change of several hosts' documents that reaches them in stages, and is undone when it goes wrong.
//!
//! [`Rollout`] is the document that stands in the store (`docs/formats/rollout.md`); [`Driver`] is what whoever carries
//! it out has beside it. A driver is told what is heard of the hosts and what time it is, and says what to do
//! ([`Step`]). The shell reads and writes; a driver that dies leaves the document, with which another one goes on.
//!
//! Invariants:
//! 1. Each step that writes to hosts stores the document in the same transaction, and that compares the revision of the
//!    document as it was read. So the document is never behind what was done.
//! 2. A revision that is 0 in a stored document is the one at which that document was stored.
//! 3. A key is written only where it has the revision that is expected: before the roll-out the recorded one, for the
//!    undo that of the roll-out's own write.
//! 4. Before a host of one stage is written, every host of the stages before that lived has answered.
//! 5. States only go on: checking → applying → done, checking → refused, applying → undoing → undone.

mod document;
mod driver;
mod read;

pub use document::{
    Abort, AbortOn, Answer, Asked, Cause, Conflict, Ended, Old, Progress, ROLLOUT_VERSION, Reason, Rollout,
    State,
};
pub use driver::{Driver, Heard, HostWrite, KeyWrite, Step};

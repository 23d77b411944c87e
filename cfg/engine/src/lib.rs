//! What a process does with its configuration: the core of an update, without I/O, clock and randomness.
//!
//! [`Engine`] is a state machine, one for each process. It is told what happened ([`Input`]) and says what to do
//! ([`Output`]); a shell beside it has the store, the components and the clock. Below it, and of use without it:
//! [`Snapshot`] resolves references, [`Values`] knows what runs and what is stored, [`Update`], [`Feedback`] and
//! [`Status`] are what stands in the store (`docs/formats/config-update.md`). Beside it stands what brings a change to
//! several hosts in stages: a [`Rollout`] and its [`Driver`].
//!
//! A service makes its parameters a [`Configuration`] by one line:
//!
//! ```
//! # mod parameters { cfg_schema::parameters! {
//! #     /// All.
//! #     pub struct Parameters;
//! #     /// A section.
//! #     section kettle: Kettle {
//! #         /// A number.
//! #         count: u32 = 1, Dynamic;
//! #     }
//! # } }
//! # use parameters::Parameters;
//! # use cfg_schema::Problem;
//! /// What values that are valid on their own cannot be together.
//! fn check(parameters: &Parameters) -> Vec<Problem> {
//!     Vec::new()
//! }
//! cfg_engine::configuration!(Parameters, check);
//! ```
//!
//! # A shell
//!
//! One task owns the engine and takes inputs out of one bounded queue; everything that lasts (a call of the store, a
//! prepare) is a task of its own that puts its end into that queue. A loop of it: take an input, call
//! [`Engine::handle`] with it and the time since the start, carry out the outputs in their order.
//!
//! **Start.** Read all documents below `config/`, the frozen key and both update keys at one revision; decide by the
//! table "Starting" what to run with; then [`Input::Started`]. An update key is answered if a feedback has its mod
//! revision as `revision`. If the store did not answer, `standing` is empty and the engine asks nothing of it until
//! [`Input::Listed`]. After a start on the last good copy with a store that answers, [`Input::Observed`] says what is
//! stored.
//!
//! **Watches**, each from the revision behind the start's: both update keys ([`Input::Seen`] for each put, none for a
//! deletion), the frozen key ([`Input::Frozen`]), and the documents with all targets of the last reading (on a change,
//! a pause, then a read of the newest revision and [`Input::Observed`]). The order between watches does not matter. A
//! watch that begins with a listing (it was compacted away), and the first answer after [`Input::StoreAway`],
//! [`ReadFailure::Away`] or [`Written::Away`]: read the update keys and the feedbacks, then [`Input::Listed`], and
//! [`Input::Frozen`] as it is there.
//!
//! **Outputs.**
//!
//! * [`Output::Read`]: list `config/` and get the frozen key at the revision; put a [`Snapshot`] together, lay the
//!   roll-out's change set over it if one is named, then read what [`Snapshot::missing`] names, at the same revision,
//!   until that is nothing.
//! * [`Output::Prepare`]: start the components' prepares and a timer. The end is [`Input::Prepared`], with a guard kept
//!   under the token; the timer is [`Input::PrepareTimedOut`], and the prepare may go on.
//! * [`Output::Commit`]: take the guard of the token and commit it; [`Input::Committed`] names what broke its word.
//! * [`Output::Abandon`]: drop the guard of the token, or tell the prepare to stop; its end is told all the same.
//! * [`Output::WriteFeedback`]: put `feedback/<id>`, and with the same transaction the status that comes with it, if
//!   the lease stands and both fit; then delete what [`trim`] names; [`Input::Written`].
//! * [`Output::WriteStatus`]: put `status` on the lease and `last_status`, in one transaction; [`Input::Written`].
//!   Without a lease get one before; when a keep-alive finds it gone, [`Input::StatusLost`].
//! * [`Output::Keep`]: write the last good copy. It may end after the feedback is stored, so that nobody waits for it;
//!   but not much later, and a later one is never overwritten by an earlier one. A crash between both leaves the copy
//!   before, which was good too, and which a start uses only if the store does not answer.
//! * [`Output::Exit`]: end the loop, revoke the lease.
//!
//! `cfg_client::Error::Compacted` is [`ReadFailure::Compacted`]; `Unreachable` and `Denied` are `Away`; documents that
//! are no JSON or too large are [`Snapshot::problems`], with the section.
//!
//! Everything with a token is answered exactly once, whatever happens; the engine ignores what it does not wait for any
//! more. It logs nothing: what is worth a line is in the feedback and the status, and neither they nor `Debug` of an
//! output show a secret. Inputs may hold what a component says, which is not masked before the engine has it.
#![forbid(unsafe_code)]

mod engine;
mod feedback;
mod fit;
mod options;
mod references;
mod rollout;
mod running;
mod secret;
mod status;
mod update;

pub use engine::{
    Broken, Engine, Input, Output, ReadFailure, Reading, Scope, Source, Standing, Start, UpdateKey, Written,
};
pub use feedback::{
    Applied, Feedback, KEPT, KEPT_RECENT, Kept, Mixed, Outcome, Pending, RECENT, Rejected, Runs, answer, trim,
};
pub use options::Options;
pub use references::{Limits, REF, Snapshot, Targets};
pub use rollout::{
    Abort, AbortOn, Answer, Asked, Cause, Conflict, Driver, Ended, Heard, HostWrite, KeyWrite, Old, Progress,
    ROLLOUT_VERSION, Reason, Rollout, State, Step,
};
pub use running::{Checked, Configuration, Plan, Values, with_waiting};
pub use status::{Process, Status};
pub use update::{ID_LIMIT, Malformed, Update, is_id};

/// What [`configuration!`] needs in the crates that use it.
#[doc(hidden)]
pub use cfg_schema as schema;

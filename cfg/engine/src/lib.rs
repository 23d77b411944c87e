//! What a process does with its configuration: the core of an update, without I/O.
#![forbid(unsafe_code)]

mod engine;
mod feedback;
mod fit;
mod options;
mod references;
mod running;
mod secret;
mod status;
mod update;

pub use engine::{
    Broken, Engine, Input, Output, ReadFailure, Reading, Scope, Source, Standing, Start, UpdateKey, Written,
};
pub use feedback::{
    Applied, Feedback, KEPT, KEPT_RECENT, Kept, Mixed, Outcome, Pending, RECENT, Rejected, Runs, trim,
};
pub use options::Options;
pub use references::{Limits, REF, Snapshot, Targets};
pub use running::{Checked, Configuration, Plan, Values};
pub use status::{Process, Status};
pub use update::{ID_LIMIT, Malformed, Update, is_id};

/// What [`configuration!`] needs in the crates that use it.
#[doc(hidden)]
pub use cfg_schema as schema;

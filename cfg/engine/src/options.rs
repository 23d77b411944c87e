//! Every bound of the engine.

use std::time::Duration;

use crate::references::Limits;

/// Bounds; what exceeds one is answered with an error or said to be left out, never dropped in silence.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Time that components have to prepare an update. The shell measures it. Default: 30 s.
    pub prepare_deadline: Duration,
    /// Prepares that did not end by their deadline and still go on; with as many no further update is prepared.
    /// Default: 4.
    pub late_prepares: usize,
    /// Updates that wait. Beyond it those that a newer one covers are answered at once, then the oldest dry runs are
    /// refused. Default: 64.
    pub waiting: usize,
    /// Feedbacks that are kept while the store does not take them; of more the newest. Default: 64.
    pub feedback_kept: usize,
    /// Bytes of the JSON of a feedback; of one that is larger the lists are cut. Default: 512 KiB.
    pub feedback_bytes: usize,
    /// Entries of each list of a feedback or a status. Default: 256.
    pub list_length: usize,
    /// Characters of a value, a name or a problem in a feedback or a status. Default: 1024.
    pub text_length: usize,
    /// Bytes of the value of an update key. Default: 64 KiB.
    pub update_bytes: usize,
    /// Of references.
    pub references: Limits,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            prepare_deadline: Duration::from_secs(30),
            late_prepares: 4,
            waiting: 64,
            feedback_kept: 64,
            feedback_bytes: 512 << 10,
            list_length: 256,
            text_length: 1024,
            update_bytes: 64 << 10,
            references: Limits::default(),
        }
    }
}

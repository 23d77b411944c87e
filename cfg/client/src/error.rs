//! Errors by what the caller does next.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a configuration could not be read.
#[derive(Debug, Error)]
pub enum Error {
    /// Fix the URL.
    #[error("configuration URL {url:?}: {problem}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// Use another kind of URL.
    #[error("configuration URL {url:?}: {scheme}:// is not available in this build yet; use file:///DIR")]
    Unavailable {
        /// As it was given.
        url: String,
        /// The part before `://`.
        scheme: String,
    },
    /// There is no configuration: do not serve.
    #[error("there is no configuration at {place}")]
    Absent {
        /// Path or key that does not exist.
        place: String,
    },
    /// Fix the document.
    #[error("{place}, line {line}, column {column}: {problem}")]
    Syntax {
        /// Path or key of the document.
        place: String,
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1; 0: behind the last line's end.
        column: usize,
        /// What the parser expected.
        problem: String,
    },
    /// Make it smaller.
    #[error("{place}: {problem}")]
    TooLarge {
        /// Path or key.
        place: String,
        /// What limit was exceeded.
        problem: String,
    },
    /// Try again later; nothing is known of the configuration.
    #[error("{place} cannot be read: {source}")]
    Unreachable {
        /// The path or address.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// Try again: it was being changed all the time it was read.
    #[error("{} is being changed; try again", .path.display())]
    Changing {
        /// The directory.
        path: PathBuf,
    },
}

//! Errors by what the caller does next.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a call did not give what was asked for.
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
    /// Fix the key.
    #[error("key {key:?}: {problem}")]
    Key {
        /// As it was given.
        key: String,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// It is not there, and that is certain. Of a whole configuration: do not serve.
    #[error("there is nothing at {place}")]
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
        /// Path, key or request.
        place: String,
        /// What limit was exceeded.
        problem: String,
    },
    /// Try again later; nothing was learnt, and nothing was changed.
    #[error("{place} is not reachable: {problem}")]
    Unreachable {
        /// The path or the addresses.
        place: String,
        /// What was met last.
        problem: String,
    },
    /// See to the rights, or to the certificates.
    #[error("{place} denies it: {problem}")]
    Denied {
        /// The path or the addresses.
        place: String,
        /// What the store said.
        problem: String,
    },
    /// Read again: that revision is forgotten.
    #[error("the revision asked for was compacted away; read again")]
    Compacted,
    /// Read again and decide again: someone else changed what the write was based on. Nothing was written.
    #[error("someone else changed it meanwhile")]
    Conflict,
    /// Do not repeat it as it is: the store understood and said no.
    #[error("the store refuses it: {problem}")]
    Refused {
        /// The store's words.
        problem: String,
    },
    /// Look before trying again: the write may or may not have happened, or may yet.
    #[error("it is not known whether the write happened: {problem}")]
    Unknown {
        /// What was met.
        problem: String,
    },
    /// Something else answers at this address.
    #[error("the store is cluster {found:016x}, expected was {expected:016x}; is the address right?")]
    OtherCluster {
        /// The cluster known so far.
        expected: u64,
        /// The one that answered.
        found: u64,
    },
    /// The copy is not used; get a new one from the store.
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What check failed.
        problem: String,
    },
    /// Try again: it was being changed all the time it was read.
    #[error("{place} is being changed; try again")]
    Changing {
        /// The directory, or what was listed.
        place: String,
    },
}

impl Error {
    /// An answer of the operating system about `place`.
    pub(crate) fn io(place: &dyn std::fmt::Display, error: &io::Error) -> Error {
        let place = place.to_string();
        match error.kind() {
            io::ErrorKind::NotFound => Error::Absent { place },
            io::ErrorKind::PermissionDenied => Error::Denied { place, problem: error.to_string() },
            _ => Error::Unreachable { place, problem: error.to_string() },
        }
    }

    /// What the parser of JSON says of `place`.
    pub(crate) fn syntax(place: String, error: &serde_json::Error) -> Error {
        let (line, column) = (error.line(), error.column());
        let mut problem = error.to_string();
        // The parser appends the position, which has its own fields here.
        if let Some(end) = problem.rfind(" at line ") {
            problem.truncate(end);
        }
        Error::Syntax { place, line, column, problem }
    }
}

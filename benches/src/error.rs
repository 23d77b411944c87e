//! What can go wrong, by what the harness does next.

use std::path::{Path, PathBuf};

/// An error of the harness.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// SIGINT or SIGTERM: stop everything and leave.
    #[error("interrupted")]
    Interrupted,
    /// The request cannot be carried out at all: fix the arguments or the machine.
    #[error("{0}")]
    Setup(String),
    /// One peer does not work: report it and go on without it.
    #[error("{peer}: {problem}")]
    Peer {
        /// Name of the peer.
        peer: String,
        /// What happened.
        problem: String,
    },
    /// One fio run failed: report the cell and go on.
    #[error("fio: {0}")]
    Fio(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl BenchError {
    /// A closure for `map_err` on the file operations of `path`.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> BenchError + use<> {
        let path = path.to_path_buf();
        move |source| BenchError::File { path, source }
    }

    /// An error that ends one peer's part of the run.
    pub(crate) fn peer(peer: &str, problem: impl Into<String>) -> BenchError {
        BenchError::Peer { peer: peer.to_string(), problem: problem.into() }
    }
}

/// Result of the harness.
pub(crate) type Result<T> = std::result::Result<T, BenchError>;

//! Why a log is not opened.

use std::io;
use std::path::PathBuf;

/// What is left to do about a member whose log is damaged.
const REMEDY: &str = "restore this member from the others: remove it from the store's cluster, empty its directory, \
                      let it join again";

/// Why a log is not opened. If it is damaged or foreign, its files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The options make no sense.
    #[error("the log's options: {0}")]
    Options(String),
    /// A file or the directory could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has it open.
    #[error("{}: another process has this log open: stop that one first", path.display())]
    InUse {
        /// Its directory.
        path: PathBuf,
    },
    /// Another program's file, or a later format.
    #[error("{}: this is no file that this version reads: {what}; use the version that wrote it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// It is not what was written.
    #[error("{}: damaged at byte {offset}: {what}; {REMEDY}", path.display())]
    Damaged {
        /// The file; one that is missing is named too.
        path: PathBuf,
        /// Where the part begins that is not believed, bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

//! What goes over the admin socket.

use serde::{Deserialize, Serialize};

use crate::driver::{VolumeError, VolumeInfo, VolumeState};
use crate::failure::Kind;

/// A volume as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// Name, also of the NBD export.
    pub(crate) name: String,
    /// Never used again, also if the name is.
    pub(crate) uuid: String,
    /// Bytes that clients see.
    pub(crate) size: u64,
    /// Whether it serves.
    pub(crate) state: State,
    /// Why it halted.
    pub(crate) halted_reason: Option<String>,
    /// Bytes it takes on the disk.
    pub(crate) stored_bytes: u64,
    /// NBD connections.
    pub(crate) connections: u32,
    /// Number of the data thread that serves it.
    pub(crate) data_thread: u32,
    /// Flushes that are answered without a sync, if some are.
    pub(crate) sync_ignore: Option<SyncIgnore>,
    /// Pages of its map in memory at most, if it has a bound of its own.
    pub(crate) map_pages_max: Option<u32>,
}

/// Which flushes are answered without a sync.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct SyncIgnore {
    /// In a row, at most.
    pub(crate) flushes: u32,
    /// After the last sync, at most.
    pub(crate) seconds: u32,
}

/// Whether a volume serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It does.
    Running,
    /// Something is wrong with it; its data is kept and not served.
    Halted,
}

impl From<VolumeInfo> for Volume {
    fn from(info: VolumeInfo) -> Volume {
        let (state, halted_reason) = match info.state {
            VolumeState::Running => (State::Running, None),
            VolumeState::Halted { reason } => (State::Halted, Some(reason)),
        };
        let VolumeInfo { name, uuid, size, stored_bytes, connections, data_thread, own, .. } = info;
        let own = own.unwrap_or_default();
        let ignore = SyncIgnore { flushes: own.sync_ignore.flushes, seconds: own.sync_ignore.seconds };
        Volume {
            name: name.to_string(),
            uuid,
            size,
            state,
            halted_reason,
            stored_bytes,
            connections,
            data_thread,
            sync_ignore: Some(ignore).filter(|ignore| ignore.flushes > 0 && ignore.seconds > 0),
            map_pages_max: own.map_pages,
        }
    }
}

/// Body of a creation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateVolume {
    /// Its name.
    pub(crate) name: String,
    /// Bytes; a multiple of 512.
    pub(crate) size: u64,
}

/// Body of a change.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeVolume {
    /// Bytes; a multiple of 512 and not less than now.
    pub(crate) size: u64,
}

/// Answer to a deletion.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deleted {
    /// The name, free again.
    pub(crate) deleted: String,
}

/// Body of every answer that is an error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    /// The error.
    pub(crate) error: ApiError,
}

/// An error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ApiError {
    /// What a program looks at.
    pub(crate) kind: ErrorKind,
    /// One line for people.
    pub(crate) message: String,
}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    /// The request is no request of this API.
    BadRequest,
    /// There is no such volume.
    NotFound,
    /// The name is taken.
    Exists,
    /// Clients are connected.
    InUse,
    /// A value is not allowed.
    Invalid,
    /// The disk is full.
    NoSpace,
    /// The volume is halted.
    Halted,
    /// The node starts or stops.
    Unavailable,
    /// The disk failed, or something else did.
    Failed,
}

impl ErrorKind {
    /// The HTTP status.
    pub(crate) fn status(self) -> u16 {
        match self {
            ErrorKind::BadRequest => 400,
            ErrorKind::NotFound => 404,
            ErrorKind::Exists | ErrorKind::InUse => 409,
            ErrorKind::Invalid => 422,
            ErrorKind::NoSpace => 507,
            ErrorKind::Unavailable => 503,
            ErrorKind::Halted | ErrorKind::Failed => 500,
        }
    }

    /// How the command ends.
    pub(crate) fn failure(self) -> Kind {
        match self {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Exists | ErrorKind::InUse => Kind::Conflict,
            ErrorKind::Invalid => Kind::Rejected,
            ErrorKind::Unavailable => Kind::Unreachable,
            ErrorKind::BadRequest | ErrorKind::NoSpace | ErrorKind::Halted | ErrorKind::Failed => {
                Kind::Failed
            }
        }
    }
}

impl ApiError {
    /// An error of `kind`.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> ApiError {
        ApiError { kind, message: message.into() }
    }

    /// The driver's error about the volume `name`, with what to do next.
    pub(crate) fn of_volume(name: &str, error: &VolumeError) -> ApiError {
        let (kind, message) = match error {
            VolumeError::NotFound => (
                ErrorKind::NotFound,
                format!("there is no volume {name}; `ovs volume list` shows which there are"),
            ),
            VolumeError::Exists => {
                (ErrorKind::Exists, format!("the volume {name} exists already; choose another name"))
            }
            VolumeError::InUse => {
                (ErrorKind::InUse, format!("the volume {name} is in use; disconnect its NBD clients first"))
            }
            VolumeError::Invalid(problem) => (ErrorKind::Invalid, format!("volume {name}: {problem}")),
            VolumeError::NoSpace(problem) => {
                (ErrorKind::NoSpace, format!("volume {name}: {problem}; free or add space, then try again"))
            }
            VolumeError::Halted(reason) => {
                (ErrorKind::Halted, format!("the volume {name} is halted: {reason}; the log has the place"))
            }
            VolumeError::Shutdown => (
                ErrorKind::Unavailable,
                "the node is shutting down; start it again, then try again".to_owned(),
            ),
            VolumeError::Io(problem) => {
                (ErrorKind::Failed, format!("volume {name}: {problem}; the node's log has more"))
            }
        };
        ApiError { kind, message }
    }
}

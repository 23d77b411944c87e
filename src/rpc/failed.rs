//! How a call ends that gives no result: an error of the original's list, a redirect, or a fault.

use dxr::{Fault, Value};
use volumedriver::driver::VolumeError;

use super::redirect::Address;
use super::values::{number, record, text};
use crate::admin::api::ApiError;
use crate::failure::Failure;

/// Fault of everything that is no error of [`Code`].
pub(super) const FAULT: i32 = 1;
/// Fault of requests that name no method, or are none.
pub(super) const NO_METHOD: i32 = -1;

/// Most characters of a name that there is not in an answer.
const SHOWN: usize = 255;

/// Errors that callers tell apart: `xmlrpc_error_code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// There is no such volume.
    ObjectNotFound = 1,
    /// It cannot be done, now or ever.
    InvalidOperation = 2,
    /// The path is taken.
    FileExists = 4,
    /// The disk is full.
    InsufficientResources = 5,
    /// The volume is not served, for good.
    VolumeHalted = 10,
    /// The configuration is wrong; `problems` says how. The original knows no such code.
    ConfigurationRejected = 11,
}

/// Why there is no result.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// An error that callers expect.
    Error(Code, String),
    /// Documents that are not taken, as structs.
    Rejected(String, Vec<Value>),
    /// Somebody else does it.
    Redirect(Address),
    /// The volume is not here: whose it is, is to be looked up.
    Elsewhere(String),
    /// The volume is here and not served: it may have another owner.
    Halted {
        /// The volume.
        volume: String,
        /// Why it is not.
        reason: String,
    },
    /// An argument is missing or wrong.
    Argument(String),
    /// Anything else.
    Other(String),
}

impl Failed {
    /// The driver's error about a volume.
    pub(super) fn of_volume(volume: &str, error: VolumeError) -> Failed {
        match error {
            VolumeError::NotFound => Failed::Elsewhere(volume.to_owned()),
            VolumeError::Halted(reason) => Failed::Halted { volume: volume.to_owned(), reason },
            VolumeError::Exists => {
                Failed::Error(Code::FileExists, format!("the volume {volume} exists already"))
            }
            VolumeError::InUse => {
                let message = format!("the volume {volume} is in use; disconnect its NBD clients first");
                Failed::Error(Code::InvalidOperation, message)
            }
            VolumeError::NoSpace(problem) => {
                let message = format!("the volume {volume}: {problem}; free or add space, then try again");
                Failed::Error(Code::InsufficientResources, message)
            }
            error @ (VolumeError::Invalid(_) | VolumeError::Shutdown | VolumeError::Io(_)) => {
                Failed::Other(format!("the volume {volume}: {error}"))
            }
        }
    }

    /// There is no such volume.
    pub(super) fn not_found(volume: &str) -> Failed {
        // What was sent for a name may be as long as a request.
        let more = if volume.chars().count() > SHOWN { "..." } else { "" };
        let name: String = volume.chars().take(SHOWN).collect();
        Failed::Error(Code::ObjectNotFound, format!("there is no volume {name}{more}"))
    }

    /// A result, of what callers expect to be one; else a fault of `method`.
    pub(super) fn answer(self, method: &str) -> Result<Value, Fault> {
        let error = |code: Code, message: String| {
            [("xmlrpc_error_code", number(code as u64)), ("xmlrpc_error_string", text(&message))]
        };
        match self {
            Failed::Error(code, message) => Ok(record(error(code, message))),
            Failed::Halted { volume, reason } => {
                Ok(record(error(Code::VolumeHalted, format!("the volume {volume} is halted: {reason}"))))
            }
            Failed::Elsewhere(volume) => Failed::not_found(&volume).answer(method),
            Failed::Rejected(message, problems) => {
                let [code, string] = error(Code::ConfigurationRejected, message);
                Ok(record([code, string, ("problems", Value::Array(problems))]))
            }
            Failed::Redirect(Address { host, port }) => Ok(record([
                ("xmlrpc_redirect_host", text(&host)),
                ("xmlrpc_redirect_port", text(&port.to_string())),
            ])),
            Failed::Argument(problem) => Err(fault(method, "XmlRpcException", &problem)),
            Failed::Other(problem) => Err(fault(method, "std::exception", &problem)),
        }
    }
}

/// A fault in the words of the original.
fn fault(method: &str, kind: &str, problem: &str) -> Fault {
    Fault::new(FAULT, format!("{method} Caught {kind}: {problem}"))
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Failed {
        Failed::Other(error.message)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed::Other(failure.to_string())
    }
}

impl From<cfg_client::Error> for Failed {
    fn from(error: cfg_client::Error) -> Failed {
        Failed::Other(error.to_string())
    }
}

//! Why something was refused, as a client learns it.

use super::MemberId;
use crate::mvcc::{self, Code};
use crate::words;

/// A status code of gRPC with a text. Clients of etcd tell errors apart by both, so the words are etcd's where it has
/// any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The status code.
    pub code: tonic::Code,
    /// What is wrong.
    pub text: String,
}

impl Refused {
    /// With any code.
    pub(crate) fn new(code: tonic::Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The request is wrong in itself.
    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(tonic::Code::InvalidArgument, text)
    }

    /// It cannot be done now; another try may work.
    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(tonic::Code::Unavailable, text)
    }

    /// The store is full.
    pub(crate) fn no_space() -> Self {
        Self::new(tonic::Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
    }

    /// There is no such member.
    pub(crate) fn no_member() -> Self {
        Self::new(tonic::Code::NotFound, "etcdserver: member not found")
    }

    /// Who asks was a member and is none any more.
    pub(crate) fn removed(id: MemberId) -> Self {
        Self::new(tonic::Code::PermissionDenied, format!("member {id:x} was removed from the cluster"))
    }

    /// Who has no vote makes the others work and does not help them: one is enough.
    pub(crate) fn too_many_learners() -> Self {
        Self::new(tonic::Code::FailedPrecondition, "etcdserver: too many learner members in cluster")
    }

    /// Two members cannot be reached at the same place.
    pub(crate) fn peer_urls_taken() -> Self {
        Self::new(tonic::Code::FailedPrecondition, "etcdserver: Peer URLs already exists")
    }
}

impl From<mvcc::Error> for Refused {
    fn from(error: mvcc::Error) -> Self {
        let code = match error.code() {
            Code::InvalidArgument => tonic::Code::InvalidArgument,
            Code::NotFound => tonic::Code::NotFound,
            Code::FailedPrecondition => tonic::Code::FailedPrecondition,
            Code::ResourceExhausted => tonic::Code::ResourceExhausted,
            Code::OutOfRange => tonic::Code::OutOfRange,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refused> for words::Refusal {
    fn from(refused: Refused) -> Self {
        Self { code: refused.code as i32, text: refused.text }
    }
}

impl From<words::Refusal> for Refused {
    fn from(refusal: words::Refusal) -> Self {
        Self::new(tonic::Code::from_i32(refusal.code), refusal.text)
    }
}

impl From<Refused> for tonic::Status {
    fn from(refused: Refused) -> Self {
        Self::new(refused.code, refused.text)
    }
}

impl From<tonic::Status> for Refused {
    fn from(status: tonic::Status) -> Self {
        Self::new(status.code(), status.message())
    }
}

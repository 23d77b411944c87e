//! What is refused, in etcd's words: clients tell errors apart by status code and text.

/// A status code of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request is wrong in itself.
    InvalidArgument,
    /// What is named does not exist.
    NotFound,
    /// The state of the store does not allow it.
    FailedPrecondition,
    /// A limit of the store is reached.
    ResourceExhausted,
    /// A revision or a time beyond what there is.
    OutOfRange,
}

/// Why a request was refused. Nothing of a refused request is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A request names no key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// A put that keeps value or lease of a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A put that keeps the value and brings one.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A put that keeps the lease and brings one.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More compares or operations than one transaction may have.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A transaction writes a key more than once.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// The revision is older than the last compaction.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision has not happened.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The id is taken.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// Longer than [`super::lease::TTL_MAX`].
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
}

impl Error {
    /// The status code that etcd sends with it.
    pub fn code(self) -> Code {
        match self {
            Error::EmptyKey
            | Error::KeyNotFound
            | Error::ValueProvided
            | Error::LeaseProvided
            | Error::TooManyOps
            | Error::DuplicateKey => Code::InvalidArgument,
            Error::Compacted | Error::FutureRevision | Error::LeaseTtlTooLarge => Code::OutOfRange,
            Error::LeaseNotFound => Code::NotFound,
            Error::LeaseExists => Code::FailedPrecondition,
        }
    }
}

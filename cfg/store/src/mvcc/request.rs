//! Requests and their answers. The fields are those of etcd's v3 API, without its wire format.

use bytes::Bytes;

use super::{KeyRange, KeyValue, LeaseId, Revision};

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The number of the version.
    Version,
    /// The revision of the creation.
    Create,
    /// The revision of the last write.
    Mod,
    /// The value.
    Value,
}

/// How a range is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// As it comes: by key.
    #[default]
    None,
    /// The least first.
    Ascend,
    /// The greatest first.
    Descend,
}

/// A read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// Which keys.
    pub keys: KeyRange,
    /// At most so many; 0: all.
    pub limit: u64,
    /// At which revision; 0: now.
    pub revision: Revision,
    /// In which order.
    pub order: SortOrder,
    /// By what.
    pub target: SortTarget,
    /// Without values.
    pub keys_only: bool,
    /// Only how many there are.
    pub count_only: bool,
    /// Not those written before; 0: no bound.
    pub min_mod_revision: Revision,
    /// Not those written after; 0: no bound.
    pub max_mod_revision: Revision,
    /// Not those created before; 0: no bound.
    pub min_create_revision: Revision,
    /// Not those created after; 0: no bound.
    pub max_create_revision: Revision,
}

impl RangeRequest {
    /// All of `keys`, now.
    pub fn of(keys: KeyRange) -> Self {
        Self { keys, ..Self::default() }
    }
}

/// The answer to a read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// Revision of the store when it was read.
    pub revision: Revision,
    /// What was found.
    pub kvs: Vec<KeyValue>,
    /// The limit left some out.
    pub more: bool,
    /// Keys of the range, whatever limit and bounds say.
    pub count: u64,
}

/// A write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    /// Where.
    pub key: Bytes,
    /// What.
    pub value: Bytes,
    /// Lease to hang it on; 0: none.
    pub lease: LeaseId,
    /// Give what was there.
    pub prev_kv: bool,
    /// Keep the value that is there.
    pub ignore_value: bool,
    /// Keep the lease that is there.
    pub ignore_lease: bool,
}

impl PutRequest {
    /// `value` at `key`, without a lease.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), ..Self::default() }
    }
}

/// The answer to a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResponse {
    /// Revision of the write.
    pub revision: Revision,
    /// What was there, if asked for.
    pub prev_kv: Option<KeyValue>,
}

/// A deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    /// Which keys.
    pub keys: KeyRange,
    /// Give what was there.
    pub prev_kv: bool,
}

/// The answer to a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    /// Revision of the store afterwards; a deletion of nothing makes none.
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: u64,
    /// What was there, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// How a compare relates what is there to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// The same.
    Equal,
    /// What is there is greater.
    Greater,
    /// What is there is less.
    Less,
    /// Not the same.
    NotEqual,
}

/// What is compared, and with what. A key that does not exist has 0 everywhere, and no value: a compare of values with
/// it is never true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// The number of the version.
    Version(i64),
    /// The revision of the creation.
    Create(Revision),
    /// The revision of the last write.
    Mod(Revision),
    /// The value.
    Value(Bytes),
    /// The lease.
    Lease(LeaseId),
}

/// A condition; over a range it must hold for each key of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which keys.
    pub keys: KeyRange,
    /// What is compared.
    pub target: CompareTarget,
    /// And how.
    pub result: CompareResult,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOp {
    /// A read; it sees the writes before it.
    Range(RangeRequest),
    /// A write.
    Put(PutRequest),
    /// A deletion.
    DeleteRange(DeleteRangeRequest),
    /// Nothing: wherever it stands the transaction is refused, with [`super::Error::KeyNotFound`] as by etcd.
    Nothing,
    /// A transaction inside; its conditions are judged before anything of the outer one is done.
    Txn(TxnRequest),
}

/// All of one list of operations, or all of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    /// The conditions.
    pub compare: Vec<Compare>,
    /// Done if all of them hold.
    pub success: Vec<RequestOp>,
    /// Done if one does not.
    pub failure: Vec<RequestOp>,
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseOp {
    /// To a read.
    Range(RangeResponse),
    /// To a write.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction inside.
    Txn(TxnResponse),
}

/// The answer to a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// Revision of the store afterwards; without a write it is the one before.
    pub revision: Revision,
    /// Whether the conditions held.
    pub succeeded: bool,
    /// To each operation of the list that was done.
    pub responses: Vec<ResponseOp>,
}

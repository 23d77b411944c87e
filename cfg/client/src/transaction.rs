//! Writes: all of a transaction or nothing, and only if what it was based on still holds.

use std::fs;

use bytes::Bytes;
use cfg_api::etcdserverpb as rpc;
use rpc::compare::{CompareResult, CompareTarget, TargetUnion};
use rpc::kv_client::KvClient;
use rpc::request_op::Request;
use rpc::response_op::Response;

use tokio::time::Instant;

use crate::store::Repeat;
use crate::{Error, KeyPath, KeyRange, Pair, Store};

/// Where the markers of changes are.
pub const MARKERS: &str = "/ovs/changes";

/// A marker of a change that was made.
const DONE: &[u8] = b"done";

/// A marker of a change that was given up, so that it is not made later.
const ABANDONED: &[u8] = b"abandoned";

/// What must hold, and what is written then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// All must hold, or nothing is written.
    pub compares: Vec<Compare>,
    /// Written together, at one revision. No key twice.
    pub writes: Vec<Write>,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// No key of the range exists.
    Absent(KeyRange),
    /// The key was last written at this revision; 0: it does not exist.
    Unchanged {
        /// The key.
        key: KeyPath,
        /// As read before.
        mod_revision: i64,
    },
    /// No key of the range was written after this revision. A key that was deleted since is not noticed.
    NotAfter {
        /// The keys.
        range: KeyRange,
        /// As of a listing.
        revision: i64,
    },
    /// The key has this value.
    Value {
        /// The key.
        key: KeyPath,
        /// The value.
        value: Bytes,
    },
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A key gets a value.
    Put {
        /// The key.
        key: KeyPath,
        /// The value.
        value: Bytes,
        /// The lease that the key hangs on; 0: none.
        lease: i64,
    },
    /// Keys go; that there are none is no failure.
    Delete(KeyRange),
}

impl Write {
    /// A key that hangs on no lease.
    pub fn put(key: &KeyPath, value: impl Into<Bytes>) -> Write {
        Write::Put { key: key.clone(), value: value.into(), lease: 0 }
    }
}

/// By what a change is found again when its answer was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A marker below [`MARKERS`], on a lease, is written beside.
    Marker,
    /// This key: the transaction creates it, nothing else ever does, and it stays for at least the time of a call.
    Key(KeyPath),
}

/// A random id, as text of a UUID.
///
/// # Errors
/// [`Error::Unreachable`] when the system gives none.
pub fn random_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = fs::read_to_string(path).map_err(|error| Error::io(&path, &error))?;
    Ok(text.trim().to_owned())
}

impl Store {
    /// Carries a transaction out and returns its revision. It is sent again only if it was surely not carried out.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a compare failed; [`Error::Unknown`] when the answer was lost: [`Store::change`] finds
    /// out then.
    pub async fn transact(&self, transaction: &Transaction) -> Result<i64, Error> {
        let answer = self.txn(request(transaction, Vec::new()), Repeat::IfNotSent).await?;
        if answer.succeeded { Ok(revision(&answer)) } else { Err(Error::Conflict) }
    }

    /// Carries a transaction out at most once, and finds out whether it was. Each attempt compares that the proof is
    /// not there and writes it; so a repeated attempt finds it if an earlier one was carried out. A marker hangs on a
    /// lease, without which the transaction is refused, so nothing happens after the marker is gone either. And where
    /// the repeated attempt meets a conflict, it leaves the marker itself: an earlier one that is still on its way will
    /// not be carried out. With [`Proof::Key`] such a conflict is final only for compares that name a revision, which
    /// never returns.
    ///
    /// # Errors
    /// [`Error::Conflict`]: not carried out, a compare failed. [`Error::Unknown`]: an attempt was sent, its answer was
    /// lost, and nobody could be asked before the deadline.
    pub async fn change(&self, transaction: Transaction, proof: Proof) -> Result<i64, Error> {
        let key = match proof {
            Proof::Key(key) => return self.change_once(transaction, &key, None).await,
            Proof::Marker => KeyPath::parse(&format!("{MARKERS}/{}", random_id()?))?,
        };
        let lease = self.marker_lease(None).await?;
        match self.change_once(transaction.clone(), &key, Some(lease)).await {
            // The store has ended the lease before its time, and said so instead of writing.
            Err(Error::Absent { .. }) => {
                let lease = self.marker_lease(Some(lease)).await?;
                self.change_once(transaction, &key, Some(lease)).await
            }
            result => result,
        }
    }

    /// `lease`: that of the marker that the proof is.
    async fn change_once(
        &self,
        mut transaction: Transaction,
        proof: &KeyPath,
        lease: Option<i64>,
    ) -> Result<i64, Error> {
        let marker = |value: &'static [u8]| {
            lease.map(|lease| Write::Put { key: proof.clone(), value: Bytes::from_static(value), lease })
        };
        let absent = Compare::Absent(KeyRange::from(proof));
        transaction.compares.push(absent.clone());
        transaction.writes.extend(marker(DONE));
        let look = Request::RequestRange(rpc::RangeRequest {
            key: proof.as_str().to_owned().into(),
            ..Default::default()
        });
        let problem = match self.txn(request(&transaction, vec![look.clone()]), Repeat::IfNotSent).await {
            Ok(answer) => return outcome(answer),
            Err(Error::Unknown { problem }) => problem,
            Err(error) => return Err(error),
        };
        let otherwise = match marker(ABANDONED) {
            None => look,
            Some(abandoned) => {
                let abandon = Transaction { compares: vec![absent], writes: vec![abandoned] };
                Request::RequestTxn(request(&abandon, vec![look]))
            }
        };
        match self.txn(request(&transaction, vec![otherwise]), Repeat::Freely).await {
            Ok(answer) => outcome(answer),
            // Nothing says that the first attempt failed: not even a lease that has ended since.
            Err(error) => Err(Error::Unknown { problem: format!("{problem}; then: {error}") }),
        }
    }

    /// Deletes the keys of a range and returns their number.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the answer was lost.
    pub async fn delete(&self, range: &KeyRange) -> Result<u64, Error> {
        let request = delete_request(range);
        let answer: rpc::DeleteRangeResponse = self
            .call(Repeat::IfNotSent, |channel| {
                let request = request.clone();
                async move { KvClient::new(channel).delete_range(request).await }
            })
            .await?;
        Ok(u64::try_from(answer.deleted).unwrap_or(0))
    }

    pub(crate) async fn txn(
        &self,
        request: rpc::TxnRequest,
        repeat: Repeat,
    ) -> Result<rpc::TxnResponse, Error> {
        let limit = self.shared.options.answer_limit;
        self.call(repeat, |channel| {
            let request = request.clone();
            async move { KvClient::new(channel).max_decoding_message_size(limit).txn(request).await }
        })
        .await
    }

    /// The lease of markers. One is used for half of its time, so that a marker lives for the other half at least.
    /// `ended` is one that is known to be gone.
    async fn marker_lease(&self, ended: Option<i64>) -> Result<i64, Error> {
        let mut lease = self.shared.marker_lease.lock().await;
        let ttl = self.shared.options.marker_ttl;
        if let Some((id, granted)) = *lease
            && granted.elapsed() < ttl / 2
            && ended != Some(id)
        {
            return Ok(id);
        }
        let granted = Instant::now();
        let id = self.grant_lease(ttl).await?.id;
        *lease = Some((id, granted));
        Ok(id)
    }
}

fn revision(answer: &rpc::TxnResponse) -> i64 {
    answer.header.as_ref().map_or(0, |header| header.revision)
}

/// Carried out now, or earlier, or not at all.
fn outcome(answer: rpc::TxnResponse) -> Result<i64, Error> {
    if answer.succeeded {
        return Ok(revision(&answer));
    }
    match found(answer) {
        Some(proof) if proof.value != ABANDONED => Ok(proof.create_revision),
        _ => Err(Error::Conflict),
    }
}

/// The proof that was looked for in this answer, or in the one inside.
fn found(answer: rpc::TxnResponse) -> Option<Pair> {
    answer.responses.into_iter().find_map(|op| match op.response {
        Some(Response::ResponseRange(range)) => range.kvs.into_iter().next().map(Pair::from),
        Some(Response::ResponseTxn(inner)) => found(inner),
        _ => None,
    })
}

fn request(transaction: &Transaction, otherwise: Vec<Request>) -> rpc::TxnRequest {
    let op = |request| rpc::RequestOp { request: Some(request) };
    rpc::TxnRequest {
        compare: transaction.compares.iter().map(compare).collect(),
        success: transaction.writes.iter().map(|write| op(write_request(write))).collect(),
        failure: otherwise.into_iter().map(op).collect(),
    }
}

fn compare(compare: &Compare) -> rpc::Compare {
    let is =
        |result: CompareResult, target: CompareTarget, range: KeyRange, value: TargetUnion| rpc::Compare {
            result: result.into(),
            target: target.into(),
            key: range.from.into(),
            range_end: range.to.into(),
            target_union: Some(value),
        };
    let equal = |target, range, value| is(CompareResult::Equal, target, range, value);
    match compare {
        Compare::Absent(range) => equal(CompareTarget::Create, range.clone(), TargetUnion::CreateRevision(0)),
        Compare::Unchanged { key, mod_revision } => {
            equal(CompareTarget::Mod, key.into(), TargetUnion::ModRevision(*mod_revision))
        }
        Compare::NotAfter { range, revision } => {
            let next = TargetUnion::ModRevision(revision.saturating_add(1));
            is(CompareResult::Less, CompareTarget::Mod, range.clone(), next)
        }
        Compare::Value { key, value } => {
            equal(CompareTarget::Value, key.into(), TargetUnion::Value(value.clone()))
        }
    }
}

fn write_request(write: &Write) -> Request {
    match write {
        Write::Put { key, value, lease } => Request::RequestPut(rpc::PutRequest {
            key: key.as_str().to_owned().into(),
            value: value.clone(),
            lease: *lease,
            ..Default::default()
        }),
        Write::Delete(range) => Request::RequestDeleteRange(delete_request(range)),
    }
}

fn delete_request(range: &KeyRange) -> rpc::DeleteRangeRequest {
    rpc::DeleteRangeRequest {
        key: range.from.clone().into(),
        range_end: range.to.clone().into(),
        prev_kv: false,
    }
}

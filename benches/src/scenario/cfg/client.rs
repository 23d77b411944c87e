//! The client: the same code for both servers. Clients are tasks that each wait for an answer before they ask again;
//! they share connections. All of it runs on one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cfg_api::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::kv_client::KvClient;
use pb::request_op::Request;
use pb::response_op::Response;
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::accounting::{Sample, sample};
use crate::disk::Disk;

/// Length of each value, bytes.
pub(super) const VALUE: usize = 256;
/// Keys that are read and written; they are there before any is read.
pub(super) const KEYS: usize = 10_000;
/// Puts of one transaction while keys are filled in; etcd allows 128.
const FILL: usize = 100;
/// Pause between tries to reach a server that starts.
const TRY: Duration = Duration::from_millis(2);

/// What clients do over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Operation {
    /// Writes one key of many.
    Put,
    /// Reads one key so that every acknowledged write is seen.
    Get,
    /// Reads one key as this member knows it.
    Serializable,
    /// Compares the revision of a key of its own with the one it knows, and writes it.
    Txn,
}

/// What one run of operations came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    /// Operations a second.
    pub(super) per_second: f64,
    /// Half of the answers came within it, microseconds.
    pub(super) p50_us: f64,
    /// All but one in a hundred came within it, microseconds.
    pub(super) p99_us: f64,
    /// Processor time of the server for 10,000 operations, seconds.
    pub(super) cpu_s: f64,
    /// Share of the machine that processes outside the harness took, 0 to 1.
    pub(super) foreign: f64,
}

/// Who is measured and for how long.
pub(super) struct Course<'a> {
    /// Connections to the server.
    pub(super) channels: &'a [Channel],
    /// Its process.
    pub(super) pid: Option<u32>,
    /// The disk that accounting looks at.
    pub(super) disk: &'a Disk,
    /// Time that does not count.
    pub(super) warmup: Duration,
    /// Time that counts.
    pub(super) time: Duration,
}

/// Result of a request.
type Answer<T> = Result<T, Status>;

/// A failure of the transport as a status.
fn unreachable(error: tonic::transport::Error) -> Status {
    Status::unavailable(format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)))
}

/// `count` connections to `url`.
pub(super) async fn connect(url: &str, count: usize) -> Answer<Vec<Channel>> {
    let mut channels = Vec::new();
    for _ in 0..count.max(1) {
        let endpoint = Endpoint::from_shared(url.to_string()).map_err(unreachable)?.tcp_nodelay(true);
        channels.push(endpoint.connect().await.map_err(unreachable)?);
    }
    Ok(channels)
}

/// Waits at most `limit` until a linearizable read is answered.
pub(in crate::scenario) async fn first_answer(url: &str, limit: Duration) -> Answer<()> {
    let end = Instant::now() + limit;
    loop {
        let tried = async {
            let mut kv = KvClient::new(connect(url, 1).await?.remove(0));
            kv.range(get(0, false)).await
        };
        match tokio::time::timeout(limit, tried).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) if Instant::now() >= end => return Err(status),
            Err(_) => return Err(Status::deadline_exceeded("no answer in time")),
            Ok(Err(_)) => tokio::time::sleep(TRY).await,
        }
    }
}

/// The name of a key.
fn key(number: usize) -> bytes::Bytes {
    format!("bench/{number:08}").into()
}

/// A value that does not compress well.
fn value(number: usize) -> bytes::Bytes {
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..VALUE).map(byte).collect::<Vec<u8>>().into()
}

fn put(key: bytes::Bytes, number: usize) -> pb::PutRequest {
    pb::PutRequest { key, value: value(number), ..Default::default() }
}

fn get(number: usize, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest { key: key(number), serializable, ..Default::default() }
}

/// Writes keys 0 to `keys`, many in a transaction, several transactions at once.
pub(super) async fn fill(channels: &[Channel], keys: usize) -> Answer<()> {
    let mut tasks = JoinSet::new();
    for (index, channel) in channels.iter().enumerate() {
        let mut kv = KvClient::new(channel.clone());
        let step = channels.len() * FILL;
        tasks.spawn(async move {
            for first in (index * FILL..keys).step_by(step) {
                let op =
                    |number| pb::RequestOp { request: Some(Request::RequestPut(put(key(number), number))) };
                let success = (first..keys.min(first + FILL)).map(op).collect();
                kv.txn(pb::TxnRequest { success, ..Default::default() }).await?;
            }
            Ok(())
        });
    }
    all(tasks).await
}

/// Waits for all; the first failure counts.
async fn all(mut tasks: JoinSet<Answer<()>>) -> Answer<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|e| Status::internal(e.to_string()))??;
    }
    Ok(())
}

/// What the clients of a run have in common.
#[derive(Default)]
struct Shared {
    done: AtomicU64,
    measuring: AtomicBool,
    over: AtomicBool,
    latencies_us: std::sync::Mutex<Vec<f64>>,
}

/// Lets `clients` do `operation` for a while.
pub(super) async fn work(course: &Course<'_>, operation: Operation, clients: usize) -> Answer<Figures> {
    let shared = Arc::new(Shared::default());
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let kv = KvClient::new(course.channels[client % course.channels.len()].clone());
        tasks.spawn(run(kv, operation, client, shared.clone()));
    }
    let look = async |pid, disk: &Disk| {
        let (done, at, disk) = (shared.done.load(Ordering::Relaxed), Instant::now(), disk.clone());
        let seen = tokio::task::spawn_blocking(move || sample(pid, &disk)).await.unwrap_or_default();
        (done, at, seen)
    };
    tokio::time::sleep(course.warmup).await;
    shared.measuring.store(true, Ordering::Relaxed);
    let (done_before, began, before): (u64, Instant, Sample) = look(course.pid, course.disk).await;
    tokio::time::sleep_until((began + course.time).into()).await;
    let (done_after, ended, after) = look(course.pid, course.disk).await;
    shared.over.store(true, Ordering::Relaxed);
    all(tasks).await?;
    let latencies = std::mem::take(&mut *shared.latencies_us.lock().unwrap_or_else(|e| e.into_inner()));
    let (p50_us, p99_us) = percentiles(latencies);
    let done = (done_after - done_before) as f64;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let sampled_us = ((after.at_ms - before.at_ms) * 1e3).max(1.0);
    Ok(Figures {
        per_second: done / (ended - began).as_secs_f64(),
        p50_us,
        p99_us,
        cpu_s: (after.cpu_us - before.cpu_us) / 1e6 / done.max(1.0) * 1e4,
        foreign: (after.foreign_cpu_us - before.foreign_cpu_us).max(0.0) / sampled_us / cpus,
    })
}

/// One client: asks, waits, asks again.
async fn run(
    mut kv: KvClient<Channel>,
    operation: Operation,
    client: usize,
    shared: Arc<Shared>,
) -> Answer<()> {
    let (mut turn, mut revision, mut latencies) = (client, 0, Vec::new());
    while !shared.over.load(Ordering::Relaxed) {
        // Each client walks through all keys in an order of its own.
        turn = (turn + 7919) % KEYS;
        let counts = shared.measuring.load(Ordering::Relaxed);
        let began = Instant::now();
        match operation {
            Operation::Put => drop(kv.put(put(key(turn), turn)).await?),
            Operation::Get | Operation::Serializable => {
                let answer = kv.range(get(turn, operation == Operation::Serializable)).await?.into_inner();
                if answer.kvs.first().map(|kv| kv.value.len()) != Some(VALUE) {
                    return Err(Status::data_loss(format!("key {turn} was written and is not there")));
                }
            }
            Operation::Txn => revision = txn(&mut kv, client, revision).await?,
        }
        if counts {
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
        }
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
    shared.latencies_us.lock().unwrap_or_else(|e| e.into_inner()).append(&mut latencies);
    Ok(())
}

/// Writes the client's own key if it is of `revision`; gives the revision that it is of then.
async fn txn(kv: &mut KvClient<Channel>, client: usize, revision: i64) -> Answer<i64> {
    let own = bytes::Bytes::from(format!("own/{client:05}"));
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: own.clone(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    };
    let read = pb::RangeRequest { key: own.clone(), ..Default::default() };
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp { request: Some(Request::RequestPut(put(own, client))) }],
        failure: vec![pb::RequestOp { request: Some(Request::RequestRange(read)) }],
    };
    let answer = kv.txn(request).await?.into_inner();
    if answer.succeeded {
        return Ok(answer.header.map_or(0, |header| header.revision));
    }
    // Only the first one may fail: an earlier run left the key behind.
    match answer.responses.into_iter().next().and_then(|op| op.response) {
        Some(Response::ResponseRange(found)) if revision == 0 && found.kvs.len() == 1 => {
            Ok(found.kvs[0].mod_revision)
        }
        _ => Err(Status::data_loss(format!("client {client}: its own key is not of revision {revision}"))),
    }
}

/// The median and the 99th percentile; zeros of nothing.
pub(in crate::scenario) fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (values.len() as f64 * share).ceil() as usize;
        values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    (at(0.5), at(0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        let hundred = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentiles(hundred), (50.0, 99.0));
        assert_eq!(percentiles(vec![7.0]), (7.0, 7.0));
        assert_eq!(percentiles(Vec::new()), (0.0, 0.0));
    }

    #[test]
    fn values_differ_and_have_their_length() {
        assert_eq!(value(1).len(), VALUE);
        assert_ne!(value(1), value(2));
        assert!(value(0).iter().collect::<std::collections::HashSet<_>>().len() > 100);
    }
}

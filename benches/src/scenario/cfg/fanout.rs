//! Watch fan-out: one put at a time, and how long each of many streams waits for its event.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cfg_api::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::transport::Channel;

use super::client::{Course, VALUE, percentiles};

/// The key that is watched.
const KEY: &str = "watched";
/// Puts that are made at least, however long each takes.
const PUTS: usize = 10;
/// How long an event may take.
const LIMIT: Duration = Duration::from_secs(10);

/// From the moment a put is sent, microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    /// Until each event, the median over all events.
    pub(super) each_p50_us: f64,
    /// Until each event, the 99th percentile over all events.
    pub(super) each_p99_us: f64,
    /// Until the last stream has its event, the median over all puts.
    pub(super) last_p50_us: f64,
    /// Until the last stream has its event, the 99th percentile over all puts.
    pub(super) last_p99_us: f64,
}

/// What the streams report.
struct Board {
    /// When the put was sent.
    sent: Mutex<Instant>,
    /// Microseconds until each event.
    taken_us: Mutex<Vec<f64>>,
    missing: AtomicUsize,
    complete: Notify,
}

impl Board {
    /// One stream has its event.
    fn arrived(&self) {
        let sent = *self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = sent.elapsed().as_secs_f64() * 1e6;
        self.taken_us.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
        if self.missing.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.complete.notify_one();
        }
    }
}

/// Follows the key and reports each event; ends when the server does.
async fn follow(
    channel: Channel,
    board: Arc<Board>,
    watching: tokio::sync::mpsc::Sender<()>,
) -> Result<(), Status> {
    let create = pb::WatchCreateRequest { key: KEY.into(), ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut answers = WatchClient::new(channel).watch(requests).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.created {
            // Nobody counts any more when another stream has failed.
            let _ = watching.send(()).await;
        }
        for _ in &answer.events {
            board.arrived();
        }
    }
    Err(Status::aborted("the server ended a watch"))
}

/// Opens `streams` of one watcher each and puts for a while.
pub(super) async fn run(course: &Course<'_>, streams: usize) -> Result<Figures, Status> {
    let board = Arc::new(Board {
        sent: Mutex::new(Instant::now()),
        taken_us: Mutex::default(),
        missing: AtomicUsize::new(0),
        complete: Notify::new(),
    });
    let (watching, mut opened) = tokio::sync::mpsc::channel(streams.max(1));
    let mut following = JoinSet::new();
    // The put has the first connection for itself if there are others.
    let shared = course.channels.get(1..).filter(|others| !others.is_empty()).unwrap_or(course.channels);
    for index in 0..streams {
        let channel = shared[index % shared.len()].clone();
        following.spawn(follow(channel, board.clone(), watching.clone()));
    }
    let failed = async |following: &mut JoinSet<Result<(), Status>>| match following.join_next().await {
        Some(Ok(Err(status))) => status,
        _ => Status::internal("a watch ended"),
    };
    for _ in 0..streams {
        tokio::select! {
            _ = opened.recv() => {}
            status = failed(&mut following) => return Err(status),
        }
    }
    let mut kv = KvClient::new(course.channels[0].clone());
    let (mut each, mut last) = (Vec::new(), Vec::new());
    let (began, whole) = (Instant::now(), course.warmup + course.time);
    while began.elapsed() < whole || last.len() < PUTS {
        let counts = began.elapsed() >= course.warmup;
        board.missing.store(streams, Ordering::Relaxed);
        let sent = Instant::now();
        *board.sent.lock().unwrap_or_else(PoisonError::into_inner) = sent;
        let request = pb::PutRequest { key: KEY.into(), value: vec![7; VALUE].into(), ..Default::default() };
        tokio::select! {
            both = async { tokio::join!(kv.put(request), tokio::time::timeout(LIMIT, board.complete.notified())) } => {
                both.0?;
                both.1.map_err(|_| Status::deadline_exceeded("an event did not come"))?;
            }
            status = failed(&mut following) => return Err(status),
        }
        let taken = std::mem::take(&mut *board.taken_us.lock().unwrap_or_else(PoisonError::into_inner));
        if counts {
            last.push(taken.iter().copied().fold(0.0, f64::max));
            each.extend(taken);
        }
    }
    let ((each_p50_us, each_p99_us), (last_p50_us, last_p99_us)) = (percentiles(each), percentiles(last));
    Ok(Figures { each_p50_us, each_p99_us, last_p50_us, last_p99_us })
}

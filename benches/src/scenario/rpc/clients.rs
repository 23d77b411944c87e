//! Clients that mean no good, on one thread: some ask badly and read the answer, others hold connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::RpcCourse;
use super::documents::{Bad, Expected, all, post};
use crate::error::{BenchError, Result};
use crate::server::Endpoints;

/// How long a bad request may take; longer is a stall of the server.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two bytes of a client that drips.
const DRIP: Duration = Duration::from_millis(500);
/// Until a slow client that was not let in tries again.
const AGAIN: Duration = Duration::from_millis(100);

/// What bad clients got in one run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Answered {
    /// Bad requests that were answered with a fault or an error.
    pub(super) faults: u64,
    /// Bad requests that were answered with an HTTP error.
    pub(super) refusals: u64,
    /// Bad requests whose connection ended without an answer.
    pub(super) ended: u64,
    /// Bad requests a second.
    pub(super) per_second: f64,
    /// The slowest of them, milliseconds.
    pub(super) slowest_ms: f64,
    /// Slow connections that were there at the end.
    pub(super) held: u64,
    /// Slow connections that the server ended.
    pub(super) sent_away: u64,
}

/// The clients.
#[derive(Debug)]
pub(super) struct Clients {
    address: String,
    kinds: Vec<Arc<Bad>>,
    course: RpcCourse,
}

impl Clients {
    /// Of a node that says where it is.
    pub(super) fn of(endpoints: &Endpoints, course: &RpcCourse) -> Result<Clients> {
        let url = endpoints.text("xmlrpc")?;
        let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let address = address.ok_or_else(|| problem(format!("'{url}' is no address without TLS")))?;
        let kinds = all(endpoints.text("vrouter_cluster_id")?).into_iter().map(Arc::new).collect();
        Ok(Clients { address: address.to_string(), kinds, course: course.clone() })
    }

    /// All of them do what they do until `over`; then the last answers are waited for.
    pub(super) async fn harm(&self, over: &AtomicBool) -> Result<Answered> {
        let held = Arc::new(Held::default());
        let mut slow = JoinSet::new();
        for number in 0..self.course.slow {
            slow.spawn(hold(self.address.clone(), number as usize, Arc::clone(&held)));
        }
        let mut ticks = interval(Duration::from_secs(1) / self.course.per_second.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut asking, mut answered) = (JoinSet::new(), Answered::default());
        let (began, mut asked) = (Instant::now(), 0);
        while !over.load(Ordering::Relaxed) {
            tokio::select! {
                _ = ticks.tick(), if asking.len() < self.course.at_once as usize => {
                    let kind = Arc::clone(&self.kinds[asked % self.kinds.len()]);
                    asking.spawn(ask(self.address.clone(), kind));
                    asked += 1;
                }
                Some(end) = asking.join_next() => answered.count(end)?,
            }
        }
        let took = began.elapsed();
        answered.held = held.now.load(Ordering::Relaxed);
        answered.sent_away = held.ended.load(Ordering::Relaxed);
        // Those that ask get the places of those that hold.
        drop(slow);
        while let Some(end) = asking.join_next().await {
            answered.count(end)?;
        }
        answered.per_second =
            (answered.faults + answered.refusals + answered.ended) as f64 / took.as_secs_f64();
        Ok(answered)
    }
}

/// How a bad request ended, and after how long.
type Ended = Result<(End, Duration)>;

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fault,
    Refusal,
    Nothing,
}

impl Answered {
    fn count(&mut self, ended: std::result::Result<Ended, tokio::task::JoinError>) -> Result<()> {
        let (end, took) = ended.map_err(problem)??;
        match end {
            End::Fault => self.faults += 1,
            End::Refusal => self.refusals += 1,
            End::Nothing => self.ended += 1,
        }
        self.slowest_ms = self.slowest_ms.max(took.as_secs_f64() * 1e3);
        Ok(())
    }
}

fn problem(problem: impl std::fmt::Display) -> BenchError {
    BenchError::peer("ovs", format!("the admin RPC: {problem}"))
}

/// Asks badly, and holds the answer against what is expected.
async fn ask(address: String, bad: Arc<Bad>) -> Ended {
    let began = Instant::now();
    let said = timeout(LIMIT, say(&address, &bad.bytes)).await;
    let said = said.map_err(|_| problem(format!("'{}' had no answer after {LIMIT:?}", bad.name)))?;
    let end = end_of(&said.map_err(|error| problem(format!("'{}': {error}", bad.name)))?);
    let right = match bad.expected {
        Expected::Fault => end == Some(End::Fault),
        Expected::Refusal => end == Some(End::Refusal),
        Expected::RefusalOrEnd => matches!(end, Some(End::Refusal | End::Nothing)),
    };
    match end.filter(|_| right) {
        Some(end) => Ok((end, began.elapsed())),
        None => Err(problem(format!("'{}' was answered with {end:?}, not {:?}", bad.name, bad.expected))),
    }
}

/// What comes back until the connection ends.
async fn say(address: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // The connection may be ended before all was taken.
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    match stream.read_to_end(&mut said).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(said),
    }
}

/// What an answer is; `None`: nothing that a bad request should get.
fn end_of(said: &[u8]) -> Option<End> {
    let text = String::from_utf8_lossy(said);
    match text.get(.."HTTP/1.1 200".len()) {
        None if said.is_empty() => Some(End::Nothing),
        Some("HTTP/1.1 200") if text.contains("faultCode") || text.contains("xmlrpc_error_code") => {
            Some(End::Fault)
        }
        Some(status) if status.starts_with("HTTP/1.1 4") => Some(End::Refusal),
        _ => None,
    }
}

/// Slow connections, counted.
#[derive(Debug, Default)]
struct Held {
    now: AtomicU64,
    ended: AtomicU64,
}

/// Holds a connection as long as it is let, again and again: says nothing, a part of the head, a part of the body, or
/// a byte now and then.
async fn hold(address: String, number: usize, held: Arc<Held>) {
    let request = post("<methodCall><methodName>system.listMethods</methodName></methodCall>");
    let part = [0, 20, request.len() - 7, 1][number % 4];
    loop {
        let Ok(mut stream) = TcpStream::connect(&address).await else {
            sleep(AGAIN).await;
            continue;
        };
        held.now.fetch_add(1, Ordering::Relaxed);
        let told = stream.write_all(&request[..part]).await;
        if told.is_ok() {
            let (mut from, mut to) = stream.split();
            let drip = async {
                for byte in &request[part..] {
                    sleep(DRIP).await;
                    if to.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                }
            };
            let mut said = Vec::new();
            let end = from.read_to_end(&mut said);
            match number % 4 {
                3 => drop(tokio::join!(end, drip)),
                _ => drop(end.await),
            }
        }
        held.now.fetch_sub(1, Ordering::Relaxed);
        held.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_fault_a_refusal_or_none() {
        assert_eq!(end_of(b""), Some(End::Nothing));
        assert_eq!(end_of(b"HTTP/1.1 200 OK\r\n\r\n<fault>faultCode"), Some(End::Fault));
        assert_eq!(end_of(b"HTTP/1.1 200 OK\r\n\r\n<name>xmlrpc_error_code"), Some(End::Fault));
        assert_eq!(end_of(b"HTTP/1.1 413 Payload Too Large\r\n\r\n"), Some(End::Refusal));
        for odd in [&b"HTTP/1.1 200 OK\r\n\r\n<params/>"[..], b"HTTP/1.1 500 Oh\r\n", b"HTTP", b"\xff\xff"] {
            assert_eq!(end_of(odd), None);
        }
    }
}

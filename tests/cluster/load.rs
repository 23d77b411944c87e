//! Clients that write and read while members come and go, and take down what they are told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use cfg_api::etcdserverpb as pb;
use cfg_api::mvccpb;
use pb::kv_client::KvClient;
use pb::request_op::Request as Op;
use pb::response_op::Response as Came;
use pb::watch_client::WatchClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::client::{self, ANSWER, channel};
use super::harness::random::Random;
use super::history::{Change, History, Outcome, Read, Write};

/// Below which the clients write.
pub const PREFIX: &str = "load/";
/// How long a client waits for an answer before it asks another member.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a refusal.
const PAUSE: Duration = Duration::from_millis(10);
/// Keys of each writer.
const KEYS: u64 = 2;

/// What the clients share.
struct Shared {
    urls: RwLock<Vec<String>>,
    history: Mutex<History>,
    stop: watch::Sender<bool>,
    /// When the last write began that was acknowledged.
    done: watch::Sender<Option<Instant>>,
}

impl Shared {
    fn stopped(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `writers` and `readers` over the members at `urls`.
    pub fn start(urls: Vec<String>, writers: u64, readers: u64, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            urls: RwLock::new(urls),
            history: Mutex::default(),
            stop: watch::Sender::new(false),
            done: watch::Sender::new(None),
        });
        let writing = (0..writers).map(|number| {
            let writer = Writer::new(shared.clone(), number, seed);
            tokio::spawn(writer.run())
        });
        let reading = (0..readers).map(|number| {
            tokio::spawn(read(shared.clone(), Random::new(seed ^ (number + 1000)), writers, None))
        });
        let clients = writing.chain(reading).collect();
        Self { shared, clients }
    }

    /// Adds a reader that asks one member only.
    pub fn read_at(&mut self, url: &str, writers: u64) {
        let reading = read(self.shared.clone(), Random::new(writers), writers, Some(url.to_owned()));
        self.clients.push(tokio::spawn(reading));
    }

    /// From now on these are the members.
    pub fn set_urls(&self, urls: Vec<String>) {
        *self.shared.urls.write().expect("no client panics") = urls;
    }

    /// Waits for the acknowledgement of a write that began later than `moment`; gives the time since then.
    pub async fn stall(&self, moment: Instant) -> Duration {
        let mut done = self.shared.done.subscribe();
        let later = done.wait_for(|begun| begun.is_some_and(|begun| begun > moment));
        timeout(super::members::PATIENCE, later).await.expect("writing goes on").expect("writers live");
        moment.elapsed()
    }

    /// Waits until `count` more writes than now are acknowledged.
    pub async fn more(&self, count: usize) {
        let target = self.done() + count;
        while self.done() < target {
            self.stall(Instant::now()).await;
        }
    }

    fn done(&self) -> usize {
        self.shared.history.lock().expect("no client panics").done()
    }

    /// Ends the clients; gives what they saw.
    pub async fn finish(self) -> History {
        self.shared.stop.send_replace(true);
        for client in self.clients {
            client.await.expect("no client panics");
        }
        std::mem::take(&mut *self.shared.history.lock().expect("no client panics"))
    }
}

fn key(writer: u64, number: u64) -> String {
    format!("{PREFIX}{writer}/{number}")
}

/// One client with its own keys.
struct Writer {
    shared: Arc<Shared>,
    number: u64,
    random: Random,
    serial: u64,
    channels: HashMap<String, Channel>,
    at: usize,
    /// Last revision of each key, as far as it is known.
    known: HashMap<String, i64>,
}

impl Writer {
    fn new(shared: Arc<Shared>, number: u64, seed: u64) -> Self {
        let random = Random::new(seed ^ (number + 1));
        let at = number as usize;
        Self { shared, number, random, serial: 0, channels: HashMap::new(), at, known: HashMap::new() }
    }

    fn kv(&mut self) -> KvClient<Channel> {
        let url = {
            let urls = self.shared.urls.read().expect("no client panics");
            urls[self.at % urls.len()].clone()
        };
        KvClient::new(self.channels.entry(url.clone()).or_insert_with(|| channel(&url)).clone())
    }

    async fn run(mut self) {
        while !self.shared.stopped() {
            self.serial += 1;
            let key = key(self.number, self.random.below(KEYS));
            let value = format!("{}-{}", self.number, self.serial);
            let expected = self.known.get(&key).copied().filter(|_| self.random.below(2) == 0);
            let begun = Instant::now();
            let outcome = match expected {
                None => self.put(&key, &value).await,
                Some(expected) => self.swap(&key, &value, expected).await,
            };
            match outcome {
                Outcome::Done(_, revision) => {
                    self.known.insert(key.clone(), revision);
                    self.shared.done.send_replace(Some(begun));
                }
                // What the key has now is learned from the next put.
                Outcome::Unknown | Outcome::NotDone => {
                    self.known.remove(&key);
                    self.at += 1;
                }
            }
            let unknown = outcome == Outcome::Unknown;
            let write = Write { key, value, expected, begun, outcome };
            self.shared.history.lock().expect("no client panics").writes.push(write);
            if unknown {
                // sleep: a member that refuses is not asked again at once
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn put(&mut self, key: &str, value: &str) -> Outcome {
        let request = pb::PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: value.as_bytes().to_vec().into(),
            ..pb::PutRequest::default()
        };
        match timeout(CLIENT_PATIENCE, self.kv().put(request)).await {
            Ok(Ok(answer)) => done(answer.into_inner().header),
            _ => Outcome::Unknown,
        }
    }

    /// Writes if nobody wrote since `expected`.
    async fn swap(&mut self, key: &str, value: &str, expected: i64) -> Outcome {
        let key: Vec<u8> = key.as_bytes().to_vec();
        let compare = pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Mod.into(),
            key: key.clone().into(),
            target_union: Some(pb::compare::TargetUnion::ModRevision(expected)),
            ..pb::Compare::default()
        };
        let put = pb::PutRequest {
            key: key.into(),
            value: value.as_bytes().to_vec().into(),
            ..pb::PutRequest::default()
        };
        let put = pb::RequestOp { request: Some(Op::RequestPut(put)) };
        let request = pb::TxnRequest { compare: vec![compare], success: vec![put], failure: Vec::new() };
        match timeout(CLIENT_PATIENCE, self.kv().txn(request)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let put = answer.responses.first().and_then(|response| response.response.as_ref());
                match put {
                    Some(Came::ResponsePut(_)) if answer.succeeded => done(answer.header),
                    _ => Outcome::NotDone,
                }
            }
            _ => Outcome::Unknown,
        }
    }
}

fn done(header: Option<pb::ResponseHeader>) -> Outcome {
    Outcome::Done(Instant::now(), header.expect("a header").revision)
}

/// Reads at random members, or at one.
async fn read(shared: Arc<Shared>, mut random: Random, writers: u64, only: Option<String>) {
    let mut channels: HashMap<String, Channel> = HashMap::new();
    while !shared.stopped() {
        let url = match &only {
            Some(url) => url.clone(),
            None => random.pick(&shared.urls.read().expect("no client panics")).clone(),
        };
        let key = key(random.below(writers), random.below(KEYS));
        let mut kv = KvClient::new(channels.entry(url.clone()).or_insert_with(|| channel(&url)).clone());
        let request = pb::RangeRequest { key: key.as_bytes().to_vec().into(), ..pb::RangeRequest::default() };
        let begun = Instant::now();
        match timeout(CLIENT_PATIENCE, kv.range(request)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let found = answer.kvs.first().map(|kv| (text(&kv.value), kv.mod_revision));
                let revision = answer.header.expect("a header").revision;
                let read = Read { key, begun, ended: Instant::now(), revision, found, by: url };
                shared.history.lock().expect("no client panics").reads.push(read);
            }
            // sleep: a member that refuses is not asked again at once
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All changes that the load ever made, as the member at `url` remembers them, up to `until`, which must be a change of
/// any key.
pub async fn changes(url: &str, until: i64) -> Vec<Change> {
    let create = pb::WatchCreateRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        start_revision: 1,
        ..pb::WatchCreateRequest::default()
    };
    let mut watching = Watching::begin(url, create, false).await.expect("a watch");
    let mut all: Vec<Change> = Vec::new();
    while all.last().is_none_or(|last| last.revision < until) {
        all.extend(watching.next().await.expect("a watch goes on"));
    }
    all.retain(|change| change.key.starts_with(PREFIX));
    all
}

/// A watch of one stream.
pub struct Watching {
    // The stream of requests stays open as long as this lives.
    _requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watching {
    pub async fn begin(
        url: &str,
        create: pb::WatchCreateRequest,
        needs_leader: bool,
    ) -> Result<Self, Status> {
        let request =
            pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        let (requests, receiver) = mpsc::channel(1);
        requests.send(request).await.expect("room for one");
        let receiver = ReceiverStream::new(receiver);
        let request = if needs_leader { client::with_leader(receiver) } else { Request::new(receiver) };
        let mut client = WatchClient::new(channel(url)).max_decoding_message_size(64 << 20);
        let answers = client::answered(client.watch(request)).await?;
        Ok(Self { _requests: requests, answers })
    }

    /// The next changes; none when the answer says something else.
    pub async fn next(&mut self) -> Result<Vec<Change>, Status> {
        let late = |_| Status::deadline_exceeded("no event");
        let answer = timeout(ANSWER, self.answers.message()).await.map_err(late)??;
        let answer = answer.ok_or_else(|| Status::unavailable("the stream ended"))?;
        assert!(!answer.canceled, "{answer:?}");
        Ok(answer.events.iter().map(change).collect())
    }
}

fn change(event: &mvccpb::Event) -> Change {
    let kv = event.kv.as_ref().expect("an event has a key");
    let value =
        if event.r#type() == mvccpb::event::EventType::Delete { "(deleted)".into() } else { text(&kv.value) };
    Change { revision: kv.mod_revision, key: text(&kv.key), value }
}

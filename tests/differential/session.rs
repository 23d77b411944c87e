//! Runs programs on one server and takes down what it says.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use cfg_api::etcdserverpb::kv_client::KvClient;
use cfg_api::etcdserverpb::lease_client::LeaseClient;
use cfg_api::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest,
};
use tokio::time::timeout;
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::answer::{Answer, Clean};
use super::step::Step;
use super::watching::{Watcher, Watching};

/// How long one answer may take.
pub const ANSWER: Duration = Duration::from_secs(10);

/// How large one answer may be: etcd sends a watcher all that it has missed at once.
pub const ANSWER_SIZE: usize = 64 << 20;

/// What a server said to a program.
pub struct Transcript {
    /// To each step.
    pub answers: Vec<Answer>,
    /// To the clearing up at the end.
    pub ending: Vec<Answer>,
    /// To each watcher, in the order in which they came.
    pub watchers: Vec<Watcher>,
}

/// A connection to a server, and what one knows of its store.
pub struct Session {
    channel: Channel,
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    /// Last compaction.
    compacted: i64,
    /// Done to every step before it is sent: how a test plants a difference.
    bend: fn(Step) -> Step,
}

/// Waits for an answer, at most [`ANSWER`].
async fn answered<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Answer> {
    match timeout(ANSWER, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Answer::Refused(status.code(), status.message().to_owned())),
        Err(_) => Err(Answer::Late("no answer".into())),
    }
}

/// All keys.
fn everything() -> (Bytes, Bytes) {
    (Bytes::from_static(&[0]), Bytes::from_static(&[0]))
}

impl Session {
    /// Connects, and returns once the server can do everything: what concerns leases can come later than the rest.
    pub async fn connect(url: &str, bend: fn(Step) -> Step) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL").connect_timeout(ANSWER);
        let channel = endpoint.connect().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let kv = KvClient::new(channel.clone()).max_decoding_message_size(ANSWER_SIZE);
        let lease = LeaseClient::new(channel.clone());
        let mut session = Self { channel, kv, lease, compacted: 0, bend };
        let probe = LeaseGrantRequest { ttl: 3600, id: 1 };
        let granted = session.lease.lease_grant(probe).await;
        granted.unwrap_or_else(|error| panic!("{url}: {error}"));
        let mut alive = session.keep_alive(1).await;
        for _ in 0..100 {
            if matches!(&alive, Ok(Answer::KeepAlive(answer)) if answer.ttl > 0) {
                break;
            }
            // sleep: bounded polling of a server that has just begun
            tokio::time::sleep(Duration::from_millis(20)).await;
            alive = session.keep_alive(1).await;
        }
        assert!(matches!(alive, Ok(Answer::KeepAlive(_))), "{url}: no lease is kept alive: {alive:?}");
        session.revoke(1).await.unwrap_or_else(|answer| panic!("{url}: {answer:?}"));
        session
    }

    /// Runs a program on a store without keys, leases and watchers, and leaves it so.
    pub async fn run(&mut self, program: &[Step]) -> Transcript {
        let mut watching = Watching::default();
        let mut answers = Vec::new();
        match self.revision().await {
            Err(problem) => answers.push(problem),
            Ok(base) => {
                for step in program {
                    let step = (self.bend)(step.clone()).at(base);
                    let done = self.step(step, &mut watching).await;
                    answers.push(done.unwrap_or_else(|problem| problem));
                }
            }
        }
        let mut ending = Vec::new();
        if let Err(problem) = self.end(&mut watching, &mut ending).await {
            ending.push(problem);
        }
        Transcript { answers, ending, watchers: watching.watchers }
    }

    async fn revision(&mut self) -> Result<i64, Answer> {
        let (key, range_end) = everything();
        let all = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
        let header = answered(self.kv.range(all)).await?.header;
        header.map(|header| header.revision).ok_or_else(|| Answer::Late("no header".into()))
    }

    async fn step(&mut self, step: Step, watching: &mut Watching) -> Result<Answer, Answer> {
        Ok(match step {
            Step::Range(request) => Answer::Range(answered(self.kv.range(request)).await?.clean()),
            Step::Put(request) => Answer::Put(answered(self.kv.put(request)).await?.clean()),
            Step::Delete(request) => Answer::Delete(answered(self.kv.delete_range(request)).await?.clean()),
            Step::Txn(request) => Answer::Txn(answered(self.kv.txn(request)).await?.clean()),
            Step::Compact(request) => {
                // What is sent late could miss what was there before.
                self.settle(watching).await?;
                let done = answered(self.kv.compact(request)).await?;
                self.compacted = request.revision;
                Answer::Compact(done.clean())
            }
            Step::Grant(request) => Answer::Grant(answered(self.lease.lease_grant(request)).await?.clean()),
            Step::GrantBriefly(request) => self.grant_briefly(request).await?,
            Step::Revoke(id) => self.revoke(id).await?,
            Step::TimeToLive(request) => self.time_to_live(request).await?,
            Step::Leases => self.leases().await?,
            Step::KeepAlive(id) => self.keep_alive(id).await?,
            Step::Watch(request) => watching.create(&self.channel, request, self.compacted).await?,
            Step::Cancel(id) => {
                self.settle(watching).await?;
                watching.cancel(id).await?
            }
            Step::Progress => {
                self.settle(watching).await?;
                watching.progress().await?
            }
        })
    }

    /// Returns when all watchers have seen everything. For this each one's key is written, and deleted where somebody
    /// sees only that.
    async fn settle(&mut self, watching: &mut Watching) -> Result<(), Answer> {
        for (key, to_delete) in watching.keys() {
            let put = PutRequest { key: key.clone(), ..PutRequest::default() };
            let put = answered(self.kv.put(put)).await?.header.unwrap_or_default().revision;
            let mut deleted = None;
            if to_delete {
                let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
                deleted = answered(self.kv.delete_range(delete)).await?.header.map(|header| header.revision);
            }
            watching.expect(&key, put, deleted);
        }
        watching.caught_up().await
    }

    /// Brings everything to an end: watchers, leases, keys.
    async fn end(&mut self, watching: &mut Watching, ending: &mut Vec<Answer>) -> Result<(), Answer> {
        self.settle(watching).await?;
        ending.push(watching.progress().await?);
        watching.close();
        let leases = self.leases().await?;
        if let Answer::Leases(leases) = &leases {
            for lease in &leases.leases {
                ending.push(self.revoke(lease.id).await?);
            }
        }
        ending.push(leases);
        let (key, range_end) = everything();
        let all = DeleteRangeRequest { key, range_end, prev_kv: true };
        ending.push(Answer::Delete(answered(self.kv.delete_range(all)).await?.clean()));
        Ok(())
    }

    async fn grant_briefly(&mut self, request: LeaseGrantRequest) -> Result<Answer, Answer> {
        let mut granted = answered(self.lease.lease_grant(request)).await?.clean();
        self.revoke(granted.id).await?;
        if request.id == 0 && granted.id > 0 {
            granted.id = 0;
        }
        // The least time is a server's own choice.
        if request.ttl < 60 && (1..60).contains(&granted.ttl) {
            granted.ttl = 1;
        }
        Ok(Answer::Grant(granted))
    }

    async fn revoke(&mut self, id: i64) -> Result<Answer, Answer> {
        Ok(Answer::Revoke(answered(self.lease.lease_revoke(LeaseRevokeRequest { id })).await?.clean()))
    }

    /// Without the time that is left, with the keys in order.
    async fn time_to_live(&mut self, request: LeaseTimeToLiveRequest) -> Result<Answer, Answer> {
        let mut told = answered(self.lease.lease_time_to_live(request)).await?.clean();
        told.ttl = told.ttl.min(1);
        told.keys.sort();
        Ok(Answer::TimeToLive(told))
    }

    /// In order of their ids; etcd lists them as they will expire.
    async fn leases(&mut self) -> Result<Answer, Answer> {
        let mut told = answered(self.lease.lease_leases(LeaseLeasesRequest {})).await?.clean();
        told.leases.sort_by_key(|lease| lease.id);
        Ok(Answer::Leases(told))
    }

    async fn keep_alive(&mut self, id: i64) -> Result<Answer, Answer> {
        let once = tokio_stream::once(LeaseKeepAliveRequest { id });
        let mut answers = answered(self.lease.lease_keep_alive(once)).await?;
        match timeout(ANSWER, answers.message()).await {
            Ok(Ok(Some(answer))) => Ok(Answer::KeepAlive(answer.clean())),
            Ok(Ok(None)) => Err(Answer::Late("the stream ended".into())),
            Ok(Err(status)) => Err(Answer::Refused(status.code(), status.message().to_owned())),
            Err(_) => Err(Answer::Late("no answer".into())),
        }
    }
}

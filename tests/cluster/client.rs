//! Questions to one member.

use std::time::{Duration, Instant};

use cfg_api::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::members::{LOOK, PATIENCE};

/// How long one answer may take.
pub const ANSWER: Duration = Duration::from_secs(10);

/// A connection, which is made when it is needed and made again when it is lost.
pub fn channel(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
    endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true).connect_lazy()
}

/// Waits for an answer, at most [`ANSWER`].
pub async fn answered<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded("no answer");
    timeout(ANSWER, call).await.map_err(late)?.map(tonic::Response::into_inner)
}

pub async fn status(url: &str) -> Result<pb::StatusResponse, Status> {
    let mut client = MaintenanceClient::new(channel(url));
    let soon = timeout(Duration::from_secs(2), client.status(pb::StatusRequest {})).await;
    soon.map_err(|_| Status::deadline_exceeded("no answer"))?.map(tonic::Response::into_inner)
}

/// Hash of the keys at `revision`, once the member has it.
pub async fn hash(url: &str, revision: i64) -> (u32, i64) {
    let mut client = MaintenanceClient::new(channel(url));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match answered(client.hash_kv(pb::HashKvRequest { revision })).await {
            Ok(hash) => return (hash.hash, hash.compact_revision),
            Err(error) => assert!(Instant::now() < deadline, "{url} has no revision {revision}: {error}"),
        }
        // sleep: bounded polling
        sleep(LOOK).await;
    }
}

/// Lets the member at `place` of `urls` lead; the one that leads is at `from`.
pub async fn move_leader(from: &str, target: u64) -> Result<(), Status> {
    let request = pb::MoveLeaderRequest { target_id: target };
    answered(MaintenanceClient::new(channel(from)).move_leader(request)).await.map(|_| ())
}

/// Number of the member at `url`, once it answers.
pub async fn id(url: &str) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match status(url).await {
            Ok(status) => return status.header.expect("a header").member_id,
            Err(error) => assert!(Instant::now() < deadline, "{url}: {error}"),
        }
        // sleep: bounded polling
        sleep(LOOK).await;
    }
}

pub async fn members(url: &str) -> Result<Vec<pb::Member>, Status> {
    let request = pb::MemberListRequest { linearizable: true };
    Ok(answered(ClusterClient::new(channel(url)).member_list(request)).await?.members)
}

/// Waits until there are `count` members and all of them vote.
pub async fn wait_for_voters(url: &str, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = members(url).await;
        let done = |members: &Vec<pb::Member>| {
            members.len() == count && members.iter().all(|member| !member.is_learner)
        };
        if found.as_ref().is_ok_and(done) {
            return;
        }
        assert!(Instant::now() < deadline, "no {count} members with a vote: {found:?}");
        // sleep: bounded polling
        sleep(LOOK).await;
    }
}

pub async fn remove(url: &str, id: u64) -> Result<(), Status> {
    let request = pb::MemberRemoveRequest { id };
    answered(ClusterClient::new(channel(url)).member_remove(request)).await.map(|_| ())
}

pub async fn put(url: &str, key: &str, value: &str) -> Result<i64, Status> {
    put_with(url, key, value.as_bytes().to_vec(), 0).await
}

/// A put under a lease.
pub async fn put_with(url: &str, key: &str, value: Vec<u8>, lease: i64) -> Result<i64, Status> {
    let request = pb::PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: value.into(),
        lease,
        ..pb::PutRequest::default()
    };
    let answer = answered(KvClient::new(channel(url)).put(request)).await?;
    Ok(answer.header.map_or(0, |header| header.revision))
}

/// A put that is tried at one member after the other until one takes it.
pub async fn put_anywhere(urls: &[String], key: &str, value: &str) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    for url in urls.iter().cycle() {
        match put(url, key, value).await {
            Ok(revision) => return revision,
            Err(error) => assert!(Instant::now() < deadline, "{key}: {error}"),
        }
        // sleep: between two tries
        sleep(LOOK).await;
    }
    unreachable!("there are members")
}

/// The value, by a linearizable read or one of what is there.
pub async fn get(url: &str, key: &str, serializable: bool) -> Result<Option<String>, Status> {
    let key = key.as_bytes().to_vec().into();
    let request = pb::RangeRequest { key, serializable, ..pb::RangeRequest::default() };
    let answer = answered(KvClient::new(channel(url)).range(request)).await?;
    Ok(answer.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
}

/// A request that wants somebody to lead.
pub fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().expect("a value"));
    request
}

/// A new lease of `ttl` seconds.
pub async fn grant(url: &str, ttl: i64) -> i64 {
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let granted = answered(LeaseClient::new(channel(url)).lease_grant(request)).await;
    granted.unwrap_or_else(|error| panic!("{url}: {error}")).id
}

//! Numbers at their ends: answered as etcd answers them.

use std::fmt::Debug;

use bytes::Bytes;
use cfg_api::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::client::{ANSWER, Member, Requests, channel, get, put};
use crate::harness::cfg::Server;

const ENDS: [i64; 5] = [i64::MIN, -1, 0, 2, i64::MAX];

/// What came, without what differs by nature.
fn shown<T: Debug>(answer: Result<Response<T>, Status>, show: impl Fn(T) -> String) -> String {
    match answer {
        Ok(response) => show(response.into_inner()),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}

/// Asks a server that has just started everything; the answers in order.
async fn ask(channel: Channel) -> Vec<String> {
    let mut kv = KvClient::new(channel.clone());
    let mut lease = LeaseClient::new(channel.clone());
    let mut said = Vec::new();
    for key in ["a", "b", "c"] {
        kv.put(put(key, "1")).await.expect("a put");
    }
    let all = |limit, revision| {
        let end = Bytes::from_static(&[0]);
        pb::RangeRequest { range_end: end, limit, revision, ..get("a") }
    };
    let range = |response: pb::RangeResponse| {
        format!("{} keys, {} more: {}", response.kvs.len(), response.more, response.count)
    };
    for end in ENDS {
        said.push(format!("revision {end}: {}", shown(kv.range(all(0, end)).await, range)));
        said.push(format!("limit {end}: {}", shown(kv.range(all(end, 0)).await, range)));
        for request in [
            pb::RangeRequest { min_mod_revision: end, ..all(0, 0) },
            pb::RangeRequest { max_mod_revision: end, ..all(0, 0) },
            pb::RangeRequest { min_create_revision: end, ..all(0, 0) },
            pb::RangeRequest { max_create_revision: end, ..all(0, 0) },
        ] {
            said.push(format!("{end} as a bound: {}", shown(kv.range(request).await, range)));
        }
        let grant = pb::LeaseGrantRequest { id: 0, ttl: end };
        let granted = lease.lease_grant(grant).await;
        // The shortest time to live is each server's own.
        said.push(format!("ttl {end}: {}", shown(granted, |response| (response.ttl > 0).to_string())));
        let grant = pb::LeaseGrantRequest { id: end, ttl: 60 };
        let granted = lease.lease_grant(grant).await;
        said.push(format!(
            "lease {end}: {}",
            shown(granted, |response| format!("{}", end == 0 || response.id == end))
        ));
        let ttl = pb::LeaseTimeToLiveRequest { id: end, keys: true };
        let left = lease.lease_time_to_live(ttl).await;
        said.push(format!("left of {end}: {}", shown(left, |response| response.granted_ttl.to_string())));
        let request = pb::PutRequest { lease: end, ..put("a", "2") };
        said.push(format!("put with {end}: {}", shown(kv.put(request).await, |_| String::new())));
        let revoke = pb::LeaseRevokeRequest { id: end };
        let revoked = lease.lease_revoke(revoke).await;
        said.push(format!("revoke {end}: {}", shown(revoked, |_| String::new())));
    }
    for revision in [i64::MIN, -1, i64::MAX, 3, 3, 0] {
        let compact = pb::CompactionRequest { revision, physical: false };
        said.push(format!("compact {revision}: {}", shown(kv.compact(compact).await, |_| String::new())));
    }
    let mut maintenance = MaintenanceClient::new(channel);
    for revision in [i64::MIN, -1, 1, i64::MAX] {
        let hashed = maintenance.hash_kv(pb::HashKvRequest { revision }).await;
        said.push(format!("hash of {revision}: {}", shown(hashed, |hash| hash.compact_revision.to_string())));
    }
    said
}

/// Creates a watcher; what came first, and, if it was created, that it sees a write.
async fn watch(channel: Channel, watch_id: i64, start_revision: i64) -> String {
    let create = pb::WatchCreateRequest { key: "w".into(), watch_id, start_revision, ..Default::default() };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(create).await.expect("room for one");
    let requests = Requests(receiver);
    let mut answers = match WatchClient::new(channel.clone()).watch(requests).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return format!("{:?}", status.code()),
    };
    let first = match timeout(ANSWER, answers.message()).await.expect("an answer in time") {
        Ok(Some(first)) => first,
        other => return format!("{other:?}"),
    };
    let mut said = format!(
        "id {} created {} canceled {} compacted {} {}",
        first.watch_id, first.created, first.canceled, first.compact_revision, first.cancel_reason
    );
    if first.canceled || start_revision == i64::MAX {
        return said;
    }
    KvClient::new(channel).put(put("w", "1")).await.expect("a put");
    match timeout(ANSWER, answers.message()).await.expect("an answer in time") {
        Ok(Some(next)) => said += &format!(", id {} events {}", next.watch_id, !next.events.is_empty()),
        other => said += &format!(", {other:?}"),
    }
    said
}

fn answers(url: &str, runtime: &Runtime) -> Vec<String> {
    let channel = channel(url, runtime);
    runtime.block_on(async {
        let mut said = ask(channel.clone()).await;
        for id in [i64::MIN, -2, 7, i64::MAX] {
            said.push(format!("watch {id}: {}", watch(channel.clone(), id, 0).await));
        }
        for start in [i64::MIN, -1, 1, i64::MAX] {
            said.push(format!("watch from {start}: {}", watch(channel.clone(), 0, start).await));
        }
        said
    })
}

#[test]
fn numbers_at_their_ends_are_answered_as_by_etcd() {
    let mut member = Member::start("input-numbers", &[]);
    let place = Server::Etcd.place("input-numbers-etcd");
    let etcd = Server::Etcd.start(place.root(), "etcd");
    let ours = answers(&member.running.client_url, &member.runtime);
    let theirs = answers(&etcd.client_url, &member.runtime);
    let different: Vec<_> = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(ours.len(), theirs.len());
    member.assert_serves("numbers");
}

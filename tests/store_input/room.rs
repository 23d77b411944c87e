//! A store that is full, and one that forgets its past by itself.

use cfg_api::etcdserverpb as pb;
use pb::alarm_request::AlarmAction;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use tonic::{Code, Status};

use crate::client::{Member, get, put};

fn assert_full(status: &Status) {
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
    );
}

fn alarm(action: AlarmAction) -> pb::AlarmRequest {
    pb::AlarmRequest { action: action.into(), member_id: 0, alarm: pb::AlarmType::None.into() }
}

#[test]
fn a_full_store_refuses_writes_until_there_is_room_again() {
    let mut member = Member::start("input-full", &["--quota", "1MiB"]);
    let channel = member.channel();
    let (mut kv, mut leases) = (KvClient::new(channel.clone()), LeaseClient::new(channel.clone()));
    let mut maintenance = MaintenanceClient::new(channel);
    member.runtime.block_on(async {
        let mut written = 0;
        let full = loop {
            match kv.put(put(format!("k{written}"), vec![7; 10_000])).await {
                Ok(_) => written += 1,
                Err(status) => break status,
            }
            assert!(written < 200, "1 MiB holds no 2 MB");
        };
        assert_full(&full);
        assert!(written > 90, "only {written}");
        let raised = maintenance.alarm(alarm(AlarmAction::Get)).await.expect("a question").into_inner();
        assert_eq!(raised.alarms.len(), 1);
        assert_eq!(raised.alarms[0].alarm, i32::from(pb::AlarmType::Nospace));
        // Whatever would add to it, also what is small, and again without an entry of the log for each.
        let before = maintenance.status(pb::StatusRequest {}).await.expect("a status").into_inner();
        for _ in 0..50 {
            assert_full(&kv.put(put("small", "1")).await.expect_err("full"));
        }
        let after = maintenance.status(pb::StatusRequest {}).await.expect("a status").into_inner();
        assert_eq!(before.raft_index, after.raft_index);
        let op = |request| pb::RequestOp { request: Some(request) };
        let puts = vec![op(pb::request_op::Request::RequestPut(put("small", "1")))];
        assert_full(&kv.txn(pb::TxnRequest { success: puts, ..Default::default() }).await.expect_err("full"));
        let grant = pb::LeaseGrantRequest { id: 7, ttl: 60 };
        assert_full(&leases.lease_grant(grant).await.expect_err("full"));
        // Reads and what makes room go on.
        kv.range(get("k1")).await.expect("a read");
        let delete = |key: &str| pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
        let deletes = vec![op(pb::request_op::Request::RequestDeleteRange(delete("k0")))];
        kv.txn(pb::TxnRequest { success: deletes, ..Default::default() }).await.expect("a deletion");
        let range = pb::DeleteRangeRequest { range_end: "l".into(), ..delete("k") };
        let deleted = kv.delete_range(range).await.expect("a deletion").into_inner();
        assert_eq!(deleted.deleted, written - 1);
        let revision = deleted.header.expect("a header").revision;
        kv.compact(pb::CompactionRequest { revision, physical: true }).await.expect("a compaction");
        assert_full(&kv.put(put("small", "1")).await.expect_err("the alarm stands"));
        let off = maintenance.alarm(alarm(AlarmAction::Deactivate)).await.expect("an order").into_inner();
        assert_eq!(off.alarms.len(), 1);
        kv.put(put("small", "1")).await.expect("there is room");
    });
    member.assert_serves("the quota");
}

/// Writes until revision 2 is forgotten; each write is what may lead to it.
async fn write_until_forgotten(kv: &mut KvClient<tonic::transport::Channel>) -> i64 {
    for _ in 0..20_000 {
        let put = kv.put(put("a", "1")).await.expect("a put").into_inner();
        let now = put.header.expect("a header").revision;
        match kv.range(pb::RangeRequest { revision: 2, ..get("a") }).await {
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
                return now;
            }
        }
    }
    panic!("nothing was forgotten")
}

#[test]
fn the_past_is_forgotten_by_itself() {
    let mut member = Member::start("input-revisions", &["--auto-compaction-retention", "100"]);
    let mut kv = KvClient::new(member.channel());
    let now = member.runtime.block_on(write_until_forgotten(&mut kv));
    assert!(now >= 110, "revision 2 was forgotten at {now}, with less than 100 behind it");
    let kept = pb::RangeRequest { revision: now - 99, ..get("a") };
    member.runtime.block_on(kv.range(kept)).expect("what is to be kept");
    member.assert_serves("revisions");
    let periodic = ["--auto-compaction-mode", "periodic", "--auto-compaction-retention", "200ms"];
    let mut member = Member::start("input-period", &periodic);
    let mut kv = KvClient::new(member.channel());
    let begun = std::time::Instant::now();
    member.runtime.block_on(write_until_forgotten(&mut kv));
    assert!(begun.elapsed().as_millis() >= 180, "forgotten after {:?}", begun.elapsed());
    member.assert_serves("a period");
}

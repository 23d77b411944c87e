//! Care of one member, and who is in the cluster.

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, MemberAddOptions};

use crate::{Checked, equal, refused, there};

/// etcd's tools want a length that is a multiple of it, and a SHA-256 behind.
const BLOCK: usize = 512;
/// Of a SHA-256.
const SUM: usize = 32;

pub(crate) async fn check(client: &mut Client) -> Checked {
    let status = client.status().await?;
    let member = there(status.header())?.member_id();
    equal((status.leader(), status.is_learner(), status.errors().len()), (member, false, 0))?;
    equal(status.version().split('.').count(), 3)?;
    equal(status.db_size() >= status.raft_used_db_size() && status.raft_used_db_size() > 0, true)?;
    equal(status.raft_index() >= status.raft_applied_index() && status.raft_term() > 0, true)?;

    let hash = client.hash_kv(0).await?;
    let revision = there(hash.header())?.revision();
    equal(client.hash_kv(revision).await?.hash(), hash.hash())?;
    client.put("m", "1", None).await?;
    equal(client.hash_kv(0).await?.hash() == hash.hash(), false)?;
    equal(client.hash_kv(revision).await?.hash(), hash.hash())?;
    refused(client.hash_kv(revision + 1000).await, "required revision is a future revision")?;
    client.compact(revision + 1, None).await?;
    equal(client.hash_kv(0).await?.compact_version(), revision + 1)?;

    client.defragment().await?;
    equal(client.get("m", None).await?.count(), 1)?;
    let mut snapshot = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(piece) = snapshot.message().await? {
        bytes += piece.blob().len();
    }
    equal((bytes > BLOCK, bytes % BLOCK), (true, SUM))?;
    alarms(client, member).await?;
    client.delete("m", None).await?;
    Ok(())
}

/// While the alarm of a full disk is on, nothing is written.
async fn alarms(client: &mut Client, member: u64) -> Checked {
    let mut here = AlarmOptions::new();
    here.with_member(member);
    let raised = client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(here.clone())).await?;
    equal(raised.alarms().len(), 1)?;
    let listed = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    let found: Vec<_> = listed.alarms().iter().map(|one| (one.member_id(), one.alarm())).collect();
    equal(found, vec![(member, AlarmType::Nospace)])?;
    refused(client.put("m", "2", None).await, "etcdserver: mvcc: database space exceeded")?;
    equal(client.status().await?.errors().len(), 1)?;
    client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(here)).await?;
    equal(client.alarm(AlarmAction::Get, AlarmType::None, None).await?.alarms().len(), 0)?;
    client.put("m", "2", None).await?;
    Ok(())
}

/// The one member, and a learner that comes and goes.
pub(crate) async fn members(client: &mut Client) -> Checked {
    let listed = client.member_list().await?;
    let id = there(listed.header())?.member_id();
    let only = there(listed.members().first())?;
    equal((listed.members().len(), only.id(), only.name(), only.is_learner()), (1, id, "one", false))?;
    equal((only.peer_urls().len(), only.client_urls().len()), (1, 1))?;

    // Nobody is there: a learner is not needed for an agreement.
    let learner = Some(MemberAddOptions::new().with_is_learner());
    let added = client.member_add(["http://127.0.0.1:1"], learner).await?;
    let new = there(added.member())?;
    equal((new.is_learner(), new.name(), added.member_list().len()), (true, "", 2))?;
    let new = new.id();
    client.member_update(new, vec!["http://127.0.0.1:2".to_owned()]).await?;
    let listed = client.member_list().await?;
    let learner = there(listed.members().iter().find(|member| member.id() == new))?;
    equal(learner.peer_urls(), &["http://127.0.0.1:2".to_owned()])?;
    let early = client.member_promote(new).await;
    refused(early, "etcdserver: can only promote a learner member which is in sync with leader")?;
    equal(client.member_remove(new).await?.members().len(), 1)?;
    refused(client.member_remove(new).await, "etcdserver: member not found")?;
    refused(client.move_leader(new).await, "etcdserver: bad leader transferee")?;
    equal(client.member_list().await?.members().len(), 1)
}

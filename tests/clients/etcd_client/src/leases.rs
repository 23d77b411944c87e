//! Leases: granted, kept alive, asked for, listed, revoked, and left to expire.

use etcd_client::{Client, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions};

use crate::{Checked, equal, refused, there};

/// Of a lease that shall last, seconds.
const LONG: i64 = 600;

pub(crate) async fn check(client: &mut Client) -> Checked {
    equal(client.leases().await?.leases().len(), 0)?;
    let granted = client.lease_grant(LONG, Some(LeaseGrantOptions::new().with_id(4711))).await?;
    equal((granted.id(), granted.ttl(), granted.error()), (4711, LONG, ""))?;
    let again = client.lease_grant(LONG, Some(LeaseGrantOptions::new().with_id(4711))).await;
    refused(again, "etcdserver: lease already exists")?;
    let other = client.lease_grant(LONG, None).await?.id();
    let mut known: Vec<i64> = client.leases().await?.leases().iter().map(|lease| lease.id()).collect();
    known.sort_unstable();
    let mut wanted = vec![4711, other];
    wanted.sort_unstable();
    equal(known, wanted)?;

    client.put("l/a", "1", Some(PutOptions::new().with_lease(4711))).await?;
    client.put("l/b", "2", Some(PutOptions::new().with_lease(4711))).await?;
    let with_keys = Some(LeaseTimeToLiveOptions::new().with_keys());
    let about = client.lease_time_to_live(4711, with_keys).await?;
    equal((about.id(), about.granted_ttl()), (4711, LONG))?;
    equal((LONG - 60..=LONG).contains(&about.ttl()), true)?;
    let mut keys = about.keys().to_vec();
    keys.sort();
    equal(keys, vec![b"l/a".to_vec(), b"l/b".to_vec()])?;
    equal(client.lease_time_to_live(4711, None).await?.keys().len(), 0)?;

    let (mut keeper, mut answers) = client.lease_keep_alive(4711).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let answer = there(answers.message().await?)?;
        equal((answer.id(), answer.ttl()), (4711, LONG))?;
    }
    client.lease_revoke(4711).await?;
    // The keys went with it; who keeps it alive hears that it is gone.
    equal(client.get("l/a", None).await?.count() + client.get("l/b", None).await?.count(), 0)?;
    keeper.keep_alive().await?;
    equal(there(answers.message().await?)?.ttl(), 0)?;
    equal(client.lease_time_to_live(4711, None).await?.ttl(), -1)?;
    refused(client.lease_revoke(4711).await, "etcdserver: requested lease not found")?;
    refused(client.lease_keep_alive(4711).await.map(|_| ()), "lease not found")?;
    client.lease_revoke(other).await?;
    expiry(client).await
}

/// A lease that nobody keeps alive takes its keys with it.
async fn expiry(client: &mut Client) -> Checked {
    let granted = client.lease_grant(1, None).await?;
    equal(granted.ttl() >= 1, true)?;
    let lease = granted.id();
    let put = client.put("l/c", "3", Some(PutOptions::new().with_lease(lease))).await?;
    let from = there(put.header())?.revision() + 1;
    let mut watch = client.watch("l/c", Some(WatchOptions::new().with_start_revision(from))).await?;
    equal(there(watch.message().await?)?.created(), true)?;
    let gone = there(watch.message().await?)?;
    equal(there(gone.events().first())?.event_type(), etcd_client::EventType::Delete)?;
    equal(client.lease_time_to_live(lease, None).await?.ttl(), -1)?;
    equal(client.leases().await?.leases().len(), 0)
}

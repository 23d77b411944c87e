//! What lasts longer than a request: leases and watches, while leaders change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cfg_api::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::codegen::tokio_stream;

use super::block_on;
use super::client::{self, channel, put_anywhere};
use super::harness::random::Random;
use super::harness::rounds;
use super::load::{self, Load, Watching};
use super::members::{Cluster, LOOK, PATIENCE};

/// Seconds a lease lives in these tests: more than a machine with other work takes from a sign of life to the next.
const TTL: i64 = 5;
/// How much later than its time a lease may end: a majority has to agree, twice if the leader is new.
const LATE: Duration = Duration::from_secs(8);

/// A sign of life, at one member after the other until one takes it; gives the time to live.
async fn keep_alive(urls: &[String], id: i64) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    for url in urls.iter().cycle() {
        let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
        let mut client = LeaseClient::new(channel(url));
        let asked = async { client.lease_keep_alive(once).await?.into_inner().message().await };
        if let Ok(Ok(Some(answer))) = timeout(Duration::from_millis(800), asked).await {
            return answer.ttl;
        }
        assert!(Instant::now() < deadline, "nobody takes a sign of life");
        // sleep: between two tries
        sleep(LOOK).await;
    }
    unreachable!("there are members")
}

/// Keeps a lease alive until told otherwise; fails when it is not alive any more.
fn holder(urls: Vec<String>, id: i64, over: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            assert!(keep_alive(&urls, id).await > 0, "the lease has ended");
            // sleep: a holder gives signs of life at intervals
            sleep(Duration::from_millis(300)).await;
        }
    })
}

/// Waits until `key` is there or not at the member itself.
async fn wait_until(there: bool, url: &str, key: &str) {
    let deadline = Instant::now() + PATIENCE;
    while client::get(url, key, true).await.ok().map(|value| value.is_some()) != Some(there) {
        assert!(Instant::now() < deadline, "{key} at {url}: it should be there: {there}");
        // sleep: bounded polling
        sleep(LOOK).await;
    }
}

#[test]
fn leases_live_by_their_holders_not_by_leaders() {
    block_on(async {
        let mut cluster = Cluster::three("leases", &[]).await;
        let urls = cluster.urls();
        let kept = client::grant(&urls[0], TTL).await;
        client::put_with(&urls[0], "kept", b"value".to_vec(), kept).await.expect("a put");
        let over = Arc::new(AtomicBool::new(false));
        let holding = holder(urls.clone(), kept, over.clone());
        for round in 0..rounds(2, 10) {
            let leader = cluster.leader().await;
            let key = format!("left {round}");
            let left = client::grant(&urls[leader], TTL).await;
            client::put_with(&urls[leader], &key, b"value".to_vec(), left).await.expect("a put");
            for url in &urls {
                wait_until(true, url, &key).await;
            }
            cluster.members[leader].kill();
            let killed = Instant::now();
            for url in (0..3).filter(|&place| place != leader).map(|place| &urls[place]) {
                wait_until(false, url, &key).await;
            }
            eprintln!("a lease of {TTL} s ended {:?} after its leader", killed.elapsed());
            assert!(killed.elapsed() < Duration::from_secs(TTL as u64) + LATE, "{:?}", killed.elapsed());
            cluster.members[leader].start();
            wait_until(false, &urls[leader], &key).await;
            assert!(
                client::get(&urls[leader], "kept", false).await.expect("a read").is_some(),
                "it was kept alive"
            );
        }
        over.store(true, Ordering::Relaxed);
        holding.await.expect("the lease lived");
        wait_until(false, &urls[0], "kept").await;
        cluster.logs_are_clean();
    });
}

#[test]
fn a_leader_that_stood_still_ends_no_lease() {
    block_on(async {
        let cluster = Cluster::three("stillease", &[]).await;
        let urls = cluster.urls();
        let leader = cluster.leader().await;
        let kept = client::grant(&urls[leader], TTL).await;
        client::put_with(&urls[leader], "kept", b"value".to_vec(), kept).await.expect("a put");
        let over = Arc::new(AtomicBool::new(false));
        let holding = holder(urls.clone(), kept, over.clone());
        cluster.members[leader].signal("STOP");
        // sleep: longer than the lease lives by the old leader's clock
        sleep(Duration::from_secs(TTL as u64) + Duration::from_millis(1500)).await;
        cluster.members[leader].signal("CONT");
        // What it would revoke it revokes now; when it follows again that is over.
        cluster.leader().await;
        let until = put_anywhere(&urls, "marker", "end").await;
        cluster.agree(until).await;
        for url in &urls {
            assert!(client::get(url, "kept", false).await.expect("a read").is_some(), "it was kept alive");
        }
        over.store(true, Ordering::Relaxed);
        holding.await.expect("the lease lived");
        cluster.logs_are_clean();
    });
}

fn everything(start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        start_revision,
        ..pb::WatchCreateRequest::default()
    }
}

#[test]
fn watches_on_followers_miss_nothing() {
    let (_, seed) = Random::announced("watches");
    block_on(async {
        let mut cluster = Cluster::three("watches", &[]).await;
        let load = Load::start(cluster.urls(), 3, 1, seed);
        for _ in 0..rounds(2, 20) {
            let leader = cluster.leader().await;
            let follower = cluster.members[(leader + 1) % 3].client_url.clone();
            let mut watching = Watching::begin(&follower, everything(1), true).await.expect("a watch");
            load.more(20).await;
            cluster.members[leader].kill();
            load.more(20).await;
            cluster.members[leader].start();
            let until = put_anywhere(&cluster.urls(), "marker", "until here").await;
            let mut seen: Vec<_> = Vec::new();
            while seen.last().is_none_or(|last: &super::history::Change| last.revision < until) {
                match watching.next().await {
                    Ok(changes) => seen.extend(changes),
                    // A slow election is told to those who asked for it; they go on where they were.
                    Err(status) if status.message() == "etcdserver: no leader" => {
                        cluster.leader().await;
                        let from = seen.last().map_or(1, |last| last.revision + 1);
                        watching = Watching::begin(&follower, everything(from), true).await.expect("a watch");
                    }
                    Err(status) => panic!("{status}"),
                }
            }
            let in_order = seen.windows(2).all(|two| two[0].revision < two[1].revision);
            assert!(in_order, "each once, in order");
            seen.retain(|change| change.key.starts_with(load::PREFIX) && change.revision < until);
            let mut all = load::changes(&cluster.members[leader].client_url, until).await;
            all.retain(|change| change.revision < until);
            assert_eq!(seen, all);
        }
        super::kills::judge(&cluster, load).await;
        cluster.logs_are_clean();
    });
}

#[test]
fn who_wants_a_leader_learns_that_there_is_none() {
    block_on(async {
        let mut cluster = Cluster::three("noleader", &[]).await;
        put_anywhere(&cluster.urls(), "key", "value").await;
        // The one that is left may have been the leader or not.
        let leader = cluster.leader().await;
        for left in [leader, (leader + 1) % 3] {
            cluster.leader().await;
            let url = cluster.members[left].client_url.clone();
            let mut watching = Watching::begin(&url, everything(0), true).await.expect("a watch");
            watching.next().await.expect("it is created");
            for place in (0..3).filter(|&place| place != left) {
                cluster.members[place].kill();
            }
            let told = watching.next().await.expect_err("nobody leads");
            assert_eq!((told.code(), told.message()), (Code::Unavailable, "etcdserver: no leader"));
            let get = || pb::RangeRequest {
                key: b"key".to_vec().into(),
                serializable: true,
                ..pb::RangeRequest::default()
            };
            let mut kv = KvClient::new(channel(&url));
            let refused = kv.range(client::with_leader(get())).await.expect_err("nobody leads");
            assert_eq!(refused.message(), "etcdserver: no leader");
            let there = kv.range(get()).await.expect("what is there can be read").into_inner();
            assert_eq!(there.kvs.len(), 1);
            let status = client::status(&url).await.expect("a status");
            assert_eq!(status.leader, 0);
            // Nor when it comes back alone, though it may have led.
            cluster.members[left].kill();
            let ready = cluster.members[left].spawn();
            let deadline = std::time::Instant::now() + PATIENCE;
            while client::status(&url).await.ok().is_none_or(|status| status.leader != 0) {
                assert!(std::time::Instant::now() < deadline, "it leads nobody");
                // sleep: bounded polling
                sleep(LOOK).await;
            }
            cluster.start_all();
            cluster.members[left].wait(&ready);
        }
        cluster.logs_are_clean();
    });
}

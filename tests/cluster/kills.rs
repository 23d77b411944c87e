//! The leader dies, stands still, hands over; all die.

use std::time::{Duration, Instant};

use super::block_on;
use super::client::{self, put_anywhere};
use super::harness::random::Random;
use super::harness::rounds;
use super::history::History;
use super::load::{self, Load};
use super::members::Cluster;

/// Between two kills, so that all members are well again.
const WRITES_BETWEEN: usize = 30;
const WRITERS: u64 = 3;
const READERS: u64 = 3;
/// What a machine with other work may need; without it a leader is replaced within two seconds.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Ends the load and compares what was seen with what the members know.
pub async fn judge(cluster: &Cluster, load: Load) -> History {
    let history = load.finish().await;
    let urls: Vec<String> = cluster
        .members
        .iter()
        .filter(|member| member.runs())
        .map(|member| member.client_url.clone())
        .collect();
    let until = put_anywhere(&urls, "marker", "end").await;
    let mut all = Vec::new();
    for url in &urls {
        all.push(load::changes(url, until).await);
    }
    assert!(all.windows(2).all(|two| two[0] == two[1]), "the members do not remember the same");
    if urls.len() > 1 {
        cluster.agree(until).await;
    }
    history.check(&all[0]).unwrap_or_else(|problem| panic!("{problem}"));
    eprintln!(
        "{} writes acknowledged, {} unknown, {} reads, {} changes",
        history.done(),
        history.unknown(),
        history.reads.len(),
        all[0].len()
    );
    history
}

/// Median and maximum, for people.
fn show(what: &str, stalls: &mut [Duration]) {
    stalls.sort_unstable();
    let max = *stalls.last().expect("there was one");
    eprintln!("{what}: median {:?}, max {max:?} of {}", stalls[stalls.len() / 2], stalls.len());
    assert!(max < STALL_MAX, "{what}: {stalls:?}");
}

#[test]
fn leaders_killed_lose_nothing() {
    let (_, seed) = Random::announced("kills");
    block_on(async {
        let mut cluster = Cluster::three("kills", &[]).await;
        let load = Load::start(cluster.urls(), WRITERS, READERS, seed);
        let mut stalls = Vec::new();
        for _ in 0..rounds(10, 30) {
            load.more(WRITES_BETWEEN).await;
            let leader = cluster.leader().await;
            let killed = Instant::now();
            cluster.members[leader].kill();
            let ready = cluster.members[leader].spawn();
            stalls.push(load.stall(killed).await);
            cluster.members[leader].wait(&ready);
        }
        judge(&cluster, load).await;
        show("stall when the leader is killed", &mut stalls);
        cluster.logs_are_clean();
    });
}

#[test]
fn leaders_killed_for_longer_lose_nothing() {
    let (_, seed) = Random::announced("away");
    block_on(async {
        let mut cluster = Cluster::three("away", &[]).await;
        let load = Load::start(cluster.urls(), WRITERS, READERS, seed);
        let mut stalls = Vec::new();
        for _ in 0..rounds(4, 30) {
            load.more(WRITES_BETWEEN).await;
            let leader = cluster.leader().await;
            let killed = Instant::now();
            cluster.members[leader].kill();
            stalls.push(load.stall(killed).await);
            cluster.members[leader].start();
        }
        judge(&cluster, load).await;
        show("stall when the leader is killed and stays away", &mut stalls);
        cluster.logs_are_clean();
    });
}

#[test]
fn a_leader_that_stood_still_tells_nothing_old() {
    let (_, seed) = Random::announced("still");
    block_on(async {
        let cluster = Cluster::three("still", &[]).await;
        let mut load = Load::start(cluster.urls(), WRITERS, READERS, seed);
        let mut stalls = Vec::new();
        for _ in 0..rounds(2, 10) {
            load.more(WRITES_BETWEEN).await;
            let leader = cluster.leader().await;
            let stopped = Instant::now();
            cluster.members[leader].signal("STOP");
            stalls.push(load.stall(stopped).await);
            let others: Vec<usize> = (0..3).filter(|&place| place != leader).collect();
            assert_ne!(cluster.leader_among(&others).await, leader, "another one leads");
            // These ask it at the very moment when it goes on.
            for _ in 0..4 {
                load.read_at(&cluster.members[leader].client_url, WRITERS);
            }
            let length = Duration::from_secs(rounds(2, 10));
            // sleep: the leader stands still for so long; nothing is waited for
            tokio::time::sleep(length.saturating_sub(stopped.elapsed())).await;
            cluster.members[leader].signal("CONT");
            load.more(WRITES_BETWEEN).await;
        }
        judge(&cluster, load).await;
        show("stall when the leader stands still", &mut stalls);
        cluster.logs_are_clean();
    });
}

#[test]
fn all_killed_at_once_lose_nothing() {
    let (_, seed) = Random::announced("all");
    block_on(async {
        let mut cluster = Cluster::three("all", &[]).await;
        let load = Load::start(cluster.urls(), WRITERS, READERS, seed);
        let mut stalls = Vec::new();
        for _ in 0..rounds(3, 20) {
            load.more(WRITES_BETWEEN).await;
            let killed = Instant::now();
            cluster.members.iter_mut().for_each(super::members::Member::kill);
            cluster.start_all();
            stalls.push(load.stall(killed).await);
        }
        judge(&cluster, load).await;
        show("stall when all are killed", &mut stalls);
        cluster.logs_are_clean();
    });
}

#[test]
fn the_lead_moves_without_loss() {
    let (_, seed) = Random::announced("moves");
    block_on(async {
        let cluster = Cluster::three("moves", &[]).await;
        let load = Load::start(cluster.urls(), WRITERS, READERS, seed);
        let mut stalls = Vec::new();
        for round in 0..rounds(3, 20) as usize {
            load.more(WRITES_BETWEEN).await;
            let leader = cluster.leader().await;
            let next = (leader + 1 + round % 2) % 3;
            let target = client::id(&cluster.members[next].client_url).await;
            let asked = Instant::now();
            let moved = client::move_leader(&cluster.members[leader].client_url, target).await;
            moved.unwrap_or_else(|error| panic!("the lead does not move: {error}"));
            stalls.push(load.stall(asked).await);
            assert_eq!(cluster.leader().await, next);
        }
        let history = judge(&cluster, load).await;
        eprintln!("{} unknown", history.unknown());
        show("stall when the lead moves", &mut stalls);
        cluster.logs_are_clean();
    });
}

#[test]
fn a_client_that_goes_away_leaves_a_leader() {
    let (mut random, seed) = Random::announced("cancelled");
    block_on(async {
        let cluster = Cluster::three("cancelled", &[]).await;
        let load = Load::start(cluster.urls(), WRITERS, READERS, seed);
        let mut stalls = Vec::new();
        for _ in 0..rounds(3, 30) {
            load.more(WRITES_BETWEEN).await;
            let leader = cluster.leader().await;
            let target = client::id(&cluster.members[(leader + 1) % 3].client_url).await;
            let asked = Instant::now();
            let moving = client::move_leader(&cluster.members[leader].client_url, target);
            let patience = Duration::from_millis(random.between(20, 600));
            let _ = tokio::time::timeout(patience, moving).await;
            stalls.push(load.stall(asked + patience).await);
        }
        judge(&cluster, load).await;
        show("stall when a client gives up moving the lead", &mut stalls);
    });
}

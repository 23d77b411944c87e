//! One member becomes three, three become one, while clients write.

use super::block_on;
use super::client;
use super::harness::place::Place;
use super::harness::random::Random;
use super::harness::rounds;
use super::kills::judge;
use super::load::Load;
use super::members::{Cluster, Member};

#[test]
fn one_grows_to_three_and_shrinks_to_one() {
    let (_, seed) = Random::announced("growth");
    block_on(async {
        let place = Place::new("growth");
        let mut first = Member::new(place.root(), "a");
        first.start();
        let load = Load::start(vec![first.client_url.clone()], 3, 2, seed);
        let mut cluster = Cluster { members: vec![first], place };
        load.more(50).await;
        for (count, name) in [(2, "b"), (3, "c")] {
            let mut member = Member::new(cluster.place.root(), name);
            member.arguments = vec!["--join".into(), cluster.members[0].peer_url.clone()];
            member.start();
            cluster.members.push(member);
            client::wait_for_voters(&cluster.members[0].client_url, count).await;
            load.set_urls(cluster.urls());
            load.more(50).await;
        }
        // The leader first, then the other one.
        for left in [2, 1] {
            let leader = cluster.leader().await;
            let id = client::id(&cluster.members[leader].client_url).await;
            let asked = (leader + left - 1) % cluster.members.len();
            let urls: Vec<String> = cluster.urls();
            let stay = (0..urls.len()).filter(|&place| place != leader).map(|place| urls[place].clone());
            let removed = client::remove(&urls[asked], id).await;
            removed.unwrap_or_else(|error| panic!("{id:x} is not removed: {error}"));
            let mut gone = cluster.members.remove(leader);
            load.set_urls(stay.collect());
            assert_eq!(gone.exit_code(), 4, "{}", gone.log());
            assert!(gone.log().contains("was removed from the cluster"), "{}", gone.log());
            client::wait_for_voters(&cluster.members[0].client_url, left).await;
            load.more(50).await;
            // It does not come back by itself, and says why.
            gone.spawn();
            assert_eq!(gone.exit_code(), 4, "{}", gone.log());
        }
        judge(&cluster, load).await;
        cluster.logs_are_clean();
    });
}

#[test]
fn who_joins_while_leaders_die_is_let_in_once() {
    let (_, seed) = Random::announced("joining");
    block_on(async {
        let mut cluster = Cluster::three("joining", &[]).await;
        let load = Load::start(cluster.urls(), 2, 1, seed);
        let urls: Vec<String> = cluster.members.iter().map(|member| member.peer_url.clone()).collect();
        for round in 0..rounds(2, 20) {
            load.more(20).await;
            let leader = cluster.leader().await;
            let mut new = Member::new(cluster.place.root(), &format!("new{round}"));
            new.arguments = vec!["--join".into(), urls.join(",")];
            let ready = new.spawn();
            for _ in 0..2 {
                cluster.members[leader].kill();
                cluster.members[leader].start();
            }
            new.wait(&ready);
            client::wait_for_voters(&new.client_url, 4).await;
            let id = client::id(&new.client_url).await;
            let removed = client::remove(&cluster.members[0].client_url, id).await;
            removed.unwrap_or_else(|error| panic!("{id:x} is not removed: {error}"));
            assert_eq!(new.exit_code(), 4, "{}", new.log());
        }
        judge(&cluster, load).await;
        cluster.logs_are_clean();
    });
}

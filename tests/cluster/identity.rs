//! Directories that are not what they should be: another cluster's, lost ones, used ones.

use super::block_on;
use super::client::{self, put_anywhere};
use super::harness::place::Place;
use super::members::{Cluster, Member};

#[test]
fn a_member_of_another_cluster_does_no_harm() {
    block_on(async {
        let mut cluster = Cluster::three("foreign", &[]).await;
        let place = Place::new("foreigner");
        let mut foreigner = Member::new(place.root(), "x");
        foreigner.start();
        put_anywhere(&[foreigner.client_url.clone()], "whose", "foreign").await;
        foreigner.kill();
        let before = put_anywhere(&cluster.urls(), "whose", "ours").await;

        // It comes where the last member was.
        cluster.members[2].kill();
        foreigner.peer_url = cluster.members[2].peer_url.clone();
        foreigner.client_url = cluster.members[2].client_url.clone();
        foreigner.start();
        let two = &cluster.urls()[..2];
        for number in 0..20 {
            put_anywhere(two, "whose", &format!("ours {number}")).await;
        }
        let alien =
            client::get(&foreigner.client_url, "whose", false).await.expect("it serves its own cluster");
        assert_eq!(alien.as_deref(), Some("foreign"));
        let leader = cluster.leader_among(&[0, 1]).await;
        cluster.members[leader].wait_for_log("the message is for").await;
        foreigner.kill();

        cluster.members[2].start();
        let until = put_anywhere(&cluster.urls(), "whose", "ours at the end").await;
        assert!(until > before);
        cluster.agree(until).await;
        let ours = client::get(&cluster.members[2].client_url, "whose", false).await;
        assert_eq!(ours.expect("a read").as_deref(), Some("ours at the end"));
        cluster.logs_are_clean();
    });
}

#[test]
fn a_first_member_without_its_disk_founds_nothing() {
    block_on(async {
        let mut cluster = Cluster::three("lost", &["--join-timeout", "2"]).await;
        let before = put_anywhere(&cluster.urls(), "key", "value").await;
        let id = client::id(&cluster.members[0].client_url).await;

        // The others are there: they know it.
        cluster.members[0].kill();
        std::fs::remove_dir_all(&cluster.members[0].data_dir).expect("its directory");
        let _ready = cluster.members[0].spawn();
        assert_eq!(cluster.members[0].exit_code(), 4, "{}", cluster.members[0].log());
        let said = cluster.members[0].log();
        assert!(said.contains(&format!("etcdctl member remove {id:x}")), "{said}");

        // Nobody is there: it waits, and gives up.
        cluster.members[1].kill();
        cluster.members[2].kill();
        let _ready = cluster.members[0].spawn();
        assert_eq!(cluster.members[0].exit_code(), 6, "{}", cluster.members[0].log());
        let said = cluster.members[0].log();
        assert!(said.contains("1 of 3 members answer and are empty"), "{said}");

        // It does what it was told.
        let others: Vec<_> = (1..3).map(|place| cluster.members[place].spawn()).collect();
        for (place, ready) in (1..3).zip(&others) {
            cluster.members[place].wait(ready);
        }
        let removed = client::remove(&cluster.members[1].client_url, id).await;
        removed.unwrap_or_else(|error| panic!("{id:x} is not removed: {error}"));
        cluster.members[0].start();
        client::wait_for_voters(&cluster.members[0].client_url, 3).await;
        assert_ne!(client::id(&cluster.members[0].client_url).await, id, "it is another member now");
        let until = put_anywhere(&cluster.urls(), "key", "another").await;
        assert!(until > before);
        cluster.agree(until).await;
    });
}

#[test]
fn a_directory_has_one_process() {
    block_on(async {
        let place = Place::new("twice");
        let mut first = Member::new(place.root(), "a");
        first.start();
        let mut second = Member::new(place.root(), "b");
        second.data_dir = first.data_dir.clone();
        let _ready = second.spawn();
        assert_eq!(second.exit_code(), 4);
        assert!(second.log().contains("is in use by another process"), "{}", second.log());
        put_anywhere(&[first.client_url.clone()], "key", "value").await;
    });
}

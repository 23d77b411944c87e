//! Disks that are full, and members that were away for long.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::block_on;
use super::client::{self, put_anywhere};
use super::harness::random::Random;
use super::harness::{process, root_or_skip};
use super::kills::judge;
use super::load::Load;
use super::members::Cluster;

/// A small file system in memory; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).expect("a mount point");
        let target = path.to_str().expect("a readable path");
        let options = format!("size={size}");
        process::output("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", target]);
        Self(path.to_path_buf())
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut file = File::create(self.0.join("ballast")).expect("a ballast");
        while file.write_all(&[0x55; 4096]).is_ok() {}
    }

    fn relieve(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("the ballast");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let target = self.0.to_str().expect("a readable path");
        process::run("umount", &["--lazy", target], Duration::from_secs(60));
    }
}

#[test]
fn a_full_disk_stops_one_member_only() {
    if !root_or_skip("a full file system") {
        return;
    }
    let (_, seed) = Random::announced("fulldisk");
    block_on(async {
        let mut cluster = Cluster::unstarted("fulldisk", &[]);
        let small = Small::mount(&cluster.members[2].data_dir, "96m");
        cluster.start_all();
        client::wait_for_voters(&cluster.members[0].client_url, 3).await;
        let load = Load::start(cluster.urls(), 2, 2, seed);
        for leads in [false, true] {
            load.more(20).await;
            let leader = cluster.leader().await;
            let wanted = if leads { 2 } else { 0 };
            if leader != wanted {
                let target = client::id(&cluster.members[wanted].client_url).await;
                let moved = client::move_leader(&cluster.members[leader].client_url, target).await;
                moved.unwrap_or_else(|error| panic!("the lead does not move: {error}"));
            }
            small.fill();
            // More than a segment of the log has room for.
            let two = &cluster.urls()[..2];
            for _ in 0..40 {
                put_anywhere(two, "large", &"x".repeat(500_000)).await;
            }
            assert_eq!(cluster.members[2].exit_code(), 1, "{}", cluster.members[2].log());
            let said = cluster.members[2].log();
            assert!(said.contains("No space left on device"), "{said}");
            load.more(20).await;
            small.relieve();
            cluster.members[2].start();
            client::wait_for_voters(&cluster.members[2].client_url, 3).await;
        }
        judge(&cluster, load).await;
    });
}

#[test]
fn who_was_away_for_long_gets_a_snapshot() {
    let (_, seed) = Random::announced("snapshot");
    block_on(async {
        let mut cluster = Cluster::three("snapshot", &["--snapshot-count", "50"]).await;
        let load = Load::start(cluster.urls(), 3, 2, seed);
        load.more(50).await;
        cluster.members[2].kill();
        for number in 0..100 {
            put_anywhere(&cluster.urls()[..2], &format!("large {number}"), &"y".repeat(20_000)).await;
        }
        load.more(300).await;
        cluster.members[2].start();
        cluster.members[2].wait_for_log("the whole state came from the leader").await;
        load.more(50).await;
        judge(&cluster, load).await;
        cluster.logs_are_clean();
    });
}

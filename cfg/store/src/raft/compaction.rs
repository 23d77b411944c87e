//! Old revisions are forgotten by and by: the leader proposes it, so that all members forget the same.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use cfg_api::etcdserverpb as pb;
use tokio::time::{Instant, sleep};

use super::node::Node;
use crate::mvcc::Revision;
use crate::words::command::Command as Kind;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All of it, until somebody compacts.
    Off,
    /// So many revisions before the newest one at least, and at most a tenth more.
    Revisions(u64),
    /// The revisions of so long at least, and at most a tenth longer. A new leader counts from when it began.
    Period(Duration),
}

/// In how many parts a period is measured.
const PARTS: u32 = 10;

/// The task that compacts.
pub(super) async fn run(node: Weak<Node>) {
    let Some(wanted) = node.upgrade().map(|node| node.options.auto_compaction) else { return };
    match wanted {
        AutoCompaction::Off => {}
        AutoCompaction::Revisions(kept) => keep_revisions(node, kept).await,
        AutoCompaction::Period(period) => keep_period(node, period).await,
    }
}

async fn keep_revisions(node: Weak<Node>, kept: u64) {
    let Some(mut revisions) = node.upgrade().map(|node| node.replica.revisions()) else { return };
    let kept = i64::try_from(kept).unwrap_or(i64::MAX);
    let enough = kept.saturating_add((kept / i64::from(PARTS)).max(1));
    loop {
        let Some(strong) = node.upgrade() else { return };
        let (now, compacted) =
            strong.read(|machine| (machine.store.revision(), machine.store.compacted().max(0)));
        if strong.is_leader() && now - compacted >= enough {
            strong.compact_to(now - kept).await;
        }
        drop(strong);
        if revisions.changed().await.is_err() {
            return;
        }
    }
}

async fn keep_period(node: Weak<Node>, period: Duration) {
    let part = (period / PARTS).max(Duration::from_millis(1));
    // Revisions of the moments behind this one, the oldest in front.
    let mut past: VecDeque<(Instant, Revision)> = VecDeque::new();
    loop {
        sleep(part).await;
        let Some(strong) = node.upgrade() else { return };
        if !strong.is_leader() {
            past.clear();
            continue;
        }
        past.push_back((Instant::now(), strong.read(|machine| machine.store.revision())));
        let mut due = None;
        while let Some((_, revision)) = past.pop_front_if(|(then, _)| then.elapsed() >= period) {
            due = Some(revision);
        }
        let compacted = strong.read(|machine| machine.store.compacted().max(1));
        if let Some(revision) = due.filter(|&revision| revision > compacted) {
            strong.compact_to(revision).await;
        }
    }
}

impl Node {
    async fn compact_to(&self, revision: Revision) {
        let compact = pb::CompactionRequest { revision, physical: false };
        match self.propose(Kind::Compact(compact)).await {
            Ok(_) => tracing::debug!(revision, "forgot what was before"),
            // The next turn does it.
            Err(error) => tracing::debug!(revision, %error, "cannot compact now"),
        }
    }
}

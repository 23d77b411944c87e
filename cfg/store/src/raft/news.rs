//! What an operator wants to know of a member: who leads, who belongs to the cluster, and why it ended.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Weak;
use std::sync::atomic::Ordering;

use openraft::error::Fatal;
use tokio::time::timeout;

use super::node::{Ended, Node};
use crate::machine::MemberId;

type ServerMetrics = openraft::metrics::RaftServerMetrics<MemberId, openraft::EmptyNode>;

/// Numbers of members as people write them.
struct Numbers<'a>(&'a BTreeSet<MemberId>);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(|id| format!("{id:x}")).collect();
        f.write_str(&numbers.join(" "))
    }
}

/// What was said last.
#[derive(Default)]
struct Said {
    leader: Option<(MemberId, u64)>,
    voters: BTreeSet<MemberId>,
    learners: BTreeSet<MemberId>,
}

impl Said {
    fn say(&mut self, node: &Node, now: &ServerMetrics) {
        // A member alone leads itself, and nobody wants to know.
        if self.voters.len() <= 1 && now.membership_config.nodes().count() <= 1 {
            return;
        }
        let term = now.vote.leader_id.term;
        if let Some(leader) = now.current_leader
            && self.leader != Some((leader, term))
        {
            self.leader = Some((leader, term));
            let name = node.read(|machine| {
                machine.members.get(&leader).map(|member| member.description.name.clone()).unwrap_or_default()
            });
            let here = leader == node.id;
            tracing::info!(leader = %format_args!("{leader:x}"), name, here, term, "a leader");
        }
        let config = &now.membership_config;
        let voters: BTreeSet<MemberId> = config.voter_ids().collect();
        let learners = config.nodes().map(|(&id, _)| id).filter(|id| !voters.contains(id)).collect();
        if (&self.voters, &self.learners) != (&voters, &learners) {
            tracing::info!(voters = %Numbers(&voters), learners = %Numbers(&learners), "the members");
            (self.voters, self.learners) = (voters, learners);
        }
    }
}

/// Says what changes, and notices when this member has no part any more.
pub(super) async fn tell(node: Weak<Node>) {
    let Some((mut changes, mut removed)) =
        node.upgrade().map(|node| (node.raft.server_metrics(), node.peers.removed()))
    else {
        return;
    };
    let mut said = Said::default();
    loop {
        let Some(strong) = node.upgrade() else { return };
        let now = changes.borrow_and_update().clone();
        said.say(&strong, &now);
        if *removed.borrow_and_update() || strong.read(|machine| machine.was_removed(strong.id)) {
            strong.ended.send_replace(Some(Ended::Removed));
            return;
        }
        let pause = strong.options.request_timeout;
        drop(strong);
        let over = tokio::select! {
            changed = timeout(pause, changes.changed()) => matches!(changed, Ok(Err(_))),
            _ = removed.changed() => false,
        };
        if over {
            break;
        }
    }
    // openraft has let go of its end of the news.
    let Some(node) = node.upgrade() else { return };
    if node.stopping.load(Ordering::Relaxed) {
        return;
    }
    let why = match node.metrics().running_state {
        Err(Fatal::StorageError(error)) => format!("its data cannot be kept: {error}"),
        Err(error) => error.to_string(),
        Ok(()) => "the agreement ended without a reason".into(),
    };
    node.ended.send_replace(Some(Ended::Failed(why)));
}

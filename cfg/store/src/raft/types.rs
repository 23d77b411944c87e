//! The types that openraft is set up with, and their way to and from [`crate::words`].

use std::collections::{BTreeMap, BTreeSet};

use openraft::{CommittedLeaderId, EmptyNode, EntryPayload, LeaderId};

use super::files::SnapshotFile;
use crate::machine::MemberId;
use crate::words;

openraft::declare_raft_types!(
    /// What is agreed on: batches of commands. Addresses of members are part of the state, not of the membership, so
    /// that a member can come back at another place.
    pub(crate) Types:
        D = words::Batch,
        R = Vec<words::Outcome>,
        NodeId = MemberId,
        Node = EmptyNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = SnapshotFile,
);

pub(super) type LogId = openraft::LogId<MemberId>;
pub(super) type Vote = openraft::Vote<MemberId>;
pub(super) type Entry = openraft::Entry<Types>;
pub(super) type StoredMembership = openraft::StoredMembership<MemberId, EmptyNode>;
pub(super) type StorageError = openraft::StorageError<MemberId>;

pub(super) fn log_id(id: words::LogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term, 0), id.index)
}

pub(super) fn log_id_words(id: LogId) -> words::LogId {
    words::LogId { term: id.leader_id.term, index: id.index }
}

/// The default vote, in which nobody was voted for, has member 0.
pub(super) fn vote(vote: words::Vote) -> Vote {
    let voted_for = (vote.member != 0).then_some(vote.member);
    Vote { leader_id: LeaderId { term: vote.term, voted_for }, committed: vote.committed }
}

pub(super) fn vote_words(vote: &Vote) -> words::Vote {
    let member = vote.leader_id.voted_for.unwrap_or(0);
    words::Vote { term: vote.leader_id.term, member, committed: vote.committed }
}

fn membership(membership: &words::Membership) -> openraft::Membership<MemberId, EmptyNode> {
    let configurations: Vec<BTreeSet<MemberId>> =
        membership.configurations.iter().map(|voters| voters.ids.iter().copied().collect()).collect();
    let members: BTreeMap<MemberId, EmptyNode> =
        membership.members.iter().map(|&id| (id, EmptyNode::default())).collect();
    openraft::Membership::new(configurations, members)
}

fn membership_words(
    membership: &openraft::Membership<MemberId, EmptyNode>,
    at: Option<LogId>,
) -> words::Membership {
    let voters = |ids: &BTreeSet<MemberId>| words::Voters { ids: ids.iter().copied().collect() };
    words::Membership {
        at: at.map(log_id_words),
        configurations: membership.get_joint_config().iter().map(voters).collect(),
        members: membership.nodes().map(|(&id, _)| id).collect(),
    }
}

pub(super) fn stored_membership(stored: Option<&words::Membership>) -> StoredMembership {
    stored.map_or_else(StoredMembership::default, |stored| {
        StoredMembership::new(stored.at.map(log_id), membership(stored))
    })
}

pub(super) fn stored_membership_words(
    at: LogId,
    membership: &openraft::Membership<MemberId, EmptyNode>,
) -> words::Membership {
    membership_words(membership, Some(at))
}

/// An entry; `id` is what stands in front of it in the log.
pub(super) fn entry(id: LogId, words: words::Entry) -> Entry {
    let payload = match words.payload {
        None => EntryPayload::Blank,
        Some(words::entry::Payload::Batch(batch)) => EntryPayload::Normal(batch),
        Some(words::entry::Payload::Membership(words)) => EntryPayload::Membership(membership(&words)),
    };
    Entry { log_id: id, payload }
}

pub(super) fn entry_words(entry: Entry) -> words::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(batch) => Some(words::entry::Payload::Batch(batch)),
        EntryPayload::Membership(membership) => {
            Some(words::entry::Payload::Membership(membership_words(&membership, None)))
        }
    };
    words::Entry { id: Some(log_id_words(entry.log_id)), payload }
}

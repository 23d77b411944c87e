//! What a member went through, as simply as it can be said: to compare with what its disk says afterwards.

use std::collections::BTreeMap;

use cfg_api::etcdserverpb as pb;
use openraft::EntryPayload;

use crate::machine::Machine;
use crate::raft::types::{self, Entry, LogId};
use crate::words::command::Command as Kind;
use crate::words::{Batch, Command, Found, Vote};

/// What the cluster agreed on.
pub(super) struct Truth {
    /// The state behind each entry, by the index behind it; index 0 is the empty one.
    pub(super) states: Vec<Machine>,
    /// The entries.
    agreed: Vec<Entry>,
}

/// What one member has of it.
#[derive(Clone, Default)]
pub(super) struct Model {
    /// The log, by index; what was purged is missing.
    pub(super) log: BTreeMap<u64, Entry>,
    /// Last id of the log, or the purged one.
    pub(super) last: Option<LogId>,
    /// Entries up to it are purged.
    pub(super) purged: Option<LogId>,
    /// Of the newest snapshot.
    pub(super) snapshot: Option<LogId>,
    /// The vote.
    pub(super) vote: Option<Vote>,
}

/// Applies one entry, as the state machine must.
fn apply(machine: &mut Machine, entry: &Entry) {
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(batch) => drop(machine.apply(entry.log_id.index, batch)),
        EntryPayload::Membership(membership) => {
            machine.membership = Some(types::stored_membership_words(entry.log_id, membership));
        }
    }
    machine.applied = Some(types::log_id_words(entry.log_id));
}

impl Truth {
    pub(super) fn new() -> Self {
        Self { states: vec![Machine::default()], agreed: Vec::new() }
    }

    /// The state behind `id`, if that was agreed on.
    pub(super) fn state(&self, id: Option<LogId>) -> Option<&Machine> {
        let Some(id) = id else { return self.states.first() };
        let index = usize::try_from(id.index).ok()?;
        (self.entry(id.index)?.log_id == id).then(|| &self.states[index + 1])
    }

    /// The state behind everything.
    pub(super) fn newest(&self) -> &Machine {
        &self.states[self.agreed.len()]
    }

    /// The cluster agrees on the next entry.
    pub(super) fn agree(&mut self, entry: &Entry) {
        assert_eq!(entry.log_id.index, self.next());
        let mut state = self.newest().clone();
        apply(&mut state, entry);
        self.states.push(state);
        self.agreed.push(entry.clone());
    }

    /// The last id.
    pub(super) fn committed(&self) -> Option<LogId> {
        self.agreed.last().map(|entry| entry.log_id)
    }

    /// The entry at `index`, if there is one.
    pub(super) fn entry(&self, index: u64) -> Option<&Entry> {
        self.agreed.get(usize::try_from(index).ok()?)
    }

    /// Index of the next one.
    pub(super) fn next(&self) -> u64 {
        self.agreed.len() as u64
    }
}

impl Model {
    pub(super) fn append(&mut self, entry: Entry) {
        self.last = Some(entry.log_id);
        self.log.insert(entry.log_id.index, entry);
    }

    pub(super) fn truncate(&mut self, from: u64) {
        self.log.retain(|&index, _| index < from);
        self.last = self.log.values().next_back().map(|entry| entry.log_id).or(self.purged);
    }

    pub(super) fn purge(&mut self, id: LogId) {
        self.log.retain(|&index, _| index > id.index);
        self.purged = self.purged.max(Some(id));
        if self.last.is_none_or(|last| last.index <= id.index) {
            self.last = Some(id);
        }
    }
}

/// An entry of any kind. `random` draws a number below its argument.
pub(super) fn any_entry(term: u64, index: u64, random: &mut impl FnMut(u64) -> u64) -> Entry {
    let log_id = types::log_id(crate::words::LogId { term, index });
    let payload = match random(8) {
        _ if index == 0 => EntryPayload::Membership(openraft::Membership::new(vec![[1].into()], None)),
        0 => EntryPayload::Blank,
        1 => {
            let voters = (1..2 + random(4)).collect();
            EntryPayload::Membership(openraft::Membership::new(vec![voters], None))
        }
        _ => {
            let commands = (0..=random(3)).map(|_| Command { command: Some(any_command(random)) }).collect();
            EntryPayload::Normal(Batch { commands })
        }
    };
    Entry { log_id, payload }
}

fn any_command(random: &mut impl FnMut(u64) -> u64) -> Kind {
    let key = |random: &mut dyn FnMut(u64) -> u64| bytes::Bytes::from(format!("key{}", random(6)));
    match random(8) {
        0 => Kind::Found(Found { cluster_id: 7, member: None }),
        1 => Kind::DeleteRange(pb::DeleteRangeRequest { key: key(random), ..Default::default() }),
        2 => Kind::LeaseGrant(pb::LeaseGrantRequest { id: 1 + random(3) as i64, ttl: 60 }),
        3 => Kind::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 + random(3) as i64 }),
        4 => Kind::Compact(pb::CompactionRequest { revision: random(40) as i64, physical: false }),
        _ => {
            let length = [3, 200, 1500][random(3) as usize];
            let value = vec![random(256) as u8; length].into();
            let lease = if random(4) == 0 { 1 + random(3) as i64 } else { 0 };
            Kind::Put(pb::PutRequest { key: key(random), value, lease, ..Default::default() })
        }
    }
}

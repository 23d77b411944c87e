//! The log in memory: what the records written so far come to. The same rules hold for a request and for a
//! record that is read back.

use std::collections::VecDeque;

use super::record::Record;
use super::{Entry, LogId, Vote};

/// All of a log but its entries: what a segment's header holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The last vote.
    pub(super) vote: Option<Vote>,
    /// Known to be committed.
    pub(super) committed: Option<LogId>,
    /// Entries up to here are dropped.
    pub(super) purged: Option<LogId>,
    /// The last entry, or `purged`.
    pub(super) last: Option<LogId>,
}

impl State {
    /// Follows a record that holds.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Committed(id) => self.committed = Some(*id),
            Record::Entry(entry) => self.last = Some(entry.id),
            Record::Truncate { last, .. } => self.last = *last,
            Record::Purge(id) => {
                self.purged = Some(*id);
                if self.last.is_none_or(|last| last.index <= id.index) {
                    self.last = Some(*id);
                }
            }
        }
    }

    /// Whether the entry at `index` is dropped from the front.
    fn is_purged(&self, index: u64) -> bool {
        self.purged.is_some_and(|purged| index <= purged.index)
    }
}

/// A log: its state, and its entries without a hole from the one behind `purged` to `last`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Of all records so far.
    pub(super) state: State,
    entries: VecDeque<Entry>,
    /// Payload of all entries, bytes.
    bytes: u64,
    /// Only while a log is read whose first segments are deleted: the highest index of the entries that were
    /// in them. A purge must turn up that covers it.
    gone: Option<u64>,
}

impl Memory {
    /// A log that is read from a segment on that began with `state`.
    pub(super) fn new(state: State) -> Memory {
        let gone = state.last.map(|last| last.index).filter(|&index| !state.is_purged(index));
        Memory { state, gone, ..Memory::default() }
    }

    /// Payload of all entries, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Index of an entry that should be there and is not.
    pub(super) fn gone(&self) -> Option<u64> {
        self.gone
    }

    /// Index of the first entry.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.id.index)
    }

    /// The entries from `start` to before `end`: as many as fit `max_bytes` of payload, one at least.
    pub(super) fn entries(&self, start: u64, end: u64, max_bytes: usize) -> Vec<Entry> {
        let first = self.entries.front().map_or(0, |entry| entry.id.index);
        let skip = start.checked_sub(first).and_then(|skip| usize::try_from(skip).ok());
        let Some(skip) = skip else { return Vec::new() };
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in self.entries.iter().skip(skip).take_while(|entry| entry.id.index < end) {
            bytes += entry.payload.len();
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        found
    }

    /// Whether an entry may follow `last`, the position before it.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check_entry(last: Option<LogId>, id: LogId) -> Result<(), String> {
        match last {
            // Behind nothing a log may begin anywhere.
            None => Ok(()),
            Some(last) if last.index.checked_add(1) != Some(id.index) => {
                Err(format!("entry {} does not follow entry {}", id.index, last.index))
            }
            Some(last) if id <= last => {
                Err(format!("entry {} is of term {}, older than the entry before it", id.index, id.term))
            }
            Some(_) => Ok(()),
        }
    }

    /// The record that drops the entries from `from` on; `None`: there are none.
    ///
    /// # Errors
    /// They are purged.
    pub(super) fn truncation(&self, from: u64) -> Result<Option<Record>, String> {
        if self.state.is_purged(from) {
            return Err(format!("entry {from} was purged and cannot be dropped from the end"));
        }
        if self.state.last.is_none_or(|last| last.index < from) {
            return Ok(None);
        }
        let before = self.entries.iter().rev().find(|entry| entry.id.index < from);
        let last = before.map(|entry| entry.id).or(self.state.purged);
        Ok(Some(Record::Truncate { from, last }))
    }

    /// The record that drops the entries up to `upto`; `None`: they are dropped already.
    ///
    /// # Errors
    /// It would leave a hole.
    pub(super) fn purging(&self, upto: LogId) -> Result<Option<Record>, String> {
        if self.state.is_purged(upto.index) {
            return Ok(None);
        }
        let hole = self.gone.is_none()
            && self.entries.front().is_some_and(|first| upto.index.checked_add(1) < Some(first.id.index));
        if hole {
            return Err(format!("a purge of entry {} leaves a hole behind it", upto.index));
        }
        Ok(Some(Record::Purge(upto)))
    }

    /// Whether `record` may follow what is there.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, record: &Record) -> Result<(), String> {
        match record {
            Record::Vote(_) | Record::Committed(_) => Ok(()),
            Record::Entry(entry) => Self::check_entry(self.state.last, entry.id),
            Record::Truncate { from, last } => match self.truncation(*from)? {
                // The position before it was in a deleted segment: nothing to compare with.
                Some(_) if self.gone.is_some_and(|gone| gone.checked_add(1) >= Some(*from)) => match last {
                    Some(last) if last.index.checked_add(1) != Some(*from) => {
                        Err(format!("a truncation from entry {from} on leaves entry {}", last.index))
                    }
                    None if self.state.purged.is_some() => {
                        Err(format!("a truncation from entry {from} on leaves nothing"))
                    }
                    _ => Ok(()),
                },
                Some(expected) if expected == *record => Ok(()),
                _ => Err(format!("a truncation from entry {from} on does not fit the log")),
            },
            Record::Purge(id) => match self.purging(*id)? {
                Some(_) => Ok(()),
                None => Err(format!("entry {} is purged a second time", id.index)),
            },
        }
    }

    /// Follows one more record.
    ///
    /// # Errors
    /// Why it cannot be; nothing is changed then.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), String> {
        self.check(record)?;
        self.state.apply(record);
        match record {
            Record::Vote(_) | Record::Committed(_) => {}
            Record::Entry(entry) => {
                self.bytes += entry.payload.len() as u64;
                self.entries.push_back(entry.clone());
            }
            Record::Truncate { from, last } => {
                while let Some(dropped) = self.entries.pop_back_if(|entry| entry.id.index >= *from) {
                    self.bytes -= dropped.payload.len() as u64;
                }
                if self.gone.is_some_and(|gone| gone >= *from) {
                    self.gone = last.map(|last| last.index).filter(|&index| !self.state.is_purged(index));
                }
            }
            Record::Purge(id) => {
                while let Some(dropped) = self.entries.pop_front_if(|entry| entry.id.index <= id.index) {
                    self.bytes -= dropped.payload.len() as u64;
                }
                self.gone = self.gone.filter(|&gone| gone > id.index);
            }
        }
        Ok(())
    }
}

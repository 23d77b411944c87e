//! Tests of the log below its handle: the same seed is the same run.
mod damage;
mod format;
mod power_loss;
mod rules;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use uring::sim::{SimOptions, SimWorld};

use super::memory::{Memory, State};
use super::record::Record;
use super::{Entry, LogId, Options, Vote};

/// Where the logs of these tests lie.
fn dir() -> &'static Path {
    Path::new("/store/log")
}

/// A disk with the directory above the log's.
fn world(seed: u64, options: SimOptions) -> SimWorld {
    let world = SimWorld::new(seed, options);
    world.disk().create_dir(Path::new("/store")).expect("a new disk");
    world.disk().sync_dir(Path::new("/")).expect("a new disk");
    world
}

fn small() -> Options {
    Options { segment_bytes: 3 << 10, batch_bytes: 1 << 10, entry_bytes_max: 4 << 10, ..Options::default() }
}

/// A log as simple as it can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    state: State,
    entries: BTreeMap<u64, Entry>,
}

impl Model {
    fn apply(&mut self, record: &Record) {
        match record {
            Record::Vote(vote) => self.state.vote = Some(*vote),
            Record::Committed(id) => self.state.committed = Some(*id),
            Record::Entry(entry) => drop(self.entries.insert(entry.id.index, entry.clone())),
            Record::Truncate { from, .. } => self.entries.retain(|index, _| index < from),
            Record::Purge(id) => {
                self.entries.retain(|&index, _| index > id.index);
                self.state.purged = Some(*id);
            }
        }
        self.state.last = self.entries.values().next_back().map(|entry| entry.id).or(self.state.purged);
    }

    fn of(memory: &Memory) -> Model {
        let first = memory.state.purged.map_or(0, |purged| purged.index + 1);
        let entries = memory.entries(first, u64::MAX, usize::MAX);
        let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        assert_eq!(memory.bytes(), bytes as u64);
        Model { state: memory.state, entries: entries.into_iter().map(|it| (it.id.index, it)).collect() }
    }

    /// A record that may come next. `random` draws a number below its argument.
    fn any_record(&self, random: &mut impl FnMut(u64) -> u64) -> Record {
        let last = self.state.last;
        let next = last.map_or(0, |last| last.index + 1);
        let term = last.map_or(1, |last| last.term) + u64::from(random(8) == 0);
        match random(16) {
            0..=1 => {
                let before = self.state.vote.map_or(0, |vote| vote.term);
                Record::Vote(Vote { term: before + random(2), node: random(3), committed: random(2) == 0 })
            }
            2..=3 if !self.entries.is_empty() => {
                let first = next - self.entries.len() as u64;
                let from = first + random(next - first);
                let before = from.checked_sub(1).and_then(|index| self.entries.get(&index));
                Record::Truncate { from, last: before.map(|entry| entry.id).or(self.state.purged) }
            }
            4..=6 if self.entries.len() > 3 => {
                let first = next - self.entries.len() as u64;
                // Now and then beyond the last, as behind a snapshot from elsewhere.
                let beyond = u64::from(random(4) == 0) * 5;
                let index = first + random(next - first + beyond);
                Record::Purge(
                    self.entries.get(&index).map_or(LogId { term, node: 1, index }, |entry| entry.id),
                )
            }
            7 if last.is_some() => Record::Committed(last.unwrap_or_default()),
            _ => {
                let len = [0, 10, 100, 700, 1800][random(5) as usize] + random(20) as usize;
                // Some payloads have whole sectors of zeros.
                let fill = if random(3) == 0 { 0 } else { 1 + random(255) as u8 };
                let mut payload = vec![fill; len];
                payload.iter_mut().take(8).zip(next.to_le_bytes()).for_each(|(to, from)| *to = from);
                entry(term, next, payload)
            }
        }
    }
}

fn entry(term: u64, index: u64, payload: impl Into<Bytes>) -> Record {
    Record::Entry(Entry { id: LogId { term, node: 1, index }, payload: payload.into() })
}

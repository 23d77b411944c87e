//! What clients saw, and whether a store that does one thing after the other can have said it.
//!
//! Values are written once only, and the store numbers its changes: so a history is judged by comparing numbers. What
//! really happened is read from the store itself, at the end, as the events since the beginning.

use std::collections::HashMap;
use std::time::Instant;

/// A write as its client saw it.
#[derive(Clone, Debug)]
pub struct Write {
    pub key: String,
    pub value: String,
    /// Only if the key was last changed at this revision.
    pub expected: Option<i64>,
    pub begun: Instant,
    pub outcome: Outcome,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Acknowledged at this moment, with this revision.
    Done(Instant, i64),
    /// Its condition did not hold.
    NotDone,
    /// It may have been done, or be done yet.
    Unknown,
}

/// A linearizable read.
#[derive(Clone, Debug)]
pub struct Read {
    pub key: String,
    pub begun: Instant,
    pub ended: Instant,
    /// Of the store.
    pub revision: i64,
    /// Value and the revision of its write.
    pub found: Option<(String, i64)>,
    /// Who answered.
    pub by: String,
}

/// A change as the store remembers it, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub revision: i64,
    pub key: String,
    pub value: String,
}

/// What all clients saw.
#[derive(Default)]
pub struct History {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
}

impl History {
    /// Whether `changes`, all there ever were, explain what was seen.
    pub fn check(&self, changes: &[Change]) -> Result<(), String> {
        self.check_changes(changes)?;
        self.check_writes(changes)?;
        self.check_reads(changes)?;
        self.check_time()
    }

    /// Each change is one write, and no write is more than one change.
    fn check_changes(&self, changes: &[Change]) -> Result<(), String> {
        let tried: HashMap<&str, &Write> =
            self.writes.iter().map(|write| (write.value.as_str(), write)).collect();
        let (mut seen, mut last): (HashMap<&str, i64>, HashMap<&str, i64>) = Default::default();
        for change in changes {
            let write = tried.get(change.value.as_str()).ok_or(format!("nobody wrote {change:?}"))?;
            if let Some(before) = seen.insert(&change.value, change.revision) {
                return Err(format!("{change:?} came back: it was written at {before}"));
            }
            if write.key != change.key || write.outcome == Outcome::NotDone {
                return Err(format!("{change:?} is not {write:?}"));
            }
            let before = last.insert(&change.key, change.revision).unwrap_or(0);
            if write.expected.is_some_and(|expected| expected != before) {
                return Err(format!("{write:?} was done behind revision {before}"));
            }
        }
        Ok(())
    }

    /// What was acknowledged is there, as it was acknowledged.
    fn check_writes(&self, changes: &[Change]) -> Result<(), String> {
        let by_revision: HashMap<i64, &Change> =
            changes.iter().map(|change| (change.revision, change)).collect();
        for write in &self.writes {
            let Outcome::Done(_, revision) = write.outcome else { continue };
            let there = by_revision.get(&revision).is_some_and(|change| change.value == write.value);
            if !there {
                return Err(format!("lost: {write:?}, there is {:?}", by_revision.get(&revision)));
            }
        }
        Ok(())
    }

    /// Each read shows the state at its revision.
    fn check_reads(&self, changes: &[Change]) -> Result<(), String> {
        let mut by_key: HashMap<&str, Vec<&Change>> = HashMap::new();
        for change in changes {
            by_key.entry(&change.key).or_default().push(change);
        }
        for read in &self.reads {
            let of_key = by_key.get(read.key.as_str()).map_or(&[][..], Vec::as_slice);
            let until = of_key.partition_point(|change| change.revision <= read.revision);
            let there = until.checked_sub(1).map(|last| (of_key[last].value.clone(), of_key[last].revision));
            if there != read.found {
                return Err(format!("{read:?} should have found {there:?}"));
            }
        }
        Ok(())
    }

    /// What begins after something has ended comes behind it.
    fn check_time(&self) -> Result<(), String> {
        // What was known for certain, by when it was known.
        let mut ends: Vec<(Instant, i64)> =
            self.reads.iter().map(|read| (read.ended, read.revision)).collect();
        // What must know it: a write comes behind, a read not in front.
        let mut begins: Vec<(Instant, i64, bool)> =
            self.reads.iter().map(|read| (read.begun, read.revision, false)).collect();
        for write in &self.writes {
            if let Outcome::Done(at, revision) = write.outcome {
                ends.push((at, revision));
                begins.push((write.begun, revision, true));
            }
        }
        ends.sort_unstable();
        begins.sort_unstable();
        let (mut known, mut next) = (0, 0);
        for (begun, revision, writes) in begins {
            while let Some(&(_, ended)) = ends.get(next).filter(|(at, _)| *at < begun) {
                known = known.max(ended);
                next += 1;
            }
            if revision < known + i64::from(writes) {
                let what = if writes { "a write" } else { "a read" };
                return Err(format!(
                    "stale: {what} got revision {revision} when {known} was known before it began: {}",
                    self.of(begun)
                ));
            }
        }
        Ok(())
    }

    /// What began at a moment, for people.
    fn of(&self, begun: Instant) -> String {
        let read = self.reads.iter().find(|read| read.begun == begun).map(|read| format!("{read:?}"));
        let write = self.writes.iter().find(|write| write.begun == begun).map(|write| format!("{write:?}"));
        read.or(write).unwrap_or_default()
    }

    /// Writes that were acknowledged.
    pub fn done(&self) -> usize {
        self.writes.iter().filter(|write| matches!(write.outcome, Outcome::Done(..))).count()
    }

    /// Writes of which nobody knows.
    pub fn unknown(&self) -> usize {
        self.writes.iter().filter(|write| write.outcome == Outcome::Unknown).count()
    }
}

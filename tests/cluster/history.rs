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
                return Err(format!("{}: {read:?} should have found {there:?}", read.by));
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

mod tests {
    use std::time::Duration;

    use super::*;

    /// Three writes of one key, a second apart, and a read behind each.
    fn sound() -> (History, Vec<Change>) {
        let begun = Instant::now();
        let at = |seconds: f64| begun + Duration::from_secs_f64(seconds);
        let (mut history, mut changes) = (History::default(), Vec::new());
        for number in 0..3_i64 {
            let (start, revision, value) = (number as f64, number + 2, format!("v{number}"));
            history.writes.push(Write {
                key: "k".into(),
                value: value.clone(),
                expected: (number > 0).then_some(revision - 1),
                begun: at(start),
                outcome: Outcome::Done(at(start + 0.2), revision),
            });
            history.reads.push(Read {
                key: "k".into(),
                begun: at(start + 0.4),
                ended: at(start + 0.6),
                revision,
                found: Some((value.clone(), revision)),
                by: "a".into(),
            });
            changes.push(Change { revision, key: "k".into(), value });
        }
        (history, changes)
    }

    fn problem(spoil: impl FnOnce(&mut History, &mut Vec<Change>)) -> String {
        let (mut history, mut changes) = sound();
        spoil(&mut history, &mut changes);
        history.check(&changes).expect_err("it is not sound")
    }

    #[test]
    fn a_sound_history_passes() {
        let (mut history, changes) = sound();
        history.check(&changes).expect("it is sound");
        // Whether an unknown write was done does not matter.
        history.writes[2].outcome = Outcome::Unknown;
        history.check(&changes).expect("it is sound");
        history.reads.pop();
        history.check(&changes[..2]).expect("it is sound");
    }

    #[test]
    fn each_fault_is_found() {
        let lost = problem(|_, changes| drop(changes.pop()));
        assert!(lost.starts_with("lost"), "{lost}");
        let twice = problem(|_, changes| {
            let again = changes[0].value.clone();
            changes.push(Change { revision: 9, key: "k".into(), value: again });
        });
        assert!(twice.contains("came back"), "{twice}");
        let foreign = problem(|_, changes| changes[1].value = "else".into());
        assert!(foreign.starts_with("nobody wrote"), "{foreign}");
        let swapped = problem(|history, _| history.writes[2].expected = Some(2));
        assert!(swapped.contains("was done behind"), "{swapped}");
        let refused = problem(|history, _| history.writes[2].outcome = Outcome::NotDone);
        assert!(refused.contains("is not"), "{refused}");
        let stale = problem(|history, _| {
            history.reads[2].revision = 3;
            history.reads[2].found = Some(("v1".into(), 3));
        });
        assert!(stale.starts_with("stale: a read"), "{stale}");
        let wrong = problem(|history, _| history.reads[1].found = Some(("v0".into(), 2)));
        assert!(wrong.contains("should have found"), "{wrong}");
        let early = problem(|history, _| {
            let known = history.writes[2].begun - Duration::from_millis(1);
            history.reads.push(Read { ended: known, begun: known, revision: 4, ..history.reads[2].clone() });
        });
        assert!(early.starts_with("stale: a write"), "{early}");
    }
}

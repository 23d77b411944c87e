//! One file's bytes in two layers: what survives power loss for certain, and what reads see. Between them lies the
//! list of changes, in the order of their completion; those that are not `sure` may or may not survive.

use std::collections::VecDeque;

use super::faults::{Dice, Fate};
use super::pages::{PAGE, Pages, Payload, SECTOR};

/// One change of a file's bytes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Overwrites, and extends the file up to the end of the data.
    Write { offset: u64, data: Payload },
    /// Cuts or extends.
    SetLen(u64),
    /// Extends if the file is shorter: what is left of a write whose length survived, but not its bytes.
    Extend(u64),
    /// Inverts bits at rest.
    Flip { offset: u64, mask: u8 },
    /// Loses bytes at rest: zeros inside the file, whose length stays.
    Blank { offset: u64, len: u64 },
}

impl Change {
    fn apply(&self, pages: &mut Pages) {
        match self {
            Change::Write { offset, data } => pages.write(*offset, data),
            Change::SetLen(len) => pages.set_len(*len),
            Change::Extend(len) => pages.set_len(pages.len.max(*len)),
            Change::Flip { offset, mask } => pages.flip(*offset, *mask),
            Change::Blank { offset, len } => {
                let len = (*len).min(pages.len.saturating_sub(*offset));
                pages.write(*offset, &Payload::Zeros(len));
            }
        }
    }

    /// What is left when fate decides over a change that nobody made durable.
    pub(super) fn survivors(self, dice: &mut Dice<'_>) -> Vec<Change> {
        let fate = dice.fate(matches!(self, Change::Write { .. }));
        match (fate, self) {
            (Fate::Keep, change) => vec![change],
            (Fate::Lose, _) => Vec::new(),
            (Fate::Tear, Change::Write { offset, data }) => torn(offset, &data, dice),
            (Fate::Tear, change) => vec![change],
        }
    }
}

/// A random subset of the sectors of a write, and perhaps its whole length.
fn torn(offset: u64, data: &Payload, dice: &mut Dice<'_>) -> Vec<Change> {
    let end = offset + data.len();
    let mut left = Vec::new();
    // Few sectors lost, half of them, or nearly all: each finds other mistakes in the reader.
    let density = [1, 4, 7][dice.rng.below(3) as usize];
    for sector in offset / SECTOR..end.div_ceil(SECTOR) {
        if dice.rng.chance(density, 8) {
            let (from, to) = (offset.max(sector * SECTOR), end.min((sector + 1) * SECTOR));
            left.push(Change::Write { offset: from, data: data.slice(from - offset..to - offset) });
        }
    }
    if dice.rng.chance(1, 2) {
        left.push(Change::Extend(end));
    }
    left
}

#[derive(Clone, Debug)]
struct Edit {
    change: Change,
    /// World clock when the change completed; edits are sorted by it.
    done: u64,
    /// Survives power loss.
    sure: bool,
}

/// The two layers.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    base: Pages,
    current: Pages,
    edits: VecDeque<Edit>,
}

impl Content {
    /// What reads see.
    pub(super) fn current(&self) -> &Pages {
        &self.current
    }

    /// What a power loss leaves for certain.
    pub(super) fn durable(&self) -> Pages {
        let mut pages = self.base.clone();
        self.edits.iter().filter(|edit| edit.sure).for_each(|edit| edit.change.apply(&mut pages));
        pages
    }

    /// Completes a change at clock value `done`.
    pub(super) fn change(&mut self, change: Change, done: u64, sure: bool) {
        change.apply(&mut self.current);
        self.edits.push_back(Edit { change, done, sure });
        self.settle();
    }

    /// Completes a sync that was submitted at clock value `submitted`: covers only what had completed then.
    pub(super) fn sync(&mut self, submitted: u64) {
        self.edits.iter_mut().filter(|edit| edit.done <= submitted).for_each(|edit| edit.sure = true);
        self.settle();
    }

    /// A sync failed: the fate of everything un-synced is decided now, and no later sync changes it. Reads still see
    /// all of it, as they do on a kernel that marked the pages clean.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice<'_>) {
        for edit in std::mem::take(&mut self.edits) {
            if edit.sure {
                self.edits.push_back(edit);
                continue;
            }
            let done = edit.done;
            let left = edit.change.survivors(dice).into_iter();
            self.edits.extend(left.map(|change| Edit { change, done, sure: true }));
        }
        // The layers differ now for good, so pages must not be shared: apply one by one.
        self.fold();
    }

    /// Power is lost with `pending` writes (submission clock, change) on their way. Afterwards nothing is un-synced.
    pub(super) fn crash(&mut self, pending: Vec<(u64, Change)>, dice: &mut Dice<'_>) {
        for (submitted, change) in pending {
            // It may have reached the disk before or after anything that completed since it was submitted.
            let first = self.edits.partition_point(|edit| edit.done <= submitted);
            let at = first + dice.rng.below((self.edits.len() - first) as u64 + 1) as usize;
            let done = at.checked_sub(1).map_or(submitted, |before| self.edits[before].done.max(submitted));
            self.edits.insert(at, Edit { change, done, sure: false });
        }
        for edit in std::mem::take(&mut self.edits) {
            if edit.sure {
                edit.change.apply(&mut self.base);
            } else {
                edit.change.survivors(dice).iter().for_each(|change| change.apply(&mut self.base));
            }
        }
        self.current = self.base.clone();
    }

    /// Pages that a write of `len` bytes at `offset` would allocate, in order.
    pub(super) fn missing_pages(&self, offset: u64, len: u64) -> impl Iterator<Item = u64> {
        (offset / PAGE..(offset + len).div_ceil(PAGE)).filter(|&page| !self.current.holds(page))
    }

    /// Moves the sure changes that nothing unsure precedes into the base.
    fn fold(&mut self) {
        while self.edits.front().is_some_and(|edit| edit.sure) {
            if let Some(edit) = self.edits.pop_front() {
                edit.change.apply(&mut self.base);
            }
        }
    }

    /// As [`Content::fold`]; when all changes are sure the layers share the pages instead of copying the bytes.
    fn settle(&mut self) {
        // Once a failed sync made the layers differ, only a change's own bytes may go down, not its pages.
        let whole_pages = |change: &Change| match change {
            Change::Write { offset, data } => offset.is_multiple_of(PAGE) && data.len().is_multiple_of(PAGE),
            _ => false,
        };
        if !self.edits.iter().all(|edit| edit.sure && whole_pages(&edit.change)) {
            return self.fold();
        }
        for edit in std::mem::take(&mut self.edits) {
            if let Change::Write { offset, data } = edit.change {
                let end = offset + data.len();
                self.base.share(&self.current, offset / PAGE..end / PAGE);
                self.base.len = self.base.len.max(end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::{Counters, Odds};
    use super::super::rng::Rng;
    use super::*;

    /// `settle` takes a short cut; the durable layer must be what the changes one by one would give.
    #[test]
    fn sharing_pages_equals_applying_changes() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let (mut content, mut model, mut waiting) = (Content::default(), Pages::default(), Vec::new());
            for clock in 1..60 {
                let unit = [PAGE, 100][rng.below(2) as usize];
                let data = vec![clock as u8; (unit * (1 + rng.below(3))) as usize];
                let data = Payload::new(std::iter::once(&data[..]));
                let change = match rng.below(5) {
                    0 => Change::SetLen(rng.below(6 * PAGE)),
                    _ => Change::Write { offset: unit * rng.below(5), data },
                };
                waiting.push(change.clone());
                content.change(change, clock, false);
                if rng.chance(1, 4) {
                    content.sync(clock);
                    waiting.drain(..).for_each(|change| change.apply(&mut model));
                }
                let (mut left, mut right) = (Vec::new(), Vec::new());
                content.durable().words(&mut |word| left.push(word));
                model.words(&mut |word| right.push(word));
                assert_eq!(left, right, "seed {seed} clock {clock}");
            }
        }
    }

    #[test]
    fn a_failed_sync_is_not_healed_by_writing_elsewhere_in_the_file() {
        let (mut rng, mut counters) = (Rng::new(1), Counters::default());
        let odds = Odds { keep: 0, lose: 1, tear: 0 };
        let mut content = Content::default();
        let page = |byte| Payload::new(std::iter::once(&[byte; PAGE as usize][..]));
        content.change(Change::Write { offset: 0, data: page(1) }, 1, false);
        content.fail_sync(&mut Dice { rng: &mut rng, odds, counters: &mut counters });
        content.change(Change::Write { offset: PAGE, data: page(2) }, 2, false);
        content.sync(2);
        let mut buf = [9; 2 * PAGE as usize];
        assert_eq!(content.durable().read(0, &mut buf), buf.len());
        assert_eq!((buf[0], buf[PAGE as usize]), (0, 2));
        assert_eq!(content.current().read(0, &mut buf), buf.len());
        assert_eq!((buf[0], buf[PAGE as usize]), (1, 2));
    }
}

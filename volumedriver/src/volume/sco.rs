//! The SCOs that a volume owns, and which of them could be given back.
//!
//! An SCO is *settled* when a durable manifest holds runs for all that was written to it and that still counts: only
//! then may it be freed or compacted. Generations say when: each memtable has one, an SCO remembers the newest
//! generation that got an entry for it.

use std::collections::BTreeMap;

use super::address::{ScoNumber, SegmentId};
use super::event::Stream;
use super::manifest::ScoEntry;

/// Counts memtables; higher is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// One SCO.
#[derive(Clone, Debug)]
pub struct Sco {
    /// Segment that holds it.
    pub segment: SegmentId,
    /// Stream that writes or wrote it.
    pub stream: Stream,
    /// Blocks in use; what runs may refer to.
    pub blocks: u32,
    /// Of these, blocks that runs refer to already: what a relocation SCO is worth after a crash.
    pub flushed_blocks: u32,
    /// References from runs: never fewer than the clusters in use.
    pub references: u32,
    /// Newest memtable with an entry for it.
    pub generation: Generation,
    /// Still written, or waiting to be.
    pub open: bool,
    /// Reads in flight.
    pub pins: u32,
    /// Relocation records in it whose moves are not in the map yet: more references will come.
    pub unapplied: u32,
    /// Unreadable; kept as it is.
    pub damaged: bool,
    /// All that counted was moved away; free once `generation` is settled.
    pub evacuated: bool,
}

/// All SCOs of a volume, by number.
#[derive(Debug, Default)]
pub struct ScoTable {
    scos: BTreeMap<ScoNumber, Sco>,
    /// Those with [`Sco::evacuated`].
    evacuated: usize,
    /// Of these, those whose moves are in the active memtable.
    unfrozen: usize,
}

impl ScoTable {
    /// From a manifest: everything is closed and settled.
    pub fn from_entries(entries: &[ScoEntry]) -> Self {
        let sco = |entry: &ScoEntry| Sco {
            segment: entry.segment,
            stream: entry.stream,
            blocks: entry.blocks,
            flushed_blocks: entry.blocks,
            references: entry.references,
            generation: Generation(0),
            open: false,
            pins: 0,
            unapplied: 0,
            damaged: false,
            evacuated: false,
        };
        let scos = entries.iter().map(|entry| (entry.number, sco(entry))).collect();
        Self { scos, evacuated: 0, unfrozen: 0 }
    }

    /// For a manifest.
    pub fn entries(&self) -> Vec<ScoEntry> {
        let entry = |(&number, sco): (&ScoNumber, &Sco)| ScoEntry {
            number,
            segment: sco.segment,
            stream: sco.stream,
            blocks: if sco.stream == Stream::Relocation { sco.flushed_blocks } else { sco.blocks },
            references: sco.references,
        };
        self.scos.iter().map(entry).collect()
    }

    /// Takes a fresh segment in.
    pub fn add(&mut self, number: ScoNumber, segment: SegmentId, stream: Stream) {
        let fresh = ScoEntry { number, segment, stream, blocks: 0, references: 0 };
        let mut table = Self::from_entries(&[fresh]);
        if let Some(mut sco) = table.scos.remove(&number) {
            sco.open = true;
            self.scos.insert(number, sco);
        }
    }

    /// One SCO.
    pub fn get(&self, number: ScoNumber) -> Option<&Sco> {
        self.scos.get(&number)
    }

    /// One SCO.
    pub fn get_mut(&mut self, number: ScoNumber) -> Option<&mut Sco> {
        self.scos.get_mut(&number)
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = (ScoNumber, &Sco)> {
        self.scos.iter().map(|(&number, sco)| (number, sco))
    }

    /// Adds `change` to the references of `number`; SCOs that are gone count nothing.
    pub fn refer(&mut self, number: ScoNumber, change: i64) {
        if let Some(sco) = self.scos.get_mut(&number) {
            sco.references = (i64::from(sco.references) + change).max(0) as u32;
        }
    }

    /// Takes out every SCO that nothing refers to; `settled` is the newest generation in a durable manifest, `keep` is
    /// named by the replay start.
    pub fn take_free(&mut self, settled: Generation, keep: Option<ScoNumber>) -> Vec<(ScoNumber, SegmentId)> {
        let free = |&(number, sco): &(ScoNumber, &Sco)| {
            !sco.open
                && sco.pins == 0
                && sco.unapplied == 0
                && sco.generation <= settled
                && Some(number) != keep
                && (sco.evacuated || sco.references == 0)
        };
        let numbers: Vec<_> = self.iter().filter(free).map(|(number, sco)| (number, sco.segment)).collect();
        for (number, _) in &numbers {
            let gone = self.scos.remove(number);
            self.evacuated -= usize::from(gone.is_some_and(|sco| sco.evacuated));
        }
        numbers
    }

    /// The settled SCO with the smallest share of blocks in use, as far as references tell, with that share in 1/1024.
    pub fn emptiest(&self, settled: Generation, keep: Option<ScoNumber>) -> Option<(ScoNumber, u32)> {
        let eligible = |&(number, sco): &(ScoNumber, &Sco)| {
            !sco.open
                && sco.unapplied == 0
                && !sco.damaged
                && !sco.evacuated
                && sco.generation <= settled
                && Some(number) != keep
                && sco.blocks > 0
        };
        self.iter()
            .filter(eligible)
            .map(|(number, sco)| (number, (u64::from(sco.references) * 1024 / u64::from(sco.blocks)) as u32))
            .min_by_key(|&(number, share)| (share, number))
    }

    /// Blocks in use of all SCOs, in clusters.
    pub fn blocks(&self) -> u64 {
        self.scos.values().map(|sco| u64::from(sco.blocks)).sum()
    }

    /// Number of SCOs.
    pub fn len(&self) -> usize {
        self.scos.len()
    }

    /// Relocation SCOs with blocks that no run refers to yet.
    pub fn relocated(&self) -> Vec<(ScoNumber, u32)> {
        let fresh = |(_, sco): &(ScoNumber, &Sco)| {
            sco.stream == Stream::Relocation && sco.blocks > sco.flushed_blocks
        };
        self.iter().filter(fresh).map(|(number, sco)| (number, sco.blocks)).collect()
    }

    /// SCOs that were moved away and wait for their generation to settle.
    pub fn evacuated(&self) -> usize {
        self.evacuated
    }

    /// Of these, those that the next freeze would set free.
    pub fn unfrozen(&self) -> usize {
        self.unfrozen
    }

    /// All of an SCO that counted has its new place in the active memtable, that of `generation`.
    pub fn set_evacuated(&mut self, number: ScoNumber, generation: Generation) {
        if let Some(sco) = self.scos.get_mut(&number).filter(|sco| !sco.evacuated) {
            (sco.evacuated, sco.generation) = (true, generation);
            self.evacuated += 1;
            self.unfrozen += 1;
        }
    }

    /// The active memtable was frozen.
    pub fn froze(&mut self) {
        self.unfrozen = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settled_unreferenced_unpinned_scos_are_freed() {
        let mut table = ScoTable::default();
        for number in 1..=6 {
            table.add(ScoNumber(number), SegmentId(number), Stream::Log);
            let sco = table.get_mut(ScoNumber(number)).expect("just added");
            (sco.open, sco.blocks) = (false, 100);
        }
        table.get_mut(ScoNumber(1)).expect("there").generation = Generation(3);
        table.get_mut(ScoNumber(2)).expect("there").pins = 1;
        table.get_mut(ScoNumber(3)).expect("there").open = true;
        table.refer(ScoNumber(5), 10);
        let freed = table.take_free(Generation(2), Some(ScoNumber(4)));
        assert_eq!(freed, [(ScoNumber(6), SegmentId(6))]);
        assert_eq!(table.emptiest(Generation(2), None), Some((ScoNumber(2), 0)));
        table.get_mut(ScoNumber(2)).expect("there").unapplied = 1;
        assert_eq!(table.emptiest(Generation(2), None), Some((ScoNumber(4), 0)));
        table.set_evacuated(ScoNumber(5), Generation(1));
        assert_eq!((table.evacuated(), table.unfrozen()), (1, 1));
        table.froze();
        assert_eq!((table.evacuated(), table.unfrozen()), (1, 0));
        assert_eq!(table.take_free(Generation(2), Some(ScoNumber(4))), [(ScoNumber(5), SegmentId(5))]);
    }
}

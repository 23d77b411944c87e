//! Merging sorted sequences of map entries: the newest word on each address wins. Pure; the background job feeds it
//! from files and writes what comes out.

use std::collections::BTreeMap;

use super::address::{ClusterAddress, ScoNumber};
use super::event::{Emptiness, Failure};
use super::run::{MapEntry, MapValue};

/// One input, entries in order of address without overlap.
pub type Input<'a> = Box<dyn Iterator<Item = Result<MapEntry, Failure>> + 'a>;

/// The merged sequence of several inputs, the newest first.
pub struct Merge<'a> {
    inputs: Vec<Source<'a>>,
    /// Holes may go: nothing lies beneath.
    bottom: bool,
    dropped: BTreeMap<ScoNumber, i64>,
    held: Option<MapEntry>,
}

struct Source<'a> {
    entries: Input<'a>,
    current: Option<MapEntry>,
}

impl Source<'_> {
    fn advance(&mut self) -> Result<(), Failure> {
        self.current = self.entries.next().transpose()?;
        Ok(())
    }
}

impl<'a> Merge<'a> {
    /// Starts on `inputs`, the newest first; `bottom` says that nothing older lies beneath them.
    pub fn new(inputs: Vec<Input<'a>>, bottom: bool) -> Result<Self, Failure> {
        let mut inputs: Vec<_> =
            inputs.into_iter().map(|entries| Source { entries, current: None }).collect();
        inputs.iter_mut().try_for_each(Source::advance)?;
        Ok(Self { inputs, bottom, dropped: BTreeMap::new(), held: None })
    }

    /// References to each SCO that the inputs had and the output has not; complete once the output ended.
    pub fn dropped(&self) -> &BTreeMap<ScoNumber, i64> {
        &self.dropped
    }

    /// The next stretch on which one input has the last word; stretches may still be joined.
    fn piece(&mut self) -> Result<Option<MapEntry>, Failure> {
        let Some((winner, entry, runner_up)) = self.first() else { return Ok(None) };
        if entry.end() <= runner_up {
            // Nobody else speaks of it: what nearly every entry of a large run comes to.
            self.inputs[winner].advance()?;
            return Ok(Some(entry));
        }
        let mut end = entry.end();
        for newer in &self.inputs[..winner] {
            if let Some(other) = newer.current {
                end = end.min(other.address);
            }
        }
        for index in 0..self.inputs.len() {
            self.skip_to(index, end, winner)?;
        }
        Ok(Some(MapEntry { count: end.0 - entry.address.0, ..entry }))
    }

    /// The lowest current entry, of several the newest; and the lowest address that another input holds.
    fn first(&self) -> Option<(usize, MapEntry, ClusterAddress)> {
        let (mut lowest, mut runner_up) = (ClusterAddress(u64::MAX), ClusterAddress(u64::MAX));
        let mut winner = None;
        for (index, input) in self.inputs.iter().enumerate() {
            let Some(address) = input.current.as_ref().map(|entry| entry.address) else { continue };
            if address < lowest {
                runner_up = lowest;
                (lowest, winner) = (address, Some(index));
            } else {
                runner_up = runner_up.min(address);
            }
        }
        let winner = winner?;
        Some((winner, self.inputs[winner].current?, runner_up))
    }

    /// Removes what input `index` says in front of `end`.
    fn skip_to(&mut self, index: usize, end: ClusterAddress, winner: usize) -> Result<(), Failure> {
        while let Some(entry) = self.inputs[index].current {
            if entry.address >= end {
                return Ok(());
            }
            if entry.end() > end {
                let rest = MapEntry { address: end, count: entry.end().0 - end.0, ..entry };
                self.inputs[index].current = Some(rest);
                return Ok(());
            }
            if index != winner
                && let MapValue::Data { location, .. } = entry.value
            {
                *self.dropped.entry(location.sco()).or_default() += 1;
            }
            self.inputs[index].advance()?;
        }
        Ok(())
    }

    /// The next entry of the output.
    pub fn next_entry(&mut self) -> Result<Option<MapEntry>, Failure> {
        while let Some(piece) = self.piece()? {
            if self.bottom && piece.value == (MapValue::Empty { kind: Emptiness::Hole }) {
                continue;
            }
            if let Some(held) = &mut self.held
                && held.value == piece.value
                && held.end() == piece.address
                && matches!(held.value, MapValue::Empty { .. })
            {
                held.count += piece.count;
                continue;
            }
            if let Some(ready) = self.held.replace(piece) {
                return Ok(Some(ready));
            }
        }
        Ok(self.held.take())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::address::Location;
    use super::super::memtable::Memtable;
    use super::*;

    type Layer = Vec<(u64, Option<(u64, bool)>)>;

    /// Few addresses, so that layers overlap; `None` is data, otherwise (count, hole).
    fn layer() -> impl Strategy<Value = Layer> {
        prop::collection::vec((0..40u64, prop::option::of((1..20u64, any::<bool>()))), 0..25)
    }

    fn table(layer: &Layer, sco: u32) -> Memtable {
        let mut table = Memtable::default();
        for &(address, empty) in layer {
            let address = ClusterAddress(address);
            match empty {
                None => table.insert_data(address, Location::new(ScoNumber(sco), address.0 as u16), sco),
                Some((count, true)) => table.insert_empty(address, count, Emptiness::Hole),
                Some((count, false)) => table.insert_empty(address, count, Emptiness::Zero),
            }
        }
        table
    }

    fn array(entries: impl Iterator<Item = MapEntry>) -> Vec<Option<MapValue>> {
        let mut array = vec![None; 64];
        for entry in entries {
            array[entry.address.0 as usize..entry.end().0 as usize].fill(Some(entry.value));
        }
        array
    }

    fn references(values: &[Option<MapValue>]) -> BTreeMap<ScoNumber, i64> {
        let mut counts = BTreeMap::new();
        for value in values.iter().flatten() {
            if let MapValue::Data { location, .. } = value {
                *counts.entry(location.sco()).or_default() += 1;
            }
        }
        counts
    }

    proptest! {
        #[test]
        fn equals_laying_the_newer_over_the_older(layers in prop::collection::vec(layer(), 1..5), bottom: bool) {
            let tables: Vec<_> = layers.iter().zip(1..).map(|(layer, sco)| table(layer, sco)).collect();
            let mut model = Memtable::default();
            let mut before = BTreeMap::new();
            for table in &tables {
                model.overlay(table);
                for (sco, count) in references(&array(table.entries())) {
                    *before.entry(sco).or_insert(0i64) += count;
                }
            }
            let inputs = tables.iter().rev().map(|table| Box::new(table.entries().map(Ok)) as Input<'_>).collect();
            let mut merge = Merge::new(inputs, bottom).expect("no failure");
            let mut merged = Vec::new();
            while let Some(entry) = merge.next_entry().expect("no failure") {
                prop_assert!(merged.last().is_none_or(|last: &MapEntry| last.end() <= entry.address));
                merged.push(entry);
            }
            let mut expected = array(model.entries());
            if bottom {
                let hole = Some(MapValue::Empty { kind: Emptiness::Hole });
                expected.iter_mut().filter(|value| **value == hole).for_each(|value| *value = None);
            }
            let result = array(merged.into_iter());
            prop_assert_eq!(&result, &expected);
            for (sco, count) in references(&result) {
                *before.get_mut(&sco).expect("came from an input") -= count;
            }
            before.retain(|_, count| *count != 0);
            prop_assert_eq!(&before, merge.dropped());
        }
    }
}

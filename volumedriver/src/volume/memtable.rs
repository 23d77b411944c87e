//! The memtable: the newest changes of the map, not yet in a run. Non-overlapping stretches by address; the newest
//! change of an address is the one that is there.

use std::collections::BTreeMap;

use super::address::{ClusterAddress, Location};
use super::event::Emptiness;
use super::run::{MapEntry, MapValue};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    count: u64,
    value: MapValue,
}

/// What an ordered layer of the map knows about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// One cluster's data.
    Data { location: Location, crc: u32 },
    /// No data from the address up to (not including) `end`.
    Empty { kind: Emptiness, end: ClusterAddress },
    /// Nothing; the layer says nothing before `next` either.
    Nothing { next: ClusterAddress },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Memtable {
    stretches: BTreeMap<ClusterAddress, Stretch>,
}

/// Bytes of memory an entry is counted with: key, value, its share of the tree's nodes (two thirds full).
const ENTRY_BYTES: usize = 64;

impl Memtable {
    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Memory in bytes, estimated.
    pub fn bytes(&self) -> usize {
        self.stretches.len() * ENTRY_BYTES
    }

    /// Sets one cluster.
    pub fn insert_data(&mut self, address: ClusterAddress, location: Location, crc: u32) {
        let stretch = Stretch { count: 1, value: MapValue::Data { location, crc } };
        if let Some((&start, before)) = self.stretches.range_mut(..=address).next_back() {
            if start == address && before.count == 1 {
                *before = stretch;
                return;
            }
            if start.plus(before.count) > address {
                self.carve(address, 1);
            }
        }
        self.stretches.insert(address, stretch);
    }

    /// Sets `count` clusters to empty.
    pub fn insert_empty(&mut self, address: ClusterAddress, count: u64, kind: Emptiness) {
        self.carve(address, count);
        self.stretches.insert(address, Stretch { count, value: MapValue::Empty { kind } });
    }

    /// Removes what overlaps `count` clusters from `address` on, keeping the parts of empty stretches outside.
    fn carve(&mut self, address: ClusterAddress, count: u64) {
        let end = address.plus(count);
        if let Some((&start, &before)) = self.stretches.range(..address).next_back() {
            let before_end = start.plus(before.count);
            if before_end > address {
                self.stretches.insert(start, Stretch { count: address.0 - start.0, ..before });
                if before_end > end {
                    self.stretches.insert(end, Stretch { count: before_end.0 - end.0, ..before });
                    return;
                }
            }
        }
        while let Some((&start, &inside)) = self.stretches.range(address..end).next() {
            self.stretches.remove(&start);
            let inside_end = start.plus(inside.count);
            if inside_end > end {
                self.stretches.insert(end, Stretch { count: inside_end.0 - end.0, ..inside });
            }
        }
    }

    /// What it knows about `address`; a `next` of `Found::Nothing` at or behind `end` is not looked for.
    pub fn find(&self, address: ClusterAddress, end: ClusterAddress) -> Found {
        if let Some((&start, stretch)) = self.stretches.range(..=address).next_back() {
            let end = start.plus(stretch.count);
            if end > address {
                return match stretch.value {
                    MapValue::Data { location, crc } => Found::Data { location, crc },
                    MapValue::Empty { kind } => Found::Empty { kind, end },
                };
            }
        }
        // An address that is not there has its successor behind it: nothing can begin inside a single cluster.
        let behind = if end > address.plus(1) { self.stretches.range(address..).next() } else { None };
        Found::Nothing { next: behind.map_or(ClusterAddress(u64::MAX), |(&start, _)| start) }
    }

    /// All of it in order of address.
    pub fn entries(&self) -> impl Iterator<Item = MapEntry> + '_ {
        self.stretches.iter().map(|(&address, stretch)| MapEntry {
            address,
            count: stretch.count,
            value: stretch.value,
        })
    }

    /// Lays `newer` over this one: used when a freeze is taken back.
    pub fn overlay(&mut self, newer: &Memtable) {
        for entry in newer.entries() {
            match entry.value {
                MapValue::Data { location, crc } => self.insert_data(entry.address, location, crc),
                MapValue::Empty { kind } => self.insert_empty(entry.address, entry.count, kind),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::address::ScoNumber;
    use super::*;

    #[derive(Clone, Debug)]
    enum Change {
        Data(u64),
        Empty(u64, u64, Emptiness),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0..60u64).prop_map(Change::Data),
            (0..60u64, 1..30u64, any::<bool>()).prop_map(|(start, count, hole)| {
                Change::Empty(start, count, if hole { Emptiness::Hole } else { Emptiness::Zero })
            }),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_an_array(changes in prop::collection::vec(change(), 0..60)) {
            let mut table = Memtable::default();
            let mut model = vec![None; 100];
            for (step, change) in changes.iter().enumerate() {
                match *change {
                    Change::Data(at) => {
                        let location = Location::new(ScoNumber(step as u32), 1);
                        table.insert_data(ClusterAddress(at), location, step as u32);
                        model[at as usize] = Some(MapValue::Data { location, crc: step as u32 });
                    }
                    Change::Empty(start, count, kind) => {
                        table.insert_empty(ClusterAddress(start), count, kind);
                        model[start as usize..(start + count) as usize].fill(Some(MapValue::Empty { kind }));
                    }
                }
            }
            for (at, expected) in model.iter().enumerate() {
                let found = match table.find(ClusterAddress(at as u64), ClusterAddress(u64::MAX)) {
                    Found::Data { location, crc } => Some(MapValue::Data { location, crc }),
                    Found::Empty { kind, end } => {
                        prop_assert!(end.0 > at as u64);
                        Some(MapValue::Empty { kind })
                    }
                    Found::Nothing { next } => {
                        prop_assert!(model[at..(next.0 as usize).min(100)].iter().all(Option::is_none));
                        None
                    }
                };
                prop_assert_eq!(found, *expected, "at {}", at);
            }
            let mut end = 0;
            for entry in table.entries() {
                prop_assert!(entry.address.0 >= end);
                end = entry.address.0 + entry.count;
            }
        }
    }
}

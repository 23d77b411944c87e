//! The map of a volume: memtable, frozen memtable, then levels of runs from the newest to the oldest.
//!
//! Level 0 holds runs as they were frozen, overlapping, the newest first. Every further level is sorted by address and
//! disjoint. A look-up takes the first layer that knows the address; an overwrite only adds to the memtable.

use super::address::{ClusterAddress, Location, RunId, VolumeId};
use super::event::Emptiness;
use super::filter::Filter;
use super::memtable::{Found, Memtable};
use super::page_cache::PageCache;
use super::run::{RunInfo, find_data_page, find_in_page};

/// A look-up cannot go on without this page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Missing {
    /// Run.
    pub run: RunId,
    /// Page in it.
    pub page: u32,
}

/// What a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The address and perhaps clusters behind it have data: the places were appended to the caller's list.
    Data,
    /// Nothing up to `end`.
    Empty { kind: Emptiness, end: ClusterAddress },
}

/// See the module.
#[derive(Debug)]
pub struct Map {
    volume: VolumeId,
    /// Newest changes.
    pub active: Memtable,
    /// Changes that become a run now.
    pub frozen: Option<Memtable>,
    levels: Vec<Vec<RunInfo>>,
    /// Of runs of level 0 that were frozen in this process.
    filters: Vec<(RunId, Filter)>,
    /// Counts the memtables that became runs: what was found in a run is newest still if this stands where it stood
    /// and no memtable knows better.
    flushes: u64,
}

impl Map {
    /// A map over the runs that a manifest names.
    pub fn new(volume: VolumeId, levels: Vec<Vec<RunInfo>>) -> Self {
        Self { volume, active: Memtable::default(), frozen: None, levels, filters: Vec::new(), flushes: 0 }
    }

    /// The levels; level 0 newest first, the others by address.
    pub fn levels(&self) -> &[Vec<RunInfo>] {
        &self.levels
    }

    /// See the field.
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    /// True if neither memtable says anything about `address`.
    pub fn is_settled(&self, address: ClusterAddress) -> bool {
        let silent = |table: &Memtable| matches!(table.find(address, address.plus(1)), Found::Nothing { .. });
        silent(&self.active) && self.frozen.as_ref().is_none_or(silent)
    }

    /// Memory of the memtables and filters in bytes, estimated.
    pub fn memtable_bytes(&self) -> usize {
        let filters: usize = self.filters.iter().map(|(_, filter)| filter.bytes()).sum();
        self.active.bytes() + self.frozen.as_ref().map_or(0, Memtable::bytes) + filters
    }

    /// Finds out about `address`, and about as many clusters behind it (before `end`) as comes for free. Data places
    /// and their checksums are appended to `data`.
    pub fn find(
        &self,
        address: ClusterAddress,
        end: ClusterAddress,
        pages: &mut PageCache,
        data: &mut Vec<(Location, u32)>,
    ) -> Result<Extent, Missing> {
        let mut limit = end;
        for table in std::iter::once(&self.active).chain(&self.frozen) {
            match table.find(address, limit) {
                Found::Nothing { next } => limit = limit.min(next),
                Found::Empty { kind, end } => return Ok(Extent::Empty { kind, end: end.min(limit) }),
                Found::Data { location, crc } => {
                    data.push((location, crc));
                    return Ok(Extent::Data);
                }
            }
        }
        for (level, runs) in self.levels.iter().enumerate() {
            let candidates = if level == 0 { &runs[..] } else { at_address(runs, address) };
            for run in candidates {
                // A filter knows of single clusters, not where the next entry begins.
                if level == 0 && limit == address.plus(1) && !self.may_hold(run, address) {
                    continue;
                }
                match self.find_in_run(run, address, limit, pages, data)? {
                    Found::Nothing { next } => limit = limit.min(next),
                    Found::Empty { kind, end } => return Ok(Extent::Empty { kind, end: end.min(limit) }),
                    Found::Data { .. } => return Ok(Extent::Data),
                }
            }
        }
        Ok(Extent::Empty { kind: Emptiness::Hole, end: limit })
    }

    fn may_hold(&self, run: &RunInfo, address: ClusterAddress) -> bool {
        let filter = self.filters.iter().find(|(id, _)| *id == run.id);
        filter.is_none_or(|(_, filter)| filter.may_hold(address))
    }

    fn find_in_run(
        &self,
        run: &RunInfo,
        address: ClusterAddress,
        limit: ClusterAddress,
        pages: &mut PageCache,
        data: &mut Vec<(Location, u32)>,
    ) -> Result<Found, Missing> {
        if address < run.first {
            return Ok(Found::Nothing { next: run.first });
        }
        let nothing = Found::Nothing { next: ClusterAddress(u64::MAX) };
        let Some(fence_page) = run.fence_page(address).filter(|_| address < run.end) else {
            return Ok(nothing);
        };
        let missing = |page| Missing { run: run.id, page };
        let fences = pages.get(self.volume, run.id, fence_page).ok_or(missing(fence_page))?;
        let Some((data_page, next)) = find_data_page(fences, fence_page - run.data_pages, address) else {
            return Ok(nothing);
        };
        let next = next.unwrap_or_else(|| run.after_fence_page(fence_page));
        let page = pages.get(self.volume, run.id, data_page).ok_or(missing(data_page))?;
        Ok(find_in_page(page, address, next, limit, data))
    }

    /// Puts a run that was frozen out of the memtable on top of level 0; `filter` is that of its entries.
    pub fn push_run(&mut self, run: RunInfo, filter: Option<Filter>) {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        self.filters.extend(filter.map(|filter| (run.id, filter)));
        self.levels[0].insert(0, run);
        self.flushes += 1;
    }

    /// Replaces the runs `inputs` by `outputs` on level `target`; `false` if an input is not there any more.
    pub fn replace(&mut self, inputs: &[RunId], target: usize, outputs: Vec<RunInfo>) -> bool {
        let here = |id: &RunId| self.levels.iter().flatten().any(|run| run.id == *id);
        if !inputs.iter().all(here) {
            return false;
        }
        for level in &mut self.levels {
            level.retain(|run| !inputs.contains(&run.id));
        }
        self.filters.retain(|(id, _)| !inputs.contains(id));
        while self.levels.len() <= target {
            self.levels.push(Vec::new());
        }
        self.levels[target].extend(outputs);
        self.levels[target].sort_by_key(|run| run.first);
        true
    }
}

/// The stretch of `runs` (sorted, disjoint) that starts with the one that may hold `address`: it and its successor
/// say all that matters.
fn at_address(runs: &[RunInfo], address: ClusterAddress) -> &[RunInfo] {
    let start = runs.partition_point(|run| run.end <= address);
    &runs[start..(start + 2).min(runs.len())]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::address::{CLUSTER_SIZE, ScoNumber};
    use super::super::run::{MapEntry, MapValue, RunBuilder};
    use super::*;

    const VOLUME: VolumeId = VolumeId([5; 16]);

    fn run(id: u64, addresses: impl Iterator<Item = u64>, pages: &mut PageCache) -> RunInfo {
        let mut builder = RunBuilder::new(VOLUME, RunId(id));
        for address in addresses {
            let location = Location::new(ScoNumber(id as u32), address as u16);
            let value = MapValue::Data { location, crc: id as u32 };
            builder.push(&MapEntry { address: ClusterAddress(address), count: 1, value });
        }
        let (info, bytes) = builder.finish();
        for (index, page) in bytes.chunks(CLUSTER_SIZE).enumerate() {
            pages.insert(VOLUME, RunId(id), index as u32, Bytes::copy_from_slice(page));
        }
        info
    }

    fn owner(map: &Map, address: u64, end: u64, pages: &mut PageCache) -> (Vec<u32>, Option<u64>) {
        let mut places = Vec::new();
        match map
            .find(ClusterAddress(address), ClusterAddress(end), pages, &mut places)
            .expect("all pages are here")
        {
            Extent::Data => (places.iter().map(|&(_, crc)| crc).collect(), None),
            Extent::Empty { end, .. } => (Vec::new(), Some(end.0)),
        }
    }

    #[test]
    fn the_newest_layer_that_knows_an_address_wins() {
        let mut pages = PageCache::new(1 << 20);
        let old = vec![run(1, 0..10, &mut pages), run(2, 20..30, &mut pages)];
        let recent = vec![run(4, 5..7, &mut pages), run(3, 4..6, &mut pages)];
        let mut map = Map::new(VOLUME, vec![recent, old]);
        map.active.insert_data(ClusterAddress(25), Location::new(ScoNumber(9), 0), 9);
        map.active.insert_empty(ClusterAddress(27), 100, Emptiness::Hole);
        assert_eq!(owner(&map, 0, 100, &mut pages), (vec![1; 4], None), "stops where a newer layer begins");
        assert_eq!(owner(&map, 4, 100, &mut pages), (vec![3], None));
        assert_eq!(owner(&map, 5, 100, &mut pages), (vec![4; 2], None));
        assert_eq!(owner(&map, 7, 9, &mut pages), (vec![1; 2], None), "stops at the end asked for");
        assert_eq!(owner(&map, 10, 100, &mut pages), (vec![], Some(20)));
        assert_eq!(owner(&map, 23, 100, &mut pages), (vec![2; 2], None));
        assert_eq!(owner(&map, 25, 100, &mut pages), (vec![9], None));
        assert_eq!(owner(&map, 28, 100, &mut pages), (vec![], Some(100)));
        assert_eq!(owner(&map, 127, 300, &mut pages), (vec![], Some(300)));
    }

    #[test]
    fn a_missing_page_is_named() {
        let mut pages = PageCache::new(1 << 20);
        let info = run(1, 0..10, &mut pages);
        let map = Map::new(VOLUME, vec![vec![info]]);
        let mut empty = PageCache::new(1 << 20);
        let missing = map.find(ClusterAddress(3), ClusterAddress(9), &mut empty, &mut Vec::new());
        assert_eq!(missing, Err(Missing { run: RunId(1), page: 1 }), "the fence page comes first");
    }

    #[test]
    fn a_merge_is_taken_only_while_its_inputs_are_there() {
        let mut pages = PageCache::new(1 << 20);
        let mut map = Map::new(VOLUME, Vec::new());
        map.push_run(run(1, 0..4, &mut pages), None);
        map.push_run(run(2, 2..6, &mut pages), None);
        let merged = run(3, 0..6, &mut pages);
        assert!(map.replace(&[RunId(1), RunId(2)], 1, vec![merged.clone()]));
        assert!(!map.replace(&[RunId(1), RunId(2)], 1, vec![merged]));
        assert_eq!(owner(&map, 1, 9, &mut pages), (vec![3; 5], None));
    }
}

//! A run: an immutable, sorted piece of the map. Byte layout: `docs/formats/run.md`.
//!
//! Pages of 4 KiB, each with its own checksum and name: data pages with the entries, then fence pages with the first
//! address of every data page. The first address of every fence page is the *top* and lives in the manifest, so that a
//! look-up reads at most one fence page and one data page, and an open reads nothing.

use super::address::{ADDRESS_BITS, CLUSTER_SIZE, ClusterAddress, Location, RunId, VolumeId};
use super::bytes::{crc_without, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};
use super::event::{Emptiness, Failure};
use super::memtable::Found;

const MAGIC: u32 = u32::from_le_bytes(*b"RUN1");
const CRC_AT: usize = 4;
const ITEMS_AT: usize = 48;
const ENTRY_SIZE: usize = 20;
const FENCE_SIZE: usize = 8;
/// Entries of a data page.
pub const ENTRIES_PER_PAGE: usize = (CLUSTER_SIZE - ITEMS_AT) / ENTRY_SIZE;
/// Fences of a fence page.
pub const FENCES_PER_PAGE: usize = (CLUSTER_SIZE - ITEMS_AT) / FENCE_SIZE;

/// What the map says of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a variant's text and its fields' types say what the fields are")]
pub enum MapValue {
    /// The cluster's place and the CRC-32 of its 4096 bytes.
    Data { location: Location, crc: u32 },
    /// No data.
    Empty { kind: Emptiness },
}

/// A stretch of the map; `count` is 1 for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// First cluster.
    pub address: ClusterAddress,
    /// Clusters.
    pub count: u64,
    /// What they are.
    pub value: MapValue,
}

impl MapEntry {
    /// The address behind its last cluster.
    pub fn end(&self) -> ClusterAddress {
        self.address.plus(self.count)
    }
}

/// What the manifest knows of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Its number; names its file.
    pub id: RunId,
    /// First address.
    pub first: ClusterAddress,
    /// Address behind the last.
    pub end: ClusterAddress,
    /// Number of entries.
    pub entries: u64,
    /// Data pages; fence pages follow.
    pub data_pages: u32,
    /// First address of each fence page.
    pub top: Vec<ClusterAddress>,
}

impl RunInfo {
    /// Pages of the file.
    pub fn pages(&self) -> u32 {
        self.data_pages + self.top.len() as u32
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        u64::from(self.pages()) * CLUSTER_SIZE as u64
    }

    /// The fence page (as a page number of the file) to look at for `address`; `None` in front of the first.
    pub fn fence_page(&self, address: ClusterAddress) -> Option<u32> {
        let index = self.top.partition_point(|&first| first <= address).checked_sub(1)?;
        Some(self.data_pages + index as u32)
    }

    /// First address of the fence page behind `fence_page`.
    pub fn after_fence_page(&self, fence_page: u32) -> ClusterAddress {
        let index = (fence_page - self.data_pages) as usize + 1;
        self.top.get(index).copied().unwrap_or(ClusterAddress(u64::MAX))
    }
}

/// Checks that `page` is page `index` of `run`, whole, and of the right kind.
pub fn check_page(page: &[u8], volume: VolumeId, run: &RunInfo, index: u32) -> Result<(), Failure> {
    let wrong = |what: &str| Err(Failure::Corrupt(format!("page {index} of run {:016x}: {what}", run.id.0)));
    if page.len() != CLUSTER_SIZE || u32_at(page, 0) != MAGIC {
        return wrong("not a page of a run");
    }
    if u32_at(page, CRC_AT) != crc_without(page, CRC_AT) {
        return wrong("checksum mismatch");
    }
    if page[24..40] != volume.0 || u64_at(page, 8) != run.id.0 || u32_at(page, 16) != index {
        return wrong("it belongs elsewhere");
    }
    let count = usize::from(u16_at(page, 20));
    let (fence, max) = if index < run.data_pages { (0, ENTRIES_PER_PAGE) } else { (1, FENCES_PER_PAGE) };
    if page[22] != fence || count == 0 || count > max {
        return wrong("impossible header");
    }
    Ok(())
}

fn item_count(page: &[u8]) -> usize {
    usize::from(u16_at(page, 20))
}

/// In a fence page: number of the data page that may hold `address`, and the first address of the data page behind it
/// (`None`: that one is behind the next fence page).
pub fn find_data_page(
    page: &[u8],
    fence_index: u32,
    address: ClusterAddress,
) -> Option<(u32, Option<ClusterAddress>)> {
    let fence = |index: usize| ClusterAddress(u64_at(page, ITEMS_AT + index * FENCE_SIZE));
    let count = item_count(page);
    let at = count_up_to(count, address, fence).checked_sub(1)?;
    let next = (at + 1 < count).then(|| fence(at + 1));
    Some((fence_index * FENCES_PER_PAGE as u32 + at as u32, next))
}

/// Number of items whose address is at most `address`; `at(index)` gives the sorted addresses. Guesses by proportion
/// first: addresses in a page are often evenly spread, and each look costs a line of the processor's cache.
fn count_up_to(count: usize, address: ClusterAddress, at: impl Fn(usize) -> ClusterAddress) -> usize {
    let (mut low, mut high) = (0, count);
    for _ in 0..3 {
        if high - low < 8 {
            break;
        }
        let (first, last) = (at(low), at(high - 1));
        if address < first {
            return low;
        }
        if address >= last {
            return high;
        }
        let share = u128::from(address.0 - first.0) * (high - 1 - low) as u128 / u128::from(last.0 - first.0);
        let guess = low + share as usize;
        if at(guess) <= address {
            low = guess + 1;
            // An evenly spread page is decided by the neighbour.
            if at(low) > address {
                return low;
            }
        } else {
            high = guess;
        }
    }
    while low < high {
        let middle = low.midpoint(high);
        if at(middle) <= address {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn address_at(page: &[u8], index: usize) -> ClusterAddress {
    ClusterAddress(u64_at(page, ITEMS_AT + index * ENTRY_SIZE) & ((1 << ADDRESS_BITS) - 1))
}

fn entry_at(page: &[u8], index: usize) -> Option<MapEntry> {
    let at = ITEMS_AT + index * ENTRY_SIZE;
    let address = address_at(page, index);
    let word = u64_at(page, at + 8);
    Some(match page[at + 7] {
        0 => MapEntry {
            address,
            count: 1,
            value: MapValue::Data { location: Location::from_raw(word), crc: u32_at(page, at + 16) },
        },
        1 => MapEntry { address, count: word, value: MapValue::Empty { kind: Emptiness::Zero } },
        2 => MapEntry { address, count: word, value: MapValue::Empty { kind: Emptiness::Hole } },
        _ => return None,
    })
}

/// In a data page: what it says about `address`. `next` is the first address behind the page. Data is appended to
/// `places` (location, CRC-32), and that of the clusters behind it while their addresses follow each other, up to (not
/// including) `end`.
pub fn find_in_page(
    page: &[u8],
    address: ClusterAddress,
    next: ClusterAddress,
    end: ClusterAddress,
    places: &mut Vec<(Location, u32)>,
) -> Found {
    let count = item_count(page);
    let behind = count_up_to(count, address, |index| address_at(page, index));
    let next = if behind < count { address_at(page, behind) } else { next };
    let Some(entry) =
        behind.checked_sub(1).and_then(|at| entry_at(page, at)).filter(|entry| entry.end() > address)
    else {
        return Found::Nothing { next };
    };
    match entry.value {
        MapValue::Empty { kind } => Found::Empty { kind, end: entry.end() },
        MapValue::Data { location, crc } => {
            places.push((location, crc));
            let mut expected = address.plus(1);
            for index in behind..count {
                match entry_at(page, index) {
                    Some(MapEntry { address, value: MapValue::Data { location, crc }, .. })
                        if address == expected && address < end =>
                    {
                        places.push((location, crc));
                    }
                    _ => break,
                }
                expected = expected.plus(1);
            }
            Found::Data { location, crc }
        }
    }
}

/// All entries of a checked data page, in order; an entry that breaks a rule ends the run's use.
pub fn page_entries(page: &[u8]) -> impl Iterator<Item = Result<MapEntry, Failure>> + '_ {
    (0..item_count(page)).map(|index| {
        entry_at(page, index)
            .filter(|entry| entry.count > 0 && entry.end().0 <= 1 << ADDRESS_BITS)
            .ok_or_else(|| Failure::Corrupt(format!("entry {index} of a run's page breaks the format")))
    })
}

/// Makes the bytes of one run out of entries that come in order.
#[derive(Debug)]
pub struct RunBuilder {
    volume: VolumeId,
    id: RunId,
    bytes: Vec<u8>,
    fences: Vec<ClusterAddress>,
    in_page: usize,
    entries: u64,
    end: ClusterAddress,
}

impl RunBuilder {
    /// An empty run.
    pub fn new(volume: VolumeId, id: RunId) -> Self {
        Self {
            volume,
            id,
            bytes: Vec::new(),
            fences: Vec::new(),
            in_page: ENTRIES_PER_PAGE,
            entries: 0,
            end: ClusterAddress(0),
        }
    }

    /// Bytes that the file would have now.
    pub fn len(&self) -> u64 {
        (self.bytes.len() + self.fences.len().div_ceil(FENCES_PER_PAGE) * CLUSTER_SIZE) as u64
    }

    /// True if no entry came yet.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Adds an entry behind all that are there.
    pub fn push(&mut self, entry: &MapEntry) {
        debug_assert!(entry.address >= self.end && entry.count > 0, "entries come in order");
        if self.in_page == ENTRIES_PER_PAGE {
            self.seal_page();
            self.bytes.resize(self.bytes.len() + CLUSTER_SIZE, 0);
            self.fences.push(entry.address);
            self.in_page = 0;
        }
        let at = self.bytes.len() - CLUSTER_SIZE + ITEMS_AT + self.in_page * ENTRY_SIZE;
        let (kind, word, crc) = match entry.value {
            MapValue::Data { location, crc } => (0, location.raw(), crc),
            MapValue::Empty { kind: Emptiness::Zero } => (1, entry.count, 0),
            MapValue::Empty { kind: Emptiness::Hole } => (2, entry.count, 0),
        };
        put_u64(&mut self.bytes, at, entry.address.0 | kind << 56);
        put_u64(&mut self.bytes, at + 8, word);
        put_u32(&mut self.bytes, at + 16, crc);
        self.in_page += 1;
        self.entries += 1;
        self.end = entry.end();
    }

    fn seal_page(&mut self) {
        let Some(index) = (self.bytes.len() / CLUSTER_SIZE).checked_sub(1) else { return };
        seal(&mut self.bytes[index * CLUSTER_SIZE..], self.volume, self.id, index as u32, self.in_page, 0);
    }

    /// The file's bytes and what the manifest keeps. There must be at least one entry.
    pub fn finish(mut self) -> (RunInfo, Vec<u8>) {
        assert!(!self.is_empty(), "a run has entries");
        self.seal_page();
        let data_pages = (self.bytes.len() / CLUSTER_SIZE) as u32;
        let mut top = Vec::new();
        for (index, fences) in self.fences.chunks(FENCES_PER_PAGE).enumerate() {
            top.push(fences[0]);
            let mut page = [0; CLUSTER_SIZE];
            for (at, fence) in fences.iter().enumerate() {
                put_u64(&mut page, ITEMS_AT + at * FENCE_SIZE, fence.0);
            }
            seal(&mut page, self.volume, self.id, data_pages + index as u32, fences.len(), 1);
            self.bytes.extend_from_slice(&page);
        }
        let info = RunInfo {
            id: self.id,
            first: self.fences[0],
            end: self.end,
            entries: self.entries,
            data_pages,
            top,
        };
        (info, self.bytes)
    }
}

fn seal(page: &mut [u8], volume: VolumeId, run: RunId, index: u32, count: usize, kind: u8) {
    put_u32(page, 0, MAGIC);
    put_u64(page, 8, run.0);
    put_u32(page, 16, index);
    put_u16(page, 20, count as u16);
    page[22] = kind;
    page[24..40].copy_from_slice(&volume.0);
    let crc = crc_without(page, CRC_AT);
    put_u32(page, CRC_AT, crc);
}

#[cfg(test)]
mod tests {
    use super::super::address::ScoNumber;
    use super::*;

    const VOLUME: VolumeId = VolumeId([3; 16]);

    fn data(address: u64) -> MapEntry {
        let location = Location::new(ScoNumber(address as u32), 7);
        MapEntry {
            address: ClusterAddress(address),
            count: 1,
            value: MapValue::Data { location, crc: address as u32 },
        }
    }

    fn build(entries: &[MapEntry]) -> (RunInfo, Vec<u8>) {
        let mut builder = RunBuilder::new(VOLUME, RunId(9));
        entries.iter().for_each(|entry| builder.push(entry));
        let expected = builder.len();
        let (info, bytes) = builder.finish();
        assert_eq!((bytes.len() as u64, info.bytes()), (expected, expected));
        (info, bytes)
    }

    fn find(info: &RunInfo, bytes: &[u8], address: u64) -> Found {
        let page = |index: u32| {
            let page = &bytes[index as usize * CLUSTER_SIZE..][..CLUSTER_SIZE];
            check_page(page, VOLUME, info, index).expect("a good page");
            page
        };
        let address = ClusterAddress(address);
        let Some(fence) = info.fence_page(address) else { return Found::Nothing { next: info.first } };
        let (data_page, next) =
            find_data_page(page(fence), fence - info.data_pages, address).expect("top and fences agree");
        let next = next.unwrap_or_else(|| info.after_fence_page(fence));
        find_in_page(page(data_page), address, next, ClusterAddress(u64::MAX), &mut Vec::new())
    }

    #[test]
    fn every_address_is_found_over_several_fence_pages() {
        // Every third address has data: more than two fence pages of data pages.
        let count = (2 * FENCES_PER_PAGE + 3) * ENTRIES_PER_PAGE + 5;
        let entries: Vec<_> = (0..count as u64).map(|index| data(10 + 3 * index)).collect();
        let (info, bytes) = build(&entries);
        assert_eq!((info.top.len(), info.entries), (3, count as u64));
        for index in (0..count as u64).step_by(97).chain([count as u64 - 1]) {
            let address = 10 + 3 * index;
            assert!(
                matches!(find(&info, &bytes, address), Found::Data { crc, .. } if u64::from(crc) == address)
            );
            let next = if index + 1 < count as u64 { address + 3 } else { u64::MAX };
            assert_eq!(find(&info, &bytes, address + 1), Found::Nothing { next: ClusterAddress(next) });
        }
        assert_eq!(find(&info, &bytes, 3), Found::Nothing { next: ClusterAddress(10) });
    }

    #[test]
    fn counting_by_proportion_equals_counting() {
        let mut state = 1u64;
        for round in 0..2_000 {
            let mut addresses: Vec<u64> = (0..round % 70)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) % [100, 1 << 20, 1 << 31][round % 3]
                })
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            for probe in addresses.iter().flat_map(|&a| [a.saturating_sub(1), a, a + 1]) {
                let expected = addresses.iter().filter(|&&address| address <= probe).count();
                let found =
                    count_up_to(addresses.len(), ClusterAddress(probe), |at| ClusterAddress(addresses[at]));
                assert_eq!(found, expected, "{probe} in {addresses:?}");
            }
        }
    }

    #[test]
    fn stretches_and_neighbours_are_found() {
        let hole = MapEntry {
            address: ClusterAddress(5),
            count: 1 << 30,
            value: MapValue::Empty { kind: Emptiness::Hole },
        };
        let (info, bytes) = build(&[data(2), data(3), data(4), hole]);
        let end = ClusterAddress(5 + (1 << 30));
        assert_eq!(find(&info, &bytes, 1 << 20), Found::Empty { kind: Emptiness::Hole, end });
        assert_eq!(find(&info, &bytes, end.0), Found::Nothing { next: ClusterAddress(u64::MAX) });
        let mut places = Vec::new();
        let page = &bytes[..CLUSTER_SIZE];
        find_in_page(page, ClusterAddress(2), ClusterAddress(u64::MAX), ClusterAddress(4), &mut places);
        assert_eq!(places, [2, 3].map(|at| (Location::new(ScoNumber(at), 7), at)));
    }

    #[test]
    fn damage_and_misplacement_of_a_page_are_found() {
        let (info, bytes) = build(&[data(2), data(3)]);
        let page = &bytes[..CLUSTER_SIZE];
        for bit in 0..CLUSTER_SIZE * 8 {
            let mut damaged = page.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(check_page(&damaged, VOLUME, &info, 0).is_err(), "bit {bit}");
        }
        assert!(check_page(page, VolumeId([4; 16]), &info, 0).is_err());
        assert!(check_page(page, VOLUME, &info, 1).is_err());
        assert!(check_page(page, VOLUME, &RunInfo { id: RunId(8), ..info.clone() }, 0).is_err());
    }

    /// The golden bytes of `docs/formats/run.md`: a change of this number is a change of the format.
    #[test]
    fn golden_bytes() {
        let zero = MapEntry {
            address: ClusterAddress(9),
            count: 5,
            value: MapValue::Empty { kind: Emptiness::Zero },
        };
        let (_, bytes) = build(&[data(2), data(3), zero]);
        assert_eq!(crc32fast::hash(&bytes), GOLDEN);
    }

    const GOLDEN: u32 = 2_551_351_757;
}

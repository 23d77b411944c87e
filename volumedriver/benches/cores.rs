//! Micro-benchmarks of the cores through their public interfaces, without I/O: the log's record, recovery's parsing of
//! it, the memtable, the pages of a run, the Bloom filter, the CRC-32 of a cluster.
//!
//! ```text
//! cargo bench -p volumedriver --bench cores               all
//! cargo bench -p volumedriver --bench cores -- memtable   those with `memtable` in their path
//! cargo bench -p volumedriver --bench cores -- --test     each once, to see that it works
//! ```
//!
//! Addresses and data are random from a fixed seed. Sizes are those the parameters lead to by default. The allocator
//! is the system's, not that of the program.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use volumedriver::volume::address::{
    BootId, CLUSTER_SIZE, ClusterAddress, Incarnation, Location, ScoNumber, Sequence, VolumeId,
};
use volumedriver::volume::run::{MapEntry, MapValue};

/// Clusters of the volume that addresses are drawn from: 64 GiB.
const VOLUME_CLUSTERS: u64 = 1 << 24;
const VOLUME: VolumeId = VolumeId([7; 16]);
/// Entries of a memtable. 16,384: as many clusters as the log takes in before a freeze (`log_replay_limit`). 262,144: a
/// memtable whose freeze was put off.
const MEMTABLE_ENTRIES: [usize; 2] = [16 << 10, 256 << 10];
/// Calls of a sample, timed together: so many that the clock's precision does not show.
const CALLS: u32 = 1000;
/// The same for calls that take microseconds.
const LONG_CALLS: u32 = 100;
/// Time for each benchmark, of which the processor needs the first part to reach its speed.
const MIN_TIME: Duration = Duration::from_millis(200);

fn main() {
    divan::Divan::default().min_time(MIN_TIME).config_with_args().main();
}

/// SplitMix64 from a fixed seed.
fn random() -> impl Iterator<Item = u64> {
    let mut state = 0u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// `count` clusters of random bytes.
fn random_clusters(count: usize) -> Vec<u8> {
    random().take(count * CLUSTER_SIZE / 8).flat_map(u64::to_le_bytes).collect()
}

/// Twice `count` different addresses in random order: those that a table gets, and others.
fn present_and_absent(count: usize) -> (Vec<ClusterAddress>, Vec<ClusterAddress>) {
    let mut seen = HashSet::new();
    let addresses = random().map(|word| ClusterAddress(word % VOLUME_CLUSTERS));
    let mut present: Vec<_> = addresses.filter(|address| seen.insert(*address)).take(2 * count).collect();
    let absent = present.split_off(count);
    (present, absent)
}

/// The items over and over: each iteration of a benchmark gets the next one.
fn in_turn<T: Copy>(items: &[T]) -> impl FnMut() -> T {
    let mut items = items.iter().copied().cycle();
    move || items.next().expect("there are items")
}

/// Where the log put the `index`th cluster: SCOs of 32 MiB, filled one after the other.
fn location(index: usize) -> Location {
    Location::new(ScoNumber((index >> 13) as u32), (index & 0x1fff) as u16)
}

/// The entries of a run about `addresses`, in order.
fn map_entries(mut addresses: Vec<ClusterAddress>) -> Vec<MapEntry> {
    addresses.sort_unstable();
    let entry = |(index, address)| MapEntry {
        address,
        count: 1,
        value: MapValue::Data { location: location(index), crc: index as u32 },
    };
    addresses.into_iter().enumerate().map(entry).collect()
}

/// Records: what a turn appends to the log, and what recovery reads back.
#[divan::bench_group(sample_size = LONG_CALLS)]
mod record {
    use bytes::Bytes;
    use divan::black_box_drop;
    use volumedriver::recovery::data_matches;
    use volumedriver::volume::event::Stream;
    use volumedriver::volume::record::{Header, HeaderProblem, RecordBuilder, parse_header};
    use volumedriver::volume::replay::{Expected, Found, classify};

    use super::*;

    /// Clusters of a record: one small write alone, a turn under load, a full record.
    const CLUSTERS: [usize; 3] = [1, 16, 64];
    /// Blocks of a record at most, as [`volumedriver::volume::Settings`] has it by default.
    const RECORD_BLOCKS: u16 = 65;
    const HEADER: Header = Header {
        volume: VOLUME,
        boot: BootId([9; 16]),
        stream: Stream::Log,
        incarnation: Incarnation(3),
        sequence: Sequence(41),
        sco: ScoNumber(5),
        block: 17,
        previous_crc: 0xdead_beef,
        completed_through: Sequence(40),
        durable_through: Sequence(38),
    };
    /// What recovery looks for when it finds [`HEADER`].
    const EXPECTED: Expected = Expected {
        volume: HEADER.volume,
        sequence: HEADER.sequence,
        incarnation: HEADER.incarnation,
        previous_crc: HEADER.previous_crc,
        sco: HEADER.sco,
        block: HEADER.block,
    };

    fn record(data: &[u8], checksums: impl IntoIterator<Item = u32>) -> Bytes {
        let mut builder = RecordBuilder::new(HEADER.sco, HEADER.block, RECORD_BLOCKS);
        for ((cluster, crc), address) in data.chunks_exact(CLUSTER_SIZE).zip(checksums).zip(1000..) {
            builder.push_data(ClusterAddress(address), cluster, crc);
        }
        builder.finish(&HEADER).0
    }

    fn checksums(data: &[u8]) -> impl Iterator<Item = u32> {
        data.chunks_exact(CLUSTER_SIZE).map(crc32fast::hash)
    }

    /// The copy and the header. A record is dropped before the next one begins, because its buffer is then used again,
    /// as it is once a record was written.
    #[divan::bench(args = CLUSTERS)]
    fn build(bencher: Bencher<'_, '_>, clusters: usize) {
        let data = random_clusters(clusters);
        let sums: Vec<u32> = checksums(&data).collect();
        bencher
            .counter(BytesCount::new(data.len()))
            .counter(ItemsCount::new(clusters))
            .bench_local(|| black_box_drop(record(&data, sums.iter().copied())));
    }

    /// The same with the CRC-32 of each cluster: what a write costs the log in all.
    #[divan::bench(args = CLUSTERS)]
    fn checksum_and_build(bencher: Bencher<'_, '_>, clusters: usize) {
        let data = random_clusters(clusters);
        bencher
            .counter(BytesCount::new(data.len()))
            .counter(ItemsCount::new(clusters))
            .bench_local(|| black_box_drop(record(&data, checksums(&data))));
    }

    /// The header block alone: its CRC-32 and its entries.
    #[divan::bench(args = CLUSTERS)]
    fn parse(bencher: Bencher<'_, '_>, clusters: usize) {
        let data = random_clusters(clusters);
        let bytes = record(&data, checksums(&data));
        bencher
            .counter(BytesCount::new(CLUSTER_SIZE))
            .counter(ItemsCount::new(clusters))
            .bench_local(|| black_box_drop(parse_header(&bytes[..CLUSTER_SIZE])));
    }

    /// All that recovery asks of a record before it takes it: header, chain, CRC-32 of every cluster.
    #[divan::bench(args = CLUSTERS)]
    fn verify(bencher: Bencher<'_, '_>, clusters: usize) {
        let data = random_clusters(clusters);
        let bytes = record(&data, checksums(&data));
        bencher.counter(BytesCount::new(bytes.len())).counter(ItemsCount::new(clusters)).bench_local(|| {
            let (block, data) = bytes.split_at(CLUSTER_SIZE);
            let header = parse_header(block);
            let found = classify(&header, &EXPECTED);
            assert!(found == Found::Good && header.is_ok_and(|record| data_matches(&record, data)));
        });
    }

    /// A block that was never written, of which recovery sees many behind the end of the log.
    #[divan::bench]
    fn parse_zeros(bencher: Bencher<'_, '_>) {
        let block = vec![0; CLUSTER_SIZE];
        assert_eq!(parse_header(&block), Err(HeaderProblem::Zeros));
        bencher
            .counter(BytesCount::new(CLUSTER_SIZE))
            .bench_local(|| black_box_drop(parse_header(divan::black_box(&block))));
    }
}

/// The newest layer of the map. Addresses come at random, the worst case for a sorted structure.
#[divan::bench_group(sample_size = CALLS)]
mod memtable {
    use volumedriver::volume::Memtable;

    use super::*;

    fn filled(addresses: &[ClusterAddress]) -> Memtable {
        let mut table = Memtable::default();
        for (index, &address) in addresses.iter().enumerate() {
            table.insert_data(address, location(index), index as u32);
        }
        table
    }

    /// Looks each of `probes` up in a table of `present`.
    fn find(bencher: Bencher<'_, '_>, present: &[ClusterAddress], probes: &[ClusterAddress]) {
        let table = filled(present);
        bencher
            .counter(ItemsCount::new(1u32))
            .with_inputs(in_turn(probes))
            .bench_local_values(|address| table.find(address, address.plus(1)));
    }

    #[divan::bench(args = MEMTABLE_ENTRIES)]
    fn find_hit(bencher: Bencher<'_, '_>, entries: usize) {
        let (present, _) = present_and_absent(entries);
        find(bencher, &present, &present);
    }

    #[divan::bench(args = MEMTABLE_ENTRIES)]
    fn find_miss(bencher: Bencher<'_, '_>, entries: usize) {
        let (present, absent) = present_and_absent(entries);
        find(bencher, &present, &absent);
    }

    /// Inserts into a table that grows from nothing to `entries`: the average over its life.
    #[divan::bench(args = MEMTABLE_ENTRIES, sample_size = 1, sample_count = 20)]
    fn insert(bencher: Bencher<'_, '_>, entries: usize) {
        let (present, _) = present_and_absent(entries);
        bencher.counter(ItemsCount::new(entries)).bench_local(|| filled(&present));
    }

    /// Inserts of addresses that are there, into a full table.
    #[divan::bench(args = MEMTABLE_ENTRIES)]
    fn overwrite(bencher: Bencher<'_, '_>, entries: usize) {
        let (present, _) = present_and_absent(entries);
        let mut table = filled(&present);
        bencher
            .counter(ItemsCount::new(1u32))
            .with_inputs(in_turn(&present))
            .bench_local_values(|address| table.insert_data(address, location(1), 1));
    }
}

/// A run at its largest, with all its pages in memory.
#[divan::bench_group(sample_size = CALLS)]
mod run {
    use volumedriver::volume::address::RunId;
    use volumedriver::volume::run::{
        ENTRIES_PER_PAGE, RunBuilder, RunInfo, check_page, find_data_page, find_in_page,
    };

    use super::*;

    /// Pages of data that fill a run's 4 MiB but for its fence pages.
    const DATA_PAGES: usize = 1020;
    const ENTRIES: usize = DATA_PAGES * ENTRIES_PER_PAGE;
    /// Clusters of a read of 128 KiB.
    const READ_CLUSTERS: u64 = 32;

    struct Run {
        info: RunInfo,
        bytes: Vec<u8>,
    }

    impl Run {
        fn of(addresses: Vec<ClusterAddress>) -> Self {
            let mut builder = RunBuilder::new(VOLUME, RunId(9));
            map_entries(addresses).iter().for_each(|entry| builder.push(entry));
            let (info, bytes) = builder.finish();
            Self { info, bytes }
        }

        fn page(&self, index: u32) -> &[u8] {
            &self.bytes[index as usize * CLUSTER_SIZE..][..CLUSTER_SIZE]
        }

        /// From the top through a fence page to the number of the data page. `None`: in front of the run.
        fn data_page(&self, address: ClusterAddress) -> Option<u32> {
            let fence = self.info.fence_page(address)?;
            find_data_page(self.page(fence), fence - self.info.data_pages, address).map(|(page, _)| page)
        }
    }

    /// Finds `clusters` addresses from each of `probes` on, in the data page where the first of them belongs.
    fn find(bencher: Bencher<'_, '_>, run: &Run, probes: &[ClusterAddress], clusters: u64) {
        let page_of = |&address: &ClusterAddress| run.data_page(address).map(|page| (page, address));
        let probes: Vec<_> = probes.iter().filter_map(page_of).collect();
        let mut places = Vec::with_capacity(clusters as usize);
        bencher.counter(ItemsCount::new(clusters)).with_inputs(in_turn(&probes)).bench_local_values(
            |(page, address)| {
                places.clear();
                let end = address.plus(clusters);
                find_in_page(run.page(page), address, ClusterAddress(u64::MAX), end, &mut places)
            },
        );
    }

    #[divan::bench(name = "find_data_page")]
    fn data_page(bencher: Bencher<'_, '_>) {
        let (present, _) = present_and_absent(ENTRIES);
        let run = Run::of(present.clone());
        bencher
            .counter(ItemsCount::new(1u32))
            .with_inputs(in_turn(&present))
            .bench_local_values(|address| run.data_page(address));
    }

    #[divan::bench]
    fn find_in_page_hit(bencher: Bencher<'_, '_>) {
        let (present, _) = present_and_absent(ENTRIES);
        find(bencher, &Run::of(present.clone()), &present, 1);
    }

    #[divan::bench]
    fn find_in_page_miss(bencher: Bencher<'_, '_>) {
        let (present, absent) = present_and_absent(ENTRIES);
        find(bencher, &Run::of(present), &absent, 1);
    }

    /// One look-up that takes along the clusters behind it, all of them in its page.
    #[divan::bench]
    fn find_in_page_sequential(bencher: Bencher<'_, '_>) {
        let run = Run::of((0..ENTRIES as u64).map(ClusterAddress).collect());
        let starts = random().map(|word| {
            let page = word % DATA_PAGES as u64;
            let first = (word >> 32) % (ENTRIES_PER_PAGE as u64 - READ_CLUSTERS + 1);
            ClusterAddress(page * ENTRIES_PER_PAGE as u64 + first)
        });
        find(bencher, &run, &starts.take(ENTRIES).collect::<Vec<_>>(), READ_CLUSTERS);
    }

    /// What every page goes through between the disk and its first use.
    #[divan::bench]
    fn check(bencher: Bencher<'_, '_>) {
        let run = Run::of(present_and_absent(ENTRIES).0);
        let pages: Vec<u32> = random().map(|word| (word % DATA_PAGES as u64) as u32).take(ENTRIES).collect();
        bencher
            .counter(BytesCount::new(CLUSTER_SIZE))
            .with_inputs(in_turn(&pages))
            .bench_local_values(|page| check_page(run.page(page), VOLUME, &run.info, page).expect("whole"));
    }
}

/// The Bloom filter of a run of level 0.
#[divan::bench_group(sample_size = CALLS)]
mod filter {
    use volumedriver::volume::filter::Filter;

    use super::*;

    /// Asks the filter of `present` about each of `probes`.
    fn may_hold(bencher: Bencher<'_, '_>, present: &[ClusterAddress], probes: &[ClusterAddress]) {
        let filter = Filter::of(&map_entries(present.to_vec())).expect("single clusters have a filter");
        bencher
            .counter(ItemsCount::new(1u32))
            .with_inputs(in_turn(probes))
            .bench_local_values(|address| filter.may_hold(address));
    }

    #[divan::bench(args = MEMTABLE_ENTRIES)]
    fn may_hold_hit(bencher: Bencher<'_, '_>, entries: usize) {
        let (present, _) = present_and_absent(entries);
        may_hold(bencher, &present, &present);
    }

    #[divan::bench(args = MEMTABLE_ENTRIES)]
    fn may_hold_miss(bencher: Bencher<'_, '_>, entries: usize) {
        let (present, absent) = present_and_absent(entries);
        may_hold(bencher, &present, &absent);
    }

    #[divan::bench(args = MEMTABLE_ENTRIES, sample_size = 1)]
    fn build(bencher: Bencher<'_, '_>, entries: usize) {
        let entries = map_entries(present_and_absent(entries).0);
        bencher.counter(ItemsCount::new(entries.len())).bench_local(|| Filter::of(&entries));
    }
}

/// The CRC-32 that is taken of each cluster written and compared with each cluster read.
#[divan::bench_group(sample_size = CALLS)]
mod checksum {
    use super::*;

    #[divan::bench]
    fn cluster(bencher: Bencher<'_, '_>) {
        let data = random_clusters(64);
        let clusters: Vec<&[u8]> = data.chunks_exact(CLUSTER_SIZE).collect();
        bencher
            .counter(BytesCount::new(CLUSTER_SIZE))
            .with_inputs(in_turn(&clusters))
            .bench_local_values(crc32fast::hash);
    }
}

//! The segment pool with its threads, on a simulated disk: what it makes, grants, keeps back and finds again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use uring::sim::{SimOptions, SimWorld};
use uring::{Disk, File, OpenMode};
use volumedriver::pool::keeper::{Audience, Keep, Levels, Pool};
use volumedriver::pool::ledger::{Home, Want};
use volumedriver::pool::open::OpenPool;
use volumedriver::pool::reserve::Reserve;
use volumedriver::pool::{PoolError, PoolOptions};
use volumedriver::volume::address::{
    BootId, CLUSTER_SIZE, ClusterAddress, Incarnation, ScoNumber, SegmentId, Sequence, VolumeId,
};
use volumedriver::volume::event::Stream;
use volumedriver::volume::record::{Header, RecordBuilder};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
const HOME: Home = Home { thread: 1, volume: 7 };

fn options() -> PoolOptions {
    PoolOptions {
        directory: PathBuf::from("/scocache"),
        segment_size: MIB,
        size: Some(8 * MIB),
        reserve_size: 4 * MIB,
        compaction_reserve: 2,
        ready_min: 2,
        ready_max: 4,
        trigger_gap: 3 * MIB,
        backoff_gap: 4 * MIB,
        lock_wait: Duration::ZERO,
    }
}

type Granted = (Home, Stream, Vec<(SegmentId, Arc<dyn File>)>);

/// Grants go to the test.
struct ToTest(SyncSender<Granted>);

impl Audience for ToTest {
    fn granted(&self, home: Home, stream: Stream, segments: Vec<(SegmentId, Arc<dyn File>)>) {
        // The test may be over.
        let _ = self.0.send((home, stream, segments));
    }

    fn level_changed(&self) {}
}

struct Running {
    pool: Pool,
    levels: Arc<Levels>,
    reserve: Arc<Reserve>,
    grants: Receiver<Granted>,
}

impl Running {
    fn start(disk: &Arc<dyn Disk>, options: PoolOptions, used: &[u32]) -> Self {
        let open = OpenPool::open(disk.clone(), options).expect("an open pool");
        let (sender, grants) = sync_channel(64);
        let levels = Arc::new(Levels::default());
        let reserve = open.reserve();
        let used: HashSet<SegmentId> = used.iter().map(|&number| SegmentId(number)).collect();
        let pool = Pool::start(open, &used, levels.clone(), Box::new(ToTest(sender))).expect("a pool");
        Self { pool, levels, reserve, grants }
    }

    fn tell(&self, letter: Keep) {
        assert!(self.pool.letters().send(letter).is_ok(), "the keeper lives");
    }

    fn want(&self, stream: Stream, count: u32) -> Vec<(SegmentId, Arc<dyn File>)> {
        self.tell(Keep::Want(Want { home: HOME, stream, count }));
        let (home, answered, segments) = self.grants.recv_timeout(PATIENCE).expect("an answer");
        assert_eq!((home, answered), (HOME, stream));
        segments
    }

    /// Everything the log can get.
    fn drain_log(&self) -> Vec<SegmentId> {
        let mut all = Vec::new();
        loop {
            let segments = self.want(Stream::Log, 1);
            if segments.is_empty() {
                return all;
            }
            all.extend(segments.iter().map(|(id, _)| *id));
        }
    }

    fn until(&self, what: &str, condition: impl Fn(&Levels) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !condition(&self.levels) {
            assert!(std::time::Instant::now() < deadline, "waited in vain: {what}");
            std::thread::yield_now();
        }
    }
}

fn world(capacity: Option<u64>) -> (SimWorld, Arc<dyn Disk>) {
    let world = SimWorld::new(1, SimOptions { capacity, ..SimOptions::default() });
    let disk = world.disk();
    (world, disk)
}

fn names(disk: &dyn Disk) -> Vec<String> {
    disk.read_dir(Path::new("/scocache")).expect("a directory")
}

#[test]
fn segments_are_made_whole_granted_and_used_again() {
    let (_world, disk) = world(None);
    let running = Running::start(&disk, options(), &[]);
    let granted = running.want(Stream::Log, 2);
    assert!(!granted.is_empty());
    let mut bytes = uring::AlignedBuf::zeroed(MIB as usize);
    for (_, file) in &granted {
        bytes.fill(1);
        file.read_at(&mut bytes, 0).expect("as long as it says");
        assert!(bytes.iter().all(|&byte| byte == 0));
    }
    let mut log: Vec<SegmentId> = granted.iter().map(|(id, _)| *id).collect();
    log.extend(running.drain_log());
    let distinct: HashSet<_> = log.iter().collect();
    assert_eq!((log.len(), distinct.len()), (6, 6), "all of eight but the compactor's two, none twice");
    assert_eq!(running.levels.view().free, 0);
    assert_eq!(running.want(Stream::Relocation, 5).len(), 2);
    assert_eq!(running.levels.census().used, 8);

    running.tell(Keep::Release(log[..4].to_vec()));
    running.until("four are back", |levels| levels.census().free == 4);
    assert_eq!(running.levels.view().free, 2);
    let again = running.want(Stream::Log, 1)[0].0;
    assert!(log[..4].contains(&again));
    assert_eq!(running.levels.counters().made, 8, "none was made twice");
}

#[test]
fn the_next_start_finds_the_segments_and_not_those_half_made() {
    let (world, disk) = world(None);
    let running = Running::start(&disk, options(), &[]);
    let first = running.drain_log();
    drop(running);
    let orphan = Path::new("/scocache/segment-00000009.new");
    drop(disk.open(orphan, OpenMode::CreateNew).expect("created"));
    world.power_loss();

    let disk = world.disk();
    let running = Running::start(&disk, options(), &[first[0].0, first[1].0]);
    assert!(!names(&*disk).iter().any(|name| name.ends_with(".new")));
    let second = running.drain_log();
    assert_eq!(second.len(), 4, "two are used, two are kept for the compactor");
    assert!(!second.contains(&first[0]) && !second.contains(&first[1]));
    assert_eq!(running.levels.counters().made, 0, "their files survived the power loss");
}

#[test]
fn a_start_waits_for_the_predecessors_locks() {
    let (_world, disk) = world(None);
    let running = Running::start(&disk, options(), &[]);
    let held = running.want(Stream::Log, 1);
    drop(running);
    // As the ring of a killed process does.
    let error = OpenPool::open(disk.clone(), options()).err().expect("refused");
    assert!(matches!(&error, PoolError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("second one running"), "{error}");
    let waiting = std::thread::spawn({
        let disk = disk.clone();
        move || OpenPool::open(disk, PoolOptions { lock_wait: PATIENCE, ..options() }).is_ok()
    });
    drop(held);
    assert!(waiting.join().unwrap());
}

#[test]
fn a_segment_of_a_wrong_length_is_never_granted() {
    let (_world, disk) = world(None);
    let running = Running::start(&disk, options(), &[]);
    running.until("all are ready", |levels| levels.census().free >= 4);
    drop(running);
    let cut = |number: u32| {
        let path = options().segment_path(SegmentId(number));
        disk.open(&path, OpenMode::Direct).unwrap().set_len(MIB / 2).unwrap();
        path
    };
    let (owned, free) = (cut(0), cut(1));
    let length = |path: &Path| disk.open(path, OpenMode::Direct).and_then(|file| file.len());

    let open = OpenPool::open(disk.clone(), options()).unwrap();
    assert_eq!((open.cut_short(SegmentId(0)), open.cut_short(SegmentId(2))), (Some(MIB / 2), None));
    assert!(open.files().get(SegmentId(0)).is_some(), "its owner may read what is left");
    drop(open);
    let running = Running::start(&disk, options(), &[0]);
    let granted = running.drain_log();
    assert!(!granted.contains(&SegmentId(0)), "{granted:?}");
    for &id in &granted {
        assert_eq!(length(&options().segment_path(id)).unwrap(), MIB, "{id}");
    }
    assert_eq!(length(&owned).unwrap(), MIB / 2, "somebody's");
    assert!(length(&free).is_ok_and(|length| length == MIB), "made again");
    running.tell(Keep::Release(vec![SegmentId(0)]));
    let next = running.want(Stream::Log, 1);
    assert!(next.iter().all(|(_, file)| file.len().unwrap() == MIB));
    running.until("it is made again", |levels| levels.census().used + levels.census().free == 8);
    assert_eq!(length(&owned).unwrap(), MIB);
}

#[test]
fn letters_do_not_put_off_the_look_at_the_disk() {
    let capacity = 7 * MIB + MIB / 2;
    let (world, disk) = world(Some(capacity));
    let running = Running::start(&disk, PoolOptions { size: None, trigger_gap: 0, ..options() }, &[]);
    running.drain_log();
    world.set_capacity(Some(capacity + 2 * MIB));
    // Asks again at once, like a busy client.
    let deadline = std::time::Instant::now() + PATIENCE;
    while running.want(Stream::Log, 1).is_empty() {
        assert!(std::time::Instant::now() < deadline, "freed room is not noticed");
    }
}

#[test]
fn a_full_disk_ends_growth_until_there_is_room_again() {
    // The reserve and three segments and a half; nothing is left to the trigger gap.
    let capacity = 7 * MIB + MIB / 2;
    let (world, disk) = world(Some(capacity));
    let running = Running::start(&disk, PoolOptions { size: Some(64 * MIB), ..options() }, &[]);
    assert_eq!(running.drain_log().len(), 1, "two of three are the compactor's");
    assert!(running.levels.counters().no_space > 0);
    assert_eq!(names(&*disk).len(), 4, "nothing half-made stays: {:?}", names(&*disk));
    world.set_capacity(Some(capacity + 2 * MIB));
    running.until("it grows again", |levels| levels.census().free == 4);
    assert_eq!(running.drain_log().len(), 2);
}

#[test]
fn without_a_size_the_trigger_gap_is_left_to_others() {
    let (_world, disk) = world(Some(20 * MIB));
    let running = Running::start(&disk, PoolOptions { size: None, ..options() }, &[]);
    // 20 MiB, less 4 of the reserve, 3 of the gap, 2 of the compactor.
    assert_eq!(running.drain_log().len(), 11);
    assert!(disk.free_space(Path::new("/")).unwrap() >= 3 * MIB);
}

#[test]
fn the_reserve_helps_jobs_and_the_log_waits_until_it_is_whole() {
    let (world, disk) = world(Some(16 * MIB));
    let running = Running::start(&disk, options(), &[]);
    assert_eq!(running.want(Stream::Log, 1).len(), 1);
    running.until("the rest is ready", |levels| levels.census().free >= 4);
    assert!(running.reserve.is_whole());
    // Somebody else fills the disk, and a job takes from the reserve.
    let hog = disk.open(Path::new("/hog"), OpenMode::CreateNew).unwrap();
    let mut filled = 0;
    while hog.write_at(&[1; 4096], filled).is_ok() {
        filled += 4096;
    }
    assert!(running.reserve.give(MIB + 1).unwrap());
    assert_eq!(running.reserve.missing(), 2 * MIB);
    while hog.write_at(&[1; 4096], filled).is_ok() {
        filled += 4096;
    }
    running.tell(Keep::ReserveUsed);
    assert_eq!(running.want(Stream::Log, 1).len(), 0, "the disk has no room for the reserve");
    assert_eq!(running.levels.view().free, 0);
    assert_eq!(running.want(Stream::Relocation, 1).len(), 1);
    world.set_capacity(Some(32 * MIB));
    running.until("the reserve is whole", |levels| levels.view().free > 0);
    assert_eq!(running.want(Stream::Log, 1).len(), 1);
}

#[test]
fn what_an_unreadable_volume_may_have_written_is_told_apart() {
    let (_world, disk) = world(None);
    let running = Running::start(&disk, options(), &[]);
    let segments = running.want(Stream::Relocation, 1).into_iter().chain(running.want(Stream::Log, 1));
    let segments: Vec<_> = segments.chain(running.want(Stream::Log, 1)).collect();
    let (ours, others) = (VolumeId([1; 16]), VolumeId([2; 16]));
    for ((_, file), volume) in segments.iter().zip([ours, others]) {
        file.write_at(&record(volume), 0).unwrap();
    }
    let mut torn = record(others).to_vec();
    torn[60] ^= 1;
    segments[2].1.write_at(&uring::AlignedBuf::copy_from(&torn), 0).unwrap();
    let ids: Vec<SegmentId> = segments.iter().map(|(id, _)| *id).collect();
    drop((segments, running));

    let open = OpenPool::open(disk, options()).unwrap();
    let all: Vec<_> = open.files().ids().collect();
    let mut kept = open.segments_of_unreadable(&[ours], all.into_iter()).unwrap();
    kept.sort_by_key(|(id, _)| id.0);
    let mut expected = vec![(ids[0], Some(ours)), (ids[2], None)];
    expected.sort_by_key(|(id, _)| id.0);
    assert_eq!(kept, expected);
}

/// A record with one cluster.
fn record(volume: VolumeId) -> bytes::Bytes {
    let mut builder = RecordBuilder::new(ScoNumber(1), 0, 2);
    builder.push_data(ClusterAddress(5), &[3; CLUSTER_SIZE], 0);
    let header = Header {
        volume,
        boot: BootId([9; 16]),
        stream: Stream::Log,
        incarnation: Incarnation(1),
        sequence: Sequence(1),
        sco: ScoNumber(1),
        block: 0,
        previous_crc: 0,
        completed_through: Sequence(0),
        durable_through: Sequence(0),
    };
    builder.finish(&header).0
}

//! Every row of recovery's decision table, by damage at rest; and damage that recovery does not need.
mod simulation;

use simulation::machine::{Machine, install, paths, segment_path};
use simulation::model::{SECTOR, sector_of};
use uring::OpenMode;
use uring::sim::{Corruption, SimOptions, SimWorld};
use volumedriver::job;
use volumedriver::recovery::OpenError;
use volumedriver::volume::Settings;
use volumedriver::volume::address::{BootId, CLUSTER_SIZE};
use volumedriver::volume::event::{Answer, Event, FlushedBy, Promise, RequestError, RequestId, Stream};
use volumedriver::volume::record::parse_header;
use volumedriver::volume::replay::{Found, Mark, Verdict};

const FIRST_BOOT: BootId = BootId([1; 16]);
const NEXT_BOOT: BootId = BootId([2; 16]);
const CLUSTER: u64 = CLUSTER_SIZE as u64;

/// Ten records of one cluster each, one behind the other; which of them are durable is the scenario's.
struct Scenario {
    world: SimWorld,
    settings: Settings,
    segment: std::path::PathBuf,
    /// Block of each record's header.
    headers: Vec<u64>,
}

fn write(machine: &mut Machine, cluster: u64) {
    let data = sector_of(cluster + 1).repeat(CLUSTER_SIZE / SECTOR);
    let (request, offset) = (RequestId(cluster), cluster * CLUSTER);
    machine.tell(Event::Write { request, offset, data: &data, promise: Promise::Written });
    machine.settle();
    assert_eq!(machine.replies.pop_front(), Some((request, Ok(Answer::Done))));
}

fn read(machine: &mut Machine, cluster: u64) -> Result<u64, RequestError> {
    let (request, offset) = (RequestId(1000 + cluster), cluster * CLUSTER);
    machine.tell(Event::Read { request, offset, length: CLUSTER_SIZE as u32 });
    machine.settle();
    match machine.replies.pop_front() {
        Some((_, Ok(Answer::Data(parts)))) => {
            let bytes = parts.concat();
            let content = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
            assert_eq!(bytes, sector_of(content).repeat(CLUSTER_SIZE / SECTOR));
            Ok(content)
        }
        Some((_, Err(error))) => Err(error),
        other => panic!("unexpected {other:?}"),
    }
}

/// Records up to `flushed` are durable, all ten are written.
fn scenario(flushed: u64) -> Scenario {
    let world = SimWorld::new(1, SimOptions::default());
    let settings = Settings { segment_blocks: 64, ..Settings::default() };
    install(&world, &settings, 32, 1 << 20);
    let mut machine = Machine::boot(&world, &settings, FIRST_BOOT).expect("a new volume");
    for cluster in 0..10 {
        write(&mut machine, cluster);
        if cluster + 1 == flushed {
            machine.tell(Event::Flush { request: RequestId(99), by: FlushedBy::Client });
            machine.settle();
            assert_eq!(machine.replies.pop_front(), Some((RequestId(99), Ok(Answer::Done))));
        }
    }
    drop(machine);
    world.process_kill();
    let manifest = job::read_manifest(&*world.disk(), &paths()).expect("a manifest");
    let log = manifest.scos.iter().filter(|sco| sco.stream == Stream::Log);
    let segment = segment_path(log.map(|sco| sco.segment).next().expect("a log"));
    let headers = (0..10).map(|index| index * 2).collect();
    Scenario { world, settings, segment, headers }
}

impl Scenario {
    fn corrupt(&self, block: u64, offset: u64, corruption: Corruption) {
        self.world.corrupt(&self.segment, block * CLUSTER + offset, corruption).expect("the file is there");
    }

    /// Copies a block over another.
    fn copy(&self, from: u64, to: u64) {
        let file = self.world.disk().open(&self.segment, OpenMode::Direct).expect("the file is there");
        let mut block = uring::AlignedBuf::zeroed(CLUSTER_SIZE);
        file.read_at(&mut block, from * CLUSTER).expect("reads");
        assert!(parse_header(&block).is_ok());
        file.write_at(&block, to * CLUSTER).expect("writes");
        file.sync().expect("syncs");
    }

    fn boot(&self, boot: BootId) -> Result<Machine, OpenError> {
        Machine::boot(&self.world, &self.settings, boot)
    }

    /// The volume must be cut in front of record `first_lost`; what comes before is there, and it goes on, also over
    /// the next restart.
    fn expect_cut(&self, boot: BootId, first_lost: u64, row: Found) {
        let mut machine = self.boot(boot).expect("a cut log opens");
        assert!(
            machine.report.rows.contains(&(row, Mark::Beyond, Verdict::Cut)),
            "{:?}",
            machine.report.rows
        );
        assert!(machine.report.cut.is_some());
        for round in 0..2 {
            for cluster in 0..10 {
                let expected = if cluster < first_lost { cluster + 1 } else { 0 };
                assert_eq!(read(&mut machine, cluster), Ok(expected), "round {round}");
            }
            write(&mut machine, 20 + round);
            drop(machine);
            self.world.process_kill();
            machine = self.boot(boot).expect("opens again");
            assert_eq!(machine.report.cut, None, "what was cut is history");
            assert_eq!(read(&mut machine, 20 + round), Ok(21 + round));
        }
    }

    fn expect_damage(&self, boot: BootId, place: &str) {
        match self.boot(boot) {
            Err(OpenError::Damaged(reason)) => assert!(reason.contains(place), "{reason}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a promise was dropped"),
        }
    }
}

#[test]
fn a_good_log_is_taken_whole() {
    for boot in [FIRST_BOOT, NEXT_BOOT] {
        let scenario = scenario(5);
        let mut machine = scenario.boot(boot).expect("opens");
        assert_eq!(
            machine.report.rows,
            [(Found::Good, Mark::Beyond, Verdict::Take), (Found::Blank, Mark::Beyond, Verdict::End),]
        );
        assert_eq!(machine.report.records, 10);
        assert_eq!(
            (0..10).map(|cluster| read(&mut machine, cluster)).collect::<Result<Vec<_>, _>>(),
            Ok((1..11).collect())
        );
    }
}

#[test]
fn damage_behind_the_mark_cuts() {
    // After a power loss only what was durable is promised: record 7 was not.
    let at = |scenario: &Scenario| scenario.headers[7];
    let torn = scenario(5);
    torn.corrupt(at(&torn), 100, Corruption::BitFlip { bit: 3 });
    torn.expect_cut(NEXT_BOOT, 7, Found::Torn);
    let data = scenario(5);
    data.corrupt(at(&data) + 1, 100, Corruption::BitFlip { bit: 3 });
    data.expect_cut(NEXT_BOOT, 7, Found::BadData);
    let chain = scenario(5);
    chain.copy(chain.headers[6], chain.headers[7]);
    chain.expect_cut(NEXT_BOOT, 7, Found::BrokenChain);
    let blank = scenario(5);
    blank.corrupt(at(&blank), 0, Corruption::Zero { len: 2 * CLUSTER });
    let mut machine = blank.boot(NEXT_BOOT).expect("opens");
    assert!(machine.report.rows.contains(&(Found::Blank, Mark::Beyond, Verdict::End)));
    assert_eq!((read(&mut machine, 6), read(&mut machine, 7)), (Ok(7), Ok(0)));
}

#[test]
fn damage_at_or_before_the_mark_halts() {
    // Record 3 was durable for either boot; record 7 was written, which counts while the host runs on.
    for (boot, lost) in [(NEXT_BOOT, 3), (FIRST_BOOT, 3), (FIRST_BOOT, 7)] {
        let record = format!("record {}", lost + 1);
        let torn = scenario(5);
        torn.corrupt(torn.headers[lost], 100, Corruption::BitFlip { bit: 3 });
        torn.expect_damage(boot, &record);
        let data = scenario(5);
        data.corrupt(data.headers[lost] + 1, 100, Corruption::BitFlip { bit: 3 });
        data.expect_damage(boot, &record);
        let chain = scenario(5);
        chain.copy(chain.headers[lost - 1], chain.headers[lost]);
        chain.expect_damage(boot, &record);
        let blank = scenario(5);
        blank.corrupt(blank.headers[lost], 0, Corruption::Zero { len: 2 * CLUSTER });
        blank.expect_damage(boot, &record);
    }
}

#[test]
fn a_segment_that_recovery_needs_and_that_is_gone_halts() {
    let gone = scenario(5);
    gone.corrupt(0, 0, Corruption::Remove);
    gone.expect_damage(NEXT_BOOT, "missing");
}

#[test]
fn a_short_segment_is_cut_or_halts_by_the_same_mark() {
    let short = scenario(5);
    short.corrupt(short.headers[8], 0, Corruption::Truncate);
    let mut machine = short.boot(NEXT_BOOT).expect("the end was not promised");
    assert_eq!((read(&mut machine, 7), read(&mut machine, 8)), (Ok(8), Ok(0)));
}

#[test]
fn a_damaged_manifest_or_run_is_never_believed() {
    let scenario = scenario(10);
    scenario.world.corrupt(paths().manifest(), 40, Corruption::BitFlip { bit: 0 }).expect("it is there");
    assert!(matches!(scenario.boot(FIRST_BOOT), Err(OpenError::Failed(_))));
}

#[test]
fn a_damaged_cluster_fails_its_read_alone() {
    let scenario = scenario(10);
    let mut machine = scenario.boot(FIRST_BOOT).expect("opens");
    machine.freeze();
    machine.settle();
    scenario.corrupt(scenario.headers[4] + 1, 7, Corruption::BitFlip { bit: 1 });
    assert_eq!(read(&mut machine, 4), Err(RequestError::Corrupt));
    assert_eq!(read(&mut machine, 5), Ok(6));
    write(&mut machine, 4);
    assert_eq!(read(&mut machine, 4), Ok(5), "an overwrite looks nothing up and heals the address");
    assert_eq!(machine.volume.counters().damaged_clusters, 1);
}

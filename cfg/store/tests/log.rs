//! The log as its users hold it: against a model, under load, and when the disk fails or stops.
mod gate;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use cfg_store::log::{Done, Entry, Log, LogError, LogId, Options, Vote};
use gate::GateDisk;
use proptest::prelude::*;
use uring::sim::{Fault, FaultOp, SimOptions, SimWorld};
use uring::{Disk, LocalDisk};

fn dir() -> &'static Path {
    Path::new("/log")
}

fn small() -> Options {
    Options { segment_bytes: 2 << 10, batch_bytes: 1 << 10, entry_bytes_max: 2 << 10, ..Options::default() }
}

fn world(seed: u64) -> SimWorld {
    SimWorld::new(seed, SimOptions::default())
}

fn open(disk: Arc<dyn Disk>) -> Log {
    Log::open(disk, dir(), small()).expect("a sound log")
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, node: 1, index }
}

fn entry(term: u64, index: u64, len: usize) -> Entry {
    Entry { id: id(term, index), payload: vec![index as u8; len].into() }
}

/// Makes a request and waits for its answer.
fn wait(request: impl FnOnce(Done)) -> io::Result<()> {
    let (send, receive) = sync_channel(1);
    request(Box::new(move |result| send.send(result).expect("somebody waits")));
    receive.recv().expect("every request is answered")
}

/// A log as simple as it can be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl Model {
    fn of(log: &Log) -> Model {
        let first = log.purged().map_or(0, |purged| purged.index + 1);
        let entries =
            log.entries(first, u64::MAX, usize::MAX).into_iter().map(|it| (it.id.index, it)).collect();
        let model = Model { vote: log.vote(), committed: log.committed(), purged: log.purged(), entries };
        assert_eq!(log.last(), model.last());
        assert_eq!(log.bytes(), model.entries.values().map(|it| it.payload.len() as u64).sum::<u64>());
        model
    }

    fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.id).or(self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    fn first(&self) -> u64 {
        self.next() - self.entries.len() as u64
    }
}

#[derive(Clone, Debug)]
enum Op {
    Vote { term: u64, committed: bool },
    Append { count: u64, len: usize, newer: bool },
    Hole,
    Truncate { back: u64 },
    Purge { ahead: u64 },
    Committed,
    Close,
    Kill,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..9u64, any::<bool>()).prop_map(|(term, committed)| Op::Vote { term, committed }),
        6 => (0..5u64, 0..900usize, prop::bool::weighted(0.2))
            .prop_map(|(count, len, newer)| Op::Append { count, len, newer }),
        1 => Just(Op::Hole),
        2 => (0..6u64).prop_map(|back| Op::Truncate { back }),
        3 => (0..9u64).prop_map(|ahead| Op::Purge { ahead }),
        1 => Just(Op::Committed),
        1 => Just(Op::Close),
        1 => Just(Op::Kill),
    ]
}

/// Does an operation to both, and waits for its end. Opening again is the caller's.
fn perform(op: &Op, log: &Log, model: &mut Model) {
    let (first, next) = (model.first(), model.next());
    let term = model.last().map_or(1, |last| last.term);
    match *op {
        Op::Vote { term, committed } => {
            let vote = Vote { term, node: 1, committed };
            wait(|done| log.save_vote(vote, done)).expect("a sound disk");
            model.vote = Some(vote);
        }
        Op::Append { count, len, newer } => {
            let term = term + u64::from(newer);
            let entries: Vec<_> = (next..next + count).map(|index| entry(term, index, len)).collect();
            wait(|done| log.append(entries.clone(), done)).expect("a sound disk");
            model.entries.extend(entries.into_iter().map(|entry| (entry.id.index, entry)));
        }
        Op::Hole => {
            let result = wait(|done| log.append(vec![entry(term, next, 1), entry(term, next + 2, 1)], done));
            assert_eq!(result.expect_err("a hole").kind(), io::ErrorKind::InvalidInput);
        }
        Op::Truncate { back } => {
            let from = next.saturating_sub(back);
            let result = wait(|done| log.truncate(from, done));
            if model.purged.is_some_and(|purged| from <= purged.index) {
                assert_eq!(result.expect_err("purged").kind(), io::ErrorKind::InvalidInput);
            } else {
                result.expect("a sound disk");
                model.entries.retain(|&index, _| index < from);
            }
        }
        Op::Purge { ahead } => {
            let index = (first + ahead).saturating_sub(1);
            let upto = model.entries.get(&index).map_or(id(term, index), |entry| entry.id);
            wait(|done| log.purge(upto, done)).expect("a sound disk");
            if model.purged.is_none_or(|purged| purged.index < index) {
                model.entries.retain(|&other, _| other > index);
                model.purged = Some(upto);
            }
        }
        Op::Committed => {
            if let Some(last) = model.last() {
                log.save_committed(last);
                model.committed = Some(last);
            }
        }
        Op::Close | Op::Kill => {}
    }
}

/// Segments that are there.
fn segments(disk: &dyn Disk) -> usize {
    let names = disk.read_dir(dir()).expect("it is there");
    names.iter().filter(|name| name.ends_with(".log")).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn it_does_what_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let world = world(1);
        let (mut log, mut model) = (open(world.disk()), Model::default());
        let mut committed = vec![None];
        for op in &ops {
            perform(op, &log, &mut model);
            committed.push(model.committed);
            match op {
                Op::Close => {
                    log.close().expect("a sound disk");
                    log = open(world.disk());
                    prop_assert!(log.recovered().clean);
                }
                Op::Kill => {
                    world.process_kill();
                    drop(log);
                    log = open(world.disk());
                    prop_assert!(!log.recovered().clean && log.recovered().cut.is_none());
                    // Nobody was promised that it stays.
                    prop_assert!(committed.contains(&log.committed()));
                    model.committed = log.committed();
                }
                _ => {}
            }
            prop_assert_eq!(&Model::of(&log), &model);
        }
        let upto = id(99, model.next() + 3);
        wait(|done| log.purge(upto, done)).expect("a sound disk");
        wait(|done| log.append(vec![entry(99, upto.index + 1, 1)], done)).expect("a sound disk");
        log.close().expect("a sound disk");
        prop_assert_eq!(segments(&*world.disk()), 1);
    }
}

#[test]
fn requests_that_wait_share_a_sync_and_are_answered_in_order() {
    let world = world(1);
    let gate = GateDisk::new(world.disk());
    let log = Log::open(Arc::new(gate.clone()), dir(), Options::default()).expect("a new log");
    let (send, receive) = sync_channel(100);
    let note = |number: u64| -> Done {
        let send = send.clone();
        Box::new(move |result| send.send((number, result.is_ok())).expect("somebody waits"))
    };
    let before = world.counters();
    gate.shut();
    log.append(vec![entry(1, 0, 10)], note(0));
    gate.wait_for_sync();
    for index in 1..50 {
        log.append(vec![entry(1, index, 10)], note(index));
    }
    log.save_vote(Vote::default(), note(50));
    // They can be read, and nobody was told that they are durable.
    assert_eq!(log.entries(0, 50, usize::MAX).len(), 50);
    assert_eq!(log.waiting(), 50);
    assert!(receive.try_recv().is_err());
    gate.open();
    let answers: Vec<_> = (0..51).map(|_| receive.recv().expect("every request is answered")).collect();
    assert_eq!(answers, (0..51).map(|number| (number, true)).collect::<Vec<_>>());
    let after = world.counters();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (2, 2));
}

#[test]
fn a_full_queue_makes_callers_wait() {
    let gate = GateDisk::new(world(1).disk());
    let log = Log::open(Arc::new(gate.clone()), dir(), Options { queue: 2, ..small() }).expect("a new log");
    gate.shut();
    let vote = |term| Vote { term, ..Vote::default() };
    log.save_vote(vote(1), Box::new(|_| {}));
    gate.wait_for_sync();
    log.save_vote(vote(2), Box::new(|_| {}));
    log.save_vote(vote(3), Box::new(|_| {}));
    let other = log.clone();
    let (send, receive) = sync_channel(1);
    let caller = std::thread::spawn(move || {
        send.send(()).expect("somebody waits");
        wait(|done| other.save_vote(vote(4), done))
    });
    receive.recv().expect("it runs");
    assert_eq!((log.waiting(), log.vote()), (2, Some(vote(3))));
    gate.open();
    caller.join().expect("no panic").expect("a sound disk");
    assert_eq!(log.vote(), Some(vote(4)));
}

#[test]
fn entries_come_as_many_as_fit() {
    let log = open(world(1).disk());
    wait(|done| log.append((5..10).map(|index| entry(1, index, 100)).collect(), done)).expect("a sound disk");
    let indexes = |start, end, bytes| -> Vec<u64> {
        log.entries(start, end, bytes).iter().map(|entry| entry.id.index).collect()
    };
    assert_eq!(indexes(5, 10, 250), [5, 6]);
    assert_eq!(indexes(6, 8, 1000), [6, 7]);
    assert_eq!(indexes(9, 99, 0), [9]);
    assert_eq!((indexes(4, 9, 1000), indexes(10, 12, 1000), indexes(7, 7, 1000)), (vec![], vec![], vec![]));
}

#[test]
fn a_payload_too_long_is_refused_and_the_log_goes_on() {
    let log = open(world(1).disk());
    let refused =
        wait(|done| log.append(vec![entry(1, 0, 1), entry(1, 1, 3000)], done)).expect_err("too long");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("3000 bytes, 2048 are allowed"), "{refused}");
    assert_eq!(log.last(), None);
    wait(|done| log.append(vec![entry(1, 0, 2048)], done)).expect("a sound disk");
}

#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    for op in [FaultOp::Write, FaultOp::Sync] {
        let world = world(1);
        let log = open(world.disk());
        wait(|done| log.append(vec![entry(1, 0, 10)], done)).expect("a sound disk");
        world.inject(Fault { op, path_contains: String::new(), count: 1 });
        wait(|done| log.append(vec![entry(1, 1, 10)], done)).expect_err("the disk failed");
        let operations = world.counters().operations;
        let later = wait(|done| log.save_vote(Vote::default(), done)).expect_err("the log is stopped");
        assert!(later.to_string().contains("takes nothing until it is opened again"), "{later}");
        log.close().expect_err("an earlier write failed");
        assert_eq!(world.counters().operations, operations);
        world.power_loss();
        let log = open(world.disk());
        assert!(!log.recovered().clean);
        assert_eq!((log.vote(), log.entries(0, 1, 0)), (None, vec![entry(1, 0, 10)]));
    }
}

#[test]
fn a_closed_log_refuses_requests_of_its_clones() {
    let world = world(1);
    let log = open(world.disk());
    let clone = log.clone();
    wait(|done| log.append(vec![entry(1, 0, 10)], done)).expect("a sound disk");
    log.save_committed(id(1, 0));
    log.close().expect("a sound disk");
    let refused = wait(|done| clone.save_vote(Vote::default(), done)).expect_err("closed");
    assert_eq!(refused.to_string(), "the log is closed");
    drop(clone);
    // What rode along with no write is written by the close.
    let log = open(world.disk());
    assert_eq!((log.committed(), log.recovered().clean), (Some(id(1, 0)), true));
    // The last handle may go where an answer comes in: the thread then ends by itself, and leaves the mark too.
    let (last, (send, receive)) = (log.clone(), sync_channel(1));
    log.save_vote(
        Vote::default(),
        Box::new(move |_| {
            receive.recv().expect("the other handle goes first");
            drop(last);
        }),
    );
    drop(log);
    send.send(()).expect("the answer waits");
    let again = (0..100_000_000).find_map(|_| match Log::open(world.disk(), dir(), small()) {
        Err(LogError::InUse { .. }) => {
            std::thread::yield_now();
            None
        }
        opened => Some(opened.expect("a sound log")),
    });
    let again = again.expect("its thread ends");
    assert!(again.recovered().clean);
}

#[test]
fn requests_of_several_threads_survive_power_losses() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..300 {
        let world = world(seed);
        let log = open(world.disk());
        world.crash_after(1 + world.random() % 80);
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut history = vec![Model::default()];
        for number in 0..40 {
            let mut model = history[history.len() - 1].clone();
            let counted = acknowledged.clone();
            let place = history.len();
            let done: Done = Box::new(move |result| {
                if result.is_ok() {
                    counted.fetch_max(place, Ordering::SeqCst);
                }
            });
            if number % 5 == 4 {
                let vote = Vote { term: number, ..Vote::default() };
                log.save_vote(vote, done);
                model.vote = Some(vote);
            } else if number % 11 == 10 && model.entries.len() > 2 {
                let upto = model.entries[&(model.first() + 1)].id;
                log.purge(upto, done);
                model.entries.retain(|&index, _| index > upto.index);
                model.purged = Some(upto);
            } else {
                let entry = entry(1, model.next(), world.random() as usize % 900);
                log.append(vec![entry.clone()], done);
                model.entries.insert(entry.id.index, entry);
            }
            history.push(model);
            if world.random().is_multiple_of(4) {
                let waited = wait(|done| log.append(Vec::new(), done));
                assert!(waited.is_ok() || world.is_off(), "seed {seed}");
            }
        }
        drop(log);
        let acknowledged = acknowledged.load(Ordering::SeqCst);
        world.power_loss();
        let found = Model::of(&open(world.disk()));
        let place = history.iter().rposition(|model| *model == found);
        let place = place.unwrap_or_else(|| panic!("seed {seed}: {found:?} is no state of the log"));
        assert!(place >= acknowledged, "seed {seed}: {place} is there, {acknowledged} acknowledged");
        lost += history.len() - 1 - place;
        kept += acknowledged;
    }
    assert!(lost > 300 && kept > 300, "{lost} lost, {kept} kept");
}

#[test]
fn files_of_this_machine_hold_a_log_too() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("store-log-{}", std::process::id()));
    let open = || Log::open(Arc::new(LocalDisk), &path, small());
    let log = open().expect("a new log");
    for index in 0..20 {
        wait(|done| log.append(vec![entry(1, index, 500)], done)).expect("a sound disk");
    }
    assert!(matches!(open().map(drop), Err(LogError::InUse { .. })));
    wait(|done| log.purge(id(1, 15), done)).expect("a sound disk");
    log.close().expect("a sound disk");
    let log = open().expect("a sound log");
    assert!(log.recovered().clean);
    assert_eq!(
        log.entries(16, 20, usize::MAX),
        (16..20).map(|index| entry(1, index, 500)).collect::<Vec<_>>()
    );
    drop(log);
    let mut names = LocalDisk.read_dir(&path).expect("it is there");
    let segment = names.iter().rposition(|name| name.ends_with(".log")).map(|at| names.remove(at));
    let segment = path.join(segment.expect("a segment"));
    let mut bytes = std::fs::read(&segment).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).expect("it is ours");
    let error = open().map(drop).expect_err("damaged").to_string();
    assert!(error.contains(&*segment.to_string_lossy()) && error.contains("restore this member"), "{error}");
    std::fs::remove_dir_all(&path).expect("it is ours");
}

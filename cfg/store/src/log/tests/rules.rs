//! Which records may follow which, and that an open writes what it found once more.

use uring::sim::{Fault, FaultOp, Odds, SimOptions};

use super::{Model, dir, entry, small, world};
use crate::log::memory::{Memory, State};
use crate::log::record::{Reader, Record};
use crate::log::writer::Writer;
use crate::log::{LogError, LogId, Options};

fn id(term: u64, index: u64) -> LogId {
    LogId { term, node: 1, index }
}

#[test]
fn records_that_do_not_fit_are_refused_and_change_nothing() {
    let mut memory = Memory::default();
    for record in [entry(1, 4, "a"), entry(1, 5, "b"), Record::Purge(id(1, 4)), entry(2, 6, "c")] {
        memory.apply(&record).expect("it fits");
    }
    let before = memory.clone();
    for record in [
        entry(2, 8, "a hole"),
        entry(2, 6, "twice"),
        entry(1, 7, "an older term"),
        Record::Purge(id(1, 4)),
        Record::Truncate { from: 4, last: None },
        Record::Truncate { from: 7, last: Some(id(2, 6)) },
        Record::Truncate { from: 6, last: Some(id(2, 5)) },
        Record::Truncate { from: 5, last: None },
    ] {
        assert!(memory.apply(&record).is_err(), "{record:?}");
        assert_eq!(memory, before);
    }
}

#[test]
fn what_deleted_segments_held_has_to_be_purged() {
    let state = State { purged: Some(id(1, 2)), last: Some(id(1, 9)), ..State::default() };
    let mut memory = Memory::new(state);
    assert_eq!(memory.gone(), Some(9));
    memory.apply(&entry(1, 10, "")).expect("it follows");
    memory.apply(&Record::Truncate { from: 8, last: Some(id(1, 7)) }).expect("it fits");
    assert_eq!(memory.gone(), Some(7));
    memory.apply(&entry(2, 8, "")).expect("it follows");
    memory.apply(&Record::Purge(id(1, 6))).expect("it fits");
    assert_eq!(memory.gone(), Some(7));
    memory.apply(&Record::Purge(id(1, 7))).expect("it fits");
    assert_eq!((memory.gone(), memory.entries(8, 9, 0).len()), (None, 1));
}

#[test]
fn a_record_that_is_cut_or_unknown_is_refused() {
    let records =
        [entry(1, 1, "payload"), Record::Purge(id(1, 1)), Record::Truncate { from: 3, last: Some(id(1, 2)) }];
    for record in records {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(bytes.len(), record.encoded_len());
        assert_eq!(Record::decode(&mut Reader(&bytes)), Ok(record));
        for len in 0..bytes.len() {
            assert!(Record::decode(&mut Reader(&bytes[..len])).is_err());
        }
        bytes[0] = 99;
        assert!(Record::decode(&mut Reader(&bytes)).is_err());
    }
}

/// After a failed sync the page cache shows what the disk does not have, and no later sync of that file changes it.
#[test]
fn an_open_makes_durable_what_it_found() {
    let options = SimOptions { power: Odds::LOSE, ..SimOptions::default() };
    let world = world(1, options);
    let (mut writer, ..) = Writer::open(world.disk(), dir(), small()).expect("a new log");
    writer.write(&[entry(1, 0, "durable")]).expect("a sound disk");
    world.inject(Fault { op: FaultOp::Sync, path_contains: String::new(), count: 1 });
    writer.write(&[entry(1, 1, "in the page cache")]).expect_err("the sync fails");
    world.process_kill();
    let (writer, memory, _) = Writer::open(world.disk(), dir(), small()).expect("a sound log");
    assert_eq!(memory.state.last, Some(id(1, 1)));
    drop(writer);
    world.power_loss();
    let (_, after, _) = Writer::open(world.disk(), dir(), small()).expect("a sound log");
    assert_eq!(Model::of(&after), Model::of(&memory));
}

#[test]
fn a_log_is_open_once_and_its_options_have_bounds() {
    let world = world(1, SimOptions::default());
    let first = Writer::open(world.disk(), dir(), small()).expect("a new log");
    let second = Writer::open(world.disk(), dir(), small()).map(drop);
    assert!(matches!(second, Err(LogError::InUse { .. })));
    drop(first);
    Writer::open(world.disk(), dir(), small()).map(drop).expect("nobody has it open");
    for options in [
        Options { segment_bytes: 1 << 40, ..small() },
        Options { batch_bytes: 0, ..small() },
        Options { queue: 0, ..small() },
        Options { entry_bytes_max: 64 << 20, ..small() },
    ] {
        let error = Writer::open(world.disk(), dir(), options).map(drop).expect_err("out of bounds");
        assert!(matches!(error, LogError::Options(_)), "{error}");
    }
}

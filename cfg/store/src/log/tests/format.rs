//! The golden bytes of `docs/formats/store-log.md`.

use uring::sim::{SimOptions, SimWorld};

use super::{dir, entry, world};
use crate::log::record::Record;
use crate::log::writer::Writer;
use crate::log::{LogError, LogId, Options, Vote};

fn sample() -> Vec<Vec<Record>> {
    let vote = Vote { term: 3, node: 2, committed: true };
    let id = |term, index| LogId { term, node: 1, index };
    vec![
        vec![Record::Vote(vote), entry(3, 0, "first"), entry(3, 1, vec![0; 2000])],
        vec![entry(3, 2, vec![7; 700]), Record::Committed(id(3, 1))],
        vec![Record::Truncate { from: 2, last: Some(id(3, 1)) }, entry(4, 2, "")],
        vec![Record::Purge(id(3, 0)), entry(4, 3, vec![9; 600])],
    ]
}

fn written() -> SimWorld {
    let world = world(1, SimOptions::default());
    let options = Options { segment_bytes: 4096, ..Options::default() };
    let (mut writer, ..) = Writer::open(world.disk(), dir(), options).expect("a new log");
    for batch in sample() {
        writer.write(&batch).expect("a sound disk");
    }
    writer.close().expect("a sound disk");
    world
}

/// A change of these numbers is a change of the format.
#[test]
fn golden_bytes() {
    let world = written();
    let file = |name: &str| world.disk().read(&dir().join(name), 1 << 20).expect("written");
    let names = ["0000000000000001.log", "0000000000000002.log", "clean"];
    let found = names.map(|name| (file(name).len(), crc32fast::hash(&file(name))));
    assert_eq!(found, GOLDEN);
    assert_eq!(file(names[0])[..8], *b"OVSSTLOG");
    assert_eq!(file(names[0])[512..516], *b"OVSB");
    assert_eq!(file(names[2])[..8], *b"OVSSTEND");
}

const GOLDEN: [(usize, u32); 3] = [(4096, 3_906_896_938), (2048, 3_340_055_770), (40, 1_696_195_001)];

#[test]
fn a_later_format_and_another_programs_file_are_refused_as_such() {
    let name = dir().join("0000000000000002.log");
    for (change, expected) in [
        ((|bytes| bytes[12] = 2) as fn(&mut [u8]), "format 2, known is 1"),
        (|bytes| bytes[..4].copy_from_slice(b"\x7fELF"), "does not begin as a segment"),
    ] {
        let world = written();
        let mut bytes = world.disk().read(&name, 1 << 20).expect("written");
        change(&mut bytes);
        let crc = crc32fast::hash(&bytes[12..512]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        let file = world.disk().open(&name, uring::OpenMode::CreateOrTruncate).expect("its name is free");
        file.write_at(&bytes, 0).expect("a sound disk");
        drop(file);
        world.process_kill();
        match Writer::open(world.disk(), dir(), Options::default()).map(drop) {
            Err(LogError::Foreign { path, what }) => {
                assert_eq!(path, name);
                assert!(what.contains(expected), "{what}");
            }
            other => panic!("{other:?}"),
        }
    }
}

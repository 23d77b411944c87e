//! Every byte of a small log cut off, every bit flipped, every sector zeroed, every file taken away.

use std::path::{Path, PathBuf};

use uring::sim::{Corruption, SimOptions, SimWorld};
use uring::{Disk, OpenMode};

use super::{Model, dir, entry, small, world};
use crate::log::record::Record;
use crate::log::recover::{Recovered, recover};
use crate::log::writer::Writer;
use crate::log::{LogError, LogId, Vote};

/// A log of three segments whose first is deleted, and what it came to after each record.
fn written(clean: bool) -> (SimWorld, Vec<Model>) {
    let world = world(1, SimOptions::default());
    let (mut writer, ..) = Writer::open(world.disk(), dir(), small()).expect("a new log");
    let id = |term, index| LogId { term, node: 1, index };
    let batches = [
        vec![Record::Vote(Vote { term: 1, node: 1, committed: false }), entry(1, 0, "a"), entry(1, 1, "b")],
        (2..6).map(|index| entry(1, index, vec![index as u8; 190])).collect(),
        vec![entry(1, 6, vec![0; 1700])],
        vec![Record::Purge(id(1, 3)), entry(2, 7, "c")],
        vec![Record::Truncate { from: 7, last: Some(id(1, 6)) }, Record::Committed(id(1, 6))],
        (7..11).map(|index| entry(3, index, vec![index as u8; 180])).collect(),
        vec![Record::Purge(id(1, 5))],
        vec![entry(3, 11, vec![0; 1500]), entry(3, 12, "d")],
        vec![Record::Vote(Vote { term: 4, node: 2, committed: true }), entry(4, 13, vec![3; 1300])],
    ];
    let mut states = vec![Model::default()];
    for batch in batches {
        for record in &batch {
            let mut model = states[states.len() - 1].clone();
            model.apply(record);
            states.push(model);
        }
        writer.write(&batch).expect("a sound disk");
        writer.delete_purged().expect("a sound disk");
    }
    if clean {
        writer.close().expect("a sound disk");
    }
    world.process_kill();
    (world, states)
}

fn names(world: &SimWorld) -> Vec<PathBuf> {
    let names = world.disk().read_dir(dir()).expect("it is there");
    names.iter().filter(|name| *name != "lock").map(|name| dir().join(name)).collect()
}

fn segments(world: &SimWorld) -> Vec<PathBuf> {
    let names = names(world);
    names.into_iter().filter(|name| name.extension().is_some_and(|it| it == "log")).collect()
}

fn content(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    disk.read(path, 1 << 20).expect("it is there")
}

fn open(world: &SimWorld) -> Result<(Model, Recovered), LogError> {
    recover(&*world.disk(), dir()).map(|found| (Model::of(&found.memory), found.report))
}

/// That the log is refused, naming this file and no byte behind the one that is wrong.
fn assert_refused(found: Result<(Model, Recovered), LogError>, path: &Path, at: usize, what: &str) {
    match found {
        Err(LogError::Damaged { path: named, offset, what: _ }) => {
            assert_eq!(named, path, "{what}");
            assert!(offset <= at as u64, "{what}: {offset} is named");
        }
        Err(LogError::Foreign { path: named, .. }) => assert_eq!(named, path, "{what}"),
        Err(other) => panic!("{what}: {other}"),
        Ok((_, report)) => panic!("{what}: taken, {report:?}"),
    }
}

#[test]
fn the_sample_has_several_segments_and_its_first_are_deleted() {
    let (world, states) = written(true);
    let segments = segments(&world);
    assert!(segments.len() >= 3, "{segments:?}");
    assert!(!segments[0].ends_with("0000000000000001.log"), "{segments:?}");
    let (found, report) = open(&world).expect("undamaged");
    assert_eq!((Some(&found), report.clean), (states.last(), true));
}

#[test]
fn every_flipped_bit_is_refused() {
    for clean in [true, false] {
        let (world, _) = written(clean);
        for path in names(&world) {
            for at in 0..content(&*world.disk(), &path).len() {
                // With the mark one bit of each byte will do: it only ever refuses more.
                for bit in (0..8).filter(|bit| !clean || at % 8 == *bit) {
                    let bit = bit as u8;
                    let flip = Corruption::BitFlip { bit };
                    world.corrupt(&path, at as u64, flip).expect("inside the file");
                    let what = format!("clean {clean}, {} byte {at} bit {bit}", path.display());
                    assert_refused(open(&world), &path, at, &what);
                    world.corrupt(&path, at as u64, flip).expect("inside the file");
                }
            }
        }
        assert!(open(&world).is_ok());
    }
}

#[test]
fn a_log_that_is_cut_is_refused_or_loses_its_end_only() {
    for clean in [true, false] {
        let (world, states) = written(clean);
        let last = segments(&world).pop().expect("segments");
        let (mut borders, mut cuts) = (0, 0);
        for path in names(&world) {
            let disk = world.disk();
            let whole = content(&*disk, &path);
            let file = disk.open(&path, OpenMode::CreateOrTruncate).expect("it is there");
            for len in 0..whole.len() {
                file.set_len(0).expect("a sound disk");
                file.write_at(&whole[..len], 0).expect("a sound disk");
                let (found, what) = (open(&world), format!("clean {clean}, {} cut to {len}", path.display()));
                match found {
                    // Nobody can tell an end that is missing from one that was never written.
                    Ok((found, report)) if !clean && path == last && len >= 512 => {
                        assert!(states.contains(&found), "{what}: {found:?}");
                        match report.cut {
                            Some(cut) => {
                                assert!(cut.file == path && cut.offset + cut.bytes == len as u64, "{cut:?}")
                            }
                            None => borders += 1,
                        }
                        cuts += 1;
                    }
                    found => assert_refused(found, &path, len, &what),
                }
            }
            file.write_at(&whole, 0).expect("a sound disk");
        }
        let all = content(&*world.disk(), &last).len() - 512;
        assert_eq!(cuts, if clean { 0 } else { all });
        assert!(clean || (borders > 0 && borders < 10), "{borders}");
        assert!(open(&world).is_ok());
    }
}

#[test]
fn a_zeroed_sector_costs_the_last_batch_at_most() {
    for clean in [true, false] {
        let (world, states) = written(clean);
        let (mut cuts, mut unchanged) = (0, 0);
        for path in segments(&world) {
            let disk = world.disk();
            let whole = content(&*disk, &path);
            for at in (0..whole.len()).step_by(512) {
                world.corrupt(&path, at as u64, Corruption::Zero { len: 512 }).expect("inside the file");
                let what = format!("clean {clean}, {} sector at {at}", path.display());
                match open(&world) {
                    Ok((found, Recovered { cut: None, .. })) => {
                        assert_eq!(content(&*disk, &path), whole, "{what}");
                        assert_eq!(Some(&found), states.last());
                        unchanged += 1;
                    }
                    Ok((found, _)) => {
                        assert!(!clean, "{what}");
                        assert_eq!(found, states[states.len() - 2], "{what}");
                        cuts += 1;
                    }
                    found => assert_refused(found, &path, at + 512, &what),
                }
                let file = disk.open(&path, OpenMode::CreateOrTruncate).expect("it is there");
                file.write_at(&whole, 0).expect("a sound disk");
            }
        }
        // The last batch is one entry in three sectors; two payloads consist of zeros.
        assert_eq!(cuts, if clean { 0 } else { 3 });
        assert!(unchanged >= 2);
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    for clean in [true, false] {
        let paths = segments(&written(clean).0);
        for (place, path) in paths.iter().enumerate() {
            let (world, states) = written(clean);
            world.corrupt(path, 0, Corruption::Remove).expect("it is there");
            match open(&world) {
                // Without a mark the last segment may never have been there.
                Ok((found, _)) if !clean && place + 1 == paths.len() => assert!(states.contains(&found)),
                found => {
                    assert_refused(found, path, 0, &format!("clean {clean}, without {}", path.display()))
                }
            }
        }
        let (world, _) = written(clean);
        for path in &paths {
            world.corrupt(path, 0, Corruption::Remove).expect("it is there");
        }
        assert_eq!(open(&world).is_err(), clean);
    }
}

#[test]
fn bytes_behind_the_end_are_refused() {
    for clean in [true, false] {
        for more in [&[1; 600][..], &[0; 1024], &[0; 5]] {
            let (world, states) = written(clean);
            let path = segments(&world).pop().expect("segments");
            let disk = world.disk();
            let whole = content(&*disk, &path);
            let file = disk.open(&path, OpenMode::CreateOrTruncate).expect("it is there");
            file.write_at(&[&whole, more].concat(), 0).expect("a sound disk");
            match open(&world) {
                // As a write leaves it that got no further than the file's length.
                Ok((found, report)) if !clean && more[0] == 0 => {
                    assert_eq!(Some(&found), states.last());
                    assert_eq!(report.cut.map(|cut| cut.bytes), Some(more.len() as u64));
                }
                found => assert_refused(found, &path, whole.len(), "more bytes"),
            }
        }
    }
}

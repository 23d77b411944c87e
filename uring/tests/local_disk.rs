//! Files and directories of this machine.

mod harness;

use std::io::ErrorKind;
use std::path::Path;

use harness::{Place, pattern};
use uring::{AlignedBuf, Disk, LocalDisk, OpenMode};

#[test]
fn modes_of_opening() {
    let place = Place::new();
    let path = place.path("f");
    let missing = |mode| LocalDisk.open(&path, mode).err().map(|error| error.kind());
    assert_eq!(missing(OpenMode::Read), Some(ErrorKind::NotFound));
    assert_eq!(missing(OpenMode::Direct), Some(ErrorKind::NotFound));
    let file = LocalDisk.open(&path, OpenMode::CreateNew).unwrap();
    file.write_at(b"content", 3).unwrap();
    file.sync().unwrap();
    assert_eq!(file.len().unwrap(), 10);
    assert_eq!(missing(OpenMode::CreateNew), Some(ErrorKind::AlreadyExists));
    let reader = LocalDisk.open(&path, OpenMode::Read).unwrap();
    let mut content = [1; 10];
    reader.read_at(&mut content, 0).unwrap();
    assert_eq!(&content, b"\0\0\0content");
    assert_eq!(reader.read_at(&mut content, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(reader.write_at(b"x", 0).is_err());
    let file = LocalDisk.open(&path, OpenMode::CreateOrTruncate).unwrap();
    assert_eq!(file.len().unwrap(), 0);
    file.set_len(1 << 30).unwrap();
    assert_eq!(reader.len().unwrap(), 1 << 30);
}

#[test]
fn direct_files_by_blocking_calls() {
    let place = Place::new();
    let file = place.direct("f", &[0; 8192]);
    file.write_at(&AlignedBuf::copy_from(&pattern(1, 4096)), 4096).unwrap();
    let mut buf = AlignedBuf::zeroed(8192);
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!((&buf[..4096], &buf[4096..]), (&[0; 4096][..], &pattern(1, 4096)[..]));
}

#[test]
fn what_has_no_direct_access_says_so() {
    let error = LocalDisk.open(Path::new("/proc/self/comm"), OpenMode::Direct).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("/proc/self/comm: ") && error.to_string().contains("O_DIRECT"),
        "{error}"
    );
}

#[test]
fn one_holder_of_a_lock() {
    let place = Place::new();
    let (first, second) = (place.direct("f", &[]), place.direct("f", &[]));
    assert!(first.try_lock().unwrap());
    assert!(!second.try_lock().unwrap());
    assert!(first.try_lock().unwrap(), "its holder may ask again");
    drop(first);
    assert!(second.try_lock().unwrap());
}

#[test]
fn directories() {
    let place = Place::new();
    let (dir, other) = (place.path("a/b"), place.path("c"));
    LocalDisk.create_dir(&dir).unwrap();
    LocalDisk.create_dir(&dir).unwrap();
    LocalDisk.create_dir(&other).unwrap();
    for name in ["z", "m", "a"] {
        LocalDisk.open(&dir.join(name), OpenMode::CreateNew).unwrap().write_at(name.as_bytes(), 0).unwrap();
    }
    assert_eq!(LocalDisk.read_dir(&dir).unwrap(), ["a", "m", "z"]);
    LocalDisk.rename(&dir.join("a"), &other.join("a")).unwrap();
    LocalDisk.rename(&dir.join("m"), &dir.join("z")).unwrap();
    LocalDisk.sync_dir(&dir).unwrap();
    assert_eq!(LocalDisk.read(&dir.join("z"), 1).unwrap(), b"m");
    assert_eq!(LocalDisk.read_dir(&dir).unwrap(), ["z"]);
    assert_eq!(LocalDisk.remove_dir(&dir).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    LocalDisk.remove_file(&dir.join("z")).unwrap();
    LocalDisk.remove_dir(&dir).unwrap();
    assert_eq!(LocalDisk.read_dir(&dir).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(LocalDisk.sync_dir(&other.join("a")).is_err(), "a file is no directory");
    assert!(LocalDisk.free_space(&other).unwrap() > 0);
}

#[test]
fn reading_is_limited() {
    let place = Place::new();
    std::fs::write(place.path("f"), b"12345").unwrap();
    assert_eq!(LocalDisk.read(&place.path("f"), 5).unwrap(), b"12345");
    assert_eq!(LocalDisk.read(&place.path("f"), 4).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(LocalDisk.read(&place.path("f"), usize::MAX).unwrap(), b"12345");
}

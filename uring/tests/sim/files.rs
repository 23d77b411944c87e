//! Files and directories as long as nothing goes wrong.

use super::*;
use std::io::ErrorKind;

fn kind(result: io::Result<impl Sized>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn open_modes() {
    let disk = SimWorld::new(1, SimOptions::default()).disk();
    assert_eq!(kind(disk.open("/f".as_ref(), OpenMode::Read)), Some(ErrorKind::NotFound));
    assert_eq!(kind(disk.open("/f".as_ref(), OpenMode::Direct)), Some(ErrorKind::NotFound));
    assert_eq!(kind(disk.open("/no/f".as_ref(), OpenMode::CreateNew)), Some(ErrorKind::NotFound));
    let file = disk.open("/f".as_ref(), OpenMode::CreateNew).unwrap();
    assert!(file.fd() >= 1_000_000);
    file.write_at(b"hello", 3).unwrap();
    assert_eq!(kind(disk.open("/f".as_ref(), OpenMode::CreateNew)), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(disk.open("/".as_ref(), OpenMode::Read)), Some(ErrorKind::IsADirectory));
    assert_eq!(kind(disk.open("/f/g".as_ref(), OpenMode::Read)), Some(ErrorKind::NotADirectory));
    let reader = disk.open("f".as_ref(), OpenMode::Read).unwrap();
    assert_ne!(reader.fd(), file.fd());
    assert_eq!(code(reader.write_at(b"x", 0)), Some(libc::EBADF));
    let cut = disk.open("/f".as_ref(), OpenMode::CreateOrTruncate).unwrap();
    assert_eq!((cut.len().unwrap(), reader.len().unwrap()), (0, 0));
}

#[test]
fn reads_writes_and_lengths() {
    let disk = SimWorld::new(1, SimOptions::default()).disk();
    let file = disk.open("/f".as_ref(), OpenMode::CreateNew).unwrap();
    file.write_at(b"hello", PAGE as u64 - 2).unwrap();
    let mut buf = [9; 7];
    file.read_at(&mut buf, PAGE as u64 - 4).unwrap();
    assert_eq!(&buf, b"\0\0hello");
    assert_eq!(kind(file.read_at(&mut buf, PAGE as u64 - 3)), Some(ErrorKind::UnexpectedEof));
    file.set_len(PAGE as u64).unwrap();
    file.set_len(32 << 20).unwrap();
    let mut tail = [9; 8];
    file.read_at(&mut tail, PAGE as u64 - 2).unwrap();
    assert_eq!(&tail, b"he\0\0\0\0\0\0");
    assert_eq!((file.len().unwrap(), file.sync().is_ok()), (32 << 20, true));
    assert_eq!(kind(disk.read("/f".as_ref(), (32 << 20) - 1)), Some(ErrorKind::InvalidData));
    assert_eq!(disk.read("/f".as_ref(), 32 << 20).unwrap().len(), 32 << 20);
}

#[test]
fn directories() {
    let disk = SimWorld::new(1, SimOptions::default()).disk();
    disk.create_dir("/a/b".as_ref()).unwrap();
    disk.create_dir("/a/b".as_ref()).unwrap();
    for name in ["/a/z", "/a/y"] {
        disk.open(name.as_ref(), OpenMode::CreateNew).unwrap().write_at(name.as_bytes(), 0).unwrap();
    }
    assert_eq!(names(&*disk, "/a"), ["b", "y", "z"]);
    assert_eq!(kind(disk.create_dir("/a/y".as_ref())), Some(ErrorKind::NotADirectory));
    assert_eq!(kind(disk.remove_dir("/a".as_ref())), Some(ErrorKind::DirectoryNotEmpty));
    assert_eq!(kind(disk.remove_file("/a/b".as_ref())), Some(ErrorKind::IsADirectory));
    assert_eq!(kind(disk.remove_file("/a/x".as_ref())), Some(ErrorKind::NotFound));
    assert_eq!(kind(disk.rename("/a".as_ref(), "/a/b/c".as_ref())), Some(ErrorKind::InvalidInput));
    assert_eq!(kind(disk.sync_dir("/a/y".as_ref())), Some(ErrorKind::NotADirectory));
    disk.rename("/a/z".as_ref(), "/a/y".as_ref()).unwrap();
    disk.rename("/a/y".as_ref(), "/a/b/y".as_ref()).unwrap();
    disk.rename("/a/b".as_ref(), "/c".as_ref()).unwrap();
    assert_eq!(disk.read("/c/y".as_ref(), 100).unwrap(), b"/a/z");
    assert_eq!(names(&*disk, "/a"), [""; 0]);
    disk.remove_file("/c/y".as_ref()).unwrap();
    disk.remove_dir("/c".as_ref()).unwrap();
    assert_eq!(names(&*disk, "/"), ["a"]);
}

#[test]
fn a_removed_file_lives_as_long_as_its_handle() {
    let world = SimWorld::new(1, SimOptions { capacity: Some(PAGE as u64), ..SimOptions::default() });
    let disk = world.disk();
    let file = disk.open("/f".as_ref(), OpenMode::CreateNew).unwrap();
    file.write_at(b"hello", 0).unwrap();
    disk.remove_file("/f".as_ref()).unwrap();
    disk.sync_dir("/".as_ref()).unwrap();
    let mut buf = [0; 5];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!((&buf, disk.free_space("/".as_ref()).unwrap()), (b"hello", 0));
    drop(file);
    assert_eq!(disk.free_space("/".as_ref()).unwrap(), PAGE as u64);
}

#[test]
fn direct_files_demand_alignment() {
    let world = SimWorld::new(1, SimOptions::default());
    let file = durable_file(&world, "f", 1, 1);
    let mut buf = AlignedBuf::zeroed(2 * PAGE);
    assert_eq!(code(file.read_at(&mut buf[..PAGE], 512)), Some(libc::EINVAL));
    assert_eq!(code(file.read_at(&mut buf[..512], 0)), Some(libc::EINVAL));
    assert_eq!(code(file.write_at(&buf[512..512 + PAGE], 0)), Some(libc::EINVAL));
    file.read_at(&mut buf[..PAGE], 0).unwrap();
    assert_eq!(buf[0], 1);
    let mut io = world.io();
    let data = vec![page(2).slice(..512)];
    io.submit(1, Op::Write { file: file.fd(), offset: 0, data, durability: Durability::Written });
    io.submit(2, Op::Read { file: file.fd(), offset: 1, buf });
    assert!(drain(&mut *io).into_values().all(|result| code(result) == Some(libc::EINVAL)));
}

//! The last good copy: its bytes, its rights, and everything that may be wrong with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use cfg_client::{Age, Error, LastGood, Snapshot};
use serde_json::json;

/// The file of docs/formats/last-good.md.
const GOLDEN: &str = include_str!("golden/last-good");

struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("last-good-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("last-good")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy() -> LastGood {
    let snapshot = Snapshot {
        revision: 812,
        cluster_id: Some(14_841_639_068_965_178_418),
        documents: [("nbd".to_owned(), json!({"nbd_port": 10809})), ("scocache".to_owned(), json!({}))]
            .into(),
    };
    let now = UNIX_EPOCH + Duration::from_millis(1_795_282_496_123);
    LastGood::new("etcd://127.0.0.1:2379/ovs/config", &snapshot, now)
}

#[test]
fn the_bytes_are_those_of_the_page() {
    let directory = Directory::new("golden");
    copy().write(&directory.file()).expect("written");
    assert_eq!(fs::read_to_string(directory.file()).expect("read"), GOLDEN);
    assert_eq!(LastGood::read(&directory.file()).expect("read"), copy());
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/last-good.md"));
    let page: String = page.expect("the page").lines().map(|line| line.trim_start()).collect();
    assert!(page.contains(&GOLDEN.replace('\n', "")), "the example of docs/formats/last-good.md");
}

#[test]
fn it_is_for_the_owner_only_and_replaces_what_was_there() {
    let directory = Directory::new("rights");
    let draft = directory.0.join(".last-good.new");
    fs::write(&draft, "left by a crash").expect("written");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o644)).expect("rights");
    for revision in [1, 2] {
        LastGood { revision, ..copy() }.write(&directory.file()).expect("written");
        assert_eq!(LastGood::read(&directory.file()).expect("read").revision, revision);
    }
    let mode = fs::metadata(directory.file()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!draft.exists());
    let nowhere = directory.0.join("no/such/directory");
    assert!(matches!(copy().write(&nowhere), Err(Error::Absent { .. })));
    assert!(matches!(LastGood::read(&nowhere), Err(Error::Absent { .. })));
}

#[test]
fn damage_is_found_and_named() {
    let directory = Directory::new("damage");
    let body = &GOLDEN[GOLDEN.find('\n').expect("a line") + 1..];
    let with_crc = |body: &str| {
        format!("ovs-last-good 1 {:08x} {}\n{body}", crc32fast::hash(body.as_bytes()), body.len())
    };
    let text = |from: &str, to: &str| GOLDEN.replacen(from, to, 1);
    for (content, problem) in [
        (String::new(), "does not begin with a line"),
        ("{}".to_owned(), "does not begin with a line"),
        ("x".repeat(1000), "does not begin with a line"),
        (text("good 1", "good 2"), "not with \"ovs-last-good 1\""),
        (text("good 1 ", "good 1"), "not with \"ovs-last-good 1\""),
        ("ovs-last-good 1 00000000\n".to_owned(), "lacks the length"),
        ("ovs-last-good 1 00000000 x\n".to_owned(), "is no number"),
        (GOLDEN[..GOLDEN.len() - 1].to_owned(), "bytes behind its first line"),
        (format!("{GOLDEN} "), "bytes behind its first line"),
        (text("10809", "10808"), "its CRC is"),
        (with_crc("{}"), "its content is not"),
        (with_crc(&body.replace("812", "-1")), "its content is not"),
        (with_crc(&body.replace("\"url\"", "\"uri\"")), "its content is not"),
    ] {
        fs::write(directory.file(), &content).expect("written");
        let error = LastGood::read(&directory.file()).expect_err(&content);
        assert!(
            matches!(error, Error::Damaged { .. }) && error.to_string().contains(problem),
            "{content}: {error}"
        );
    }
    for bit in 0..GOLDEN.len() * 8 {
        let mut content = GOLDEN.as_bytes().to_vec();
        content[bit / 8] ^= 1 << (bit % 8);
        fs::write(directory.file(), &content).expect("written");
        assert!(LastGood::read(&directory.file()).is_err(), "bit {bit} changed unnoticed");
    }
}

#[test]
fn a_clock_that_was_set_back_is_told_apart() {
    let copy = copy();
    let at = |ms: u64| UNIX_EPOCH + Duration::from_millis(ms);
    assert_eq!(copy.age(at(copy.read_at_ms + 5)), Age::Of(Duration::from_millis(5)));
    assert_eq!(copy.age(at(copy.read_at_ms - 5)), Age::ClockWentBack(Duration::from_millis(5)));
}

//! Configuration in a directory of files.

use std::fs;
use std::path::{Path, PathBuf};

use cfg_client::{DOCUMENT_COUNT_LIMIT, DOCUMENT_LIMIT, Error, FileSource};
use serde_json::json;

struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("cfg-client-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("written");
    }

    fn url(&self) -> String {
        format!("file://{}", self.0.display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_json_file_is_a_section() {
    let directory = Directory::new("sections");
    directory.write("scocache.json", r#"{"trigger_gap": "1GB"}"#);
    directory.write("nbd.json", "[]");
    directory.write("notes.txt", "not a document");
    directory.write(".nbd.json", "an editor's");
    let source = FileSource::open(&directory.url()).expect("open");
    let snapshot = source.read("").expect("read");
    assert_eq!(
        snapshot.documents,
        [("nbd".to_owned(), json!([])), ("scocache".to_owned(), json!({"trigger_gap": "1GB"}))].into()
    );
    assert_eq!(source.url(), directory.url());
}

#[test]
fn the_revision_changes_with_the_content_only() {
    let directory = Directory::new("revision");
    directory.write("a.json", "{}");
    let source = FileSource::open(&directory.url()).expect("open");
    let first = source.read("").expect("read").revision;
    directory.write("a.json", "{}");
    assert_eq!(source.read("").expect("read").revision, first);
    directory.write("a.json", r#"{"b": 1}"#);
    assert_ne!(source.read("").expect("read").revision, first);
}

#[test]
fn a_prefix_is_a_folder_and_never_leaves_the_directory() {
    let directory = Directory::new("prefix");
    fs::create_dir(directory.0.join("host")).expect("a folder");
    directory.write("host/nbd.json", "{}");
    let source = FileSource::open(&directory.url()).expect("open");
    assert!(source.read("").expect("read").documents.is_empty());
    assert_eq!(source.read("/host/").expect("read").documents.len(), 1);
    assert!(matches!(source.read("../host"), Err(Error::Url { .. })));
    assert!(matches!(source.read("hos"), Err(Error::Absent { .. })));
}

#[test]
fn bad_json_is_reported_with_path_line_and_column() {
    let directory = Directory::new("syntax");
    directory.write("nbd.json", "{\n  \"nbd_port\": 10809,\n}");
    let error = FileSource::open(&directory.url()).expect("open").read("").expect_err("bad JSON");
    let Error::Syntax { place, line, column, problem } = &error else { panic!("{error}") };
    assert!(place.ends_with("/nbd.json"));
    assert_eq!((*line, *column), (3, 1));
    assert!(!problem.contains("line"), "{problem}");
    assert!(error.to_string().contains("nbd.json, line 3, column 1: trailing comma"), "{error}");
}

#[test]
fn limits_are_kept() {
    let directory = Directory::new("limits");
    let padding = |size: usize| format!("{{}}{}", " ".repeat(size - 2));
    directory.write("large.json", &padding(DOCUMENT_LIMIT));
    let source = FileSource::open(&directory.url()).expect("open");
    assert_eq!(source.read("").expect("at the limit").documents.len(), 1);
    directory.write("large.json", &padding(DOCUMENT_LIMIT + 1));
    assert!(matches!(source.read(""), Err(Error::TooLarge { .. })));
    directory.write("large.json", "{}");
    for index in 0..DOCUMENT_COUNT_LIMIT {
        directory.write(&format!("s{index}.json"), "{}");
    }
    assert!(matches!(source.read(""), Err(Error::TooLarge { .. })));
}

#[test]
fn a_directory_that_is_not_there_is_absent() {
    let missing = Path::new("/nowhere/at/all");
    let error = FileSource::open(&format!("file://{}", missing.display()))
        .expect("open")
        .read("")
        .expect_err("absent");
    assert!(matches!(&error, Error::Absent { place } if place == "/nowhere/at/all"), "{error}");
}

#[test]
fn urls_are_checked_when_opened() {
    let urls = ["", "/etc/ovs", "file://etc/ovs", "file:///a?b", "file:///%zz", "file:///%00", "://x"];
    for url in urls.into_iter().chain(["http://a/b", "etcd://a/b", "arakoon://cluster/key?ini=/x"]) {
        let error = FileSource::open(url).expect_err(url);
        assert!(matches!(error, Error::Url { .. }), "{url}: {error}");
    }
}

#[test]
fn a_url_can_escape_what_a_path_contains() {
    let directory = Directory::new("escaped ü%");
    directory.write("a.json", "{}");
    let escaped = directory.url().replace('%', "%25").replace(' ', "%20").replace('ü', "%C3%BC");
    assert_eq!(FileSource::open(&escaped).expect("open").read("").expect("read").documents.len(), 1);
}

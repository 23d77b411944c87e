//! `ovs config edit`, with shell scripts as editors.

mod cli_node;
mod config_store;
#[path = "../cfg/client/tests/etcd/mod.rs"]
mod etcd;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cli_node::{Printed, ended};
use config_store::ConfigStore;
use serde_json::{Value, json};

/// A store, and a directory for the editor and for what it edits.
struct Desk {
    store: ConfigStore,
    directory: etcd::Directory,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { store: ConfigStore::start(), directory: etcd::Directory::new() };
        fs::create_dir(desk.path("a desk")).expect("made");
        fs::create_dir(desk.path("tmp")).expect("made");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    /// `ovs config edit …` with an editor that does `script` to the file `$1`, in a path with a blank in it.
    fn command(&self, arguments: &[&str], script: &str) -> Command {
        let editor = self.path("a desk/editor");
        fs::write(&editor, format!("#!/bin/sh\nset -e\nshift\n{script}\n")).expect("written");
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o700)).expect("made a program");
        let mut command = self.store.command(&[&["edit"], arguments].concat());
        let programs = PathBuf::from(env!("CARGO_BIN_EXE_ovs"));
        let programs = programs.parent().expect("a directory").display().to_string();
        command
            .env("VISUAL", format!("'{}' --wait", editor.display()))
            .env("EDITOR", "false")
            .env("TMPDIR", self.path("tmp"))
            .env("DESK", self.path("a desk"))
            .env("PATH", format!("{programs}:{}", std::env::var("PATH").expect("a path")));
        command
    }

    #[track_caller]
    fn edit(&self, arguments: &[&str], script: &str, code: i32) -> Printed {
        ended(self.command(arguments, script), code)
    }

    /// The files that are left, with what is in them; then they are removed.
    fn left(&self) -> Vec<(String, String)> {
        let mut left = Vec::new();
        for directory in fs::read_dir(self.path("tmp")).expect("a directory") {
            let directory = directory.expect("an entry").path();
            for file in fs::read_dir(&directory).expect("a directory") {
                let file = file.expect("an entry").path();
                assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
                let name = file.file_name().expect("a name").to_string_lossy().into_owned();
                left.push((name, fs::read_to_string(&file).expect("text")));
            }
            fs::remove_dir_all(directory).expect("removed");
        }
        left.sort();
        left
    }

    fn value(&self, key: &str) -> Value {
        self.store.json(&["get", key, "--show-secrets"])["value"].clone()
    }
}

#[test]
fn a_document_is_edited_and_a_new_one_made() {
    let desk = Desk::new();
    let out = desk.edit(
        &["/a/b", "-m", "begin"],
        r#"cat "$1" > "$DESK/seen"; stat -c %a "$1" "$(dirname "$1")" > "$DESK/modes"; echo '{"x":{"y":1}}' > "$1""#,
        0,
    );
    assert!(out.out.starts_with("edited /a/b at revision "), "{}", out.out);
    assert_eq!(fs::read_to_string(desk.path("a desk/seen")).expect("seen"), "{}\n");
    assert_eq!(fs::read_to_string(desk.path("a desk/modes")).expect("modes"), "600\n700\n");
    assert_eq!(desk.left(), []);
    assert_eq!(desk.store.out(&["get", "/a/b"]), "{\"x\":{\"y\":1}}\n");
    let history = desk.store.json(&["history", "/a/b"]);
    assert_eq!((&history[0]["action"], &history[0]["message"]), (&json!("edit"), &json!("begin")));
    // What is stored is laid out for people.
    desk.edit(&["/a/b"], r#"cat "$1" > "$DESK/seen"; sed -i 's/1/2/' "$1""#, 0);
    let seen = fs::read_to_string(desk.path("a desk/seen")).expect("seen");
    assert_eq!(seen, "{\n  \"x\": {\n    \"y\": 1\n  }\n}\n");
    assert_eq!(desk.value("/a/b"), json!({"x": {"y": 2}}));
    // As an object, with what it does to a host.
    let key = "/ovs/vpools/g/hosts/h/config/nbd";
    desk.store.set(key, "{}");
    let shown = desk.edit(&[key, "--json"], r#"echo '{"nbd_port": 10000, "colour": 1}' > "$1""#, 0);
    let told = shown.json();
    assert_eq!((&told["changed"], &told["effects"][0]["new"]), (&json!(true), &json!("10000")));
    shown.assert_error("nbd.colour is unknown");
}

#[test]
fn what_is_no_change_changes_nothing() {
    let desk = Desk::new();
    let revision = desk.store.set("/a", r#"{"x": 1}"#);
    let unchanged = |script: &str| {
        let told = desk.edit(&["/a", "--json"], script, 0).json();
        assert_eq!((&told["changed"], &told["revision"]), (&json!(false), &json!(revision)), "{script}");
    };
    unchanged("true");
    unchanged(r#"echo '{"x":1}' > "$1""#);
    desk.edit(&["/new"], "true", 0);
    desk.store.run(&["get", "/new"], 3);
    desk.edit(&["/a"], r#": > "$1""#, 5).assert_error("the text is empty");
    desk.edit(&["/a"], r#"echo '{"x": 2}' > "$1"; exit 3"#, 1).assert_error("ended with exit status: 3");
    desk.edit(&["/a"], r#"rm "$1""#, 1).assert_error("cannot be read");
    assert_eq!(desk.left(), []);
    let editor = |visual: &str, editor: &str, code: i32| {
        let mut command = desk.command(&["/a"], "");
        command.env("VISUAL", visual).env("EDITOR", editor);
        ended(command, code)
    };
    let told = editor("no-such-editor", "true", 1).err;
    assert!(told.contains("set $VISUAL or $EDITOR to an editor that is there"), "{told}");
    editor("", "true", 0);
    editor("", "", 2).assert_error("no editor is known");
    // What could not be stored does not open an editor.
    desk.store.set("/folder/x", "1");
    let opened = r#"touch "$DESK/opened""#;
    desk.edit(&["/folder"], opened, 4).assert_error("/folder is a folder");
    desk.edit(&["/a/b"], opened, 4).assert_error("/a is a document");
    desk.edit(&["/ovs/history/x"], opened, 5).assert_error("kept by ovs itself");
    desk.store.cluster.ctl(&["put", "/foreign", "no JSON"]);
    desk.edit(&["/foreign"], opened, 5).assert_error("is no JSON");
    desk.edit(&["a"], opened, 2);
    assert!(!desk.path("a desk/opened").exists());
    assert_eq!(desk.store.json(&["get", "/a"])["revision"], revision);
}

#[test]
fn what_is_refused_is_kept_for_the_person() {
    let desk = Desk::new();
    let key = "/ovs/vpools/g/hosts/h/config/nbd";
    let revision = desk.store.set(key, "{}");
    for (text, problem) in [
        (r#"{"nbd_port":"#, "is no JSON"),
        (r#"{"nbd_port": 70000}"#, "nbd.nbd_port = 70000: must be"),
        (r#"{"x_token": "***"}"#, "where nothing is stored that could stay"),
    ] {
        let refused = desk.edit(&[key], &format!("echo '{text}' > \"$1\""), 5);
        refused.assert_error(problem);
        refused.assert_error("your text is kept in ");
        assert_eq!(desk.left(), [("nbd.json".to_owned(), format!("{text}\n"))]);
    }
    assert_eq!(desk.store.json(&["get", key])["revision"], revision);
    desk.edit(&[key, "--unchecked"], r#"echo '{"nbd_port": 70000}' > "$1""#, 0);
}

#[test]
fn what_was_written_outlives_the_store() {
    let mut desk = Desk::new();
    desk.store.set("/a", "{}");
    let script =
        r#"touch "$DESK/open"; while [ ! -e "$DESK/gone" ]; do sleep 0.02; done; echo '{"x": 1}' > "$1""#;
    let mut command = desk.command(&["/a"], script);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    while !desk.path("a desk/open").exists() {
        // sleep: the script tells nobody but the directory; the test's own time limit bounds it.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    desk.store.cluster.kill(0);
    fs::write(desk.path("a desk/gone"), "").expect("written");
    let output = child.wait_with_output().expect("ended");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(told.contains("your text is kept in"), "{told}");
    assert_eq!(desk.left(), [("a.json".to_owned(), "{\"x\": 1}\n".to_owned())]);
}

#[test]
fn secrets_stay_unless_they_are_changed() {
    let desk = Desk::new();
    desk.store.set("/bank", r#"{"user": "u", "password": "hush", "token": "old"}"#);
    desk.edit(
        &["/bank"],
        r#"cat "$1" > "$DESK/seen"; sed -i 's/"u"/"v"/; s/"token": "\*\*\*"/"token": "new"/' "$1""#,
        0,
    );
    let seen = fs::read_to_string(desk.path("a desk/seen")).expect("seen");
    assert!(!seen.contains("hush") && seen.matches("***").count() == 2, "{seen}");
    assert_eq!(desk.value("/bank"), json!({"user": "v", "password": "hush", "token": "new"}));
}

#[test]
fn of_two_writers_nobody_loses_anything() {
    let desk = Desk::new();
    desk.store.set("/a", r#"{"x": 1, "y": 1, "password": "hush1", "same": 0}"#);
    let script = r#"ovs config set /a '{"x": 2, "y": 1, "password": "hush2", "same": 0}' > "$DESK/told"
                    sed -i 's/"y": 1/"y": 3/' "$1""#;
    let printed = desk.edit(&["/a"], script, 4);
    let lines: Vec<Vec<&str>> = printed.err.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["PLACE", "BEFORE", "THEIRS", "YOURS"]);
    assert_eq!(lines[1], ["password", "***", "another", "***", "***"]);
    assert_eq!((&lines[2][..], &lines[3][..]), (&["x", "1", "2", "1"][..], &["y", "1", "1", "3"][..]));
    assert!(
        lines.len() == 5 && lines[4].concat().contains("someoneelsechanged/ameanwhile"),
        "{}",
        printed.err
    );
    assert!(!printed.err.contains("hush"));
    let left = desk.left();
    assert_eq!(left.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a.json", "a.theirs.json"]);
    let parsed = |index: usize| serde_json::from_str::<Value>(&left[index].1).expect("JSON");
    assert_eq!(parsed(0), json!({"x": 1, "y": 3, "password": "***", "same": 0}), "yours");
    assert_eq!(parsed(1), json!({"x": 2, "y": 1, "password": "***", "same": 0}), "theirs");
    assert_eq!(desk.value("/a"), json!({"x": 2, "y": 1, "password": "hush2", "same": 0}));
    // Who deleted it, changed it too; and who did the same did no harm.
    let printed = desk.edit(&["/a"], "ovs config delete /a > \"$DESK/told\"; echo '{\"x\": 5}' > \"$1\"", 4);
    assert!(printed.err.contains("meanwhile, and deleted it"), "{}", printed.err);
    assert_eq!(desk.left().len(), 1);
    let same = "ovs config set /a '{\"x\": 5}' > \"$DESK/told\"; echo '{\"x\": 5}' > \"$1\"";
    assert_eq!(desk.edit(&["/a", "--json"], same, 0).json()["changed"], false);
    // Another section is no conflict, but the check is made with it.
    let host = "/ovs/vpools/g/hosts/h/config";
    let (scocache, nbd) = (format!("{host}/scocache"), format!("{host}/nbd"));
    desk.store.set(&scocache, "{}");
    desk.store.set(&nbd, "{}");
    let broken =
        format!("ovs config set {scocache} '{{\"trigger_gap\": \"3GB\"}}' --unchecked > \"$DESK/told\"");
    desk.edit(&[&nbd], &format!("{broken}; echo '{{\"nbd_port\": 1}}' > \"$1\""), 5)
        .assert_error("scocache.trigger_gap");
}

/// At a terminal, which `script` makes, with `input` typed into it.
fn at_terminal(desk: &Desk, key: &str, editor: &str, input: &str) -> (Option<i32>, String) {
    let edit = desk.command(&[key], editor);
    let mut command = Command::new("script");
    command.arg("-qec").arg(format!("ovs config edit {key}")).arg("/dev/null");
    for (name, value) in edit.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    fs::write(desk.path("input"), input).expect("written");
    command.stdin(fs::File::open(desk.path("input")).expect("opened"));
    let output = command.output().expect("script runs: apt-get install bsdutils");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn at_a_terminal_one_may_edit_again() {
    let desk = Desk::new();
    // Wrong at first; right when it is opened again.
    let editor = r#"if grep -q wrong "$1"; then echo '{"x": 1}' > "$1"; else echo 'wrong' > "$1"; fi"#;
    let (code, told) = at_terminal(&desk, "/a", editor, "y\n");
    assert!(code == Some(0) && told.contains("is no JSON") && told.contains("edit it again?"), "{told}");
    assert_eq!((desk.value("/a"), desk.left().len()), (json!({"x": 1}), 0));
    let (code, told) = at_terminal(&desk, "/b", editor, "n\n");
    assert!(code == Some(5) && told.contains("your text is kept in"), "{told}");
    assert_eq!(desk.left(), [("b.json".to_owned(), "wrong\n".to_owned())]);
    desk.store.run(&["get", "/b"], 3);
}

#[test]
fn an_interrupt_is_meant_for_the_editor() {
    let desk = Desk::new();
    let script = r#"while [ ! -s "$DESK/pid" ]; do sleep 0.02; done
                    kill -INT "$(cat "$DESK/pid")"; echo '{"x": 1}' > "$1""#;
    let mut command = desk.command(&["/a"], script);
    let mut child = command.stdout(Stdio::null()).spawn().expect("started");
    fs::write(desk.path("a desk/pid"), child.id().to_string()).expect("written");
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    assert_eq!(desk.value("/a"), json!({"x": 1}));
}

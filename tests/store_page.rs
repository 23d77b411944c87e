//! The commands of docs/configuration-store.md do what the page says. Its ports are replaced by free ones, and /tmp by
//! a directory of the test.

mod cli_node;
mod harness;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use cli_node::{DataDir, Printed, ended, ovs};
use harness::cfg::lasting_url;
use harness::place::Place;
use harness::process;
use serde_json::Value;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration-store.md");
/// How long a service may take until it is ready, and members until they have their votes.
const READY: Duration = Duration::from_secs(60);

/// The section of the page under `heading`.
fn section(heading: &str) -> String {
    let page = fs::read_to_string(PAGE).expect("the page");
    let mut sections = page.split("\n## ");
    let section = sections.find(|section| section.lines().next() == Some(heading));
    section.unwrap_or_else(|| panic!("no section {heading:?}")).to_owned()
}

/// Its commands: lines between fences, those that go on in the next line joined.
fn commands(section: &str) -> Vec<String> {
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks
        .flat_map(|block| block.replace("\\\n", "").lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// What stands for the page's addresses and directory.
struct Stage {
    place: Place,
    addresses: BTreeMap<String, String>,
}

impl Stage {
    fn new(name: &str) -> Stage {
        Stage { place: Place::new(name), addresses: BTreeMap::new() }
    }

    /// The command as it is run here.
    fn set(&mut self, command: &str) -> String {
        let mut parts = command.split("127.0.0.1:");
        let mut set = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let address = self.addresses.entry(part[..end].to_owned());
            set += address.or_insert_with(|| lasting_url().trim_start_matches("http://").to_owned());
            set += &part[end..];
        }
        set.replace("/tmp/", &format!("{}/", self.place.root().display()))
    }

    /// Runs it to its end, which shall be success.
    fn run(&mut self, command: &str) -> Printed {
        let command = self.set(command);
        ended(shell(&command), 0)
    }

    /// Starts one that goes on, and waits until it is ready.
    fn start(&mut self, command: &str) -> Service {
        let command = self.set(command.trim_end_matches('&'));
        let log = OpenOptions::new().create(true).append(true).open(self.place.path("log")).expect("a log");
        let mut shell = shell(&format!("exec {command}"));
        let mut child = shell.stdout(Stdio::piped()).stderr(log).spawn().expect("started");
        let lines = process::lines(child.stdout.take().expect("piped"));
        let service = Service { child, lines };
        let deadline = Instant::now() + READY;
        loop {
            let line = service.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let log = || fs::read_to_string(self.place.path("log")).unwrap_or_default();
            if line.unwrap_or_else(|error| panic!("{command}: {error}\n{}", log())).starts_with("ready") {
                return service;
            }
        }
    }
}

/// A process that goes on; killed when dropped.
struct Service {
    child: Child,
    /// Open as long as it runs.
    lines: Receiver<String>,
}

impl Drop for Service {
    fn drop(&mut self) {
        process::stop(&mut self.child);
    }
}

/// A shell that finds the program, with nothing of the test's own environment.
fn shell(command: &str) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_ovs")).parent().expect("a directory");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("PATH", path).stdin(Stdio::null());
    shell.env_remove("OVS_ENDPOINT").env_remove("OVS_DATA_DIR");
    shell
}

#[test]
fn three_members_and_their_copy() {
    let mut stage = Stage::new("page-members");
    let section = section("Three members");
    let commands_of_section = commands(&section);
    let mut members = Vec::new();
    for command in &commands_of_section {
        match command.ends_with('&') {
            true => members.push(stage.start(command)),
            false => drop(stage.run(command)),
        }
    }
    assert_eq!((members.len(), commands_of_section.len()), (3, 4));
    let others = "--endpoint etcd://127.0.0.1:23792,127.0.0.1:23793";
    let deadline = Instant::now() + READY;
    loop {
        let listed = stage.run(&format!("ovs cfg members --json {others}")).json();
        let listed = listed.as_array().expect("a list");
        assert_eq!(listed.len(), 3);
        if listed.iter().all(|member| member["learner"] == Value::Bool(false)) {
            break;
        }
        assert!(Instant::now() < deadline, "who caught up has a vote: {listed:?}");
        // sleep: a command shows who has a vote, and none waits for one
        std::thread::sleep(Duration::from_millis(50));
    }
    stage.run(&format!("ovs config set /page/a 1 {others}"));
    // Those of the table exist; those that need nothing do what they say.
    let table = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut rows = 0;
    for (command, _) in table {
        let name = command.split_whitespace().nth(2).expect("a command");
        ended(ovs(&["cfg", name, "--help"]), 0);
        if command.split_whitespace().count() == 3 {
            stage.run(&format!("{command} {others}"));
        }
        rows += 1;
    }
    assert!(rows >= 6, "{rows} rows");

    for command in commands(&self::section("Copies")) {
        stage.run(&command);
    }
    // Two of three are enough.
    drop(members.remove(0));
    stage.run(&format!("ovs config set /page/a 2 {others}"));
    let copy =
        "ovs cfg run --data-dir /tmp/cfg-d --client-urls http://127.0.0.1:1 --peer-urls http://127.0.0.1:2";
    let _copy = stage.start(copy);
    let saved = stage.run("ovs config get /page/a --endpoint etcd://127.0.0.1:1");
    assert_eq!(saved.out.trim(), "1");
}

#[test]
fn one_more_driver() {
    let mut stage = Stage::new("page-driver");
    let node = DataDir::small();
    let running = node.up(&[]);
    let endpoints = node.endpoints();
    let text = |key: &str| endpoints[key].as_str().expect("a text");
    stage.addresses.insert("2379".to_owned(), text("etcd").trim_start_matches("http://").to_owned());
    let mut services = Vec::new();
    for command in commands(&section("One more driver")) {
        let command = command.replace("GUID", text("vpool_guid"));
        match command.starts_with("ovs volumedriver run") {
            true => services.push(stage.start(&command)),
            false => drop(stage.run(&format!("OVS_ENDPOINT=etcd://127.0.0.1:2379 {command}"))),
        }
    }
    assert_eq!(services.len(), 1);
    stage.run("ovs volume create one --size 1MiB --data-dir /tmp/second");
    let owner = format!("ovs config get /ovs/vpools/{}/volumes/one/config", text("vpool_guid"));
    let owner = stage.run(&format!("{owner} --endpoint etcd://127.0.0.1:2379")).json();
    assert_eq!(owner["vrouter_id"], "second");
    drop(services);
    running.stop();
}

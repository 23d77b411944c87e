//! The commands of docs/updates.md do what the page says, and what docs/operations.md names is there. `GUID` and `ID`
//! stand for the vPool, the host and the roll-out of the test; pauses of minutes are left out.

mod cli_node;
mod harness;
mod vpool;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use cli_node::{DataDir, Printed, ended, ovs};
use harness::cfg::Server;
use harness::tree::PATIENCE;
use serde_json::{Value, json};
use vpool::{Fleet, VPOOL, name};

const UPDATES: &str = include_str!("../docs/updates.md");
const OPERATIONS: &str = include_str!("../docs/operations.md");

/// The base of a host's keys.
fn base(host: usize) -> String {
    format!("/ovs/vpools/{VPOOL}/hosts/{}", name(host))
}

/// A vPool whose commands a person gives at its first host.
struct Desk {
    fleet: Fleet,
    /// The commands of the page that are still to be given, without their remarks.
    left: Vec<&'static str>,
}

impl Desk {
    /// The next command of the page, which is this one.
    #[track_caller]
    fn next(&mut self, command: &'static str) -> &'static str {
        assert!(!self.left.is_empty(), "the page has no {command}");
        assert_eq!(self.left.remove(0), command, "the next command of the page");
        command
    }

    /// A shell with the command, in the place of the first host.
    fn shell(&self, command: &str) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_ovs")).parent().expect("a directory");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
        let directory = self.fleet.directories[0].as_ref();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {}", command.replace("GUID", VPOOL))]).env("PATH", path);
        shell.env_remove("OVS_ENDPOINT").env("OVS_DATA_DIR", directory).current_dir(directory);
        shell.stdin(Stdio::null());
        shell
    }

    /// Gives a command, which shall end with `code`.
    #[track_caller]
    fn give(&self, command: &str, code: i32) -> Printed {
        ended(self.shell(command), code)
    }

    /// Gives the next command of the page.
    #[track_caller]
    fn page(&mut self, command: &'static str, code: i32) -> Printed {
        let command = self.next(command);
        self.give(command, code)
    }

    /// Gives the next command of the page with other words in it.
    #[track_caller]
    fn page_with(&mut self, command: &'static str, words: &[(&str, &str)], code: i32) -> Printed {
        let command = words.iter().fold(self.next(command).to_owned(), |command, (old, new)| {
            assert!(command.contains(old), "{old} is not in {command}");
            command.replace(old, new)
        });
        self.give(&command, code)
    }

    /// Begins a roll-out that pauses behind its first stage, and waits until that has answered; gives its id.
    fn rollout(&self, connections: u32) -> (Driving, String) {
        let set = format!("--set 'nbd|nbd_max_connections={connections}'");
        let command = format!("ovs config apply --vpool GUID --canary 1 --pause 1h {set}");
        let driving = self.shell(&command).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let driving = Driving(driving.expect("started"));
        let end = Instant::now() + PATIENCE;
        loop {
            let list = self.give("ovs config rollout list --json", 0).json();
            let open = |rollout: &&Value| {
                rollout["state"] == "applying"
                    && rollout["hosts"][name(0)]["apply"]["answer"]["outcome"] == "applied"
            };
            if let Some(rollout) = list.as_array().expect("a list").iter().find(open) {
                return (driving, rollout["id"].as_str().expect("an id").to_owned());
            }
            assert!(Instant::now() < end, "the first stage does not answer: {list}");
            std::thread::yield_now();
        }
    }

    /// What is stored of a host.
    #[track_caller]
    fn connections(&self, host: usize) -> Value {
        self.give(&format!("ovs config get '{}/config/nbd|nbd_max_connections'", base(host)), 0).json()
    }
}

/// The command that drives a roll-out; killed when dropped.
struct Driving(Child);

impl Driving {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The commands of the page: lines that are set in, without the remarks behind them.
fn commands(page: &'static str) -> Vec<&'static str> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(|line| line.split("   ").next().unwrap_or_default()).collect()
}

#[test]
fn the_commands_of_updates_do_what_the_page_says() {
    let place = Server::Store.place("updates-page");
    // A quarter of them are more than one.
    let fleet = Fleet::start(Server::Store, &place, 8);
    fleet.standing("in-sync", 8);
    let mut desk = Desk { fleet, left: commands(UPDATES) };
    desk.page("ovs config set --vpool GUID 'volume_manager|ring_entries' 64", 0);
    let applied = desk.page("ovs config apply --vpool GUID", 0).out;
    let waits = "  volume_manager.ring_entries: 256 until a restart, then 64";
    assert_eq!(applied.lines().filter(|line| *line == waits).count(), 8, "{applied}");
    for host in 0..8 {
        assert!(applied.contains(&format!("{}: applied at revision ", name(host))), "{applied}");
    }
    desk.fleet.standing("pending-restart", 8);
    let status = desk.page("ovs config status --vpool GUID", 7).out;
    assert_eq!(status.matches("pending restart").count(), 8, "{status}");

    let canary =
        desk.page("ovs config apply --vpool GUID --canary 1 --set 'nbd|nbd_max_connections=64'", 0).out;
    assert!(canary.contains("stage 2 of 2") && canary.contains("8 of 8 hosts applied it"), "{canary}");
    let wanted = desk.fleet.directories[0].path("wanted");
    std::fs::create_dir(&wanted).expect("a directory");
    std::fs::write(wanted.join("nbd.json"), r#"{"nbd_max_connections": 65}"#).expect("written");
    let staged = "ovs config apply wanted --vpool GUID --canary 1,25% --pause 10m";
    let staged = desk.page_with(staged, &[("10m", "0s")], 0).out;
    assert!(staged.contains("stage 3 of 3"), "{staged}");
    assert_eq!(desk.connections(7), json!(65));

    let (mut driving, id) = desk.rollout(66);
    driving.kill();
    assert!(desk.page("ovs config rollout list", 0).out.contains(&id));
    let shown = desk.page_with("ovs config rollout show ID", &[("ID", &id)], 0).out;
    assert!(shown.contains("new values: applied"), "{shown}");
    let cut_short = format!("{id} --pause 0s");
    desk.page_with("ovs config rollout resume ID", &[("ID", &cut_short)], 0);
    assert_eq!(desk.connections(7), json!(66));
    let (_driving, id) = desk.rollout(67);
    assert_eq!((desk.connections(0), desk.connections(7)), (json!(67), json!(66)));
    desk.page_with("ovs config rollout abort ID -m 'why'", &[("ID", &id)], 0);
    assert_eq!(desk.connections(0), json!(66));

    let (host, key) = (format!("hosts/{}", name(0)), format!("{}/config/nbd", base(0)));
    let history =
        desk.page_with("ovs config history /ovs/vpools/GUID/hosts/ID/config/nbd", &[("hosts/ID", &host)], 0);
    assert!(history.out.contains("why") || history.out.contains("undo"), "{}", history.out);
    let history = desk.give(&format!("ovs config history {key} --json"), 0).json();
    let first = history[0]["revision"].to_string();
    let words = [("hosts/ID", host.as_str()), ("812", &first)];
    desk.page_with("ovs config revert /ovs/vpools/GUID/hosts/ID/config/nbd 812", &words, 0);
    let applied = desk.page("ovs config apply", 0).out;
    assert!(applied.contains("nbd.nbd_max_connections: 66 -> 64"), "{applied}");

    desk.give(&format!("ovs config set '{key}|nbd_max_connections' 5"), 0);
    let back = "ovs config revert /ovs/vpools/GUID/hosts/ID/config --to-running";
    desk.page_with(back, &[("hosts/ID", &host)], 0);
    assert_eq!(desk.connections(0), json!(64));
    assert_eq!(desk.left, [""; 0], "commands of the page that nobody gave");
}

/// What stands between backticks.
fn spans(page: &'static str) -> Vec<&'static str> {
    page.split('`').skip(1).step_by(2).collect()
}

/// What a program prints about a command.
fn help(command: &[&str]) -> String {
    ended(ovs(&[command, &["--help"]].concat()), 0).out
}

/// A page of the HTTP server of a node.
fn page_of(directory: &DataDir, path: &str) -> String {
    let endpoints = directory.endpoints();
    let address = endpoints["http"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address");
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

#[test]
fn commands_and_arguments_that_operations_names_are_there() {
    let is_name = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let spans = spans(OPERATIONS);
    let mut told = String::new();
    for command in spans.iter().filter_map(|span| span.strip_prefix("ovs ")) {
        let words: Vec<&str> =
            command.split(' ').take_while(|word| !word.starts_with('-') && is_name(word)).collect();
        told += &help(&words);
    }
    told += &help(&["volumedriver", "run"]);
    let arguments = spans.iter().flat_map(|span| span.split(' ')).filter(|word| word.starts_with("--"));
    let mut count = 0;
    for argument in arguments {
        assert!(
            told.contains(&format!("{argument} ")) || told.contains(&format!("{argument}\n")),
            "{argument}"
        );
        count += 1;
    }
    assert!(count > 10, "the page names arguments");
}

#[test]
fn what_operations_watches_is_there() {
    let directory = DataDir::small();
    let level =
        spans(OPERATIONS).into_iter().find(|span| span.starts_with("info,")).expect("levels of modules");
    let log = directory.path("log");
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = std::fs::File::create(&log).expect("a log");
    let arguments = ["--volume", "one=1MiB", "--log-format", "json", "--log-level", level];
    let node = directory.up_logging(&arguments, file.into());
    let said = std::fs::read_to_string(&log).expect("the log");
    for line in said.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string(), "{line}");
    }
    page_of(&directory, "/healthz");
    page_of(&directory, "/readyz");
    let metrics = page_of(&directory, "/metrics");
    let mut count = 0;
    for metric in spans(OPERATIONS).into_iter().filter(|span| span.starts_with("ovs_")) {
        let (name, labels) = metric.trim_end_matches('}').split_once('{').unwrap_or((metric, ""));
        let mut samples = metrics.lines().filter(|line| {
            line.starts_with(&format!("{name}{{"))
                || line.starts_with(&format!("{name} "))
                || line.starts_with(&format!("{name}_bucket{{"))
        });
        let sample = samples.next().unwrap_or_else(|| panic!("no {name} in {metrics}"));
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let label = label.split('=').next().unwrap_or_default();
            assert!(sample.contains(&format!("{label}=\"")), "{name} has no {label}: {sample}");
        }
        count += 1;
    }
    assert!(count > 5, "the page names metrics");
    assert_eq!(directory.endpoints()["pid"], json!(node.pid()));
    node.stop();
}

#[test]
fn a_host_is_taken_out_of_service_as_operations_says() {
    let place = Server::Store.place("operations-page");
    let mut fleet = Fleet::start(Server::Store, &place, 1);
    fleet.standing("in-sync", 1);
    let spans = spans(OPERATIONS);
    let of_host = |span: &&str| span.replace("…/hosts/ID", &base(0));
    let named =
        |start: &str| spans.iter().find(|span| span.starts_with(start)).map(of_host).expect("it is named");
    fleet.run(&["get", &named("…/hosts/ID/directory")], 0);
    fleet.run(&["set", &named("…/hosts/ID/retired"), &named("{\"note\"")], 0);
    let delete = named("ovs config delete --recursive");
    fleet.run(&delete.split(' ').skip(2).collect::<Vec<_>>(), 0);
    let mut driver = fleet.drivers[0].take().expect("it runs");
    driver.signal("TERM");
    assert_eq!(driver.wait().code(), Some(0));
    let url = format!("{}{}/config", fleet.url(), base(0));
    let arguments = ["volumedriver", "run", "--ephemeral", "--config", &url];
    fleet.directories[0].run(&arguments, 3).assert_error("is set: this host does not serve any more");
}

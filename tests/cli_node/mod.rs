//! Runs the program as people and scripts do.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// A data directory that is removed at the end of a test.
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// One that does not exist yet. Its path is short enough for unix sockets.
    pub(crate) fn new() -> DataDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        DataDir(std::env::temp_dir().join(format!("ovs-cli-{}-{number}", std::process::id())))
    }

    /// One with a configuration that makes starts quick: little to allocate.
    pub(crate) fn small() -> DataDir {
        let directory = DataDir::new();
        directory.configure("scocache", &json!({"segment_size": "1MiB", "reserve_size": "16MiB"}));
        directory.configure("volume_manager", &json!({"run_size": "1MiB", "data_threads": 1}));
        directory
    }

    /// Writes one document.
    pub(crate) fn configure(&self, section: &str, document: &Value) {
        self.configure_text(section, &document.to_string());
    }

    /// Writes one document that need not be JSON.
    pub(crate) fn configure_text(&self, section: &str, text: &str) {
        fs::create_dir_all(self.path("config")).expect("config directory");
        fs::write(self.path("config").join(format!("{section}.json")), text).expect("document");
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `endpoints.json`.
    pub(crate) fn endpoints(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("endpoints.json")).expect("endpoints.json")).expect("JSON")
    }

    /// An `ovs` command on this directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ovs(arguments);
        command.arg("--data-dir").arg(&self.0);
        command
    }

    /// Runs a command that shall end with `code`; returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str], code: i32) -> Printed {
        ended(self.command(arguments), code)
    }

    /// Starts a node and waits until it is ready.
    pub(crate) fn up(&self, arguments: &[&str]) -> Node {
        self.up_logging(arguments, Stdio::inherit())
    }

    /// As [`DataDir::up`], with its log there.
    pub(crate) fn up_logging(&self, arguments: &[&str], log: Stdio) -> Node {
        let mut command = self.command(&["up", "--ephemeral"]);
        let child = command.args(arguments).stdout(Stdio::piped()).stderr(log).spawn().expect("started");
        // Now a Node, so that it is killed whatever happens next.
        let mut node = Node { child, stdout: None, lines: Vec::new() };
        let mut stdout = BufReader::new(node.child.stdout.take().expect("piped"));
        while node.lines.last().is_none_or(|line| line != "ready") {
            let mut line = String::new();
            let length = stdout.read_line(&mut line).expect("output");
            assert_ne!(length, 0, "the node ended before it was ready: {:?}", node.child.wait());
            node.lines.push(line.trim_end().to_owned());
        }
        node.stdout = Some(stdout);
        node
    }
}

impl AsRef<Path> for DataDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running node; killed when dropped.
pub(crate) struct Node {
    child: Child,
    /// Open as long as it runs, as a terminal would be.
    stdout: Option<BufReader<ChildStdout>>,
    /// What it printed until it was ready.
    pub(crate) lines: Vec<String>,
}

impl Node {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("ended")
    }

    /// Ends it as an operator does; expects success.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One more driver of a vPool, with its documents in a store; killed when dropped.
pub(crate) struct Driver(Child);

impl Driver {
    /// Starts one and waits until it is ready. Its log is `log` in its directory.
    pub(crate) fn start(directory: &DataDir, url: &str, more: &[&str]) -> Driver {
        let mut driver = Driver::begin(directory, url, more);
        driver.ready(directory);
        driver
    }

    /// Starts one.
    pub(crate) fn begin(directory: &DataDir, url: &str, more: &[&str]) -> Driver {
        Driver::begin_in(directory, url, more, &[])
    }

    /// Starts one with more variables in its environment.
    pub(crate) fn begin_in(
        directory: &DataDir,
        url: &str,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> Driver {
        let _ = fs::create_dir_all(directory.as_ref());
        let mut command = directory.command(&["volumedriver", "run", "--ephemeral", "--config", url]);
        command.envs(environment.iter().copied());
        let log =
            fs::OpenOptions::new().create(true).append(true).open(directory.path("log")).expect("a log");
        Driver(command.args(more).stdout(Stdio::piped()).stderr(log).spawn().expect("started"))
    }

    /// Waits until it is ready.
    pub(crate) fn ready(&mut self, directory: &DataDir) {
        assert!(self.is_ready(), "{}", fs::read_to_string(directory.path("log")).expect("the log"));
    }

    /// Waits until it is ready; false: it ended before that.
    pub(crate) fn is_ready(&mut self) -> bool {
        let lines = BufReader::new(self.0.stdout.take().expect("piped")).lines();
        lines.map_while(Result::ok).any(|line| line == "ready")
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("ended")
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command printed.
pub(crate) struct Printed {
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Printed {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The error: one line that begins with the program's name and contains `part`.
    #[track_caller]
    pub(crate) fn assert_error(&self, part: &str) {
        assert!(self.err.starts_with("ovs: "), "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        assert!(self.err.contains(part), "{part:?} is not in {}", self.err);
    }
}

/// An `ovs` command that takes nothing from the test's own environment.
pub(crate) fn ovs(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ovs"));
    command.args(arguments).env_remove("OVS_DATA_DIR").env_remove("OVS_ENDPOINT").stdin(Stdio::null());
    command
}

/// Runs `command`, which shall end with `code`.
#[track_caller]
pub(crate) fn ended(mut command: Command, code: i32) -> Printed {
    let Output { status, stdout, stderr } = command.output().expect("runs");
    let printed = Printed {
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    };
    assert_eq!(status.code(), Some(code), "{command:?}: {}{}", printed.out, printed.err);
    printed
}

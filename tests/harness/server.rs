//! The server under test: `ovs up` as a child process.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::place::Place;
use super::process::{self, Finished};

/// How long a start may take without a word in the log, recovery included.
pub const START: Duration = Duration::from_secs(60);
/// How long an orderly end may take.
pub const END: Duration = Duration::from_secs(60);

const OVS: &str = env!("CARGO_BIN_EXE_ovs");

/// How to start a server.
#[derive(Clone)]
pub struct Setup {
    data_dir: PathBuf,
    log: PathBuf,
    volumes: Vec<(String, u64)>,
    documents: BTreeMap<String, serde_json::Value>,
}

impl Setup {
    /// A server on `place` with 1 GiB of log space and no volumes.
    pub fn new(place: &Place) -> Self {
        Self {
            data_dir: place.data_dir(),
            log: place.root().join("server.log"),
            volumes: Vec::new(),
            documents: BTreeMap::new(),
        }
        .space("1GiB")
    }

    /// Adds a volume of `size` bytes.
    pub fn volume(mut self, name: &str, size: u64) -> Self {
        self.volumes.push((name.to_owned(), size));
        self
    }

    /// Limits the local log to `size` ("6GiB", "UNLIMITED"). Only what is set before the first start counts.
    pub fn space(self, size: &str) -> Self {
        let mount = serde_json::json!({ "path": self.segments(), "size": size });
        self.parameter("scocache", "scocache_mount_points", serde_json::json!([mount]))
    }

    /// Sets a parameter of a configuration section. Only what is set before the first start counts.
    pub fn parameter(mut self, section: &str, name: &str, value: serde_json::Value) -> Self {
        let document = self.documents.entry(section.to_owned()).or_insert_with(|| serde_json::json!({}));
        document[name] = value;
        self
    }

    /// Directory of the log files.
    pub fn segments(&self) -> PathBuf {
        self.data_dir.join("scocache")
    }

    /// What all servers on this place said so far.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn write_config(&self) {
        let config = self.data_dir.join("config");
        if config.exists() {
            return;
        }
        std::fs::create_dir_all(&config).expect("config directory");
        for (section, document) in &self.documents {
            std::fs::write(config.join(format!("{section}.json")), document.to_string())
                .expect("config document");
        }
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|why| panic!("the server did not start: {why}\n{}", self.tail()))
    }

    /// Starts it and waits until it is ready, or has ended.
    pub fn try_start(&self) -> Result<Server, String> {
        self.write_config();
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("server log");
        let mut command = Command::new(OVS);
        command.arg("up").arg("--data-dir").arg(&self.data_dir).arg("--ephemeral");
        for (name, size) in &self.volumes {
            command.arg("--volume").arg(format!("{name}={size}"));
        }
        command.env_remove("OVS_ENDPOINT").env_remove("OVS_DATA_DIR");
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = child.map_err(|error| error.to_string())?;
        let lines = process::lines(child.stdout.take().expect("the pipe was asked for"));
        // Now a Server, so that it is killed whatever happens next.
        let mut server = Server {
            child,
            lines,
            setup: self.clone(),
            endpoints: Endpoints::default(),
            ready: begun.elapsed(),
        };
        server.wait_ready(begun)?;
        Ok(server)
    }

    /// The end of the log, for messages.
    pub fn tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- server log ---\n{}\n---", lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    /// Runs an `ovs` command on this data directory.
    pub fn ovs(&self, args: &[&str]) -> Finished {
        let dir = self.data_dir.to_str().expect("readable path");
        process::run(OVS, &[args, &["--data-dir", dir]].concat(), Duration::from_secs(60))
    }

    /// [`Setup::ovs`] that must succeed.
    pub fn ovs_ok(&self, args: &[&str]) -> String {
        let done = self.ovs(args);
        assert!(done.status.success(), "ovs {args:?}: {}\n{}{}", done.status, done.stdout, done.stderr);
        done.stdout
    }
}

#[derive(Default)]
struct Endpoints {
    nbd: String,
    nbd_unix: String,
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    setup: Setup,
    endpoints: Endpoints,
    ready: Duration,
}

impl Server {
    fn wait_ready(&mut self, begun: Instant) -> Result<(), String> {
        let said = |setup: &Setup| std::fs::metadata(&setup.log).map_or(0, |log| log.len());
        let mut before = said(&self.setup);
        loop {
            match self.lines.recv_timeout(START) {
                Ok(line) if line.trim() == "ready" => break,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if said(&self.setup) > before => before = said(&self.setup),
                Err(RecvTimeoutError::Timeout) => return Err(format!("not ready, and silent for {START:?}")),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map_err(|error| error.to_string())?;
                    return Err(format!("ended before it was ready: {status}"));
                }
            }
        }
        self.ready = begun.elapsed();
        let path = self.setup.data_dir.join("endpoints.json");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let document: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        assert_eq!(document["pid"], self.child.id(), "endpoints.json is of this process");
        let field = |name: &str| {
            document[name]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| format!("endpoints.json has no {name}: {text}"))
        };
        self.endpoints = Endpoints { nbd: field("nbd")?, nbd_unix: field("nbd_unix")? };
        Ok(())
    }

    /// Time from the start of the process to its `ready`.
    pub fn time_to_ready(&self) -> Duration {
        self.ready
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// `nbd://127.0.0.1:PORT/VOLUME`.
    pub fn tcp_uri(&self, volume: &str) -> String {
        format!("{}/{volume}", self.endpoints.nbd.trim_end_matches('/'))
    }

    /// `nbd+unix:///VOLUME?socket=PATH`.
    pub fn unix_uri(&self, volume: &str) -> String {
        self.endpoints.nbd_unix.replacen("///?", &format!("///{volume}?"), 1)
    }

    /// `127.0.0.1:PORT`.
    pub fn tcp_address(&self) -> String {
        self.endpoints.nbd.trim_start_matches("nbd://").trim_end_matches('/').to_owned()
    }

    /// Path of the unix socket.
    pub fn socket(&self) -> String {
        let (_, path) = self.endpoints.nbd_unix.split_once("socket=").expect("nbd_unix names a socket");
        path.to_owned()
    }

    /// `kill -9`, and wait for the end of the process.
    pub fn kill(mut self) -> Setup {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
        self.setup.clone()
    }

    /// SIGTERM, and nothing else: the end is waited for with [`Server::wait_end`].
    pub fn terminate(&self) {
        process::output("kill", &["-TERM", &self.child.id().to_string()]);
    }

    /// Waits for the end of the process.
    pub fn wait_end(&mut self) -> ExitStatus {
        if !process::wait_end(&self.lines, END) {
            panic!("the server has not ended after {END:?}");
        }
        self.child.wait().expect("our own child can be waited for")
    }

    /// SIGTERM; the exit code must be 0.
    pub fn shut_down(mut self) -> Setup {
        self.terminate();
        let status = self.wait_end();
        assert!(status.success(), "SIGTERM ended it with {status}");
        self.setup.clone()
    }

    /// A value from `/proc/PID/status` in bytes: `VmHWM`, `VmRSS`.
    pub fn memory(&self, field: &str) -> u64 {
        let status = Path::new("/proc").join(self.child.id().to_string()).join("status");
        let text = std::fs::read_to_string(status).expect("the server is alive");
        let line = text.lines().find(|line| line.starts_with(field)).expect("the kernel reports it");
        let number = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        number.expect("a number of kB") * 1024
    }

    /// Fails when the process has ended by itself.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our own child can be asked") {
            panic!("the server has ended: {status}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.setup.tail());
        }
        process::stop(&mut self.child);
    }
}

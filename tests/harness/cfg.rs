//! A server of etcd's v3 API as a child process: Debian's etcd, or the configuration store.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::place::Place;
use super::process;

/// How long a start may take, the election included.
const START: Duration = Duration::from_secs(60);
/// How often a start is tried again because somebody took a port between its choice and its use.
const PORT_TRIES: u32 = 5;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Debian's etcd 3.4.
    Etcd,
    /// `ovs cfg run`.
    Store,
}

impl Server {
    /// What is compared with etcd. The one place that says so.
    pub const TESTED: Server = Server::Store;

    /// Etcd, and what is compared with it.
    pub fn all() -> Vec<Server> {
        let mut all = vec![Server::Etcd];
        all.extend(Some(Self::TESTED).filter(|tested| *tested != Server::Etcd));
        all
    }

    /// Where one keeps its data in a test: etcd in memory, because its flushes would take most of the time; the store
    /// where the other servers of the tests do.
    pub fn place(self, name: &str) -> Place {
        match self {
            Server::Etcd => Place::in_memory(name),
            Server::Store => Place::new(name),
        }
    }

    /// Starts one alone in its cluster with an empty data directory `dir/name` and waits until it serves. Its log is
    /// `dir/name.log`.
    pub fn start(self, dir: &Path, name: &str) -> Running {
        self.start_with(dir, name, &[])
    }

    /// The same with more arguments.
    pub fn start_with(self, dir: &Path, name: &str, more: &[&str]) -> Running {
        let mut problem = String::new();
        for _ in 0..PORT_TRIES {
            match self.try_start(dir, name, more) {
                Ok(running) => return running,
                Err(why) => problem = why,
            }
            if !problem.contains("ddress already in use") {
                break;
            }
        }
        panic!("{self:?} {name} did not start: {problem}")
    }

    fn try_start(self, dir: &Path, name: &str, more: &[&str]) -> Result<Running, String> {
        let (client_url, peer_url) = (free_url(), free_url());
        let data_dir = dir.join(name);
        let log = dir.join(format!("{name}.log"));
        let errors = OpenOptions::new().create(true).append(true).open(&log).expect("server log");
        let mut command = self.command(name, &data_dir, &client_url, &peer_url);
        if self == Server::Store && !more.contains(&"--auto-compaction-retention") {
            // etcd keeps all of the past by default.
            command.args(["--auto-compaction-retention", "0"]);
        }
        command.args(more).stdin(Stdio::null());
        let told = match self {
            Server::Etcd => command.stdout(errors).stderr(Stdio::piped()),
            Server::Store => command.stdout(Stdio::piped()).stderr(errors),
        };
        let mut child = told.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let ready = match self {
            Server::Etcd => announced(child.stderr.take(), &log, "serving client traffic"),
            Server::Store => announced(child.stdout.take(), &log, "ready"),
        };
        // Now a Running, so that it is killed whatever happens next.
        let running = Running { child, client_url, peer_url, data_dir, log };
        match ready.recv_timeout(START) {
            Ok(()) => Ok(running),
            Err(RecvTimeoutError::Disconnected) => Err(format!("it ended\n{}", running.log_tail())),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("not ready after {START:?}\n{}", running.log_tail()))
            }
        }
    }

    fn command(self, name: &str, data_dir: &Path, client_url: &str, peer_url: &str) -> Command {
        let mut command = match self {
            Server::Etcd => {
                let mut command = Command::new("etcd");
                command.args(["--listen-client-urls", client_url, "--advertise-client-urls", client_url]);
                command
                    .args(["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url])
                    .args(["--initial-cluster", &format!("{name}={peer_url}"), "--logger", "zap"])
                    // Elects itself at once. A least TTL of leases of one second comes with it.
                    .args(["--heartbeat-interval", "10", "--election-timeout", "100"]);
                command
            }
            Server::Store => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_ovs"));
                command.args(["cfg", "run", "--client-urls", client_url, "--peer-urls", peer_url]);
                // The same least TTL as etcd's.
                command.args(["--heartbeat", "20", "--election-timeout", "100"]);
                command
            }
        };
        command.args(["--name", name, "--data-dir"]).arg(data_dir);
        let ours = |name: &str| name.starts_with("ETCD_") || name.starts_with("OVS_");
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
            command.env_remove(variable);
        }
        command
    }
}

/// A URL on a port that was free a moment ago.
pub fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    format!("http://{}", listener.local_addr().expect("a bound socket has an address"))
}

/// Sends once when a line with `mark` comes out of `pipe`; the end of the channel is the end of the pipe. All lines go
/// to the log.
pub fn announced<R: Read + Send + 'static>(pipe: Option<R>, log: &Path, mark: &'static str) -> Receiver<()> {
    let pipe = pipe.expect("the pipe was asked for");
    let mut log: File = OpenOptions::new().append(true).open(log).expect("server log");
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(mut line) = line else { break };
            if String::from_utf8_lossy(&line).contains(mark)
                && let Some(sender) = sender.take()
            {
                let _ = sender.send(());
            }
            line.push(b'\n');
            let _ = log.write_all(&line);
        }
    });
    receiver
}

/// A server that runs; killed when dropped.
pub struct Running {
    child: Child,
    /// Where clients reach it: `http://127.0.0.1:PORT`.
    pub client_url: String,
    /// Where other members would.
    pub peer_url: String,
    /// What it keeps.
    pub data_dir: PathBuf,
    log: PathBuf,
}

impl Running {
    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has in memory, bytes.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it is alive");
        let line = text.lines().find(|line| line.starts_with("VmRSS")).expect("the kernel reports it");
        let number = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        number.expect("a number of kB") * 1024
    }

    /// The end of what it said.
    pub fn log_tail(&self) -> String {
        let text = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        process::stop(&mut self.child);
    }
}

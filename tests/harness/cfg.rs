//! A server of etcd's v3 API as a child process: Debian's etcd, or the configuration store.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
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
        self.start_in(dir, name, more, &[])
    }

    /// The same with more variables in its environment.
    pub fn start_in(self, dir: &Path, name: &str, more: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut problem = String::new();
        for _ in 0..PORT_TRIES {
            match self.try_start(dir, name, more, environment) {
                Ok(running) => return running,
                Err(why) => problem = why,
            }
            if !problem.contains("ddress already in use") {
                break;
            }
        }
        panic!("{self:?} {name} did not start: {problem}")
    }

    fn try_start(
        self,
        dir: &Path,
        name: &str,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Running, String> {
        let text = |text: &&str| (*text).to_owned();
        let at = At {
            server: self,
            name: name.to_owned(),
            client_url: lasting_url(),
            peer_url: lasting_url(),
            data_dir: dir.join(name),
            log: dir.join(format!("{name}.log")),
            more: more.iter().map(text).collect(),
            environment: environment.iter().map(|(name, value)| (text(name), text(value))).collect(),
        };
        let child = at.spawn()?;
        let (client_url, peer_url, data_dir) =
            (at.client_url.clone(), at.peer_url.clone(), at.data_dir.clone());
        Ok(Running { child, client_url, peer_url, data_dir, at })
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

/// Ports of one process of the tests. Its blocks are nobody else's: it holds their first ports.
struct Ports {
    held: Vec<TcpListener>,
    next: u16,
    end: u16,
}

impl Ports {
    /// Below those that the system gives to connections.
    const FIRST: u16 = 10_000;
    const BLOCK: u16 = 20;
    const BLOCKS: u16 = 1100;

    /// Takes a block of its own.
    fn take_block(&mut self) {
        let first = (std::process::id() % u32::from(Self::BLOCKS)) as u16;
        for number in 0..Self::BLOCKS {
            let port = Self::FIRST + (first + number) % Self::BLOCKS * Self::BLOCK;
            if let Ok(held) = TcpListener::bind(("127.0.0.1", port)) {
                self.held.push(held);
                (self.next, self.end) = (port + 1, port + Self::BLOCK);
                return;
            }
        }
        panic!("no free block of ports");
    }
}

/// A URL on a free port that the system gives to no connection: a server must find it free when it comes, and when it
/// comes back.
pub fn lasting_url() -> String {
    static PORTS: Mutex<Ports> = Mutex::new(Ports { held: Vec::new(), next: 0, end: 0 });
    let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        while ports.next < ports.end {
            let port = ports.next;
            ports.next += 1;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return format!("http://127.0.0.1:{port}");
            }
        }
        ports.take_block();
    }
}

/// Where a server is, whether it runs or not.
struct At {
    server: Server,
    name: String,
    client_url: String,
    peer_url: String,
    data_dir: PathBuf,
    log: PathBuf,
    more: Vec<String>,
    environment: Vec<(String, String)>,
}

impl At {
    /// Starts it, and waits until it serves.
    fn spawn(&self) -> Result<Child, String> {
        let errors = OpenOptions::new().create(true).append(true).open(&self.log).expect("server log");
        let mut command = self.server.command(&self.name, &self.data_dir, &self.client_url, &self.peer_url);
        let retention = "--auto-compaction-retention";
        if self.server == Server::Store && !self.more.iter().any(|argument| argument == retention) {
            // etcd keeps all of the past by default.
            command.args([retention, "0"]);
        }
        command.args(&self.more).envs(self.environment.clone()).stdin(Stdio::null());
        let told = match self.server {
            Server::Etcd => command.stdout(errors).stderr(Stdio::piped()),
            Server::Store => command.stdout(Stdio::piped()).stderr(errors),
        };
        let mut child = told.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let ready = match self.server {
            Server::Etcd => announced(child.stderr.take(), &self.log, "serving client traffic"),
            Server::Store => announced(child.stdout.take(), &self.log, "ready"),
        };
        let problem = match ready.recv_timeout(START) {
            Ok(()) => return Ok(child),
            Err(RecvTimeoutError::Disconnected) => "it ended".to_owned(),
            Err(RecvTimeoutError::Timeout) => format!("not ready after {START:?}"),
        };
        process::stop(&mut child);
        Err(format!("{problem}\n{}", self.log_tail()))
    }

    /// The end of what it said.
    fn log_tail(&self) -> String {
        let text = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
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
    at: At,
}

impl Running {
    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        process::output("kill", &[&format!("-{name}"), &self.pid().to_string()]);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        process::stop(&mut self.child);
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) {
        process::stop(&mut self.child);
        self.child = self.at.spawn().unwrap_or_else(|why| panic!("{} is not back: {why}", self.at.name));
    }

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
        self.at.log_tail()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        process::stop(&mut self.child);
    }
}

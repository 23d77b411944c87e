//! The two servers: how each is started with its defaults, both on loopback and on the same disk.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::error::{BenchError, Result};
use crate::process::Process;

/// Time that a server has to end in order.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// What each calls itself.
const NAME: &str = "bench";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::scenario) enum Side {
    /// The store of this repository.
    Ovs,
    /// Debian's etcd, or the one that was named.
    Etcd,
}

/// Both, in the order of every list of two.
pub(in crate::scenario) const SIDES: [Side; 2] = [Side::Ovs, Side::Etcd];

impl Side {
    /// What reports call it.
    pub(in crate::scenario) fn name(self) -> &'static str {
        match self {
            Side::Ovs => "ovs",
            Side::Etcd => "etcd",
        }
    }
}

/// A server with a data directory of its own. Dropping it ends the process and removes the directory.
#[derive(Debug)]
pub(in crate::scenario) struct Server {
    side: Side,
    program: PathBuf,
    directory: PathBuf,
    clients: u16,
    peers: u16,
    process: Option<Process>,
    keep: bool,
}

/// Two ports that nobody listens on now.
fn free_ports() -> Result<(u16, u16)> {
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let both = || -> std::io::Result<(u16, u16)> {
        let (one, other) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        Ok((port(&one)?, port(&other)?))
    };
    both().map_err(|e| BenchError::Setup(format!("no free port: {e}")))
}

impl Server {
    /// Makes the directory, new; starts nothing.
    pub(in crate::scenario) fn prepare(
        side: Side,
        program: &Path,
        directory: PathBuf,
        keep: bool,
    ) -> Result<Server> {
        std::fs::create_dir_all(&directory).map_err(BenchError::file(&directory))?;
        let (clients, peers) = free_ports()?;
        Ok(Server { side, program: program.to_path_buf(), directory, clients, peers, process: None, keep })
    }

    /// Starts the process; does not wait for it.
    pub(in crate::scenario) fn start(&mut self) -> Result<()> {
        let (clients, peers) = (self.url(), format!("http://127.0.0.1:{}", self.peers));
        let data = self.directory.join("data").display().to_string();
        let cluster = format!("{NAME}={peers}");
        let arguments: Vec<&str> = match self.side {
            Side::Ovs => vec![
                "cfg",
                "run",
                "--name",
                NAME,
                "--data-dir",
                &data,
                "--client-urls",
                &clients,
                "--peer-urls",
                &peers,
            ],
            Side::Etcd => vec![
                "--name",
                NAME,
                "--data-dir",
                &data,
                "--listen-client-urls",
                &clients,
                "--advertise-client-urls",
                &clients,
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
                "--initial-cluster",
                &cluster,
            ],
        };
        let program = self.program.display().to_string();
        let command: Vec<String> =
            std::iter::once(program).chain(arguments.into_iter().map(str::to_string)).collect();
        self.process = Some(Process::spawn(&command, &self.directory, &self.log())?);
        Ok(())
    }

    /// Where clients reach it.
    pub(in crate::scenario) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.clients)
    }

    /// Process of the running server.
    pub(in crate::scenario) fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(Process::pid)
    }

    /// Ends it in order.
    pub(in crate::scenario) fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        if process.terminate(STOP_LIMIT)? {
            return Ok(());
        }
        Err(self.problem(format!("did not end within {} s after SIGTERM", STOP_LIMIT.as_secs())))
    }

    /// Ends it with SIGKILL.
    pub(in crate::scenario) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// An error that names this side and says what its server wrote last.
    pub(in crate::scenario) fn problem(&self, problem: impl std::fmt::Display) -> BenchError {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        BenchError::peer(self.side.name(), format!("{problem}; it wrote last: {}", last.trim()))
    }

    fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if !self.keep
            && let Err(e) = std::fs::remove_dir_all(&self.directory)
        {
            eprintln!("{} stays behind: {e}", self.directory.display());
        }
    }
}

//! Real etcd processes on free ports of loopback, in directories of their own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a cluster may take until it is healthy.
const START: Duration = Duration::from_secs(60);
/// How often a start is tried again because somebody took a port between its choice and its use.
const PORT_TRIES: u32 = 5;

/// A directory that is removed at the end of a test.
pub struct Directory(PathBuf);

impl Directory {
    /// A new one.
    pub fn new() -> Directory {
        Directory::below(&std::env::temp_dir())
    }

    /// One in memory, if this host has such a file system: the flushes of an etcd take as long as the disk likes.
    fn in_memory() -> Directory {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Directory::below(memory) } else { Directory::new() }
    }

    fn below(folder: &Path) -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("ovs-etcd-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The PEM files of a cluster that speaks TLS and wants certificates of its clients.
#[derive(Clone, Debug)]
pub struct Tls {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Members of one etcd cluster; killed when dropped.
pub struct Cluster {
    members: Vec<Option<Child>>,
    /// `127.0.0.1:port` of each.
    pub endpoints: Vec<String>,
    tls: Option<Tls>,
    directory: Directory,
}

impl Cluster {
    /// Starts `size` members and waits until all are healthy.
    pub fn start(size: usize) -> Cluster {
        Cluster::start_with(size, None, &[])
    }

    /// The same with TLS, or with more arguments.
    pub fn start_with(size: usize, tls: Option<Tls>, arguments: &[&str]) -> Cluster {
        for _ in 0..PORT_TRIES {
            let mut cluster = Cluster::begin(size, tls.clone(), arguments);
            if cluster.is_healthy() {
                return cluster;
            }
        }
        panic!("{PORT_TRIES} times somebody else took a port")
    }

    /// Waits until it is healthy; false: somebody else has one of its ports.
    fn is_healthy(&mut self) -> bool {
        let begin = Instant::now();
        while !self.try_ctl(&["endpoint", "health"]).status.success() {
            if self.members.iter_mut().flatten().any(|member| matches!(member.try_wait(), Ok(Some(_)))) {
                assert!(self.log().contains("address already in use"), "it ended: {}", self.log());
                return false;
            }
            assert!(begin.elapsed() < START, "{}", self.log());
            // sleep: another process becomes healthy, and tells nobody; bounded.
            thread::sleep(Duration::from_millis(50));
        }
        true
    }

    /// Starts the members.
    fn begin(size: usize, tls: Option<Tls>, arguments: &[&str]) -> Cluster {
        let directory = Directory::in_memory();
        // All are held until all are known, so that they differ.
        let listeners: Vec<TcpListener> =
            (0..2 * size).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses: Vec<String> =
            listeners.iter().map(|listener| listener.local_addr().expect("an address").to_string()).collect();
        drop(listeners);
        let (endpoints, peers) = addresses.split_at(size);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let initial: Vec<String> =
            peers.iter().enumerate().map(|(index, peer)| format!("m{index}=http://{peer}")).collect();
        let members = (0..size).map(|index| {
            let mut command = Command::new("etcd");
            command
                .arg("--name")
                .arg(format!("m{index}"))
                .arg("--data-dir")
                .arg(directory.path(&format!("m{index}")));
            for (option, address) in [
                ("--listen-client-urls", format!("{scheme}://{}", endpoints[index])),
                ("--advertise-client-urls", format!("{scheme}://{}", endpoints[index])),
                ("--listen-peer-urls", format!("http://{}", peers[index])),
                ("--initial-advertise-peer-urls", format!("http://{}", peers[index])),
                ("--initial-cluster", initial.join(",")),
            ] {
                command.arg(option).arg(address);
            }
            if let Some(tls) = &tls {
                command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.authority);
                command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
            }
            let log = fs::File::create(directory.path(&format!("m{index}.log"))).expect("a log");
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            Some(command.spawn().expect("etcd is installed: apt-get install etcd-server"))
        });
        let members = members.collect();
        Cluster { members, endpoints: endpoints.to_vec(), tls, directory }
    }

    /// What all members said.
    fn log(&self) -> String {
        let log =
            |index| fs::read_to_string(self.directory.path(&format!("m{index}.log"))).unwrap_or_default();
        (0..self.members.len()).map(log).collect()
    }

    /// The URL of a path, over all members.
    pub fn url(&self, path: &str) -> String {
        format!("etcd://{}{path}", self.endpoints.join(","))
    }

    /// Kills a member at once.
    pub fn kill(&mut self, index: usize) {
        let mut member = self.members[index].take().expect("runs");
        member.kill().expect("killed");
        member.wait().expect("ended");
    }

    /// Runs `etcdctl` on the members that run.
    pub fn try_ctl(&self, arguments: &[&str]) -> Output {
        let alive: Vec<&str> = self
            .endpoints
            .iter()
            .zip(&self.members)
            .filter(|(_, member)| member.is_some())
            .map(|(endpoint, _)| endpoint.as_str())
            .collect();
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", alive.join(",")));
        if let Some(Tls { authority, certificate, key }) = &self.tls {
            let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
            command.arg(option("cacert", authority)).arg(option("cert", certificate)).arg(option("key", key));
        }
        command.args(arguments).output().expect("etcdctl is installed: apt-get install etcd-client")
    }

    /// Runs `etcdctl`, which must succeed; returns what it printed.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.try_ctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Forgets everything before `revision`.
    pub fn compact(&self, revision: i64) {
        self.ctl(&["compaction", &revision.to_string()]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

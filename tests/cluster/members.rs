//! Members as processes on loopback: started, killed, stopped, started again at the same place.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::client;
use super::harness::cfg::{announced, lasting_url};
use super::harness::place::Place;
use super::harness::process;

/// How long a start may take, recovery and an election included.
const START: Duration = Duration::from_secs(60);
/// How long a cluster may take to come to something.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a server that gives no event.
pub const LOOK: Duration = Duration::from_millis(20);

/// One member. Killed when dropped.
pub struct Member {
    pub name: String,
    pub client_url: String,
    pub peer_url: String,
    pub data_dir: PathBuf,
    /// How it comes to a cluster, and what else it is started with.
    pub arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Member {
    /// One that does not run yet, below `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        Self {
            name: name.into(),
            client_url: lasting_url(),
            peer_url: lasting_url(),
            data_dir: dir.join(name),
            arguments: Vec::new(),
            log: dir.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Starts the process; the channel tells when it serves, its end is the end of the process.
    pub fn spawn(&mut self) -> Receiver<()> {
        assert!(self.child.is_none(), "{} runs", self.name);
        let errors = OpenOptions::new().create(true).append(true).open(&self.log).expect("log of a member");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ovs"));
        command
            .args(["cfg", "run", "--name", &self.name, "--client-urls", &self.client_url])
            .args(["--peer-urls", &self.peer_url, "--data-dir"])
            .arg(&self.data_dir)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors);
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(|name| name.starts_with("OVS_")) {
                command.env_remove(variable);
            }
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let ready = announced(child.stdout.take(), &self.log, "ready");
        self.child = Some(child);
        ready
    }

    /// Starts it and waits until it serves.
    pub fn start(&mut self) {
        let ready = self.spawn();
        self.wait(&ready);
    }

    /// Waits until it serves.
    pub fn wait(&self, ready: &Receiver<()>) {
        match ready.recv_timeout(START) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("{} ended\n{}", self.name, self.log_tail()),
            Err(RecvTimeoutError::Timeout) => panic!("{} is not ready\n{}", self.name, self.log_tail()),
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::stop(&mut child);
        }
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        process::output("kill", &[&format!("-{name}"), &child.id().to_string()]);
    }

    /// Waits until it has ended; gives its exit code.
    pub fn exit_code(&mut self) -> i32 {
        let mut child = self.child.take().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                return status.code().unwrap_or_else(|| panic!("{} was killed", self.name));
            }
            if Instant::now() > deadline {
                process::stop(&mut child);
                panic!("{} has not ended\n{}", self.name, self.log_tail());
            }
            // sleep: the standard library gives no event for the end of a child; bounded polling
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until it has said something with `text` in it.
    pub async fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "{} does not say {text:?}", self.name);
            // sleep: bounded polling
            tokio::time::sleep(LOOK).await;
        }
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// All that it said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ({})\n{}", self.name, self.client_url, self.log_tail());
        }
    }
}

/// Members of one cluster.
pub struct Cluster {
    pub members: Vec<Member>,
    pub place: Place,
}

impl Cluster {
    /// Three members that found a cluster together, each with `arguments` more; all of them vote.
    pub async fn three(name: &str, arguments: &[&str]) -> Self {
        let mut cluster = Self::unstarted(name, arguments);
        cluster.start_all();
        client::wait_for_voters(&cluster.members[0].client_url, 3).await;
        cluster
    }

    /// The same, before anything runs.
    pub fn unstarted(name: &str, arguments: &[&str]) -> Self {
        let place = Place::new(name);
        let mut members: Vec<Member> =
            ["a", "b", "c"].iter().map(|name| Member::new(place.root(), name)).collect();
        let initial: Vec<String> =
            members.iter().map(|member| format!("{}={}", member.name, member.peer_url)).collect();
        for member in &mut members {
            // The judges look at all that happened.
            let whole = ["--auto-compaction-retention".into(), "0".into()];
            member.arguments = vec!["--initial-cluster".into(), initial.join(",")];
            member.arguments.extend(whole);
            member.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        }
        Self { members, place }
    }

    /// Starts all that do not run, at once, and waits until all serve.
    pub fn start_all(&mut self) {
        let stopped = self.members.iter_mut().filter(|member| !member.runs());
        let started: Vec<_> = stopped.map(|member| (member.spawn(), member)).collect();
        for (ready, member) in started {
            member.wait(&ready);
        }
    }

    /// Where clients reach the members.
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client_url.clone()).collect()
    }

    /// Waits until one leads and all that run and answer agree; gives its place.
    pub async fn leader(&self) -> usize {
        self.leader_among(&[0, 1, 2]).await
    }

    /// The same, with only the members at some places asked.
    pub async fn leader_among(&self, places: &[usize]) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut found = Vec::new();
            let asked = self.members.iter().enumerate().filter(|(place, _)| places.contains(place));
            for (place, member) in asked.filter(|(_, member)| member.runs()) {
                if let Ok(status) = client::status(&member.client_url).await {
                    let id = status.header.map_or(0, |header| header.member_id);
                    found.push((status.leader == id, status.leader, status.raft_term, place));
                }
            }
            let agree = found.windows(2).all(|two| (two[0].1, two[0].2) == (two[1].1, two[1].2));
            if let Some(leader) = found.iter().find(|found| found.0).filter(|_| agree && found.len() > 1) {
                return leader.3;
            }
            assert!(Instant::now() < deadline, "nobody leads: {found:?}");
            // sleep: bounded polling
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every member has applied `revision`; then all must have the same keys there.
    pub async fn agree(&self, revision: i64) {
        let mut hashes = Vec::new();
        for member in self.members.iter().filter(|member| member.runs()) {
            hashes.push((member.name.clone(), client::hash(&member.client_url, revision).await));
        }
        assert!(
            hashes.len() > 1 && hashes.windows(2).all(|two| two[0].1 == two[1].1),
            "{revision}: {hashes:?}"
        );
    }

    /// Nobody had an error to report, let alone a panic.
    pub fn logs_are_clean(&self) {
        for member in &self.members {
            let log = member.log();
            let bad = log.lines().find(|line| line.contains("ERROR") || line.contains("panicked"));
            assert!(bad.is_none(), "{}: {}", member.name, bad.unwrap_or_default());
        }
    }
}

//! Debian's `etcdctl` as a user's hands: commands that end, and commands that go on.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use crate::harness::cfg::{Running, Server};
use crate::harness::place::Place;
use crate::harness::process::{self, Finished};

/// How long a command may take, and a line of one that goes on.
const LIMIT: Duration = Duration::from_secs(30);

/// A server and the way to it.
pub struct Ctl {
    server: Running,
    /// Where things are put that a command reads or writes. Goes after the server.
    pub place: Place,
}

impl Ctl {
    /// Starts a server for one test.
    pub fn start(server: Server, test: &str) -> Self {
        let place = server.place(test);
        let server = server.start(place.root(), "one");
        Self { server, place }
    }

    /// Where clients reach the server.
    pub fn url(&self) -> &str {
        &self.server.client_url
    }

    /// Where members would reach the server.
    pub fn peer_url(&self) -> &str {
        &self.server.peer_url
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        let ours = |name: &str| name.starts_with("ETCDCTL_");
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
            command.env_remove(variable);
        }
        command.env("ETCDCTL_API", "3").args(["--endpoints", self.url()]).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Finished {
        let args = [&["ETCDCTL_API=3", "etcdctl", "--endpoints", self.url()], args].concat();
        process::run("env", &args, LIMIT)
    }

    /// What a command prints; it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert!(done.status.success(), "etcdctl {}: {}{}", args.join(" "), done.stdout, done.stderr);
        done.stdout
    }

    /// A command prints exactly these lines.
    pub fn says(&self, args: &[&str], lines: &[&str]) {
        let said = self.ok(args);
        let said: Vec<&str> = said.lines().collect();
        assert_eq!(said, lines, "etcdctl {}", args.join(" "));
    }

    /// What a command prints as JSON.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let said = self.ok(&[args, &["-w", "json"]].concat());
        serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("etcdctl {}: {error}: {said}", args.join(" ")))
    }

    /// A command fails and says `why`.
    pub fn fails(&self, args: &[&str], why: &str) {
        let done = self.run(args);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(!done.status.success() && said.contains(why), "etcdctl {}: {said}", args.join(" "));
    }

    /// What a command prints that reads `input`; it must succeed.
    pub fn fed(&self, args: &[&str], input: &str) -> Vec<String> {
        let mut live = self.live(args);
        live.tell(input);
        live.stdin = None;
        live.rest()
    }

    /// A command that goes on, with an open input.
    pub fn live(&self, args: &[&str]) -> Live {
        let shown = format!("etcdctl {}", args.join(" "));
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        let lines = process::lines(child.stdout.take().expect("the pipe was asked for"));
        let stdin = child.stdin.take();
        Live { child, stdin, lines, shown }
    }
}

/// A command that goes on; killed when dropped.
pub struct Live {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    shown: String,
}

impl Live {
    /// Writes to its input.
    pub fn tell(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        stdin.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", self.shown));
    }

    /// The next line it prints.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("{}: no line: {error}", self.shown))
    }

    /// The next lines it prints are these.
    pub fn says(&self, lines: &[&str]) {
        let said: Vec<String> = lines.iter().map(|_| self.line()).collect();
        assert_eq!(said, lines, "{}", self.shown);
    }

    /// It has printed nothing that was not looked at, and has not ended.
    pub fn is_quiet(&self) -> bool {
        matches!(self.lines.try_recv(), Err(TryRecvError::Empty))
    }

    /// Asks it to end, as Ctrl-C does, and waits until it has.
    pub fn interrupt(mut self) {
        process::must("kill", &["-INT", &self.child.id().to_string()], LIMIT);
        assert!(process::wait_end(&self.lines, LIMIT), "{}: it does not end", self.shown);
        let _ = self.child.wait();
    }

    /// All lines until it ends by itself, which must be well.
    fn rest(mut self) -> Vec<String> {
        let (deadline, mut all) = (Instant::now() + LIMIT, Vec::new());
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            all.push(line);
        }
        let status = self.child.try_wait().ok().flatten().or_else(|| {
            // The end of its output is not yet its own.
            (Instant::now() < deadline).then(|| self.child.wait().ok()).flatten()
        });
        assert!(status.is_some_and(|status| status.success()), "{}: {status:?}: {all:?}", self.shown);
        all
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        process::stop(&mut self.child);
    }
}

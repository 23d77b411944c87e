//! `tests/clients/serial_writer.py` as a child: the client that outlives the server and knows what it may hold.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::place::Place;
use super::{PYTHON, client, process};

/// How a load ended.
#[derive(Debug)]
pub struct Load {
    /// Requests sent.
    pub issued: u64,
    /// Requests acknowledged.
    pub acked: u64,
}

/// The running client; killed when dropped.
pub struct Writer {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Writer {
    /// For a volume of `size` bytes that holds zeros.
    pub fn spawn(place: &Place, size: u64, seed: u64) -> Self {
        let log = place.path("writer.log");
        let mut child = Command::new(PYTHON)
            .args([
                "-B",
                &client("serial_writer.py"),
                "--size",
                &size.to_string(),
                "--seed",
                &seed.to_string(),
            ])
            .args(["--log", &log])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let stdin = child.stdin.take().expect("the pipe was asked for");
        let lines = process::lines(child.stdout.take().expect("the pipe was asked for"));
        let errors = process::lines(child.stderr.take().expect("the pipe was asked for"));
        Self { child, stdin, lines, errors }
    }

    fn say(&mut self, command: &str) {
        // A client that ended is found when its answer is missing.
        let _ = writeln!(self.stdin, "{command}");
    }

    fn answer(&mut self, expected: &str) -> Vec<u64> {
        let limit = Duration::from_secs(180);
        let Ok(line) = self.lines.recv_timeout(limit) else {
            process::stop(&mut self.child);
            let said: Vec<String> = self.errors.iter().collect();
            panic!(
                "the writer gave no answer \"{expected}\" in {limit:?}, or found this:\n{}",
                said.join("\n")
            );
        };
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some(expected), "{line}");
        words.map(|word| word.parse().expect("a number")).collect()
    }

    /// Reads the whole volume and holds it against what it may be. Returns how many parts were checked and how many
    /// unacknowledged writes had not made it.
    pub fn verify(&mut self, uri: &str) -> (u64, u64) {
        self.say(&format!("verify {uri}"));
        let numbers = self.answer("verified");
        (numbers[0], numbers[1])
    }

    /// Starts to write and returns once `warm` writes are acknowledged.
    pub fn load(&mut self, uri: &str, warm: u64) {
        self.say(&format!("load {uri} {warm}"));
        self.answer("loading");
    }

    /// Waits until the load has noticed that the server is gone.
    pub fn dead(&mut self) -> Load {
        let numbers = self.answer("dead");
        Load { issued: numbers[0], acked: numbers[1] }
    }

    /// Ends the load while the server lives: everything issued is acknowledged.
    pub fn stop(&mut self) -> Load {
        self.say("stop");
        let numbers = self.answer("stopped");
        Load { issued: numbers[0], acked: numbers[1] }
    }

    /// Ends the client, which must have found nothing wrong.
    pub fn finish(mut self) {
        self.say("quit");
        assert!(process::wait_end(&self.lines, Duration::from_secs(30)), "the writer does not end");
        let status = self.child.wait().expect("our own child can be waited for");
        assert!(status.success(), "the writer: {status}");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        process::stop(&mut self.child);
    }
}

/// Sleeps for a random moment below `limit`: the one wait that is not for an event, because the kill that follows has
/// to be unrelated to anything the server does.
pub fn random_moment(random: &mut super::random::Random, limit: Duration) -> Duration {
    let moment = Duration::from_micros(random.below(limit.as_micros() as u64));
    let until = Instant::now() + moment;
    // sleep: the kill comes at a moment that nothing announces
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    moment
}

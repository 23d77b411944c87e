//! Running programs with a time limit.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// What a program left behind.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code; panics if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {}\n{}", self.status, self.stderr))
    }
}

/// Runs `program` with `args` until it ends, at most `limit`; then it is killed and the test fails.
pub fn run(program: &str, args: &[&str], limit: Duration) -> Finished {
    let shown = format!("{program} {}", args.join(" "));
    let mut child = Command::new(program)
        .args(args)
        .env_remove("OVS_ENDPOINT")
        .env_remove("OVS_DATA_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    // Both pipes at their end is the event "it is over".
    let (sender, ends) = sync_channel(2);
    let readers = [collect(child.stdout.take(), sender.clone()), collect(child.stderr.take(), sender)];
    let deadline = Instant::now() + limit;
    for _ in &readers {
        if ends.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            stop(&mut child);
            let [out, err] = readers.map(|reader| reader.join().expect("a reader never panics"));
            panic!("{shown}: not done after {limit:?}\n{out}{err}");
        }
    }
    let [stdout, stderr] = readers.map(|reader| reader.join().expect("a reader never panics"));
    let status = child.wait().expect("our own child can be waited for");
    Finished { status, stdout, stderr }
}

fn collect<R: Read + Send + 'static>(
    pipe: Option<R>,
    end: SyncSender<()>,
) -> std::thread::JoinHandle<String> {
    let mut pipe = pipe.expect("the pipe was asked for");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = end.send(());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// [`run`], and the program must succeed. Returns its standard output.
pub fn must(program: &str, args: &[&str], limit: Duration) -> String {
    let done = run(program, args, limit);
    assert!(
        done.status.success(),
        "{program} {}: {}\n{}{}",
        args.join(" "),
        done.status,
        done.stdout,
        done.stderr
    );
    done.stdout
}

/// Standard output of a small program that cannot fail.
pub fn output(program: &str, args: &[&str]) -> String {
    must(program, args, Duration::from_secs(60))
}

/// Kills a child of ours and reaps it.
pub fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Lines that may wait to be looked at; the program that writes more is held up until somebody looks.
const LINES: usize = 4096;

/// Lines of a pipe, as they come; the channel's end is the pipe's.
pub fn lines<R: Read + Send + 'static>(pipe: R) -> Receiver<String> {
    let (sender, receiver) = sync_channel(LINES);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Waits for the end of a pipe behind [`lines`]; `false` when it is still open after `limit`.
pub fn wait_end(lines: &Receiver<String>, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

//! Child processes that end with the harness, whatever way it ends.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::error::{BenchError, Result};
use crate::interrupt::wait_for;

const STEP: Duration = Duration::from_millis(10);

/// Makes daemons whose starter has ended children of this process, so that they can be waited for and stopped.
pub(crate) fn adopt_orphans() {
    // SAFETY: plain system call without pointers; a failure only loses the adoption.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Child(Child),
    /// A daemon that this process has adopted.
    Adopted(u32),
    Ended,
}

impl Process {
    /// Starts `arguments[0]` in `directory`, both outputs going to the file `log`. The kernel kills it when the
    /// calling thread ends, so this is for the main thread.
    pub(crate) fn spawn(arguments: &[String], directory: &Path, log: &Path) -> Result<Process> {
        let [program, rest @ ..] = arguments else {
            return Err(BenchError::Setup("a command is empty".to_string()));
        };
        let output = File::create(log).map_err(BenchError::file(log))?;
        let errors = output.try_clone().map_err(BenchError::file(log))?;
        let mut command = Command::new(program);
        command.args(rest).current_dir(directory);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // A group of its own: what the child forks can be killed with it, and ^C reaches only the harness.
        command.process_group(0);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().map_err(|e| BenchError::Setup(format!("cannot start {program}: {e}")))?;
        Ok(Process { name: program.clone(), running: Running::Child(child) })
    }

    /// Takes over the daemon with process id `pid`.
    pub(crate) fn adopt(name: &str, pid: u32) -> Process {
        Process { name: name.to_string(), running: Running::Adopted(pid) }
    }

    /// Process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Child(child) => Some(child.id()),
            Running::Adopted(pid) => Some(*pid),
            Running::Ended => None,
        }
    }

    /// Whether it has ended, and how: `Some(true)` means successfully.
    pub(crate) fn ended(&mut self) -> Option<bool> {
        let outcome = match &mut self.running {
            Running::Child(child) => {
                child.try_wait().ok().flatten().map(|status: ExitStatus| status.success())
            }
            Running::Adopted(pid) => reap(*pid),
            Running::Ended => return Some(false),
        };
        if outcome.is_some() {
            self.running = Running::Ended;
        }
        outcome
    }

    /// Waits for its end for at most `limit`; then it is killed and that is an error.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<bool> {
        match wait_for(limit, STEP, || Ok(self.ended()))? {
            Some(success) => Ok(success),
            None => {
                self.kill();
                Err(BenchError::Setup(format!("{} did not end within {} s", self.name, limit.as_secs())))
            }
        }
    }

    /// Asks it to end (SIGTERM) and waits for at most `grace`, then kills it. Says whether it ended by itself.
    pub(crate) fn terminate(&mut self, grace: Duration) -> Result<bool> {
        self.signal(libc::SIGTERM);
        let ended = wait_for(grace, STEP, || Ok(self.ended()));
        if !matches!(ended, Ok(Some(_))) {
            self.kill();
        }
        Ok(ended?.is_some())
    }

    /// Kills it and what it has forked (SIGKILL) and reaps it. A process in an uninterruptible wait is given
    /// up after ten seconds.
    pub(crate) fn kill(&mut self) {
        if let Some(pid) = self.pid() {
            // SAFETY: plain system call; a group with this number can only be the one that this child leads.
            unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
        }
        self.signal(libc::SIGKILL);
        for _ in 0..1000 {
            if self.ended().is_some() {
                return;
            }
            std::thread::sleep(STEP);
        }
        eprintln!("{} (pid {:?}) does not end after SIGKILL", self.name, self.pid());
    }

    fn signal(&self, signal: libc::c_int) {
        if let Some(pid) = self.pid() {
            // SAFETY: plain system call; the pid is a child not yet reaped, so it cannot belong to another process.
            unsafe { libc::kill(pid as libc::pid_t, signal) };
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}

/// Collects an adopted child if it has ended; `Some(false)` also when it is no child at all.
fn reap(pid: u32) -> Option<bool> {
    let mut status: libc::c_int = 0;
    // SAFETY: `status` is a valid place for the call to write to.
    let answer = unsafe { libc::waitpid(pid as libc::pid_t, &mut status, libc::WNOHANG) };
    match answer {
        0 => None,
        -1 => Some(false),
        _ => Some(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawn(arguments: &[&str]) -> Process {
        let arguments: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
        Process::spawn(&arguments, Path::new("/"), Path::new("/dev/null")).unwrap()
    }

    #[test]
    fn success_failure_and_time_limit_are_told_apart() {
        assert!(spawn(&["true"]).wait(Duration::from_secs(10)).unwrap());
        assert!(!spawn(&["false"]).wait(Duration::from_secs(10)).unwrap());
        let mut stuck = spawn(&["sleep", "1000"]);
        assert!(stuck.wait(Duration::from_millis(20)).is_err());
        assert!(stuck.pid().is_none());
    }

    #[test]
    fn kill_ends_what_the_child_has_forked() {
        let directory = std::env::temp_dir().join(format!("ovs-bench-fork-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let log = directory.join("log");
        let arguments = ["sh", "-c", "sleep 1000 & echo $!; wait"].map(String::from);
        let mut process = Process::spawn(&arguments, &directory, &log).unwrap();
        let forked = wait_for(Duration::from_secs(10), STEP, || {
            Ok(std::fs::read_to_string(&log).unwrap().trim().parse::<u32>().ok())
        });
        let status = format!("/proc/{}/stat", forked.unwrap().unwrap());
        process.kill();
        // Whoever inherits it may take its time to reap it: gone or a zombie.
        let gone = || !std::fs::read_to_string(&status).is_ok_and(|text| !text.contains(") Z "));
        let ended = wait_for(Duration::from_secs(10), STEP, || Ok(gone().then_some(())));
        assert!(ended.unwrap().is_some());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn drop_ends_the_child() {
        let process = spawn(&["sleep", "1000"]);
        let status = format!("/proc/{}/status", process.pid().unwrap());
        assert!(Path::new(&status).exists());
        drop(process);
        assert!(!Path::new(&status).exists());
    }
}

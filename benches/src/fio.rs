//! Running fio.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{BenchError, Result};
use crate::fio_output::{self, FioReport, Window};
use crate::process::Process;
use crate::server::Target;
use crate::workload::Pattern;

/// What fio may take beyond the time that its work is given.
const GRACE: Duration = Duration::from_secs(60);
/// Slowest speed that is waited for when the work is an amount of bytes, bytes a second.
const SLOWEST: u64 = 2 << 20;

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// After this time; the addresses begin anew as often as needed.
    Time(Duration),
    /// When every block was done once, or after this time.
    EachBlockOnce(Duration),
    /// When this many bytes were transferred.
    Bytes(u64),
}

/// One fio run.
#[derive(Clone, Debug)]
pub(crate) struct Job<'a> {
    /// What it works on.
    pub(crate) target: &'a Target,
    /// Targets of the same kind that get the same work at the same time; the report adds them up.
    pub(crate) others: &'a [Target],
    /// Bytes of the volume.
    pub(crate) size: u64,
    /// Kind and order of the I/Os.
    pub(crate) pattern: Pattern,
    /// Bytes of one I/O.
    pub(crate) block: u64,
    /// I/Os in flight of one job.
    pub(crate) depth: u32,
    /// Jobs, each with a connection of its own.
    pub(crate) jobs: u32,
    /// Whether a flush follows each write.
    pub(crate) flush: bool,
    /// Time at the start that does not count.
    pub(crate) ramp: Duration,
    /// When it ends.
    pub(crate) end: End,
    /// Whether each address is drawn independently, instead of each block once a pass.
    pub(crate) independent: bool,
    /// Whether every buffer is filled anew with random bytes.
    pub(crate) refill: bool,
    /// Seed of addresses and data.
    pub(crate) seed: u64,
    /// Also report windows of this length.
    pub(crate) window: Option<Duration>,
    /// I/Os a second of each direction at most; `None`: as many as there can be.
    pub(crate) rate: Option<u32>,
}

impl<'a> Job<'a> {
    /// Writes the whole volume once, in order, with bytes that do not compress.
    pub(crate) fn fill(target: &'a Target, size: u64) -> Job<'a> {
        Job {
            target,
            others: &[],
            size,
            pattern: Pattern::Write,
            block: 1 << 20,
            depth: 8,
            jobs: 1,
            flush: false,
            ramp: Duration::ZERO,
            end: End::Bytes(size),
            independent: false,
            refill: true,
            seed: 1,
            window: None,
            rate: None,
        }
    }

    /// Independent 4 KiB random writes at `depth`.
    pub(crate) fn random_writes(target: &'a Target, size: u64, depth: u32, end: End, seed: u64) -> Job<'a> {
        let base = Job::fill(target, size);
        let pattern = Pattern::RandWrite;
        Job { pattern, block: 4 << 10, depth, end, independent: true, refill: false, seed, ..base }
    }

    fn limit(&self) -> Duration {
        let work = match self.end {
            End::Time(time) | End::EachBlockOnce(time) => time,
            End::Bytes(bytes) => Duration::from_secs(bytes / SLOWEST),
        };
        work + self.ramp + GRACE
    }

    fn arguments(&self, output: &Path) -> Vec<String> {
        // Threads instead of processes: what is killed is all of it.
        let mut arguments = ["fio", "--name=global", "--thread=1"].map(String::from).to_vec();
        if let Target::File(_) = self.target {
            arguments.extend(["--ioengine=io_uring".to_string(), "--direct=1".to_string()]);
        } else {
            arguments.push("--ioengine=nbd".to_string());
        }
        let mut add = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
        add("rw", self.pattern.fio_name().to_string());
        if let Pattern::RandMix(reads) = self.pattern {
            add("rwmixread", reads.to_string());
        }
        add("bs", self.block.to_string());
        add("size", self.size.to_string());
        add("iodepth", self.depth.to_string());
        add("numjobs", self.jobs.to_string());
        add("randseed", self.seed.to_string());
        add("percentile_list", "50:99:99.9".to_string());
        add("output-format", "json".to_string());
        add("output", output.display().to_string());
        let seconds = |d: Duration| format!("{}ms", d.as_millis());
        match self.end {
            End::Time(time) => {
                add("time_based", "1".to_string());
                add("runtime", seconds(time));
            }
            End::EachBlockOnce(time) => add("runtime", seconds(time)),
            End::Bytes(bytes) => add("io_size", bytes.to_string()),
        }
        if !self.ramp.is_zero() {
            add("ramp_time", seconds(self.ramp));
        }
        for (name, wanted) in [
            ("group_reporting", true),
            ("fsync", self.flush),
            ("norandommap", self.independent),
            ("refill_buffers", self.refill),
        ] {
            if wanted {
                add(name, "1".to_string());
            }
        }
        if let Some(rate) = self.rate {
            add("rate_iops", format!("{rate},{rate}"));
        }
        if let Some(window) = self.window {
            add("write_hist_log", "window".to_string());
            add("log_hist_msec", window.as_millis().to_string());
        }
        for target in std::iter::once(self.target).chain(self.others) {
            arguments.push("--name=bench".to_string());
            arguments.push(match target {
                Target::File(path) => format!("--filename={}", path.display()),
                Target::Nbd { socket, export } => {
                    format!("--uri=nbd+unix:///{export}?socket={}", socket.display())
                }
            });
        }
        arguments
    }

    /// Runs it, with its files in `directory`.
    pub(crate) fn run(&self, directory: &Path) -> Result<FioReport> {
        let output = directory.join("fio.json");
        let log = directory.join("fio.log");
        let windows = directory.join("window_clat_hist.1.log");
        for file in [&output, &windows] {
            if file.exists() {
                std::fs::remove_file(file).map_err(BenchError::file(file))?;
            }
        }
        let mut process = Process::spawn(&self.arguments(&output), directory, &log)?;
        let success = process.wait(self.limit()).map_err(|e| match e {
            BenchError::Setup(text) => BenchError::Fio(text),
            other => other,
        })?;
        if !success {
            return Err(BenchError::Fio(complaint(&log, &output)));
        }
        let text = std::fs::read_to_string(&output).map_err(BenchError::file(&output))?;
        let mut report = fio_output::parse(&text).map_err(BenchError::Fio)?;
        if self.window.is_some() {
            report.windows = read_windows(&windows)?;
        }
        Ok(report)
    }
}

fn read_windows(log: &PathBuf) -> Result<Vec<Window>> {
    let text = std::fs::read_to_string(log).map_err(BenchError::file(log))?;
    fio_output::parse_histogram_log(&text).map_err(BenchError::Fio)
}

/// What fio says went wrong: a line of its own, else the error number in its report.
fn complaint(log: &Path, output: &Path) -> String {
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let report = read(output);
    let text = read(log) + "\n" + &report;
    for mark in ["error=", "fio: "] {
        if let Some(line) = text.lines().find(|l| l.contains(mark)) {
            return line.split(mark).last().unwrap_or(line).trim_matches([' ', ',', ':']).to_string();
        }
    }
    fio_output::parse(&report).err().unwrap_or_else(|| "ended with an error and said nothing".to_string())
}

/// Fails with what to install when fio or its NBD engine is missing.
pub(crate) fn check_installed() -> Result<String> {
    let ask = |argument: &str| std::process::Command::new("fio").arg(argument).output();
    let version =
        ask("--version").map_err(|e| BenchError::Setup(format!("fio does not run ({e}): install fio")))?;
    let engine = ask("--enghelp=nbd").map_err(|e| BenchError::Setup(format!("fio does not run: {e}")))?;
    if !String::from_utf8_lossy(&engine.stdout).contains("uri") {
        return Err(BenchError::Setup(
            "this fio has no nbd engine: install one built with libnbd".to_string(),
        ));
    }
    Ok(String::from_utf8_lossy(&version.stdout).trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_what_the_job_says() {
        let target = Target::Nbd { socket: "/s".into(), export: "bench".into() };
        let end = End::Time(Duration::from_millis(1500));
        let mut job = Job::random_writes(&target, 1 << 30, 32, end, 7);
        job.flush = true;
        let line = job.arguments(Path::new("/o")).join(" ");
        let parts = [
            "--uri=nbd+unix:///bench?socket=/s",
            "--rw=randwrite",
            "--bs=4096",
            "--runtime=1500ms",
            "--fsync=1",
            "--norandommap=1",
        ];
        for part in parts {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(!line.contains("ramp_time") && !line.contains("refill") && !line.contains("rate_iops"));
        job.rate = Some(500);
        assert!(job.arguments(Path::new("/o")).join(" ").contains("--rate_iops=500,500"));
        let others = [Target::Nbd { socket: "/s".into(), export: "other".into() }];
        job.others = &others;
        let line = job.arguments(Path::new("/o")).join(" ");
        assert!(line.ends_with("bench?socket=/s --name=bench --uri=nbd+unix:///other?socket=/s"), "{line}");
    }

    #[test]
    fn an_amount_of_bytes_has_a_time_limit_too() {
        let target = Target::File("/x".into());
        assert_eq!(Job::fill(&target, 2 << 30).limit(), Duration::from_secs(1024 + 60));
    }
}

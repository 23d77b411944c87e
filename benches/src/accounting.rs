//! What processes have used: CPU time, memory and bytes written, from `/proc`.

use std::collections::HashSet;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::disk::Disk;

/// Distance of two samples. Each costs a walk through `/proc`, about 2 ms.
const INTERVAL: Duration = Duration::from_millis(200);

/// One process as `/proc/PID/stat` shows it.
#[derive(Debug, PartialEq)]
struct Entry {
    pid: u32,
    parent: u32,
    /// User and system time of all its threads and of the children it has waited for, in clock ticks.
    ticks: u64,
}

/// The state of the server under test, the harness and the rest of the machine at one moment. All sums run over
/// a process and its descendants; counters are totals since their start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// Milliseconds since 1970.
    pub(crate) at_ms: f64,
    /// CPU time of the server, microseconds.
    pub(crate) cpu_us: f64,
    /// Bytes the server caused to be written to storage.
    pub(crate) written: u64,
    /// Resident memory of the server, bytes.
    pub(crate) resident: u64,
    /// Highest resident memory of the server so far, bytes.
    pub(crate) resident_peak: u64,
    /// Bytes written to the whole disk under the benchmark's directory, by anybody.
    pub(crate) disk_written: u64,
    /// CPU time of user processes that do not belong to the harness, microseconds.
    pub(crate) foreign_cpu_us: f64,
}

fn parse_stat(text: &str) -> Option<Entry> {
    let pid = text.split(' ').next()?.parse().ok()?;
    // The name is in parentheses and may hold spaces and parentheses itself.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let times = fields.get(11..15)?;
    let ticks = times.iter().filter_map(|t| t.parse::<u64>().ok()).sum();
    Some(Entry { pid, parent, ticks })
}

fn processes() -> Vec<Entry> {
    let Ok(listing) = std::fs::read_dir("/proc") else { return Vec::new() };
    listing
        .flatten()
        .filter(|e| e.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter_map(|e| std::fs::read_to_string(e.path().join("stat")).ok())
        .filter_map(|text| parse_stat(&text))
        .collect()
}

/// `root` and everything below it.
fn family(all: &[Entry], root: u32) -> HashSet<u32> {
    let mut members = HashSet::from([root]);
    loop {
        let before = members.len();
        members.extend(all.iter().filter(|e| members.contains(&e.parent)).map(|e| e.pid).collect::<Vec<_>>());
        if members.len() == before {
            return members;
        }
    }
}

/// The number behind `name` in a file of `name value` lines, in the file's own unit.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

fn tick_us() -> f64 {
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1e6 / per_second.max(1) as f64
}

/// Looks once. `server` is the root process of the server under test, if there is one.
pub(crate) fn sample(server: Option<u32>, disk: &Disk) -> Sample {
    const KERNEL_THREADS: u32 = 2;
    let all = processes();
    let own = family(&all, std::process::id());
    let tested = server.map(|pid| family(&all, pid)).unwrap_or_default();
    let tick = tick_us();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut sample =
        Sample { at_ms: now.as_secs_f64() * 1e3, disk_written: disk.written(), ..Sample::default() };
    for entry in &all {
        if tested.contains(&entry.pid) {
            sample.cpu_us += entry.ticks as f64 * tick;
            let io = std::fs::read_to_string(format!("/proc/{}/io", entry.pid)).unwrap_or_default();
            sample.written += field(&io, "write_bytes:");
            let status = std::fs::read_to_string(format!("/proc/{}/status", entry.pid)).unwrap_or_default();
            sample.resident += field(&status, "VmRSS:") << 10;
            sample.resident_peak += field(&status, "VmHWM:") << 10;
        }
        let kernel = entry.pid == KERNEL_THREADS || entry.parent == KERNEL_THREADS;
        if !kernel && !own.contains(&entry.pid) {
            sample.foreign_cpu_us += entry.ticks as f64 * tick;
        }
    }
    sample
}

/// One process at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// CPU time of its threads since its start, microseconds.
    pub(crate) cpu_us: f64,
    /// Resident memory, bytes.
    pub(crate) resident: u64,
    /// Resident memory with what it shares divided among those who share it, bytes.
    pub(crate) proportional: u64,
}

/// Looks at the process `pid` alone; `None`: there is none.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let ticks = parse_stat(&read("stat")?)?.ticks;
    let rollup = read("smaps_rollup").unwrap_or_default();
    Some(Usage {
        cpu_us: ticks as f64 * tick_us(),
        resident: field(&rollup, "Rss:") << 10,
        proportional: field(&rollup, "Pss:") << 10,
    })
}

/// A thread that samples until it is stopped.
#[derive(Debug)]
pub(crate) struct Sampler {
    stop: mpsc::SyncSender<()>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// Begins to sample the server with root process `server`.
    pub(crate) fn start(server: Option<u32>, disk: &Disk) -> Sampler {
        let (stop, stopped) = mpsc::sync_channel(0);
        let disk = disk.clone();
        let thread = std::thread::spawn(move || {
            let mut samples = vec![sample(server, &disk)];
            while stopped.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                samples.push(sample(server, &disk));
            }
            samples.push(sample(server, &disk));
            samples
        });
        Sampler { stop, thread }
    }

    /// Ends the sampling and gives the samples in order of time.
    pub(crate) fn stop(self) -> Vec<Sample> {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

/// Growth of a counter between two moments (milliseconds since 1970), linear between samples.
/// `None` when the samples do not cover the time.
pub(crate) fn growth(
    samples: &[Sample],
    from: f64,
    to: f64,
    counter: impl Fn(&Sample) -> f64,
) -> Option<f64> {
    let at = |moment: f64| -> Option<f64> {
        let after = samples.iter().position(|s| s.at_ms >= moment)?;
        let (Some(a), b) = (samples.get(after.checked_sub(1)?), &samples[after]) else { return None };
        let share = if b.at_ms > a.at_ms { (moment - a.at_ms) / (b.at_ms - a.at_ms) } else { 1.0 };
        Some(counter(a) + (counter(b) - counter(a)) * share)
    };
    Some((at(to)? - at(from)?).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line_with_a_difficult_name() {
        let line = "77 (a ) b) S 5 77 77 0 -1 4194368 253 602 2 0 9 4 15 249 20 0 1 0 160698 12328960 1027";
        assert_eq!(parse_stat(line), Some(Entry { pid: 77, parent: 5, ticks: 9 + 4 + 15 + 249 }));
        assert_eq!(parse_stat("77 (short) S 5"), None);
    }

    #[test]
    fn family_reaches_grandchildren_in_any_order() {
        let entry = |pid, parent| Entry { pid, parent, ticks: 0 };
        let all = [entry(4, 3), entry(3, 2), entry(2, 1), entry(9, 1)];
        assert_eq!(family(&all, 2), HashSet::from([2, 3, 4]));
    }

    #[test]
    fn growth_interpolates() {
        let samples: Vec<Sample> = [(0.0, 0.0), (100.0, 50.0), (200.0, 150.0)]
            .map(|(at_ms, cpu_us)| Sample { at_ms, cpu_us, ..Sample::default() })
            .into();
        assert_eq!(growth(&samples, 50.0, 150.0, |s| s.cpu_us), Some(75.0));
        assert_eq!(growth(&samples, 50.0, 250.0, |s| s.cpu_us), None);
    }

    #[test]
    fn own_process_is_seen() {
        let disk = Disk::of(&std::env::current_dir().unwrap()).unwrap();
        let seen = sample(Some(std::process::id()), &disk);
        assert!(seen.resident > 0 && seen.resident_peak >= seen.resident / 2);
        assert!(seen.at_ms > 1e12);
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.resident >= usage.proportional && usage.proportional > 0, "{usage:?}");
        assert_eq!(super::usage(0), None);
    }
}

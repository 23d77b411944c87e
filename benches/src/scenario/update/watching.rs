//! Processes that wait for updates and have nothing else to do: what each takes for itself and of the store.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::UpdateCourse;
use super::client::problem;
use super::fleet::Fleet;
use crate::accounting::{Usage, usage};
use crate::error::Result;
use crate::interrupt::pause;
use crate::workspace::Workspace;

/// From the last start until looking begins.
const CALM: Duration = Duration::from_secs(3);
/// How long the store may take to say its metrics.
const LIMIT: Duration = Duration::from_secs(10);
/// How the store counts watch streams.
const STREAMS: &str = "ovs_cfg_watch_streams";

/// So many idle processes on one store.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Idle {
    pub(super) processes: usize,
    /// Watch streams that the store has.
    pub(super) streams: f64,
    /// Processor time of the store, milliseconds a second.
    pub(super) store_cpu_ms: f64,
    /// Resident memory of the store, bytes.
    pub(super) store_resident: u64,
    /// Processor time of a process, milliseconds a second; the mean of all.
    pub(super) process_cpu_ms: f64,
    /// Memory of a process, what it shares divided among those who share it, bytes; the mean of all.
    pub(super) process_proportional: f64,
    /// Resident memory of a process, bytes; the mean of all.
    pub(super) process_resident: f64,
}

/// Looks at the processes that there are.
pub(super) fn run(workspace: &Workspace, course: &UpdateCourse, fleet: &mut Fleet) -> Result<Idle> {
    workspace.calm(false)?;
    pause(CALM)?;
    let look = |pid: u32| usage(pid).ok_or_else(|| problem(format!("process {pid} has ended")));
    let store = fleet.store_pid().ok_or_else(|| problem("the store has ended"))?;
    let pids = fleet.pids();
    let all = || -> Result<(Instant, Usage, Vec<Usage>)> {
        let began = Instant::now();
        Ok((began, look(store)?, pids.iter().map(|pid| look(*pid)).collect::<Result<_>>()?))
    };
    let (began, store_before, before) = all()?;
    pause(course.idle)?;
    let (ended, store_after, after) = all()?;
    fleet.check_alive()?;
    let seconds = (ended - began).as_secs_f64();
    let count = pids.len().max(1) as f64;
    let cpu_ms = |before: &Usage, after: &Usage| (after.cpu_us - before.cpu_us) / 1e3 / seconds;
    let idle = Idle {
        processes: pids.len(),
        streams: metric(&fleet.url(), STREAMS)?,
        store_cpu_ms: cpu_ms(&store_before, &store_after),
        store_resident: store_after.resident,
        process_cpu_ms: before.iter().zip(&after).map(|(b, a)| cpu_ms(b, a)).sum::<f64>() / count,
        process_proportional: after.iter().map(|a| a.proportional as f64).sum::<f64>() / count,
        process_resident: after.iter().map(|a| a.resident as f64).sum::<f64>() / count,
    };
    eprintln!("{} idle processes looked at", idle.processes);
    Ok(idle)
}

/// One number of the metrics at `url`.
fn metric(url: &str, name: &str) -> Result<f64> {
    let address = url.trim_start_matches("http://");
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.write_all(
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|e| problem(format!("{url}/metrics: {e}")))?;
    value(&text, name).ok_or_else(|| problem(format!("{url}/metrics has no {name}")))
}

/// The value of a metric without labels.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE ovs_cfg_watch_streams gauge\r\novs_cfg_watch_streams_all 9\n\
                    ovs_cfg_watch_streams 400\n";
        assert_eq!(value(text, STREAMS), Some(400.0));
        assert_eq!(value(text, "ovs_cfg_watch"), None);
    }
}

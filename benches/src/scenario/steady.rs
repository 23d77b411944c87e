//! Steady state: a full volume with little local space, overwritten at random several times over.
//!
//! A log-structured store is fast while it is fresh; what it does when space has to come back decides. Each window
//! of the overwriting is compared with the first one of the fresh, full volume.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::compare::fill;
use crate::error::{BenchError, Result};
use crate::fio::{End, Job};
use crate::fio_output::Window;
use crate::machine::Machine;
use crate::measure::observe;
use crate::report::lines::{LinePanel, draw};
use crate::report::markdown::Table;
use crate::report::write_json;
use crate::scenario::{origin, prepare, subject};
use crate::units::{GIB, number, rough_size, shown_size};
use crate::workspace::Workspace;

const DEPTH: u32 = 32;

/// How the run goes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Course {
    /// Bytes overwritten, in sizes of the volume.
    pub(crate) passes: u64,
    /// Length of a window, seconds.
    pub(crate) window_s: u64,
    /// Local space, in percent of the volume's size.
    pub(crate) local_percent: u64,
}

#[derive(Debug, Serialize)]
struct Steady {
    machine: Machine,
    course: Course,
    peer: String,
    size: u64,
    /// Bytes of local space; `None` where the peer has no such limit.
    local_limit: Option<u64>,
    /// The fresh, full volume at depth 32.
    fresh: Window,
    /// The overwriting at depth 32.
    windows: Vec<Window>,
    /// After it, at depth 1.
    depth_1: Window,
    /// Bytes that fio wrote while overwriting.
    payload: u64,
    /// Bytes the server caused to be written meanwhile, a byte of payload.
    written_per_byte: Option<f64>,
    /// Bytes anybody wrote to the disk meanwhile, a byte of payload.
    disk_written_per_byte: f64,
    /// CPU time of the server, microseconds an I/O.
    cpu_us_per_io: Option<f64>,
    /// Highest resident memory of the server, bytes.
    resident: u64,
}

/// Runs it and writes `steady.json`, `steady.md` and `steady.svg`.
pub(crate) fn run(workspace: &Workspace, course: &Course) -> Result<()> {
    let steady = measure(workspace, course)?;
    write_json(workspace, "steady.json", &steady)?;
    workspace.write("steady.svg", &picture(&steady, &origin(workspace)))?;
    let text = steady.markdown(&origin(workspace));
    workspace.write("steady.md", &text)?;
    println!("{text}");
    Ok(())
}

fn measure(workspace: &Workspace, course: &Course) -> Result<Steady> {
    let size = workspace.options.size_or(4 * GIB);
    workspace.need_space(size * 3)?;
    let (peer, mut plan) = subject(workspace, size)?;
    let local_limit = (!peer.limited_files.is_empty()).then(|| size * course.local_percent / 100);
    plan.local_limit = local_limit;
    let mut instance = prepare(workspace, plan)?;
    instance.start()?;
    let speed = fill(workspace, &mut instance)?;
    eprintln!("{}: filled with {} at {} MB/s", peer.name, shown_size(size), number(speed));
    workspace.calm(false)?;

    let window = Duration::from_secs(course.window_s.max(1));
    let target = instance.target()?.clone();
    let (disk, directory) = (&workspace.disk, &workspace.directory);
    // Until half of the spare space is used: nothing has to be moved yet.
    let end = local_limit.map_or(End::Time(window), |limit| End::Bytes(limit.saturating_sub(size) / 2));
    let job = Job::random_writes(&target, size, DEPTH, end, 11);
    let fresh = whole_run(&observe(&mut instance, &job, disk, directory)?.0.write, 0.0);
    eprintln!(
        "fresh: {} IOPS, p99 {} us; now {} passes at depth {DEPTH}",
        number(fresh.iops),
        number(fresh.p99_us),
        course.passes
    );

    let end = End::Bytes(size.saturating_mul(course.passes));
    let job = Job { window: Some(window), ..Job::random_writes(&target, size, DEPTH, end, 12) };
    let (report, samples) = observe(&mut instance, &job, disk, directory)?;
    let windows =
        if report.windows.is_empty() { vec![whole_run(&report.write, 0.0)] } else { report.windows.clone() };
    let job = Job::random_writes(&target, size, 1, End::Time(window), 13);
    let depth_1 = whole_run(&observe(&mut instance, &job, disk, directory)?.0.write, 0.0);

    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Err(BenchError::Setup("the server was not sampled".to_string()));
    };
    let payload = report.write.bytes;
    let per_byte = |bytes: u64| bytes as f64 / payload.max(1) as f64;
    let has_server = instance.pid().is_some();
    Ok(Steady {
        machine: workspace.machine.clone(),
        course: *course,
        peer: peer.name,
        size,
        local_limit,
        fresh,
        windows,
        depth_1,
        payload,
        written_per_byte: has_server.then(|| per_byte(last.written.saturating_sub(first.written))),
        disk_written_per_byte: per_byte(last.disk_written.saturating_sub(first.disk_written)),
        cpu_us_per_io: has_server.then(|| (last.cpu_us - first.cpu_us) / report.write.ios.max(1) as f64),
        resident: samples.iter().map(|s| s.resident).max().unwrap_or(0),
    })
}

/// A whole run as one window.
fn whole_run(writes: &crate::fio_output::Direction, from_s: f64) -> Window {
    Window {
        from_s,
        length_s: writes.runtime_ms / 1e3,
        iops: writes.iops,
        p50_us: writes.latency.p50_us,
        p99_us: writes.latency.p99_us,
    }
}

impl Steady {
    /// IOPS and p99 of a window over those of the fresh volume.
    fn ratios(&self, window: &Window) -> (f64, f64) {
        (window.iops / self.fresh.iops.max(1e-9), window.p99_us / self.fresh.p99_us.max(1e-9))
    }

    fn limit_text(&self) -> String {
        self.local_limit.map_or("not limited".to_string(), shown_size)
    }

    fn markdown(&self, origin: &str) -> String {
        let mut out = format!("# Steady state of {}\n\n{origin}.\n\n", self.peer);
        let _ = writeln!(
            out,
            "Volume of {}, local space {}; filled, then {} passes of 4 KiB random writes at depth {DEPTH}, \
             in windows of {} s.\n",
            shown_size(self.size),
            self.limit_text(),
            self.course.passes,
            self.course.window_s
        );
        let mut table = Table::new(["window", "IOPS", "to fresh", "p50 us", "p99 us", "p99 to fresh"]);
        let mut row = |name: String, window: &Window| {
            let (iops, p99) = self.ratios(window);
            let ratio = |r: f64| format!("{r:.2}x");
            table.row([
                name,
                number(window.iops),
                ratio(iops),
                number(window.p50_us),
                number(window.p99_us),
                ratio(p99),
            ]);
        };
        row("fresh".to_string(), &self.fresh);
        for (index, window) in self.windows.iter().enumerate() {
            row((index + 1).to_string(), window);
        }
        out.push_str(&table.text());
        let lowest = self.windows.iter().map(|w| self.ratios(w).0).fold(f64::INFINITY, f64::min);
        let highest = self.windows.iter().map(|w| self.ratios(w).1).fold(0.0, f64::max);
        let _ = writeln!(
            out,
            "\n* Lowest IOPS of a window: {lowest:.2}x fresh; highest p99: {highest:.2}x fresh."
        );
        let written = self.written_per_byte.map_or("-".to_string(), number);
        let _ = writeln!(
            out,
            "* Bytes written a byte of payload: {written} by the server, {} to the whole disk.",
            number(self.disk_written_per_byte)
        );
        let _ = writeln!(
            out,
            "* Depth 1 afterwards: {} IOPS, p50 {} us, p99 {} us.",
            number(self.depth_1.iops),
            number(self.depth_1.p50_us),
            number(self.depth_1.p99_us)
        );
        let cpu = self.cpu_us_per_io.map_or("-".to_string(), number);
        let _ = writeln!(
            out,
            "* Server: {cpu} us of CPU an I/O, {} resident at most.",
            rough_size(self.resident)
        );
        out
    }
}

fn picture(steady: &Steady, origin: &str) -> String {
    let points = |figure: &dyn Fn(&Window) -> f64| -> Vec<(f64, f64)> {
        steady.windows.iter().map(|w| ((w.from_s + w.length_s / 2.0) / 60.0, figure(w))).collect()
    };
    let panels = [
        LinePanel {
            title: "I/Os a second".to_string(),
            points: points(&|w| w.iops),
            rule: Some((steady.fresh.iops, "fresh, full volume".to_string())),
        },
        LinePanel {
            title: "p99 latency, microseconds".to_string(),
            points: points(&|w| w.p99_us),
            rule: Some((steady.fresh.p99_us, "fresh, full volume".to_string())),
        },
    ];
    let title = format!("Steady state of {}: 4 KiB random writes, depth {DEPTH}", steady.peer);
    let subtitle =
        format!("volume {}, local space {}; {origin}", shown_size(steady.size), steady.limit_text());
    draw(&title, &subtitle, "minutes", &panels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Steady {
        let window = |from_s: f64, iops: f64, p99_us: f64| Window {
            from_s,
            length_s: 60.0,
            iops,
            p50_us: 500.0,
            p99_us,
        };
        Steady {
            machine: Machine::default(),
            course: Course { passes: 5, window_s: 60, local_percent: 150 },
            peer: "ovs".to_string(),
            size: 4 << 30,
            local_limit: Some(6 << 30),
            fresh: window(0.0, 40_000.0, 1000.0),
            windows: vec![window(0.0, 38_000.0, 1100.0), window(60.0, 20_000.0, 3000.0)],
            depth_1: window(0.0, 9000.0, 150.0),
            payload: 20 << 30,
            written_per_byte: Some(2.1),
            disk_written_per_byte: 2.25,
            cpu_us_per_io: Some(14.0),
            resident: 300 << 20,
        }
    }

    #[test]
    fn every_window_is_compared_with_the_fresh_one() {
        let text = example().markdown("a machine");
        for part in [
            "0.95x",
            "3.00x",
            "Lowest IOPS of a window: 0.50x fresh",
            "local space 6 GiB",
            "p99 150 us",
            "2.10 by the server",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_picture_has_both_lines() {
        let picture = picture(&example(), "a machine");
        assert_eq!(picture.matches("<polyline").count(), 2);
        assert_eq!(picture.matches("fresh, full volume").count(), 2);
    }
}

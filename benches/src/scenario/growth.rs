//! Cost as the work grows: the same short run at more I/Os in flight, beside more volumes, on larger volumes.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::compare::{fill, sides};
use crate::error::{BenchError, Result};
use crate::fio::{End, Job};
use crate::machine::Machine;
use crate::measure::observe;
use crate::options::Growing;
use crate::peers::Peer;
use crate::progress::Progress;
use crate::report::curves::{Across, CurvePanel, Series, draw};
use crate::report::markdown::Table;
use crate::report::write_json;
use crate::scenario::{origin, prepare};
use crate::server::{Allocation, Instance};
use crate::stats::summarise;
use crate::units::{GIB, MIB, number, rough_size, shown_size};
use crate::workload::Pattern;
use crate::workspace::Workspace;

/// Who is measured beside the subject when nobody is asked for.
const PEERS: [&str; 3] = ["raw", "qsd-raw", "nbdkit-file"];
const DEPTHS: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
const VOLUMES: [u64; 4] = [1, 10, 100, 1000];
const SIZES: [u64; 6] = [GIB, 4 * GIB, 16 * GIB, 64 * GIB, 256 * GIB, 1024 * GIB];
/// I/Os in flight where something else grows.
const DEPTH: u32 = 32;
/// Speed of random writes that no side reaches, bytes a second; only for the estimate of disk space.
const FASTEST: f64 = 1e9;
const START_LIMIT: Duration = Duration::from_secs(900);

/// One side at one value of what grows: medians of the repeats.
#[derive(Clone, Debug, Serialize)]
struct Point {
    /// Name of the side.
    side: String,
    /// Kind of the I/Os.
    pattern: Pattern,
    /// I/Os in flight, volumes, or bytes.
    at: u64,
    iops: f64,
    p50_us: f64,
    p99_us: f64,
    /// CPU time of the server, microseconds an I/O; `None` without a server.
    cpu_us_per_io: Option<f64>,
    /// Highest resident memory of the server, bytes; `None` without a server.
    resident: Option<f64>,
    /// Time of the start, milliseconds; `None` where it was not taken.
    ready_ms: Option<f64>,
}

/// What was measured of one thing that grows.
#[derive(Debug, Serialize)]
struct Growth {
    machine: Machine,
    /// `depth`, `volumes` or `size`.
    name: &'static str,
    /// In words.
    title: String,
    points: Vec<Point>,
    /// Sides that did not work, and why.
    problems: Vec<String>,
}

/// Runs those of `of` and writes `growth-NAME.json`, `.md` and `.svg` of each.
pub(crate) fn run(workspace: &Workspace, of: &[Growing]) -> Result<()> {
    for growing in of {
        let growth = match growing {
            Growing::Depth => depths(workspace)?,
            Growing::Volumes => volumes(workspace)?,
            Growing::Size => sizes(workspace)?,
        };
        let name = format!("growth-{}", growth.name);
        write_json(workspace, &format!("{name}.json"), &growth)?;
        workspace.write(&format!("{name}.svg"), &growth.picture(&origin(workspace)))?;
        let text = growth.markdown(&origin(workspace));
        workspace.write(&format!("{name}.md"), &text)?;
        println!("{text}");
    }
    Ok(())
}

/// A short run: fio's figures and the server's.
fn measure(
    workspace: &Workspace,
    instance: &mut Instance,
    pattern: Pattern,
    depth: u32,
    seed: u64,
) -> Result<Point> {
    workspace.calm(pattern.reads())?;
    let target = instance.target()?.clone();
    let time = workspace.options.runtime();
    let base = Job::random_writes(&target, instance.size(), depth, End::Time(time), seed);
    let job = Job { pattern, ramp: time / 4, ..base };
    let (report, samples) = observe(instance, &job, &workspace.disk, &workspace.directory)?;
    let direction = if pattern.reads() { &report.read } else { &report.write };
    let has_server = instance.pid().is_some();
    let cpu = match (samples.first(), samples.last()) {
        // The ramp's I/Os cost as much as those that counted: both are in the time of the process.
        (Some(first), Some(last)) if has_server && direction.runtime_ms > 0.0 => {
            let busy = (last.cpu_us - first.cpu_us) / (direction.runtime_ms + job.ramp.as_secs_f64() * 1e3);
            Some(busy * 1e3 / direction.iops.max(1e-9))
        }
        _ => None,
    };
    let resident = samples.iter().map(|s| s.resident).max().filter(|_| has_server);
    Ok(Point {
        side: instance.name().to_string(),
        pattern,
        at: 0,
        iops: direction.iops,
        p50_us: direction.latency.p50_us,
        p99_us: direction.latency.p99_us,
        cpu_us_per_io: cpu,
        resident: resident.map(|bytes| bytes as f64),
        ready_ms: None,
    })
}

/// The medians of repeats of one point.
fn middle(points: &[Point]) -> Option<Point> {
    let median = |figure: &dyn Fn(&Point) -> Option<f64>| {
        summarise(&points.iter().filter_map(figure).collect::<Vec<f64>>()).map(|s| s.median)
    };
    Some(Point {
        iops: median(&|p| Some(p.iops))?,
        p50_us: median(&|p| Some(p.p50_us))?,
        p99_us: median(&|p| Some(p.p99_us))?,
        cpu_us_per_io: median(&|p| p.cpu_us_per_io),
        resident: median(&|p| p.resident),
        ready_ms: median(&|p| p.ready_ms),
        ..points.first()?.clone()
    })
}

/// Everybody who starts, filled; and who does not, with the reason.
fn start_sides(workspace: &Workspace, size: u64) -> Result<(Vec<Instance>, Vec<String>)> {
    let (mut instances, mut problems) = (Vec::new(), Vec::new());
    for peer in sides(workspace, &PEERS)? {
        let started = workspace.plan(&peer, &peer.name, size).and_then(|plan| {
            let mut instance = prepare(workspace, plan)?;
            instance.start()?;
            fill(workspace, &mut instance).map(|_| instance)
        });
        match started {
            Ok(instance) => instances.push(instance),
            Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
            Err(e) => problems.push(e.to_string()),
        }
    }
    Ok((instances, problems))
}

fn depths(workspace: &Workspace) -> Result<Growth> {
    let size = workspace.options.size_or(2 * GIB);
    workspace.need_space(size * 8)?;
    let (mut instances, problems) = start_sides(workspace, size)?;
    let repeats = workspace.options.repeats();
    let each = workspace.options.runtime() * 5 / 4 + Duration::from_secs(1);
    let steps = DEPTHS.len() * 2 * instances.len();
    let mut progress = Progress::new(steps, each * (steps * repeats) as u32);
    let mut points = Vec::new();
    for pattern in [Pattern::RandWrite, Pattern::RandRead] {
        for depth in DEPTHS {
            let mut runs = vec![Vec::new(); instances.len()];
            for repeat in 0..repeats {
                for (instance, runs) in instances.iter_mut().zip(&mut runs) {
                    let seed = 1000 * depth + repeat as u64;
                    runs.push(Point {
                        at: depth,
                        ..measure(workspace, instance, pattern, depth as u32, seed)?
                    });
                }
            }
            for point in runs.iter().filter_map(|runs| middle(runs)) {
                let what = format!(
                    "{} {} depth {depth}: {} IOPS",
                    point.side,
                    pattern.fio_name(),
                    number(point.iops)
                );
                progress.finish(each * repeats as u32, &what);
                points.push(point);
            }
        }
    }
    let title = format!("4 KiB at random on volumes of {}, by I/Os in flight", shown_size(size));
    Ok(Growth { machine: workspace.machine.clone(), name: "depth", title, points, problems })
}

/// Disk space that a run on a new, sparse volume takes: what the fastest side writes in its time, and its log.
fn space_of_a_run(workspace: &Workspace) -> u64 {
    let time = workspace.options.runtime() * 5 / 4;
    GIB + 3 * (time.as_secs_f64() * FASTEST) as u64
}

/// A side that is started anew for each value: one point of it.
fn started(
    workspace: &Workspace,
    peer: &Peer,
    size: u64,
    arguments: Vec<String>,
    seed: u64,
) -> Result<Point> {
    let mut plan = workspace.plan(peer, &peer.name, size)?;
    plan.allocation = Allocation::Sparse;
    plan.first_arguments = arguments;
    let mut instance = prepare(workspace, plan)?;
    instance.allow_start(START_LIMIT);
    let times = instance.start()?;
    let point = measure(workspace, &mut instance, Pattern::RandWrite, DEPTH, seed)?;
    Ok(Point { ready_ms: Some(times.ready.as_secs_f64() * 1e3), ..point })
}

fn volumes(workspace: &Workspace) -> Result<Growth> {
    if workspace.options.subject != "ovs" {
        return Err(BenchError::Setup("only ovs serves many volumes here: leave --subject out".to_string()));
    }
    let peer = workspace.peer("ovs")?.clone();
    let size = workspace.options.size_or(GIB);
    workspace.need_space(space_of_a_run(workspace))?;
    let mut points = Vec::new();
    for count in VOLUMES {
        let mut runs = Vec::new();
        for repeat in 0..workspace.options.repeats() {
            let others = (1..count).flat_map(|i| ["--volume".to_string(), format!("idle-{i:05}={size}")]);
            let point = started(workspace, &peer, size, others.collect(), 1 + repeat as u64)?;
            runs.push(Point { at: count, ..point });
        }
        points.extend(middle(&runs));
        eprintln!("{count} volumes: done");
    }
    let title = format!(
        "4 KiB random writes at depth {DEPTH} to one new volume of {}, by volumes of the same ovs",
        shown_size(size)
    );
    Ok(Growth { machine: workspace.machine.clone(), name: "volumes", title, points, problems: Vec::new() })
}

fn sizes(workspace: &Workspace) -> Result<Growth> {
    workspace.need_space(space_of_a_run(workspace))?;
    let largest = workspace.options.size.unwrap_or(u64::MAX);
    let (mut points, mut problems) = (Vec::new(), Vec::new());
    let peers = sides(workspace, &PEERS)?;
    for size in SIZES.into_iter().filter(|size| *size <= largest) {
        let mut runs = vec![Vec::new(); peers.len()];
        for repeat in 0..workspace.options.repeats() {
            for (peer, runs) in peers.iter().zip(&mut runs) {
                match started(workspace, peer, size, Vec::new(), 1 + repeat as u64) {
                    Ok(point) => runs.push(Point { at: size, ..point }),
                    Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
                    Err(e) => problems.push(format!("{}: {e}", shown_size(size))),
                }
            }
        }
        points.extend(runs.iter().filter_map(|runs| middle(runs)));
        eprintln!("{}: done", shown_size(size));
    }
    problems.dedup();
    let title = format!("4 KiB random writes at depth {DEPTH} all over a new, sparse volume, by its size");
    Ok(Growth { machine: workspace.machine.clone(), name: "size", title, points, problems })
}

impl Growth {
    fn label(&self, at: u64) -> String {
        if self.name == "size" { shown_size(at) } else { number(at as f64) }
    }

    fn across(&self) -> Across {
        let mut values: Vec<u64> = self.points.iter().map(|p| p.at).collect();
        values.sort_unstable();
        values.dedup();
        let title = match self.name {
            "depth" => "I/Os in flight",
            "volumes" => "volumes",
            _ => "size of the volume",
        };
        Across {
            title: title.to_string(),
            values: values.into_iter().map(|at| (at as f64, self.label(at))).collect(),
        }
    }

    /// Names of the sides in the order in which they were measured.
    fn sides(&self) -> Vec<&str> {
        let mut sides = Vec::new();
        for point in &self.points {
            if !sides.contains(&point.side.as_str()) {
                sides.push(point.side.as_str());
            }
        }
        sides
    }

    fn panel(&self, title: &str, logarithmic: bool, figure: impl Fn(&Point) -> Option<f64>) -> CurvePanel {
        let line = |side: &str| Series {
            name: side.to_string(),
            points: self
                .points
                .iter()
                .filter(|p| p.side == side)
                .filter_map(|p| Some((p.at as f64, figure(p)?)))
                .collect(),
        };
        let series = self.sides().into_iter().map(line).collect();
        CurvePanel { title: title.to_string(), series, logarithmic }
    }

    fn picture(&self, origin: &str) -> String {
        let of = |pattern: Pattern, figure: fn(&Point) -> f64| {
            move |p: &Point| (p.pattern == pattern).then(|| figure(p))
        };
        let memory = |p: &Point| p.resident.map(|bytes| bytes / MIB as f64);
        let mut panels = vec![
            self.panel("Random writes, I/Os a second", false, of(Pattern::RandWrite, |p| p.iops)),
            self.panel("Random writes, p99 latency, us", true, of(Pattern::RandWrite, |p| p.p99_us)),
        ];
        if self.points.iter().any(|p| p.pattern == Pattern::RandRead) {
            panels.push(self.panel("Random reads, I/Os a second", false, of(Pattern::RandRead, |p| p.iops)));
            panels.push(self.panel(
                "Random reads, p99 latency, us",
                true,
                of(Pattern::RandRead, |p| p.p99_us),
            ));
        } else {
            panels.push(self.panel("Resident memory of the server, MiB", true, memory));
            panels.push(self.panel("Start, ms", true, |p| p.ready_ms.filter(|_| p.resident.is_some())));
        }
        draw(&self.title, origin, &self.across(), &panels)
    }

    fn markdown(&self, origin: &str) -> String {
        let mut out = format!("# {}\n\n{origin}.\n\n", self.title);
        let across = self.across().title;
        let headings =
            [&across, "side", "I/Os", "IOPS", "p50 us", "p99 us", "CPU us/IO", "resident", "start ms"];
        let mut table = Table::new(headings);
        for point in &self.points {
            let or_dash = |value: Option<f64>| value.map_or("-".to_string(), number);
            table.row([
                self.label(point.at),
                point.side.clone(),
                point.pattern.fio_name().to_string(),
                number(point.iops),
                number(point.p50_us),
                number(point.p99_us),
                or_dash(point.cpu_us_per_io),
                point.resident.map_or("-".to_string(), |bytes| rough_size(bytes as u64)),
                or_dash(point.ready_ms),
            ]);
        }
        out.push_str(&table.text());
        for problem in &self.problems {
            let _ = write!(out, "\n* Left out: {problem}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(side: &str, at: u64, iops: f64) -> Point {
        let pattern = Pattern::RandWrite;
        let (resident, ready_ms) = (Some(64e6), Some(50.0));
        let side = side.to_string();
        Point { side, pattern, at, iops, p50_us: 9e1, p99_us: 2e2, cpu_us_per_io: None, resident, ready_ms }
    }

    #[test]
    fn a_point_is_the_middle_of_its_repeats() {
        let runs = [point("ovs", 4, 10.0), point("ovs", 4, 30.0), point("ovs", 4, 20.0)];
        let middle = middle(&runs).unwrap();
        assert_eq!((middle.iops, middle.at, middle.cpu_us_per_io), (20.0, 4, None));
        assert!(super::middle(&[]).is_none());
    }

    #[test]
    fn sizes_are_named_and_problems_said() {
        let growth = Growth {
            machine: Machine::default(),
            name: "size",
            title: "by size".to_string(),
            points: vec![point("ovs", GIB, 5e4), point("raw", GIB, 6e4), point("ovs", 4 * GIB, 5e4)],
            problems: vec!["nbdkit-file: not installed".to_string()],
        };
        let text = growth.markdown("a machine");
        assert!(text.contains("| 4 GiB") && text.contains("* Left out: nbdkit-file"), "{text}");
        let picture = growth.picture("a machine");
        assert_eq!(growth.sides(), ["ovs", "raw"]);
        assert_eq!(picture.matches("<polyline").count(), 8);
        assert!(picture.contains(">size of the volume<") && !picture.contains("NaN"));
    }
}

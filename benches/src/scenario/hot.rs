//! One hot volume beside busy ones on the same server: what each takes from the other.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::error::{BenchError, Result};
use crate::fio::{End, Job};
use crate::fio_output::FioReport;
use crate::machine::Machine;
use crate::report::markdown::Table;
use crate::report::write_json;
use crate::scenario::{origin, prepare, subject};
use crate::server::{Instance, Target};
use crate::stats::summarise;
use crate::units::{MIB, number, shown_size};
use crate::workspace::Workspace;

const HOT_DEPTH: u32 = 32;
const BUSY_DEPTH: u32 = 1;

/// Figures of the hot volume, or of all busy ones together.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    iops: f64,
    p50_us: f64,
    p99_us: f64,
}

#[derive(Debug, Serialize)]
struct Hot {
    machine: Machine,
    busy: u32,
    volume_size: u64,
    repeats: usize,
    hot_alone: Figures,
    hot_beside: Figures,
    busy_alone: Figures,
    busy_beside: Figures,
}

/// Who works in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Hot,
    Busy,
    Both,
}

/// Runs it and writes `hot.json` and `hot.md`.
pub(crate) fn run(workspace: &Workspace, busy: u32) -> Result<()> {
    if workspace.options.subject != "ovs" || busy == 0 {
        return Err(BenchError::Setup(
            "only ovs serves many volumes here: leave --subject out, and let --busy be at least 1"
                .to_string(),
        ));
    }
    let volume_size = workspace.options.size_or(512 * MIB);
    workspace.need_space(3 * volume_size * u64::from(busy + 1))?;
    let (_, mut plan) = subject(workspace, volume_size)?;
    plan.first_arguments =
        (0..busy).flat_map(|i| ["--volume".to_string(), format!("busy-{i:03}={volume_size}")]).collect();
    let mut instance = prepare(workspace, plan)?;
    instance.start()?;
    let others = exports(&instance, busy)?;
    fill_all(workspace, &instance, &others)?;
    eprintln!("filled {} volumes of {}", busy + 1, shown_size(volume_size));
    let repeats = workspace.options.repeats();
    let mut taken: [Vec<Figures>; 4] = Default::default();
    for repeat in 0..repeats {
        let seed = 100 + repeat as u64;
        let (hot_alone, _) = measure(workspace, &instance, &others, Who::Hot, seed)?;
        let (_, busy_alone) = measure(workspace, &instance, &others, Who::Busy, seed)?;
        let (hot_beside, busy_beside) = measure(workspace, &instance, &others, Who::Both, seed)?;
        instance.check_alive()?;
        for (list, figures) in taken.iter_mut().zip([hot_alone, hot_beside, busy_alone, busy_beside]) {
            list.extend(figures);
        }
        eprintln!("repeat {} of {repeats} done", repeat + 1);
    }
    let [hot_alone, hot_beside, busy_alone, busy_beside] = taken.map(|list| middle(&list));
    let machine = workspace.machine.clone();
    let hot = Hot { machine, busy, volume_size, repeats, hot_alone, hot_beside, busy_alone, busy_beside };
    write_json(workspace, "hot.json", &hot)?;
    let text = hot.markdown(&origin(workspace));
    workspace.write("hot.md", &text)?;
    println!("{text}");
    Ok(())
}

fn exports(instance: &Instance, busy: u32) -> Result<Vec<Target>> {
    let Target::Nbd { socket, .. } = instance.target()? else {
        return Err(BenchError::peer(instance.name(), "serves no NBD"));
    };
    Ok((0..busy).map(|i| Target::Nbd { socket: socket.clone(), export: format!("busy-{i:03}") }).collect())
}

fn fill_all(workspace: &Workspace, instance: &Instance, others: &[Target]) -> Result<()> {
    let target = instance.target()?.clone();
    let fill = Job::fill(&target, instance.size());
    fill.run(&workspace.directory)?;
    // One after the other: fifty megabytes in flight would say nothing about any of them.
    for other in others {
        Job { target: other, ..fill.clone() }.run(&workspace.directory)?;
    }
    Ok(())
}

/// One run of the hot volume, of the busy ones, or of both at the same time.
fn measure(
    workspace: &Workspace,
    instance: &Instance,
    others: &[Target],
    who: Who,
    seed: u64,
) -> Result<(Option<Figures>, Option<Figures>)> {
    workspace.calm(false)?;
    let target = instance.target()?.clone();
    let time = workspace.options.runtime();
    let ramp = (time / 4).max(Duration::from_millis(100));
    let (size, end) = (instance.size(), End::Time(time));
    let hot = Job { ramp, ..Job::random_writes(&target, size, HOT_DEPTH, end, seed) };
    let busy = Job {
        ramp,
        others: others.get(1..).unwrap_or_default(),
        ..Job::random_writes(&others[0], size, BUSY_DEPTH, end, seed + 1)
    };
    let run = |job: &Job<'_>, folder: &str| -> Result<Figures> {
        let folder = workspace.directory.join(folder);
        std::fs::create_dir_all(&folder).map_err(BenchError::file(&folder))?;
        job.run(&folder).map(|report| figures(&report))
    };
    std::thread::scope(|scope| {
        let busy = (who != Who::Hot).then(|| scope.spawn(|| run(&busy, "fio-busy")));
        let hot = (who != Who::Busy).then(|| run(&hot, "fio-hot")).transpose()?;
        let busy = busy.map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        Ok((hot, busy.transpose()?))
    })
}

fn figures(report: &FioReport) -> Figures {
    let write = &report.write;
    Figures { iops: write.iops, p50_us: write.latency.p50_us, p99_us: write.latency.p99_us }
}

fn middle(list: &[Figures]) -> Figures {
    let median = |figure: &dyn Fn(&Figures) -> f64| {
        summarise(&list.iter().map(figure).collect::<Vec<f64>>()).map_or(0.0, |s| s.median)
    };
    Figures { iops: median(&|f| f.iops), p50_us: median(&|f| f.p50_us), p99_us: median(&|f| f.p99_us) }
}

impl Hot {
    fn markdown(&self, origin: &str) -> String {
        let mut out = format!("# One hot volume beside {} busy ones\n\n{origin}.\n\n", self.busy);
        let _ = writeln!(
            out,
            "4 KiB random writes to volumes of {}, filled; the hot one at depth {HOT_DEPTH}, each busy one at depth \
             {BUSY_DEPTH}; medians of {} alternating runs.\n",
            shown_size(self.volume_size),
            self.repeats
        );
        let mut table = Table::new(["volumes", "IOPS", "p50 us", "p99 us", "IOPS to alone", "p99 to alone"]);
        let times = |part: f64, whole: f64| format!("{:.2}x", part / whole.max(1e-9));
        for (label, figures, alone) in [
            ("the hot one, alone", &self.hot_alone, &self.hot_alone),
            ("the hot one, beside the busy ones", &self.hot_beside, &self.hot_alone),
            ("all busy ones, alone", &self.busy_alone, &self.busy_alone),
            ("all busy ones, beside the hot one", &self.busy_beside, &self.busy_alone),
        ] {
            table.row([
                label.to_string(),
                number(figures.iops),
                number(figures.p50_us),
                number(figures.p99_us),
                times(figures.iops, alone.iops),
                times(figures.p99_us, alone.p99_us),
            ]);
        }
        out.push_str(&table.text());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_compared_with_itself_alone() {
        let figures = |iops| Figures { iops, p50_us: 100.0, p99_us: 1e6 / iops };
        let hot = Hot {
            machine: Machine::default(),
            busy: 16,
            volume_size: 512 * MIB,
            repeats: 3,
            hot_alone: figures(80e3),
            hot_beside: figures(60e3),
            busy_alone: figures(40e3),
            busy_beside: figures(10e3),
        };
        let text = hot.markdown("a machine");
        assert!(text.contains("0.75x") && text.contains("0.25x") && text.contains("4.00x"), "{text}");
    }
}

//! fio at a fixed rate, in turns without and with something beside it: what that takes from the I/O.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::accounting::growth;
use crate::error::Result;
use crate::fio::{End, Job};
use crate::fio_output::Latency;
use crate::measure::observe;
use crate::report::markdown::Table;
use crate::scenario::{prepare, subject};
use crate::server::Instance;
use crate::stats::{Summary, ratio, summarise};
use crate::units::{MIB, number, shown_size};
use crate::workload::Pattern;
use crate::workspace::Workspace;

/// I/Os in flight at most.
const DEPTH: u32 = 32;

/// One run of fio. `T` is what the thing beside it counted; of a run without it, the default.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Run<T> {
    /// I/Os a second.
    pub(super) iops: f64,
    /// Latency of reads.
    pub(super) read: Latency,
    /// Latency of writes.
    pub(super) write: Latency,
    /// Processor time of the server, milliseconds a second.
    pub(super) server_cpu_ms: f64,
    /// Share of the machine that processes outside the harness took, 0 to 1.
    pub(super) foreign: f64,
    #[serde(flatten)]
    pub(super) beside: T,
}

/// All runs; entry `i` of both lists is of repeat `i`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Turns<T> {
    pub(super) volume_size: u64,
    /// I/Os a second that fio is to do.
    pub(super) rate: u32,
    pub(super) runtime_s: f64,
    pub(super) without: Vec<Run<T>>,
    pub(super) with: Vec<Run<T>>,
}

/// A server with a filled volume, for fio at a fixed rate.
pub(super) struct Paced<'a> {
    workspace: &'a Workspace,
    rate: u32,
    instance: Instance,
}

impl<'a> Paced<'a> {
    /// Starts the subject and fills its volume. Half of `rate` I/Os a second will be reads.
    pub(super) fn start(workspace: &'a Workspace, rate: u32) -> Result<Paced<'a>> {
        let volume_size = workspace.options.size_or(512 * MIB);
        workspace.need_space(3 * volume_size)?;
        let (_, plan) = subject(workspace, volume_size)?;
        let mut instance = prepare(workspace, plan)?;
        instance.start()?;
        let target = instance.target()?.clone();
        Job::fill(&target, volume_size).run(&workspace.directory)?;
        Ok(Paced { workspace, rate, instance })
    }

    /// The server.
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Runs fio in turns, and `beside` in each second one: it gets the number of the repeat, and goes on until the flag
    /// is true. `name` is for the lines that say how far it is.
    pub(super) fn turns<T: Default + Send>(
        mut self,
        name: &str,
        beside: impl Fn(u64, &AtomicBool) -> Result<T> + Sync,
    ) -> Result<Turns<T>> {
        let repeats = self.workspace.options.repeats();
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for repeat in 0..repeats {
            // Who is first changes from repeat to repeat.
            for together in if repeat.is_multiple_of(2) { [false, true] } else { [true, false] } {
                let run = self.measure(together.then_some(&beside), repeat as u64)?;
                if together { &mut with } else { &mut without }.push(run);
            }
            eprintln!("{name}: repeat {} of {repeats} done", repeat + 1);
        }
        let runtime_s = self.workspace.options.runtime().as_secs_f64();
        Ok(Turns { volume_size: self.instance.size(), rate: self.rate, runtime_s, without, with })
    }

    /// One run of fio, with something beside it or without.
    fn measure<T: Default + Send>(
        &mut self,
        beside: Option<&(impl Fn(u64, &AtomicBool) -> Result<T> + Sync)>,
        repeat: u64,
    ) -> Result<Run<T>> {
        let Paced { workspace, rate, instance } = self;
        workspace.calm(false)?;
        let target = instance.target()?.clone();
        let time = workspace.options.runtime();
        let job = Job {
            pattern: Pattern::RandMix(50),
            rate: Some(*rate / 2),
            ramp: (time / 4).max(Duration::from_millis(100)),
            ..Job::random_writes(&target, instance.size(), DEPTH, End::Time(time), 100 + repeat)
        };
        let over = AtomicBool::new(false);
        let (observed, counted) = std::thread::scope(|scope| {
            let working = beside.map(|beside| scope.spawn(|| beside(repeat, &over)));
            let observed = observe(instance, &job, &workspace.disk, &workspace.directory);
            over.store(true, Ordering::Relaxed);
            let counted =
                working.map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            (observed, counted)
        });
        let (report, samples) = observed?;
        let ended = samples.last().map_or(0.0, |sample| sample.at_ms);
        let began = samples.first().map_or(0.0, |sample| sample.at_ms);
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        // Microseconds in milliseconds: thousandths of a processor.
        let a_millisecond = |us: Option<f64>| us.unwrap_or(0.0) / (ended - began).max(1.0);
        let foreign = growth(&samples, began + 1.0, ended, |sample| sample.foreign_cpu_us);
        Ok(Run {
            iops: report.read.iops + report.write.iops,
            read: report.read.latency,
            write: report.write.latency,
            server_cpu_ms: a_millisecond(growth(&samples, began + 1.0, ended, |sample| sample.cpu_us)),
            foreign: a_millisecond(foreign) / 1e3 / cpus,
            beside: counted.transpose()?.unwrap_or_default(),
        })
    }
}

/// What is wanted of the ratio of a p99 with something beside it to that without.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// At most this.
    AtMost(f64),
    /// At most this, or no more than the runs without differ by themselves.
    AtMostOrSpread(f64),
}

impl Wanted {
    fn met(self, compared: &Compared) -> bool {
        match self {
            Wanted::AtMost(most) => compared.ratio.median <= most,
            Wanted::AtMostOrSpread(most) => {
                compared.ratio.median <= most || compared.with.median <= compared.without.max
            }
        }
    }

    fn text(self, compared: &Compared) -> String {
        let met = met(self.met(compared));
        match self {
            Wanted::AtMost(most) => format!("at most {most}: {met}"),
            Wanted::AtMostOrSpread(most) => format!("at most {most}, or within the spread: {met}"),
        }
    }
}

/// One figure of the runs without and with something beside them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Compared {
    without: Summary,
    with: Summary,
    ratio: Summary,
}

impl Compared {
    fn new<T>(turns: &Turns<T>, figure: impl Fn(&Run<T>) -> f64) -> Option<Compared> {
        let list = |runs: &[Run<T>]| runs.iter().map(&figure).collect::<Vec<f64>>();
        let (without, with) = (list(&turns.without), list(&turns.with));
        let some = |list: &[f64]| list.iter().copied().map(Some).collect::<Vec<_>>();
        let ratio = ratio(&some(&with), &some(&without))?;
        Some(Compared { without: summarise(&without)?, with: summarise(&with)?, ratio })
    }
}

/// One figure of a run.
type Figure<T> = fn(&Run<T>) -> f64;

impl<T> Turns<T> {
    /// What was done, in a sentence that ends before what was beside it.
    pub(super) fn course(&self) -> String {
        format!(
            "4 KiB at random, {} I/Os a second, half of them reads, on a filled volume of {}; {} alternating runs of \
             {} s each without and with",
            self.rate,
            shown_size(self.volume_size),
            self.without.len(),
            self.runtime_s,
        )
    }

    /// The latencies and the server's processor time, and what the machine did besides.
    pub(super) fn write(&self, wanted: Wanted, out: &mut String) {
        let mut table = Table::new(["figure", "without", "with", "with / without", "wanted"]);
        let rows: [(&str, Figure<T>, bool); 7] = [
            ("reads, p99, us", |run| run.read.p99_us, true),
            ("writes, p99, us", |run| run.write.p99_us, true),
            ("reads, p50, us", |run| run.read.p50_us, false),
            ("writes, p50, us", |run| run.write.p50_us, false),
            ("reads, p99.9, us", |run| run.read.p999_us, false),
            ("writes, p99.9, us", |run| run.write.p999_us, false),
            ("server: CPU, ms a second", |run| run.server_cpu_ms, false),
        ];
        for (title, figure, is_wanted) in rows {
            let Some(compared) = Compared::new(self, figure) else { continue };
            let r = compared.ratio;
            let shown = format!("{} ({:.2}..{:.2})", times(r.median), r.min, r.max);
            let target = if is_wanted { wanted.text(&compared) } else { String::new() };
            let (without, with) = (spread(Some(compared.without)), spread(Some(compared.with)));
            table.row([title.to_string(), without, with, shown, target]);
        }
        out.push_str(&table.text());
        let foreign =
            self.with.iter().chain(&self.without).map(|run| run.foreign * 100.0).collect::<Vec<_>>();
        let foreign = summarise(&foreign);
        let _ = writeln!(
            out,
            "\nI/Os a second: {} without, {} with. Other processes took {} % of the machine, {} % at most.",
            spread(of(&self.without, |run| run.iops)),
            spread(of(&self.with, |run| run.iops)),
            number(foreign.map_or(0.0, |s| s.median)),
            number(foreign.map_or(0.0, |s| s.max)),
        );
    }
}

/// A figure of runs, summarised.
pub(super) fn of<T>(runs: &[Run<T>], figure: impl Fn(&Run<T>) -> f64) -> Option<Summary> {
    summarise(&runs.iter().map(figure).collect::<Vec<f64>>())
}

/// `12.3 (10.1..14.5)`
pub(super) fn spread(summary: Option<Summary>) -> String {
    summary
        .map_or("-".to_string(), |s| format!("{} ({}..{})", number(s.median), number(s.min), number(s.max)))
}

/// `1.10x`
pub(super) fn times(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}x") } else { "-".to_string() }
}

/// Whether something is as wanted, as a word.
pub(super) fn met(good: bool) -> String {
    if good { "met" } else { "missed" }.to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs with these p99 of reads and writes, in microseconds.
    pub(in crate::scenario) fn turns<T: Default>(without: [f64; 3], with: [(f64, T); 3]) -> Turns<T> {
        let run = |p99_us: f64, beside: T| {
            let latency = Latency { mean_us: 50.0, p50_us: 40.0, p99_us, p999_us: 900.0 };
            Run { iops: 2000.0, read: latency, write: latency, beside, ..Run::default() }
        };
        Turns {
            volume_size: 512 << 20,
            rate: 2000,
            runtime_s: 8.0,
            without: without.into_iter().map(|p99_us| run(p99_us, T::default())).collect(),
            with: with.into_iter().map(|(p99_us, beside)| run(p99_us, beside)).collect(),
        }
    }

    #[test]
    fn a_target_is_a_ratio_or_the_spread_of_the_runs_without() {
        let met = |without, with: [f64; 3]| {
            let turns = turns(without, with.map(|p99_us| (p99_us, ())));
            let compared = Compared::new(&turns, |run| run.read.p99_us).unwrap();
            [Wanted::AtMost(1.25), Wanted::AtMostOrSpread(1.25)].map(|wanted| wanted.met(&compared))
        };
        assert_eq!(met([100.0, 100.0, 100.0], [120.0, 124.0, 200.0]), [true, true]);
        assert_eq!(met([100.0, 100.0, 110.0], [120.0, 126.0, 200.0]), [false, false]);
        assert_eq!(met([100.0, 100.0, 180.0], [120.0, 150.0, 200.0]), [false, true]);
    }
}

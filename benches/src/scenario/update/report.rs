//! The figures as tables.

use std::fmt::Write;

use super::Results;
use super::answer::{Alone, Times, Together};
use super::changes::{Changes, Run};
use super::watching::Idle;
use crate::report::markdown::Table;
use crate::stats::{Summary, ratio, summarise};
use crate::units::{number, rough_size, shown_size};

/// p99 with changes over that without: at most this is wanted, or no more than the runs without differ by themselves.
const CHANGES_MOST: f64 = 1.25;
/// p99 of an answer over that of a put: at most this is wanted.
const ANSWER_MOST: f64 = 3.0;

/// One figure of a run.
type Figure = fn(&Run) -> f64;

/// `12.3 (10.1..14.5)`
fn spread(summary: Option<Summary>) -> String {
    summary
        .map_or("-".to_string(), |s| format!("{} ({}..{})", number(s.median), number(s.min), number(s.max)))
}

/// `1.10x`
fn times(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}x") } else { "-".to_string() }
}

/// One kind of I/O without and with changes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Compared {
    without: Summary,
    with: Summary,
    ratio: Summary,
}

impl Compared {
    fn new(changes: &Changes, figure: impl Fn(&Run) -> f64) -> Option<Compared> {
        let list = |runs: &[Run]| runs.iter().map(&figure).collect::<Vec<f64>>();
        let (without, with) = (list(&changes.without), list(&changes.with));
        let some = |list: &[f64]| list.iter().copied().map(Some).collect::<Vec<_>>();
        let ratio = ratio(&some(&with), &some(&without))?;
        Some(Compared { without: summarise(&without)?, with: summarise(&with)?, ratio })
    }

    /// Whether it is as wanted.
    fn good(&self) -> bool {
        self.ratio.median <= CHANGES_MOST || self.with.median <= self.without.max
    }
}

fn met(good: bool) -> String {
    if good { "met" } else { "missed" }.to_string()
}

impl Changes {
    fn markdown(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "## I/O while parameters change\n\n4 KiB at random, {} I/Os a second, half of them reads, on a \
             filled volume \
             of {}; {} alternating runs of {} s each without and with {} changes a second, of {} sections in turns. \
             Medians, min..max.\n",
            self.rate,
            shown_size(self.volume_size),
            self.without.len(),
            self.runtime_s,
            self.per_second,
            self.sections,
        );
        let mut table = Table::new(["latency", "without, us", "with, us", "with / without", "wanted"]);
        let rows: [(&str, Figure, bool); 6] = [
            ("reads, p99", |run| run.read.p99_us, true),
            ("writes, p99", |run| run.write.p99_us, true),
            ("reads, p50", |run| run.read.p50_us, false),
            ("writes, p50", |run| run.write.p50_us, false),
            ("reads, p99.9", |run| run.read.p999_us, false),
            ("writes, p99.9", |run| run.write.p999_us, false),
        ];
        for (title, figure, wanted) in rows {
            let Some(compared) = Compared::new(self, figure) else { continue };
            let r = compared.ratio;
            let shown = format!("{} ({:.2}..{:.2})", times(r.median), r.min, r.max);
            let target = format!("at most {CHANGES_MOST}, or within the spread: {}", met(compared.good()));
            let target = if wanted { target } else { String::new() };
            let (without, with) = (spread(Some(compared.without)), spread(Some(compared.with)));
            table.row([title.to_string(), without, with, shown, target]);
        }
        out.push_str(&table.text());
        let of = |runs: &[Run], figure: Figure| summarise(&runs.iter().map(figure).collect::<Vec<f64>>());
        let (applied, superseded) = self
            .with
            .iter()
            .fold((0, 0), |(applied, superseded), run| (applied + run.applied, superseded + run.superseded));
        let _ = writeln!(
            out,
            "\nChanges applied a second: {}; {applied} feedbacks said applied, {superseded} superseded. \
             I/Os a second: {} \
             without, {} with. Other processes took {} % of the machine, {} % at most.",
            spread(of(&self.with, |run| run.applied_per_second)),
            spread(of(&self.without, |run| run.iops)),
            spread(of(&self.with, |run| run.iops)),
            number(
                of(&[&self.with[..], &self.without[..]].concat(), |run| run.foreign * 100.0)
                    .map_or(0.0, |s| s.median)
            ),
            number(
                of(&[&self.with[..], &self.without[..]].concat(), |run| run.foreign * 100.0)
                    .map_or(0.0, |s| s.max)
            ),
        );
    }
}

impl Alone {
    /// p99 of an answer over that of a put.
    fn ratio(&self) -> f64 {
        self.stored_before.p99_us / self.put.p99_us.max(1e-9)
    }

    fn markdown(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "## From the update key to the feedback\n\nOne process, {} updates of each kind, alternating with \
             plain puts on \
             the same store.\n",
            self.updates
        );
        let mut table = Table::new(["figure", "p50, us", "p99, us", "p50 to put", "p99 to put", "wanted"]);
        let mut row = |title: &str, figure: &Times, target: String| {
            let to = |own: f64, put: f64| times(own / put.max(1e-9));
            table.row([
                title.to_string(),
                number(figure.p50_us),
                number(figure.p99_us),
                to(figure.p50_us, self.put.p50_us),
                to(figure.p99_us, self.put.p99_us),
                target,
            ]);
        };
        row("put", &self.put, String::new());
        let target = format!("p99 at most {ANSWER_MOST} puts: {}", met(self.ratio() <= ANSWER_MOST));
        row("update key to feedback, documents stored before", &self.stored_before, target);
        row("update key to feedback, right behind its document", &self.at_once, String::new());
        row("of the first: inside the process", &self.in_process, String::new());
        out.push_str(&table.text());
        out.push('\n');
    }
}

impl Together {
    fn markdown(&self, out: &mut String) {
        let (count, puts) = (self.processes, self.processes * 3);
        let _ = writeln!(
            out,
            "## An update of a whole vPool\n\n{count} processes on this machine, {} rounds. Each process \
             writes three keys \
             for an update: feedback, status and last status; so the same load is {count} clients that put 3 times \
             each. One client that puts {puts} times is the same work without what happens at the same time.\n",
            self.rounds
        );
        let mut table = Table::new(["work", "ms (min..max)", "update to it"]);
        let row = |title: String, summary: Summary| {
            let ratio = times(self.last_ms.median / summary.median.max(1e-9));
            [title, spread(Some(summary)), ratio]
        };
        table.row(row(format!("update key to the last of {count} feedbacks"), self.last_ms));
        table.row(row(format!("{puts} puts: {count} clients, 3 each"), self.puts_together_ms));
        table.row(row(format!("{puts} puts, one after the other"), self.puts_in_turn_ms));
        out.push_str(&table.text());
        let _ = writeln!(
            out,
            "\nInside a process, from the sight of the update key to its answer: {} ms (median of all).",
            number(self.in_process_p50_ms)
        );
    }
}

fn watching(list: &[Idle], out: &mut String) {
    let _ = writeln!(out, "## Processes that wait\n");
    let mut table = Table::new([
        "idle processes",
        "watch streams",
        "store: CPU, ms a second",
        "store: resident",
        "process: CPU, ms a second",
        "process: proportional memory",
        "process: resident",
    ]);
    for idle in list {
        let of_process = |text: String| if idle.processes == 0 { "-".to_string() } else { text };
        table.row([
            idle.processes.to_string(),
            number(idle.streams),
            number(idle.store_cpu_ms),
            rough_size(idle.store_resident),
            of_process(number(idle.process_cpu_ms)),
            of_process(rough_size(idle.process_proportional as u64)),
            of_process(rough_size(idle.process_resident as u64)),
        ]);
    }
    out.push_str(&table.text());
    if let [first, .., last] = list {
        let more = (last.processes - first.processes).max(1) as f64;
        let _ = writeln!(
            out,
            "\nA process that waits costs the store {} ms of processor time a second and {} KiB, \
             with {} watch streams.",
            number((last.store_cpu_ms - first.store_cpu_ms) / more),
            number((last.store_resident as f64 - first.store_resident as f64) / more / 1024.0),
            number((last.streams - first.streams) / more),
        );
    }
}

impl Results {
    pub(super) fn markdown(&self, origin: &str) -> String {
        let mut parts = Vec::new();
        let mut part = |write: &dyn Fn(&mut String)| {
            let mut text = String::new();
            write(&mut text);
            parts.push(text.trim_end().to_string());
        };
        if let Some(changes) = &self.changes {
            part(&|out| changes.markdown(out));
        }
        if let Some(alone) = &self.alone {
            part(&|out| alone.markdown(out));
        }
        if let Some(together) = &self.together {
            part(&|out| together.markdown(out));
        }
        if !self.watching.is_empty() {
            part(&|out| watching(&self.watching, out));
        }
        format!("# Changes of the configuration\n\n{origin}; {}\n\n{}\n", self.program, parts.join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fio_output::Latency;

    fn run(p99_us: f64) -> Run {
        let latency = Latency { mean_us: 50.0, p50_us: 40.0, p99_us, p999_us: 900.0 };
        Run {
            iops: 2000.0,
            read: latency,
            write: latency,
            applied: 80,
            applied_per_second: 10.0,
            ..Run::default()
        }
    }

    fn changes(without: [f64; 3], with: [f64; 3]) -> Changes {
        Changes {
            volume_size: 512 << 20,
            rate: 2000,
            per_second: 10,
            runtime_s: 8.0,
            sections: 5,
            without: without.map(run).to_vec(),
            with: with.map(run).to_vec(),
        }
    }

    #[test]
    fn the_target_is_a_ratio_or_the_spread_of_the_runs_without() {
        let good =
            |without, with| Compared::new(&changes(without, with), |run| run.read.p99_us).unwrap().good();
        assert!(good([100.0, 100.0, 100.0], [120.0, 124.0, 200.0]));
        assert!(!good([100.0, 100.0, 110.0], [120.0, 126.0, 200.0]));
        assert!(good([100.0, 100.0, 180.0], [120.0, 150.0, 200.0]));
    }

    #[test]
    fn all_parts_have_their_figures() {
        let summary = |median: f64| Summary { median, min: median / 2.0, max: median * 2.0 };
        let timed = |p50_us: f64| Times { p50_us, p99_us: 2.0 * p50_us };
        let idle = |processes: usize| Idle {
            processes,
            streams: 4.0 * processes as f64,
            store_cpu_ms: 1.0 + 0.5 * processes as f64,
            store_resident: (20 << 20) + (processes as u64) * 2048,
            process_cpu_ms: 2.0,
            process_proportional: 3e6,
            process_resident: 9e6,
        };
        let results = Results {
            changes: Some(changes([100.0; 3], [300.0; 3])),
            alone: Some(Alone {
                updates: 500,
                put: timed(350.0),
                stored_before: timed(700.0),
                at_once: timed(1400.0),
                in_process: timed(90.0),
            }),
            together: Some(Together {
                processes: 100,
                rounds: 20,
                last_ms: summary(50.0),
                puts_together_ms: summary(20.0),
                puts_in_turn_ms: summary(100.0),
                in_process_p50_ms: 9.0,
            }),
            watching: vec![idle(0), idle(50), idle(100)],
            ..Results::default()
        };
        let text = results.markdown("a machine");
        for part in [
            "3.00x (3.00..3.00)",
            "within the spread: missed",
            "240 feedbacks said applied, 0 superseded",
            "p99 at most 3 puts: met",
            "2.00x",
            "| 300 puts: 100 clients, 3 each",
            "2.50x",
            "0.50x",
            "costs the store 0.50 ms of processor time a second and 2.00 KiB, with 4.00 watch streams",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("NaN"), "{text}");
        assert!(!Results::default().markdown("a machine").contains("##"));
    }
}

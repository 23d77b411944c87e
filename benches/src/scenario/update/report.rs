//! The figures as tables.

use std::fmt::Write;

use super::Results;
use super::answer::{Alone, Times, Together};
use super::changes::{Changed, Changes};
use super::watching::Idle;
use crate::report::markdown::Table;
use crate::scenario::paced::{Wanted, met, of, spread, times};
use crate::stats::Summary;
use crate::units::{number, rough_size};

/// p99 with changes over that without: at most this is wanted, or no more than the runs without differ by themselves.
const CHANGES_MOST: f64 = 1.25;
/// p99 of an answer over that of a put: at most this is wanted.
const ANSWER_MOST: f64 = 3.0;

impl Changes {
    fn markdown(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "## I/O while parameters change\n\n{} {} changes a second, of {} sections in turns. Medians, min..max.\n",
            self.turns.course(),
            self.per_second,
            self.sections,
        );
        self.turns.write(Wanted::AtMostOrSpread(CHANGES_MOST), out);
        let with = &self.turns.with;
        let sum = |figure: fn(&Changed) -> u64| with.iter().map(|run| figure(&run.beside)).sum::<u64>();
        let _ = writeln!(
            out,
            "Changes applied a second: {}; {} feedbacks said applied, {} superseded.",
            spread(of(with, |run| run.beside.applied_per_second)),
            sum(|changed| changed.applied),
            sum(|changed| changed.superseded),
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
    use crate::scenario::paced::tests::turns;

    fn changes(without: [f64; 3], with: [f64; 3]) -> Changes {
        let changed = Changed { applied: 80, superseded: 0, applied_per_second: 10.0 };
        let turns = turns(without, with.map(|p99_us| (p99_us, changed)));
        Changes { per_second: 10, sections: 5, turns }
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

//! The figures of both sides as a table and a picture.

use std::fmt::Write;

use super::client::Operation;
use super::server::SIDES;
use super::{Both, Life, Results};
use crate::report::chart::{Bar, Panel};
use crate::report::markdown::Table;
use crate::report::svg::{Anchor, Canvas};
use crate::stats::{Summary, ratio, summarise};
use crate::units::number;

/// What is wanted of a ratio, ours to theirs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// One figure of both sides.
struct Row {
    title: String,
    unit: &'static str,
    values: Both<f64>,
    target: Option<Target>,
    /// It has a panel of its own.
    shown: bool,
}

impl Row {
    fn new(title: impl Into<String>, unit: &'static str, values: Both<f64>) -> Row {
        Row { title: title.into(), unit, values, target: None, shown: false }
    }

    fn ratio(&self) -> Option<Summary> {
        let some = |list: &Vec<f64>| list.iter().copied().map(Some).collect::<Vec<_>>();
        ratio(&some(&self.values[0]), &some(&self.values[1]))
    }
}

/// One figure of every run.
fn each<T>(runs: &Both<T>, figure: impl Fn(&T) -> f64) -> Both<f64> {
    [0, 1].map(|side: usize| runs[side].iter().map(&figure).collect())
}

/// `1 client`, `100 clients`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A ratio as it is printed, with its spread.
fn times(ratio: Option<Summary>) -> String {
    ratio.map_or("-".to_string(), |r| format!("{:.2}x ({:.2}..{:.2})", r.median, r.min, r.max))
}

impl Results {
    /// Operations a second, their latencies and what they cost.
    fn work_rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for work in &self.works {
            let what = match work.operation {
                Operation::Put => "put",
                Operation::Get => "linearizable get",
                Operation::Serializable => "serializable get",
                Operation::Txn => "txn compare + put",
            };
            let title = format!("{what}, {}", counted(work.clients, "client"));
            let target = match (work.operation, work.clients) {
                (Operation::Put, 1) => Some(Target::AtLeast(1.0)),
                (Operation::Put | Operation::Get, 2..) => Some(Target::AtLeast(2.0)),
                _ => None,
            };
            let speed = Row::new(title.clone(), "a second", each(&work.runs, |run| run.per_second));
            rows.push(Row { target, shown: true, ..speed });
            rows.push(Row::new(format!("{title}: p50"), "us", each(&work.runs, |run| run.p50_us)));
            rows.push(Row::new(format!("{title}: p99"), "us", each(&work.runs, |run| run.p99_us)));
            let cpu = each(&work.runs, |run| run.cpu_s);
            rows.push(Row::new(format!("{title}: CPU of 10,000"), "s", cpu));
        }
        rows
    }

    /// From a put to its events.
    fn watch_rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for watch in &self.watches {
            let title = format!("put to event, {}", counted(watch.streams, "stream"));
            rows.push(Row::new(format!("{title}: p50"), "us", each(&watch.runs, |run| run.each_p50_us)));
            let p99 = Row::new(format!("{title}: p99"), "us", each(&watch.runs, |run| run.each_p99_us));
            let target = (watch.streams >= 1000).then_some(Target::AtMost(0.5));
            rows.push(Row { target, shown: true, ..p99 });
            let last = each(&watch.runs, |run| run.last_p50_us);
            rows.push(Row::new(format!("{title}: last event, p50"), "us", last));
            let last = each(&watch.runs, |run| run.last_p99_us);
            rows.push(Row::new(format!("{title}: last event, p99"), "us", last));
        }
        rows
    }

    /// Memory and restarts.
    fn life_rows(&self) -> Vec<Row> {
        let memory = |figure: fn(&Life) -> u64| each(&self.lives, |life| figure(life) as f64 / 1048576.0);
        let idle = Row::new("idle memory", "MiB", memory(|life| life.idle));
        let mut rows = vec![
            Row { target: Some(Target::AtMost(0.6)), shown: true, ..idle },
            Row::new("memory after the work", "MiB", memory(|life| life.worked)),
        ];
        if self.lives.iter().flatten().any(|life| life.killed_ms > 0.0) {
            let keys = number(self.keys as f64);
            let filled = memory(|life| life.filled);
            rows.push(Row { shown: true, ..Row::new(format!("memory with {keys} keys"), "MiB", filled) });
            let stopped = each(&self.lives, |life| life.stopped_ms);
            rows.push(Row::new(format!("restart with {keys} keys, after SIGTERM"), "ms", stopped));
            let killed = each(&self.lives, |life| life.killed_ms);
            let title = format!("restart with {keys} keys, after SIGKILL");
            rows.push(Row { shown: true, ..Row::new(title, "ms", killed) });
        }
        rows
    }

    fn rows(&self) -> Vec<Row> {
        self.work_rows().into_iter().chain(self.watch_rows()).chain(self.life_rows()).collect()
    }

    /// Where the figures come from.
    fn origin(&self) -> String {
        let machine = &self.machine;
        format!(
            "{} processors ({}), Linux {}, {} on {}; {}; client on the same machine",
            machine.cpus, machine.processor, machine.kernel, machine.file_system, machine.disk, self.etcd
        )
    }

    fn legend(&self) -> String {
        format!(
            "Medians of {} alternating runs of {} s; values of 256 bytes, {} connections; both with fsync",
            self.repeats, self.runtime_s, self.connections
        )
    }

    /// The share of the machine that others had while the operations ran: the median and the most, percent.
    fn foreign(&self) -> Option<Summary> {
        let runs = self.works.iter().flat_map(|work| work.runs.iter().flatten());
        summarise(&runs.map(|run| run.foreign * 100.0).collect::<Vec<f64>>())
    }

    pub(super) fn markdown(&self) -> String {
        let mut out =
            format!("# The configuration store beside etcd\n\n{}.\n\n{}.", self.origin(), self.legend());
        if let Some(foreign) = self.foreign() {
            let (median, most) = (number(foreign.median), number(foreign.max));
            let _ = write!(out, " Other processes took {median} % of the machine, {most} % at most.");
        }
        out.push_str("\n\n");
        let mut table = Table::new(["figure", "ovs", "etcd", "ovs / etcd", "wanted"]);
        for row in self.rows() {
            let median = |side: usize| summarise(&row.values[side]).map_or(f64::NAN, |s| s.median);
            let wanted = match row.target {
                Some(Target::AtLeast(least)) => format!("at least {least}"),
                Some(Target::AtMost(most)) => format!("at most {most}"),
                None => String::new(),
            };
            let title = format!("{}, {}", row.title, row.unit);
            table.row([title, number(median(0)), number(median(1)), times(row.ratio()), wanted]);
        }
        out.push_str(&table.text());
        out.push_str(
            "\nMemory after the work holds as many revisions as each side wrote in its time: the faster one more. \
             Memory with keys and the restarts are of new servers that hold the same keys.\n",
        );
        out
    }

    pub(super) fn picture(&self) -> String {
        const WIDTH: f64 = 1060.0;
        const EDGE: f64 = 20.0;
        const NAMES: f64 = 44.0;
        const COLUMNS: usize = 3;
        let rows: Vec<Row> = self.rows().into_iter().filter(|row| row.shown).collect();
        let panels: Vec<Panel<'_>> = rows
            .iter()
            .map(|row| {
                let bar = |side: usize| Bar {
                    class: if side == 0 { "subject" } else { "server" },
                    value: summarise(&row.values[side]),
                };
                let ratio = row.ratio().map_or(String::new(), |r| format!(": {:.2}x", r.median));
                Panel { title: format!("{}{ratio}", row.title), unit: row.unit, bars: vec![bar(0), bar(1)] }
            })
            .collect();
        let (top, step) = (66.0, panels.first().map_or(0.0, Panel::height) + 14.0);
        let mut canvas = Canvas::new(WIDTH, top + panels.len().div_ceil(COLUMNS) as f64 * step);
        let title = "The configuration store beside etcd";
        canvas.text(EDGE, 28.0, Anchor::Start, "title", title);
        canvas.text(
            EDGE,
            46.0,
            Anchor::Start,
            "small faint",
            &format!("{}. {}", self.legend(), self.origin()),
        );
        let width = (WIDTH - 2.0 * EDGE) / COLUMNS as f64;
        for (index, panel) in panels.iter().enumerate() {
            let (x, y) = (EDGE + (index % COLUMNS) as f64 * width, top + (index / COLUMNS) as f64 * step);
            panel.draw(&mut canvas, x + NAMES, y, width - NAMES - 10.0);
            for (place, side) in SIDES.iter().enumerate() {
                canvas.text(
                    x + NAMES - 8.0,
                    Panel::middle(y, place) + 4.0,
                    Anchor::End,
                    "small",
                    side.name(),
                );
            }
        }
        canvas.finish(title)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Watch, Work, client, fanout};
    use super::*;
    use crate::machine::Machine;

    fn example() -> Results {
        let run = |per_second: f64| client::Figures {
            per_second,
            p50_us: 1e6 / per_second,
            p99_us: 3e6 / per_second,
            cpu_s: 0.5,
            foreign: 0.25,
        };
        let watch = |us| fanout::Figures {
            each_p50_us: us,
            each_p99_us: 2.0 * us,
            last_p50_us: us,
            last_p99_us: 9.0 * us,
        };
        let life = |idle: u64| Life {
            idle: idle << 20,
            worked: 90 << 20,
            filled: 99 << 20,
            stopped_ms: 300.0,
            killed_ms: 400.0,
        };
        Results {
            machine: Machine::default(),
            etcd: "etcd 3".to_string(),
            clients: 100,
            connections: 10,
            keys: 100_000,
            repeats: 3,
            runtime_s: 3.0,
            works: vec![Work {
                name: "put-100".to_string(),
                operation: Operation::Put,
                clients: 100,
                runs: [vec![run(20e3), run(30e3), run(25e3)], vec![run(10e3), run(10e3), run(11e3)]],
            }],
            watches: vec![Watch {
                name: "watch-1".to_string(),
                streams: 1,
                runs: [vec![watch(500.0)], vec![watch(1e3)]],
            }],
            lives: [vec![life(10)], vec![life(20)]],
        }
    }

    #[test]
    fn the_table_has_medians_ratios_and_targets() {
        let text = example().markdown();
        for part in [
            "25,000",
            "2.50x (2.00..3.00)",
            "at least 2",
            "put to event, 1 stream: p99, us",
            "0.50x (0.50..0.50)",
            "25.0 %",
            "restart with 100,000 keys, after SIGKILL, ms",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("NaN"), "{text}");
    }

    #[test]
    fn the_picture_has_two_bars_a_panel() {
        let picture = example().picture();
        // Speed, one watch, idle memory, memory with keys, one restart.
        assert_eq!(
            (picture.matches("class=\"subject\"").count(), picture.matches("class=\"server\"").count()),
            (5, 5)
        );
        assert!(picture.contains("2.50x") && !picture.contains("NaN"), "{picture}");
    }
}

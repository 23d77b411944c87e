//! The tables.

use std::fmt::Write;

use crate::measure::Run;
use crate::peers::Class;
use crate::results::{Cell, Results};
use crate::stats::Summary;
use crate::units::{number, rough_size, shown_size};
use crate::workload::Workload;

/// A table whose first column is text and whose others are numbers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<S: Into<String>>(headings: impl IntoIterator<Item = S>) -> Table {
        Table { rows: vec![headings.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|c| c.into().replace('|', "\\|")).collect());
    }

    /// The table in Markdown, its columns aligned.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column: usize| {
            self.rows.iter().map(|r| cell(r, column).chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::from("|");
            for (column, width) in widths.iter().enumerate() {
                let text = cell(row, column);
                let padded =
                    if column == 0 { format!(" {text:<width$} |") } else { format!(" {text:>width$} |") };
                line.push_str(&padded);
            }
            out.push_str(&line);
            out.push('\n');
            if index == 0 {
                out.push('|');
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width + 1);
                    out.push_str(&if column == 0 { format!("-{dashes}|") } else { format!("{dashes}:|") });
                }
                out.push('\n');
            }
        }
        out
    }
}

fn spread(summary: Option<Summary>) -> String {
    match summary {
        None => "-".to_string(),
        Some(s) if s.min == s.max => number(s.median),
        Some(s) => format!("{} ({}..{})", number(s.median), number(s.min), number(s.max)),
    }
}

fn median(cell: &Cell, figure: impl Fn(&Run) -> Option<f64>) -> String {
    cell.summary(figure).map_or("-".to_string(), |s| number(s.median))
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

/// The whole report. `pictures` are the names of the SVG files beside it.
pub(crate) fn write(results: &Results, pictures: &[String]) -> String {
    let mut out = String::new();
    head(&mut out, results);
    if pictures.iter().any(|p| p == "overview") {
        out.push_str("![Speed of every side in every workload](overview.svg)\n\n");
    }
    out.push_str(
        "## Speed\n\nMedian of the repeats; `~`: other processes took more than 8 % of the machine.\n\n",
    );
    out.push_str(&matrix(results, |cell, _| {
        let mark = if cell.disturbed() { "~" } else { "" };
        cell.speed().map_or("-".to_string(), |s| number(s.median) + mark)
    }));
    if !results.ratios.is_empty() {
        let _ = write!(
            out,
            "\n## {} against each peer\n\nSpeed of {0} over the peer's; above 1 it is faster. ",
            results.subject
        );
        out.push_str("Bold: the fastest peer that keeps data and serves it.\n\n");
        out.push_str(&matrix(results, |cell, _| match results.ratio(cell.workload, &cell.peer) {
            Some(r) if r.best => format!("**{}**", times(r.ratio.median)),
            Some(r) => times(r.ratio.median),
            None => "-".to_string(),
        }));
    }
    out.push_str("\n## CPU of the server, microseconds an I/O\n\n");
    out.push_str(&matrix(results, |cell, _| median(cell, |run| run.cpu_us_per_io)));
    out.push_str("\n## p99 latency, microseconds\n\n");
    out.push_str(&matrix(results, |cell, _| median(cell, |run| Some(run.latency.p99_us))));
    for workload in &results.workloads {
        details(&mut out, results, workload, pictures.iter().any(|p| p == workload.name));
    }
    promises(&mut out, results);
    out
}

fn head(out: &mut String, results: &Results) {
    let (machine, settings) = (&results.machine, &results.settings);
    let _ = writeln!(out, "# {}\n", results.title());
    let disk = if machine.disk.is_empty() { "an unknown disk" } else { &machine.disk };
    let _ = writeln!(
        out,
        "{} processors ({}), {} of memory, Linux {}, {} on {disk}; {}.",
        machine.cpus,
        machine.processor,
        rough_size(machine.memory),
        machine.kernel,
        machine.file_system,
        machine.fio
    );
    let _ = writeln!(
        out,
        "Volumes of {}, filled first; {} of {} s after {} s of warm-up (a sequential read: one cold pass, at most as \
         long); unix sockets; client and server on the same machine.\n",
        shown_size(settings.size),
        if settings.repeats == 1 { "1 run".to_string() } else { format!("{} runs", settings.repeats) },
        settings.runtime_s,
        settings.ramp_s
    );
    let measured: Vec<&str> = results.measured().map(|s| s.peer.name.as_str()).collect();
    for side in &results.sides {
        let name = side.peer.name.as_str();
        let extent = if measured.contains(&name) { "Incomplete" } else { "Left out" };
        if let Some(problem) = &side.problem {
            let _ = writeln!(out, "* {extent}: {name} ({problem})");
        }
    }
    for note in &results.notes {
        let _ = writeln!(out, "* {note}");
    }
    out.push('\n');
}

/// A row a workload, a column a side; a side without any text gets no column.
fn matrix(results: &Results, text: impl Fn(&Cell, &Workload) -> String) -> String {
    let says_something = |peer: &str| {
        let texts = results.workloads.iter().filter_map(|w| Some(text(results.cell(w.name, peer)?, w)));
        texts.into_iter().any(|t| t != "-")
    };
    let sides = results.measured().map(|s| s.peer.name.as_str());
    let sides: Vec<&str> = sides.filter(|side| says_something(side)).collect();
    let mut table =
        Table::new(["workload"].into_iter().map(String::from).chain(sides.iter().map(|s| s.to_string())));
    for workload in &results.workloads {
        let label = format!("{}, {}", workload.name, workload.speed().unit());
        let cells = sides.iter().map(|side| {
            results.cell(workload.name, side).map_or("-".to_string(), |cell| text(cell, workload))
        });
        table.row(std::iter::once(label).chain(cells));
    }
    table.text()
}

fn details(out: &mut String, results: &Results, workload: &Workload, picture: bool) {
    let _ = writeln!(out, "\n## {}\n", workload.title);
    if picture {
        let _ = writeln!(out, "![{}]({}.svg)\n", workload.title, workload.name);
    }
    let flushes = workload.flush;
    let unit = workload.speed().unit();
    let subject = format!("{} /", results.subject);
    let compared = !results.ratios.is_empty();
    let mut headings = vec!["side", unit];
    headings.extend(compared.then_some(subject.as_str()));
    headings.extend(["CPU us/IO", "p50 us", "p99 us", "p99.9 us"]);
    if flushes {
        headings.extend(["flush p50 us", "flush p99 us"]);
    }
    headings.extend(["resident", "disk bytes/byte"]);
    let mut table = Table::new(headings);
    let mut problems = Vec::new();
    for side in &results.sides {
        let Some(cell) = results.cell(workload.name, &side.peer.name) else { continue };
        if let Some(problem) = &cell.problem {
            problems.push(format!("* {}: {problem}", cell.peer));
        }
        if cell.speed().is_none() {
            continue;
        }
        let ratio = results.ratio(workload.name, &cell.peer).map(|r| r.ratio);
        let ratio = ratio.map_or("-".to_string(), |r| match (times(r.median), times(r.min), times(r.max)) {
            (middle, low, high) if low == high => middle,
            (middle, low, high) => format!("{middle} ({low}..{high})"),
        });
        let mark = if cell.disturbed() { " ~" } else { "" };
        let mut row = vec![cell.peer.clone(), spread(cell.speed()) + mark];
        row.extend(compared.then_some(ratio));
        row.push(spread(cell.summary(|run| run.cpu_us_per_io)));
        row.push(median(cell, |run| Some(run.latency.p50_us)));
        row.push(median(cell, |run| Some(run.latency.p99_us)));
        row.push(median(cell, |run| Some(run.latency.p999_us)));
        if flushes {
            row.push(median(cell, |run| run.flush_latency.map(|l| l.p50_us)));
            row.push(median(cell, |run| run.flush_latency.map(|l| l.p99_us)));
        }
        let resident = cell.summary(|run| run.resident.map(|bytes| bytes as f64));
        row.push(resident.map_or("-".to_string(), |s| rough_size(s.median as u64)));
        row.push(median(cell, |run| run.written_per_byte));
        table.row(row);
    }
    out.push_str(&table.text());
    if !problems.is_empty() {
        let _ = writeln!(out, "\n{}", problems.join("\n"));
    }
}

fn promises(out: &mut String, results: &Results) {
    out.push_str("\n## What an acknowledgement promises\n\n");
    let mut table =
        Table::new(["side", "compared as", "a write is acknowledged when", "a flush waits for", "fill MB/s"]);
    for side in results.measured() {
        let class = match side.peer.class {
            Class::Server => "a server of durable volumes",
            Class::Protocol => "the limit of the protocol",
            Class::Limit => "the limit of the disk",
        };
        let fill = side.fill_mb_s.map_or("-".to_string(), number);
        let peer = &side.peer;
        table.row([
            format!("{}: {}", peer.name, peer.title),
            class.to_string(),
            peer.acknowledges.clone(),
            peer.flush.clone(),
            fill,
        ]);
    }
    out.push_str(&table.text());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn the_report_says_the_figures() {
        let text = write(&example(), &[]);
        for part in [
            "| randwrite-4k-qd32, IOPS |",
            "11,000 (10,000..12,000)",
            "**1.22x**",
            "0.55x (0.50x..0.60x)",
            "1.22x (1.20x..1.25x)",
            "O_DIRECT write done",
            "64 MiB",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("NaN") && !text.contains(".svg"));
    }

    #[test]
    fn what_was_left_out_is_named() {
        let mut results = example();
        results.sides[1].problem = Some("no such program".to_string());
        results.cells[1].runs.clear();
        results.cells[2].runs.clear();
        results.cells[2].problem = Some("fio: refused".to_string());
        results.compare();
        let text = write(&results, &[]);
        assert!(
            text.contains("* Left out: raw (no such program)")
                && text.contains("* qemu-nbd-raw: fio: refused")
        );
    }

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(["a", "b"]);
        table.row(["x|y", "10,000"]);
        assert_eq!(table.text(), "| a    |      b |\n|------|-------:|\n| x\\|y | 10,000 |\n");
    }
}

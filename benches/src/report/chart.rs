//! Bars with their spread: a picture for each workload, and one of all speeds.

use crate::peers::Class;
use crate::report::svg::{Anchor, Canvas, Scale, tick_label};
use crate::results::{Cell, Results, Side};
use crate::stats::Summary;
use crate::units::number;
use crate::workload::Workload;

const ROW: f64 = 24.0;
const BAR: f64 = 14.0;
const NAME_WIDTH: f64 = 130.0;
const EDGE: f64 = 20.0;
/// Room on the right of an axis for the figure of the longest bar.
const FIGURE: f64 = 62.0;

/// One bar: whose, of which class, how long.
pub(crate) struct Bar<'a> {
    /// `subject`, `server`, `protocol` or `limit`: its colour.
    pub(crate) class: &'a str,
    /// Its length, with the spread; without one the row stays empty.
    pub(crate) value: Option<Summary>,
}

/// A column of bars with a scale below.
pub(crate) struct Panel<'a> {
    /// Stands above it.
    pub(crate) title: String,
    /// Stands below the scale.
    pub(crate) unit: &'a str,
    /// From top to bottom.
    pub(crate) bars: Vec<Bar<'a>>,
}

fn class_of(results: &Results, side: &Side) -> &'static str {
    match side.peer.class {
        _ if side.peer.name == results.subject => "subject",
        Class::Server => "server",
        Class::Protocol => "protocol",
        Class::Limit => "limit",
    }
}

impl Panel<'_> {
    /// With title and scale, pixels.
    pub(crate) fn height(&self) -> f64 {
        22.0 + self.bars.len() as f64 * ROW + 38.0
    }

    /// The middle of the row `index` of a panel whose upper edge is at `y`.
    pub(crate) fn middle(y: f64, index: usize) -> f64 {
        y + 22.0 + (index as f64 + 0.5) * ROW
    }

    /// Draws it with its upper left corner at `x`, `y`.
    pub(crate) fn draw(&self, canvas: &mut Canvas, x: f64, y: f64, width: f64) {
        canvas.text(x, y + 10.0, Anchor::Start, "head", &self.title);
        let (top, bottom) = (y + 22.0, y + 22.0 + self.bars.len() as f64 * ROW);
        let highest = self.bars.iter().filter_map(|b| b.value).map(|s| s.max).fold(0.0, f64::max);
        let scale = Scale::linear(highest, 4);
        let length = width - FIGURE;
        for tick in &scale.ticks {
            let at = x + scale.at(*tick) * length;
            canvas.line((at, top), (at, bottom), "grid");
            canvas.text(at, bottom + 15.0, Anchor::Middle, "small faint", &tick_label(*tick));
        }
        canvas.text(x + length / 2.0, bottom + 31.0, Anchor::Middle, "small faint", self.unit);
        for (index, bar) in self.bars.iter().enumerate() {
            let middle = top + (index as f64 + 0.5) * ROW;
            match bar.value {
                Some(value) => draw_bar(canvas, &scale, (x, length), middle, bar.class, value),
                None => canvas.text(x + 6.0, middle + 4.0, Anchor::Start, "small faint", "no server"),
            }
        }
        canvas.line((x, top), (x, bottom), "axis");
    }
}

fn draw_bar(
    canvas: &mut Canvas,
    scale: &Scale,
    (x, length): (f64, f64),
    middle: f64,
    class: &str,
    value: Summary,
) {
    let at = |v: f64| x + scale.at(v) * length;
    canvas.rect(x, middle - BAR / 2.0, at(value.median) - x, BAR, class);
    let mut end = at(value.median);
    if value.max > value.min {
        canvas.line((at(value.min), middle), (at(value.max), middle), "spread");
        for edge in [value.min, value.max] {
            canvas.line((at(edge), middle - 4.0), (at(edge), middle + 4.0), "spread");
        }
        end = at(value.max);
    }
    let weight = if class == "subject" { "small strong" } else { "small" };
    canvas.text(end + 6.0, middle + 4.0, Anchor::Start, weight, &number(value.median));
}

fn names(canvas: &mut Canvas, sides: &[&Side], results: &Results, top: f64) {
    for (index, side) in sides.iter().enumerate() {
        let class = if side.peer.name == results.subject { "strong" } else { "" };
        let middle = top + 22.0 + (index as f64 + 0.5) * ROW;
        canvas.text(EDGE + NAME_WIDTH - 10.0, middle + 4.0, Anchor::End, class, &side.peer.name);
    }
}

/// Fastest first, the limits that do not compete at the end.
fn ordered<'a>(results: &'a Results, workload: &Workload) -> Vec<(&'a Side, &'a Cell, Summary)> {
    let mut rows: Vec<(&Side, &Cell, Summary)> = results
        .sides
        .iter()
        .filter_map(|side| {
            let cell = results.cell(workload.name, &side.peer.name)?;
            Some((side, cell, cell.speed()?))
        })
        .collect();
    let competes = |side: &Side| side.peer.name == results.subject || side.peer.class == Class::Server;
    rows.sort_by(|a, b| competes(b.0).cmp(&competes(a.0)).then(b.2.median.total_cmp(&a.2.median)));
    rows
}

/// Speed, CPU and latency of one workload; `None` when there is nothing to show.
pub(crate) fn workload(results: &Results, workload: &Workload) -> Option<String> {
    const WIDTH: f64 = 1060.0;
    let rows = ordered(results, workload);
    if rows.is_empty() {
        return None;
    }
    let bars = |figure: &dyn Fn(&Cell) -> Option<Summary>| -> Vec<Bar<'static>> {
        rows.iter()
            .map(|(side, cell, _)| Bar { class: class_of(results, side), value: figure(cell) })
            .collect()
    };
    let unit = workload.speed().unit();
    let panels = [
        Panel {
            title: "Speed".into(),
            unit: if unit == "IOPS" { "I/Os a second; more is better" } else { "MB/s; more is better" },
            bars: bars(&Cell::speed),
        },
        Panel {
            title: "CPU of the server".into(),
            unit: "microseconds an I/O; less is better",
            bars: bars(&|cell| cell.summary(|run| run.cpu_us_per_io)),
        },
    ];
    let top = 62.0;
    let height = top + panels[0].height() + 34.0;
    let mut canvas = Canvas::new(WIDTH, height);
    canvas.text(EDGE, 28.0, Anchor::Start, "title", workload.title);
    canvas.text(EDGE, 46.0, Anchor::Start, "small faint", &subtitle(results));
    let sides: Vec<&Side> = rows.iter().map(|row| row.0).collect();
    names(&mut canvas, &sides, results, top);
    let third = (WIDTH - EDGE * 2.0 - NAME_WIDTH) / 3.0;
    for (index, panel) in panels.iter().enumerate() {
        panel.draw(&mut canvas, EDGE + NAME_WIDTH + index as f64 * third, top, third - 6.0);
    }
    latencies(&mut canvas, results, &rows, (EDGE + NAME_WIDTH + 2.0 * third, third - 12.0), top);
    legend(&mut canvas, results, &sides, height - 16.0);
    Some(canvas.finish(workload.title))
}

/// p50, p99 and p99.9 of each side on a logarithmic scale.
fn latencies(
    canvas: &mut Canvas,
    results: &Results,
    rows: &[(&Side, &Cell, Summary)],
    (x, width): (f64, f64),
    y: f64,
) {
    let points: Vec<[f64; 3]> = rows
        .iter()
        .map(|(_, cell, _)| {
            let middle = |s: Option<Summary>| s.map_or(f64::NAN, |s| s.median);
            [
                middle(cell.summary(|run| Some(run.latency.p50_us))),
                middle(cell.summary(|run| Some(run.latency.p99_us))),
                middle(cell.summary(|run| Some(run.latency.p999_us))),
            ]
        })
        .collect();
    let all = points.iter().flatten().copied().filter(|v| *v > 0.0);
    let (lowest, highest) =
        all.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), v| (low.min(v), high.max(v)));
    let scale = Scale::logarithmic(lowest, highest);
    let (top, bottom) = (y + 22.0, y + 22.0 + rows.len() as f64 * ROW);
    canvas.text(x, y + 10.0, Anchor::Start, "head", "Latency: p50, p99, p99.9");
    for tick in &scale.ticks {
        let at = x + scale.at(*tick) * width;
        canvas.line((at, top), (at, bottom), "grid");
        canvas.text(at, bottom + 15.0, Anchor::Middle, "small faint", &tick_label(*tick));
    }
    canvas.text(
        x + width / 2.0,
        bottom + 31.0,
        Anchor::Middle,
        "small faint",
        "microseconds, logarithmic; less is better",
    );
    for (index, ((side, _, _), point)) in rows.iter().zip(&points).enumerate() {
        let middle = top + (index as f64 + 0.5) * ROW;
        let at = |value: f64| x + scale.at(value) * width;
        canvas.line((at(point[0]), middle), (at(point[2]), middle), "spread");
        for (value, radius) in point.iter().zip([5.0, 4.0, 3.0]) {
            canvas.dot(at(*value), middle, radius, class_of(results, side));
        }
    }
    canvas.line((x, top), (x, bottom), "axis");
}

fn subtitle(results: &Results) -> String {
    let settings = &results.settings;
    let runs = match settings.repeats {
        1 => "one run".to_string(),
        repeats => format!("bars: median, lines: minimum to maximum of {repeats} runs"),
    };
    format!(
        "{runs} of {} s; volume {}; NBD on unix sockets, client on the same machine ({} processors)",
        settings.runtime_s,
        crate::units::shown_size(settings.size),
        results.machine.cpus
    )
}

fn legend(canvas: &mut Canvas, results: &Results, sides: &[&Side], y: f64) {
    let mut x = EDGE + NAME_WIDTH;
    let labels = [
        ("subject", results.subject.as_str()),
        ("server", "serves durable volumes"),
        ("limit", "limit of the disk or of the protocol"),
    ];
    for (class, label) in labels {
        let shown = |side: &&&Side| {
            let found = class_of(results, side);
            found == class || (class == "limit" && found == "protocol")
        };
        if sides.iter().any(|s| shown(&s)) {
            canvas.rect(x, y - 9.0, 10.0, 10.0, class);
            canvas.text(x + 16.0, y, Anchor::Start, "small faint", label);
            x += 36.0 + label.chars().count() as f64 * 6.4;
        }
    }
}

/// The speeds of all workloads, two to a row; `None` with fewer than two workloads.
pub(crate) fn overview(results: &Results) -> Option<String> {
    const WIDTH: f64 = 1060.0;
    let shown: Vec<&Workload> =
        results.workloads.iter().filter(|w| !ordered(results, w).is_empty()).collect();
    if shown.len() < 2 {
        return None;
    }
    let sides: Vec<&Side> = results.measured().collect();
    let panel_of = |workload: &&Workload| Panel {
        title: workload.title.to_string(),
        unit: if workload.speed().unit() == "IOPS" {
            "I/Os a second; more is better"
        } else {
            "MB/s; more is better"
        },
        bars: sides
            .iter()
            .map(|side| Bar {
                class: class_of(results, side),
                value: results.cell(workload.name, &side.peer.name).and_then(Cell::speed),
            })
            .collect(),
    };
    let panels: Vec<Panel<'_>> = shown.iter().map(panel_of).collect();
    let (top, gap) = (66.0, 18.0);
    let step = panels[0].height() + gap;
    let height = top + panels.len().div_ceil(2) as f64 * step + 20.0;
    let mut canvas = Canvas::new(WIDTH, height);
    canvas.text(EDGE, 28.0, Anchor::Start, "title", &results.title());
    canvas.text(EDGE, 46.0, Anchor::Start, "small faint", &subtitle(results));
    let half = (WIDTH - EDGE * 2.0 - NAME_WIDTH) / 2.0;
    for (index, panel) in panels.iter().enumerate() {
        let y = top + (index / 2) as f64 * step;
        if index % 2 == 0 {
            names(&mut canvas, &sides, results, y);
        }
        panel.draw(&mut canvas, EDGE + NAME_WIDTH + (index % 2) as f64 * half, y, half - 10.0);
    }
    legend(&mut canvas, results, &sides, height - 14.0);
    Some(canvas.finish("Speed of all workloads"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;
    use crate::workload;

    #[test]
    fn a_bar_for_each_side_the_limit_last() {
        let results = example();
        let picture = super::workload(&results, &results.workloads[0]).unwrap();
        // Two panels of three bars.
        assert_eq!(picture.matches("<rect x=").count(), 6 + 3, "bars and legend");
        let place = |name: &str| picture.find(&format!(">{name}</text>")).unwrap();
        assert!(place("ovs") < place("qemu-nbd-raw") && place("qemu-nbd-raw") < place("raw"));
        assert!(picture.contains("I/Os a second") && picture.contains("prefers-color-scheme:dark"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
    }

    #[test]
    fn nothing_to_show_is_no_picture() {
        let mut results = example();
        assert!(overview(&results).is_none());
        assert!(super::workload(&results, &workload::ALL[1]).is_none());
        results.cells.clear();
        assert!(super::workload(&results, &workload::ALL[0]).is_none());
    }
}

//! Figures of several sides as the work grows: panels two to a row over the same logarithmic axis.

use crate::report::svg::{Anchor, Canvas, Scale, tick_label};

/// The figures of one side.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Whose they are.
    pub(crate) name: String,
    /// Points in order of the horizontal axis.
    pub(crate) points: Vec<(f64, f64)>,
}

/// One panel.
#[derive(Clone, Debug)]
pub(crate) struct CurvePanel {
    /// What is shown, with its unit.
    pub(crate) title: String,
    /// One line each; the same side stands at the same place in every panel.
    pub(crate) series: Vec<Series>,
    /// Whether the vertical axis goes by powers of ten.
    pub(crate) logarithmic: bool,
}

/// The horizontal axis.
#[derive(Clone, Debug)]
pub(crate) struct Across {
    /// What grows, with its unit.
    pub(crate) title: String,
    /// The values measured, ascending, each with its label.
    pub(crate) values: Vec<(f64, String)>,
}

const WIDTH: f64 = 1060.0;
const EDGE: f64 = 20.0;
const LEFT: f64 = 62.0;
const HEIGHT: f64 = 190.0;
const STEP: f64 = HEIGHT + 76.0;
const TOP: f64 = 104.0;
/// Lines that have a colour of their own; more begin anew.
const COLOURS: usize = 5;

impl Across {
    /// The share of the axis, 0 to 1, at which `value` lies.
    fn at(&self, value: f64) -> f64 {
        let (Some(first), Some(last)) = (self.values.first(), self.values.last()) else { return 0.0 };
        let length = (last.0 / first.0).ln();
        if length > 0.0 { ((value / first.0).ln() / length).clamp(0.0, 1.0) } else { 0.5 }
    }
}

/// The picture.
pub(crate) fn draw(title: &str, subtitle: &str, across: &Across, panels: &[CurvePanel]) -> String {
    let rows = panels.len().div_ceil(2);
    let mut canvas = Canvas::new(WIDTH, TOP + rows as f64 * STEP);
    canvas.text(EDGE, 28.0, Anchor::Start, "title", title);
    canvas.text(EDGE, 46.0, Anchor::Start, "small faint", subtitle);
    legend(&mut canvas, panels.first());
    let half = (WIDTH - 2.0 * EDGE) / 2.0;
    for (index, panel) in panels.iter().enumerate() {
        let (row, column) = ((index / 2) as f64, (index % 2) as f64);
        let left = EDGE + column * half + LEFT;
        panel.draw(&mut canvas, across, (left, TOP + row * STEP), half - LEFT - 24.0);
    }
    canvas.finish(title)
}

fn legend(canvas: &mut Canvas, panel: Option<&CurvePanel>) {
    let mut x = EDGE;
    for (index, series) in panel.iter().flat_map(|panel| panel.series.iter()).enumerate() {
        canvas.line((x, 64.0), (x + 18.0, 64.0), &format!("series line{}", index % COLOURS));
        canvas.dot(x + 9.0, 64.0, 3.0, &format!("dot{}", index % COLOURS));
        canvas.text(x + 24.0, 68.0, Anchor::Start, "small", &series.name);
        x += 44.0 + series.name.chars().count() as f64 * 6.6;
    }
}

impl CurvePanel {
    fn scale(&self) -> Scale {
        let values = || self.series.iter().flat_map(|s| &s.points).map(|p| p.1);
        let highest = values().fold(0.0, f64::max);
        if self.logarithmic {
            Scale::logarithmic(values().fold(f64::INFINITY, f64::min), highest)
        } else {
            Scale::linear(highest, 4)
        }
    }

    fn draw(&self, canvas: &mut Canvas, across: &Across, (left, top): (f64, f64), width: f64) {
        let bottom = top + HEIGHT;
        let vertical = self.scale();
        canvas.text(left - LEFT + 10.0, top - 12.0, Anchor::Start, "head", &self.title);
        for tick in &vertical.ticks {
            let y = bottom - vertical.at(*tick) * HEIGHT;
            canvas.line((left, y), (left + width, y), "grid");
            canvas.text(left - 8.0, y + 4.0, Anchor::End, "small faint", &tick_label(*tick));
        }
        for (value, label) in &across.values {
            let x = left + across.at(*value) * width;
            canvas.line((x, bottom), (x, bottom + 4.0), "axis");
            canvas.text(x, bottom + 17.0, Anchor::Middle, "small faint", label);
        }
        canvas.text(left + width, bottom + 33.0, Anchor::End, "small faint", &across.title);
        canvas.line((left, bottom), (left + width, bottom), "axis");
        for (index, series) in self.series.iter().enumerate() {
            let place =
                |(x, y): &(f64, f64)| (left + across.at(*x) * width, bottom - vertical.at(*y) * HEIGHT);
            let points: Vec<(f64, f64)> = series.points.iter().map(place).collect();
            canvas.path(&points, &format!("series line{}", index % COLOURS));
            for (x, y) in points {
                canvas.dot(x, y, 3.0, &format!("dot{}", index % COLOURS));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_has_a_line_in_every_panel() {
        let series = |name: &str, factor: f64| Series {
            name: name.to_string(),
            points: vec![(1.0, factor), (32.0, 10.0 * factor), (128.0, 12.0 * factor)],
        };
        let panel = |title: &str, logarithmic| CurvePanel {
            title: title.to_string(),
            series: vec![series("ovs", 5e3), series("raw", 7e3)],
            logarithmic,
        };
        let values = [1.0, 32.0, 128.0].map(|v: f64| (v, v.to_string())).to_vec();
        let across = Across { title: "I/Os in flight".to_string(), values };
        let picture = draw("t", "s", &across, &[panel("IOPS", false), panel("p99, us", true)]);
        assert_eq!(picture.matches("<polyline").count(), 4);
        assert_eq!(picture.matches(">raw</text>").count(), 1);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        assert_eq!((across.at(1.0), across.at(128.0)), (0.0, 1.0));
        assert!((across.at(32.0) - 5.0 / 7.0).abs() < 1e-9);
    }

    #[test]
    fn one_value_alone_stands_in_the_middle() {
        let across = Across { title: String::new(), values: vec![(4.0, "4".to_string())] };
        assert_eq!(across.at(4.0), 0.5);
    }
}

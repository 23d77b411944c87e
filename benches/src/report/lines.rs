//! A line over time, for the scenarios.

use crate::report::svg::{Anchor, Canvas, Scale, tick_label};

/// One panel with one line.
#[derive(Clone, Debug)]
pub(crate) struct LinePanel {
    /// What is shown, with its unit.
    pub(crate) title: String,
    /// Points in order of the horizontal axis.
    pub(crate) points: Vec<(f64, f64)>,
    /// A level to compare with, and what it is.
    pub(crate) rule: Option<(f64, String)>,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 30.0;
const PANEL: f64 = 190.0;
const STEP: f64 = PANEL + 62.0;

/// Panels one below the other over the same horizontal axis.
pub(crate) fn draw(title: &str, subtitle: &str, across: &str, panels: &[LinePanel]) -> String {
    let top = 84.0;
    let mut canvas = Canvas::new(WIDTH, top + panels.len() as f64 * STEP);
    canvas.text(20.0, 28.0, Anchor::Start, "title", title);
    canvas.text(20.0, 46.0, Anchor::Start, "small faint", subtitle);
    let last = panels.iter().flat_map(|p| &p.points).map(|p| p.0).fold(0.0, f64::max);
    let horizontal = Scale::linear(last, 8);
    for (index, panel) in panels.iter().enumerate() {
        draw_panel(&mut canvas, panel, index, top + index as f64 * STEP, &horizontal, across);
    }
    canvas.finish(title)
}

fn draw_panel(
    canvas: &mut Canvas,
    panel: &LinePanel,
    index: usize,
    top: f64,
    horizontal: &Scale,
    across: &str,
) {
    let bottom = top + PANEL;
    let width = WIDTH - LEFT - RIGHT;
    let rule = panel.rule.as_ref().map_or(0.0, |r| r.0);
    let vertical = Scale::linear(panel.points.iter().map(|p| p.1).fold(rule, f64::max), 4);
    canvas.text(20.0, top - 12.0, Anchor::Start, "head", &panel.title);
    for tick in &vertical.ticks {
        let y = bottom - vertical.at(*tick) * PANEL;
        canvas.line((LEFT, y), (LEFT + width, y), "grid");
        canvas.text(LEFT - 8.0, y + 4.0, Anchor::End, "small faint", &tick_label(*tick));
    }
    for tick in &horizontal.ticks {
        let x = LEFT + horizontal.at(*tick) * width;
        canvas.line((x, bottom), (x, bottom + 4.0), "axis");
        canvas.text(x, bottom + 17.0, Anchor::Middle, "small faint", &tick_label(*tick));
    }
    canvas.text(LEFT + width, bottom + 33.0, Anchor::End, "small faint", across);
    canvas.line((LEFT, bottom), (LEFT + width, bottom), "axis");
    let place = |(x, y): &(f64, f64)| (LEFT + horizontal.at(*x) * width, bottom - vertical.at(*y) * PANEL);
    let points: Vec<(f64, f64)> = panel.points.iter().map(place).collect();
    canvas.path(&points, &format!("series line{}", index % 2));
    if points.len() <= 60 {
        for (x, y) in &points {
            canvas.dot(*x, *y, 3.0, &format!("dot{}", index % 2));
        }
    }
    if let Some((value, label)) = &panel.rule {
        let y = bottom - vertical.at(*value) * PANEL;
        canvas.line((LEFT, y), (LEFT + width, y), "rule");
        canvas.text(LEFT + width, y - 5.0, Anchor::End, "small faint", label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_have_line_axis_and_rule() {
        let panel = LinePanel {
            title: "IOPS".to_string(),
            points: vec![(1.0, 40_000.0), (2.0, 30_000.0)],
            rule: Some((41_000.0, "fresh".to_string())),
        };
        let picture = draw("t", "s", "minutes", &[panel]);
        assert_eq!(picture.matches("<polyline").count(), 1);
        assert_eq!(picture.matches("<circle").count(), 2);
        for part in ["class=\"rule\"", ">fresh<", ">60k<", ">minutes<"] {
            assert!(picture.contains(part), "{part} is missing");
        }
    }
}

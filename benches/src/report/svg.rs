//! Drawing primitives: a canvas of SVG elements and a linear or logarithmic scale.

use std::fmt::Write;

/// Colours and type for light and dark backgrounds.
const STYLE: &str = "\
text{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:12px;fill:#24292f}\
.back{fill:#ffffff}.title{font-size:16px;font-weight:600}.head{font-weight:600}.faint{fill:#57606a}\
.small{font-size:11px}.grid{stroke:#d0d7de;stroke-width:1}.axis{stroke:#57606a;stroke-width:1}\
.subject{fill:#c2410c}.server{fill:#6387ad}.protocol{fill:#b6c2cf}.limit{fill:#b6c2cf}\
.spread{stroke:#24292f;stroke-width:1.5}.strong{font-weight:600}\
.line0{stroke:#c2410c}.line1{stroke:#3b6ea5}.series{fill:none;stroke-width:2}.dot0{fill:#c2410c}.dot1{fill:#3b6ea5}\
.line2{stroke:#3f7d4e}.line3{stroke:#8a5fb0}.line4{stroke:#8a7a3c}\
.dot2{fill:#3f7d4e}.dot3{fill:#8a5fb0}.dot4{fill:#8a7a3c}\
.rule{stroke:#57606a;stroke-width:1;stroke-dasharray:4 3}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117}.faint{fill:#9198a1}.grid{stroke:#30363d}\
.axis{stroke:#9198a1}.spread{stroke:#e6edf3}.subject{fill:#f0883e}.server{fill:#5b86b3}\
.protocol{fill:#48525e}.limit{fill:#48525e}.line0{stroke:#f0883e}.line1{stroke:#6ea8e0}.dot0{fill:#f0883e}\
.dot1{fill:#6ea8e0}.line2{stroke:#6fbf85}.line3{stroke:#b794d8}.line4{stroke:#c4b26a}\
.dot2{fill:#6fbf85}.dot3{fill:#b794d8}.dot4{fill:#c4b26a}.rule{stroke:#9198a1}}";

/// Where a text is fastened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// At its left end.
    Start,
    /// At its middle.
    Middle,
    /// At its right end.
    End,
}

/// A picture being drawn; units are pixels, the origin is at the top left.
#[derive(Debug)]
pub(crate) struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

/// `text` with the characters that XML reserves replaced.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Canvas {
    /// An empty picture.
    pub(crate) fn new(width: f64, height: f64) -> Canvas {
        Canvas { width, height, body: String::new() }
    }

    /// A text whose base line is at `y`.
    pub(crate) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        );
    }

    /// A filled rectangle.
    pub(crate) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        let (width, height) = (width.max(0.0), height.max(0.0));
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\"/>"
        );
    }

    /// A straight line.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// A filled circle.
    pub(crate) fn dot(&mut self, x: f64, y: f64, radius: f64, class: &str) {
        let _ =
            writeln!(self.body, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" class=\"{class}\"/>");
    }

    /// A line through points.
    pub(crate) fn path(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.body, "<polyline points=\"{}\" class=\"{class}\"/>", points.join(" "));
    }

    /// The finished document.
    pub(crate) fn finish(self, title: &str) -> String {
        let Canvas { width, height, body } = self;
        let title = escape(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" class=\"back\"/>\n{body}</svg>\n"
        )
    }
}

/// Maps values to pixels, and knows where the ticks are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
    /// Values that get a tick.
    pub(crate) ticks: Vec<f64>,
}

impl Scale {
    /// From 0 to at least `highest`, ending at a tick, with about `count` steps of 1, 2 or 5 times a power of ten.
    pub(crate) fn linear(highest: f64, count: usize) -> Scale {
        let highest = if highest.is_finite() && highest > 0.0 { highest } else { 1.0 };
        let rough = highest / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= rough * 0.999).unwrap_or(10.0);
        let step = factor * power;
        let steps = (highest / step * 0.999).ceil() as usize;
        let ticks: Vec<f64> = (0..=steps).map(|i| i as f64 * step).collect();
        Scale { from: 0.0, to: ticks[steps], logarithmic: false, ticks }
    }

    /// Whole powers of ten around `lowest` and `highest`.
    pub(crate) fn logarithmic(lowest: f64, highest: f64) -> Scale {
        let lowest = if lowest.is_finite() && lowest > 0.0 { lowest } else { 1.0 };
        let first = lowest.log10().floor() as i32;
        let last = (highest.max(lowest * 1.001).log10().ceil() as i32).max(first + 1);
        let ticks = (first..=last).map(|p| 10f64.powi(p)).collect();
        Scale { from: 10f64.powi(first), to: 10f64.powi(last), logarithmic: true, ticks }
    }

    /// The share of the axis, 0 to 1, at which `value` lies.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        share.clamp(0.0, 1.0)
    }
}

/// A number for a tick: `0`, `20k`, `1.5M`.
pub(crate) fn tick_label(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(Scale::linear(41_632.0, 4).ticks, [0.0, 20_000.0, 40_000.0, 60_000.0]);
        assert_eq!(Scale::linear(60_000.0, 4).ticks, [0.0, 20_000.0, 40_000.0, 60_000.0]);
        assert_eq!(Scale::linear(0.0, 4).ticks.len(), 3);
        assert!((Scale::linear(100.0, 4).at(50.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn logarithmic_ticks_are_powers() {
        let scale = Scale::logarithmic(34.0, 6717.0);
        assert_eq!(scale.ticks, [10.0, 100.0, 1000.0, 10_000.0]);
        assert!((scale.at(1000.0) - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(Scale::logarithmic(100.0, 100.0).ticks, [100.0, 1000.0]);
    }

    #[test]
    fn labels_are_short() {
        let labels: Vec<String> =
            [0.0, 0.5, 2500.0, 20_000.0, 1_500_000.0].into_iter().map(tick_label).collect();
        assert_eq!(labels, ["0", "0.5", "2500", "20k", "1.5M"]);
    }

    #[test]
    fn text_is_escaped() {
        let mut canvas = Canvas::new(10.0, 10.0);
        canvas.text(0.0, 0.0, Anchor::Start, "", "a<b & \"c\"");
        assert!(canvas.finish("<t>").contains("a&lt;b &amp; &quot;c&quot;</text>"));
    }
}

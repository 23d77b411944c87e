//! A huge volume written at random all over: does memory follow the volume, or its parameter.

use std::fmt::Write;

use serde::Serialize;

use crate::accounting::Sample;
use crate::error::Result;
use crate::fio::{End, Job};
use crate::fio_output::FioReport;
use crate::machine::Machine;
use crate::measure::observe;
use crate::report::lines::{LinePanel, draw};
use crate::report::markdown::Table;
use crate::report::write_json;
use crate::scenario::{origin, prepare, subject};
use crate::server::Allocation;
use crate::units::{MIB, number, rough_size, shown_size};
use crate::workspace::Workspace;

const BLOCK: u64 = 4 << 10;
/// Points that are kept of the course of the memory.
const POINTS: usize = 240;

#[derive(Debug, Serialize)]
struct Sparse {
    machine: Machine,
    peer: String,
    size: u64,
    writes: u64,
    iops: f64,
    p99_us: f64,
    /// Seconds from the start of the writing, and resident bytes of the server then.
    resident: Vec<(f64, u64)>,
    /// Highest resident memory, bytes.
    peak: u64,
}

/// Runs it and writes `sparse.json`, `sparse.md` and `sparse.svg`.
pub(crate) fn run(workspace: &Workspace, millions: f64) -> Result<()> {
    let quick = if workspace.options.quick { 64 << 30 } else { 1 << 40 };
    let size = workspace.options.size.unwrap_or(quick);
    let writes = (millions * 1e6).clamp(1.0, 1e12) as u64;
    workspace.need_space(writes * BLOCK * 3)?;
    let (peer, mut plan) = subject(workspace, size)?;
    plan.allocation = Allocation::Sparse;
    let mut instance = prepare(workspace, plan)?;
    instance.start()?;
    let target = instance.target()?.clone();
    eprintln!("{}: {} writes all over {}", peer.name, number(writes as f64), shown_size(size));
    let job = Job::random_writes(&target, size, 32, End::Bytes(writes * BLOCK), 31);
    let (report, samples) = observe(&mut instance, &job, &workspace.disk, &workspace.directory)?;
    let sparse = evaluate(workspace, peer.name, size, &report, &samples);
    write_json(workspace, "sparse.json", &sparse)?;
    workspace.write("sparse.svg", &sparse.picture(&origin(workspace)))?;
    let text = sparse.markdown(&origin(workspace));
    workspace.write("sparse.md", &text)?;
    println!("{text}");
    Ok(())
}

fn evaluate(
    workspace: &Workspace,
    peer: String,
    size: u64,
    report: &FioReport,
    samples: &[Sample],
) -> Sparse {
    Sparse {
        machine: workspace.machine.clone(),
        peer,
        size,
        writes: report.write.ios,
        iops: report.write.iops,
        p99_us: report.write.latency.p99_us,
        resident: course(samples),
        peak: samples.iter().map(|s| s.resident).max().unwrap_or(0),
    }
}

/// Resident memory over time, thinned out; the last point is always kept.
fn course(samples: &[Sample]) -> Vec<(f64, u64)> {
    let Some(first) = samples.first() else { return Vec::new() };
    let step = samples.len().div_ceil(POINTS).max(1);
    let kept = |index: usize| index.is_multiple_of(step) || index + 1 == samples.len();
    let points = samples.iter().enumerate().filter(|(index, _)| kept(*index));
    points.map(|(_, s)| ((s.at_ms - first.at_ms) / 1e3, s.resident)).collect()
}

impl Sparse {
    fn markdown(&self, origin: &str) -> String {
        let mut out = format!("# Memory of {} under scattered writes\n\n{origin}.\n\n", self.peer);
        let _ = writeln!(
            out,
            "Volume of {}, never written before; {} random 4 KiB writes at depth 32: {} IOPS, p99 {} us. \
             Resident at most: {}.\n",
            shown_size(self.size),
            number(self.writes as f64),
            number(self.iops),
            number(self.p99_us),
            rough_size(self.peak)
        );
        let mut table = Table::new(["seconds", "resident"]);
        let step = self.resident.len().div_ceil(10).max(1);
        for (index, (seconds, bytes)) in self.resident.iter().enumerate() {
            if index.is_multiple_of(step) || index + 1 == self.resident.len() {
                table.row([number(*seconds), rough_size(*bytes)]);
            }
        }
        out.push_str(&table.text());
        out
    }

    fn picture(&self, origin: &str) -> String {
        let points =
            self.resident.iter().map(|(seconds, bytes)| (*seconds, *bytes as f64 / MIB as f64)).collect();
        let panel = LinePanel { title: "Resident memory, MiB".to_string(), points, rule: None };
        let title = format!(
            "Memory of {}: {} random writes all over {}",
            self.peer,
            number(self.writes as f64),
            shown_size(self.size)
        );
        draw(&title, origin, "seconds", &[panel])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_course_is_thinned_and_keeps_its_end() {
        let samples: Vec<Sample> = (0..1000)
            .map(|i| Sample { at_ms: f64::from(i) * 200.0, resident: i as u64, ..Sample::default() })
            .collect();
        let points = course(&samples);
        assert!(points.len() <= POINTS + 1);
        assert_eq!(points.first(), Some(&(0.0, 0)));
        assert_eq!(points.last(), Some(&(199.8, 999)));
        assert!(course(&[]).is_empty());
    }
}

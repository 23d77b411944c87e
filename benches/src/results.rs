//! Everything that was measured, and what follows from it.

use serde::Serialize;

use crate::machine::Machine;
use crate::measure::{FOREIGN_LIMIT, Run};
use crate::peers::{Class, Peer};
use crate::stats::{Summary, ratio, summarise};
use crate::workload::Workload;

/// Settings of a comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    /// Repeats of each cell.
    pub(crate) repeats: usize,
    /// Seconds that count in a run.
    pub(crate) runtime_s: f64,
    /// Seconds before, that do not.
    pub(crate) ramp_s: f64,
    /// Bytes of a volume.
    pub(crate) size: u64,
}

/// A peer and whether it took part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Side {
    /// The peer.
    pub(crate) peer: Peer,
    /// Why it did not take part, or only up to some point.
    pub(crate) problem: Option<String>,
    /// Speed of the first fill, MB/s.
    pub(crate) fill_mb_s: Option<f64>,
}

/// One workload on one side.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    /// Name of the workload.
    pub(crate) workload: &'static str,
    /// Name of the peer.
    pub(crate) peer: String,
    /// By repeat; `None` where it failed.
    pub(crate) runs: Vec<Option<Run>>,
    /// Why there are no runs or fewer.
    pub(crate) problem: Option<String>,
}

impl Cell {
    /// Summary of one figure over the repeats.
    pub(crate) fn summary(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<Summary> {
        summarise(&self.runs.iter().flatten().filter_map(figure).collect::<Vec<f64>>())
    }

    /// Summary of the speed.
    pub(crate) fn speed(&self) -> Option<Summary> {
        self.summary(|run| Some(run.speed))
    }

    /// Whether other processes disturbed a run.
    pub(crate) fn disturbed(&self) -> bool {
        self.runs.iter().flatten().any(|run| run.foreign_share.is_some_and(|share| share > FOREIGN_LIMIT))
    }

    fn speeds(&self) -> Vec<Option<f64>> {
        self.runs.iter().map(|run| run.as_ref().map(|r| r.speed)).collect()
    }
}

/// The speed of the subject over that of a peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    /// Name of the workload.
    pub(crate) workload: &'static str,
    /// Name of the peer.
    pub(crate) peer: String,
    /// Above 1: the subject is faster.
    pub(crate) ratio: Summary,
    /// Whether this is the fastest peer that competes.
    pub(crate) best: bool,
}

/// A comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    /// Seconds since 1970 of its start.
    pub(crate) started: u64,
    /// What it ran on.
    pub(crate) machine: Machine,
    /// How it ran.
    pub(crate) settings: Settings,
    /// Who is compared with all others.
    pub(crate) subject: String,
    /// Everybody, the subject first.
    pub(crate) sides: Vec<Side>,
    /// What ran.
    pub(crate) workloads: Vec<Workload>,
    /// The figures.
    pub(crate) cells: Vec<Cell>,
    /// The subject against each other side.
    pub(crate) ratios: Vec<Ratio>,
    /// What a reader has to know.
    pub(crate) notes: Vec<String>,
}

impl Results {
    /// A heading for all of it.
    pub(crate) fn title(&self) -> String {
        match self.measured().any(|side| side.peer.name == self.subject) {
            true => format!("Block volumes over NBD: {} and its peers", self.subject),
            false => "Block volumes over NBD".to_string(),
        }
    }

    /// The cell of `workload` and `peer`.
    pub(crate) fn cell(&self, workload: &str, peer: &str) -> Option<&Cell> {
        self.cells.iter().find(|c| c.workload == workload && c.peer == peer)
    }

    /// The sides that have at least one figure.
    pub(crate) fn measured(&self) -> impl Iterator<Item = &Side> {
        self.sides.iter().filter(|s| self.cells.iter().any(|c| c.peer == s.peer.name && c.speed().is_some()))
    }

    /// The ratio of the subject to `peer` in `workload`.
    pub(crate) fn ratio(&self, workload: &str, peer: &str) -> Option<&Ratio> {
        self.ratios.iter().find(|r| r.workload == workload && r.peer == peer)
    }

    /// Adds a note, once.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Works out the ratios from the cells.
    pub(crate) fn compare(&mut self) {
        let mut ratios = Vec::new();
        for workload in &self.workloads {
            let Some(subject) = self.cell(workload.name, &self.subject) else { continue };
            let first = ratios.len();
            for side in self.sides.iter().filter(|s| s.peer.name != self.subject) {
                let Some(cell) = self.cell(workload.name, &side.peer.name) else { continue };
                if let Some(ratio) = ratio(&subject.speeds(), &cell.speeds()) {
                    let peer = side.peer.name.clone();
                    ratios.push(Ratio { workload: workload.name, peer, ratio, best: false });
                }
            }
            let competes = |r: &&mut Ratio| {
                self.sides.iter().any(|s| s.peer.name == r.peer && s.peer.class == Class::Server)
            };
            let best = ratios[first..].iter_mut().filter(competes);
            if let Some(best) = best.min_by(|a, b| a.ratio.median.total_cmp(&b.ratio.median)) {
                best.best = true;
            }
        }
        self.ratios = ratios;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fio_output::Latency;
    use crate::{peers, workload};

    pub(crate) fn run(speed: f64) -> Run {
        Run {
            speed,
            ios: 1000,
            bytes: 4_096_000,
            latency: Latency { mean_us: 100.0, p50_us: 90.0, p99_us: 200.0, p999_us: 400.0 },
            write_latency: None,
            flush_latency: None,
            cpu_us_per_io: Some(12.5),
            resident: Some(64 << 20),
            resident_peak: Some(65 << 20),
            written_per_byte: Some(1.25),
            disk_written_per_byte: Some(1.5),
            foreign_share: Some(0.01),
        }
    }

    /// Three sides, one workload, two repeats: ovs 10 and 12, raw 20 and 20, qemu-nbd-raw 8 and 10 (thousand).
    pub(crate) fn example() -> Results {
        let wanted = [("ovs", [10e3, 12e3]), ("raw", [20e3, 20e3]), ("qemu-nbd-raw", [8e3, 10e3])];
        let all = peers::load(&[]).unwrap();
        let side = |name: &str| {
            let peer = all.iter().find(|p| p.name == name).unwrap().clone();
            Side { peer, problem: None, fill_mb_s: Some(500.0) }
        };
        let workload = workload::ALL[0];
        let cell = |name: &str, speeds: &[f64]| Cell {
            workload: workload.name,
            peer: name.to_string(),
            runs: speeds.iter().map(|s| Some(run(*s))).collect(),
            problem: None,
        };
        let mut results = Results {
            started: 0,
            machine: Machine::default(),
            settings: Settings { repeats: 2, runtime_s: 8.0, ramp_s: 2.0, size: 4 << 30 },
            subject: "ovs".to_string(),
            sides: wanted.iter().map(|(name, _)| side(name)).collect(),
            workloads: vec![workload],
            cells: wanted.iter().map(|(name, speeds)| cell(name, speeds)).collect(),
            ratios: Vec::new(),
            notes: Vec::new(),
        };
        results.compare();
        results
    }

    #[test]
    fn the_best_is_the_fastest_that_competes() {
        let results = example();
        let name = workload::ALL[0].name;
        let raw = results.ratio(name, "raw").unwrap();
        assert!(!raw.best && (raw.ratio.median - 0.55).abs() < 1e-9);
        let qemu = results.ratio(name, "qemu-nbd-raw").unwrap();
        assert!(qemu.best && qemu.ratio.min >= 1.2 && qemu.ratio.max <= 1.25);
    }

    #[test]
    fn notes_are_said_once() {
        let mut results = example();
        results.note("x");
        results.note("x");
        assert_eq!(results.notes, ["x"]);
    }
}

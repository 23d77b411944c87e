//! The ratios of an earlier quick run, committed, so that a change can be held against them: absolute figures belong to
//! a machine and an hour, ratios of one run hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Result};
use crate::report::markdown::Table;
use crate::results::Results;
use crate::workspace::Workspace;

/// The peers of a quick run.
pub(crate) const PEERS: [&str; 3] = ["raw", "qsd-raw", "nbdkit-file"];
/// A ratio that falls below this part of the earlier one is warned of.
const FALL: f64 = 0.85;

/// Ratios of the subject by workload and peer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    /// Whose ratios they are.
    subject: String,
    /// Processor and number of processors they were taken on.
    machine: String,
    /// Speed of the subject over the peer's, by workload and peer.
    ratios: BTreeMap<String, BTreeMap<String, f64>>,
}

/// One ratio then and now.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    workload: String,
    peer: String,
    before: f64,
    now: f64,
}

impl Change {
    fn part(&self) -> f64 {
        self.now / self.before.max(1e-9)
    }

    fn fell(&self) -> bool {
        self.part() < FALL
    }
}

impl Baseline {
    fn of(results: &Results) -> Baseline {
        let mut ratios: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        for ratio in &results.ratios {
            // Three digits say more than a run does.
            let rounded = (ratio.ratio.median * 1e3).round() / 1e3;
            ratios.entry(ratio.workload.to_string()).or_default().insert(ratio.peer.clone(), rounded);
        }
        Baseline {
            subject: results.subject.clone(),
            machine: format!("{} x {}", results.machine.cpus, results.machine.processor),
            ratios,
        }
    }

    /// What both runs have.
    fn changes(&self, now: &Baseline) -> Vec<Change> {
        let mut changes = Vec::new();
        for (workload, peers) in &self.ratios {
            for (peer, before) in peers {
                let Some(now) = now.ratios.get(workload).and_then(|peers| peers.get(peer)) else { continue };
                let (workload, peer) = (workload.clone(), peer.clone());
                changes.push(Change { workload, peer, before: *before, now: *now });
            }
        }
        changes
    }
}

/// Puts the ratios of this run where later runs look for them.
pub(crate) fn write(workspace: &Workspace, results: &Results) -> Result<()> {
    let path = &workspace.options.baseline;
    let text = serde_json::to_string_pretty(&Baseline::of(results))
        .map_err(|e| BenchError::Setup(format!("{}: {e}", path.display())))?;
    std::fs::write(path, text + "\n").map_err(BenchError::file(path))?;
    eprintln!("baseline: {}", path.display());
    Ok(())
}

/// Prints this run's ratios beside the earlier ones, and warns of those that fell.
pub(crate) fn compare(workspace: &Workspace, results: &Results) -> Result<()> {
    let path = &workspace.options.baseline;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("no baseline at {}: --write-baseline makes one", path.display());
            return Ok(());
        }
        Err(e) => return Err(BenchError::file(path)(e)),
    };
    let before: Baseline =
        serde_json::from_str(&text).map_err(|e| BenchError::Setup(format!("{}: {e}", path.display())))?;
    let now = Baseline::of(results);
    if before.subject != now.subject {
        eprintln!("the baseline is of {}, not of {}: not compared", before.subject, now.subject);
        return Ok(());
    }
    print!("{}", text_of(&before, &now));
    Ok(())
}

fn text_of(before: &Baseline, now: &Baseline) -> String {
    let changes = before.changes(now);
    let mut table = Table::new(["workload", "peer", "baseline", "now", "now / baseline"]);
    let times = |value: f64| format!("{value:.2}x");
    for change in &changes {
        let mark = if change.fell() { " !" } else { "" };
        table.row([
            change.workload.clone(),
            change.peer.clone(),
            times(change.before),
            times(change.now),
            times(change.part()) + mark,
        ]);
    }
    let mut out = table.text();
    if before.machine != now.machine {
        out.push_str(&format!(
            "\nThe baseline was taken on {}, this run on {}.\n",
            before.machine, now.machine
        ));
    }
    let fell: Vec<&Change> = changes.iter().filter(|change| change.fell()).collect();
    match fell.len() {
        0 => out.push_str(&format!("\nNo ratio fell by more than 15 % ({} compared).\n", changes.len())),
        count => {
            out.push_str(&format!(
                "\nWARNING: {count} of {} ratios fell by more than 15 %:\n",
                changes.len()
            ));
            for change in fell {
                out.push_str(&format!(
                    "* {} against {}: {:.2}x of the baseline\n",
                    change.workload,
                    change.peer,
                    change.part()
                ));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn a_ratio_that_fell_is_warned_of() {
        let before = Baseline::of(&example());
        assert_eq!(before.ratios["randwrite-4k-qd32"]["raw"], 0.55);
        assert!(text_of(&before, &before).contains("No ratio fell by more than 15 % (2 compared)"));
        let mut now = before.clone();
        let peers = now.ratios.get_mut("randwrite-4k-qd32").unwrap();
        *peers.get_mut("raw").unwrap() *= 0.86;
        assert!(!text_of(&before, &now).contains("WARNING"));
        *now.ratios.get_mut("randwrite-4k-qd32").unwrap().get_mut("raw").unwrap() = 0.4;
        let text = text_of(&before, &now);
        assert!(text.contains("WARNING: 1 of 2") && text.contains("against raw: 0.73x"), "{text}");
    }

    #[test]
    fn what_only_one_run_has_is_left_out() {
        let before = Baseline::of(&example());
        let mut now = before.clone();
        now.machine = "another".to_string();
        now.ratios.get_mut("randwrite-4k-qd32").unwrap().remove("raw");
        let text = text_of(&before, &now);
        assert!(text.contains("(1 compared)") && text.contains("this run on another"), "{text}");
    }
}

//! What is left behind: JSON for programs, Markdown and pictures for people.

pub(crate) mod chart;
pub(crate) mod curves;
pub(crate) mod lines;
pub(crate) mod markdown;
pub(crate) mod svg;

use crate::error::{BenchError, Result};
use crate::results::Results;
use crate::workspace::Workspace;

/// Writes `results.json`, `results.md`, a picture for each workload and one for all.
pub(crate) fn write(workspace: &Workspace, results: &Results) -> Result<()> {
    write_json(workspace, "results.json", results)?;
    let mut pictures = Vec::new();
    if let Some(picture) = chart::overview(results) {
        workspace.write("overview.svg", &picture)?;
        pictures.push("overview".to_string());
    }
    for workload in &results.workloads {
        if let Some(picture) = chart::workload(results, workload) {
            workspace.write(&format!("{}.svg", workload.name), &picture)?;
            pictures.push(workload.name.to_string());
        }
    }
    let text = markdown::write(results, &pictures);
    workspace.write("results.md", &text)?;
    eprintln!("results: {}", workspace.out.join("results.md").display());
    Ok(())
}

/// Writes `value` to the file `name` among the results.
pub(crate) fn write_json(workspace: &Workspace, name: &str, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| BenchError::Setup(format!("{name}: {e}")))?;
    workspace.write(name, &(text + "\n"))
}

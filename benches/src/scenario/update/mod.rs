//! Changes of the configuration of running processes: what they take from I/O, how soon they are answered, and what a
//! process costs that waits for them. All changes go through the store, from one client without the command line.

mod answer;
mod changes;
mod client;
mod fleet;
mod report;
mod watching;

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use self::answer::{Alone, Together};
use self::changes::Changes;
use self::fleet::Fleet;
use self::watching::Idle;
use crate::error::{BenchError, Result};
use crate::machine::Machine;
use crate::options::parse_seconds;
use crate::report::write_json;
use crate::scenario::origin;
use crate::workspace::Workspace;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// fio at a fixed rate, without and with changes.
    Changes,
    /// From an update key to the feedback, of one process and of many.
    Answer,
    /// Processes that wait for updates.
    Watching,
}

impl Part {
    const ALL: [Part; 3] = [Part::Changes, Part::Answer, Part::Watching];
}

/// What the scenario is asked for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct UpdateCourse {
    /// Only these
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Part::ALL)]
    of: Vec<Part>,
    /// changes: I/Os of fio a second, half of them reads
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    rate: u32,
    /// changes: changes a second
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    per_second: u32,
    /// answer: updates of one process that count
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    updates: u32,
    /// answer and watching: processes of the vPool
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    processes: u32,
    /// answer: updates of all processes that count
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// answer and watching: processes that start at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    starting: u32,
    /// watching: how long idle processes are looked at
    #[arg(long, default_value = "20", value_name = "SECONDS", value_parser = parse_seconds)]
    idle: Duration,
}

/// All of it; a part that was not asked for is `None` or empty.
#[derive(Debug, Default, Serialize)]
struct Results {
    machine: Machine,
    /// The program that was measured.
    program: String,
    changes: Option<Changes>,
    alone: Option<Alone>,
    together: Option<Together>,
    watching: Vec<Idle>,
}

/// Runs it and writes `update.json` and `update.md`.
pub(crate) fn run(workspace: &Workspace, course: &UpdateCourse) -> Result<()> {
    if workspace.options.subject != "ovs" {
        return Err(BenchError::Setup("only ovs takes changes here: leave --subject out".to_string()));
    }
    let program = workspace.options.ovs_binary.canonicalize().map_err(|e| {
        let path = workspace.options.ovs_binary.display();
        BenchError::Setup(format!("{path}: {e}; build it, or name it with --ovs-binary"))
    })?;
    let mut results = Results {
        machine: workspace.machine.clone(),
        program: workspace.options.ovs_binary.display().to_string(),
        ..Results::default()
    };
    let wanted = |part: Part| course.of.contains(&part);
    if wanted(Part::Changes) {
        results.changes = Some(changes::run(workspace, course)?);
    }
    if wanted(Part::Answer) || wanted(Part::Watching) {
        let mut fleet = Fleet::start(workspace, &program, course)?;
        if wanted(Part::Watching) {
            results.watching.push(watching::run(workspace, course, &mut fleet)?);
        }
        fleet.grow(1)?;
        if wanted(Part::Answer) {
            results.alone = Some(answer::alone(workspace, course, &mut fleet)?);
        }
        if wanted(Part::Watching) && course.processes > 2 {
            fleet.grow(course.processes as usize / 2)?;
            results.watching.push(watching::run(workspace, course, &mut fleet)?);
        }
        fleet.grow(course.processes as usize)?;
        if wanted(Part::Watching) {
            results.watching.push(watching::run(workspace, course, &mut fleet)?);
        }
        if wanted(Part::Answer) {
            results.together = Some(answer::together(workspace, course, &mut fleet)?);
        }
    }
    write_json(workspace, "update.json", &results)?;
    let text = results.markdown(&origin(workspace));
    workspace.write("update.md", &text)?;
    println!("{text}");
    Ok(())
}

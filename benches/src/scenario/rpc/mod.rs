//! Bad input at the admin RPC beside I/O: clients that send what is no request, or never finish one. What they take
//! from fio at a fixed rate is measured, and that each is answered or sent away.

mod clients;
mod documents;
mod report;

use serde::Serialize;

use self::clients::{Answered, Clients};
use super::paced::{Paced, Turns};
use crate::error::{BenchError, Result};
use crate::machine::Machine;
use crate::report::write_json;
use crate::scenario::{origin, runtime};
use crate::workspace::Workspace;

/// What the scenario is asked for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RpcCourse {
    /// I/Os of fio a second, half of them reads
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    rate: u32,
    /// Bad requests a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    per_second: u32,
    /// Bad requests at the same time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=512))]
    at_once: u32,
    /// Connections besides that send little or nothing
    #[arg(long, default_value_t = 480, value_parser = clap::value_parser!(u32).range(0..=4096))]
    slow: u32,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    /// The program that was measured.
    program: String,
    per_second: u32,
    at_once: u32,
    slow: u32,
    #[serde(flatten)]
    turns: Turns<Answered>,
}

/// Lets the thread of the clients give way to the server and to fio: elsewhere they have a machine of their own, and
/// what they take of this one is not what the server lets them take.
fn step_back() {
    // SAFETY: the call takes numbers alone; 0 is the calling thread, and to give way is allowed to everybody.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

/// Runs it and writes `rpc.json` and `rpc.md`.
pub(crate) fn run(workspace: &Workspace, course: &RpcCourse) -> Result<()> {
    if workspace.options.subject != "ovs" {
        return Err(BenchError::Setup("only ovs has an admin RPC: leave --subject out".to_string()));
    }
    let paced = Paced::start(workspace, course.rate)?;
    let clients = Clients::of(&paced.instance().endpoints()?, course)?;
    let turns = paced.turns("rpc", |_, over| {
        step_back();
        runtime()?.block_on(clients.harm(over))
    })?;
    let results = Results {
        machine: workspace.machine.clone(),
        program: workspace.options.ovs_binary.display().to_string(),
        per_second: course.per_second,
        at_once: course.at_once,
        slow: course.slow,
        turns,
    };
    write_json(workspace, "rpc.json", &results)?;
    let text = results.markdown(&origin(workspace));
    workspace.write("rpc.md", &text)?;
    println!("{text}");
    Ok(())
}

//! Long runs on one side, the subject; `cfg` compares the configuration store with etcd, `update` measures changes of
//! the configuration, `rpc` what bad input at the admin RPC takes from the I/O.

pub(crate) mod cfg;
mod growth;
mod hot;
mod many;
mod paced;
mod restart;
pub(crate) mod rpc;
mod sparse;
mod steady;
pub(crate) mod update;

use tokio::runtime::Runtime;

use crate::error::{BenchError, Result};
use crate::options::Scenario;
use crate::peers::Peer;
use crate::server::{Instance, Plan};
use crate::workspace::Workspace;

/// Runs `scenario` and writes its results.
pub(crate) fn run(workspace: &Workspace, scenario: &Scenario) -> Result<()> {
    match scenario {
        Scenario::Steady { passes, window, local_percent } => steady::run(
            workspace,
            &steady::Course { passes: *passes, window_s: *window, local_percent: *local_percent },
        ),
        Scenario::Restart { written } => restart::run(workspace, *written),
        Scenario::Growth { of } => growth::run(workspace, of),
        Scenario::Hot { busy } => hot::run(workspace, *busy),
        Scenario::Many { volumes } => many::run(workspace, *volumes),
        Scenario::Cfg(course) => cfg::run(workspace, course),
        Scenario::Update(course) => update::run(workspace, course),
        Scenario::Rpc(course) => rpc::run(workspace, course),
        Scenario::Sparse { millions } => sparse::run(workspace, *millions),
    }
}

/// The subject and a plan for its volume of `size` bytes.
fn subject(workspace: &Workspace, size: u64) -> Result<(Peer, Plan)> {
    let peer = workspace.peer(&workspace.options.subject)?.clone();
    let plan = workspace.plan(&peer, &peer.name, size)?;
    Ok((peer, plan))
}

/// Makes what `plan` says, without starting it.
fn prepare(workspace: &Workspace, plan: Plan) -> Result<Instance> {
    let mut instance = Instance::prepare(plan)?;
    instance.keep = workspace.options.keep;
    Ok(instance)
}

/// A line about where figures come from, for reports and pictures.
fn origin(workspace: &Workspace) -> String {
    let machine = &workspace.machine;
    format!(
        "{} processors ({}), Linux {}, {} on {}; {}",
        machine.cpus, machine.processor, machine.kernel, machine.file_system, machine.disk, machine.fio
    )
}

/// A runtime for the client, on this thread. Dropped it closes all connections.
fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| BenchError::Setup(format!("no runtime for the client: {e}")))
}

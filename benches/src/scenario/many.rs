//! Many volumes: time to start, and what an idle volume costs.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::accounting::{Sample, sample};
use crate::error::{BenchError, Result};
use crate::interrupt::pause;
use crate::machine::Machine;
use crate::nbd_probe::NbdProbe;
use crate::report::markdown::Table;
use crate::report::write_json;
use crate::scenario::{origin, prepare, subject};
use crate::server::{Instance, Target};
use crate::units::{GIB, MIB, number, rough_size, shown_size};
use crate::workspace::Workspace;

/// Time after a start until memory is read.
const CALM: Duration = Duration::from_secs(5);
/// Time over which idle CPU is measured.
const IDLE: Duration = Duration::from_secs(10);
const START_LIMIT: Duration = Duration::from_secs(900);

/// One start and the idle time after it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Idle {
    /// Until it was ready, milliseconds.
    ready_ms: f64,
    /// Resident memory, bytes.
    resident: u64,
    /// CPU time while idle, share of one processor.
    cpu_share: f64,
}

#[derive(Debug, Serialize)]
struct Many {
    machine: Machine,
    volumes: u32,
    volume_size: u64,
    /// Without the volumes.
    empty: Idle,
    /// The start that created them.
    created: Idle,
    /// After SIGTERM.
    stopped: Idle,
    /// After SIGKILL.
    killed: Idle,
}

/// Runs it and writes `many.json` and `many.md`.
pub(crate) fn run(workspace: &Workspace, volumes: u32) -> Result<()> {
    if workspace.options.subject != "ovs" {
        return Err(BenchError::Setup("only ovs serves many volumes here: leave --subject out".to_string()));
    }
    let (volume_size, own) = (GIB, 64 * MIB);
    let empty = {
        let (_, plan) = subject(workspace, own)?;
        let mut instance = prepare(workspace, plan)?;
        start(workspace, &mut instance, "without volumes")?
    };
    let (_, mut plan) = subject(workspace, own)?;
    plan.first_arguments =
        (0..volumes).flat_map(|i| ["--volume".to_string(), format!("{}={volume_size}", name(i))]).collect();
    let mut instance = prepare(workspace, plan)?;
    instance.allow_start(START_LIMIT);
    let created = start(workspace, &mut instance, "creating the volumes")?;
    if !instance.stop()? {
        return Err(BenchError::peer("ovs", "did not end within its time after SIGTERM"));
    }
    let stopped = start(workspace, &mut instance, "after SIGTERM")?;
    for index in [0, volumes / 2, volumes.saturating_sub(1)] {
        check(&instance, &name(index), volume_size)?;
    }
    instance.kill();
    let killed = start(workspace, &mut instance, "after SIGKILL")?;
    let machine = workspace.machine.clone();
    let many = Many { machine, volumes, volume_size, empty, created, stopped, killed };
    write_json(workspace, "many.json", &many)?;
    let text = many.markdown(&origin(workspace));
    workspace.write("many.md", &text)?;
    println!("{text}");
    Ok(())
}

fn name(index: u32) -> String {
    format!("idle-{index:05}")
}

fn start(workspace: &Workspace, instance: &mut Instance, what: &str) -> Result<Idle> {
    let times = instance.start()?;
    pause(CALM)?;
    let look = || sample(instance.pid(), &workspace.disk);
    let before: Sample = look();
    pause(IDLE)?;
    let after = look();
    instance.check_alive()?;
    let idle = Idle {
        ready_ms: times.ready.as_secs_f64() * 1e3,
        resident: after.resident,
        cpu_share: (after.cpu_us - before.cpu_us) / ((after.at_ms - before.at_ms) * 1e3).max(1.0),
    };
    eprintln!("{what}: ready after {} ms, {} resident", number(idle.ready_ms), rough_size(idle.resident));
    Ok(idle)
}

/// The volume is there, has its size, and reads.
fn check(instance: &Instance, volume: &str, size: u64) -> Result<()> {
    let Target::Nbd { socket, .. } = instance.target()? else {
        return Err(BenchError::peer("ovs", "serves no NBD"));
    };
    let problem = |e: std::io::Error| BenchError::peer("ovs", format!("volume {volume}: {e}"));
    let mut probe = NbdProbe::connect(socket, volume).map_err(problem)?;
    if probe.size != size {
        return Err(BenchError::peer(
            "ovs",
            format!("volume {volume} has {} bytes instead of {size}", probe.size),
        ));
    }
    probe.read(size - 4096, 4096).map(|_| ()).map_err(problem)
}

impl Many {
    fn markdown(&self, origin: &str) -> String {
        let mut out = format!("# {} idle volumes on one ovs\n\n{origin}.\n\n", self.volumes);
        let mut table =
            Table::new(["start", "ready, ms", "resident", "a volume, KiB", "idle CPU, % of one processor"]);
        let rows = [
            ("without volumes", &self.empty),
            ("creating them", &self.created),
            ("after SIGTERM", &self.stopped),
            ("after SIGKILL", &self.killed),
        ];
        for (label, idle) in rows {
            let more = idle.resident as f64 - self.empty.resident as f64;
            let each = if label == "without volumes" {
                "-".to_string()
            } else {
                number(more / f64::from(self.volumes.max(1)) / 1024.0)
            };
            table.row([
                label.to_string(),
                number(idle.ready_ms),
                rough_size(idle.resident),
                each,
                number(idle.cpu_share * 100.0),
            ]);
        }
        out.push_str(&table.text());
        let _ = writeln!(out, "\nEach volume has {}.", shown_size(self.volume_size));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_volume_is_what_the_empty_server_does_not_have() {
        let idle = |resident| Idle { ready_ms: 100.0, resident, cpu_share: 0.001 };
        let many = Many {
            machine: Machine::default(),
            volumes: 1000,
            volume_size: GIB,
            empty: idle(50 * MIB),
            created: idle(150 * MIB),
            stopped: idle(100 * MIB),
            killed: idle(100 * MIB),
        };
        let text = many.markdown("a machine");
        assert!(text.contains("| after SIGTERM   |"), "{text}");
        assert!(text.contains("51.2") && text.contains("102"), "{text}");
    }
}

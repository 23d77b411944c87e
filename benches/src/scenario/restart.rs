//! Restart: written at random, killed with SIGKILL, and how soon it serves again.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::compare::fill;
use crate::error::{BenchError, Result};
use crate::fio::{End, Job};
use crate::interrupt::wait_for;
use crate::machine::Machine;
use crate::measure::observe;
use crate::nbd_probe::NbdProbe;
use crate::peers::VOLUME;
use crate::report::markdown::Table;
use crate::report::write_json;
use crate::scenario::{origin, prepare, subject};
use crate::server::{Instance, Target};
use crate::units::{GIB, number, shown_size};
use crate::workspace::Workspace;

const BLOCK: u32 = 4 << 10;
/// Blocks that are read before the kill and compared after it.
const COMPARED: u64 = 256;
const FIRST_READ_LIMIT: Duration = Duration::from_secs(600);

/// One start.
#[derive(Clone, Copy, Debug, Serialize)]
struct Start {
    /// From the creation of the process until it was ready, milliseconds.
    ready_ms: f64,
    /// From the creation of the process until the first read was answered, milliseconds.
    first_read_ms: f64,
    /// Blocks compared that differ from what was read before.
    different: usize,
}

#[derive(Debug, Serialize)]
struct Restart {
    machine: Machine,
    peer: String,
    size: u64,
    /// Bytes written at random before each kill.
    written: u64,
    /// After SIGKILL.
    killed: Vec<Start>,
    /// After SIGTERM.
    stopped: Vec<Start>,
}

/// Runs it and writes `restart.json` and `restart.md`.
pub(crate) fn run(workspace: &Workspace, written: u64) -> Result<()> {
    let size = workspace.options.size_or(4 * GIB);
    workspace.need_space(size * 3)?;
    let (peer, plan) = subject(workspace, size)?;
    if !peer.retains || peer.command.is_empty() {
        return Err(BenchError::peer(&peer.name, "has no server that keeps data over a restart"));
    }
    let mut instance = prepare(workspace, plan)?;
    // Recovery may take longer than an ordinary start.
    instance.allow_start(FIRST_READ_LIMIT);
    instance.start()?;
    fill(workspace, &mut instance)?;
    let mut restart = Restart {
        machine: workspace.machine.clone(),
        peer: peer.name,
        size,
        written,
        killed: Vec::new(),
        stopped: Vec::new(),
    };
    for round in 0..workspace.options.repeats.unwrap_or(1).max(1) {
        let target = instance.target()?.clone();
        eprintln!("writing {} at random", shown_size(written));
        let job = Job::random_writes(&target, size, 32, End::Bytes(written), 21 + round as u64);
        observe(&mut instance, &job, &workspace.disk, &workspace.directory)?;
        let before = read_blocks(&target, size)?;
        instance.kill();
        restart.killed.push(time_start(&mut instance, &before)?);
        let before = read_blocks(instance.target()?, size)?;
        if !instance.stop()? {
            return Err(BenchError::peer(&restart.peer, "did not end within its time after SIGTERM"));
        }
        restart.stopped.push(time_start(&mut instance, &before)?);
    }
    write_json(workspace, "restart.json", &restart)?;
    let text = restart.markdown(&origin(workspace));
    workspace.write("restart.md", &text)?;
    println!("{text}");
    match restart.killed.iter().chain(&restart.stopped).map(|s| s.different).sum::<usize>() {
        0 => Ok(()),
        lost => Err(BenchError::peer(
            &restart.peer,
            format!("{lost} compared blocks lost what was acknowledged before the end of the server"),
        )),
    }
}

fn socket(target: &Target) -> Result<&Path> {
    match target {
        Target::Nbd { socket, .. } => Ok(socket),
        Target::File(path) => Err(BenchError::Setup(format!("{} is a file, not a server", path.display()))),
    }
}

/// Offset of the `index`th block that is compared: spread over the volume, in no simple order.
fn offset(index: u64, size: u64) -> u64 {
    let blocks = (size / u64::from(BLOCK)).max(1);
    index.wrapping_mul(0x9E37_79B9_7F4A_7C15) % blocks * u64::from(BLOCK)
}

fn read_blocks(target: &Target, size: u64) -> Result<Vec<Vec<u8>>> {
    let socket = socket(target)?;
    let lost = |e: std::io::Error| BenchError::File { path: socket.to_path_buf(), source: e };
    let mut probe = NbdProbe::connect(socket, VOLUME).map_err(lost)?;
    (0..COMPARED).map(|index| probe.read(offset(index, size), BLOCK).map_err(lost)).collect()
}

/// Starts it, reads one block as soon as that is possible, then compares all.
fn time_start(instance: &mut Instance, before: &[Vec<u8>]) -> Result<Start> {
    let times = instance.start()?;
    let target = instance.target()?.clone();
    let path = socket(&target)?;
    let first = wait_for(FIRST_READ_LIMIT, Duration::from_millis(1), || {
        let answer = NbdProbe::connect(path, VOLUME).and_then(|mut probe| probe.read(0, BLOCK));
        Ok(answer.is_ok().then(|| times.began.elapsed()))
    })?;
    let first = first.ok_or_else(|| BenchError::peer(instance.name(), "answered no read after its start"))?;
    let after = read_blocks(&target, instance.size())?;
    let different = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    let milliseconds = |d: Duration| d.as_secs_f64() * 1e3;
    let start = Start { ready_ms: milliseconds(times.ready), first_read_ms: milliseconds(first), different };
    eprintln!(
        "ready after {} ms, first read after {} ms",
        number(start.ready_ms),
        number(start.first_read_ms)
    );
    Ok(start)
}

impl Restart {
    fn markdown(&self, origin: &str) -> String {
        let mut out = format!("# Restart of {}\n\n{origin}.\n\n", self.peer);
        let (size, written) = (shown_size(self.size), shown_size(self.written));
        let _ = writeln!(
            out,
            "Volume of {size}, filled, then {written} of 4 KiB random writes at depth 32 before each kill.\n"
        );
        let mut table = Table::new(["after", "ready, ms", "first read, ms", "blocks compared", "different"]);
        for (name, starts) in [("SIGKILL", &self.killed), ("SIGTERM", &self.stopped)] {
            for start in starts {
                let (ready, first) = (number(start.ready_ms), number(start.first_read_ms));
                table.row([
                    name.to_string(),
                    ready,
                    first,
                    COMPARED.to_string(),
                    start.different.to_string(),
                ]);
            }
        }
        out.push_str(&table.text());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compared_blocks_are_spread_and_inside() {
        let size = 16 << 20;
        let offsets: std::collections::HashSet<u64> = (0..COMPARED).map(|i| offset(i, size)).collect();
        assert!(offsets.len() > COMPARED as usize * 9 / 10);
        assert!(offsets.iter().all(|o| o % u64::from(BLOCK) == 0 && *o < size));
    }
}

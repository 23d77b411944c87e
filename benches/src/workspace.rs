//! What a run works in: its directory on the disk under test, the peers, and the folder of the results.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, drop_page_cache, free_space};
use crate::error::{BenchError, Result};
use crate::fio;
use crate::machine::{self, Machine};
use crate::options::Options;
use crate::peers::{self, Peer};
use crate::server::Plan;
use crate::units::rough_size;

/// The place of one run. Dropping it removes its directory.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Directory of this run, absolute.
    pub(crate) directory: PathBuf,
    /// Folder of the results, absolute.
    pub(crate) out: PathBuf,
    /// The disk below the directory.
    pub(crate) disk: Disk,
    /// What all of this runs on.
    pub(crate) machine: Machine,
    /// Every known peer.
    pub(crate) peers: Vec<Peer>,
    /// The options of the run.
    pub(crate) options: Options,
}

fn make(directory: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(directory).map_err(BenchError::file(directory))?;
    directory.canonicalize().map_err(BenchError::file(directory))
}

impl Workspace {
    /// Makes the directories and removes those that killed runs left behind.
    pub(crate) fn open(options: &Options) -> Result<Workspace> {
        let fio = fio::check_installed()?;
        let peers = peers::load(&options.peer_file)?;
        let parent = make(&options.dir)?;
        remove_leftovers(&parent);
        let directory = make(&parent.join(format!("run-{}", std::process::id())))?;
        let disk = Disk::of(&directory)?;
        let machine = machine::describe(&directory, &disk, fio);
        if ["tmpfs", "ramfs"].contains(&machine.file_system.as_str()) {
            eprintln!("note: {} is in memory ({}), not on a disk", directory.display(), machine.file_system);
        }
        Ok(Workspace { directory, out: make(&options.out)?, disk, machine, peers, options: options.clone() })
    }

    /// The peer called `name`.
    pub(crate) fn peer(&self, name: &str) -> Result<&Peer> {
        self.peers.iter().find(|p| p.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.peers.iter().map(|p| p.name.as_str()).collect();
            BenchError::Setup(format!("there is no peer '{name}'; there are {}", names.join(", ")))
        })
    }

    /// A plan for `peer` in a directory of its own below this one, called `folder`.
    pub(crate) fn plan(&self, peer: &Peer, folder: &str, size: u64) -> Result<Plan> {
        let binary = self.binary(peer)?;
        Ok(Plan::new(peer, self.directory.join(folder), size, binary))
    }

    /// The program of `peer` where it is not found by name.
    fn binary(&self, peer: &Peer) -> Result<Option<PathBuf>> {
        let given =
            self.options.peer_binary.iter().rev().find(|(name, _)| *name == peer.name).map(|(_, path)| path);
        let path = match given {
            Some(path) => path,
            None if peer.name == "ovs" => &self.options.ovs_binary,
            None if peer.needs_binary => {
                let text = format!("needs --peer-binary {}=PATH", peer.name);
                return Err(BenchError::peer(&peer.name, text));
            }
            None => return Ok(None),
        };
        let found =
            path.canonicalize().map_err(|e| BenchError::peer(&peer.name, format!("{}: {e}", path.display())));
        found.map(Some)
    }

    /// Fails when fewer than `bytes` are free.
    pub(crate) fn need_space(&self, bytes: u64) -> Result<()> {
        let free = free_space(&self.directory)?;
        if free >= bytes {
            return Ok(());
        }
        Err(BenchError::Setup(format!(
            "{} has {} free, about {} are needed: use a smaller --size, fewer --peers or another --dir",
            self.directory.display(),
            rough_size(free),
            rough_size(bytes)
        )))
    }

    /// Lets the disk become quiet, then drops the page cache if `reads`. What did not work is returned.
    pub(crate) fn calm(&self, reads: bool) -> Result<Option<&'static str>> {
        let quiet = self.disk.settle(self.options.settle)?;
        if reads && !drop_page_cache() {
            return Ok(Some(
                "The page cache could not be dropped before reads (not permitted): reads of files \
                 may come from memory.",
            ));
        }
        Ok((!quiet).then_some("The disk did not become quiet before some of the runs."))
    }

    /// Writes `text` to the file `name` among the results.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.out.join(name);
        std::fs::write(&path, text).map_err(BenchError::file(&path))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if self.options.keep {
            eprintln!("kept: {}", self.directory.display());
        } else if let Err(e) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("{} stays behind: {e}", self.directory.display());
        }
    }
}

/// Removes `run-PID` directories below `parent` whose process is gone.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("run-").and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            end_daemons(&entry.path());
            if let Err(e) = std::fs::remove_dir_all(entry.path()) {
                eprintln!("{} stays behind: {e}", entry.path().display());
            }
        }
    }
}

/// Ends the daemons of a run that was killed: only they outlive it. A process id counts when it stands in a `.pid`
/// file of that run and the process was called with that run's directory, so a recycled one is left alone.
fn end_daemons(run: &Path) {
    let sides = std::fs::read_dir(run).into_iter().flatten().flatten();
    let files = sides.flat_map(|side| std::fs::read_dir(side.path()).into_iter().flatten().flatten());
    for file in files.filter(|f| f.path().extension().is_some_and(|e| e == "pid")) {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        let Some(pid) = text.trim().parse::<u32>().ok().filter(|pid| *pid > 1) else { continue };
        let called = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&called).contains(&format!("{}/", run.display())) {
            eprintln!("ending process {pid}, left behind by a run that was killed");
            // SAFETY: plain system call on a process that this harness started in an earlier run.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
        }
    }
}

//! A simulated disk in memory, for crash tests: deterministic from a seed, adversarial within the model below.
//!
//! A [`SimWorld`] is one machine's file system over many boots. [`SimWorld::disk`] and [`SimWorld::io`] give what a
//! process has of it: [`Disk`], its [`crate::File`]s, and any number of [`Io`] rings (files only; socket operations
//! end with `Unsupported`). A boot ends with [`SimWorld::power_loss`] or [`SimWorld::process_kill`]; handles from
//! before answer `EIO` to everything, and new ones show what is left. The same seed and the same calls give the
//! same world; several threads that race for it do not. Every call of [`Disk`] or [`crate::File`] and every ring
//! completion is one *operation*.
//!
//! # Fault model
//!
//! **Order.** Ring operations complete in any order, some at each wait; one in flight has touched nothing that a
//! read could see. A sync covers the changes of its file that had completed when it was *submitted*.
//!
//! **Bytes at power loss.** Durable is what a sync covered, and the bytes of each completed
//! [`crate::Durability::Durable`] write, with the length that contains them. Every other write, completed or in
//! flight, is kept, lost or torn by 512-byte sectors, each on its own; changes of length are kept or lost. Where
//! survivors overlap, the one that completed last wins. A write in flight may count before or after whatever
//! completed since its submission. Odds: [`SimOptions::power`].
//!
//! **Names at power loss.** Creations, renames and removals are durable once their directory was synced. Of the
//! rest a random prefix of each directory's list survives ([`DirLoss`] has other rules). Renames are atomic, between
//! two directories too; a name that was replaced means the old or the new file. A directory whose own creation is
//! lost takes all in it along. Syncing a file does not make its name durable, nor the other way round: a file that
//! was renamed without a sync may be there and empty.
//!
//! **Kill.** What completed stays visible, and stays un-synced. An operation in flight happens, never happens, or
//! (writes) is *late*: it lands during the next boot, up to [`SimOptions::late_within`] operations into it, and keeps
//! its old open file description, and so that description's lock, until then ([`SimOptions::kill`]). Dropping a ring
//! with operations in flight treats them in the same way.
//!
//! **Errors.** [`Fault`] makes reads, writes, file syncs or directory syncs fail with `EIO`. A failed write leaves
//! all, some or none of itself. A failed sync decides at once which of the un-synced changes will ever be durable:
//! reads go on to see them, no later sync brings them back. Beyond [`SimOptions::capacity`] writes fail with
//! `ENOSPC` after what fitted; pages are allocated when first written, zeros included, `set_len` allocates nothing.
//!
//! **Damage at rest.** [`SimWorld::corrupt`]: flipped bits, zeroed ranges, cut and missing files.
//!
//! **Power off in the middle.** [`SimWorld::crash_after`]: from then on every operation fails, until the crash.
//!
//! **Not simulated**: time; a read that sees part of a concurrent write; reads that return other bytes than
//! are stored without an error (misdirected reads and writes, flips on the wire; use `corrupt`); pages that are
//! evicted after a failed sync, so that reads change before the crash; the page cache's page-sized write-back
//! (neighbouring bytes of one page share no fate here); sectors torn inside; the stronger promises of real file
//! systems (ext4's ordered truncation, a new file's name made durable by its fsync); allocation by `set_len`, disk
//! space for names; links, permissions, sockets.
mod content;
mod crash;
mod faults;
mod files;
mod pages;
mod ring;
mod rng;
mod state;
mod tree;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use faults::{Corruption, Counters, DirLoss, Fault, FaultOp, KillOdds, Odds, SimOptions};

use crate::{Disk, Io};
use state::State;

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test thread that panicked is reported by its test; the world goes on for the handles that drop now.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One simulated machine's disk. Clones are the same world.
#[derive(Clone)]
pub struct SimWorld {
    shared: Arc<Shared>,
}

impl SimWorld {
    /// An empty disk with its root directory. Equal seeds, options and calls give equal worlds.
    pub fn new(seed: u64, options: SimOptions) -> SimWorld {
        SimWorld { shared: Arc::new(Shared(Mutex::new(State::new(seed, options)))) }
    }

    /// The disk as this boot sees it. Relative paths start at the root.
    pub fn disk(&self) -> Arc<dyn Disk> {
        let boot = self.shared.lock().boot;
        Arc::new(files::SimDisk { shared: self.shared.clone(), boot })
    }

    /// A new ring of this boot.
    pub fn io(&self) -> Box<dyn Io> {
        Box::new(ring::SimIo::new(self.shared.clone()))
    }

    /// A number from the seed, for the caller's own decisions; the world's are not moved by it.
    pub fn random(&self) -> u64 {
        self.shared.lock().callers_rng.next()
    }

    /// Power is lost; the next boot begins.
    pub fn power_loss(&self) {
        self.shared.lock().power_loss();
    }

    /// The process is killed, the machine goes on; the next boot begins.
    pub fn process_kill(&self) {
        self.shared.lock().process_kill();
    }

    /// Switches the power off after `operations` more of them (0: now). Until [`SimWorld::power_loss`] or
    /// [`SimWorld::process_kill`] every operation then fails with the message "powered off"; what is in flight
    /// on a ring ends with that error at the next wait, and its true fate is decided by the crash. A crash that
    /// comes earlier ends the countdown.
    pub fn crash_after(&self, operations: u64) {
        let mut state = self.shared.lock();
        state.remaining = Some(operations);
        if operations == 0 {
            state.power_off();
        }
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.shared.lock().off
    }

    /// Arms a fault. Several add up; they outlive crashes until they are used up or cleared.
    pub fn inject(&self, fault: Fault) {
        self.shared.lock().armed.arm(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.shared.lock().armed.clear();
    }

    /// Bytes that all files together may allocate; `None`: no limit. What is allocated already stays.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.lock().options.capacity = bytes;
    }

    /// The parameters now.
    pub fn options(&self) -> SimOptions {
        self.shared.lock().options
    }

    /// Other parameters from now on.
    pub fn set_options(&self, options: SimOptions) {
        self.shared.lock().options = options;
    }

    /// Damages a file at rest; works with the power off too. `ENOENT` without such a file, `EINVAL` for an offset
    /// beyond its end.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, corruption: Corruption) -> io::Result<()> {
        self.shared.lock().corrupt(path.as_ref(), offset, corruption)
    }

    /// Writes of killed processes that have not landed yet.
    pub fn late_writes(&self) -> usize {
        self.shared.lock().late.len()
    }

    /// A hash over all names and bytes that survive power loss for certain. Holes and zeros are the same.
    pub fn digest(&self) -> u64 {
        let mut hash = 0;
        self.shared.lock().tree.durable_words(&mut |word| hash = rng::mix(hash ^ word).wrapping_add(word));
        hash
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters
    }
}

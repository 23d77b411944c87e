//! What can go wrong, how likely it is, and how often it did.

use super::rng::Rng;

/// Which operation a [`Fault`] makes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOp {
    /// Ring reads, [`crate::File::read_at`], [`crate::Disk::read`].
    Read,
    /// Ring writes and [`crate::File::write_at`]. What a failed write leaves on the disk is drawn from
    /// [`SimOptions::torn`]: all, some or none of it.
    Write,
    /// Ring syncs and [`crate::File::sync`]. The file's un-synced changes are drawn from [`SimOptions::power`] at
    /// once, and no later sync covers those that were lost; reads still see them until the next power loss.
    Sync,
    /// [`crate::Disk::sync_dir`]. Nothing becomes durable; a later one may succeed.
    SyncDir,
}

/// The next `count` operations of a kind on files whose path contains a string fail with `EIO`. The path is the one
/// the file was opened with, in full: a later rename does not change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What fails.
    pub op: FaultOp,
    /// Part of the path; an empty string matches all.
    pub path_contains: String,
    /// How often.
    pub count: u32,
}

/// Damage to a file at rest: what reads see and what is durable change alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// Inverts bit 0 to 7 of the byte at the offset.
    BitFlip {
        /// Taken modulo 8.
        bit: u8,
    },
    /// Zeros from the offset on, inside the file.
    Zero {
        /// Bytes.
        len: u64,
    },
    /// Cuts the file at the offset.
    Truncate,
    /// The file's name is gone, and with it the content; the offset means nothing.
    Remove,
}

/// How likely the fates of a change are that nobody made durable: weights, not percentages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odds {
    /// It survives whole.
    pub keep: u32,
    /// It is gone.
    pub lose: u32,
    /// A random subset of its 512-byte sectors survives. Changes of length are kept or lost, never torn.
    pub tear: u32,
}

impl Odds {
    /// All three alike.
    pub const EVEN: Odds = Odds { keep: 1, lose: 1, tear: 1 };
    /// Everything survives.
    pub const KEEP: Odds = Odds { keep: 1, lose: 0, tear: 0 };
    /// Nothing un-synced survives.
    pub const LOSE: Odds = Odds { keep: 0, lose: 1, tear: 0 };
    /// Every write is torn.
    pub const TEAR: Odds = Odds { keep: 0, lose: 0, tear: 1 };
}

/// How likely the fates of a ring operation are that is in flight when its process is killed: weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillOdds {
    /// It happens before the next boot.
    pub done: u32,
    /// It never happens.
    pub never: u32,
    /// It happens up to `late_within` operations into the next boot. Writes only; a sync counts as never.
    pub late: u32,
}

impl KillOdds {
    /// All three alike.
    pub const EVEN: KillOdds = KillOdds { done: 1, never: 1, late: 1 };
    /// Every write is late.
    pub const LATE: KillOdds = KillOdds { done: 0, never: 0, late: 1 };
}

/// Which un-synced directory operations survive power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirLoss {
    /// A random prefix of each directory's list, as on a journaling file system.
    Prefix,
    /// Any subset, in order: what POSIX allows.
    Subset,
    /// All of them.
    KeepAll,
    /// None of them.
    LoseAll,
}

/// The world's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimOptions {
    /// Fate of every un-synced change at power loss, and at a failed sync.
    pub power: Odds,
    /// What a write that fails with an injected error leaves behind.
    pub torn: Odds,
    /// Fate of directory operations at power loss.
    pub dirs: DirLoss,
    /// Fate of ring operations in flight at a kill.
    pub kill: KillOdds,
    /// Bound of a late write's delay, in operations of the next boot; at least 1.
    pub late_within: u32,
    /// Bytes of all files together, allocated by 4 KiB pages; `None`: no limit.
    pub capacity: Option<u64>,
    /// Real time that a ring's wait with a timeout and nothing in flight may take, to let other threads wake it.
    /// With zero it returns at once: time costs nothing in the world.
    pub idle_wait: std::time::Duration,
}

impl Default for SimOptions {
    fn default() -> SimOptions {
        SimOptions {
            power: Odds::EVEN,
            torn: Odds::EVEN,
            dirs: DirLoss::Prefix,
            kill: KillOdds::EVEN,
            late_within: 32,
            capacity: None,
            idle_wait: std::time::Duration::ZERO,
        }
    }
}

/// What happened so far: operations that reached the world, and faults that it produced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Everything that [`super::SimWorld::crash_after`] counts.
    pub operations: u64,
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// File syncs that succeeded.
    pub syncs: u64,
    /// Directory syncs that succeeded.
    pub dir_syncs: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Process kills.
    pub kills: u64,
    /// Un-synced changes that survived whole.
    pub kept: u64,
    /// Un-synced changes that were lost.
    pub lost: u64,
    /// Un-synced writes of which some sectors survived.
    pub torn: u64,
    /// Un-synced directory operations that survived.
    pub dir_kept: u64,
    /// Un-synced directory operations that were lost.
    pub dir_lost: u64,
    /// Writes of a killed process that landed in a later boot.
    pub late: u64,
    /// Errors injected.
    pub injected: u64,
    /// Writes that found no space.
    pub no_space: u64,
    /// Damage done at rest.
    pub corruptions: u64,
}

/// The fate of one un-synced change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Lose,
    Tear,
}

/// Everything needed to decide fates.
pub(super) struct Dice<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) odds: Odds,
    pub(super) counters: &'a mut Counters,
}

impl Dice<'_> {
    /// Draws a fate; what cannot be torn is kept or lost.
    pub(super) fn fate(&mut self, tearable: bool) -> Fate {
        let Odds { keep, lose, tear } = self.odds;
        let weights = match (tearable, keep | lose) {
            (true, _) => [keep, lose, tear],
            (false, 0) => [1, 1, 0],
            (false, _) => [keep, lose, 0],
        };
        let (fate, counter) = match self.rng.weighted(&weights) {
            0 => (Fate::Keep, &mut self.counters.kept),
            1 => (Fate::Lose, &mut self.counters.lost),
            _ => (Fate::Tear, &mut self.counters.torn),
        };
        *counter += 1;
        fate
    }
}

/// Faults that wait for their operation.
#[derive(Debug, Default)]
pub(super) struct Armed(Vec<Fault>);

impl Armed {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether this operation fails; uses up one count of the first fault that matches.
    pub(super) fn trip(&mut self, op: FaultOp, path: &str) -> bool {
        self.0.retain(|fault| fault.count > 0);
        let found = self.0.iter_mut().find(|fault| fault.op == op && path.contains(&fault.path_contains));
        found.is_some_and(|fault| {
            fault.count -= 1;
            true
        })
    }
}

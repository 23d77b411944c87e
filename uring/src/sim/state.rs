//! The world's one state: names and bytes, open file descriptions, rings, late writes, and the clock of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use super::content::Change;
use super::errno;
use super::faults::{Armed, Counters, Dice, FaultOp, SimOptions};
use super::pages::{PAGE, Payload};
use super::ring::{Pending, Ring, Wakeup};
use super::rng::Rng;
use super::tree::{NodeId, Tree};
use crate::{OpenMode, Wake};

/// Far from what the kernel hands out, so that a made-up descriptor never names a real file.
const FIRST_FD: RawFd = 1_000_000;
/// What [`crate::Disk::free_space`] counts down from without a capacity.
const UNLIMITED: u64 = 1 << 40;

/// An open file description: lives until its handle is dropped and its last ring operation ended.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) node: NodeId,
    /// As opened.
    pub(super) path: String,
    pub(super) mode: OpenMode,
    pub(super) locked: bool,
    /// A handle exists.
    open: bool,
    /// Ring operations, late writes included, that refer to it.
    in_flight: u32,
}

/// A write that outlived its process.
#[derive(Debug)]
pub(super) struct Late {
    /// Operations until it lands.
    pub(super) after: u64,
    pub(super) fd: RawFd,
    pub(super) submitted: u64,
    pub(super) offset: u64,
    pub(super) data: Payload,
    pub(super) durable: bool,
}

/// Why nothing can be done through a handle.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// It belongs to an earlier boot.
    Dead,
    /// The power is off.
    Off,
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal {
            Refusal::Dead => errno(libc::EIO),
            Refusal::Off => io::Error::other("powered off"),
        }
    }
}

pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) counters: Counters,
    pub(super) armed: Armed,
    pub(super) rng: Rng,
    /// Callers' draws do not move the world's own.
    pub(super) callers_rng: Rng,
    pub(super) tree: Tree,
    pub(super) descriptions: BTreeMap<RawFd, Description>,
    pub(super) rings: BTreeMap<u64, Ring>,
    /// Operations in flight whose ring is gone while the power was off: their fate is decided with the crash.
    pub(super) orphans: Vec<Pending>,
    pub(super) late: Vec<Late>,
    /// Counts crashes; handles of an earlier boot are dead.
    pub(super) boot: u64,
    pub(super) off: bool,
    /// Operations until the power goes off.
    pub(super) remaining: Option<u64>,
    /// Counts completed changes, so that a sync knows which ones were before it.
    pub(super) clock: u64,
    next_fd: RawFd,
    next_ring: u64,
}

impl State {
    pub(super) fn new(seed: u64, options: SimOptions) -> State {
        let mut rng = Rng::new(seed);
        State {
            options,
            counters: Counters::default(),
            armed: Armed::default(),
            callers_rng: Rng::new(rng.next()),
            rng,
            tree: Tree::new(),
            descriptions: BTreeMap::new(),
            rings: BTreeMap::new(),
            orphans: Vec::new(),
            late: Vec::new(),
            boot: 1,
            off: false,
            remaining: None,
            clock: 0,
            next_fd: FIRST_FD,
            next_ring: 0,
        }
    }

    /// Whether a handle of `boot` can do anything now.
    pub(super) fn check(&self, boot: u64) -> Result<(), Refusal> {
        match boot == self.boot {
            false => Err(Refusal::Dead),
            true if self.off => Err(Refusal::Off),
            true => Ok(()),
        }
    }

    /// Begins one disk operation: refuses it, or counts it and lands the late writes that are due.
    pub(super) fn enter(&mut self, boot: u64) -> io::Result<()> {
        self.check(boot)?;
        self.counters.operations += 1;
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(1);
            if *remaining == 0 {
                self.power_off();
            }
        }
        self.land();
        Ok(())
    }

    /// From now on every operation fails; those that wait must notice.
    pub(super) fn power_off(&mut self) {
        self.off = true;
        self.rings.values().for_each(|ring| ring.wakeup.wake());
    }

    fn land(&mut self) {
        for late in &mut self.late {
            late.after = late.after.saturating_sub(1);
        }
        let (due, waiting) = std::mem::take(&mut self.late).into_iter().partition(|late| late.after == 0);
        self.late = waiting;
        let due: Vec<Late> = due;
        for late in due {
            self.counters.late += 1;
            if let Some(node) = self.descriptions.get(&late.fd).map(|description| description.node) {
                // A full disk takes what fits; nobody is left to hear of it.
                let _ = self.store(node, late.offset, late.data, late.durable);
            }
            self.release(late.fd);
        }
    }

    /// The next value of the clock of changes.
    pub(super) fn advance(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn add_ring(&mut self) -> (u64, Arc<Wakeup>) {
        let (id, wakeup) = (self.next_ring, Arc::new(Wakeup::default()));
        self.next_ring += 1;
        self.rings.insert(id, Ring::new(wakeup.clone()));
        (id, wakeup)
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<(RawFd, NodeId)> {
        let found = self.tree.resolve(path);
        let node = match (mode, found) {
            (OpenMode::Read | OpenMode::Direct, found) => found?,
            (OpenMode::CreateNew, Ok(_)) => return Err(errno(libc::EEXIST)),
            (OpenMode::CreateOrTruncate, Ok(node)) => {
                let done = self.advance();
                self.tree.file_mut(node)?.content.change(Change::SetLen(0), done, false);
                node
            }
            (OpenMode::CreateNew | OpenMode::CreateOrTruncate, Err(_)) => self.tree.create_file(path)?,
        };
        self.tree.file(node)?;
        let fd = self.next_fd;
        self.next_fd += 1;
        let path = path.to_string_lossy().into_owned();
        self.descriptions
            .insert(fd, Description { node, path, mode, locked: false, open: true, in_flight: 0 });
        Ok((fd, node))
    }

    /// The handle is dropped.
    pub(super) fn close(&mut self, fd: RawFd) {
        if let Some(description) = self.descriptions.get_mut(&fd) {
            description.open = false;
            self.reap(fd);
        }
    }

    /// A ring operation begins to refer to a description, if it is still open.
    pub(super) fn hold(&mut self, fd: RawFd) -> io::Result<&Description> {
        let description =
            self.descriptions.get_mut(&fd).filter(|it| it.open).ok_or_else(|| errno(libc::EBADF))?;
        description.in_flight += 1;
        Ok(description)
    }

    /// A ring operation ended.
    pub(super) fn release(&mut self, fd: RawFd) {
        if let Some(description) = self.descriptions.get_mut(&fd) {
            description.in_flight = description.in_flight.saturating_sub(1);
            self.reap(fd);
        }
    }

    /// Drops a description, and its lock, that nothing refers to.
    fn reap(&mut self, fd: RawFd) {
        let unused = |description: &Description| !description.open && description.in_flight == 0;
        if self.descriptions.get(&fd).is_some_and(unused)
            && let Some(Description { node, .. }) = self.descriptions.remove(&fd)
            && self.tree.file(node).is_ok_and(|file| !file.linked)
        {
            self.collect();
        }
    }

    /// The process is gone: only late writes keep descriptions open.
    pub(super) fn close_all(&mut self) {
        let mut held: BTreeMap<RawFd, u32> = BTreeMap::new();
        self.late.iter().for_each(|late| *held.entry(late.fd).or_default() += 1);
        self.descriptions.retain(|fd, description| {
            description.open = false;
            description.in_flight = held.get(fd).copied().unwrap_or(0);
            description.in_flight > 0
        });
        self.collect();
    }

    /// Forgets files that nothing can reach.
    pub(super) fn collect(&mut self) {
        let open: BTreeSet<_> = self.descriptions.values().map(|description| description.node).collect();
        self.tree.collect(&open);
    }

    pub(super) fn description(&self, fd: RawFd) -> io::Result<&Description> {
        self.descriptions.get(&fd).ok_or_else(|| errno(libc::EBADF))
    }

    pub(super) fn try_lock(&mut self, fd: RawFd) -> io::Result<bool> {
        let node = self.description(fd)?.node;
        let taken = |(other, it): (&RawFd, &Description)| *other != fd && it.node == node && it.locked;
        if self.descriptions.iter().any(taken) {
            return Ok(false);
        }
        self.descriptions.entry(fd).and_modify(|description| description.locked = true);
        Ok(true)
    }

    /// Bytes read, or an injected error.
    pub(super) fn read(&mut self, fd: RawFd, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let (node, path) = {
            let description = self.description(fd)?;
            (description.node, description.path.clone())
        };
        self.trip(FaultOp::Read, &path)?;
        let read = self.tree.file(node)?.content.current().read(offset, buf);
        self.counters.reads += 1;
        Ok(read)
    }

    /// Writes all of `data`; an injected error leaves a random part of it.
    pub(super) fn write(&mut self, fd: RawFd, offset: u64, data: Payload, durable: bool) -> io::Result<()> {
        let (node, path) = {
            let description = self.description(fd)?;
            (description.node, description.path.clone())
        };
        if let Err(error) = self.trip(FaultOp::Write, &path) {
            let mut dice = Dice { rng: &mut self.rng, odds: self.options.torn, counters: &mut self.counters };
            for change in (Change::Write { offset, data }).survivors(&mut dice) {
                let done = self.advance();
                self.tree.file_mut(node)?.content.change(change, done, false);
            }
            return Err(error);
        }
        self.store(node, offset, data, durable)?;
        self.counters.writes += 1;
        Ok(())
    }

    /// Writes what fits; `ENOSPC` if that is not all.
    pub(super) fn store(&mut self, node: NodeId, offset: u64, data: Payload, sure: bool) -> io::Result<()> {
        let end = offset.checked_add(data.len()).ok_or_else(|| errno(libc::EFBIG))?;
        let first_that_fails = match self.options.capacity {
            None => None,
            Some(capacity) => {
                let room = capacity.saturating_sub(self.used()) / PAGE;
                let room = usize::try_from(room).unwrap_or(usize::MAX);
                self.tree.file(node)?.content.missing_pages(offset, data.len()).nth(room)
            }
        };
        let fits = first_that_fails.map_or(end, |page| (page * PAGE).max(offset));
        if fits > offset {
            let done = self.advance();
            let change = Change::Write { offset, data: data.slice(0..fits - offset) };
            self.tree.file_mut(node)?.content.change(change, done, sure && fits == end);
        }
        if fits < end {
            self.counters.no_space += 1;
            return Err(errno(libc::ENOSPC));
        }
        Ok(())
    }

    /// Completes a sync that was submitted at clock value `submitted`.
    pub(super) fn sync(&mut self, fd: RawFd, submitted: u64) -> io::Result<()> {
        let (node, path) = {
            let description = self.description(fd)?;
            (description.node, description.path.clone())
        };
        let tripped = self.trip(FaultOp::Sync, &path);
        let file = self.tree.file_mut(node)?;
        if tripped.is_err() {
            let odds = self.options.power;
            file.content.fail_sync(&mut Dice { rng: &mut self.rng, odds, counters: &mut self.counters });
            return tripped;
        }
        file.content.sync(submitted);
        self.counters.syncs += 1;
        Ok(())
    }

    /// Fails if a fault waits for this operation.
    pub(super) fn trip(&mut self, op: FaultOp, path: &str) -> io::Result<()> {
        if self.armed.trip(op, path) {
            self.counters.injected += 1;
            return Err(errno(libc::EIO));
        }
        Ok(())
    }

    /// Bytes allocated by files that have a name or are open.
    fn used(&self) -> u64 {
        let open: BTreeSet<_> = self.descriptions.values().map(|description| description.node).collect();
        let counted = self.tree.files().filter(|(id, file)| file.linked || open.contains(id));
        counted.map(|(_, file)| file.content.current().allocated() * PAGE).sum()
    }

    pub(super) fn free_space(&self) -> u64 {
        self.options.capacity.unwrap_or(UNLIMITED).saturating_sub(self.used())
    }
}

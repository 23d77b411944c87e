//! [`Io`] of the simulated world: operations wait, and complete a few at a time in any order.

use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::files::aligned;
use super::pages::Payload;
use super::state::{Refusal, State};
use super::{Shared, errno};
use crate::{AlignedBuf, Completion, Durability, Io, Op, OpenMode, Token, Wake};

/// A wake that waits for the wait.
#[derive(Debug, Default)]
pub(super) struct Wakeup {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wakeup {
    /// Takes a wake that came; else sleeps up to `limit` for one.
    fn take(&self, limit: Option<Duration>) -> bool {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut woken = match limit {
            None => self.changed.wait_while(woken, |woken| !*woken).unwrap_or_else(PoisonError::into_inner),
            Some(Duration::ZERO) => woken,
            Some(limit) => {
                let slept = self.changed.wait_timeout_while(woken, limit, |woken| !*woken);
                slept.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        std::mem::take(&mut *woken)
    }
}

impl Wake for Wakeup {
    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// What an operation in flight does when it completes.
#[derive(Debug)]
pub(super) enum Kind {
    Read { offset: u64, buf: AlignedBuf },
    Write { offset: u64, data: Payload, durable: bool },
    Sync,
}

/// An operation in flight.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) token: Token,
    pub(super) fd: RawFd,
    /// World clock at submission: a sync covers what completed up to here.
    pub(super) submitted: u64,
    pub(super) kind: Kind,
    cancelled: bool,
}

/// One ring's operations.
#[derive(Debug)]
pub(super) struct Ring {
    pending: Vec<Pending>,
    /// Ended without having been in flight.
    finished: Vec<Completion>,
    pub(super) wakeup: Arc<Wakeup>,
}

impl Ring {
    pub(super) fn new(wakeup: Arc<Wakeup>) -> Ring {
        Ring { pending: Vec::new(), finished: Vec::new(), wakeup }
    }

    /// Ends everything in flight with an error for its caller, and returns the writes and syncs: what truly happens
    /// to them is for the crash to decide.
    pub(super) fn fail(&mut self, refusal: Refusal) -> Vec<Pending> {
        let mut undecided = Vec::new();
        for op in std::mem::take(&mut self.pending) {
            let (buf, left) = match op.kind {
                Kind::Read { buf, .. } => (Some(buf), None),
                kind => (None, Some(Pending { kind, ..op })),
            };
            self.finished.push(Completion { token: op.token, result: Err(refusal.into()), buf });
            undecided.extend(left);
        }
        undecided
    }
}

/// The ring of one thread in one boot.
pub(super) struct SimIo {
    shared: Arc<Shared>,
    boot: u64,
    ring: u64,
    wakeup: Arc<Wakeup>,
}

impl SimIo {
    pub(super) fn new(shared: Arc<Shared>) -> SimIo {
        let (boot, (ring, wakeup)) = {
            let mut state = shared.lock();
            (state.boot, state.add_ring())
        };
        SimIo { shared, boot, ring, wakeup }
    }
}

/// The buffer that goes back to the caller.
fn buffer(op: Op) -> Option<AlignedBuf> {
    match op {
        Op::Read { buf, .. } | Op::Recv { buf, .. } => Some(buf),
        Op::Write { .. } | Op::Sync { .. } | Op::Send { .. } => None,
    }
}

/// Splits an operation; `Err` is one that ends at once, with its buffer.
fn prepare(state: &mut State, op: Op) -> Result<(RawFd, Kind), (io::Error, Option<AlignedBuf>)> {
    let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
    let (fd, kind) = match op {
        Op::Recv { buf, .. } => return Err((unsupported(), Some(buf))),
        Op::Send { .. } => return Err((unsupported(), None)),
        Op::Read { file, offset, buf } => {
            if mode(state, file) == Some(OpenMode::Direct)
                && let Err(error) = aligned(offset, &buf)
            {
                return Err((error, Some(buf)));
            }
            (file, Kind::Read { offset, buf })
        }
        Op::Write { file, offset, data, durability } => {
            let allowed = match mode(state, file) {
                Some(OpenMode::Read) => Err(errno(libc::EBADF)),
                Some(OpenMode::Direct) => data.iter().try_for_each(|part| aligned(offset, part)),
                _ => Ok(()),
            };
            allowed.map_err(|error| (error, None))?;
            let data = Payload::new(data.iter().map(|part| &part[..]));
            (file, Kind::Write { offset, data, durable: durability == Durability::Durable })
        }
        Op::Sync { file } => (file, Kind::Sync),
    };
    match (state.hold(fd), kind) {
        (Ok(_), kind) => Ok((fd, kind)),
        (Err(error), Kind::Read { buf, .. }) => Err((error, Some(buf))),
        (Err(error), _) => Err((error, None)),
    }
}

fn mode(state: &State, fd: RawFd) -> Option<OpenMode> {
    state.description(fd).ok().map(|description| description.mode)
}

/// Does an operation in flight, now.
fn complete(state: &mut State, op: Pending) -> Completion {
    let Pending { token, fd, submitted, kind, cancelled } = op;
    let cancelled = cancelled && state.rng.chance(1, 2);
    let (result, buf) = match kind {
        Kind::Read { buf, .. } if cancelled => (Err(errno(libc::ECANCELED)), Some(buf)),
        _ if cancelled => (Err(errno(libc::ECANCELED)), None),
        Kind::Read { offset, mut buf } => (state.read(fd, offset, &mut buf), Some(buf)),
        Kind::Write { offset, data, durable } => {
            let len = data.len() as usize;
            (state.write(fd, offset, data, durable).map(|()| len), None)
        }
        Kind::Sync => (state.sync(fd, submitted).map(|()| 0), None),
    };
    state.release(fd);
    Completion { token, result, buf }
}

impl State {
    /// Completes a random part, at least one, of what a ring has in flight, in random order.
    fn turn(&mut self, boot: u64, ring: u64, completions: &mut Vec<Completion>) {
        let Some(pending) = self.rings.get_mut(&ring).map(|ring| std::mem::take(&mut ring.pending)) else {
            return;
        };
        let mut left = Vec::new();
        let mut chosen = Vec::new();
        for op in pending {
            if self.rng.chance(1, 2) { &mut chosen } else { &mut left }.push(op);
        }
        if chosen.is_empty() && !left.is_empty() {
            chosen.push(left.swap_remove(self.rng.below(left.len() as u64) as usize));
        }
        self.rng.shuffle(&mut chosen);
        for op in chosen {
            // The power may go off between two of them.
            match self.enter(boot) {
                Ok(()) => completions.push(complete(self, op)),
                Err(_) => left.push(op),
            }
        }
        if let Some(ring) = self.rings.get_mut(&ring) {
            ring.pending = left;
        }
    }
}

impl Io for SimIo {
    fn submit(&mut self, token: Token, op: Op) {
        let state = &mut *self.shared.lock();
        let prepared = match state.check(self.boot) {
            Ok(()) => prepare(state, op),
            // It never reaches the disk, so no crash decides over it.
            Err(refusal) => Err((refusal.into(), buffer(op))),
        };
        let submitted = state.clock;
        let Some(ring) = state.rings.get_mut(&self.ring) else { return };
        match prepared {
            Ok((fd, kind)) => ring.pending.push(Pending { token, fd, submitted, kind, cancelled: false }),
            Err((error, buf)) => ring.finished.push(Completion { token, result: Err(error), buf }),
        }
    }

    fn cancel(&mut self, token: Token) {
        if let Some(ring) = self.shared.lock().rings.get_mut(&self.ring) {
            ring.pending.iter_mut().filter(|op| op.token == token).for_each(|op| op.cancelled = true);
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let limit = {
            let state = &mut *self.shared.lock();
            let alive = state.check(self.boot);
            let Some(ring) = state.rings.get_mut(&self.ring) else { return Ok(alive?) };
            if let Err(refusal) = alive {
                state.orphans.extend(ring.fail(refusal));
            }
            let before = completions.len();
            completions.append(&mut ring.finished);
            if completions.len() > before {
                return Ok(());
            }
            alive?;
            state.turn(self.boot, self.ring, completions);
            if completions.len() > before {
                self.wakeup.take(Some(Duration::ZERO));
                return Ok(());
            }
            timeout.map(|timeout| timeout.min(state.options.idle_wait))
        };
        self.wakeup.take(limit);
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.wakeup.clone()
    }

    fn in_flight(&self) -> usize {
        let state = self.shared.lock();
        state.rings.get(&self.ring).map_or(0, |ring| ring.pending.len() + ring.finished.len())
    }

    fn backend(&self) -> &'static str {
        "sim"
    }
}

impl Drop for SimIo {
    /// Ends the ring as the death of its process would: what is in flight may still happen.
    fn drop(&mut self) {
        let state = &mut *self.shared.lock();
        let Some(ring) = state.rings.remove(&self.ring) else { return };
        match state.check(self.boot) {
            Ok(()) => state.abandon(ring.pending),
            Err(_) => state.orphans.extend(ring.pending),
        }
    }
}

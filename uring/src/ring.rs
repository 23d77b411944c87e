//! The io_uring backend: one ring for one thread, one `io_uring_enter` per wait.

mod slot;

use std::collections::VecDeque;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode, squeue};

use crate::wake::EventWake;
use crate::{Completion, Io, Op, Token, Wake};

use slot::Slab;

/// Answers that belong to no slot.
const WAKE: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;

/// How long a dropped ring waits for the kernel to let go of its memory.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How long one wait lasts when the kernel took no submissions; completions make room.
const CONGESTED: Duration = Duration::from_millis(10);

/// Not `Send`: the kernel takes submissions from the creating thread only.
pub(crate) struct Ring {
    ring: IoUring,
    slab: Slab,
    /// Entries that did not fit into the submission queue, in order; at most a few for each operation in flight.
    backlog: VecDeque<squeue::Entry>,
    /// Ended without the kernel; returned by the next wait.
    ready: Vec<Completion>,
    wake: Arc<EventWake>,
    /// Where the kernel puts the eventfd's counter.
    wake_value: Box<u64>,
    wake_armed: bool,
    no_iowait: bool,
    closing: bool,
}

impl Ring {
    /// Takes over a ring that was just set up by this thread.
    pub(crate) fn new(ring: IoUring) -> io::Result<Ring> {
        let no_iowait = ring.params().is_feature_no_iowait();
        let mut ring = Ring {
            ring,
            slab: Slab::default(),
            backlog: VecDeque::new(),
            ready: Vec::new(),
            wake: Arc::new(EventWake::new()?),
            wake_value: Box::new(0),
            wake_armed: false,
            no_iowait,
            closing: false,
        };
        ring.arm_wake();
        Ok(ring)
    }

    fn arm_wake(&mut self) {
        let entry = opcode::Read::new(Fd(self.wake.fd()), (&raw mut *self.wake_value).cast(), 8).build();
        self.wake_armed = true;
        self.push(entry.user_data(WAKE));
    }

    /// Queues an entry, behind those that wait already.
    #[inline]
    fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            if self.try_push(&entry) {
                return;
            }
            // An error here shows again in the next wait, which can report it.
            let _ = self.enter(true, 0, None);
            if self.try_push(&entry) {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    #[inline]
    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every entry was made by `Slot::prepare` (whose slot keeps the memory until the answer came),
        // `arm_wake` (whose memory is kept by the ring until the answer came), or names no memory.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    /// Moves the backlog into the submission queue, and that into the kernel for room as long as it takes any.
    #[inline]
    fn refill(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if self.try_push(&entry) {
                continue;
            }
            self.backlog.push_front(entry);
            // An error here shows again when the caller enters for the rest.
            if !matches!(self.enter(true, 0, None), Ok(1..)) {
                return;
            }
        }
    }

    /// One `io_uring_enter`: submits if asked, and waits for `want` answers at most `timeout`.
    #[inline]
    fn enter(&mut self, submit: bool, want: u32, timeout: Option<Duration>) -> io::Result<usize> {
        let entries = if submit { self.ring.submission().len() as u32 } else { 0 };
        // Deferred task work runs only under GETEVENTS, so it is there even when nothing is waited for.
        let mut flags = EnterFlags::GETEVENTS;
        // The armed eventfd would count an idle thread as waiting for I/O; with operations in flight it is.
        if self.no_iowait && self.slab.live() == 0 {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let submitter = self.ring.submitter();
        match timeout {
            Some(timeout) if want > 0 => {
                let timespec = Timespec::from(timeout);
                let args = SubmitArgs::new().timespec(&timespec);
                flags |= EnterFlags::EXT_ARG;
                // SAFETY: EXT_ARG says that the argument is a `SubmitArgs`, which outlives the call.
                unsafe { submitter.enter(entries, want, flags.bits(), Some(&args)) }
            }
            // SAFETY: no argument, so no signal mask.
            _ => unsafe { submitter.enter::<libc::sigset_t>(entries, want, flags.bits(), None) },
        }
    }

    /// Takes all answers there are, those the kernel kept aside for want of room included. Whether a wake was one.
    #[inline]
    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<bool> {
        let mut woke = false;
        loop {
            woke |= self.drain_queue(completions);
            if !self.ring.submission().cq_overflow() {
                return Ok(woke);
            }
            match self.enter(false, 0, None) {
                Err(error) if !transient(&error) => return Err(error),
                _ => {}
            }
        }
    }

    #[inline]
    fn drain_queue(&mut self, completions: &mut Vec<Completion>) -> bool {
        let mut woken = false;
        let (_, mut submissions, answers) = self.ring.split();
        for cqe in answers {
            match cqe.user_data() {
                WAKE => woken = true,
                CANCEL => {}
                user_data => {
                    let index = user_data as u32;
                    let slot = &mut self.slab.slots[index as usize];
                    debug_assert!(slot.live && slot.user_data(index) == user_data);
                    match slot.answer(index, cqe.result()) {
                        Err(result) => {
                            completions.push(slot.transfer.complete(result));
                            self.slab.release(index);
                        }
                        // SAFETY: made by `Slot::prepare`, whose slot keeps the memory until the answer came.
                        Ok(entry) => unsafe {
                            if !self.backlog.is_empty() || submissions.push(&entry).is_err() {
                                self.backlog.push_back(entry);
                            }
                        },
                    }
                }
            }
        }
        drop(submissions);
        if !woken {
            return false;
        }
        self.wake_armed = false;
        if !self.closing {
            self.arm_wake();
        }
        self.wake.take()
    }

    /// Cancels everything and waits until the kernel let go of all memory, or gives up on it.
    fn close(&mut self) {
        self.closing = true;
        if self.wake_armed {
            self.push(opcode::AsyncCancel::new(WAKE).build().user_data(CANCEL));
        }
        for index in 0..self.slab.slots.len() {
            self.cancel_slot(index);
        }
        let deadline = Instant::now() + DRAIN_LIMIT;
        let mut ended = mem::take(&mut self.ready);
        let mut congested = false;
        while self.slab.live() > 0 || self.wake_armed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.refill();
            match self.enter(!congested, 1, Some(if congested { CONGESTED } else { left })) {
                Err(error) if !transient(&error) => break,
                outcome => congested = is_congested(&outcome),
            }
            if self.drain(&mut ended).is_err() {
                break;
            }
            ended.clear();
        }
    }

    fn cancel_slot(&mut self, index: usize) {
        let slot = &mut self.slab.slots[index];
        if slot.live && !slot.transfer.cancelled {
            slot.transfer.cancelled = true;
            let user_data = slot.user_data(index as u32);
            self.push(opcode::AsyncCancel::new(user_data).build().user_data(CANCEL));
        }
    }
}

/// Errors of `io_uring_enter` after which the loop simply looks again.
fn transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// The kernel took no submissions: it has no memory, or wants its completions read first.
fn is_congested(outcome: &io::Result<usize>) -> bool {
    matches!(outcome, Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)))
}

impl Io for Ring {
    #[inline]
    fn submit(&mut self, token: Token, op: Op) {
        let index = self.slab.claim();
        let slot = &mut self.slab.slots[index as usize];
        match slot.transfer.load(token, op) {
            None => {
                let entry = slot.prepare(index);
                self.push(entry);
            }
            Some(result) => {
                self.ready.push(slot.transfer.complete(result));
                self.slab.release(index);
            }
        }
    }

    fn cancel(&mut self, token: Token) {
        if let Some(index) = self.slab.slots.iter().position(|slot| slot.live && slot.transfer.token == token)
        {
            self.cancel_slot(index);
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        completions.append(&mut self.ready);
        // A time beyond the clock's range is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut left = timeout.filter(|_| deadline.is_some());
        let mut congested = false;
        loop {
            self.refill();
            let want = u32::from(completions.len() == before && left != Some(Duration::ZERO));
            let pause =
                if congested { Some(left.map_or(CONGESTED, |left| left.min(CONGESTED))) } else { left };
            match self.enter(!congested, want, pause) {
                Err(error) if !transient(&error) => return Err(error),
                outcome => congested = is_congested(&outcome),
            }
            let woke = self.drain(completions)?;
            if woke || completions.len() > before {
                return Ok(());
            }
            if let Some(deadline) = deadline {
                let rest = deadline.saturating_duration_since(Instant::now());
                if rest.is_zero() {
                    return Ok(());
                }
                left = Some(rest);
            }
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.wake.clone()
    }

    fn in_flight(&self) -> usize {
        self.slab.live() + self.ready.len()
    }

    fn backend(&self) -> &'static str {
        "uring"
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.close();
        if self.slab.live() > 0 || self.wake_armed {
            // The kernel may still write into buffers, vectors and the counter, at any later time. Lost memory is
            // harmless, memory written after it was freed is not.
            let _leaked = ManuallyDrop::new((mem::take(&mut self.slab), mem::take(&mut self.wake_value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlignedBuf;
    use std::os::fd::AsRawFd;

    /// As after a kernel that took no submissions: everything waits on our side, a cancellation behind its operation.
    #[test]
    fn a_backlog_reaches_the_kernel_in_order_with_the_next_wait() {
        let Ok(ring) = IoUring::new(4) else { return };
        let mut ring = Ring::new(ring).unwrap();
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ring.backlog.push_back(opcode::Nop::new().build().user_data(CANCEL));
        for token in 0..100 {
            ring.submit(token, Op::Recv { socket: ours.as_raw_fd(), buf: AlignedBuf::with_capacity(1) });
            ring.cancel(token);
        }
        assert_eq!((ring.backlog.len(), ring.in_flight()), (201, 100));
        let mut completions = Vec::new();
        while completions.len() < 100 {
            let before = completions.len();
            ring.wait(Some(Duration::from_secs(60)), &mut completions).unwrap();
            assert!(ring.backlog.is_empty() && completions.len() > before);
        }
        let cancelled =
            |it: &Completion| it.result.as_ref().unwrap_err().raw_os_error() == Some(libc::ECANCELED);
        assert!(completions.iter().all(|it| cancelled(it) && it.buf.is_some()));
        assert_eq!(ring.in_flight(), 0);
    }
}

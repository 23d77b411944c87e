//! Ends a wait from another thread: an eventfd, written once however often it is woken.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Wake;

/// Shared by one loop and those who wake it. The loop reads the descriptor (8 bytes), then calls [`EventWake::take`].
pub(crate) struct EventWake {
    fd: OwnedFd,
    /// The descriptor was written and [`EventWake::take`] did not come yet.
    signalled: AtomicBool,
    /// [`Wake::wake`] was called since the last [`EventWake::take`].
    requested: AtomicBool,
}

impl EventWake {
    pub(crate) fn new() -> io::Result<EventWake> {
        // Blocking on purpose: io_uring answers EAGAIN for a non-blocking descriptor instead of waiting for it.
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that the kernel just gave us and nobody else knows.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(EventWake { fd, signalled: AtomicBool::new(false), requested: AtomicBool::new(false) })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Makes the descriptor readable without asking the wait to return for the caller's sake.
    pub(crate) fn signal(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            let one = 1u64;
            // Cannot fail: the counter holds one at most, since it is read before `signalled` is cleared.
            // SAFETY: the eight bytes of `one` outlive the call.
            unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
        }
    }

    /// Forgets the signal; whether anybody called [`Wake::wake`]. The exchanges order it behind what the wakers did
    /// before, so the loop sees their queue entries.
    pub(crate) fn take(&self) -> bool {
        self.signalled.swap(false, Ordering::AcqRel);
        self.requested.swap(false, Ordering::AcqRel)
    }
}

impl Wake for EventWake {
    fn wake(&self) {
        if !self.requested.swap(true, Ordering::AcqRel) {
            self.signal();
        }
    }
}

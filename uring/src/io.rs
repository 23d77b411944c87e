//! The loop's view of the machine: submit operations, wait for completions.
//!
//! One [`Io`] belongs to one thread. Operations own their buffers from [`Io::submit`] until their [`Completion`]
//! comes back, so nothing can free memory that the kernel still reads or writes, cancelled or not.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use bytes::Bytes;

use crate::AlignedBuf;

/// Names one operation; chosen by the caller, returned in its [`Completion`]. Unique among operations in flight.
pub type Token = u64;

/// What a completed write promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The bytes left this process: they survive its death, not a power loss.
    Written,
    /// The bytes of this very write survive power loss (`RWF_DSYNC`); says nothing of earlier writes.
    Durable,
}

/// One operation. Descriptors stay open until the completion arrived: that is the caller's duty.
#[derive(Debug)]
pub enum Op {
    /// Fills `buf[..buf.len()]` from `offset`. Short only at the end of the file; O_DIRECT rules are the caller's.
    Read {
        /// Open for reading.
        file: RawFd,
        /// In bytes from the start of the file.
        offset: u64,
        /// Its length says how much to read.
        buf: AlignedBuf,
    },
    /// Writes all of `data`, one part behind the other, at `offset`. Never completes short without an error.
    Write {
        /// Open for writing.
        file: RawFd,
        /// In bytes from the start of the file.
        offset: u64,
        /// The parts in order; empty ones are skipped.
        data: Vec<Bytes>,
        /// What completion promises.
        durability: Durability,
    },
    /// `fdatasync`.
    Sync {
        /// An open file.
        file: RawFd,
    },
    /// Receives once into `buf[buf.len()..buf.capacity()]` and extends `buf`; a result of 0 is the end of the stream.
    Recv {
        /// A connected stream socket, blocking or not.
        socket: RawFd,
        /// A full one ends with `InvalidInput`.
        buf: AlignedBuf,
    },
    /// Sends all of `data` in order. Completes when everything was accepted by the kernel, or failed.
    Send {
        /// A connected stream socket, blocking or not. One send at a time: two in flight may mix their bytes.
        socket: RawFd,
        /// The parts in order; empty ones are skipped.
        data: Vec<Bytes>,
    },
}

/// The end of one operation.
#[derive(Debug)]
pub struct Completion {
    /// As given to [`Io::submit`].
    pub token: Token,
    /// Bytes read, written, received or sent; 0 for a sync. A cancelled operation ends with `ECANCELED`, or as if it
    /// had not been cancelled when it was quicker.
    pub result: io::Result<usize>,
    /// The buffer of a read or receive, whatever the result; `None` for everything else.
    pub buf: Option<AlignedBuf>,
}

/// A handle that ends a [`Io::wait`] from any thread. Cheap to clone; wakes before the wait are not lost.
pub trait Wake: Send + Sync {
    /// Makes the current or the next wait return.
    fn wake(&self);
}

/// Batched asynchronous input and output for one thread.
pub trait Io {
    /// Queues `op`. Nothing reaches the kernel before [`Io::wait`] (or a full queue); order between operations is
    /// not kept.
    fn submit(&mut self, token: Token, op: Op);
    /// Asks that the operation named `token` end early; its completion still comes. Unknown tokens are ignored.
    fn cancel(&mut self, token: Token);
    /// Submits all that is queued and waits until at least one operation completed, a [`Wake`] came, or `timeout`
    /// passed (`None`: no limit; zero: only look). Appends everything that completed to `completions`.
    fn wait(&mut self, timeout: Option<Duration>, completions: &mut Vec<Completion>) -> io::Result<()>;
    /// A handle for other threads.
    fn waker(&self) -> std::sync::Arc<dyn Wake>;
    /// Operations submitted whose completions were not returned yet.
    fn in_flight(&self) -> usize;
    /// `"uring"`, `"threads"` or `"sim"`: for the log and the metric.
    fn backend(&self) -> &'static str;
}

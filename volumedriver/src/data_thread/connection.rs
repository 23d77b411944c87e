//! One client's connection: what it may still send, what was received and not yet understood, and what waits to be
//! sent. Knows no volume; `receive.rs` and `answer.rs` move it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use uring::AlignedBuf;

use super::slots::Key;
use super::stages::RequestKind;
use crate::nbd::handshake::Negotiated;
use crate::nbd::listener::{Attached, ConnectionPermit};
use crate::nbd::reply::Replies;
use crate::nbd::transmission::Decoder;

/// Buffer of a connection that waits for its next request, bytes.
pub(super) const RECEIVE_IDLE: usize = 8 << 10;
/// Buffer of one that sends a lot, bytes.
pub(super) const RECEIVE_BUSY: usize = 256 << 10;

/// Counts a volume's connections; its drop counts one less.
pub struct ConnectionCount(Arc<AtomicU32>);

impl ConnectionCount {
    /// Counts one more.
    pub fn new(count: Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a connection still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything.
    Open,
    /// Receives nothing more; answers what it has, then closes.
    Draining,
    /// Broken: answers are dropped; closes when nothing of it is in flight.
    Broken,
}

/// Received bytes that the decoder has not seen, `buf[at..]`.
pub(super) struct Input {
    pub(super) buf: AlignedBuf,
    pub(super) at: usize,
}

/// A request whose reply is on its way.
pub(super) struct Mark {
    pub(super) kind: RequestKind,
    pub(super) answered: Instant,
}

/// Replies that were not given to the kernel yet: headers in one buffer, data without copying.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) head: BytesMut,
    parts: Vec<Bytes>,
    pub(super) marks: Vec<Mark>,
    bytes: usize,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.parts.is_empty()
    }

    /// Queues data behind the headers so far.
    pub(super) fn push_data(&mut self, data: Vec<Bytes>) {
        self.seal();
        self.bytes += data.iter().map(Bytes::len).sum::<usize>();
        self.parts.extend(data);
    }

    fn seal(&mut self) {
        if !self.head.is_empty() {
            let head = self.head.split().freeze();
            self.bytes += head.len();
            self.parts.push(head);
        }
    }

    /// Bytes waiting.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.head.len()
    }

    /// Everything that waits, and how many bytes that are.
    pub(super) fn take(&mut self) -> (Vec<Bytes>, Vec<Mark>, usize) {
        self.seal();
        let bytes = std::mem::take(&mut self.bytes);
        (std::mem::take(&mut self.parts), std::mem::take(&mut self.marks), bytes)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Replies that the kernel is taking.
pub(super) struct Sending {
    pub(super) operation: Key,
    pub(super) marks: Vec<Mark>,
    pub(super) bytes: usize,
    pub(super) since: Instant,
}

/// See the module. Its descriptor is closed when it is dropped, which happens when nothing of it is in flight.
pub(super) struct Connection {
    socket: OwnedFd,
    /// Index of its volume on this thread.
    pub(super) volume: u32,
    pub(super) peer: String,
    pub(super) decoder: Decoder,
    pub(super) form: Replies,
    pub(super) phase: Phase,
    /// Received and not decoded; `None` while a receive is in flight.
    pub(super) input: Option<Input>,
    pub(super) receiving: Option<Key>,
    /// When the bytes in `input` arrived.
    pub(super) arrived: Instant,
    /// Full buffers came in last time.
    pub(super) busy: bool,
    /// Waits in the thread's list of those held up by a limit.
    pub(super) stalled: bool,
    /// The write whose last piece has not arrived.
    pub(super) open_write: Option<Key>,
    /// Requests without an answer, and the bytes of those answers.
    pub(super) unanswered: usize,
    pub(super) unanswered_bytes: usize,
    pub(super) outgoing: Outgoing,
    pub(super) sending: Option<Sending>,
    /// Waits in the thread's list of those with replies to send.
    pub(super) dirty: bool,
    _count: ConnectionCount,
    _permit: ConnectionPermit,
}

impl Connection {
    pub(super) fn new(attached: Attached, volume: u32, count: ConnectionCount, now: Instant) -> Self {
        let Attached { socket, leftover, negotiated, peer, permit } = attached;
        let negotiated: Negotiated = negotiated;
        Self {
            socket,
            volume,
            peer,
            decoder: Decoder::new(&negotiated),
            form: Replies::negotiated(&negotiated),
            phase: Phase::Open,
            input: Some(Input { buf: AlignedBuf::copy_from(&leftover), at: 0 }),
            receiving: None,
            arrived: now,
            busy: false,
            stalled: false,
            open_write: None,
            unanswered: 0,
            unanswered_bytes: 0,
            outgoing: Outgoing::default(),
            sending: None,
            dirty: false,
            _count: count,
            _permit: permit,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Bytes of replies that are being made, wait, or are being sent.
    pub(super) fn reply_bytes(&self) -> usize {
        self.unanswered_bytes
            + self.outgoing.bytes()
            + self.sending.as_ref().map_or(0, |sending| sending.bytes)
    }

    /// The buffer of the next receive, with the undecoded rest in front.
    pub(super) fn next_buffer(&self, rest: &[u8]) -> AlignedBuf {
        let wanted = match self.decoder.missing() as usize {
            0 if self.busy => RECEIVE_BUSY,
            0 => RECEIVE_IDLE,
            // In the middle of a write: all of it, up to a bound that still fits the processor's cache.
            missing => missing.clamp(RECEIVE_IDLE, RECEIVE_BUSY),
        };
        let mut buf = AlignedBuf::with_capacity(wanted.max(rest.len() + RECEIVE_IDLE));
        buf.extend_from_slice(rest);
        buf
    }

    /// Nothing of it is left anywhere.
    pub(super) fn is_finished(&self) -> bool {
        let quiet = self.receiving.is_none() && self.sending.is_none() && self.unanswered == 0;
        match self.phase {
            Phase::Open => false,
            Phase::Draining => quiet && self.outgoing.is_empty(),
            Phase::Broken => quiet,
        }
    }
}

//! From received bytes to events: decodes requests and gives them to their volume, as far as the limits allow.

use std::io;

use uring::{AlignedBuf, Op};

use super::answer::{Client, Request};
use super::connection::{Connection, Input, Phase, RECEIVE_IDLE};
use super::slots::Key;
use super::stages::{RequestKind, Stage};
use super::{DataThread, Pending};
use crate::nbd::protocol::{Cookie, Errno};
use crate::nbd::transmission::{self, Item, Operation};
use crate::volume::event::{Emptiness, EmptyKind, Event, FlushedBy, Promise, RequestId};

/// Extents of one answer to a block status request.
const EXTENTS_MAX: usize = 4096;

/// What the decoder's last item means for the connection.
enum Next {
    /// Look for another item.
    Decode,
    /// Receive more.
    Receive,
    /// Wait until a limit allows more.
    Stall,
    /// Nothing more will come.
    Stop,
}

impl DataThread {
    /// A receive ended.
    pub(super) fn received(&mut self, key: Key, result: io::Result<usize>, buf: Option<AlignedBuf>) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.receiving = None;
        match (result, buf) {
            (Ok(0), _) => self.end_connection(key, Phase::Draining),
            (Ok(received), Some(buf)) if connection.phase == Phase::Open => {
                let was_full = buf.len() == buf.capacity();
                // A sender that fills less than an idle buffer gives the big one back.
                connection.busy = was_full || (connection.busy && received > RECEIVE_IDLE);
                connection.arrived = now;
                connection.input = Some(Input { buf, at: 0 });
                self.decode(key);
            }
            (Ok(_), _) => self.retire_if_finished(key),
            (Err(error), _) => {
                if connection.phase == Phase::Open {
                    tracing::debug!(peer = connection.peer, %error, "NBD connection broke");
                    self.end_connection(key, Phase::Broken);
                } else {
                    self.retire_if_finished(key);
                }
            }
        }
    }

    /// Goes on with connections that a limit held up.
    pub(super) fn resume_stalled(&mut self) {
        if self.stalled.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.stalled) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.stalled = false;
            // Stalls again at once if nothing changed.
            self.decode(key);
        }
    }

    /// Gives all that was received to the volume; then receives more, or stalls at a limit.
    pub(super) fn decode(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase != Phase::Open || connection.stalled {
            return;
        }
        let Some(Input { buf, mut at }) = connection.input.take() else { return };
        let next = loop {
            match self.decode_one(key, &buf, &mut at) {
                Next::Decode => {}
                next => break next,
            }
        };
        let Some(connection) = self.connections.get_mut(key) else { return };
        match next {
            Next::Receive => {
                let buf = connection.next_buffer(&buf[at..]);
                self.receive(key, buf);
            }
            Next::Stall => {
                connection.input = Some(Input { buf, at });
                connection.stalled = true;
                self.stalled.push(key);
            }
            Next::Stop | Next::Decode => {}
        }
    }

    fn receive(&mut self, key: Key, buf: AlignedBuf) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let op = Op::Recv { socket: connection.fd(), buf };
        let operation = self.submit(Pending::Receive { connection: key }, op);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.receiving = Some(operation);
        }
    }

    /// Whether a limit forbids to look at the connection's next request.
    fn is_held_up(&mut self, key: Key) -> bool {
        let (reads, writes) = (self.read_bytes, self.pending_bytes);
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let volume = connection.volume;
        // A write of which a part was taken counts already: it cannot wait for itself.
        let own = connection.open_write.is_none()
            && (connection.unanswered >= self.options.requests_in_flight
                || connection.reply_bytes() >= self.options.reply_bytes);
        if own || reads >= self.options.read_bytes {
            return true;
        }
        let pending = self.hosted(volume).map_or(0, |hosted| hosted.pending_bytes);
        // A volume without unwritten data is not held up by others': its next request may be a read.
        pending >= self.options.volume_write_bytes || (pending > 0 && writes >= self.options.write_bytes)
    }

    fn decode_one(&mut self, key: Key, buf: &AlignedBuf, at: &mut usize) -> Next {
        if self.is_held_up(key) {
            return Next::Stall;
        }
        let Some(connection) = self.connections.get_mut(key) else { return Next::Stop };
        let (consumed, item) = connection.decoder.next(&buf[*at..]);
        *at += consumed;
        match item {
            Item::Incomplete => return Next::Receive,
            Item::WritePiece { cookie, offset, data, fua, last } => {
                self.write_piece(key, cookie, offset, data, promise(fua), last);
            }
            Item::Request(request) => self.request(key, request),
            Item::Empty { cookie, .. } => {
                let Connection { form, outgoing, .. } = connection;
                form.success(&mut outgoing.head, cookie);
                self.mark_dirty(key);
            }
            Item::Refused { cookie, error, reason, command } => {
                tracing::debug!(peer = connection.peer, ?command, reason, "NBD request refused");
                let Connection { form, outgoing, .. } = connection;
                form.error(&mut outgoing.head, cookie, error, reason);
                self.mark_dirty(key);
            }
            Item::Disconnect => {
                self.end_connection(key, Phase::Draining);
                return Next::Stop;
            }
            Item::Violation(violation) => {
                tracing::warn!(peer = connection.peer, %violation, "NBD connection closed");
                self.end_connection(key, Phase::Broken);
                return Next::Stop;
            }
        }
        Next::Decode
    }

    /// A write, or a part of one. A write in one piece is one request of the volume; of a longer one each piece is,
    /// and the client's request ends with the last of them.
    fn write_piece(
        &mut self,
        key: Key,
        cookie: Cookie,
        offset: u64,
        data: &[u8],
        promise: Promise,
        last: bool,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let volume = connection.volume;
        let request = match (connection.open_write, last) {
            (None, true) => {
                let request = self.new_request(key, RequestKind::Write, cookie, offset, 0);
                self.note_written(request, data.len());
                request
            }
            (open, last) => {
                let whole = match open {
                    Some(whole) => whole,
                    None => {
                        let whole = self.new_request(key, RequestKind::Write, cookie, offset, 0);
                        if let Some(Request::Client(client)) = self.requests.get_mut(whole) {
                            client.incomplete = true;
                        }
                        whole
                    }
                };
                if let Some(Request::Client(client)) = self.requests.get_mut(whole) {
                    client.pieces += 1;
                    client.incomplete = !last;
                }
                self.note_written(whole, data.len());
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.open_write = (!last).then_some(whole);
                }
                self.requests.insert(Request::Piece { of: whole })
            }
        };
        self.deliver(volume, Event::Write { request: RequestId(request.0), offset, data, promise });
    }

    /// A write has so many bytes more.
    fn note_written(&mut self, key: Key, bytes: usize) {
        if let Some(Request::Client(client)) = self.requests.get_mut(key) {
            client.bytes += bytes as u32;
        }
    }

    /// A request without payload.
    fn request(&mut self, key: Key, request: transmission::Request) {
        let transmission::Request { cookie, offset, length, operation } = request;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let volume = connection.volume;
        let bytes = u64::from(length);
        let kind = match operation {
            Operation::Read { .. } => RequestKind::Read,
            Operation::Flush => RequestKind::Flush,
            Operation::Trim { .. } => RequestKind::Trim,
            Operation::WriteZeroes { .. } => RequestKind::WriteZeroes,
            Operation::BlockStatus { .. } => RequestKind::Status,
            // Nothing is kept ahead of reads: done at once.
            Operation::Cache => {
                let Connection { form, outgoing, .. } = connection;
                form.success(&mut outgoing.head, cookie);
                return self.mark_dirty(key);
            }
        };
        let reply_bytes = if kind == RequestKind::Read { length } else { 0 };
        let id = RequestId(self.new_request(key, kind, cookie, offset, reply_bytes).0);
        let event = match operation {
            Operation::Read { .. } => {
                self.read_bytes += length as usize;
                Event::Read { request: id, offset, length }
            }
            Operation::Flush => Event::Flush { request: id, by: FlushedBy::Client },
            Operation::Trim { fua } => Event::Empty {
                request: id,
                offset,
                length: bytes,
                kind: EmptyKind::Trim,
                promise: promise(fua),
            },
            // Zeros are entries of the log and never data, so that every request is a fast one.
            Operation::WriteZeroes { no_hole, fua, .. } => Event::Empty {
                request: id,
                offset,
                length: bytes,
                kind: EmptyKind::Zeroes(if no_hole { Emptiness::Zero } else { Emptiness::Hole }),
                promise: promise(fua),
            },
            Operation::BlockStatus { req_one } => Event::Status {
                request: id,
                offset,
                length: bytes,
                extents_max: if req_one { 1 } else { EXTENTS_MAX },
            },
            Operation::Cache => return,
        };
        self.deliver(volume, event);
    }

    fn new_request(
        &mut self,
        key: Key,
        kind: RequestKind,
        cookie: Cookie,
        offset: u64,
        reply_bytes: u32,
    ) -> Key {
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(key) {
            self.stages.observe(kind, Stage::Receive, connection.arrived, now);
            connection.unanswered += 1;
            connection.unanswered_bytes += reply_bytes as usize;
        }
        self.requests.insert(Request::Client(Client {
            connection: key,
            kind,
            cookie,
            offset,
            bytes: reply_bytes,
            reply_bytes,
            given: now,
            pieces: 0,
            incomplete: false,
            failed: None,
        }))
    }

    /// The connection receives nothing more; what it has is answered (draining) or not (broken).
    pub(super) fn end_connection(&mut self, key: Key, phase: Phase) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase == Phase::Broken {
            return;
        }
        connection.phase = phase;
        connection.input = None;
        let receiving = connection.receiving;
        let open_write = connection.open_write.take();
        let mut sending = None;
        if phase == Phase::Broken {
            connection.outgoing.clear();
            sending = connection.sending.as_ref().map(|sending| sending.operation);
        }
        for operation in receiving.into_iter().chain(sending) {
            self.io.cancel(operation.0);
        }
        if let Some(whole) = open_write {
            self.abandon_write(whole);
        }
        self.retire_if_finished(key);
    }

    /// The rest of a write will never come.
    fn abandon_write(&mut self, whole: Key) {
        let Some(Request::Client(client)) = self.requests.get_mut(whole) else { return };
        client.incomplete = false;
        client.failed = Some(Errno::Shutdown);
        if client.pieces == 0 {
            self.finish_request(whole);
        }
    }

    /// Closes the connection when nothing of it is left.
    pub(super) fn retire_if_finished(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.is_finished()
        {
            tracing::debug!(peer = connection.peer, "NBD connection closed");
            self.connections.remove(key);
        }
    }
}

fn promise(fua: bool) -> Promise {
    if fua { Promise::Durable } else { Promise::Written }
}

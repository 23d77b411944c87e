//! From a volume's answer to the client's socket: requests in flight, replies, one send a turn for each connection.

use std::io;

use bytes::Bytes;
use uring::Op;

use super::connection::{Connection, Mark, Phase, Sending};
use super::slots::Key;
use super::stages::{RequestKind, Stage};
use super::{DataThread, Pending};
use crate::nbd::protocol::{Cookie, Errno, extent_flag};
use crate::nbd::reply::{self, Extent};
use crate::volume::event::{Answer, Emptiness, ExtentKind, RequestError, RequestId};

/// A request that a volume has.
pub(super) enum Request {
    /// A client's.
    Client(Client),
    /// A part of a client's write.
    Piece { of: Key },
    /// The flush at shutdown.
    Final { volume: u32 },
}

/// What is known of a client's request until it is answered.
pub(super) struct Client {
    pub(super) connection: Key,
    pub(super) kind: RequestKind,
    pub(super) cookie: Cookie,
    /// First byte.
    pub(super) offset: u64,
    /// Bytes of data that a read wants or a write has brought.
    pub(super) bytes: u32,
    /// Bytes of data the reply may have.
    pub(super) reply_bytes: u32,
    /// When the volume got it.
    pub(super) given: std::time::Instant,
    /// Pieces that the volume has.
    pub(super) pieces: u32,
    /// More pieces are to come.
    pub(super) incomplete: bool,
    /// A piece failed.
    pub(super) failed: Option<Errno>,
}

fn errno(error: RequestError) -> Errno {
    match error {
        RequestError::NoSpace => Errno::NoSpace,
        RequestError::Corrupt | RequestError::Io | RequestError::Halted => Errno::Io,
    }
}

fn message(error: Errno) -> &'static str {
    match error {
        Errno::NoSpace => "no space left for the log",
        Errno::Shutdown => "the server is going down",
        _ => "the volume could not do it; its log says why",
    }
}

impl DataThread {
    /// A volume answered.
    pub(super) fn answer(&mut self, request: RequestId, result: Result<Answer, RequestError>) {
        let key = Key(request.0);
        match self.requests.get_mut(key) {
            Some(Request::Client(_)) => self.reply(key, result),
            Some(Request::Piece { of }) => {
                let whole = *of;
                self.requests.remove(key);
                let Some(Request::Client(client)) = self.requests.get_mut(whole) else { return };
                client.pieces -= 1;
                if let Err(error) = result {
                    client.failed.get_or_insert(errno(error));
                }
                if client.pieces == 0 && !client.incomplete {
                    self.finish_request(whole);
                }
            }
            Some(Request::Final { volume }) => {
                let volume = *volume;
                self.requests.remove(key);
                self.final_flush_done(volume, result.err());
            }
            None => tracing::error!(request = request.0, "a volume answered a request twice"),
        }
    }

    /// All pieces of a write are answered.
    pub(super) fn finish_request(&mut self, key: Key) {
        let Some(Request::Client(client)) = self.requests.get_mut(key) else { return };
        let failed = client.failed;
        self.reply_with(key, failed.map_or(Ok(Answer::Done), Err));
    }

    fn reply(&mut self, key: Key, result: Result<Answer, RequestError>) {
        let result = match result {
            Ok(answer) => Ok(answer),
            Err(error) => Err(errno(error)),
        };
        self.reply_with(key, result);
    }

    fn reply_with(&mut self, key: Key, result: Result<Answer, Errno>) {
        let Some(Request::Client(client)) = self.requests.remove(key) else { return };
        let now = self.now;
        self.stages.observe(client.kind, Stage::Log, client.given, now);
        if client.kind == RequestKind::Read {
            self.read_bytes -= client.reply_bytes as usize;
        }
        let Some(connection) = self.connections.get_mut(client.connection) else { return };
        if result.is_ok()
            && let Some(hosted) = self.volumes.get_mut(connection.volume as usize).and_then(Option::as_mut)
        {
            let took = now.saturating_duration_since(client.given);
            let (performance, bytes) = (hosted.counting.recent(), client.bytes.into());
            match client.kind {
                RequestKind::Read => performance.read.count(client.offset, bytes, took),
                RequestKind::Write => performance.write.count(client.offset, bytes, took),
                RequestKind::Flush => performance.count_flush(took),
                RequestKind::Trim | RequestKind::WriteZeroes | RequestKind::Status => {}
            }
        }
        connection.unanswered -= 1;
        connection.unanswered_bytes -= client.reply_bytes as usize;
        if connection.phase == Phase::Broken {
            return self.retire_if_finished(client.connection);
        }
        connection.encode(&client, result);
        connection.outgoing.marks.push(Mark { kind: client.kind, answered: now });
        self.mark_dirty(client.connection);
    }

    /// The connection has something to send at the end of the turn.
    pub(super) fn mark_dirty(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(key);
        }
    }

    /// One send for each connection that has replies and none on the way.
    pub(super) fn send_replies(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.dirty = false;
                self.send(key);
            }
        }
        self.dirty = dirty;
    }

    fn send(&mut self, key: Key) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.sending.is_some() || connection.outgoing.is_empty() {
            return;
        }
        let (data, marks, bytes) = connection.outgoing.take();
        let op = Op::Send { socket: connection.fd(), data };
        let operation = self.submit(Pending::Send { connection: key }, op);
        self.sends += 1;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.sending = Some(Sending { operation, marks, bytes, since: now });
        }
    }

    /// A send ended.
    pub(super) fn sent(&mut self, key: Key, result: io::Result<usize>) {
        self.sends -= 1;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(sending) = connection.sending.take() else { return };
        match result {
            Ok(_) => {
                for mark in &sending.marks {
                    self.stages.observe(mark.kind, Stage::Reply, mark.answered, self.now);
                }
                self.mark_dirty(key);
            }
            Err(error) => {
                if connection.phase != Phase::Broken {
                    tracing::debug!(peer = connection.peer, %error, "NBD connection broke");
                }
                self.end_connection(key, Phase::Broken);
            }
        }
        self.retire_if_finished(key);
    }
}

impl Connection {
    /// Puts a reply into the queue.
    fn encode(&mut self, client: &Client, result: Result<Answer, Errno>) {
        let (form, cookie) = (self.form, client.cookie);
        let head = &mut self.outgoing.head;
        let error = match result {
            Ok(Answer::Done) => return form.success(head, cookie),
            Ok(Answer::Data(data)) => {
                let length: usize = data.iter().map(Bytes::len).sum();
                if length == client.reply_bytes as usize {
                    form.read(head, cookie, client.offset, client.reply_bytes);
                    return self.outgoing.push_data(data);
                }
                tracing::error!(
                    length,
                    wanted = client.reply_bytes,
                    "a volume answered a read with another length"
                );
                Errno::Io
            }
            Ok(Answer::Extents(extents)) => {
                let extents = wire_extents(&extents);
                if !extents.is_empty() {
                    return reply::block_status(head, cookie, &extents);
                }
                Errno::Io
            }
            Err(error) => error,
        };
        form.error(head, cookie, error, message(error));
    }
}

/// Extents as the protocol counts them: 32-bit lengths, neighbours of one kind as one. Ends at the first that does
/// not fit into one entry: the client asks again behind it.
fn wire_extents(extents: &[(u64, ExtentKind)]) -> Vec<Extent> {
    /// Largest multiple of a cluster that an entry can count.
    const LENGTH_MAX: u64 = (1 << 32) - 4096;
    let mut out: Vec<Extent> = Vec::with_capacity(extents.len());
    for &(length, kind) in extents {
        let flags = match kind {
            ExtentKind::Data => 0,
            ExtentKind::Empty(Emptiness::Hole) => extent_flag::HOLE | extent_flag::ZERO,
            ExtentKind::Empty(Emptiness::Zero) => extent_flag::ZERO,
        };
        match out.last_mut() {
            Some(last) if last.flags == flags => {
                let sum = u64::from(last.length) + length;
                last.length = sum.min(LENGTH_MAX) as u32;
                if sum > LENGTH_MAX {
                    break;
                }
            }
            _ => {
                out.push(Extent { length: length.min(LENGTH_MAX) as u32, flags });
                if length > LENGTH_MAX {
                    break;
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_merged_and_cut_where_they_do_not_fit() {
        let hole = ExtentKind::Empty(Emptiness::Hole);
        let extents = [(4096, ExtentKind::Data), (8192, ExtentKind::Data), (512, hole)];
        let wire = wire_extents(&extents);
        assert_eq!(wire, [Extent { length: 12288, flags: 0 }, Extent { length: 512, flags: 3 }]);

        let wire = wire_extents(&[(1 << 40, ExtentKind::Empty(Emptiness::Zero)), (4096, ExtentKind::Data)]);
        assert_eq!(wire, [Extent { length: u32::MAX - 4095, flags: 2 }], "nothing may follow a cut extent");
        let wire =
            wire_extents(&[(u64::from(u32::MAX - 4095), hole), (4096, hole), (4096, ExtentKind::Data)]);
        assert_eq!(wire, [Extent { length: u32::MAX - 4095, flags: 3 }]);
    }
}

//! Replies to requests.
//!
//! Headers of a fixed length come as arrays and data is never touched, so that a caller can send a header and
//! the data it has with one gathering write. [`Replies`] picks the form that was negotiated.

use bytes::{BufMut, BytesMut};

use super::protocol::{
    BASE_ALLOCATION_ID, Cookie, Errno, MAX_STRING, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk,
};

/// Bytes of a simple reply without data.
pub const SIMPLE: usize = 16;
/// Bytes of a chunk's header.
pub const CHUNK: usize = 20;
/// Bytes in front of the data of a data chunk.
pub const DATA_CHUNK: usize = CHUNK + 8;
/// Bytes of a hole chunk.
pub const HOLE_CHUNK: usize = CHUNK + 12;
/// Extents in one block status chunk; what is more is left out.
pub const MAX_EXTENTS: usize = 1 << 20;

/// Whether a chunk ends its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// More chunks follow.
    More,
    /// This is the last chunk.
    Done,
}

/// A range of an export in one state, in the `base:allocation` context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes; not 0.
    pub length: u32,
    /// Of [`extent_flag`](super::protocol::extent_flag).
    pub flags: u32,
}

/// The reply to a request that has no data: 16 bytes. In front of the data of a read too, if structured
/// replies were not negotiated.
pub fn simple(cookie: Cookie, result: Result<(), Errno>) -> [u8; SIMPLE] {
    let error = result.map_or_else(|error| error as u32, |()| 0);
    let mut reply = [0; SIMPLE];
    reply[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    reply[4..8].copy_from_slice(&error.to_be_bytes());
    reply[8..].copy_from_slice(&cookie.0.to_be_bytes());
    reply
}

fn chunk_header(cookie: Cookie, kind: u16, end: End, payload: u32) -> [u8; CHUNK] {
    let flags = match end {
        End::More => 0,
        End::Done => chunk::FLAG_DONE,
    };
    let mut header = [0; CHUNK];
    header[..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    header[4..6].copy_from_slice(&flags.to_be_bytes());
    header[6..8].copy_from_slice(&kind.to_be_bytes());
    header[8..16].copy_from_slice(&cookie.0.to_be_bytes());
    header[16..].copy_from_slice(&payload.to_be_bytes());
    header
}

/// What comes in front of `length` bytes of data that begin at `offset` of the export; `length` is more than
/// 0 and at most [`MAX_PAYLOAD`](super::protocol::MAX_PAYLOAD).
pub fn data_chunk(cookie: Cookie, offset: u64, length: u32, end: End) -> [u8; DATA_CHUNK] {
    let mut header = [0; DATA_CHUNK];
    header[..CHUNK].copy_from_slice(&chunk_header(cookie, chunk::OFFSET_DATA, end, length + 8));
    header[CHUNK..].copy_from_slice(&offset.to_be_bytes());
    header
}

/// `length` zeroes at `offset` of the export; `length` is more than 0.
pub fn hole_chunk(cookie: Cookie, offset: u64, length: u32, end: End) -> [u8; HOLE_CHUNK] {
    let mut reply = [0; HOLE_CHUNK];
    reply[..CHUNK].copy_from_slice(&chunk_header(cookie, chunk::OFFSET_HOLE, end, 12));
    reply[CHUNK..CHUNK + 8].copy_from_slice(&offset.to_be_bytes());
    reply[CHUNK + 8..].copy_from_slice(&length.to_be_bytes());
    reply
}

/// The end of a structured reply that had all its content, or needs none.
pub fn done_chunk(cookie: Cookie) -> [u8; CHUNK] {
    chunk_header(cookie, chunk::NONE, End::Done, 0)
}

/// An error that ends a structured reply, with a text for people, which is cut at 4096 bytes.
pub fn error_chunk(out: &mut BytesMut, cookie: Cookie, error: Errno, message: &str) {
    let message = &message.as_bytes()[..message.floor_char_boundary(MAX_STRING)];
    out.put_slice(&chunk_header(cookie, chunk::ERROR, End::Done, 6 + message.len() as u32));
    out.put_u32(error as u32);
    out.put_u16(message.len() as u16);
    out.put_slice(message);
}

/// The whole answer to a block status request; `extents` begin at the request's offset. There has to be at
/// least one: the protocol has no empty answer. At most [`MAX_EXTENTS`] are sent.
pub fn block_status(out: &mut BytesMut, cookie: Cookie, extents: &[Extent]) {
    let extents = &extents[..extents.len().min(MAX_EXTENTS)];
    let payload = 4 + 8 * extents.len();
    out.reserve(CHUNK + payload);
    out.put_slice(&chunk_header(cookie, chunk::BLOCK_STATUS, End::Done, payload as u32));
    out.put_u32(BASE_ALLOCATION_ID);
    for extent in extents {
        out.put_u32(extent.length);
        out.put_u32(extent.flags);
    }
}

/// The form of a connection's replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// Only simple replies.
    Simple,
    /// Structured ones where they are needed or say more.
    Structured,
}

impl Replies {
    /// The form that was negotiated.
    pub fn negotiated(negotiated: &super::handshake::Negotiated) -> Self {
        if negotiated.structured_replies { Self::Structured } else { Self::Simple }
    }

    /// Success without data; for every request but a read and a block status.
    pub fn success(self, out: &mut BytesMut, cookie: Cookie) {
        // Allowed in both forms, and 4 bytes shorter than a chunk.
        out.put_slice(&simple(cookie, Ok(())));
    }

    /// What comes in front of the data of a read that is answered whole; the data of `length` bytes follows.
    /// With `length` 0 it is the whole answer.
    pub fn read(self, out: &mut BytesMut, cookie: Cookie, offset: u64, length: u32) {
        match self {
            Self::Simple => out.put_slice(&simple(cookie, Ok(()))),
            Self::Structured if length == 0 => out.put_slice(&done_chunk(cookie)),
            Self::Structured => out.put_slice(&data_chunk(cookie, offset, length, End::Done)),
        }
    }

    /// An error, for any request.
    pub fn error(self, out: &mut BytesMut, cookie: Cookie, error: Errno, message: &str) {
        match self {
            Self::Simple => out.put_slice(&simple(cookie, Err(error))),
            Self::Structured => error_chunk(out, cookie, error, message),
        }
    }
}

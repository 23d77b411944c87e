//! Requests out of a receive buffer, without copying, allocating or I/O.
//!
//! A receive may hold many requests, and a write may be longer than any buffer. [`Decoder::next`] is called
//! with what is in the buffer until it says [`Item::Incomplete`]; then the caller drops what was consumed,
//! moves the rest (less than one cluster) to the front, and receives more.
//!
//! Invariants, checked by the fuzzer:
//! 1. What is left after `Incomplete` is shorter than [`PIECE_ALIGN`]: nothing long ever has to be buffered.
//! 2. The pieces of a write are contiguous, in order, and add up to it; all but the last end on a multiple of
//!    [`PIECE_ALIGN`], so splitting makes no unaligned write out of an aligned one.
//! 3. The items do not depend on how the stream was cut, except for the number of pieces of a write.

use super::handshake::Negotiated;
use super::protocol::{
    Command, Cookie, Errno, MAX_DRAIN, MAX_PAYLOAD, PREFERRED_BLOCK, REQUEST_HEADER, REQUEST_MAGIC,
    command_flag,
};

/// All pieces of a write but the last end on a multiple of this, bytes: one cluster.
pub const PIECE_ALIGN: u64 = PREFERRED_BLOCK as u64;
/// Longest piece of a write, bytes.
pub const MAX_PIECE: usize = 256 << 10;

/// A request without a payload that was found valid: its range lies in the export and is not empty (except
/// for a flush, which has none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// To be sent back.
    pub cookie: Cookie,
    /// First byte.
    pub offset: u64,
    /// Bytes. At most [`MAX_PAYLOAD`] for a read; others may reach to the end of the export.
    pub length: u32,
    /// What to do.
    pub operation: Operation,
}

/// What a [`Request`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Send data; with `df` in one chunk.
    Read {
        /// Do not fragment.
        df: bool,
    },
    /// Make durable what was acknowledged.
    Flush,
    /// The contents are no longer needed.
    Trim {
        /// Answer when it is durable.
        fua: bool,
    },
    /// Store zeroes.
    WriteZeroes {
        /// Keep the range allocated.
        no_hole: bool,
        /// Fail with [`Errno::NotSupported`] rather than be slow.
        fast_zero: bool,
        /// Answer when it is durable.
        fua: bool,
    },
    /// The range will be read soon.
    Cache,
    /// Tell what is allocated.
    BlockStatus {
        /// One extent, not longer than the request.
        req_one: bool,
    },
}

/// What [`Decoder::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// More must be received.
    Incomplete,
    /// A request without payload.
    Request(Request),
    /// A part of a write. It is answered once, after its last piece.
    WritePiece {
        /// To be sent back.
        cookie: Cookie,
        /// Where `data` goes in the export.
        offset: u64,
        /// 1 to [`MAX_PIECE`] bytes.
        data: &'a [u8],
        /// Answer when all pieces are durable.
        fua: bool,
        /// No further piece follows.
        last: bool,
    },
    /// A request of length zero, which is answered with success at once.
    Empty {
        /// To be sent back.
        cookie: Cookie,
        /// What was asked for.
        command: Command,
    },
    /// A request that is answered with an error at once. The payload of a refused write has been skipped.
    Refused {
        /// To be sent back.
        cookie: Cookie,
        /// What was asked for, if it is known.
        command: Option<Command>,
        /// The error to answer.
        error: Errno,
        /// The error for people.
        reason: &'static str,
    },
    /// The client goes. Answer what is in flight, then close.
    Disconnect,
    /// The stream cannot be understood any further: close.
    Violation(Violation),
}

/// Why a stream cannot be understood any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not a request.
    #[error("a request starts with {0:#010x}")]
    BadMagic(u32),
    /// A write that is too long to be skipped.
    #[error("a write of {0} bytes")]
    WriteTooLong(u32),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header,
    Payload { cookie: Cookie, offset: u64, left: u32, fua: bool },
    Skip { cookie: Cookie, left: u32, refusal: Refusal },
    Disconnected,
}

/// An error and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal(Errno, &'static str);

/// One connection's stream of requests.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    size: u64,
    /// Flags that each command may carry, by its number.
    allowed: [u16; 8],
    read_too_long: Errno,
    block_status: bool,
}

impl Decoder {
    /// A decoder for what comes behind the negotiation.
    pub fn new(negotiated: &Negotiated) -> Self {
        use command_flag::{DF, FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
        // FUA has to be accepted everywhere, also where there is nothing to write.
        let mut allowed = [FUA; 8];
        allowed[Command::WriteZeroes as usize] |= NO_HOLE | FAST_ZERO;
        allowed[Command::BlockStatus as usize] |= REQ_ONE;
        if negotiated.structured_replies {
            allowed[Command::Read as usize] |= DF;
        }
        Self {
            state: State::Header,
            size: negotiated.size,
            allowed,
            // The protocol has this error for clients that know structured replies.
            read_too_long: if negotiated.structured_replies { Errno::Overflow } else { Errno::Invalid },
            block_status: negotiated.base_allocation,
        }
    }

    /// The export was resized; requests from now on are checked against `size` bytes.
    pub fn set_size(&mut self, size: u64) {
        self.size = size;
    }

    /// Payload bytes of the current write that were not yet consumed; 0 between requests. After
    /// [`Item::Incomplete`], this less what is left in the buffer is what can be received in one go.
    pub fn missing(&self) -> u32 {
        match self.state {
            State::Payload { left, .. } | State::Skip { left, .. } => left,
            State::Header | State::Disconnected => 0,
        }
    }

    /// Takes the next item from the front of `input`, and tells how many bytes it and what was skipped in
    /// front of it took. Also [`Item::Incomplete`] may have consumed bytes.
    #[inline]
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Item<'a>) {
        match self.state {
            State::Header => match input.split_first_chunk::<REQUEST_HEADER>() {
                Some((header, rest)) => self.header(header, rest),
                None => (0, Item::Incomplete),
            },
            State::Payload { cookie, offset, left, fua } => self.piece(cookie, offset, left, fua, input),
            State::Skip { cookie, left, refusal } => self.skip(cookie, left, refusal, input),
            State::Disconnected => (0, Item::Disconnect),
        }
    }

    fn header<'a>(&mut self, header: &[u8; REQUEST_HEADER], rest: &'a [u8]) -> (usize, Item<'a>) {
        let magic = be32(header, 0);
        if magic != REQUEST_MAGIC {
            return (0, Item::Violation(Violation::BadMagic(magic)));
        }
        let flags = be16(header, 4);
        let cookie = Cookie(be64(header, 8));
        let offset = be64(header, 16);
        let length = be32(header, 24);
        let Some(command) = Command::from_wire(be16(header, 6)) else {
            return (REQUEST_HEADER, refused(cookie, None, UNKNOWN_COMMAND));
        };

        let checked = self.check(command, flags, offset, length);
        let fua = flags & command_flag::FUA != 0;
        let operation = match command {
            Command::Write => {
                let (consumed, item) = match checked {
                    Ok(()) if length == 0 => (0, Item::Empty { cookie, command }),
                    Ok(()) => self.piece(cookie, offset, length, fua, rest),
                    Err(_) if length > MAX_DRAIN => {
                        return (0, Item::Violation(Violation::WriteTooLong(length)));
                    }
                    Err(refusal) => self.skip(cookie, length, refusal, rest),
                };
                return (REQUEST_HEADER + consumed, item);
            }
            Command::Disconnect => {
                self.state = State::Disconnected;
                return (REQUEST_HEADER, Item::Disconnect);
            }
            Command::Read => Operation::Read { df: flags & command_flag::DF != 0 },
            Command::Flush => Operation::Flush,
            Command::Trim => Operation::Trim { fua },
            Command::Cache => Operation::Cache,
            Command::WriteZeroes => Operation::WriteZeroes {
                no_hole: flags & command_flag::NO_HOLE != 0,
                fast_zero: flags & command_flag::FAST_ZERO != 0,
                fua,
            },
            Command::BlockStatus => Operation::BlockStatus { req_one: flags & command_flag::REQ_ONE != 0 },
        };
        let item = match checked {
            Err(refusal) => refused(cookie, Some(command), refusal),
            Ok(()) if length == 0 && command != Command::Flush => Item::Empty { cookie, command },
            Ok(()) => Item::Request(Request { cookie, offset, length, operation }),
        };
        (REQUEST_HEADER, item)
    }

    /// Whether the client may send this.
    #[inline]
    fn check(&self, command: Command, flags: u16, offset: u64, length: u32) -> Result<(), Refusal> {
        if flags & !self.allowed[command as usize] != 0 {
            return Err(UNKNOWN_FLAGS);
        }
        let fits = offset <= self.size && u64::from(length) <= self.size - offset;
        let refusal = match command {
            Command::Read if length > MAX_PAYLOAD => Refusal(self.read_too_long, "read longer than 32 MiB"),
            Command::Write if length > MAX_PAYLOAD => Refusal(Errno::Invalid, "write longer than 32 MiB"),
            Command::BlockStatus if !self.block_status => NO_CONTEXT,
            Command::BlockStatus if length == 0 => Refusal(Errno::Invalid, "block status of nothing"),
            Command::Flush if (offset, length) != (0, 0) => Refusal(Errno::Invalid, "flush of a range"),
            Command::Write | Command::WriteZeroes if !fits => Refusal(Errno::NoSpace, BEYOND_END),
            Command::Read | Command::Trim | Command::Cache | Command::BlockStatus if !fits => {
                Refusal(Errno::Invalid, BEYOND_END)
            }
            _ => return Ok(()),
        };
        Err(refusal)
    }

    /// As much of a write's payload as `input` has, cut at a cluster; `left` is more than 0.
    #[inline]
    fn piece<'a>(
        &mut self,
        cookie: Cookie,
        offset: u64,
        left: u32,
        fua: bool,
        input: &'a [u8],
    ) -> (usize, Item<'a>) {
        let there = input.len().min(MAX_PIECE).min(left as usize);
        let last = there == left as usize;
        // Within the export, so the end of the piece does not overflow; a cut at or before `offset` is no
        // piece.
        let cut = (offset + there as u64) & !(PIECE_ALIGN - 1);
        let length = if last { there } else { cut.saturating_sub(offset) as usize };
        let after = left - length as u32;
        self.state = if last {
            State::Header
        } else {
            State::Payload { cookie, offset: offset + length as u64, left: after, fua }
        };
        if length == 0 {
            return (0, Item::Incomplete);
        }
        (length, Item::WritePiece { cookie, offset, data: &input[..length], fua, last })
    }

    /// Throws away the payload of a refused write.
    #[cold]
    fn skip<'a>(
        &mut self,
        cookie: Cookie,
        left: u32,
        refusal: Refusal,
        input: &'a [u8],
    ) -> (usize, Item<'a>) {
        let there = input.len().min(left as usize);
        let left = left - there as u32;
        if left == 0 {
            self.state = State::Header;
            return (there, refused(cookie, Some(Command::Write), refusal));
        }
        self.state = State::Skip { cookie, left, refusal };
        (there, Item::Incomplete)
    }
}

const BEYOND_END: &str = "beyond the end of the export";
const UNKNOWN_COMMAND: Refusal = Refusal(Errno::Invalid, "unknown command");
const UNKNOWN_FLAGS: Refusal = Refusal(Errno::Invalid, "flags that this command does not have");
const NO_CONTEXT: Refusal = Refusal(Errno::Invalid, "no metadata context was negotiated");

#[cold]
fn refused(cookie: Cookie, command: Option<Command>, refusal: Refusal) -> Item<'static> {
    let Refusal(error, reason) = refusal;
    Item::Refused { cookie, command, error, reason }
}

// The positions are constants once inlined, and the bounds checks go with them.
#[inline(always)]
fn be16(header: &[u8; REQUEST_HEADER], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

#[inline(always)]
fn be32(header: &[u8; REQUEST_HEADER], at: usize) -> u32 {
    (u32::from(be16(header, at)) << 16) | u32::from(be16(header, at + 2))
}

#[inline(always)]
fn be64(header: &[u8; REQUEST_HEADER], at: usize) -> u64 {
    (u64::from(be32(header, at)) << 32) | u64::from(be32(header, at + 4))
}

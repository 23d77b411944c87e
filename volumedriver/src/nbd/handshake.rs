//! Fixed newstyle negotiation, the server's side, as a state machine without I/O.
//!
//! The caller appends what it received to `input`, calls [`Handshake::advance`], sends what is in `out`, and
//! does what the returned [`Step`] says. The first call needs no input: it produces the greeting.
//!
//! Bounds, because everything here comes from strangers: the data of one option, the number of options, the
//! bytes of a whole negotiation, the length of a list, and the bytes waiting in `out` (see [`Limits`]).

use bytes::{Buf, BytesMut};

use super::options::{Answer, Session, reply};
use super::protocol::{
    GREETING_MAGIC, OPTION_HEADER, OPTION_MAGIC, OptionCode, OptionReply, client_flag, handshake_flag,
};

/// The exports that a client may see.
pub trait Exports: Send + Sync {
    /// Names of all exports.
    fn list(&self) -> Vec<String>;
    /// What is known of the export with this name; `None` if there is none.
    fn lookup(&self, name: &str) -> Option<ExportInfo>;
}

/// What a client is told of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Bytes.
    pub size: u64,
}

/// What was agreed on when transmission starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The export's own name; never empty, also if the client asked for the default export.
    pub export: String,
    /// The size that the client was told, bytes.
    pub size: u64,
    /// Reads are answered by structured replies.
    pub structured_replies: bool,
    /// Block status requests are answered, in the context
    /// [`BASE_ALLOCATION_ID`](super::protocol::BASE_ALLOCATION_ID).
    pub base_allocation: bool,
}

/// Bounds of one negotiation.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Data of one option, bytes; what is longer is skipped and refused.
    pub option_bytes: u32,
    /// Options, before the connection is closed.
    pub options: u32,
    /// All that a client may send before transmission, bytes.
    pub total_bytes: u64,
    /// The answer to `NBD_OPT_LIST`, bytes; a longer one is refused.
    pub list_bytes: usize,
    /// `advance` produces no further answer when this much waits in `out`, bytes.
    pub send_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            option_bytes: 64 << 10,
            options: 1000,
            total_bytes: 4 << 20,
            list_bytes: 1 << 20,
            send_bytes: 64 << 10,
        }
    }
}

/// What the caller does next, after sending what is in `out`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Receive more and call again.
    NeedMore,
    /// Empty `out` and call again: enough is waiting to be sent. Nothing need be received.
    Send,
    /// Transmission begins with what is left in `input`.
    Transmission(Negotiated),
    /// Close the connection.
    Close(CloseReason),
}

/// Why a negotiation ended without transmission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client said so.
    #[error("aborted by the client")]
    Aborted,
    /// The client wants something that was not offered.
    #[error("unknown client flags {0:#x}")]
    ClientFlags(u32),
    /// Not an option.
    #[error("an option starts with {0:#018x}")]
    BadMagic(u64),
    /// A client that does not understand answers sent an option that has one.
    #[error("option {0} without fixed newstyle negotiation")]
    NotFixedNewstyle(u32),
    /// `NBD_OPT_EXPORT_NAME` has no other way to be refused.
    #[error("no such export")]
    NoSuchExport,
    /// More than [`Limits::options`].
    #[error("too many options")]
    TooManyOptions,
    /// More than [`Limits::total_bytes`].
    #[error("too many bytes before transmission")]
    TooManyBytes,
    /// `advance` was called after the end.
    #[error("the negotiation is over")]
    Over,
}

/// Where a negotiation stands.
#[derive(Clone, Copy, Debug)]
enum State {
    Greeting,
    ClientFlags,
    OptionHeader,
    OptionData { code: OptionCode, length: usize },
    Skip { option: u32, left: u64, then: AfterSkip },
    Over,
}

/// What happens when an option's data was thrown away.
#[derive(Clone, Copy, Debug)]
enum AfterSkip {
    Unsupported,
    TooBig,
    Abort,
}

/// One client's negotiation.
#[derive(Debug)]
pub struct Handshake {
    limits: Limits,
    state: State,
    session: Session,
    fixed_newstyle: bool,
    options_left: u32,
    bytes_left: u64,
}

impl Handshake {
    /// A negotiation that has not begun.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Greeting,
            session: Session::new(limits.list_bytes),
            fixed_newstyle: false,
            options_left: limits.options,
            bytes_left: limits.total_bytes,
        }
    }

    /// Takes complete messages out of `input` and appends the answers to `out`.
    pub fn advance(&mut self, input: &mut BytesMut, exports: &dyn Exports, out: &mut Vec<u8>) -> Step {
        loop {
            if out.len() >= self.limits.send_bytes {
                return Step::Send;
            }
            if let Some(step) = self.message(input, exports, out) {
                if matches!(step, Step::Transmission(_) | Step::Close(_)) {
                    self.state = State::Over;
                }
                return step;
            }
        }
    }

    /// Handles one message, or a part of one that is thrown away. `None`: go on.
    fn message(&mut self, input: &mut BytesMut, exports: &dyn Exports, out: &mut Vec<u8>) -> Option<Step> {
        match self.state {
            State::Greeting => {
                out.extend_from_slice(&GREETING_MAGIC.to_be_bytes());
                out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
                let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
                out.extend_from_slice(&flags.to_be_bytes());
                self.state = State::ClientFlags;
                None
            }
            State::ClientFlags => {
                if input.len() < 4 {
                    return Some(Step::NeedMore);
                }
                self.client_flags(input.get_u32())
            }
            State::OptionHeader => {
                if input.len() < OPTION_HEADER {
                    return Some(Step::NeedMore);
                }
                let (magic, option, length) = (input.get_u64(), input.get_u32(), input.get_u32());
                self.option_header(magic, option, length)
            }
            State::OptionData { code, length } => {
                if input.len() < length {
                    return Some(Step::NeedMore);
                }
                let data = input.split_to(length);
                self.state = State::OptionHeader;
                match self.session.answer(code, &data, exports, out) {
                    Answer::Continue => None,
                    Answer::Transmission(negotiated) => Some(Step::Transmission(negotiated)),
                    Answer::Close(reason) => Some(Step::Close(reason)),
                }
            }
            State::Skip { option, left, then } => {
                let here = left.min(input.len() as u64);
                // At most `input.len()`, so it fits.
                input.advance(here as usize);
                if here < left {
                    self.state = State::Skip { option, left: left - here, then };
                    return Some(Step::NeedMore);
                }
                self.state = State::OptionHeader;
                after_skip(option, then, out)
            }
            State::Over => Some(Step::Close(CloseReason::Over)),
        }
    }

    fn client_flags(&mut self, flags: u32) -> Option<Step> {
        if flags & !client_flag::KNOWN != 0 {
            return Some(Step::Close(CloseReason::ClientFlags(flags)));
        }
        self.fixed_newstyle = flags & client_flag::FIXED_NEWSTYLE != 0;
        if flags & client_flag::NO_ZEROES != 0 {
            self.session.leave_out_zeroes();
        }
        self.state = State::OptionHeader;
        None
    }

    fn option_header(&mut self, magic: u64, option: u32, length: u32) -> Option<Step> {
        if magic != OPTION_MAGIC {
            return Some(Step::Close(CloseReason::BadMagic(magic)));
        }
        let Some(options_left) = self.options_left.checked_sub(1) else {
            return Some(Step::Close(CloseReason::TooManyOptions));
        };
        let Some(bytes_left) = self.bytes_left.checked_sub(OPTION_HEADER as u64 + u64::from(length)) else {
            return Some(Step::Close(CloseReason::TooManyBytes));
        };
        self.options_left = options_left;
        self.bytes_left = bytes_left;
        let code = OptionCode::from_wire(option);
        if !self.fixed_newstyle && code != Some(OptionCode::ExportName) {
            return Some(Step::Close(CloseReason::NotFixedNewstyle(option)));
        }
        let skip = |then| State::Skip { option, left: u64::from(length), then };
        self.state = match code {
            None => skip(AfterSkip::Unsupported),
            // Data is not allowed here, and servers are told to overlook it.
            Some(OptionCode::Abort) => skip(AfterSkip::Abort),
            Some(OptionCode::ExportName) if length > self.limits.option_bytes => {
                return Some(Step::Close(CloseReason::NoSuchExport));
            }
            Some(_) if length > self.limits.option_bytes => skip(AfterSkip::TooBig),
            Some(code) => State::OptionData { code, length: length as usize },
        };
        None
    }
}

fn after_skip(option: u32, then: AfterSkip, out: &mut Vec<u8>) -> Option<Step> {
    match then {
        AfterSkip::Unsupported => reply(out, option, OptionReply::ErrUnsupported, &[b"unknown option"]),
        AfterSkip::TooBig => reply(out, option, OptionReply::ErrTooBig, &[b"option data too long"]),
        AfterSkip::Abort => {
            reply(out, option, OptionReply::Ack, &[]);
            return Some(Step::Close(CloseReason::Aborted));
        }
    }
    None
}

//! Numbers of the NBD wire, with types around those that are looked at.
//!
//! Source: the protocol document of the reference implementation (`doc/proto.md`), fixed newstyle
//! negotiation, simple and structured replies. All integers on the wire are big endian.

/// First eight bytes of the server's greeting (`NBDMAGIC`).
pub const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second half of the greeting, and the start of every option (`IHAVEOPT`).
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// Start of every reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Start of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Start of every simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Start of every chunk of a structured reply.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Bytes of a request's header.
pub const REQUEST_HEADER: usize = 28;
/// Bytes of an option's header.
pub const OPTION_HEADER: usize = 16;
/// Reserved bytes behind the answer to `NBD_OPT_EXPORT_NAME`, unless the client declined them.
pub const EXPORT_NAME_PADDING: usize = 124;

/// Longest name, query or message, bytes.
pub const MAX_STRING: usize = 4096;
/// Smallest request, bytes.
pub const MIN_BLOCK: u32 = 1;
/// Alignment and size from which requests need no read-modify-write, bytes: one cluster.
pub const PREFERRED_BLOCK: u32 = 4096;
/// Longest payload of a read or a write, bytes.
pub const MAX_PAYLOAD: u32 = 32 << 20;
/// A write longer than this is not even drained: the connection ends. Bytes.
pub const MAX_DRAIN: u32 = 64 << 20;

/// Flags of the server's greeting.
pub mod handshake_flag {
    /// Options are answered, unknown ones too.
    pub const FIXED_NEWSTYLE: u16 = 1 << 0;
    /// The padding behind `NBD_OPT_EXPORT_NAME` can be left out.
    pub const NO_ZEROES: u16 = 1 << 1;
}

/// Flags of the client's answer to the greeting.
pub mod client_flag {
    /// The client understands answers to options.
    pub const FIXED_NEWSTYLE: u32 = 1 << 0;
    /// The client wants no padding behind `NBD_OPT_EXPORT_NAME`.
    pub const NO_ZEROES: u32 = 1 << 1;
    /// All that a server which offered both may see.
    pub const KNOWN: u32 = FIXED_NEWSTYLE | NO_ZEROES;
}

/// What an export can do; sent with its size.
pub mod transmission_flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `NBD_CMD_FLUSH` is understood.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// `NBD_CMD_FLAG_FUA` is understood.
    pub const SEND_FUA: u16 = 1 << 3;
    /// `NBD_CMD_TRIM` is understood.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `NBD_CMD_WRITE_ZEROES` is understood.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// `NBD_CMD_FLAG_DF` is understood. Only with structured replies.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers what other connections were told is written.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// `NBD_CMD_CACHE` is understood.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// `NBD_CMD_FLAG_FAST_ZERO` is understood.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
    /// What every export of this server offers, whatever was negotiated.
    pub const ALWAYS: u16 = HAS_FLAGS
        | SEND_FLUSH
        | SEND_FUA
        | SEND_TRIM
        | SEND_WRITE_ZEROES
        | CAN_MULTI_CONN
        | SEND_CACHE
        | SEND_FAST_ZERO;
}

/// Flags of a request.
pub mod command_flag {
    /// Answer only when what was written is on stable storage.
    pub const FUA: u16 = 1 << 0;
    /// Zeroes must stay allocated.
    pub const NO_HOLE: u16 = 1 << 1;
    /// One content chunk only.
    pub const DF: u16 = 1 << 2;
    /// One extent only.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Fail rather than write zeroes slowly.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// States of an extent in the `base:allocation` context; zero means allocated data.
pub mod extent_flag {
    /// Nothing is allocated.
    pub const HOLE: u32 = 1 << 0;
    /// Reads as zeroes.
    pub const ZERO: u32 = 1 << 1;
}

/// Name of the one metadata context served.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// Its number in answers and in block status chunks.
pub const BASE_ALLOCATION_ID: u32 = 1;

/// What a client negotiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum OptionCode {
    /// Choose an export and start; errors can only be told by closing.
    ExportName = 1,
    /// End the negotiation.
    Abort = 2,
    /// Name all exports.
    List = 3,
    /// Continue over TLS.
    StartTls = 5,
    /// Describe an export.
    Info = 6,
    /// Describe an export and start.
    Go = 7,
    /// Use structured replies.
    StructuredReply = 8,
    /// Name the metadata contexts.
    ListMetaContext = 9,
    /// Choose metadata contexts.
    SetMetaContext = 10,
}

impl OptionCode {
    /// The option with this number, if this server knows it.
    pub const fn from_wire(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::ExportName,
            2 => Self::Abort,
            3 => Self::List,
            5 => Self::StartTls,
            6 => Self::Info,
            7 => Self::Go,
            8 => Self::StructuredReply,
            9 => Self::ListMetaContext,
            10 => Self::SetMetaContext,
            _ => return None,
        })
    }
}

/// Kind of an answer to an option. Bit 31 marks errors, whose data is a message for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum OptionReply {
    /// Accepted, nothing more follows.
    Ack = 1,
    /// One export.
    Server = 2,
    /// One piece of information about an export.
    Info = 3,
    /// One metadata context.
    MetaContext = 4,
    /// The option is unknown here.
    ErrUnsupported = (1 << 31) + 1,
    /// The option's data makes no sense.
    ErrInvalid = (1 << 31) + 3,
    /// There is no such export.
    ErrUnknown = (1 << 31) + 6,
    /// The option or its answer is too long.
    ErrTooBig = (1 << 31) + 9,
}

/// Kinds of information about an export, asked for and sent with `NBD_OPT_INFO` and `NBD_OPT_GO`.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// The name as listed.
    pub const NAME: u16 = 1;
    /// A line for people.
    pub const DESCRIPTION: u16 = 2;
    /// Smallest, preferred and largest request.
    pub const BLOCK_SIZE: u16 = 3;
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// Send data.
    Read = 0,
    /// Store the data behind the header.
    Write = 1,
    /// The client goes.
    Disconnect = 2,
    /// Make durable what was acknowledged.
    Flush = 3,
    /// The contents are no longer needed.
    Trim = 4,
    /// Data will be read soon.
    Cache = 5,
    /// Store zeroes.
    WriteZeroes = 6,
    /// Tell what is allocated.
    BlockStatus = 7,
}

impl Command {
    /// The command with this number, if this server knows it.
    pub const fn from_wire(code: u16) -> Option<Self> {
        Some(match code {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            _ => return None,
        })
    }
}

/// Kind of a structured reply's chunk.
pub mod chunk {
    /// Flag: the last chunk of the reply.
    pub const FLAG_DONE: u16 = 1 << 0;
    /// Nothing but the end.
    pub const NONE: u16 = 0;
    /// Data at an offset.
    pub const OFFSET_DATA: u16 = 1;
    /// Zeroes at an offset.
    pub const OFFSET_HOLE: u16 = 2;
    /// Extents of one metadata context.
    pub const BLOCK_STATUS: u16 = 5;
    /// An error and a message.
    pub const ERROR: u16 = (1 << 15) + 1;
}

/// Errors of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// Not permitted (a write to a read-only export).
    Permission = 1,
    /// The data could not be read or stored.
    Io = 5,
    /// The request makes no sense.
    Invalid = 22,
    /// No space, or a write beyond the end.
    NoSpace = 28,
    /// Too long.
    Overflow = 75,
    /// Cannot be done fast.
    NotSupported = 95,
    /// The server is going down.
    Shutdown = 108,
}

/// The client's number for a request; opaque, sent back with its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(pub u64);

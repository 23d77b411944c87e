//! A plain NBD client on a blocking socket: enough to talk properly, and to misbehave on purpose.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Transmission requests.
pub mod cmd {
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISC: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const CACHE: u16 = 5;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
}

/// Errors as they go over the wire.
pub mod code {
    pub const EPERM: u32 = 1;
    pub const EIO: u32 = 5;
    pub const EINVAL: u32 = 22;
    pub const ENOSPC: u32 = 28;
    pub const EOVERFLOW: u32 = 75;
    pub const ENOTSUP: u32 = 95;
    pub const ESHUTDOWN: u32 = 108;
}

/// `NBD_CMD_FLAG_FUA`.
pub const FUA: u16 = 1;
const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
/// Head of every option.
pub const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_MAGIC: u32 = 0x6744_6698;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;

/// A socket of either family.
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects to `127.0.0.1:PORT`, or to a path that begins with `/`.
    pub fn connect(address: &str, patience: Duration) -> io::Result<Self> {
        if address.starts_with('/') {
            let stream = UnixStream::connect(address)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            return Ok(Self::Unix(stream));
        }
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self::Tcp(stream))
    }
}

impl Stream {
    /// The port on this side; 0: it has none.
    pub fn local_port(&self) -> u16 {
        match self {
            Self::Tcp(stream) => stream.local_addr().expect("it is connected").port(),
            Self::Unix(_) => 0,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a request did not do what it should.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server answered with this error.
    Refused(u32),
    /// The connection ended, or went silent.
    Gone(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Gone(error.to_string())
    }
}

/// A connection in transmission phase, simple replies.
pub struct Client {
    stream: Stream,
    size: u64,
    cookie: u64,
}

impl Client {
    /// Opens `export` at `address` (see [`Stream::connect`]). No answer may take longer than `patience`.
    pub fn open(address: &str, export: &str, patience: Duration) -> Result<Self, Failure> {
        let mut stream = Stream::connect(address, patience)?;
        greet(&mut stream)?;
        let mut payload = (export.len() as u32).to_be_bytes().to_vec();
        payload.extend_from_slice(export.as_bytes());
        payload.extend_from_slice(&0u16.to_be_bytes());
        stream.write_all(&option(OPT_GO, &payload))?;
        let mut size = 0;
        loop {
            let (kind, data) = option_reply(&mut stream)?;
            match kind {
                REP_ACK => return Ok(Self { stream, size, cookie: 0 }),
                REP_INFO if data.len() >= 10 && data[..2] == [0, 0] => {
                    size = u64::from_be_bytes(data[2..10].try_into().expect("eight bytes"));
                }
                REP_INFO => {}
                error => return Err(Failure::Refused(error)),
            }
        }
    }

    /// The export's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The socket, to misbehave on.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Sends one request without waiting for its answer; returns its cookie.
    pub fn send(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> io::Result<u64> {
        self.cookie += 1;
        let mut message = request(command, flags, self.cookie, offset, length);
        message.extend_from_slice(data);
        self.stream.write_all(&message)?;
        Ok(self.cookie)
    }

    /// Receives the head of one answer: cookie and error. A read's data follow if the error is 0.
    pub fn receive(&mut self) -> Result<(u64, u32), Failure> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        if word(0) != SIMPLE_MAGIC {
            return Err(Failure::Gone(format!("an answer begins with {:#x}", word(0))));
        }
        Ok((u64::from_be_bytes(head[8..].try_into().expect("eight bytes")), word(4)))
    }

    fn call(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> Result<(), Failure> {
        let sent = self.send(command, flags, offset, length, data)?;
        let (cookie, error) = self.receive()?;
        assert_eq!(cookie, sent, "the answer to another request");
        if error == 0 { Ok(()) } else { Err(Failure::Refused(error)) }
    }

    /// Reads `length` bytes.
    pub fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        self.call(cmd::READ, 0, offset, length as u32, &[])?;
        let mut data = vec![0; length];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    /// Writes `data`.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Failure> {
        self.call(cmd::WRITE, 0, offset, data.len() as u32, data)
    }

    /// Makes everything acknowledged durable.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.call(cmd::FLUSH, 0, 0, 0, &[])
    }

    /// Gives up the content of a range.
    pub fn trim(&mut self, offset: u64, length: u32) -> Result<(), Failure> {
        self.call(cmd::TRIM, 0, offset, length, &[])
    }

    /// Any request, with its flags and whatever data.
    pub fn raw(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> Result<(), Failure> {
        self.call(command, flags, offset, length, data)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Politely, but the server may be gone.
        let _ = self.send(cmd::DISC, 0, 0, 0, &[]);
    }
}

/// Reads the server's greeting and answers with fixed newstyle, no zeroes.
pub fn greet(stream: &mut Stream) -> Result<(), Failure> {
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    if greeting[..8] != NBDMAGIC.to_be_bytes() || greeting[8..16] != IHAVEOPT.to_be_bytes() {
        return Err(Failure::Gone("not an NBD greeting".to_owned()));
    }
    stream.write_all(&3u32.to_be_bytes())?;
    Ok(())
}

/// Bytes of one option.
pub fn option(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut message = IHAVEOPT.to_be_bytes().to_vec();
    message.extend_from_slice(&number.to_be_bytes());
    message.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    message.extend_from_slice(payload);
    message
}

/// Receives one option reply: its kind and data.
pub fn option_reply(stream: &mut Stream) -> Result<(u32, Vec<u8>), Failure> {
    let mut head = [0; 20];
    stream.read_exact(&mut head)?;
    let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
    if head[..8] != REPLY_MAGIC.to_be_bytes() || word(16) > 1 << 16 {
        return Err(Failure::Gone("not an option reply".to_owned()));
    }
    let mut data = vec![0; word(16) as usize];
    stream.read_exact(&mut data)?;
    Ok((word(12), data))
}

/// Bytes of one request's head.
pub fn request(command: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut message = REQUEST_MAGIC.to_be_bytes().to_vec();
    message.extend_from_slice(&flags.to_be_bytes());
    message.extend_from_slice(&command.to_be_bytes());
    message.extend_from_slice(&cookie.to_be_bytes());
    message.extend_from_slice(&offset.to_be_bytes());
    message.extend_from_slice(&length.to_be_bytes());
    message
}

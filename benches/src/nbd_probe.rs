//! A minimal NBD client over a unix socket: is the server there, and how soon does it answer a read.
//!
//! Source: the NBD protocol document, fixed newstyle handshake with `NBD_OPT_EXPORT_NAME`, simple replies.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const GREETING: &[u8; 8] = b"NBDMAGIC";
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_EXPORT_NAME: u32 = 1;
const FLAG_FIXED_NEWSTYLE: u16 = 1;
const FLAG_NO_ZEROES: u16 = 2;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const COMMAND_READ: u16 = 0;
const COMMAND_DISCONNECT: u16 = 2;
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection in transmission.
#[derive(Debug)]
pub(crate) struct NbdProbe {
    stream: UnixStream,
    /// Size of the export in bytes, as the server says it.
    pub(crate) size: u64,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

fn greeted(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting)?;
    if &greeting == GREETING { Ok(stream) } else { Err(broken("not an NBD server")) }
}

/// Whether an NBD server greets on `socket` now.
pub(crate) fn answers(socket: &Path) -> bool {
    greeted(socket).is_ok()
}

impl NbdProbe {
    /// Opens `export` on the server at `socket`.
    pub(crate) fn connect(socket: &Path, export: &str) -> io::Result<NbdProbe> {
        let mut stream = greeted(socket)?;
        let mut style = [0; 10];
        stream.read_exact(&mut style)?;
        if &style[..8] != OPTION_MAGIC {
            return Err(broken("not the newstyle handshake"));
        }
        let offered = u16::from_be_bytes([style[8], style[9]]);
        let taken = offered & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
        let mut request = u32::from(taken).to_be_bytes().to_vec();
        request.extend_from_slice(OPTION_MAGIC);
        request.extend_from_slice(&OPTION_EXPORT_NAME.to_be_bytes());
        request.extend_from_slice(&(export.len() as u32).to_be_bytes());
        request.extend_from_slice(export.as_bytes());
        stream.write_all(&request)?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer)?;
        if taken & FLAG_NO_ZEROES == 0 {
            stream.read_exact(&mut [0; 124])?;
        }
        let size = u64::from_be_bytes(answer[..8].try_into().map_err(|_| broken("short answer"))?);
        Ok(NbdProbe { stream, size })
    }

    /// Reads `length` bytes at `offset`; an error number in the reply is an error here.
    pub(crate) fn read(&mut self, offset: u64, length: u32) -> io::Result<Vec<u8>> {
        self.stream.write_all(&request(COMMAND_READ, offset, length))?;
        let mut header = [0; 16];
        self.stream.read_exact(&mut header)?;
        if header[..4] != REPLY_MAGIC.to_be_bytes() || header[8..] != offset.to_be_bytes() {
            return Err(broken("not the reply to this request"));
        }
        let error = i32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let mut data = vec![0; length as usize];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }
}

impl Drop for NbdProbe {
    fn drop(&mut self) {
        // The server may be gone already; there is nothing to be done about that here.
        let _gone = self.stream.write_all(&request(COMMAND_DISCONNECT, 0, 0));
    }
}

/// A request whose cookie is its offset.
fn request(command: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    out.extend_from_slice(&REQUEST_MAGIC.to_be_bytes());
    out.extend_from_slice(&0u16.to_be_bytes());
    out.extend_from_slice(&command.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out
}

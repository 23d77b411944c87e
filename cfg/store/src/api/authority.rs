//! Leniency with an old habit: etcdctl 3.4 puts a whole URL, `http://host:port`, where HTTP/2 wants `host:port`, and
//! the HTTP library ends such a stream before anybody can answer it. This stands between the socket and the library,
//! follows the frames of a client, and turns the `://` of such an authority into what may stand in the name of a host.
//! The bytes stay as many as they are, so nothing else of the connection changes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::untaken::Untaken;

/// What every HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame's head: length, type, flags, stream.
const HEAD: usize = 9;
/// Type of the frames that hold headers.
const HEADERS: u8 = 1;
/// Their flags: the first byte says how much padding there is; five bytes say who comes first.
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// Place of `:authority` in HPACK's static table.
const AUTHORITY: u64 = 1;

/// Where in the stream of a client the next byte is.
#[derive(Clone, Copy, Debug)]
enum At {
    /// So many bytes of the preface were there.
    Preface(usize),
    /// In a frame's head.
    Head { taken: usize, head: [u8; HEAD] },
    /// In a frame without headers, with so many bytes left.
    Skip(usize),
    /// In headers, with so many bytes left.
    Headers(usize, Field),
    /// It speaks something else.
    Elsewhere,
}

/// Where in a block of headers the next byte is.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// So many bytes come before the first field.
    Before(u8),
    /// At the first byte of a field.
    Start,
    /// In the number of a name, of which more bytes follow; then so many texts.
    Number { texts: u8 },
    /// At the length of a text; so many more follow it.
    Length { authority: bool, more: u8 },
    /// In a length of several bytes.
    LongLength { length: u64, shift: u32, authority: bool, huffman: bool, more: u8 },
    /// In a text, with so many bytes left.
    Text { left: u64, more: u8 },
}

/// See the module.
#[derive(Debug)]
struct Follower {
    at: At,
}

impl Follower {
    /// Follows `bytes`, and mends them.
    fn follow(&mut self, bytes: &mut [u8]) {
        let mut place = 0;
        while place < bytes.len() {
            match &mut self.at {
                At::Elsewhere => return,
                At::Preface(taken) => {
                    if bytes[place] != PREFACE[*taken] {
                        self.at = At::Elsewhere;
                        return;
                    }
                    *taken += 1;
                    if *taken == PREFACE.len() {
                        self.at = At::Head { taken: 0, head: [0; HEAD] };
                    }
                    place += 1;
                }
                At::Head { taken, head } => {
                    head[*taken] = bytes[place];
                    *taken += 1;
                    place += 1;
                    if *taken == HEAD {
                        self.at = Self::body(*head);
                    }
                }
                At::Skip(left) => {
                    let now = (*left).min(bytes.len() - place);
                    *left -= now;
                    place += now;
                    if *left == 0 {
                        self.at = At::Head { taken: 0, head: [0; HEAD] };
                    }
                }
                At::Headers(left, field) => {
                    *field = field.next(bytes, place);
                    *left -= 1;
                    place += 1;
                    if *left == 0 {
                        self.at = At::Head { taken: 0, head: [0; HEAD] };
                    }
                }
            }
        }
    }

    fn body(head: [u8; HEAD]) -> At {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let before = u8::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
        match (kind, length) {
            (_, 0) => At::Head { taken: 0, head: [0; HEAD] },
            (HEADERS, length) if before == 0 => At::Headers(length, Field::Start),
            (HEADERS, length) => At::Headers(length, Field::Before(before)),
            (_, length) => At::Skip(length),
        }
    }
}

impl Field {
    /// The state behind the byte at `place`.
    fn next(self, bytes: &mut [u8], place: usize) -> Field {
        let byte = bytes[place];
        match self {
            Field::Before(1) => Field::Start,
            Field::Before(left) => Field::Before(left - 1),
            Field::Start => Self::start(byte),
            Field::Number { texts } if byte & 0x80 != 0 => Field::Number { texts },
            Field::Number { texts: 0 } => Field::Start,
            Field::Number { texts } => Field::Length { authority: false, more: texts - 1 },
            Field::Length { authority, more } => {
                let (huffman, length) = (byte & 0x80 != 0, u64::from(byte & 0x7f));
                if length == 0x7f {
                    return Field::LongLength { length, shift: 0, authority, huffman, more };
                }
                Self::text(bytes, place, length, authority, huffman, more)
            }
            Field::LongLength { length, shift, authority, huffman, more } => {
                let length = length.saturating_add(u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0));
                if byte & 0x80 != 0 && shift < 28 {
                    return Field::LongLength { length, shift: shift + 7, authority, huffman, more };
                }
                Self::text(bytes, place, length, authority, huffman, more)
            }
            Field::Text { left: 1, more } => Self::behind_text(more),
            Field::Text { left, more } => Field::Text { left: left - 1, more },
        }
    }

    fn start(byte: u8) -> Field {
        let (bits, texts) = match byte {
            0x80.. => (7, 0),
            0x40.. => (6, 1),
            0x20.. => (5, 0),
            _ => (4, 1),
        };
        let (mask, number) = ((1 << bits) - 1, u64::from(byte) & ((1 << bits) - 1));
        match (number, texts) {
            (number, texts) if number == mask => Field::Number { texts },
            (_, 0) => Field::Start,
            // A name that is not in a table stands here, in front of the value.
            (0, _) => Field::Length { authority: false, more: 1 },
            (number, _) => Field::Length { authority: number == AUTHORITY, more: 0 },
        }
    }

    /// At a text whose first byte is behind `place`.
    fn text(bytes: &mut [u8], place: usize, length: u64, authority: bool, huffman: bool, more: u8) -> Field {
        if length == 0 {
            return Self::behind_text(more);
        }
        // What is not there yet is left as it is: a client sends the beginning of a stream in one piece.
        let here = &mut bytes[place + 1..];
        let here_length = here.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        if authority {
            mend(&mut here[..here_length], huffman);
        }
        Field::Text { left: length, more }
    }

    fn behind_text(more: u8) -> Field {
        if more == 0 { Field::Start } else { Field::Length { authority: false, more: more - 1 } }
    }
}

#[allow(clippy::unusual_byte_groupings, reason = "a group is the code of a character")]
/// `http`, `https` in HPACK's Huffman code, and their length in bits.
const SCHEMES: [(u64, u32); 2] = [(0b100111_01001_01001_101011, 22), (0b100111_01001_01001_101011_01000, 27)];
#[allow(clippy::unusual_byte_groupings, reason = "a group is the code of a character")]
/// `://` in the same code, and `B--`, which has as many bits and may stand in the name of a host.
const SEPARATOR: (u64, u32) = (0b1011100_011000_011000, 19);
#[allow(clippy::unusual_byte_groupings, reason = "a group is the code of a character")]
const HARMLESS: u64 = 0b1011101_010110_010110;

/// Makes an authority that begins like a URL one that does not.
fn mend(text: &mut [u8], huffman: bool) {
    if !huffman {
        for scheme in [&b"http://"[..], b"https://"] {
            if text.starts_with(scheme) {
                text[scheme.len() - 3..scheme.len()].copy_from_slice(b"---");
            }
        }
        return;
    }
    let mut window = [0; 8];
    let length = text.len().min(window.len());
    window[..length].copy_from_slice(&text[..length]);
    let bits = u64::from_be_bytes(window);
    for (scheme, scheme_bits) in SCHEMES {
        let behind = 64 - scheme_bits - SEPARATOR.1;
        let wanted = (scheme << SEPARATOR.1) | SEPARATOR.0;
        if bits >> behind == wanted && length * 8 >= (scheme_bits + SEPARATOR.1) as usize {
            let mended = (bits & !(((1 << SEPARATOR.1) - 1) << behind)) | (HARMLESS << behind);
            text[..length].copy_from_slice(&mended.to_be_bytes()[..length]);
        }
    }
}

/// A connection that is followed.
#[derive(Debug)]
pub(crate) struct Lenient<S> {
    stream: S,
    follower: Follower,
    untaken: Untaken,
}

impl<S> Lenient<S> {
    /// What is sent over it may take the room `untaken` until it is taken.
    pub(crate) fn new(stream: S, untaken: Untaken) -> Self {
        Self { stream, untaken, follower: Follower { at: At::Preface(0) } }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buf);
        if let Poll::Ready(Ok(())) = polled {
            self.follower.follow(&mut buf.filled_mut()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Connected for Lenient<S> {
    type ConnectInfo = Untaken;

    fn connect_info(&self) -> Untaken {
        self.untaken.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `http://127.0.0.1:2379` in Huffman code, as Go's client sends it.
    const CODED: [u8; 16] =
        [0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x08, 0x9d, 0x5c, 0x0b, 0x81, 0x70, 0xdc, 0x13, 0x2e, 0xff, 0xff];

    fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, (body.len() >> 8) as u8, body.len() as u8, kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(body);
        frame
    }

    fn followed(parts: &[&[u8]]) -> Vec<u8> {
        let mut follower = Follower { at: At::Preface(0) };
        let mut all = Vec::new();
        for part in parts {
            let mut part = part.to_vec();
            follower.follow(&mut part);
            all.extend(part);
        }
        all
    }

    #[test]
    fn a_url_becomes_a_host_and_nothing_else_changes() {
        let settings = frame(4, 0, &[0; 12]);
        // :method POST, :scheme http, :path as a literal, :authority, an unknown name.
        let mut block = vec![0x83, 0x86, 0x45, 3, b'/', b'a', b'b', 0x41, 21];
        block.extend_from_slice(b"http://127.0.0.1:2379");
        block.extend_from_slice(&[0x40, 2, b'x', b'y', 9]);
        block.extend_from_slice(b"http://zz");
        for (flags, before) in [(4, vec![]), (4 | PRIORITY, vec![0; 5]), (4 | PADDED, vec![0])] {
            let headers = frame(HEADERS, flags, &[before, block.clone()].concat());
            let data = frame(0, 1, b"\x41\x15http://127.0.0.1:2379");
            let sent = [PREFACE.to_vec(), settings.clone(), headers, data].concat();
            let at = sent.windows(7).position(|window| window == b"http://").expect("it is there");
            let mut wanted = sent.clone();
            wanted[at + 4..at + 7].copy_from_slice(b"---");
            assert_eq!(followed(&[&sent]), wanted);
            for cut in (0..sent.len()).filter(|cut| !(at..at + 7).contains(cut)) {
                assert_eq!(followed(&[&sent[..cut], &sent[cut..]]), wanted, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_coded_url_keeps_its_length() {
        let mut text = CODED;
        mend(&mut text, true);
        assert_ne!(text, CODED);
        // The four characters in front and all from the number on stay.
        assert_eq!((text[..2].to_vec(), text[6..].to_vec()), (CODED[..2].to_vec(), CODED[6..].to_vec()));
        let bits = u64::from_be_bytes(text[..8].try_into().expect("eight bytes"));
        assert_eq!((bits >> (64 - 41)) & ((1 << 19) - 1), HARMLESS);
        let again = text;
        mend(&mut text, true);
        assert_eq!(text, again, "once is enough");
    }

    #[test]
    fn other_protocols_pass() {
        let sent = b"GET http://a/ HTTP/1.1\r\n\r\n";
        assert_eq!(followed(&[sent]), sent);
    }
}

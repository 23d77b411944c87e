//! Drives the parsers with arbitrary bytes and panics where something that must always hold does not.
//!
//! Used by the mutation test, which runs with every `cargo test`, and by the libFuzzer target in
//! `volumedriver/fuzz`.

use bytes::BytesMut;

use super::handshake::{ExportInfo, Exports, Handshake, Limits, Negotiated, Step};
use super::protocol::{Command, Cookie, Errno, MAX_PAYLOAD, MAX_STRING, REQUEST_HEADER};
use super::transmission::{Decoder, Item, MAX_PIECE, Operation, PIECE_ALIGN, Request};

/// Bits of the first byte of an input.
mod control {
    /// No negotiation: requests from the start.
    pub(super) const REQUESTS_ONLY: u8 = 1 << 0;
    /// Structured replies and block status, with `REQUESTS_ONLY`.
    pub(super) const STRUCTURED: u8 = 1 << 1;
    /// One export instead of three, or the largest size there is, with `REQUESTS_ONLY`.
    pub(super) const OTHER_EXPORTS: u8 = 1 << 2;
}

/// Runs `data` through the negotiation and the request decoder, in pieces of two different random cuttings,
/// and compares. The first byte chooses the circumstances, and with the rest's length the cutting.
///
/// # Panics
/// When an invariant is broken.
pub fn fuzz_entry(data: &[u8]) {
    let Some((&control, data)) = data.split_first() else { return };
    let seed = u64::from(control) << 32 | data.len() as u64;
    if control & control::REQUESTS_ONLY != 0 {
        let structured = control & control::STRUCTURED != 0;
        let negotiated = Negotiated {
            export: "disk".to_owned(),
            size: if control & control::OTHER_EXPORTS != 0 { u64::MAX } else { (64 << 20) + 512 },
            structured_replies: structured,
            base_allocation: structured,
        };
        compare_requests(&negotiated, data, seed);
        return;
    }
    let exports = if control & control::OTHER_EXPORTS != 0 { Three } else { One };
    let whole = negotiate(&exports, data, &mut Cuts::whole());
    let cut = negotiate(&exports, data, &mut Cuts::random(seed));
    assert_eq!(whole, cut, "a negotiation depends on how it was cut");
    if let Step::Transmission(negotiated) = whole.step {
        assert!(!negotiated.export.is_empty());
        assert_eq!(exports.lookup(&negotiated.export).map(|export| export.size), Some(negotiated.size));
        assert!(negotiated.structured_replies || !negotiated.base_allocation);
        compare_requests(&negotiated, &data[whole.consumed..], seed);
    }
}

use Shelf::{One, Three};

enum Shelf {
    One,
    Three,
}

impl Exports for Shelf {
    fn list(&self) -> Vec<String> {
        let names: &[&str] = match self {
            One => &["disk"],
            Three => &["disk", "a", "\u{e9}t\u{e9}"],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn lookup(&self, name: &str) -> Option<ExportInfo> {
        self.list().iter().any(|known| known == name).then_some(ExportInfo { size: 1 << 20 })
    }
}

/// Cuts a stream into pieces.
struct Cuts {
    state: u64,
    whole: bool,
}

impl Cuts {
    fn whole() -> Self {
        Self { state: 0, whole: true }
    }

    fn random(seed: u64) -> Self {
        Self { state: seed, whole: false }
    }

    /// The length of the next piece of what is left, at least 1.
    fn next(&mut self, left: usize) -> usize {
        if self.whole {
            return left;
        }
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let longest = [1, 7, 64, 5000, 300_000][(z % 5) as usize];
        left.min(1 + (z >> 8) as usize % longest)
    }
}

/// How a negotiation ended, or how far it came.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    step: Step,
    consumed: usize,
    sent: Vec<u8>,
}

fn negotiate(exports: &dyn Exports, data: &[u8], cuts: &mut Cuts) -> Outcome {
    let limits = Limits { options: 50, total_bytes: 1 << 20, send_bytes: 512, ..Limits::default() };
    // The longest single answer describes an export: four pieces, one of which repeats the name.
    let longest_out = limits.send_bytes + MAX_STRING + 512;
    let mut handshake = Handshake::new(limits);
    let mut input = BytesMut::new();
    let mut out = Vec::new();
    let mut sent = Vec::new();
    let mut received = 0;
    loop {
        let before = input.len();
        let step = handshake.advance(&mut input, exports, &mut out);
        assert!(input.len() <= before);
        assert!(out.len() <= longest_out, "{} bytes wait to be sent", out.len());
        assert!(step != Step::Send || !out.is_empty(), "no progress");
        sent.append(&mut out);
        match step {
            Step::Send => continue,
            Step::NeedMore if received < data.len() => {
                assert!(input.len() < limits.option_bytes as usize, "an option is not taken");
                let length = cuts.next(data.len() - received);
                input.extend_from_slice(&data[received..received + length]);
                received += length;
            }
            // How much of an unfinished message is taken is nobody's business.
            Step::NeedMore => return Outcome { step, consumed: 0, sent },
            Step::Transmission(_) | Step::Close(_) => {
                return Outcome { step, consumed: received - input.len(), sent };
            }
        }
    }
}

/// An item, the pieces of a write put together.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Request(Request),
    Write { cookie: Cookie, offset: u64, data: Vec<u8>, fua: bool, complete: bool },
    Empty(Cookie, Command),
    Refused(Cookie, Option<Command>, Errno),
    Disconnect,
    Violation(String),
}

fn compare_requests(negotiated: &Negotiated, data: &[u8], seed: u64) {
    let whole = requests(negotiated, data, &mut Cuts::whole());
    let cut = requests(negotiated, data, &mut Cuts::random(seed));
    assert_eq!(whole, cut, "requests depend on how they were cut");
}

fn requests(negotiated: &Negotiated, data: &[u8], cuts: &mut Cuts) -> Vec<Event> {
    let mut decoder = Decoder::new(negotiated);
    let mut events = Vec::new();
    // What was received and not consumed is `data[consumed..received]`.
    let (mut consumed, mut received) = (0, 0);
    loop {
        let (length, item) = decoder.next(&data[consumed..received]);
        assert!(length <= received - consumed);
        consumed += length;
        match item {
            Item::Incomplete => {
                let left = received - consumed;
                assert!((left as u64) < PIECE_ALIGN, "{left} bytes would have to be buffered");
                assert!(decoder.missing() > 0 || left < REQUEST_HEADER);
                if received == data.len() {
                    return events;
                }
                received += cuts.next(data.len() - received);
                continue;
            }
            Item::Request(request) => {
                check_request(negotiated, &request);
                events.push(Event::Request(request));
            }
            Item::WritePiece { cookie, offset, data, fua, last } => {
                assert!(!data.is_empty() && data.len() <= MAX_PIECE);
                assert!(offset.checked_add(data.len() as u64).is_some_and(|end| end <= negotiated.size));
                let end = offset + data.len() as u64;
                assert!(last || end.is_multiple_of(PIECE_ALIGN), "a piece ends inside a cluster");
                assert_eq!(last, decoder.missing() == 0);
                add_piece(&mut events, cookie, offset, data, fua, last);
            }
            Item::Empty { cookie, command } => events.push(Event::Empty(cookie, command)),
            Item::Refused { cookie, command, error, .. } => {
                events.push(Event::Refused(cookie, command, error))
            }
            Item::Disconnect => {
                events.push(Event::Disconnect);
                return events;
            }
            Item::Violation(violation) => {
                events.push(Event::Violation(violation.to_string()));
                return events;
            }
        }
        assert!(length > 0, "no progress");
    }
}

fn check_request(negotiated: &Negotiated, request: &Request) {
    let Request { offset, length, operation, .. } = *request;
    if operation == Operation::Flush {
        assert_eq!((offset, length), (0, 0));
        return;
    }
    assert!(length > 0);
    assert!(offset.checked_add(u64::from(length)).is_some_and(|end| end <= negotiated.size));
    match operation {
        Operation::Read { df } => {
            assert!(length <= MAX_PAYLOAD);
            assert!(!df || negotiated.structured_replies);
        }
        Operation::BlockStatus { .. } => assert!(negotiated.base_allocation),
        _ => {}
    }
}

fn add_piece(events: &mut Vec<Event>, cookie: Cookie, offset: u64, piece: &[u8], fua: bool, last: bool) {
    if let Some(Event::Write { cookie: of, offset: start, data, fua: with, complete }) = events.last_mut()
        && !*complete
    {
        assert_eq!((*of, *with), (cookie, fua));
        assert_eq!(*start + data.len() as u64, offset, "pieces are not contiguous");
        data.extend_from_slice(piece);
        *complete = last;
        return;
    }
    events.push(Event::Write { cookie, offset, data: piece.to_vec(), fua, complete: last });
}

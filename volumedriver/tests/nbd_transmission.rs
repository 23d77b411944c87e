//! Requests: what is accepted, what is refused with which error, and how writes come in pieces.

use proptest::prelude::*;
use volumedriver::nbd::handshake::Negotiated;
use volumedriver::nbd::protocol::{Command, Cookie, Errno, MAX_DRAIN, MAX_PAYLOAD};
use volumedriver::nbd::transmission::{Decoder, Item, MAX_PIECE, Operation, PIECE_ALIGN, Request, Violation};

const SIZE: u64 = (1 << 30) + 512;
const FUA: u16 = 1;

fn decoder(structured: bool) -> Decoder {
    Decoder::new(&Negotiated {
        export: "disk".to_owned(),
        size: SIZE,
        structured_replies: structured,
        base_allocation: structured,
    })
}

fn request(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&command.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}

fn write(flags: u16, offset: u64, data: &[u8]) -> Vec<u8> {
    [request(flags, 1, 7, offset, data.len() as u32), data.to_vec()].concat()
}

/// Bytes that differ from cluster to cluster.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 4096 * 31 + at % 251) as u8).collect()
}

/// The one item of a request without payload.
#[track_caller]
fn one(structured: bool, bytes: &[u8]) -> Item<'_> {
    let mut decoder = decoder(structured);
    // The header is not taken before it is whole.
    for short in 0..28 {
        assert_eq!(decoder.next(&bytes[..short]), (0, Item::Incomplete));
    }
    let (consumed, item) = decoder.next(bytes);
    assert_eq!(consumed, 28);
    item
}

#[test]
fn requests_without_payload() {
    let cases = [
        (0, 0, Operation::Read { df: false }),
        (FUA, 0, Operation::Read { df: false }),
        (4, 0, Operation::Read { df: true }),
        (0, 4, Operation::Trim { fua: false }),
        (FUA, 4, Operation::Trim { fua: true }),
        (0, 5, Operation::Cache),
        (0, 6, Operation::WriteZeroes { no_hole: false, fast_zero: false, fua: false }),
        (FUA, 6, Operation::WriteZeroes { no_hole: false, fast_zero: false, fua: true }),
        (2, 6, Operation::WriteZeroes { no_hole: true, fast_zero: false, fua: false }),
        (16, 6, Operation::WriteZeroes { no_hole: false, fast_zero: true, fua: false }),
        (0, 7, Operation::BlockStatus { req_one: false }),
        (8, 7, Operation::BlockStatus { req_one: true }),
    ];
    for (flags, command, operation) in cases {
        let bytes = request(flags, command, 0x0102_0304_0506_0708, 0x1234, 0x5678);
        let cookie = Cookie(0x0102_0304_0506_0708);
        let expected = Item::Request(Request { cookie, offset: 0x1234, length: 0x5678, operation });
        assert_eq!(one(true, &bytes), expected);
    }
    let flush = request(0, 3, 9, 0, 0);
    let expected =
        Item::Request(Request { cookie: Cookie(9), offset: 0, length: 0, operation: Operation::Flush });
    assert_eq!(one(true, &flush), expected);
    assert_eq!(one(true, &request(0, 2, 9, 0, 0)), Item::Disconnect);
}

#[test]
fn what_needs_no_payload_may_reach_to_the_end() {
    for command in [4, 5, 6, 7] {
        let bytes = request(0, command, 1, 512, 1 << 30);
        assert!(matches!(one(true, &bytes), Item::Request(Request { length, .. }) if length == 1 << 30));
    }
}

/// Every refusal, its error and the command it is counted under.
#[test]
fn refusals() {
    let cases = [
        // Beyond the end.
        (true, request(0, 0, 1, SIZE - 1, 2), Errno::Invalid),
        (true, request(0, 0, 1, SIZE + 1, 0), Errno::Invalid),
        (true, request(0, 0, 1, u64::MAX, 4096), Errno::Invalid),
        (true, request(0, 4, 1, SIZE, 1), Errno::Invalid),
        (true, request(0, 5, 1, SIZE, 1), Errno::Invalid),
        (true, request(0, 7, 1, SIZE, 1), Errno::Invalid),
        (true, request(0, 6, 1, SIZE, 1), Errno::NoSpace),
        (true, request(0, 6, 1, u64::MAX - 1, u32::MAX), Errno::NoSpace),
        (true, request(0, 1, 1, SIZE + 1, 0), Errno::NoSpace),
        // Too long; only clients with structured replies know the better error.
        (true, request(0, 0, 1, 0, MAX_PAYLOAD + 1), Errno::Overflow),
        (false, request(0, 0, 1, 0, MAX_PAYLOAD + 1), Errno::Invalid),
        // Flags: unknown ones, other commands' ones, and what was not negotiated.
        (true, request(1 << 5, 0, 1, 0, 1), Errno::Invalid),
        (true, request(1 << 15, 3, 1, 0, 0), Errno::Invalid),
        (true, request(2, 0, 1, 0, 1), Errno::Invalid),
        (true, request(4, 4, 1, 0, 1), Errno::Invalid),
        (true, request(8, 6, 1, 0, 1), Errno::Invalid),
        (true, request(16, 7, 1, 0, 1), Errno::Invalid),
        (false, request(4, 0, 1, 0, 1), Errno::Invalid),
        (false, request(0, 7, 1, 0, 1), Errno::Invalid),
        // No answer has no extent.
        (true, request(0, 7, 1, 0, 0), Errno::Invalid),
        // A flush is of everything.
        (true, request(0, 3, 1, 1, 0), Errno::Invalid),
        (true, request(0, 3, 1, 0, 1), Errno::Invalid),
        // Unknown commands.
        (true, request(0, 8, 1, 0, 0), Errno::Invalid),
        (true, request(0, 0xffff, 1, 0, 9), Errno::Invalid),
    ];
    for (structured, bytes, expected) in cases {
        let command = u16::from_be_bytes([bytes[6], bytes[7]]);
        match one(structured, &bytes) {
            Item::Refused { cookie, command: known, error, reason } => {
                assert_eq!((cookie, error), (Cookie(1), expected), "{reason}");
                assert_eq!(known, Command::from_wire(command));
                assert!(!reason.is_empty());
            }
            other => panic!("{other:?} instead of {expected:?} to command {command}"),
        }
    }
}

#[test]
fn ranges_do_not_wrap_around() {
    let mut decoder = decoder(true);
    decoder.set_size(u64::MAX);
    for (offset, length, fits) in [
        (u64::MAX - 2, 2, true),
        (u64::MAX - 2, 3, false),
        (u64::MAX - 1, u32::MAX >> 8, false),
        (u64::MAX, 1, false),
    ] {
        let bytes = request(0, 4, 1, offset, length);
        let (_, item) = decoder.next(&bytes);
        assert_eq!(matches!(item, Item::Request(_)), fits, "{item:?}");
    }
}

#[test]
fn requests_of_nothing_succeed() {
    for (code, command) in [
        (0, Command::Read),
        (1, Command::Write),
        (4, Command::Trim),
        (5, Command::Cache),
        (6, Command::WriteZeroes),
    ] {
        // At the very end too.
        for offset in [0, SIZE] {
            let bytes = request(0, code, 1, offset, 0);
            assert_eq!(one(true, &bytes), Item::Empty { cookie: Cookie(1), command });
        }
    }
}

#[test]
fn a_write_that_is_there_comes_whole() {
    for (offset, length) in [(0, 1), (5, 4096), (4095, 2), (4096, MAX_PIECE), (SIZE - 512, 512)] {
        let data = pattern(length);
        let bytes = [write(FUA, offset, &data), request(0, 3, 8, 0, 0)].concat();
        let mut decoder = decoder(false);
        let piece = Item::WritePiece { cookie: Cookie(7), offset, data: &data, fua: true, last: true };
        assert_eq!(decoder.next(&bytes), (28 + length, piece));
        assert_eq!(decoder.missing(), 0);
        assert!(matches!(decoder.next(&bytes[28 + length..]), (28, Item::Request(_))));
    }
}

#[test]
fn pieces_end_at_clusters() {
    let data = pattern(20_000);
    let bytes = write(0, 4000, &data);
    let mut decoder = decoder(false);
    let piece = |from: usize, to: usize, last| Item::WritePiece {
        cookie: Cookie(7),
        offset: 4000 + from as u64,
        data: &data[from..to],
        fua: false,
        last,
    };
    // The header and less than the way to the first cluster: only the header is taken.
    assert_eq!(decoder.next(&bytes[..28 + 95]), (28, Item::Incomplete));
    assert_eq!(decoder.missing(), 20_000);
    // Just there.
    assert_eq!(decoder.next(&bytes[28..28 + 96]), (96, piece(0, 96, false)));
    assert_eq!(decoder.missing(), 20_000 - 96);
    let rest = &bytes[28 + 96..];
    assert_eq!(decoder.next(&rest[..4095]), (0, Item::Incomplete));
    assert_eq!(decoder.next(&rest[..9000]), (8192, piece(96, 96 + 8192, false)));
    assert_eq!(decoder.next(&rest[8192..]), (11_712, piece(96 + 8192, 20_000, true)));
    assert_eq!(decoder.missing(), 0);
}

#[test]
fn long_writes_are_never_longer_than_a_piece() {
    let data = pattern(MAX_PAYLOAD as usize);
    let bytes = write(0, 1, &data);
    let mut decoder = decoder(false);
    let mut at = 0;
    let mut pieces = Vec::new();
    loop {
        let (consumed, item) = decoder.next(&bytes[at..]);
        at += consumed;
        let Item::WritePiece { data, last, .. } = item else { panic!("{item:?}") };
        pieces.push(data.len());
        if last {
            break;
        }
    }
    assert_eq!(at, bytes.len());
    assert_eq!(pieces[0], MAX_PIECE - 1);
    assert!(pieces[1..pieces.len() - 1].iter().all(|length| *length == MAX_PIECE));
    assert_eq!(*pieces.last().unwrap(), 1);
}

#[test]
fn refused_writes_are_skipped_as_they_come() {
    let cases = [
        (request(0, 1, 7, SIZE - 1, 8192), 8192, Errno::NoSpace),
        (request(2, 1, 7, 0, 8192), 8192, Errno::Invalid),
        (request(0, 1, 7, 0, MAX_PAYLOAD + 1), MAX_PAYLOAD + 1, Errno::Invalid),
        (request(0, 1, 7, 0, MAX_DRAIN), MAX_DRAIN, Errno::Invalid),
    ];
    let zeroes = vec![0; 1 << 20];
    for (header, length, expected) in cases {
        let mut decoder = decoder(true);
        assert_eq!(decoder.next(&header), (28, Item::Incomplete));
        let mut left = length as usize;
        loop {
            assert_eq!(decoder.missing() as usize, left);
            let here = left.min(zeroes.len() - 1);
            let (consumed, item) = decoder.next(&zeroes[..here]);
            assert_eq!(consumed, here);
            left -= here;
            if left > 0 {
                assert_eq!(item, Item::Incomplete);
                continue;
            }
            let Item::Refused { cookie, command, error, .. } = item else { panic!("{item:?}") };
            assert_eq!((cookie, command, error), (Cookie(7), Some(Command::Write), expected));
            break;
        }
        assert!(matches!(decoder.next(&request(0, 3, 8, 0, 0)), (28, Item::Request(_))));
    }
}

#[test]
fn what_cannot_be_skipped_ends_the_connection() {
    let mut long = decoder(true);
    let bytes = request(0, 1, 7, 0, MAX_DRAIN + 1);
    let expected = (0, Item::Violation(Violation::WriteTooLong(MAX_DRAIN + 1)));
    assert_eq!(long.next(&bytes), expected);
    assert_eq!(long.next(&bytes), expected);

    let mut garbage = decoder(true);
    let bytes = [0x47; 28];
    assert_eq!(garbage.next(&bytes), (0, Item::Violation(Violation::BadMagic(0x4747_4747))));
}

#[test]
fn nothing_is_read_after_a_disconnect() {
    let mut decoder = decoder(true);
    let bytes = [request(0, 2, 1, 0, 0), request(0, 3, 1, 0, 0)].concat();
    assert_eq!(decoder.next(&bytes), (28, Item::Disconnect));
    assert_eq!(decoder.next(&bytes[28..]), (0, Item::Disconnect));
}

#[test]
fn a_resize_counts_from_the_next_request() {
    let mut decoder = decoder(true);
    let bytes = request(0, 0, 1, SIZE, 4096);
    assert!(matches!(decoder.next(&bytes), (28, Item::Refused { .. })));
    decoder.set_size(SIZE + 4096);
    assert!(matches!(decoder.next(&bytes), (28, Item::Request(_))));
}

/// What a client sends, and in the words of the test what has to come of it.
#[derive(Clone, Debug)]
struct Sent {
    bytes: Vec<u8>,
    expected: Seen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Write { cookie: u64, offset: u64, data: Vec<u8>, fua: bool },
    Request { cookie: u64, offset: u64, length: u32 },
    Refused { cookie: u64 },
}

fn sent() -> impl Strategy<Value = Sent> {
    let in_range = (any::<u64>(), any::<u32>()).prop_map(|(offset, length)| {
        let offset = offset % SIZE;
        (offset, 1 + length % (SIZE - offset).min(u64::from(MAX_PAYLOAD)) as u32)
    });
    prop_oneof![
        4 => (any::<u64>(), 0..SIZE, 1..300_000_usize, any::<bool>()).prop_map(
            |(cookie, offset, length, fua)| {
                let data = pattern(length.min((SIZE - offset) as usize));
                let header = request(u16::from(fua), 1, cookie, offset, data.len() as u32);
                let bytes = [header, data.clone()].concat();
                Sent { bytes, expected: Seen::Write { cookie, offset, data, fua } }
            }
        ),
        4 => (any::<u64>(), in_range, prop::sample::select(vec![0_u16, 4, 5, 6, 7])).prop_map(
            |(cookie, (offset, length), command)| Sent {
                bytes: request(0, command, cookie, offset, length),
                expected: Seen::Request { cookie, offset, length },
            }
        ),
        1 => (any::<u64>(), SIZE.., 1..100_000_usize).prop_map(|(cookie, offset, length)| Sent {
            bytes: [request(0, 1, cookie, offset, length as u32), vec![0x25; length]].concat(),
            expected: Seen::Refused { cookie },
        }),
    ]
}

/// Receives `stream` into a buffer of `room` bytes, as a data thread does, in pieces of the lengths given.
fn receive(stream: &[u8], room: usize, mut lengths: impl Iterator<Item = usize>) -> Vec<Seen> {
    let mut decoder = decoder(true);
    let mut buffer = vec![0; room];
    let mut filled = 0;
    let mut stream = stream.iter().copied();
    let mut seen = Vec::new();
    let mut in_write = false;
    loop {
        let length = lengths.next().unwrap().min(room - filled).min(stream.len());
        if length == 0 {
            assert_eq!((filled, decoder.missing()), (0, 0), "something is left");
            return seen;
        }
        buffer[filled..filled + length].iter_mut().zip(&mut stream).for_each(|(to, from)| *to = from);
        filled += length;
        let mut taken = 0;
        loop {
            let (consumed, item) = decoder.next(&buffer[taken..filled]);
            taken += consumed;
            match item {
                Item::Incomplete => break,
                Item::Request(Request { cookie, offset, length, .. }) => {
                    seen.push(Seen::Request { cookie: cookie.0, offset, length });
                }
                Item::Refused { cookie, .. } => seen.push(Seen::Refused { cookie: cookie.0 }),
                Item::WritePiece { cookie, offset, data: piece, fua, last } => {
                    let end = offset + piece.len() as u64;
                    assert!(last || end.is_multiple_of(PIECE_ALIGN));
                    if !in_write {
                        seen.push(Seen::Write { cookie: cookie.0, offset, data: Vec::new(), fua });
                    }
                    let Some(Seen::Write { cookie: of, offset: start, data, fua: with }) = seen.last_mut()
                    else {
                        panic!("a piece of no write");
                    };
                    assert_eq!((*of, *start + data.len() as u64, *with), (cookie.0, offset, fua));
                    data.extend_from_slice(piece);
                    in_write = !last;
                }
                other => panic!("{other:?}"),
            }
        }
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a client sends, and however it arrives, what was sent is what is seen; a buffer of two
    /// clusters is enough for writes of any length.
    #[test]
    fn what_was_sent_is_what_is_seen(
        requests in prop::collection::vec(sent(), 1..12),
        room in 8192_usize..300_000,
        lengths in prop::collection::vec(1_usize..100_000, 1..20),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|sent| sent.bytes.clone()).collect();
        let seen = receive(&stream, room, lengths.into_iter().cycle());
        let expected: Vec<Seen> = requests.into_iter().map(|sent| sent.expected).collect();
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn every_cut_gives_the_same() {
    let data = pattern(10_000);
    let stream = [
        request(0, 0, 1, 0, 4096),
        write(FUA, 4000, &data),
        request(0, 1, 2, SIZE, 3),
        b"abc".to_vec(),
        request(0, 4, 3, 512, 512),
    ]
    .concat();
    let whole = receive(&stream, stream.len(), std::iter::repeat(stream.len()));
    assert_eq!(whole.len(), 4);
    for cut in 1..stream.len() {
        let lengths = [cut].into_iter().chain(std::iter::repeat(stream.len()));
        assert_eq!(receive(&stream, stream.len(), lengths), whole, "cut at {cut}");
    }
}

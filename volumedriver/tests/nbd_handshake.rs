//! Negotiations as transcripts: what the client sends, what the server answers.

mod nbd_wire;

use bytes::BytesMut;
use nbd_wire::wire;
use volumedriver::nbd::handshake::{CloseReason, ExportInfo, Exports, Handshake, Limits, Negotiated, Step};

/// Export names and sizes.
struct Shelf(&'static [(&'static str, u64)]);

impl Exports for Shelf {
    fn list(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn lookup(&self, name: &str) -> Option<ExportInfo> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, size)| ExportInfo { size: *size })
    }
}

const ONE: Shelf = Shelf(&[("disk", 0x1_0000_0200)]);
const TWO: Shelf = Shelf(&[("disk", 0x1_0000_0200), ("b", 0x1000)]);

/// The greeting: `NBDMAGIC`, `IHAVEOPT`, fixed newstyle and no zeroes.
const GREETING: &str = "'NBDMAGIC' 'IHAVEOPT' 0003";
/// A modern client's answer: fixed newstyle and no zeroes.
const MODERN: &str = "00000003";

struct Run {
    step: Step,
    sent: Vec<u8>,
    left: Vec<u8>,
}

/// Feeds `received` in pieces of `piece` bytes.
fn run_in_pieces(exports: &Shelf, limits: Limits, received: &[u8], piece: usize) -> Run {
    let mut handshake = Handshake::new(limits);
    let (mut input, mut out, mut sent) = (BytesMut::new(), Vec::new(), Vec::new());
    let mut pieces = received.chunks(piece);
    loop {
        let step = handshake.advance(&mut input, exports, &mut out);
        sent.append(&mut out);
        match step {
            Step::Send => continue,
            Step::NeedMore => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => return Run { step, sent, left: input.to_vec() },
            },
            Step::Transmission(_) | Step::Close(_) => {
                for piece in pieces {
                    input.extend_from_slice(piece);
                }
                return Run { step, sent, left: input.to_vec() };
            }
        }
    }
}

/// Runs a whole session in one piece, and checks that every other size of pieces gives the same.
fn run(exports: &Shelf, received: &str) -> Run {
    let received = wire(received);
    let whole = run_in_pieces(exports, Limits::default(), &received, received.len());
    for piece in 1..received.len().min(100) {
        let cut = run_in_pieces(exports, Limits::default(), &received, piece);
        assert_eq!(cut.step, whole.step, "in pieces of {piece}");
        assert_eq!(cut.sent, whole.sent, "in pieces of {piece}");
        assert_eq!(cut.left, whole.left, "in pieces of {piece}");
    }
    whole
}

/// A client that sends `options` behind modern flags gets the greeting and `answers`, and is waited for.
#[track_caller]
fn answered(exports: &Shelf, options: &str, answers: &str) {
    let run = run(exports, &format!("{MODERN} {options}"));
    assert_eq!(run.sent.escape_ascii().to_string(), golden(answers));
    assert_eq!(run.step, Step::NeedMore);
}

fn golden(answers: &str) -> String {
    wire(&format!("{GREETING} {answers}")).escape_ascii().to_string()
}

/// Starts an option; number and length follow.
const OPT: &str = "'IHAVEOPT'";
/// Starts an answer; option, kind, and length follow.
const REP: &str = "0003e889045565a9";
/// Answers that describe `disk` without being asked for more: size and flags, block sizes. `FLAGS` and
/// `OPTION` are filled in.
fn description(option: &str, flags: &str) -> String {
    format!(
        "{REP} {option} 00000003 0000000c 0000 0000000100000200 {flags}
         {REP} {option} 00000003 0000000e 0003 00000001 00001000 02000000"
    )
}

/// Has flags, flush, FUA, trim, write-zeroes, multi-conn, cache, fast-zero.
const FLAGS: &str = "0d6d";
/// And don't-fragment, with structured replies.
const STRUCTURED_FLAGS: &str = "0ded";
/// Negotiates structured replies.
const STRUCTURED: &str = "'IHAVEOPT' 00000008 00000000";
const STRUCTURED_ACK: &str = "0003e889045565a9 00000008 00000001 00000000";

fn negotiated(structured_replies: bool, base_allocation: bool) -> Step {
    Step::Transmission(Negotiated {
        export: "disk".to_owned(),
        size: 0x1_0000_0200,
        structured_replies,
        base_allocation,
    })
}

#[test]
fn greets_before_anything_is_received() {
    let run = run_in_pieces(&ONE, Limits::default(), &[], 1);
    assert_eq!(run.sent, wire(GREETING));
    assert_eq!(run.step, Step::NeedMore);
}

#[test]
fn go_describes_the_export_and_starts() {
    let run = run(&ONE, &format!("{MODERN} {OPT} 00000007 0000000a 00000004 'disk' 0000 'what_follows'"));
    let answers = format!("{} {REP} 00000007 00000001 00000000", description("00000007", FLAGS));
    assert_eq!(run.sent.escape_ascii().to_string(), golden(&answers));
    assert_eq!(run.step, negotiated(false, false));
    assert_eq!(run.left, b"what follows");
}

#[test]
fn go_sends_name_and_description_if_asked() {
    let run = run(&ONE, &format!("{MODERN} {OPT} 00000007 00000010 00000004 'disk' 0003 0002 0001 00ff"));
    let answers = format!(
        "{REP} 00000007 00000003 0000000c 0000 0000000100000200 {FLAGS}
         {REP} 00000007 00000003 00000006 0001 'disk'
         {REP} 00000007 00000003 0000001c 0002 'volume_of_4294967808_bytes'
         {REP} 00000007 00000003 0000000e 0003 00000001 00001000 02000000
         {REP} 00000007 00000001 00000000"
    );
    assert_eq!(run.sent.escape_ascii().to_string(), golden(&answers));
    assert_eq!(run.step, negotiated(false, false));
}

#[test]
fn info_describes_and_goes_on() {
    let info = format!("{OPT} 00000006 0000000a 00000004 'disk' 0000");
    let answers = format!("{} {REP} 00000006 00000001 00000000", description("00000006", FLAGS));
    answered(&ONE, &format!("{info} {info}"), &format!("{answers} {answers}"));
}

#[test]
fn export_name_sends_zeroes_unless_declined() {
    let option = format!("{OPT} 00000001 00000004 'disk' ffff");
    // A client without any flags may use this option and no other.
    for (client, padding) in [("00000000", "00*124"), ("00000001", "00*124"), ("00000002", ""), (MODERN, "")]
    {
        let run = run(&ONE, &format!("{client} {option}"));
        let answer = format!("0000000100000200 {FLAGS} {padding}");
        assert_eq!(run.sent.escape_ascii().to_string(), golden(&answer));
        assert_eq!(run.step, negotiated(false, false));
        assert_eq!(run.left, [0xff, 0xff]);
    }
}

#[test]
fn export_name_that_does_not_exist_closes() {
    for name in ["00000001 00000004 'disc'", "00000001 00000001 ff", "00000001 00011170 61*70000"] {
        let run = run(&ONE, &format!("{MODERN} {OPT} {name}"));
        assert_eq!(run.step, Step::Close(CloseReason::NoSuchExport));
        assert_eq!(run.sent, wire(GREETING));
    }
}

#[test]
fn no_name_is_the_only_export() {
    let go = format!("{MODERN} {OPT} 00000007 00000006 00000000 0000");
    assert_eq!(run(&ONE, &go).step, negotiated(false, false));
    let unknown = format!("{REP} 00000007 80000006 0000000e 'no_such_export'");
    for exports in [TWO, Shelf(&[])] {
        let run = run(&exports, &go);
        assert_eq!(run.step, Step::NeedMore);
        assert_eq!(run.sent.escape_ascii().to_string(), golden(&unknown));
    }
}

#[test]
fn list_names_all_exports() {
    answered(
        &TWO,
        &format!("{OPT} 00000003 00000000"),
        &format!(
            "{REP} 00000003 00000002 00000008 00000004 'disk'
             {REP} 00000003 00000002 00000005 00000001 'b'
             {REP} 00000003 00000001 00000000"
        ),
    );
    answered(&Shelf(&[]), &format!("{OPT} 00000003 00000000"), &format!("{REP} 00000003 00000001 00000000"));
}

#[test]
fn abort_is_acknowledged_and_closes() {
    for option in ["00000002 00000000", "00000002 00000003 'bye'"] {
        let run = run(&ONE, &format!("{MODERN} {OPT} {option}"));
        let answer = format!("{REP} 00000002 00000001 00000000");
        assert_eq!(run.sent.escape_ascii().to_string(), golden(&answer));
        assert_eq!(run.step, Step::Close(CloseReason::Aborted));
    }
}

#[test]
fn structured_replies_allow_unfragmented_reads() {
    let run = run(&ONE, &format!("{MODERN} {STRUCTURED} {OPT} 00000007 0000000a 00000004 'disk' 0000"));
    let description = description("00000007", STRUCTURED_FLAGS);
    let answers = format!("{STRUCTURED_ACK} {description} {REP} 00000007 00000001 00000000");
    assert_eq!(run.sent.escape_ascii().to_string(), golden(&answers));
    assert_eq!(run.step, negotiated(true, false));
}

#[test]
fn unknown_options_and_tls_are_unsupported() {
    answered(
        &ONE,
        &format!("{OPT} 00000005 00000000 {OPT} 0000000b 00000000 {OPT} deadbeef 00000003 'abc'"),
        &format!(
            "{REP} 00000005 80000001 00000016 'TLS_is_not_served_here'
             {REP} 0000000b 80000001 0000000e 'unknown_option'
             {REP} deadbeef 80000001 0000000e 'unknown_option'"
        ),
    );
}

#[test]
fn data_where_none_belongs_is_invalid() {
    for option in ["00000003", "00000008"] {
        answered(
            &ONE,
            &format!("{OPT} {option} 00000001 00"),
            &format!("{REP} {option} 80000003 00000017 'this_option_has_no_data'"),
        );
    }
}

#[test]
fn information_requests_that_do_not_add_up_are_invalid() {
    let malformed = "'the_data's_lengths_do_not_fit_together'";
    for data in [
        "00000000",                           // nothing at all
        "00000003 000000",                    // half a length
        "0000000a 00000005 'disk' 0000",      // the name reaches into the count
        "0000000a ffffffff 'disk' 0000",      // and beyond everything
        "0000000a 00000004 'disk' 0001",      // a request is missing
        "0000000c 00000004 'disk' 0000 0000", // one too many
        "0000000c 00000004 'disk' ffff 0000", // very many missing
    ] {
        for option in ["00000006", "00000007"] {
            answered(
                &ONE,
                &format!("{OPT} {option} {data}"),
                &format!("{REP} {option} 80000003 00000026 {malformed}"),
            );
        }
    }
}

#[test]
fn names_must_be_short_text() {
    let not_text = "'not_UTF-8_without_NUL'";
    for name in ["ff", "00"] {
        answered(
            &ONE,
            &format!("{OPT} 00000007 00000007 00000001 {name} 0000"),
            &format!("{REP} 00000007 80000003 00000015 {not_text}"),
        );
    }
    answered(
        &ONE,
        &format!("{OPT} 00000007 00001007 00001001 61*4097 0000"),
        &format!("{REP} 00000007 80000009 00000016 'longer_than_4096_bytes'"),
    );
    answered(
        &ONE,
        &format!("{OPT} 00000007 00001006 00001000 61*4096 0000"),
        &format!("{REP} 00000007 80000006 0000000e 'no_such_export'"),
    );
}

#[test]
fn long_options_are_skipped_and_refused() {
    answered(
        &ONE,
        &format!("{OPT} 00000007 00011170 61*70000 {OPT} 0000000b 00011170 61*70000 {OPT} 00000003 00000000"),
        &format!(
            "{REP} 00000007 80000009 00000014 'option_data_too_long'
             {REP} 0000000b 80000001 0000000e 'unknown_option'
             {REP} 00000003 00000002 00000008 00000004 'disk'
             {REP} 00000003 00000001 00000000"
        ),
    );
}

#[test]
fn meta_contexts_need_structured_replies() {
    for option in ["00000009", "0000000a"] {
        answered(
            &ONE,
            &format!("{OPT} {option} 0000000c 00000004 'disk' 00000000"),
            &format!("{REP} {option} 80000003 00000022 'negotiate_structured_replies_first'"),
        );
    }
}

#[test]
fn meta_contexts_are_listed() {
    let found = format!("{REP} 00000009 00000004 00000013 00000000 'base:allocation'");
    let cases = [
        ("0000000c 00000004 'disk' 00000000", true),
        ("00000015 00000004 'disk' 00000001 00000005 'base:'", true),
        ("0000001f 00000004 'disk' 00000001 0000000f 'base:allocation'", true),
        ("00000017 00000004 'disk' 00000001 00000007 'base:al'", false),
        ("00000015 00000004 'disk' 00000001 00000005 'qemu:'", false),
        ("00000028 00000004 'disk' 00000002 00000005 'qemu:' 0000000f 'base:allocation'", true),
    ];
    for (data, finds) in cases {
        let context = if finds { found.as_str() } else { "" };
        answered(
            &ONE,
            &format!("{STRUCTURED} {OPT} 00000009 {data}"),
            &format!("{STRUCTURED_ACK} {context} {REP} 00000009 00000001 00000000"),
        );
    }
}

#[test]
fn meta_contexts_are_chosen_by_their_whole_name() {
    let found = format!("{REP} 0000000a 00000004 00000013 00000001 'base:allocation'");
    let cases = [
        ("0000000c 00000004 'disk' 00000000", false),
        ("00000015 00000004 'disk' 00000001 00000005 'base:'", false),
        ("0000001f 00000004 'disk' 00000001 0000000f 'base:allocation'", true),
        // Twice is still one context.
        ("00000032 00000004 'disk' 00000002 0000000f 'base:allocation' 0000000f 'base:allocation'", true),
    ];
    for (data, finds) in cases {
        let context = if finds { found.as_str() } else { "" };
        let go = format!("{OPT} 00000007 0000000a 00000004 'disk' 0000");
        let run = run(&ONE, &format!("{MODERN} {STRUCTURED} {OPT} 0000000a {data} {go}"));
        let answers = format!(
            "{STRUCTURED_ACK} {context} {REP} 0000000a 00000001 00000000 {} {REP} 00000007 00000001 00000000",
            description("00000007", STRUCTURED_FLAGS)
        );
        assert_eq!(run.sent.escape_ascii().to_string(), golden(&answers));
        assert_eq!(run.step, negotiated(true, finds), "{data}");
    }
}

#[test]
fn a_context_holds_for_the_export_it_was_chosen_for() {
    let set_disk = format!("{OPT} 0000000a 0000001f 00000004 'disk' 00000001 0000000f 'base:allocation'");
    let set_b = format!("{OPT} 0000000a 0000001c 00000001 'b' 00000001 0000000f 'base:allocation'");
    let set_unknown = format!("{OPT} 0000000a 0000001c 00000001 'c' 00000001 0000000f 'base:allocation'");
    let malformed = format!("{OPT} 0000000a 00000003 000000");
    let go = format!("{OPT} 00000007 0000000a 00000004 'disk' 0000");
    for (options, holds) in [
        (format!("{set_disk} {go}"), true),
        (format!("{set_b} {go}"), false),
        (format!("{set_b} {set_disk} {go}"), true),
        // Also a choice that fails replaces the one before.
        (format!("{set_disk} {set_unknown} {go}"), false),
        (format!("{set_disk} {malformed} {go}"), false),
    ] {
        let run = run(&TWO, &format!("{MODERN} {STRUCTURED} {options}"));
        assert_eq!(run.step, negotiated(true, holds), "{options}");
    }
}

#[test]
fn meta_context_queries_that_do_not_add_up_are_invalid() {
    let malformed = "00000026 'the_data's_lengths_do_not_fit_together'";
    for data in [
        "00000000",
        "00000008 00000004 'disk'",
        "0000000c 00000004 'disk' 00000001",
        "0000000c 00000004 'disk' ffffffff",
        "00000014 00000004 'disk' 00000001 00000005 'base'",
        "0000000d 00000004 'disk' 00000000 00",
    ] {
        for option in ["00000009", "0000000a"] {
            answered(
                &ONE,
                &format!("{STRUCTURED} {OPT} {option} {data}"),
                &format!("{STRUCTURED_ACK} {REP} {option} 80000003 {malformed}"),
            );
        }
    }
    answered(
        &ONE,
        &format!("{STRUCTURED} {OPT} 00000009 0000000c 00000004 'disc' 00000000"),
        &format!("{STRUCTURED_ACK} {REP} 00000009 80000006 0000000e 'no_such_export'"),
    );
}

#[test]
fn clients_that_want_what_was_not_offered_are_closed() {
    let run = run(&ONE, "00000004");
    assert_eq!(run.step, Step::Close(CloseReason::ClientFlags(4)));
}

#[test]
fn what_is_no_option_closes() {
    let run = run(&ONE, &format!("{MODERN} 'GET_/_HT' 00000003 00000000"));
    assert_eq!(run.step, Step::Close(CloseReason::BadMagic(u64::from_be_bytes(*b"GET / HT"))));
}

#[test]
fn clients_without_fixed_newstyle_have_one_option() {
    let run = run(&ONE, &format!("00000002 {OPT} 00000003 00000000"));
    assert_eq!(run.step, Step::Close(CloseReason::NotFixedNewstyle(3)));
}

#[test]
fn negotiations_are_bounded() {
    let list = wire(&format!("{OPT} 00000003 00000000"));
    let start = wire(MODERN);
    let many = |limits: Limits| {
        let received = [start.clone(), list.repeat(20)].concat();
        run_in_pieces(&ONE, limits, &received, received.len())
    };
    // One export and the acknowledgement.
    let answer = 28 + 20;

    let run = many(Limits { options: 5, ..Limits::default() });
    assert_eq!(run.step, Step::Close(CloseReason::TooManyOptions));
    assert_eq!(run.sent.len(), 18 + 5 * answer);

    let run = many(Limits { total_bytes: 5 * 16, ..Limits::default() });
    assert_eq!(run.step, Step::Close(CloseReason::TooManyBytes));
    assert_eq!(run.sent.len(), 18 + 5 * answer);

    // A long option closes before any of it is taken.
    let received = [start.clone(), wire(&format!("{OPT} 0000000b ffffffff"))].concat();
    let run = run_in_pieces(&ONE, Limits::default(), &received, received.len());
    assert_eq!(run.step, Step::Close(CloseReason::TooManyBytes));

    // Answers are held back while enough waits to be sent.
    let mut handshake = Handshake::new(Limits { send_bytes: 100, ..Limits::default() });
    let mut input = BytesMut::from(&[start, list.repeat(20)].concat()[..]);
    let mut out = Vec::new();
    let mut sends = 0;
    while handshake.advance(&mut input, &ONE, &mut out) == Step::Send {
        assert!(out.len() < 100 + answer, "{} bytes wait", out.len());
        out.clear();
        sends += 1;
    }
    assert!(sends >= 20 * answer / (100 + answer), "{sends} times");
}

#[test]
fn long_lists_are_refused_whole() {
    let limits = Limits { list_bytes: 28 + 20, ..Limits::default() };
    let received = wire(&format!("{MODERN} {OPT} 00000003 00000000"));
    let run = run_in_pieces(&TWO, limits, &received, received.len());
    let refusal = format!("{REP} 00000003 80000009 00000018 'too_many_exports_to_list'");
    assert_eq!(run.sent.escape_ascii().to_string(), golden(&refusal));
    let run = run_in_pieces(&ONE, limits, &received, received.len());
    assert_eq!(run.sent.len(), 18 + 28 + 20);
}

#[test]
fn nothing_happens_after_the_end() {
    let mut handshake = Handshake::new(Limits::default());
    let mut input = BytesMut::from(&wire("ffffffff")[..]);
    let mut out = Vec::new();
    assert!(matches!(
        handshake.advance(&mut input, &ONE, &mut out),
        Step::Close(CloseReason::ClientFlags(_))
    ));
    out.clear();
    input.extend_from_slice(&wire(&format!("{MODERN} {STRUCTURED}")));
    assert_eq!(handshake.advance(&mut input, &ONE, &mut out), Step::Close(CloseReason::Over));
    assert!(out.is_empty());
}

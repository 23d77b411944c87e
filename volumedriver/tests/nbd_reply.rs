//! Golden bytes of replies.

mod nbd_wire;

use bytes::BytesMut;
use nbd_wire::wire;
use volumedriver::nbd::protocol::{Cookie, Errno, extent_flag};
use volumedriver::nbd::reply::{
    End, Extent, MAX_EXTENTS, Replies, block_status, data_chunk, done_chunk, error_chunk, hole_chunk, simple,
};

const COOKIE: Cookie = Cookie(0x1122_3344_5566_7788);

/// Bytes that `encode` appends.
fn appended(encode: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::from(&b"before"[..]);
    encode(&mut out);
    out.strip_prefix(b"before").expect("what was there stays").to_vec()
}

#[test]
fn simple_replies() {
    assert_eq!(simple(COOKIE, Ok(())).to_vec(), wire("67446698 00000000 1122334455667788"));
    for (error, number) in [
        (Errno::Permission, "00000001"),
        (Errno::Io, "00000005"),
        (Errno::Invalid, "00000016"),
        (Errno::NoSpace, "0000001c"),
        (Errno::Overflow, "0000004b"),
        (Errno::NotSupported, "0000005f"),
        (Errno::Shutdown, "0000006c"),
    ] {
        assert_eq!(simple(COOKIE, Err(error)).to_vec(), wire(&format!("67446698 {number} 1122334455667788")));
    }
}

#[test]
fn chunks() {
    assert_eq!(
        data_chunk(COOKIE, 0x0001_0000_0000, 4096, End::Done).to_vec(),
        wire("668e33ef 0001 0001 1122334455667788 00001008 0000000100000000")
    );
    assert_eq!(
        data_chunk(COOKIE, 512, 1, End::More).to_vec(),
        wire("668e33ef 0000 0001 1122334455667788 00000009 0000000000000200")
    );
    assert_eq!(
        hole_chunk(COOKIE, 4096, 0x2000, End::More).to_vec(),
        wire("668e33ef 0000 0002 1122334455667788 0000000c 0000000000001000 00002000")
    );
    assert_eq!(done_chunk(COOKIE).to_vec(), wire("668e33ef 0001 0000 1122334455667788 00000000"));
}

#[test]
fn error_chunks_carry_a_text() {
    assert_eq!(
        appended(|out| error_chunk(out, COOKIE, Errno::Io, "disk gone")),
        wire("668e33ef 0001 8001 1122334455667788 0000000f 00000005 0009 'disk_gone'")
    );
    // Cut between characters: 1 + 2 * 2047 is the longest that fits into 4096.
    let long = format!("a{}", "\u{e9}".repeat(3000));
    let reply = appended(|out| error_chunk(out, COOKIE, Errno::Io, &long));
    assert_eq!(reply[16..26], wire("00001005 00000005 0fff"));
    assert_eq!(std::str::from_utf8(&reply[26..]), Ok(&long[..4095]));
}

#[test]
fn block_status_is_one_chunk() {
    let extents = [
        Extent { length: 4096, flags: 0 },
        Extent { length: 0x8000_0000, flags: extent_flag::HOLE | extent_flag::ZERO },
    ];
    assert_eq!(
        appended(|out| block_status(out, COOKIE, &extents)),
        wire(
            "668e33ef 0001 0005 1122334455667788 00000014 00000001
             00001000 00000000 80000000 00000003"
        )
    );
    let many = vec![Extent { length: 512, flags: 0 }; MAX_EXTENTS + 1];
    let reply = appended(|out| block_status(out, COOKIE, &many));
    assert_eq!(reply.len(), 20 + 4 + 8 * MAX_EXTENTS);
    assert_eq!(reply[16..20], wire("00800004"));
}

#[test]
fn the_form_is_the_negotiated_one() {
    let ok = simple(COOKIE, Ok(())).to_vec();
    for replies in [Replies::Simple, Replies::Structured] {
        assert_eq!(appended(|out| replies.success(out, COOKIE)), ok);
    }
    assert_eq!(appended(|out| Replies::Simple.read(out, COOKIE, 0, 512)), ok);
    assert_eq!(appended(|out| Replies::Simple.read(out, COOKIE, 0, 0)), ok);
    assert_eq!(
        appended(|out| Replies::Structured.read(out, COOKIE, 8, 512)),
        data_chunk(COOKIE, 8, 512, End::Done)
    );
    assert_eq!(appended(|out| Replies::Structured.read(out, COOKIE, 8, 0)), done_chunk(COOKIE));
    assert_eq!(
        appended(|out| Replies::Simple.error(out, COOKIE, Errno::Io, "text")),
        simple(COOKIE, Err(Errno::Io))
    );
    assert_eq!(
        appended(|out| Replies::Structured.error(out, COOKIE, Errno::Io, "text")),
        appended(|out| error_chunk(out, COOKIE, Errno::Io, "text"))
    );
}

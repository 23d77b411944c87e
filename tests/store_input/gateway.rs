//! JSON that is broken, huge, of the wrong kind, or slow.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::client::{ANSWER, Member};

/// Status and body of an answer to `body`.
fn post(address: &str, path: &str, body: &[u8]) -> (u16, String) {
    let mut stream = open(address, path, body.len());
    // It may answer before it has taken all.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or_else(|| panic!("{path}: {answer:?}")), body.to_owned())
}

fn open(address: &str, path: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(ANSWER)).expect("a socket");
    stream.set_write_timeout(Some(ANSWER)).expect("a socket");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: store\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it takes the head");
    stream
}

#[test]
fn json_that_is_no_request_is_refused() {
    let mut member = Member::start("input-json", &[]);
    let deep = "[".repeat(100_000);
    let nested = r#"{"success":[{"request_txn":"#.repeat(60) + "{}" + &"}]}".repeat(60);
    let huge = format!(r#"{{"key":"YQ==","value":"{}"}}"#, "A".repeat(3 << 20));
    for (path, body, expected) in [
        ("/v3/kv/put", "{", 400),
        ("/v3/kv/put", "nonsense", 400),
        ("/v3/kv/put", r#"{"key":"a"}"#, 400),
        ("/v3/kv/put", r#"{"key":7}"#, 400),
        ("/v3/kv/put", r#"{"key":"!!!!"}"#, 400),
        ("/v3/kv/put", r#"{"key":"YQ==","lease":"many"}"#, 400),
        ("/v3/kv/put", r#"{"key":"YQ==","lease":99999999999999999999}"#, 400),
        ("/v3/kv/put", "", 400),
        ("/v3/kv/put", &deep, 400),
        ("/v3/kv/txn", &nested, 400),
        ("/v3/kv/put", &huge, 413),
        ("/v3/kv/range", r#"{"key":"YQ==","sort_order":"SIDEWAYS"}"#, 400),
        ("/v3/watch", r#"{"create_request":7}"#, 400),
        ("/v3/watch", "[[[[", 400),
        ("/v3/lease/keepalive", "{", 400),
        ("/v3/nothing", "{}", 404),
        // What etcd's gateway lets pass.
        ("/v3/kv/put", r#"{"key":"YQ==","value":"Yg==","colour":"red"}"#, 200),
        ("/v3/kv/put", r#"{"key":"YQ==","lease":null}"#, 200),
        ("/v3/kv/put", r#"{"key":"YQ=="} {"key":"YQ=="}"#, 200),
    ] {
        let (status, text) = post(member.address(), path, body.as_bytes());
        let shown = &body[..body.len().min(60)];
        assert_eq!(status, expected, "{path} {shown}: {text}");
        if status == 400 {
            assert!(text.contains("\"error\""), "{path} {shown}: {text}");
        }
    }
    let (status, _) = post(member.address(), "/v3/kv/put", b"\xff\xfe{}");
    assert_eq!(status, 400);
    member.assert_serves("JSON");
}

#[test]
fn bodies_that_never_come_hold_up_nobody() {
    let mut member = Member::start("input-slow", &[]);
    let mut slow: Vec<TcpStream> = (0..200).map(|_| open(member.address(), "/v3/kv/put", 1000)).collect();
    for stream in &mut slow {
        stream.write_all(b"{\"key\":").expect("it takes the beginning");
    }
    let halves: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(member.address()).expect("it listens");
            stream.write_all(b"PRI * HTTP/2.0\r\n").expect("it takes the beginning");
            stream
        })
        .collect();
    member.assert_serves("slow clients");
    drop((slow, halves));
    member.assert_serves("slow clients that are gone");
}

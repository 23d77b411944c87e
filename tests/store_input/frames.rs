//! Bytes that are no frames, and frames with bytes changed, on both ports.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::client::Member;
use crate::harness::random::Random;
use crate::harness::rounds;
use crate::raw::{connection, field, number};

/// Sends all of `bytes`, says that no more come, and reads until the other side ends it or was silent for a moment.
fn send(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let patience = Some(Duration::from_millis(20));
    stream.set_read_timeout(patience).expect("a socket");
    stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a socket");
    // It may end the connection at the first wrong byte.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = [0; 4096];
    while matches!(stream.read(&mut answer), Ok(count) if count > 0) {}
}

#[test]
fn random_bytes_and_changed_frames_harm_nobody() {
    let mut member = Member::start("input-frames", &[]);
    let (mut random, _) = Random::announced("input-frames");
    let put = [field(1, b"key"), field(2, &[7; 300])].concat();
    let append = [field(1, &[number(1, 7), number(2, 2), number(3, 1)].concat()), field(2, b"\x08\x05")];
    let valid = [
        connection("/etcdserverpb.KV/Put", &put),
        connection("/etcdserverpb.KV/Range", &field(1, b"key")),
        connection("/etcdserverpb.Watch/Watch", &field(1, &field(1, b"key"))),
        connection("/etcdserverpb.Lease/LeaseGrant", &number(1, 60)),
        connection("/ovs.store.v1.Peer/Append", &append.concat()),
        b"POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n\r\n\
          {\"key\":\"a2V5\",\"value\":\"YQ==\"}"
            .to_vec(),
    ];
    for round in 0..rounds(400, 20_000) {
        let mut bytes = match random.below(5) {
            0 => (0..random.below(3000)).map(|_| random.next() as u8).collect(),
            // Behind a sound beginning.
            1 => {
                let mut bytes = valid[0][..33].to_vec();
                bytes.extend((0..random.below(3000)).map(|_| random.next() as u8));
                bytes
            }
            _ => valid[random.below(valid.len() as u64) as usize].clone(),
        };
        for _ in 0..random.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                2 => bytes.truncate(at),
                _ => {
                    let piece = bytes[at..].to_vec();
                    bytes.extend(piece);
                }
            }
        }
        let address = if random.below(3) == 0 { member.peer_address() } else { member.address() };
        send(address, &bytes);
        if round % 100 == 99 {
            member.assert_serves(&format!("round {round}"));
        }
    }
    member.assert_serves("the last one");
}

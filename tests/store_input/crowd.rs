//! Many clients, and clients that do not take their answers.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use cfg_api::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::client::{ANSWER, Member, Requests, get, put};
use crate::raw::{connection, field, open_connection, request};

/// A watch stream with `count` watchers of the keys that begin with `key`; it lives as long as the sender.
async fn watch(
    channel: Channel,
    key: &'static str,
    count: usize,
) -> (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>) {
    let (sender, receiver) = mpsc::channel(count);
    for _ in 0..count {
        let range_end = format!("{key}\u{7f}").into();
        let create = pb::WatchCreateRequest { key: key.into(), range_end, ..Default::default() };
        let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        sender.send(create).await.expect("room for all");
    }
    let client = WatchClient::new(channel).max_decoding_message_size(16 << 20);
    let mut answers = { client }.watch(Requests(receiver)).await.expect("a stream").into_inner();
    for _ in 0..count {
        let created = next(&mut answers).await;
        assert!(created.created && !created.canceled, "{created:?}");
    }
    (sender, answers)
}

async fn next(answers: &mut Streaming<pb::WatchResponse>) -> pb::WatchResponse {
    let answer = timeout(ANSWER, answers.message()).await.expect("an answer in time");
    answer.expect("a stream that lives").expect("a stream that goes on")
}

/// 128 keys in one revision.
fn burst(round: usize) -> pb::TxnRequest {
    let put = |at| pb::request_op::Request::RequestPut(put(format!("burst{at}"), format!("{round:0100}")));
    let success = (0..128).map(|at| pb::RequestOp { request: Some(put(at)) }).collect();
    pb::TxnRequest { success, ..Default::default() }
}

#[test]
fn a_watcher_that_does_not_read_holds_up_nobody() {
    let mut member = Member::start("input-deaf", &[]);
    let (deaf, good, writing) = (member.channel(), member.channel(), member.channel());
    let rounds = 800;
    member.runtime.block_on(async {
        let (_deaf_sender, mut deaf) = watch(deaf, "burst", 10).await;
        let (_sender, mut answers) = watch(good, "burst", 1).await;
        let writer = tokio::spawn(async move {
            let mut kv = KvClient::new(writing);
            for round in 0..rounds {
                kv.txn(burst(round)).await.expect("a transaction");
            }
        });
        let mut events = 0;
        while events < rounds * 128 {
            events += next(&mut answers).await.events.len();
        }
        assert_eq!(events, rounds * 128);
        writer.await.expect("it does not panic");
        // It has lost nothing either: ten watchers, each all events.
        let mut late = 0;
        while late < 10 * rounds * 128 {
            late += next(&mut deaf).await.events.len();
        }
        assert_eq!(late, 10 * rounds * 128);
    });
    member.assert_serves("a watcher that did not read");
}

#[test]
fn a_client_that_takes_no_answers_holds_up_nobody() {
    let mut member = Member::start("input-full-pipe", &[]);
    let mut kv = KvClient::new(member.channel());
    member.runtime.block_on(kv.put(put("large", vec![7; 1 << 20]))).expect("a put");
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(member.address()).expect("it listens");
        stream.set_write_timeout(Some(ANSWER)).expect("a socket");
        let mut bytes = connection("/etcdserverpb.KV/Range", &field(1, b"large"));
        for call in 1..25 {
            bytes.extend(request(2 * call + 1, "/etcdserverpb.KV/Range", &field(1, b"large")));
        }
        stream.write_all(&bytes).expect("it takes requests");
        clients.push(stream);
    }
    member.assert_serves("100 answers of 1 MiB that nobody takes");
    drop(clients);
    member.assert_serves("those who took no answers");
}

#[test]
fn answers_that_nobody_takes_are_bounded_together() {
    let mut member = Member::start("input-untaken", &[]);
    let mut kv = KvClient::new(member.channel());
    member.runtime.block_on(kv.put(put("large", vec![7; 1 << 20]))).expect("a put");
    let mut stream = TcpStream::connect(member.address()).expect("it listens");
    stream.set_write_timeout(Some(ANSWER)).expect("a socket");
    let mut bytes = open_connection();
    for call in 0..200 {
        bytes.extend(request(2 * call + 1, "/etcdserverpb.KV/Range", &field(1, b"large")));
    }
    stream.write_all(&bytes).expect("it takes requests");
    member.settled_memory();
    member.assert_serves("200 answers of 1 MiB over one connection");
    let memory = member.settled_memory();
    // 258 MB if each waits alone.
    assert!(memory < 100 << 20, "{memory} bytes in memory");
}

#[test]
fn events_that_nobody_takes_are_bounded_together() {
    let mut member = Member::start("input-untaken-events", &[]);
    let (deaf, writing) = (member.wide_channel(), member.channel());
    let mut kv = KvClient::new(writing);
    let mut streams = Vec::new();
    member.runtime.block_on(async {
        for _ in 0..200 {
            streams.push(watch(deaf.clone(), "large", 1).await);
        }
        for round in 0..8 {
            kv.put(put("large", vec![round; 1 << 20])).await.expect("a put");
        }
        // Neither is a request over the same connection held up.
        let same =
            timeout(ANSWER, KvClient::new(deaf).max_decoding_message_size(4 << 20).range(get("large"))).await;
        assert_eq!(same.expect("an answer in time").expect("a read").into_inner().count, 1);
    });
    let memory = member.settled_memory();
    // 465 MB if each waits alone.
    assert!(memory < 100 << 20, "{memory} bytes in memory");
    // What waited is not lost.
    member.runtime.block_on(async {
        let hear = |(sender, mut answers): (mpsc::Sender<_>, Streaming<pb::WatchResponse>)| async move {
            let mut heard = Vec::new();
            while heard.len() < 8 {
                let events = next(&mut answers).await.events;
                heard.extend(events.iter().filter_map(|event| Some(event.kv.as_ref()?.value[0])));
            }
            assert_eq!(heard, [0, 1, 2, 3, 4, 5, 6, 7]);
            drop(sender);
        };
        for heard in streams.into_iter().map(hear).map(tokio::spawn).collect::<Vec<_>>() {
            heard.await.expect("all events, in order");
        }
    });
    member.assert_serves("200 watch streams that nobody read");
}

#[test]
fn ten_thousand_watchers_on_few_connections_all_hear_of_a_write() {
    let mut member = Member::start("input-watchers", &[]);
    let channels: Vec<Channel> = (0..4).map(|_| member.channel()).collect();
    let writing = member.channel();
    member.runtime.block_on(async {
        let mut streams = Vec::new();
        for channel in channels {
            streams.push(watch(channel, "burst", 2_500).await);
        }
        let mut kv = KvClient::new(writing);
        kv.put(put("burst", "1")).await.expect("a put");
        for (_sender, answers) in &mut streams {
            let mut heard = std::collections::BTreeSet::new();
            while heard.len() < 2_500 {
                let answer = next(answers).await;
                assert_eq!(answer.events.len(), 1);
                assert!(heard.insert(answer.watch_id), "watcher {} heard twice", answer.watch_id);
            }
        }
    });
    member.assert_serves("10,000 watchers");
}

#[test]
fn a_thousand_connections_are_served() {
    let mut member = Member::start("input-connections", &[]);
    let channels: Vec<Channel> = (0..1000).map(|_| member.channel()).collect();
    member.runtime.block_on(async {
        let asked: Vec<_> = channels
            .iter()
            .map(|channel| {
                let mut kv = KvClient::new(channel.clone());
                tokio::spawn(async move {
                    let mut request = Request::new(get("a"));
                    request.metadata_mut().insert("hasleader", "true".parse().expect("a value"));
                    timeout(ANSWER, kv.range(request)).await
                })
            })
            .collect();
        for asked in asked {
            asked.await.expect("no panic").expect("an answer in time").expect("a read");
        }
    });
    member.assert_serves("1,000 connections");
}

/// What the member has worked so far, in hundredths of a second.
fn cpu_ticks(member: &Member) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", member.running.pid())).expect("it is alive");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Behind the name come the state and ten others, then the time in the program and in the system.
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_server_without_descriptors_goes_on_when_it_has_some() {
    let mut member = Member::start("input-descriptors", &[]);
    let limited = Command::new("prlimit")
        .args(["--pid", &member.running.pid().to_string(), "--nofile=64:64"])
        .status()
        .expect("prlimit is part of every system");
    assert!(limited.success());
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(member.address()).expect("the backlog takes it"));
        held.push(TcpStream::connect(member.peer_address()).expect("the backlog takes it"));
    }
    let before = cpu_ticks(&member);
    // It has met its limit when one of them is not answered: an answer is 15 bytes of settings at least.
    let met = held.iter_mut().filter(|stream| stream.peer_addr().is_ok()).any(|stream| {
        use std::io::Read;
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket");
        stream.read(&mut [0; 9]).is_err()
    });
    assert!(met, "200 connections with 64 descriptors");
    // It waits between tries: two seconds of trying all the time would be up to 200 ticks.
    let ticks = cpu_ticks(&member) - before;
    assert!(ticks < 30, "{ticks} ticks of work with nothing to do");
    drop(held);
    member.assert_serves("a time without descriptors");
    let peer = TcpStream::connect(member.peer_address());
    assert!(peer.is_ok());
}

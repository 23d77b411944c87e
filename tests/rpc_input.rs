//! The admin RPC and clients that mean no good: documents that are wrong, huge, deep or never end, and many
//! connections. Each gets a fault, an HTTP error or a closed connection, while volumes and other clients are served.

mod cli_node;
mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cli_node::DataDir;
use harness::nbd::Client;
use harness::random::Random;
use serde_json::json;

/// How long an answer may take, whatever else goes on.
const PATIENCE: Duration = Duration::from_secs(20);

/// No I/O may take as long as this, whatever else goes on.
const STALL: Duration = Duration::from_secs(1);

/// A request as HTTP has it.
fn post(body: &str) -> String {
    format!(
        "POST /RPC2 HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A call without arguments that needs no cluster.
const LIST: &str = "<methodCall><methodName>system.listMethods</methodName></methodCall>";

struct Rpc(String);

impl Rpc {
    fn of(directory: &DataDir) -> Rpc {
        let url = directory.endpoints()["xmlrpc"].as_str().expect("a text").to_owned();
        Rpc(url.strip_prefix("http://").expect("no TLS").split('/').next().expect("an address").to_owned())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.0).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time");
        stream
    }

    /// What comes back for these bytes until the connection ends, which it does in time.
    #[track_caller]
    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be closed before it took all.
        let _ = stream.write_all(bytes);
        end_of(stream)
    }

    #[track_caller]
    fn is_well(&self) {
        let said = self.say(post(LIST).as_bytes());
        assert!(said.contains("volumeCreate") && said.contains("200 OK"), "{said}");
    }
}

#[track_caller]
fn end_of(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("no answer and no end: {error}"),
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn call(method: &str, value: &str) -> String {
    format!(
        "<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params><param>{value}</param>\
         </params></methodCall>"
    )
}

fn member(name: &str, value: &str) -> String {
    format!("<member><name>{name}</name><value>{value}</value></member>")
}

/// Documents that are wrong, and a part of what is said of each.
fn wrong_documents(directory: &DataDir) -> Vec<(String, &'static str)> {
    let bomb = format!(
        "<!DOCTYPE x [<!ENTITY a \"lol\">{}]>{}",
        (1..10).map(|level| format!("<!ENTITY a{level} \"{}\">", "&a;".repeat(10))).collect::<String>(),
        call("volumeInfo", "<value>&a9;</value>")
    );
    let wide = format!("<value><array><data>{}</data></array></value>", "<value/>".repeat(30_000));
    let closed = "<value><array><data>".repeat(40) + &"</data></array></value>".repeat(40);
    let members = "<member><name>a</name><value>b</value></member>".repeat(5000);
    let cluster = directory.endpoints()["vrouter_cluster_id"].as_str().expect("a text").to_owned();
    let own = member("vrouter_cluster_id", &cluster);
    let name = format!("<value><struct>{own}{}</struct></value>", member("volume_id", &"x".repeat(200_000)));
    let info = |value: &str| call("volumeInfo", value);
    vec![
        (bomb, "a document type"),
        (info(&"<value><array><data>".repeat(10_000)), "64 elements"),
        (info(&closed), "64 elements"),
        (info("<value>&unknown;</value>"), "is not a methodCall"),
        (info("<value><nil/></value>"), "is not a methodCall"),
        (info("<value><i4>99999999999</i4></value>"), "is not a methodCall"),
        (info("<value><int>x</int></value>"), "is not a methodCall"),
        (info(&wide), "must be a struct"),
        (info(&format!("<value><struct>{members}</struct></value>")), "vrouter_cluster_id not present"),
        (String::new(), "is not a methodCall"),
        ("{}".to_owned(), "is not a methodCall"),
        ("<methodCall>".to_owned(), "is not a methodCall"),
        ("<methodCall><methodName>x</methodName".to_owned(), "does not end"),
        ("<methodResponse/>".to_owned(), "is not a methodCall"),
        (call("a&#1;b", "<value/>"), "unknown method name"),
        (info(&name), "there is no volume xxx"),
    ]
}

#[test]
fn documents_that_are_wrong_get_a_fault() {
    let directory = DataDir::small();
    let _node = directory.up(&[]);
    let rpc = Rpc::of(&directory);
    for (body, part) in wrong_documents(&directory) {
        let begun = Instant::now();
        let said = rpc.say(post(&body).as_bytes());
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
        assert!(said.contains("<fault>") || said.contains("xmlrpc_error_code"), "{part}: {said}");
        assert!(said.contains(part), "{part}: {said}");
        assert!(said.len() < 1000 && !said.contains('\u{1}'), "{said}");
        assert!(begun.elapsed() < PATIENCE, "{part}: {:?}", begun.elapsed());
    }
    rpc.is_well();
}

/// All at once: documents that are wrong, as fast as eight clients send them, and slow clients on most connections.
#[test]
fn bad_input_of_all_kinds_stalls_no_io() {
    let directory = DataDir::small();
    let _node = directory.up(&["--volume", "one=8MiB"]);
    let rpc = Rpc::of(&directory);
    let documents = wrong_documents(&directory);
    let mut requests: Vec<String> = documents.iter().map(|(body, _)| post(body)).collect();
    requests.extend([post(&" ".repeat(2 << 20)), "nonsense\r\n\r\n".to_owned()]);
    let part = &post(LIST)[..40];
    let slow: Vec<TcpStream> = (0..480)
        .map(|_| {
            let mut stream = rpc.connect();
            stream.write_all(part.as_bytes()).expect("sent");
            stream
        })
        .collect();
    let mut client = volume_client(&directory);
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut worst, mut done) = (Duration::ZERO, 0);
    std::thread::scope(|scope| {
        for first in 0..8 {
            let (rpc, requests, over, sent) = (&rpc, &requests, &over, &sent);
            scope.spawn(move || {
                for request in requests.iter().cycle().skip(2 * first) {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    rpc.say(request.as_bytes());
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _end = SetAtEnd(&over);
        let end = Instant::now() + 3 * PATIENCE;
        while done < 1000 || sent.load(Ordering::Relaxed) < 3 * requests.len() {
            assert!(Instant::now() < end, "{done} writes and reads beside {sent:?} bad requests");
            worst = worst.max(write_and_read(&mut client, done));
            done += 1;
        }
    });
    println!("{done} writes and reads beside {sent:?} bad requests; the slowest took {worst:?}");
    assert!(worst < STALL, "an I/O took {worst:?}");
    drop(slow);
    rpc.is_well();
}

/// Ends what looks at a flag, also when the test fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client of the volume `one`.
fn volume_client(directory: &DataDir) -> Client {
    let nbd = directory.endpoints()["nbd"].as_str().expect("a text").to_owned();
    Client::open(nbd.strip_prefix("nbd://").expect("a URL"), "one", PATIENCE).expect("opened")
}

/// Writes a block and reads it back; the time that the slower of both took.
#[track_caller]
fn write_and_read(client: &mut Client, number: u64) -> Duration {
    let (at, data) = ((number % 128) << 12, [number as u8; 4096]);
    let begun = Instant::now();
    assert_eq!(client.write(at, &data), Ok(()));
    let written = begun.elapsed();
    assert_eq!(client.read(at, 4096), Ok(data.to_vec()));
    written.max(begun.elapsed() - written)
}

#[test]
fn what_is_no_request_gets_an_http_error() {
    let directory = DataDir::small();
    directory.configure("xmlrpc", &json!({"xmlrpc_read_timeout_ms": 2000}));
    let _node = directory.up(&[]);
    let rpc = Rpc::of(&directory);
    let large = post(&" ".repeat(2 << 20));
    let promise =
        "POST /RPC2 HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n<methodCall>".to_owned();
    let chunks = format!(
        "POST /RPC2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        format!("10000\r\n{}\r\n", " ".repeat(0x10000)).repeat(20)
    );
    let heads = format!("POST /RPC2 HTTP/1.1\r\n{}", format!("X: {}\r\n", "y".repeat(1000)).repeat(1000));
    for (request, status) in [
        (large.as_str(), "413"),
        (&promise, "408"),
        (&chunks, "413"),
        ("GET /RPC2 HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        (&post(LIST).replace("/RPC2", "/elsewhere"), "404"),
        (&heads, "4"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03", ""),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let said = rpc.say(request.as_bytes());
        let expected = format!("HTTP/1.1 {status}");
        assert!(said.is_empty() || said.starts_with(&expected), "{status}: {said}");
    }
    // The path that Python takes when none is given, and the one that is told.
    assert!(rpc.say(post(LIST).replace("/RPC2", "/").as_bytes()).contains("volumeCreate"));
    rpc.is_well();
}

#[test]
fn mutated_requests_never_harm() {
    let directory = DataDir::small();
    let _node = directory.up(&["--volume", "one=1MiB"]);
    let rpc = Rpc::of(&directory);
    let cluster = directory.endpoints()["vrouter_cluster_id"].as_str().expect("a text").to_owned();
    let whole = call(
        "volumeInfo",
        &format!(
            "<value><struct>{}{}</struct></value>",
            member("vrouter_cluster_id", &cluster),
            member("volume_id", "<string>one</string>")
        ),
    );
    assert!(rpc.say(post(&whole).as_bytes()).contains("_namespace_"));
    let (mut random, _) = Random::announced("rpc_input");
    for _ in 0..harness::rounds(300, 20_000) {
        let mut body = whole.clone().into_bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(body.len() as u64) as usize;
            match random.below(4) {
                0 => body[at] = random.below(256) as u8,
                1 => drop(body.remove(at)),
                2 => body.truncate(at + 1),
                _ => {
                    let to = (at + random.below(64) as usize).min(body.len());
                    let piece = body[at..to].to_vec();
                    body.splice(at..at, piece);
                }
            }
        }
        let head = format!("POST /RPC2 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        let said = rpc.say(&[head.as_bytes(), &body].concat());
        assert!(said.contains("<fault>") || said.contains("<params>"), "{said}");
    }
    rpc.is_well();
}

/// 512 connections: some say nothing, some part of the head, some part of the body.
fn slow(rpc: &Rpc, request: &str) -> Vec<TcpStream> {
    let begin = |number: usize| {
        let mut stream = rpc.connect();
        let part = [0, 20, request.len() - 7][number % 3];
        stream.write_all(&request.as_bytes()[..part]).expect("sent");
        stream
    };
    (0..512).map(begin).collect()
}

#[test]
fn slow_clients_and_512_connections_hold_up_no_volume() {
    let directory = DataDir::small();
    // None of them is sent away as long as this test may take.
    directory.configure("xmlrpc", &json!({"xmlrpc_read_timeout_ms": 600_000}));
    let _node = directory.up(&["--volume", "one=8MiB"]);
    let rpc = Rpc::of(&directory);
    let mut client = volume_client(&directory);
    let _slow = slow(&rpc, &post(LIST));
    // I/O goes on as if nobody were there.
    let worst = (0..200).map(|number| write_and_read(&mut client, number)).max().expect("some");
    assert!(worst < STALL, "an I/O took {worst:?}");
}

#[test]
fn slow_clients_are_sent_away() {
    let directory = DataDir::small();
    directory.configure("xmlrpc", &json!({"xmlrpc_read_timeout_ms": 3000}));
    let _node = directory.up(&[]);
    let rpc = Rpc::of(&directory);
    let mut slow = slow(&rpc, &post(LIST));
    // One more waits until those are sent away, and not longer.
    rpc.is_well();
    let said: Vec<String> = slow.drain(..).map(end_of).collect();
    assert!(said.iter().all(|said| said.is_empty() || said.contains("408")), "{said:?}");
    // A client that takes its time but says something now and then is not waited for either.
    let request = post(&format!("{LIST}{}", " ".repeat(1000)));
    let mut stream = rpc.connect();
    let drip = request.as_bytes().iter().find(|byte| {
        std::thread::park_timeout(Duration::from_millis(100));
        stream.write_all(&[**byte]).is_err()
    });
    assert!(drip.is_some(), "it could say all, which takes more than 100 s");
    rpc.is_well();
}

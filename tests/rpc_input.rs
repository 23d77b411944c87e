//! The admin RPC and clients that mean no good: documents that are wrong, huge, deep or never end, and many
//! connections. Each gets a fault, an HTTP error or a closed connection, while volumes and other clients are served.

mod cli_node;
mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cli_node::DataDir;
use harness::nbd::Client;
use harness::random::Random;
use serde_json::json;

/// How long an answer may take, whatever else goes on.
const PATIENCE: Duration = Duration::from_secs(20);

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

#[test]
fn documents_that_are_wrong_get_a_fault() {
    let directory = DataDir::small();
    let _node = directory.up(&[]);
    let rpc = Rpc::of(&directory);
    let bomb = format!(
        "<!DOCTYPE x [<!ENTITY a \"lol\">{}]>{}",
        (1..10).map(|level| format!("<!ENTITY a{level} \"{}\">", "&a;".repeat(10))).collect::<String>(),
        call("volumeInfo", "<value>&a9;</value>")
    );
    let deep = call("volumeInfo", &"<value><array><data>".repeat(10_000));
    let closed = "<value><array><data>".repeat(40) + &"</data></array></value>".repeat(40);
    let wide = call(
        "volumeInfo",
        &format!("<value><array><data>{}</data></array></value>", "<value/>".repeat(30_000)),
    );
    let members = "<member><name>a</name><value>b</value></member>".repeat(5000);
    for (body, part) in [
        (bomb.as_str(), "a document type"),
        (&deep, "64 elements"),
        (&call("volumeInfo", &closed), "64 elements"),
        (&call("volumeInfo", "<value>&unknown;</value>"), "is not a methodCall"),
        (&call("volumeInfo", "<value><nil/></value>"), "is not a methodCall"),
        (&call("volumeInfo", "<value><i4>99999999999</i4></value>"), "is not a methodCall"),
        (&call("volumeInfo", "<value><int>x</int></value>"), "is not a methodCall"),
        (&wide, "must be a struct"),
        (
            &call("volumeInfo", &format!("<value><struct>{members}</struct></value>")),
            "vrouter_cluster_id not present",
        ),
        ("", "is not a methodCall"),
        ("{}", "is not a methodCall"),
        ("<methodCall>", "is not a methodCall"),
        ("<methodCall><methodName>x</methodName", "does not end"),
        ("<methodResponse/>", "is not a methodCall"),
        (&call("a&#1;b", "<value/>"), "unknown method name"),
    ] {
        let begun = Instant::now();
        let said = rpc.say(post(body).as_bytes());
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
        assert!(said.contains("<fault>") && said.contains(part), "{part}: {said}");
        assert!(said.len() < 1000 && !said.contains('\u{1}'), "{said}");
        assert!(begun.elapsed() < PATIENCE, "{part}: {:?}", begun.elapsed());
    }
    rpc.is_well();
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
    let member =
        |name: &str, value: &str| format!("<member><name>{name}</name><value>{value}</value></member>");
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
    let nbd = directory.endpoints()["nbd"].as_str().expect("a text").to_owned();
    let address = nbd.strip_prefix("nbd://").expect("a URL");
    let mut client = Client::open(address, "one", PATIENCE).expect("opened");
    let _slow = slow(&rpc, &post(LIST));
    for block in 0..200_u64 {
        assert_eq!(client.write((block % 128) << 12, &[block as u8; 4096]), Ok(()));
        assert_eq!(client.read((block % 128) << 12, 4096), Ok(vec![block as u8; 4096]));
    }
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

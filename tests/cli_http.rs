//! The HTTP surfaces of a node: metrics and health on TCP, the admin API on its unix socket.

mod cli_node;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use cli_node::DataDir;
use serde_json::{Value, json};

/// Sends `request` and returns everything up to the end of the connection.
fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

fn http(directory: &DataDir) -> TcpStream {
    let endpoints = directory.endpoints();
    let address = endpoints["http"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address");
    TcpStream::connect(address).expect("connected")
}

fn get(directory: &DataDir, path: &str) -> String {
    exchange(http(directory), &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

fn admin(directory: &DataDir, method: &str, path: &str, body: &str) -> (u16, Value) {
    let stream = UnixStream::connect(directory.path("admin.sock")).expect("connected");
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
    let answer = exchange(stream, &request);
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status, serde_json::from_str(body).unwrap_or(json!(body)))
}

#[test]
fn metrics_and_health_are_there_and_nothing_else() {
    let directory = DataDir::small();
    let node = directory.up(&["--volume", "a=1MiB"]);
    assert!(get(&directory, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(&directory, "/readyz").starts_with("HTTP/1.1 200"));
    let metrics = get(&directory, "/metrics");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\novs_ready 1\n") && metrics.contains("ovs_build_info{version="), "{metrics}");
    for path in ["/", "/v1/volumes", "/metrics/x"] {
        assert!(get(&directory, path).starts_with("HTTP/1.1 404"), "{path}");
    }
    node.stop();
}

#[test]
fn a_client_that_sends_nothing_is_closed() {
    let directory = DataDir::small();
    directory.configure("http", &json!({"http_read_timeout_ms": 2000}));
    let node = directory.up(&[]);
    let mut stream = http(&directory);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").expect("sent");
    let mut answer = Vec::new();
    // Comes back only when the server gives up.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    let mut stream = UnixStream::connect(directory.path("admin.sock")).expect("connected");
    stream.write_all(b"POST /v1/volumes HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    node.stop();
}

#[test]
fn connections_over_the_limit_wait_for_their_turn() {
    let directory = DataDir::small();
    directory.configure("http", &json!({"http_max_connections": 1, "http_read_timeout_ms": 2000}));
    let node = directory.up(&[]);
    let idle = http(&directory);
    // Answered after the idle one has been closed.
    assert!(get(&directory, "/healthz").starts_with("HTTP/1.1 200"));
    drop(idle);
    node.stop();
}

#[test]
fn the_admin_api_refuses_what_it_does_not_know() {
    let directory = DataDir::small();
    let node = directory.up(&[]);
    let kind =
        |answer: &(u16, Value)| (answer.0, answer.1["error"]["kind"].as_str().unwrap_or("").to_owned());
    let refused = |method: &str, path: &str, body: &str| kind(&admin(&directory, method, path, body));
    let expect = |status: u16, kind: &str| (status, kind.to_owned());
    assert_eq!(refused("GET", "/v2/volumes", ""), expect(400, "bad_request"));
    assert_eq!(refused("POST", "/v1/volumes", "{"), expect(400, "bad_request"));
    assert_eq!(refused("POST", "/v1/volumes", r#"{"name":"a"}"#), expect(400, "bad_request"));
    assert_eq!(
        refused("POST", "/v1/volumes", r#"{"name":"a","size":4096,"x":1}"#),
        expect(400, "bad_request")
    );
    assert_eq!(refused("POST", "/v1/volumes", r#"{"name":"a/b","size":4096}"#), expect(422, "invalid"));
    assert_eq!(refused("POST", "/v1/volumes", r#"{"name":"a","size":0}"#), expect(422, "invalid"));
    assert_eq!(refused("GET", "/v1/volumes/%2e%2e", ""), expect(404, "not_found"));
    assert_eq!(admin(&directory, "POST", "/v1/volumes", &" ".repeat(65 << 10)).0, 413);
    assert_eq!(admin(&directory, "POST", "/v1/volumes", r#"{"name":"a","size":4096}"#).0, 201);
    assert_eq!(refused("POST", "/v1/volumes", r#"{"name":"a","size":4096}"#), expect(409, "exists"));
    assert_eq!(admin(&directory, "GET", "/v1/volumes", "").1[0]["name"], json!("a"));
    node.stop();
}

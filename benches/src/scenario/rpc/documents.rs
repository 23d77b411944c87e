//! What bad clients send.

use std::fmt::Write;

/// What is expected for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// An XML-RPC fault or error, or faults inside the answer to many calls.
    Fault,
    /// A status from 400 to 499.
    Refusal,
    /// A refusal, or the end of the connection.
    RefusalOrEnd,
}

/// One kind of bad request.
#[derive(Clone, Debug)]
pub(super) struct Bad {
    /// What is wrong with it.
    pub(super) name: &'static str,
    /// All bytes of it.
    pub(super) bytes: Vec<u8>,
    /// How it ends.
    pub(super) expected: Expected,
}

/// Most bytes of a document that is to be read: a little less than `xmlrpc_request_limit` allows by itself.
const LONG: usize = 250 << 10;

/// A request as HTTP has it.
pub(super) fn post(body: &str) -> Vec<u8> {
    let head = "POST /RPC2 HTTP/1.1\r\nHost: bench\r\nContent-Type: text/xml\r\nContent-Length";
    format!("{head}: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn call(method: &str, value: &str) -> String {
    format!(
        "<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params><param><value>{value}</value>\
         </param></params></methodCall>"
    )
}

fn member(name: &str, value: &str) -> String {
    format!("<member><name>{name}</name><value>{value}</value></member>")
}

/// As many of `piece` as are `LONG`.
fn many(piece: &str) -> String {
    piece.repeat(LONG / piece.len())
}

/// All kinds, each about as often as any other. `cluster` is what a request has to name.
pub(super) fn all(cluster: &str) -> Vec<Bad> {
    let structure = |members: &str| format!("<struct>{members}</struct>");
    let array = |values: &str| format!("<array><data>{values}</data></array>");
    let own = member("vrouter_cluster_id", cluster);
    let mut bomb = "<!DOCTYPE x [<!ENTITY a \"lol\">".to_string();
    for level in 1..10 {
        let inside = if level == 1 { "&a;".to_string() } else { format!("&a{};", level - 1) };
        let _ = write!(bomb, "<!ENTITY a{level} \"{}\">", inside.repeat(10));
    }
    let bomb = format!("{bomb}]>{}", call("volumeInfo", "&a9;"));
    // Each of them names no method that there is.
    let unknown = structure(&(member("methodName", "no.method") + &member("params", &array(""))));
    let fault = |name, body: &str| Bad { name, bytes: post(body), expected: Expected::Fault };
    let other = |name, bytes, expected| Bad { name, bytes, expected };
    vec![
        fault("entities inside entities", &bomb),
        fault("10,000 elements inside each other", &call("volumeInfo", &many("<value><array><data>"))),
        fault("an array of 250 KiB", &call("volumeInfo", &array(&many("<value/>")))),
        fault(
            "a struct of 250 KiB",
            &call("volumeInfo", &structure(&(own.clone() + &many(&member("a", "b"))))),
        ),
        fault(
            "a text of 250 KiB for a name",
            &call("volumeInfo", &structure(&(own.clone() + &member("volume_id", &many("x"))))),
        ),
        fault(
            "1,000 calls in one, none known",
            &call("system.multicall", &array(&format!("<value>{unknown}</value>").repeat(1000))),
        ),
        fault(
            "a number for a text",
            &call("volumeInfo", &structure(&(own + &member("volume_id", "<i4>7</i4>")))),
        ),
        fault("a value of no type", &call("volumeInfo", "<nil/>")),
        fault("another cluster", &call("volumesList", &structure(&member("vrouter_cluster_id", "none")))),
        fault("no argument", &call("volumesList", "")),
        fault("an unknown method", &call("no.method", "")),
        fault("no XML", "\u{1}\u{2} { nonsense"),
        other("2 MiB", post(&" ".repeat(2 << 20)), Expected::RefusalOrEnd),
        other(
            "another path",
            b"POST /x HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Expected::Refusal,
        ),
        other(
            "no HTTP",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n".to_vec(),
            Expected::RefusalOrEnd,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_as_large_as_can_be_and_no_larger_than_is_taken() {
        let all = all("cluster");
        let length = |part: &str| {
            let found = all.iter().find(|bad| bad.name.contains(part));
            found.map(|bad| bad.bytes.len()).unwrap_or_else(|| panic!("no {part}"))
        };
        for part in ["array of", "struct of", "text of"] {
            assert!((240 << 10..256 << 10).contains(&length(part)), "{part}: {}", length(part));
        }
        assert!(all.iter().all(|bad| bad.expected != Expected::Fault || bad.bytes.len() < 256 << 10));
        assert!(length("2 MiB") > 2 << 20);
        let inside = String::from_utf8_lossy(&all[0].bytes).into_owned();
        assert_eq!(inside.matches("&a8;").count(), 10, "each level has ten of the one before");
    }
}

//! Arguments of `ovs cfg run` that make no sense.

use std::time::Duration;

use crate::harness::place::Place;
use crate::harness::process::run;

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let place = Place::new("input-arguments");
    let directory = place.root().to_str().expect("a readable path").to_owned();
    let cases: [(&[&str], &str); 17] = [
        (&["--client-urls", "127.0.0.1:2379"], "is no http:// URL"),
        (&["--client-urls", "https://127.0.0.1:2379"], "is no http:// URL"),
        (&["--client-urls", "http://127.0.0.1"], "give http://HOST:PORT"),
        (&["--client-urls", "http://127.0.0.1:70000"], "give http://HOST:PORT"),
        (&["--client-urls", "http://127.0.0.1:1/path"], "give http://HOST:PORT"),
        (&["--peer-urls", "http://"], "give http://HOST:PORT"),
        (&["--client-urls", "http://0.0.0.0:0"], "add --insecure"),
        (&["--peer-urls", "http://[::]:0"], "add --insecure"),
        (&["--name", "x", "--initial-cluster", "a=http://127.0.0.1:1"], "names no member \"x\""),
        (&["--initial-cluster", "http://127.0.0.1:1"], "is no NAME=URL"),
        (&["--initial-cluster", "default=127.0.0.1:1"], "is no http:// URL"),
        (&["--initial-cluster", "default=http://127.0.0.1:1", "--join", "http://127.0.0.1:1"], "not both"),
        (&["--learner"], "--join"),
        (&["--heartbeat", "400", "--election-timeout", "600"], "at most a third"),
        (&["--quota", "much"], "--quota"),
        (&["--auto-compaction-retention", "1h"], "number of revisions"),
        (&["--auto-compaction-mode", "periodic"], "needs --auto-compaction-retention"),
    ];
    for (arguments, expected) in cases {
        let all = [&["cfg", "run", "--data-dir", &directory][..], arguments].concat();
        let done = run(env!("CARGO_BIN_EXE_ovs"), &all, Duration::from_secs(30));
        assert_eq!(done.code(), 2, "{arguments:?}: {}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(expected), "{arguments:?}: {}", done.stderr);
        let lines = done.stderr.trim_end().lines().count();
        assert!(lines <= 2, "{arguments:?}: {}", done.stderr);
    }
}

//! `ovs config` against an etcd of its own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::process::{Command, Stdio};

use crate::cli_node::{Printed, ended, ovs};
use crate::etcd::Cluster;
use serde_json::Value;

/// A store, and the command that talks to it.
pub(crate) struct ConfigStore {
    /// Its only member.
    pub(crate) cluster: Cluster,
}

impl ConfigStore {
    /// A new one, empty.
    pub(crate) fn start() -> ConfigStore {
        ConfigStore { cluster: Cluster::start(1) }
    }

    /// `ovs config …` on this store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ovs(&["config"]);
        command.args(arguments).env("OVS_ENDPOINT", format!("etcd://{}", self.cluster.endpoints[0]));
        command
    }

    /// Runs a command that shall end with `code`.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str], code: i32) -> Printed {
        ended(self.command(arguments), code)
    }

    /// Runs a command that shall succeed; returns its output as JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat(), 0).json()
    }

    /// Runs a command that shall succeed; returns what it printed.
    #[track_caller]
    pub(crate) fn out(&self, arguments: &[&str]) -> String {
        self.run(arguments, 0).out
    }

    /// Stores a value, and returns the revision.
    #[track_caller]
    pub(crate) fn set(&self, key: &str, value: &str) -> i64 {
        self.json(&["set", key, value])["revision"].as_i64().expect("a revision")
    }

    /// Runs a command that reads `input`.
    #[track_caller]
    pub(crate) fn fed(&self, arguments: &[&str], input: &[u8], code: i32) -> Printed {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that refuses its arguments ends before it has read everything.
        let _ = stdin.write_all(input);
        drop(stdin);
        let output = child.wait_with_output().expect("ended");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let printed = Printed { out: text(&output.stdout), err: text(&output.stderr) };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{}", printed.out, printed.err);
        printed
    }
}

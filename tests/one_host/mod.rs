//! One driver of a vPool with its documents in a store of the test.
#![allow(dead_code, reason = "each test file uses its part")]

use serde_json::{Value, json};

use crate::cli_node::{DataDir, Driver, Printed, ended, ovs};
use crate::harness::cfg::{Running, Server};
use crate::harness::place::Place;
use crate::harness::tree::Tree;

/// The vPool.
pub(crate) const VPOOL: &str = "pool";
/// Where the host has its keys.
pub(crate) const BASE: &str = "/ovs/vpools/pool/hosts/one";

/// See the module.
pub(crate) struct OneHost {
    /// What is stored.
    pub(crate) tree: Tree,
    /// The store.
    pub(crate) server: Running,
    /// The data directory.
    pub(crate) directory: DataDir,
    /// The process, if it runs.
    pub(crate) driver: Option<Driver>,
    updates: u32,
    _place: Place,
}

/// Documents that a host can begin with: little to allocate.
pub(crate) fn small() -> [(&'static str, Value); 2] {
    [
        ("scocache", json!({"segment_size": "1MiB", "reserve_size": "16MiB", "segments_ready_min": 1})),
        ("volume_manager", json!({"run_size": "1MiB", "data_threads": 1})),
    ]
}

impl OneHost {
    /// One that runs.
    pub(crate) fn start(server: Server) -> OneHost {
        let place = server.place("host");
        let server = server.start(place.root(), "store");
        OneHost::on(server, place)
    }

    /// One that runs, on this store.
    pub(crate) fn on(server: Running, place: Place) -> OneHost {
        let tree = Tree::open(&server.client_url);
        let directory = DataDir::new();
        let mut host = OneHost { tree, server, directory, driver: None, updates: 0, _place: place };
        let documents = small().map(|(section, document)| {
            (format!("{BASE}/config/{section}"), Some(document.to_string().into_bytes()))
        });
        host.tree.write(&documents);
        host.begin();
        host
    }

    /// The URL of the documents.
    pub(crate) fn url(&self) -> String {
        format!("{}{BASE}/config", self.server.client_url.replace("http://", "etcd://"))
    }

    /// Starts the process, and waits until it is ready.
    pub(crate) fn begin(&mut self) {
        self.driver = Some(Driver::start(&self.directory, &self.url(), &[]));
    }

    /// Ends the process as an operator does.
    pub(crate) fn end(&mut self) {
        let mut driver = self.driver.take().expect("it runs");
        driver.signal("TERM");
        assert_eq!(driver.wait().code(), Some(0));
    }

    /// Writes one document as it is.
    pub(crate) fn put(&self, section: &str, document: impl Into<Vec<u8>>) -> i64 {
        self.tree.put(&format!("{BASE}/config/{section}"), document)
    }

    /// Asks for an update under a new id, and gives the answer.
    #[track_caller]
    pub(crate) fn update(&mut self) -> Value {
        self.updates += 1;
        self.update_as(&json!({"id": format!("u{}", self.updates)}))
    }

    /// Writes the update key, and gives the answer.
    #[track_caller]
    pub(crate) fn update_as(&self, update: &Value) -> Value {
        self.tree.update(&format!("{BASE}/update"), update, BASE)
    }

    /// The status of the process that runs, as soon as `chosen` likes it.
    #[track_caller]
    pub(crate) fn status(&self, mut chosen: impl FnMut(&Value) -> bool) -> Value {
        let pid = self.driver.as_ref().expect("it runs").pid();
        self.tree.awaited(&format!("{BASE}/status"), |status| {
            (status["pid"] == pid && chosen(status)).then(|| status.clone())
        })
    }

    /// The status, once it tells of this answer.
    #[track_caller]
    pub(crate) fn status_after(&self, feedback: &Value) -> Value {
        self.status(|status| status["last_feedback"] == feedback["id"])
    }

    /// `ovs config …`
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str], code: i32) -> Printed {
        let mut command = ovs(&["config"]);
        command.args(arguments).env("OVS_ENDPOINT", self.server.client_url.replace("http://", "etcd://"));
        ended(command, code)
    }

    /// What the process logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path("log")).expect("the log")
    }
}

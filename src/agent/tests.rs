//! The agent on a real store, with components that do not do what they should.

#[path = "../../cfg/client/tests/etcd/mod.rs"]
mod etcd;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use cfg_client::{Error, Item, LastGood, StoreUrl, Transaction, Write};
use cfg_engine::{Broken, Feedback, Mixed, Options, Outcome, Runs, Source, Status};
use cfg_schema::{Change, Documents, Problem};
use cfg_store::{ApiOptions, Beginning, RaftOptions, Server};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::component::Prepared;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// What a component does with the next update.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    PanicsInPrepare,
    PanicsInCommit,
    /// Prepares until the gate opens.
    Waits,
}

/// What happens to all components.
#[derive(Debug, Default)]
struct Planted {
    /// What the component that fails does next; nothing: what it should.
    next: VecDeque<Does>,
    gate: bool,
    notes: Vec<&'static str>,
}

/// Shared with a test, which waits for what is noted.
#[derive(Clone, Debug, Default)]
struct Board(Arc<(Mutex<Planted>, Condvar)>);

impl Board {
    fn change(&self, change: impl FnOnce(&mut Planted)) {
        // Also while a test that failed is unwound.
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }

    fn until<T>(&self, mut chosen: impl FnMut(&mut Planted) -> Option<T>) -> T {
        let mut planted = self.0.0.lock().expect("no panic");
        loop {
            if let Some(found) = chosen(&mut planted) {
                return found;
            }
            let (next, timed_out) = self.0.1.wait_timeout(planted, PATIENCE).expect("no panic");
            assert!(!timed_out.timed_out(), "{next:?}");
            planted = next;
        }
    }

    /// Waits until exactly this was noted, and forgets it.
    async fn notes(&self, expected: &'static [&'static str]) {
        let board = self.clone();
        let wait = move || board.until(|planted| (planted.notes == expected).then(|| planted.notes.clear()));
        spawn_blocking(wait).await.expect("noted");
    }

    /// The same in any order: so many changes were committed, and so many undone.
    async fn tally(&self, committed: usize, undone: usize) {
        let board = self.clone();
        let count = |notes: &[&str], what: &str| notes.iter().filter(|note| **note == what).count();
        let wait = move || {
            board.until(|planted| {
                let notes = &planted.notes;
                let found = (count(notes, "committed"), count(notes, "undone"), notes.len());
                (found == (committed, undone, committed + undone)).then(|| planted.notes.clear())
            })
        };
        spawn_blocking(wait).await.expect("noted");
    }
}

/// One that notes what happens to it.
struct Good(Board);

/// One that does what the test plants.
struct Bad(Board);

struct Ready {
    board: Board,
    panics: bool,
    committed: bool,
}

impl Component for Good {
    fn prepare(&self, _: &Parameters, _: &[Change]) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        Ok(Box::new(Ready { board: self.0.clone(), panics: false, committed: false }))
    }
}

impl Component for Bad {
    fn prepare(&self, _: &Parameters, _: &[Change]) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        let does = self.0.until(|planted| Some(planted.next.pop_front()));
        match does {
            Some(Does::PanicsInPrepare) => panic!("planted: the prepare"),
            Some(Does::Waits) => {
                self.0.change(|planted| planted.notes.push("waits"));
                self.0.until(|planted| planted.gate.then_some(()));
            }
            _ => {}
        }
        let panics = does == Some(Does::PanicsInCommit);
        Ok(Box::new(Ready { board: self.0.clone(), panics, committed: false }))
    }
}

impl Prepared for Ready {
    fn commit(mut self: Box<Self>) -> Vec<Broken> {
        assert!(!self.panics, "planted: the commit");
        self.committed = true;
        self.board.change(|planted| planted.notes.push("committed"));
        Vec::new()
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if !self.committed {
            self.board.change(|planted| planted.notes.push("undone"));
        }
    }
}

/// A store, ours or etcd.
enum Running {
    Ours(Box<Server>),
    /// Killed when dropped.
    Etcd(etcd::Cluster),
}

impl Running {
    async fn ours(directory: &etcd::Directory) -> Running {
        let loopback = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let options = cfg_store::Options {
            name: "default".to_owned(),
            data_dir: directory.path("cfg"),
            client_listen: loopback.clone(),
            peer_listen: loopback,
            client_urls: Vec::new(),
            peer_urls: Vec::new(),
            client_tls: None,
            peer_tls: None,
            beginning: Beginning::Found,
            join_timeout: PATIENCE,
            raft: RaftOptions::default(),
            api: ApiOptions::default(),
        };
        let server = Server::start(Arc::new(uring::LocalDisk), options).await.expect("started");
        timeout(PATIENCE, async { while server.ready().await.is_err() {} }).await.expect("ready");
        Running::Ours(Box::new(server))
    }

    fn url(&self) -> String {
        match self {
            Running::Ours(server) => format!("etcd://{}", server.client_addresses()[0]),
            Running::Etcd(cluster) => cluster.url(""),
        }
    }
}

/// An agent whose components fail as planted.
struct Bench {
    store: Store,
    place: Place,
    board: Board,
    agent: Agent,
    /// The last good copy.
    copy: PathBuf,
}

impl Bench {
    /// One with a deadline for prepares, on a store with one document.
    async fn start(running: &Running, directory: &etcd::Directory, deadline: Duration) -> Bench {
        let url = StoreUrl::parse(&running.url()).expect("a URL");
        let store = Store::open(&url, cfg_client::Options::default()).expect("a store");
        let place = Place::of("g", "h").expect("a place");
        let board = Board::default();
        let deadline = u64::try_from(deadline.as_millis()).expect("not long");
        let documents = Documents::from([
            ("nbd".to_owned(), json!({"nbd_max_connections": 5})),
            (
                "updates".to_owned(),
                json!({
                    "update_prepare_timeout_ms": deadline,
                    "update_status_ttl_secs": 3,
                    "update_last_good_refresh_ms": 100,
                    "update_last_good_delay_ms": 50,
                }),
            ),
        ]);
        let mut revision = 0;
        for (section, document) in &documents {
            revision = put(&store, &place.config.join(section).expect("a key"), document).await;
        }
        let process = Process { node: "h".to_owned(), ..Process::default() };
        let surroundings = Surroundings {
            store: store.clone(),
            place: place.clone(),
            url: running.url(),
            last_good: directory.path("last_good"),
            process,
            components: vec![Box::new(Good(board.clone())), Box::new(Bad(board.clone()))],
        };
        let start = Start {
            values: Parameters::read(&documents).parameters.expect("valid"),
            documents,
            revision,
            source: Source::Store,
            previous: None,
            frozen: false,
            standing: Vec::new(),
        };
        let agent = Agent::start(surroundings, start);
        Bench { store, place, board, agent, copy: directory.path("last_good") }
    }

    /// The last good copy, as soon as it is `right`.
    async fn copied(&self, right: impl Fn(&LastGood) -> bool) -> LastGood {
        let copied = async {
            loop {
                if let Some(copy) = LastGood::read(&self.copy).ok().filter(|copy| right(copy)) {
                    return copy;
                }
                // sleep: bounded polling of a file
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, copied).await.expect("it is written")
    }

    /// Stores documents, asks for an update, and waits for its answer.
    async fn update(&self, id: &str, documents: Value) -> Feedback {
        self.ask(id, documents).await;
        self.answer(id).await
    }

    /// The same, again and again until the machine is quick enough for the deadline; gives how often it was not, too.
    async fn update_in_time(&self, id: &str, documents: Value) -> (Feedback, usize) {
        for late in 0..100 {
            let feedback = self.update(&format!("{id}{late}"), documents.clone()).await;
            if feedback.outcome == Outcome::Applied {
                return (feedback, late);
            }
            assert!(feedback.rejected[0].problem.contains("were not prepared within"), "{feedback:?}");
        }
        panic!("{id} is never prepared in time")
    }

    async fn ask(&self, id: &str, documents: Value) {
        for (section, document) in documents.as_object().expect("documents") {
            put(&self.store, &self.place.config.join(section).expect("a key"), document).await;
        }
        put(&self.store, &self.place.update, &json!({"id": id})).await;
    }

    async fn answer(&self, id: &str) -> Feedback {
        let key = self.place.feedback.join(id).expect("a key");
        Feedback::read(&self.awaited(&key, |_| true).await).expect("a feedback")
    }

    /// The status, when it is what is waited for.
    async fn status(&self, mut chosen: impl FnMut(&Status) -> bool) -> Status {
        let is = |value: &[u8]| Status::read(value).is_ok_and(|status| chosen(&status));
        Status::read(&self.awaited(&self.place.status, is).await).expect("a status")
    }

    async fn awaited(&self, key: &cfg_client::KeyPath, mut chosen: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let mut watch = self.store.watch(key, None);
        let found = async {
            loop {
                let pairs = match watch.next().await {
                    // It goes on; the time is bounded.
                    Err(_) => continue,
                    Ok(Item::Listed(listing)) => listing.pairs,
                    Ok(Item::Changed { events, .. }) => events
                        .into_iter()
                        .filter_map(|event| match event {
                            cfg_client::Event::Put(pair) => Some(pair),
                            cfg_client::Event::Deleted(_) => None,
                        })
                        .collect(),
                };
                if let Some(pair) = pairs.into_iter().find(|pair| chosen(&pair.value)) {
                    return pair.value.to_vec();
                }
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{key} is never what is waited for"))
    }

    fn plant(&self, does: Does) {
        self.board.change(|planted| planted.next.push_back(does));
    }
}

async fn put(store: &Store, key: &cfg_client::KeyPath, value: &Value) -> i64 {
    let writes = vec![Write::put(key, value.to_string())];
    store.transact(&Transaction { compares: Vec::new(), writes }).await.expect("stored")
}

/// What runs with which value after a commit that broke down, by `section.key`.
fn runs(mixed: &[Mixed]) -> Vec<(String, Runs)> {
    mixed.iter().map(|mixed| (format!("{}.{}", mixed.component, mixed.param), mixed.runs)).collect()
}

async fn components_that_panic(running: Running, directory: &etcd::Directory) {
    let bench = Bench::start(&running, directory, PATIENCE).await;
    let before = bench.status(|_| true).await;

    bench.plant(Does::PanicsInPrepare);
    let refused = bench.update("prepare", json!({"nbd": {"nbd_max_connections": 6}})).await;
    assert_eq!((refused.outcome, refused.rejected.len()), (Outcome::Rejected, 1));
    let rejected = &refused.rejected[0];
    assert_eq!(rejected.component, "update");
    assert!(rejected.problem.contains("a component failed"), "{rejected:?}");
    assert!(refused.applied.is_empty() && refused.mixed.is_empty());
    bench.board.notes(&["undone"]).await;
    let status = bench.status(|status| status.last_feedback.as_deref() == Some("prepare")).await;
    assert_eq!((&status.config_hash, status.degraded.len()), (&before.config_hash, 0));

    // All sections that change are named: nobody knows how far it got.
    bench.plant(Does::PanicsInCommit);
    let documents = json!({
        "nbd": {"nbd_max_connections": 7, "nbd_requests_in_flight": 8},
        "metrics": {"metrics_per_volume": false},
        "http": {"http_port": 1},
    });
    let failed = bench.update("commit", documents).await;
    assert_eq!((failed.outcome, failed.applied.len()), (Outcome::Failed, 0), "{failed:?}");
    let mut mixed = runs(&failed.mixed);
    mixed.sort_by(|one, other| one.0.cmp(&other.0));
    let old = |name: &str| (name.to_owned(), Runs::Old);
    let names = ["metrics.metrics_per_volume", "nbd.nbd_max_connections", "nbd.nbd_requests_in_flight"];
    assert_eq!(mixed, names.map(old));
    let said = failed.mixed[0].problem.as_deref().unwrap_or_default();
    assert!(said.contains("broke down while it switched over"), "{said}");
    bench.board.notes(&["committed", "undone"]).await;
    let status = bench.status(|status| status.last_feedback.as_deref() == Some("commit")).await;
    assert_eq!((&status.config_hash, status.degraded.len()), (&before.config_hash, 3), "{status:?}");

    // The next one that succeeds puts all right.
    let applied = bench.update("again", json!({})).await;
    assert_eq!((applied.outcome, applied.applied.len()), (Outcome::Applied, 3), "{applied:?}");
    assert_eq!(applied.pending_restart.len(), 1);
    bench.board.notes(&["committed", "committed"]).await;
    let status = bench.status(|status| status.last_feedback.as_deref() == Some("again")).await;
    assert_ne!(status.config_hash, before.config_hash);
    assert!(status.degraded.is_empty());
    timeout(PATIENCE, bench.agent.stop()).await.expect("it stops");
}

async fn prepares_that_do_not_end(running: Running, directory: &etcd::Directory) {
    let bench = Bench::start(&running, directory, PATIENCE).await;
    let shorter = json!({"updates": {"update_prepare_timeout_ms": 300}});
    assert_eq!(bench.update("shorter", shorter).await.outcome, Outcome::Applied);
    bench.board.notes(&["committed", "committed"]).await;
    let before = bench.status(|status| status.last_feedback.as_deref() == Some("shorter")).await;
    bench.plant(Does::Waits);
    let late = bench.update("late", json!({"nbd": {"nbd_max_connections": 6}})).await;
    assert_eq!(late.outcome, Outcome::Rejected);
    assert!(late.rejected[0].problem.contains("were not prepared within 300ms"), "{late:?}");
    let status = bench.status(|status| status.last_feedback.as_deref() == Some("late")).await;
    assert_eq!(status.config_hash, before.config_hash);
    bench.board.notes(&["waits"]).await;

    // Others go on meanwhile; what ends too late is dropped and never committed.
    let quick = json!({"nbd": {"nbd_max_connections": 7}});
    let (applied, again) = bench.update_in_time("quick", quick).await;
    assert_eq!(applied.applied[0].old.as_str(), "5");
    bench.board.tally(2, 2 * again).await;
    bench.board.change(|planted| planted.gate = true);
    bench.board.notes(&["undone", "undone"]).await;
    let status = bench.status(|status| status.last_feedback.as_ref() == Some(&applied.id)).await;
    assert_eq!(status.stored_hash.as_ref(), Some(&status.config_hash));

    // As many as may be late: then no other is begun, until they end.
    bench.board.change(|planted| planted.gate = false);
    let most = Options::default().late_prepares;
    for number in 0..most {
        bench.plant(Does::Waits);
        let id = format!("late{number}");
        let late = bench.update(&id, json!({"nbd": {"nbd_max_connections": 10 + number}})).await;
        assert!(late.rejected[0].problem.contains("were not prepared within"), "{late:?}");
    }
    let refused = bench.update("refused", json!({})).await;
    assert!(
        refused.rejected[0].problem.contains("4 earlier updates are still being prepared"),
        "{refused:?}"
    );
    bench.board.change(|planted| (planted.gate, planted.notes) = (true, Vec::new()));
    bench.board.notes(&["undone"; 8]).await;
    let mut outcome = Outcome::Rejected;
    for number in 0..100 {
        // The agent hears of their ends a moment later.
        outcome = bench.update(&format!("after{number}"), json!({})).await.outcome;
        if outcome == Outcome::Applied {
            break;
        }
    }
    assert_eq!(outcome, Outcome::Applied);
    bench.board.notes(&["committed", "committed"]).await;
    timeout(PATIENCE, bench.agent.stop()).await.expect("it stops");
}

/// The end of the process does not wait for a prepare, and what was asked for still stands.
async fn an_end_while_one_is_prepared(running: Running, directory: &etcd::Directory) {
    let bench = Bench::start(&running, directory, 2 * PATIENCE).await;
    bench.status(|_| true).await;
    bench.plant(Does::Waits);
    bench.ask("standing", json!({"nbd": {"nbd_max_connections": 99}})).await;
    bench.board.notes(&["waits"]).await;
    timeout(PATIENCE, bench.agent.stop()).await.expect("it stops");
    let feedback = bench.place.feedback.join("standing").expect("a key");
    for key in [&bench.place.status, &feedback] {
        assert!(matches!(bench.store.get(key, None).await, Err(Error::Absent { .. })), "there is no {key}");
    }
    bench.board.change(|planted| planted.gate = true);
    bench.board.notes(&["undone", "undone"]).await;
}

/// As long as the store is heard of, the copy is no older than the last contact.
async fn a_copy_stays_young(running: Running, directory: &etcd::Directory) {
    let bench = Bench::start(&running, directory, PATIENCE).await;
    let first = bench.copied(|_| true).await;
    let younger = bench.copied(|copy| copy.read_at_ms > first.read_at_ms).await;
    assert_eq!(LastGood { read_at_ms: first.read_at_ms, ..younger }, first, "the time alone is another one");
    timeout(PATIENCE, bench.agent.stop()).await.expect("it stops");
}

/// A change waits for the next one before it is copied, as long as is wanted at the moment.
async fn copies_wait(running: Running, directory: &etcd::Directory) {
    let bench = Bench::start(&running, directory, PATIENCE).await;
    let wait = |delay: u64| json!({"updates": {"update_last_good_delay_ms": delay}});
    let later = bench.update("later", wait(60_000)).await;
    assert_eq!(later.outcome, Outcome::Applied);
    let copied = |revision| move |copy: &LastGood| i64::try_from(copy.revision) == Ok(revision);
    // Eight times as long as it waited before.
    let early = timeout(Duration::from_millis(400), bench.copied(copied(later.revision))).await;
    assert!(early.is_err(), "it is copied at once");
    let now = bench.update("now", wait(0)).await;
    bench.copied(copied(now.revision)).await;
    bench.update("wait-again", wait(60_000)).await;
    let last = bench.update("last", json!({"nbd": {"nbd_max_connections": 6}})).await;
    timeout(PATIENCE, bench.agent.stop()).await.expect("it stops");
    let copy = LastGood::read(&directory.path("last_good")).expect("a copy");
    assert!(copied(last.revision)(&copy), "the end waits for the copy: {copy:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_wait_for_later_changes_on_the_store() {
    let directory = etcd::Directory::new();
    copies_wait(Running::ours(&directory).await, &directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_wait_for_later_changes_on_etcd() {
    let directory = etcd::Directory::new();
    copies_wait(Running::Etcd(etcd::Cluster::start(1)), &directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stays_young_on_the_store() {
    let directory = etcd::Directory::new();
    a_copy_stays_young(Running::ours(&directory).await, &directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stays_young_on_etcd() {
    let directory = etcd::Directory::new();
    a_copy_stays_young(Running::Etcd(etcd::Cluster::start(1)), &directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn components_that_panic_are_answered_for_on_the_store() {
    let directory = etcd::Directory::new();
    components_that_panic(Running::ours(&directory).await, &directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn components_that_panic_are_answered_for_on_etcd() {
    let directory = etcd::Directory::new();
    components_that_panic(Running::Etcd(etcd::Cluster::start(1)), &directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_a_prepare_on_the_store() {
    let directory = etcd::Directory::new();
    an_end_while_one_is_prepared(Running::ours(&directory).await, &directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_a_prepare_on_etcd() {
    let directory = etcd::Directory::new();
    an_end_while_one_is_prepared(Running::Etcd(etcd::Cluster::start(1)), &directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prepares_that_do_not_end_hold_nothing_up_on_the_store() {
    let directory = etcd::Directory::new();
    prepares_that_do_not_end(Running::ours(&directory).await, &directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prepares_that_do_not_end_hold_nothing_up_on_etcd() {
    let directory = etcd::Directory::new();
    prepares_that_do_not_end(Running::Etcd(etcd::Cluster::start(1)), &directory).await;
}

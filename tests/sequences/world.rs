//! Processes on a store, in which anything happens in any order.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

use cfg_client::LastGood;
use cfg_engine::{Feedback, Outcome};
use serde_json::{Value, json};

use super::cli_node::{DataDir, Driver, Printed, ended, ovs};
use super::harness::cfg::{Running, Server};
use super::harness::place::Place as Directory;
use super::harness::random::Random;
use super::harness::tree::{History, Recorder, Tree};
use super::judge::{Life, Place, Source, State, judge};
use super::observe::observe;
use super::values;

const VPOOL: &str = "sequence";

tally! {
    steps lives refused_starts stale_starts degraded_starts frozen_starts kills ends store_stops store_pauses
    applied pending dry_runs rejected superseded at_start frozen looks
}

/// One process, whether it runs or not.
struct Host {
    place: Place,
    directory: DataDir,
    driver: Option<Driver>,
    lives: Vec<Life>,
    /// The last good copy before its start.
    before: Option<LastGood>,
    /// All updates that were written later must be answered while it lives.
    hears_from: i64,
}

/// See the module.
pub struct World {
    random: Random,
    server: Running,
    _directory: Directory,
    tree: Tree,
    recorder: Recorder,
    hosts: Vec<Host>,
    ids: u64,
    verbose: bool,
    pub tally: Tally,
}

impl World {
    pub fn new(server: Server, seed: u64, verbose: bool) -> Self {
        let mut random = Random::new(seed);
        let directory = server.place("sequence");
        let server = server.start(directory.root(), "store");
        let (tree, recorder) = (Tree::open(&server.client_url), Recorder::start(&server.client_url));
        let hosts = (0..random.between(1, 3)).map(|number| {
            let name = format!("h{number}");
            let base = format!("/ovs/vpools/{VPOOL}/hosts/{name}");
            let place = Place { name, base, vpool_update: format!("/ovs/vpools/{VPOOL}/update") };
            Host {
                place,
                directory: DataDir::new(),
                driver: None,
                lives: Vec::new(),
                before: None,
                hears_from: 0,
            }
        });
        let hosts: Vec<Host> = hosts.collect();
        for host in &hosts {
            let documents = values::first_documents().into_iter().map(|(section, document)| {
                let text = document.to_string().into_bytes();
                (format!("{}/config/{section}", host.place.base), Some(text))
            });
            tree.write(&documents.collect::<Vec<_>>());
        }
        tree.put(
            "/site/limits",
            json!({"connections": 40, "gap": "50MB", "deep": {"connections": 41}}).to_string(),
        );
        let tally = Tally::default();
        let mut world =
            World { random, server, _directory: directory, tree, recorder, hosts, ids: 0, verbose, tally };
        for host in 0..world.hosts.len() {
            world.start(host, 0);
        }
        world
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{}", what());
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn any_host(&mut self) -> usize {
        self.random.below(self.hosts.len() as u64) as usize
    }

    /// All that happened up to now.
    fn history(&self) -> History {
        let mark = self.tree.put("/mark", "");
        self.recorder.until("what was written", |history| (history.revision >= mark).then(|| history.clone()))
    }

    /// One thing happens.
    pub fn step(&mut self) {
        self.tally.steps += 1;
        let host = self.any_host();
        match self.below(100) {
            0..30 => self.change(),
            30..34 => self.mend(host),
            34..39 => {
                let (key, text) = values::target(&mut self.random);
                self.write(vec![(key, text)]);
            }
            39..45 => {
                let frozen = (self.below(3) == 0).then(|| "{}".to_owned());
                let key = format!("{}/frozen", self.hosts[host].place.base);
                self.write(vec![(key, frozen)]);
            }
            45..73 => self.update(),
            73..77 => self.end_life(host, true),
            77..81 => self.end_life(host, false),
            81..90 => {
                let busy = if self.below(2) == 0 { self.random.between(1, 3) } else { 0 };
                self.start(host, busy);
            }
            90..92 => self.stop_store(),
            92..95 => self.pause_store(),
            _ => self.look(),
        }
    }

    fn write(&mut self, changes: Vec<(String, Option<String>)>) -> i64 {
        let bytes: Vec<_> =
            changes.iter().map(|(key, text)| (key.clone(), text.clone().map(String::into_bytes))).collect();
        let revision = self.tree.write(&bytes);
        self.tell(|| format!("{revision}: {changes:?}"));
        revision
    }

    fn change(&mut self) {
        let history = self.history();
        let host = self.any_host();
        let config = |host: &Host| format!("{}/config", host.place.base);
        let (section, text) = values::changed(&mut self.random, &history, &config(&self.hosts[host]));
        // Of one host, or the same for all.
        let all = self.below(4) == 0;
        let hosts = self.hosts.iter().enumerate().filter(|(number, _)| all || *number == host);
        let changes = hosts.map(|(_, host)| (format!("{}/{section}", config(host)), text.clone()));
        let changes = changes.collect();
        self.write(changes);
    }

    /// Puts a host's documents back to what is good.
    fn mend(&mut self, host: usize) {
        let base = self.hosts[host].place.base.clone();
        let documents = values::first_documents().into_iter();
        let mut changes: Vec<_> = documents
            .map(|(section, document)| (format!("{base}/config/{section}"), Some(document.to_string())))
            .collect();
        let nbd = json!({"nbd_max_connections": 8}).to_string();
        changes.push((format!("{base}/config/nbd"), Some(nbd)));
        self.write(changes);
    }

    fn update(&mut self) {
        let host = self.any_host();
        let of_all = self.below(2) == 0;
        let key = match of_all {
            true => self.hosts[host].place.vpool_update.clone(),
            false => format!("{}/update", self.hosts[host].place.base),
        };
        if self.below(5) > 0 {
            self.ids += 1;
        }
        let id = format!("{}{}", if of_all { "v" } else { "h" }, self.ids);
        let text = match self.below(40) {
            0 => r#"{"id": "a/b"}"#.to_owned(),
            1 => "no JSON".to_owned(),
            2 => r#"{"dry_run": true}"#.to_owned(),
            3 => format!(r#"{{"id": "{id}", "dry_run": "yes"}}"#),
            _ => {
                let (dry_run, allow_reset) = (self.below(4) == 0, self.below(4) == 0);
                json!({"id": id, "by": "sequences", "dry_run": dry_run, "allow_reset": allow_reset})
                    .to_string()
            }
        };
        self.write(vec![(key, Some(text))]);
    }

    /// Starts a process that does not run, while `busy` things happen.
    fn start(&mut self, number: usize, busy: u64) {
        if self.hosts[number].driver.is_some() {
            return;
        }
        let from = self.tree.revision();
        self.begin(number);
        for _ in 0..busy {
            if self.below(3) == 0 { self.update() } else { self.change() }
        }
        if !self.came_up(number, from) {
            let to = self.tree.revision();
            self.last_life(number).to = to;
            return;
        }
        let host = &self.hosts[number];
        let (key, pid) = (format!("{}/status", host.place.base), host.lives.last().map(|life| life.pid));
        let to = self.recorder.until("a status", |history| {
            let of_it = |text: &Option<String>| {
                let status = text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
                status.is_some_and(|status| status["pid"].as_u64() == pid.map(u64::from))
            };
            let status = history.keys.get(&key)?.iter().find(|(_, text)| of_it(text));
            status.map(|(revision, _)| *revision)
        });
        self.last_life(number).to = to;
        self.hosts[number].hears_from = to;
    }

    fn last_life(&mut self, number: usize) -> &mut Life {
        self.hosts[number].lives.last_mut().expect("it was begun")
    }

    fn begin(&mut self, number: usize) {
        let endpoint = self.server.client_url.replace("http://", "etcd://");
        let host = &mut self.hosts[number];
        let url = format!("{endpoint}{}/config", host.place.base);
        let volume = format!("v{number}=1MiB");
        host.before = LastGood::read(&host.directory.path("last_good")).ok();
        host.driver =
            Some(Driver::begin(&host.directory, &url, &["--volume", &volume, "--log-level", "debug"]));
    }

    /// Waits for the end of a start. False: it was refused.
    fn came_up(&mut self, number: usize, from: i64) -> bool {
        let host = &mut self.hosts[number];
        let before = host.before.take();
        let mut driver = host.driver.take().expect("begun");
        let mut life = Life { pid: driver.pid(), from, to: from, end: i64::MAX, before, ..Life::default() };
        self.tally.lives += 1;
        let is_ready = driver.is_ready();
        if is_ready {
            host.driver = Some(driver);
        } else {
            life.code = driver.wait().code();
            self.tally.refused_starts += 1;
        }
        let (name, pid, code) = (&host.place.name, life.pid, life.code);
        let told = format!("{name} starts behind {from} as {pid}, code {code:?}");
        host.lives.push(life);
        self.tell(|| told);
        is_ready
    }

    /// Kills a process, or tells it to end.
    fn end_life(&mut self, number: usize, kill: bool) {
        let revision = self.tree.revision();
        if self.signal(number, kill, revision) {
            self.reap(number);
            let end = self.tree.revision();
            self.last_life(number).end = end;
        }
    }

    fn signal(&mut self, number: usize, kill: bool, revision: i64) -> bool {
        let host = &mut self.hosts[number];
        let Some(driver) = &host.driver else { return false };
        driver.signal(if kill { "KILL" } else { "TERM" });
        let life = host.lives.last_mut().expect("it lives");
        (life.killed, life.leaves) = (kill, (!kill).then_some(revision));
        let told = format!("{} is {} at {revision}", host.place.name, if kill { "killed" } else { "ended" });
        (if kill { &mut self.tally.kills } else { &mut self.tally.ends }).add_assign(1);
        self.tell(|| told);
        true
    }

    fn reap(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let Some(mut driver) = host.driver.take() else { return };
        let code = driver.wait().code();
        let life = host.lives.last_mut().expect("it lived");
        assert_eq!(code, if life.killed { None } else { Some(0) }, "how {} ended", host.place.name);
        life.after = LastGood::read(&host.directory.path("last_good")).ok();
        let none_yet = life.killed && life.before.is_none();
        assert!(life.after.is_some() || none_yet, "{} has no last good copy", host.place.name);
    }

    fn stop_store(&mut self) {
        self.tally.store_stops += 1;
        if self.below(2) == 0 {
            // It may be started without the store.
            let (host, kill) = (self.any_host(), self.below(2) == 0);
            self.end_life(host, kill);
        }
        let revision = self.tree.revision();
        self.server.kill();
        self.tell(|| format!("the store stops behind {revision}"));
        let mut ended: Vec<(usize, usize)> = Vec::new();
        for _ in 0..self.below(3) {
            let host = self.any_host();
            if ended.iter().any(|(other, _)| *other == host) {
                // What it said last may still have come to the store, and would be taken for words of the next life.
                continue;
            }
            if self.hosts[host].driver.is_none() {
                self.begin(host);
                if self.came_up(host, revision) {
                    self.tally.stale_starts += 1;
                }
                self.last_life(host).away = true;
            } else {
                let kill = self.below(2) == 0;
                self.signal(host, kill, revision);
                self.reap(host);
                ended.push((host, self.hosts[host].lives.len() - 1));
            }
        }
        self.server.start_again();
        self.store_is_back(&ended);
    }

    fn pause_store(&mut self) {
        self.tally.store_pauses += 1;
        let revision = self.tree.revision();
        self.server.signal("STOP");
        let pause = Duration::from_millis(self.random.between(20, 1200));
        self.tell(|| format!("the store stands still for {pause:?} behind {revision}"));
        let host = self.any_host();
        let kill = self.below(2) == 0;
        let ends = self.below(3) == 0 && self.signal(host, kill, revision);
        // sleep: nothing happens in the store, and that is what it is about
        std::thread::sleep(pause);
        self.server.signal("CONT");
        let mut ended = Vec::new();
        if ends {
            self.reap(host);
            ended.push((host, self.hosts[host].lives.len() - 1));
        }
        self.store_is_back(&ended);
    }

    fn store_is_back(&mut self, ended: &[(usize, usize)]) {
        let revision = self.tree.revision();
        self.tell(|| format!("the store answers at {revision}"));
        for (host, life) in ended {
            let life = &mut self.hosts[*host].lives[*life];
            (life.end, life.cut) = (revision, true);
        }
        for host in &mut self.hosts {
            // Of what was written over while a process looks for the store it may never hear: what stands counts.
            host.hears_from = i64::MAX;
            host.lives.last_mut().into_iter().for_each(|life| life.shaken = true);
        }
    }

    /// Waits until all that live have answered, and looks at what they run with.
    fn look(&mut self) {
        self.tally.looks += 1;
        for number in 0..self.hosts.len() {
            if self.hosts[number].driver.is_some() {
                self.look_at(number);
            }
        }
    }

    fn look_at(&mut self, number: usize) {
        let host = &self.hosts[number];
        let mark = self.tree.put("/mark", "");
        let hears_from = host.hears_from;
        let pid = host.lives.last().map(|life| life.pid);
        let history = self.recorder.until(&format!("all of {} by {mark}", host.place.name), |history| {
            (history.revision >= mark && is_settled(history, host, hears_from, mark, pid))
                .then(|| history.clone())
        });
        let life = host.lives.last().expect("it lives").clone();
        let state = judged(&history, host, &life);
        self.tell(|| format!("{} runs {:?} at {mark}", host.place.name, state.running));
        observe(&host.directory, &state);
    }

    /// `ovs config …`
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> Printed {
        let mut command = ovs(&["config"]);
        command.args(arguments).env("OVS_ENDPOINT", self.server.client_url.replace("http://", "etcd://"));
        ended(command, code)
    }

    /// Everything is mended: everybody must come to run the same. Then all lives are judged.
    pub fn end(&mut self) {
        let mut changes = Vec::new();
        for host in &self.hosts {
            let base = &host.place.base;
            for (section, document) in values::first_documents() {
                changes.push((format!("{base}/config/{section}"), Some(document.to_string())));
            }
            let nbd = json!({"nbd_max_connections": {"$ref": "/site/limits|connections"}});
            changes.push((format!("{base}/config/nbd"), Some(nbd.to_string())));
            for section in ["metrics", "logging", "http", "strange", "scrub_manager"] {
                changes.push((format!("{base}/config/{section}"), None));
            }
            changes.push((format!("{base}/frozen"), None));
        }
        changes.push(("/site/limits".to_owned(), Some(json!({"connections": 6}).to_string())));
        self.write(changes);
        for host in 0..self.hosts.len() {
            self.start(host, 0);
        }
        self.look();
        let applied = self.run(&["apply", "--vpool", VPOOL, "--allow-reset", "--json"], 0).json();
        let feedback = applied["feedback"].as_object().expect("by host");
        assert_eq!(feedback.len(), self.hosts.len(), "{applied}");
        assert!(feedback.values().all(|feedback| feedback["outcome"] == "applied"), "{applied}");
        for host in 0..self.hosts.len() {
            self.end_life(host, host % 2 == 0);
            self.start(host, 0);
        }
        self.look();
        let shown = self.run(&["status", "--vpool", VPOOL, "--wait", "30", "--json"], 0).json();
        let hashes: Vec<&Value> =
            shown.as_array().expect("hosts").iter().map(|h| &h["status"]["config_hash"]).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{shown}");
        for host in 0..self.hosts.len() {
            self.end_life(host, host % 2 == 1);
        }
        let history = self.history();
        for number in 0..self.hosts.len() {
            // Who answered an update; what was on its way when a store stood still may come after the next one's.
            let mut answered: BTreeMap<i64, u32> = BTreeMap::new();
            for life in self.hosts[number].lives.clone() {
                let state = judge(&history, &self.hosts[number].place, &life);
                let Some(state) = state.unwrap_or_else(|problem| panic!("{problem}")) else { continue };
                for (revision, feedback) in &state.sent {
                    // Another update with the same id may have taken its place.
                    let key = format!("{}/feedback/{}", self.hosts[number].place.base, feedback.id);
                    let stored = history
                        .get(&key, life.from)
                        .and_then(|(_, text)| Feedback::read(text.as_bytes()).ok());
                    let stands = stored.is_some_and(|stored| stored.revision == *revision);
                    let before = answered.insert(*revision, life.pid).filter(|_| stands && !life.cut);
                    assert_eq!(before, None, "{revision} is answered by {} as well", life.pid);
                }
                if life.cut {
                    answered.clear();
                }
                self.count(&state);
            }
        }
    }

    fn count(&mut self, state: &State) {
        let tally = &mut self.tally;
        tally.degraded_starts += u64::from(state.source == Source::Degraded);
        tally.frozen_starts += u64::from(state.source == Source::Frozen);
        for feedback in state.sent.values() {
            let field = match feedback.outcome {
                _ if feedback.at_start => &mut tally.at_start,
                Outcome::Applied if feedback.dry_run => &mut tally.dry_runs,
                Outcome::Applied => &mut tally.applied,
                Outcome::Rejected if feedback.frozen => &mut tally.frozen,
                Outcome::Superseded => &mut tally.superseded,
                _ => &mut tally.rejected,
            };
            *field += 1;
            tally.pending += u64::from(!feedback.at_start && !feedback.pending_restart.is_empty());
        }
    }
}

/// The state of a life that is right.
fn judged(history: &History, host: &Host, life: &Life) -> State {
    match judge(history, &host.place, life) {
        Ok(Some(state)) => state,
        Ok(None) => panic!("{} must not serve", host.place.name),
        Err(problem) => panic!("{problem}"),
    }
}

/// Whether a process has said all that there is to say of what was written up to `mark`.
fn is_settled(history: &History, host: &Host, hears_from: i64, mark: i64, pid: Option<u32>) -> bool {
    let base = &host.place.base;
    let answered: Vec<i64> = history
        .events(base)
        .iter()
        .filter(|(_, name, _)| name.starts_with("feedback/"))
        .filter_map(|(.., text)| serde_json::from_str::<Value>((*text)?).ok()?["revision"].as_i64())
        .collect();
    for key in [&format!("{base}/update"), &host.place.vpool_update] {
        let Some(versions) = history.keys.get(key) else { continue };
        let written = versions.iter().map(|(revision, _)| *revision).filter(|revision| *revision <= mark);
        let last = written.clone().max();
        let mut due = written.filter(|revision| *revision > hears_from || Some(*revision) == last);
        if !due.all(|revision| answered.contains(&revision)) {
            return false;
        }
    }
    let Some((_, text)) = history.get(&format!("{base}/status"), i64::MAX) else { return false };
    let status: Value = serde_json::from_str(text).expect("a status");
    let below = format!("{base}/config/");
    let written = history.keys.range(below.clone()..).take_while(|(key, _)| key.starts_with(&below));
    let newest = written.flat_map(|(_, versions)| versions.iter().map(|(revision, _)| *revision)).max();
    let frozen = history.get(&format!("{base}/frozen"), i64::MAX).is_some();
    status["pid"].as_u64() == pid.map(u64::from)
        && status["observed_revision"].as_i64() >= newest
        && status["frozen"].as_bool().unwrap_or(false) == frozen
}

//! A vPool of kettles on a store, in which anything happens in any order.

mod life;
mod model;
mod process;
mod rules;
mod store;

use std::collections::BTreeMap;

use cfg_engine::{Input, Scope};
use serde_json::{Value as Json, json};

pub use process::{Op, Process};
use rules::{Plain, Told, differences};
use store::{Random, Store};

tally! {
    applied dry_runs rejected failed superseded frozen at_start malformed
    compacted late too_late unsure alone kills exits starts refused_starts
}

/// What all processes have in common.
#[derive(Default)]
pub struct Shared {
    /// Updates by their mod revision.
    pub updates: BTreeMap<i64, Told>,
    hashes: BTreeMap<String, Plain>,
    values: BTreeMap<Plain, String>,
    pub tally: Tally,
    pub verbose: bool,
}

impl Shared {
    /// Equal hashes mean equal values, and the reverse; the identity plays no part.
    fn same_hash(&mut self, hash: &str, values: &Plain) {
        let mut values = values.clone();
        values.remove(&("plate", "serial"));
        let known = self.hashes.entry(hash.to_owned()).or_insert_with(|| values.clone());
        assert_eq!(known, &values, "two values of one hash");
        let known = self.values.entry(values).or_insert_with(|| hash.to_owned());
        assert_eq!(known, hash, "two hashes of one value");
    }
}

/// The path of a host.
pub fn host(index: usize) -> String {
    format!("/v/hosts/{index}")
}

pub struct World {
    random: Random,
    store: Store,
    processes: Vec<Process>,
    pub shared: Shared,
    ids: u64,
}

impl World {
    pub fn new(seed: u64, verbose: bool) -> World {
        let mut random = Random(seed);
        let count = 1 + random.below(3) as usize;
        let mut world = World {
            random,
            store: Store::default(),
            processes: (0..count).map(Process::new).collect(),
            shared: Shared { verbose, ..Shared::default() },
            ids: 0,
        };
        world.store.put("/d", Some(json!({"least": 400, "size": 300}).to_string()));
        world.store.put("/e", Some(json!({"least": 300}).to_string()));
        for index in 0..count {
            let identity = json!({"serial": format!("s{index}")}).to_string();
            world.store.put(&format!("{}/config/plate", host(index)), Some(identity));
            world.store.put(&format!("{}/config/heater", host(index)), Some("{}".to_owned()));
        }
        world
    }

    /// A value of a parameter, seldom a wrong one.
    fn value(&mut self, key: &str) -> Json {
        let wrong = self.random.once_in(14);
        let values: &[Json] = match key {
            "least" if wrong => {
                &[json!(0), json!("x"), json!({"$ref": "/d|gone"}), json!({"$ref": "d"}), json!(9000)]
            }
            "least" => &[json!(1), json!("1KiB"), json!("600"), json!(2000), json!({"$ref": "/d|least"})],
            "most" if wrong => &[json!(0), json!(1 << 21)],
            "most" => &[json!(2500), json!(4096), json!("2KiB"), json!(700)],
            "lid_timeout_ms" if wrong => &[json!(0), json!([])],
            "lid_timeout_ms" => &[json!(1), json!("500"), json!(500), json!(7000)],
            "password" if wrong => &[json!(["secret-list"]), json!({"secret-key": 1})],
            "password" => &[json!("secret-one"), json!("secret-two"), json!("")],
            "cups" if wrong => {
                &[json!([{"size": 1, "pin": "secret-pin"}]), json!([["secret-pin"]]), json!("secret-pin")]
            }
            "cups" => &[
                json!([]),
                json!([{"name": "a", "pin": "secret-pin"}]),
                json!([{"name": "a", "pin": "secret-other"}, {"name": "b", "size": 512}]),
            ],
            "legs" if wrong => &[json!(0), json!(9)],
            "legs" => &[json!(3), json!("4"), json!(5)],
            "metal" => &[json!("tin")],
            _ => &[json!(1), json!({"$ref": "/e|least"})],
        };
        self.random.of(values).clone()
    }

    /// A key of a section and its document, with one value changed.
    fn changed(&mut self, index: usize) -> (String, String, Json) {
        let rare = self.random.once_in(40);
        let (section, key) = *self.random.of(match rare {
            true => &[("plate", "metal"), ("heater", "unknown")],
            false => &[
                ("heater", "least"),
                ("heater", "least"),
                ("heater", "most"),
                ("heater", "lid_timeout_ms"),
                ("heater", "password"),
                ("table", "cups"),
                ("table", "legs"),
            ],
        });
        let path = format!("{}/config/{section}", host(index));
        let mut document = self.store.json(&path, self.store.revision).unwrap_or_else(|| json!({}));
        let value = self.value(key);
        let members = document.as_object_mut().expect("an object");
        if self.random.once_in(5) {
            members.remove(key);
        } else {
            members.insert(key.to_owned(), value);
        }
        (section.to_owned(), path, document)
    }

    fn change(&mut self) {
        let index = self.random.below(self.processes.len() as u64) as usize;
        match self.random.below(24) {
            0 => {
                let section = *self.random.of(&["heater", "table", "plate"]);
                self.store.put(&format!("{}/config/{section}", host(index)), None);
            }
            1 | 2 => {
                let targets =
                    [json!({"least": 900}), json!({"least": {"$ref": "/e|least"}}), json!({"least": 100})];
                let target = self.random.of(&targets).to_string();
                self.store.put("/d", Some(target));
            }
            3 => {
                let targets =
                    [json!({"least": {"$ref": "/d|least"}}), json!({"least": 50}), json!({"least": 50})];
                let target = self.random.of(&targets).to_string();
                self.store.put("/e", Some(target));
            }
            4 => drop(self.store.put(&format!("{}/frozen", host(index)), Some("{}".to_owned()))),
            5..=7 => drop(self.store.put(&format!("{}/frozen", host(index)), None)),
            8 => self.store.compacted = self.store.revision - self.random.below(6) as i64,
            _ => {
                let (_, path, document) = self.changed(index);
                self.store.put(&path, Some(document.to_string()));
            }
        }
    }

    fn update(&mut self) {
        let index = self.random.below(self.processes.len() as u64) as usize;
        let scope = if self.random.once_in(2) { Scope::Host } else { Scope::VPool };
        let dry_run = self.random.once_in(4);
        let rollout = self.random.once_in(3).then(|| {
            let name = *self.random.of(&["r1", "r2"]);
            let (section, _, document) = self.changed(index);
            let changes = json!({format!("HOST/config/{section}"): document, "/d": {"least": 200}});
            self.store.put(&format!("/v/rollouts/{name}"), Some(changes.to_string()));
            name.to_owned()
        });
        let malformed = self.random.once_in(15);
        self.ids += u64::from(!self.random.once_in(5));
        let id = format!("{}{}", if scope == Scope::Host { "h" } else { "v" }, self.ids);
        let id = if malformed { String::new() } else { id };
        let told = Told { id, dry_run, allow_reset: self.random.once_in(4), rollout, malformed };
        self.write_update(index, scope, told);
    }

    fn write_update(&mut self, index: usize, scope: Scope, told: Told) -> i64 {
        let Told { id, dry_run, allow_reset, rollout, malformed } = &told;
        let value =
            json!({"id": id, "dry_run": dry_run, "allow_reset": allow_reset, "rollout": rollout}).to_string();
        let value = if *malformed { value.replace("\"id\"", "secret-") } else { value };
        let key = self.processes[index].update_key(scope);
        let revision = self.store.put(&key, Some(value));
        self.shared.updates.insert(revision, told);
        revision
    }

    /// One thing happens.
    pub fn step(&mut self) {
        let index = self.random.below(self.processes.len() as u64) as usize;
        let World { random, store, processes, shared, .. } = self;
        let process = &mut processes[index];
        match random.below(100) {
            0..14 => self.change(),
            14..22 => self.update(),
            22..24 if process.connected => process.connected = false,
            24..26 if !process.connected => {
                if let Some(life) = &mut process.life {
                    life.listed = false;
                    process.tell(Input::StoreAway, shared);
                }
            }
            26..31 => process.connected = true,
            31..37 => {
                // After an absence, or after a watch that missed revisions.
                let away = process.life.as_ref().is_some_and(|life| !life.listed);
                if process.connected && (away || random.once_in(6)) {
                    process.list(store, shared);
                }
            }
            37 if process.life.is_some() && random.once_in(2) => {
                shared.tally.kills += 1;
                process.life = None;
            }
            38 if process.life.is_some() && random.once_in(2) => {
                process.shut_down(shared);
                shared.tally.exits += 1;
            }
            39..41 if process.connected && process.life.is_some() => process.observe(store, shared),
            41 => process.tell(Input::StatusLost, shared),
            _ if process.life.is_none() => {
                if process.start(store, shared, random) {
                    shared.tally.starts += 1;
                } else {
                    shared.tally.refused_starts += 1;
                }
            }
            42..60 => {
                let which = random.below(3) as usize;
                process.watch(which, store, shared);
            }
            _ => {
                let ops = process.life.as_ref().map_or(0, |life| life.ops.len());
                if ops > 0 {
                    let at = random.below(ops as u64) as usize;
                    let is_late =
                        process.life.as_ref().is_some_and(|life| matches!(life.ops[at], Op::Late { .. }));
                    if !is_late || random.once_in(40) {
                        process.carry_out(at, false, store, shared, random);
                    }
                }
            }
        }
    }

    /// Lets everything that is under way end, with nothing going wrong.
    fn settle(&mut self) {
        let World { random, store, processes, shared, .. } = self;
        for process in processes {
            process.connected = true;
            while process.life.as_ref().is_some_and(|life| life.leaving && !life.ops.is_empty()) {
                process.carry_out(0, true, store, shared, random);
            }
            process.life.take_if(|life| life.leaving);
            if process.life.is_none() {
                assert!(process.start(store, shared, random), "it can start");
            }
            loop {
                let life = process.life.as_ref().expect("alive");
                if !life.listed {
                    process.list(store, shared);
                } else if !life.ops.is_empty() {
                    process.carry_out(0, true, store, shared, random);
                } else if !(0..3).any(|which| process.watch(which, store, shared)) {
                    break;
                }
            }
            let life = process.life.as_ref().expect("alive");
            assert_eq!(life.unanswered(&process.answered), [0; 0], "all is answered");
            for scope in [Scope::Host, Scope::VPool] {
                if let Some((revision, _)) = store.get(&process.update_key(scope), store.revision) {
                    assert!(process.answered.contains_key(&revision), "what stands is answered");
                }
            }
        }
    }

    /// Everything is mended: everybody must come to run the same.
    pub fn end(&mut self) {
        self.store.put("/d", Some(json!({"least": 2}).to_string()));
        for index in 0..self.processes.len() {
            let heater = json!({"least": {"$ref": "/d|least"}, "most": 3000, "password": "secret-last"});
            for (section, document) in
                [("heater", heater), ("table", json!({"legs": 6})), ("plate", json!({}))]
            {
                self.store.put(&format!("{}/config/{section}", host(index)), Some(document.to_string()));
            }
            self.store.put(&format!("{}/frozen", host(index)), None);
        }
        self.settle();
        let told = Told {
            id: "last".to_owned(),
            dry_run: false,
            allow_reset: true,
            rollout: None,
            malformed: false,
        };
        self.write_update(0, Scope::VPool, told);
        self.settle();
        let World { random, store, processes, shared, .. } = self;
        for process in processes.iter_mut() {
            let text = store
                .get(&format!("{}/feedback/last", host(process.index)), store.revision)
                .expect("answered")
                .1;
            assert!(text.contains(r#""outcome":"applied""#), "{text}");
            let running = process.life.as_ref().expect("alive").model.running.clone();
            assert_eq!(
                (running[&("heater", "least")].as_str(), running[&("table", "cups")].as_str()),
                ("2", "")
            );
            // A restart brings the rest.
            process.life = None;
            assert!(process.start(store, shared, random));
        }
        self.settle();
        let mut hashes = Vec::new();
        for process in &self.processes {
            let status = self
                .store
                .json(&format!("{}/status", host(process.index)), self.store.revision)
                .expect("one");
            assert_eq!(status["pending_restart"], json!([]));
            assert_eq!(status["config_hash"], status["stored_hash"]);
            let running = &process.life.as_ref().expect("alive").model.running;
            assert_eq!(running[&("table", "legs")], "6");
            hashes.push((status["config_hash"].clone(), running.clone()));
        }
        for pair in hashes.windows(2) {
            let same = differences(&pair[0].1, &pair[1].1, &[("plate", "metal")]).is_empty();
            assert_eq!(pair[0].0 == pair[1].0, same, "all run the same");
        }
    }
}

//! What is configured in these tests, evaluated by hand: shares nothing with the schema but names and defaults.

use std::collections::{BTreeMap, BTreeSet};

use cfg_schema::Documents;
use serde_json::{Map, Value, json};
use volumedriver::parameters::Parameters;

use super::harness::random::Random;
use super::harness::tree::History;
use super::rules::{Found, Name, Plain, Subject};

/// What a value may be.
enum Form {
    /// A number, also written as a text, within these.
    Count(u64, u64),
    /// The same with units.
    Size(u64, u64),
    Bool,
    Word(&'static [&'static str]),
}

use Form::{Bool, Count, Size, Word};

const MIB: u64 = 1 << 20;

/// Parameters that change here, with their defaults; all others have theirs for ever.
const ALL: &[(Name, Form, &str)] = &[
    (("nbd", "nbd_max_connections"), Count(1, 65_536), "4096"),
    (("nbd", "nbd_requests_in_flight"), Count(1, 65_536), "1024"),
    (("volume_manager", "volume_call_timeout_ms"), Count(100, 600_000), "30000"),
    (("volume_manager", "max_volume_size"), Size(512, 140_737_421_205_504), "70368744177664"),
    (("volume_manager", "run_size"), Size(64 << 10, 256 * MIB), "4194304"),
    (("scocache", "trigger_gap"), Size(1, 1 << 50), "1000000000"),
    (("scocache", "backoff_gap"), Size(1, 1 << 50), "2000000000"),
    (("scocache", "reserve_size"), Size(16 * MIB, 1 << 40), "67108864"),
    (("scocache", "segments_ready_min"), Count(1, 4096), "4"),
    (("metrics", "metrics_per_volume"), Bool, "true"),
    (("logging", "log_level"), Word(&["error", "warn", "info", "debug", "trace"]), "info"),
    (("volume_manager", "ring_entries"), Count(8, 4096), "256"),
    (("volume_manager", "data_threads"), Count(0, 64), "0"),
    (("http", "admin_operations_in_flight"), Count(1, 1024), "16"),
    (("scocache", "segment_size"), Size(MIB, 128 * MIB), "33554432"),
    (("volume_manager", "default_cluster_size"), Count(4096, 4096), "4096"),
];

/// Parameters without effect in this program, whose types count all the same.
const NO_EFFECT: &[(Name, Form)] = &[
    (("volume_manager", "clean_interval"), Count(0, u64::MAX)),
    (("scrub_manager", "scrub_manager_enabled"), Bool),
];

/// Sections that are declared, as far as they occur.
const SECTIONS: &[&str] =
    &["nbd", "volume_manager", "scocache", "metrics", "logging", "http", "scrub_manager"];

pub const SUBJECT: Subject = Subject {
    dynamic: &[
        ("nbd", "nbd_max_connections"),
        ("nbd", "nbd_requests_in_flight"),
        ("volume_manager", "volume_call_timeout_ms"),
        ("volume_manager", "max_volume_size"),
        ("volume_manager", "run_size"),
        ("scocache", "trigger_gap"),
        ("scocache", "backoff_gap"),
        ("scocache", "reserve_size"),
        ("scocache", "segments_ready_min"),
        ("metrics", "metrics_per_volume"),
        ("logging", "log_level"),
    ],
    restart: &[
        ("volume_manager", "ring_entries"),
        ("volume_manager", "data_threads"),
        ("http", "admin_operations_in_flight"),
    ],
    immutable: &[("scocache", "segment_size"), ("volume_manager", "default_cluster_size")],
    fits,
};

/// Whether values may stand together.
fn fits(values: &Plain) -> bool {
    let number = |section, key| values[&(section, key)].parse::<u64>().expect("a number");
    number("scocache", "trigger_gap") <= number("scocache", "backoff_gap")
        && number("scocache", "reserve_size") >= 2 * number("volume_manager", "run_size")
        && number("scocache", "segments_ready_min") <= 16
        && number("scocache", "segment_size").is_multiple_of(4096)
        && number("volume_manager", "run_size").is_multiple_of(4096)
}

/// What every host was made with.
pub fn identity() -> Plain {
    let mut plain: Plain = ALL.iter().map(|(name, _, default)| (*name, (*default).to_owned())).collect();
    plain.insert(("scocache", "segment_size"), MIB.to_string());
    plain
}

/// The documents that a host begins with: little to allocate.
pub fn first_documents() -> Map<String, Value> {
    let documents = json!({
        "scocache": {"segment_size": "1MiB", "reserve_size": "16MiB", "segments_ready_min": 1},
        "volume_manager": {"run_size": "1MiB", "data_threads": 1},
    });
    documents.as_object().expect("an object").clone()
}

fn size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    match UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor))) {
        Some((number, factor)) => number.parse::<u64>().ok()?.checked_mul(*factor),
        None => text.parse().ok(),
    }
}

impl Form {
    /// The text that equal values have in common; `None`: it is not allowed.
    fn canonical(&self, value: &Value) -> Option<String> {
        let number = |value: &Value, parse: fn(&str) -> Option<u64>, (least, most): (u64, u64)| {
            let number = value.as_u64().or_else(|| parse(value.as_str()?))?;
            (least..=most).contains(&number).then(|| number.to_string())
        };
        match self {
            Count(least, most) => number(value, |text| text.parse().ok(), (*least, *most)),
            Size(least, most) => number(value, size, (*least, *most)),
            Bool => value.as_bool().map(|value| value.to_string()),
            Word(words) => value.as_str().filter(|word| words.contains(word)).map(str::to_owned),
        }
    }
}

/// What a read of documents tells besides [`Found`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strange {
    pub unknown: BTreeSet<String>,
    pub no_effect: BTreeSet<String>,
}

/// What stands in the store for a host.
pub struct Stored<'h> {
    /// `None`: one of them is no JSON.
    documents: Option<BTreeMap<String, Value>>,
    history: Option<&'h History>,
    revision: i64,
}

impl<'h> Stored<'h> {
    /// At a revision.
    pub fn at(history: &'h History, config: &str, revision: i64) -> Self {
        let documents = history.below(config, revision);
        let parsed = documents
            .iter()
            .map(|(section, text)| Some(((*section).to_owned(), serde_json::from_str::<Value>(text).ok()?)));
        Stored { documents: parsed.collect(), history: Some(history), revision }
    }

    /// Of a last good copy.
    pub fn copied(documents: &Documents) -> Self {
        Stored { documents: Some(documents.clone().into_iter().collect()), history: None, revision: 0 }
    }

    /// The value behind references; `Err`: they lead nowhere, or are none.
    fn follow(&self, value: &Value) -> Result<Value, ()> {
        let mut value = value.clone();
        for _ in 0..5 {
            let Some(place) = value.get("$ref") else { return Ok(value) };
            if value.as_object().is_none_or(|members| members.len() != 1) {
                return Err(());
            }
            let place = place.as_str().unwrap_or_default().to_owned();
            let (path, steps) = place.split_once('|').ok_or(())?;
            let (_, text) = self.history.ok_or(())?.get(path, self.revision).ok_or(())?;
            value = serde_json::from_str(text).map_err(drop)?;
            for step in steps.split('.') {
                value = self.follow(&value)?.get(step).cloned().ok_or(())?;
            }
        }
        Err(())
    }

    fn values(&self, identity: &Plain) -> Option<Plain> {
        let documents = self.documents.as_ref()?;
        for (section, document) in documents {
            if document.as_object().is_none() && SECTIONS.contains(&section.as_str()) {
                return None;
            }
            for value in document.as_object().iter().flat_map(|document| document.values()) {
                self.follow(value).ok()?;
            }
        }
        let mut plain = Plain::new();
        for (name, form, default) in ALL {
            let value = documents.get(name.0).and_then(|document| document.get(name.1));
            let value = match value {
                Some(value) => form.canonical(&self.follow(value).ok()?)?,
                None if SUBJECT.immutable.contains(name) => identity[name].clone(),
                None => (*default).to_owned(),
            };
            plain.insert(*name, value);
        }
        for (name, form) in NO_EFFECT {
            if let Some(value) = documents.get(name.0).and_then(|document| document.get(name.1)) {
                form.canonical(&self.follow(value).ok()?)?;
            }
        }
        Some(plain)
    }

    /// What the rules must know of it.
    pub fn found(&self, identity: &Plain) -> Found {
        let names = self.documents.iter().flatten().map(|(section, _)| section.clone());
        Found {
            is_empty: self.documents.as_ref().is_some_and(BTreeMap::is_empty),
            sections: names.filter(|section| SECTIONS.contains(&section.as_str())).collect(),
            values: self.values(identity),
        }
    }

    /// Keys that do nothing.
    pub fn strange(&self) -> Strange {
        let mut strange = Strange::default();
        for (section, document) in self.documents.iter().flatten() {
            if !SECTIONS.contains(&section.as_str()) {
                strange.unknown.insert(section.clone());
                continue;
            }
            for key in document.as_object().iter().flat_map(|document| document.keys()) {
                let is = |(of, name): &Name| *of == section && *name == key;
                if NO_EFFECT.iter().any(|(name, _)| is(name)) {
                    strange.no_effect.insert(format!("{section}.{key}"));
                } else if !ALL.iter().any(|(name, ..)| is(name)) {
                    strange.unknown.insert(format!("{section}.{key}"));
                }
            }
        }
        strange
    }
}

/// The typed parameters with these values.
pub fn typed(plain: &Plain) -> Parameters {
    let mut documents = Documents::new();
    for ((section, key), value) in plain {
        let value = match value.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text => json!(text),
        };
        let document = documents.entry((*section).to_owned()).or_insert_with(|| json!({}));
        document[*key] = value;
    }
    Parameters::read(&documents).parameters.expect("values that were found good")
}

/// A value for a parameter, seldom a wrong one.
fn value(random: &mut Random, (_, key): Name) -> Value {
    let wrong = random.below(12) == 0;
    let values = match key {
        "nbd_max_connections" if wrong => {
            json!([0, "x", [1], {"$ref": "/site/limits|gone"}, {"$ref": "/site/none|x"}, {"$ref": "limits"},
                   {"$ref": "/site/circle|a"}, {"$ref": "/site/limits|connections", "or": 1}])
        }
        "nbd_max_connections" => {
            json!([5, "7", 77, {"$ref": "/site/limits|connections"}, {"$ref": "/site/limits|deep.connections"}])
        }
        "nbd_requests_in_flight" | "volume_call_timeout_ms" if wrong => json!([70_000_000, true, 1.5, null]),
        "nbd_requests_in_flight" | "volume_call_timeout_ms" => json!([1000, "2000", 60_000]),
        "max_volume_size" if wrong => json!([511, "1G"]),
        "max_volume_size" => json!(["1TiB", 1_073_741_824, "5TB"]),
        "run_size" if wrong => json!(["32MiB", 100_000]),
        "run_size" => json!(["1MiB", "2MiB", 524_288]),
        "trigger_gap" if wrong => json!(["3GB", 0]),
        "trigger_gap" => json!(["100MB", "500MiB", 1_000_000, {"$ref": "/site/limits|gap"}]),
        "backoff_gap" if wrong => json!(["1KiB", "1"]),
        "backoff_gap" => json!(["2GB", "1GiB", "900MB"]),
        "reserve_size" if wrong => json!(["1MiB"]),
        "reserve_size" => json!(["16MiB", "20MiB"]),
        "segments_ready_min" if wrong => json!([17, 0]),
        "segments_ready_min" => json!([1, 2, "3"]),
        "metrics_per_volume" if wrong => json!(["perhaps", 2]),
        "metrics_per_volume" => json!([true, false]),
        "log_level" if wrong => json!(["loud"]),
        "log_level" => json!(["info", "warn", "debug"]),
        "ring_entries" | "admin_operations_in_flight" if wrong => json!([5000, "many"]),
        "ring_entries" | "admin_operations_in_flight" => json!([8, 64, "128"]),
        "data_threads" => json!([1, 2]),
        "segment_size" => json!(["1MiB", "2MiB", 1_048_576]),
        "default_cluster_size" => json!([4096, 8192]),
        "clean_interval" => json!([1, "60", "x"]),
        "scrub_manager_enabled" => json!([true, false, "perhaps"]),
        // Nobody looks at these, but where they lead.
        _ => json!([1, "x", true, {"$ref": "/site/limits|gone"}, {"$ref": "/site/limits|connections"}]),
    };
    random.pick(values.as_array().expect("values")).clone()
}

/// A document of a host as it is stored now with one value changed: section and new text; `None`: it goes.
pub fn changed(random: &mut Random, history: &History, config: &str) -> (String, Option<String>) {
    let name = match random.below(24) {
        0 => *random.pick(SUBJECT.immutable),
        1 => ("nbd", "colour"),
        2 => ("strange", "key"),
        3 => random.pick(NO_EFFECT).0,
        4..10 => *random.pick(SUBJECT.restart),
        _ => *random.pick(SUBJECT.dynamic),
    };
    let section = name.0.to_owned();
    match random.below(60) {
        0 => return (section, Some("{\"half\": ".to_owned())),
        1 => return (section, Some("[1, 2]".to_owned())),
        2 | 3 => return (section, None),
        _ => {}
    }
    let stored = history.get(&format!("{config}/{section}"), i64::MAX);
    let stored = stored.and_then(|(_, text)| serde_json::from_str::<Value>(text).ok());
    let mut members = stored.and_then(|document| document.as_object().cloned()).unwrap_or_default();
    if random.below(5) == 0 {
        members.remove(name.1);
    } else {
        members.insert(name.1.to_owned(), value(random, name));
    }
    (section, Some(Value::Object(members).to_string()))
}

/// A document that is referred to, and its key.
pub fn target(random: &mut Random) -> (String, Option<String>) {
    let limits = json!([
        {"connections": 40, "gap": "50MB", "deep": {"connections": 41}},
        {"connections": {"$ref": "/site/more|connections"}, "gap": "60MB", "deep": {"connections": 42}},
        {"connections": 43, "gap": "9TB", "deep": {"$ref": "/site/more|deep"}},
        {"connections": 44, "gap": "70MB"},
    ]);
    match random.below(8) {
        0 => ("/site/limits".to_owned(), None),
        1 => {
            let circle = json!({"a": {"$ref": "/site/circle|b"}, "b": {"$ref": "/site/circle|a"}});
            ("/site/circle".to_owned(), Some(circle.to_string()))
        }
        2 | 3 => {
            let more = [json!({"connections": 45, "deep": {"connections": 46}}), json!({"connections": "x"})];
            ("/site/more".to_owned(), Some(random.pick(&more).to_string()))
        }
        _ => {
            let limits = random.pick(limits.as_array().expect("documents"));
            ("/site/limits".to_owned(), Some(limits.to_string()))
        }
    }
}

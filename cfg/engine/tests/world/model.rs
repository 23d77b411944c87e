//! What a kettle must run with: an evaluation of the stored documents that shares nothing with the engine.

use std::collections::{BTreeMap, BTreeSet};

use cfg_schema::{Documents, Parameter};
use serde_json::Value as Json;

use super::rules::{Found, Name, Plain, Subject, Verdict, differences};
use super::store::Store;
use crate::kettle::Kettle;

/// A kettle for the rules.
pub const KETTLE: Subject = Subject { dynamic: DYNAMIC, restart: RESTART, immutable: IMMUTABLE, fits };

pub const DYNAMIC: &[Name] =
    &[("heater", "least"), ("heater", "lid_timeout_ms"), ("heater", "password"), ("table", "cups")];
pub const RESTART: &[Name] = &[("heater", "most"), ("table", "legs")];
pub const IMMUTABLE: &[Name] = &[("plate", "serial"), ("plate", "metal")];
pub const ALL: &[(&str, &str)] = &[
    ("heater", "least"),
    ("heater", "most"),
    ("heater", "lid_timeout_ms"),
    ("heater", "password"),
    ("table", "cups"),
    ("table", "legs"),
    ("plate", "serial"),
    ("plate", "metal"),
];
pub const SECTIONS: &[&str] = &["heater", "table", "plate"];

/// The values of a real one.
pub fn plain(kettle: &Kettle) -> Plain {
    let Kettle { heater, table, plate } = kettle;
    let cups = table.cups.iter().map(|cup| format!("{}/{}/{}", cup.name, cup.size.bytes(), cup.pin));
    BTreeMap::from([
        (("heater", "least"), heater.least.bytes().to_string()),
        (("heater", "most"), heater.most.bytes().to_string()),
        (("heater", "lid_timeout_ms"), heater.lid_timeout_ms.0.to_string()),
        (("heater", "password"), heater.password.clone()),
        (("table", "cups"), cups.collect::<Vec<_>>().join(",")),
        (("table", "legs"), table.legs.to_string()),
        (("plate", "serial"), plate.serial.write().as_str().unwrap_or_default().to_owned()),
        (("plate", "metal"), plate.metal.clone()),
    ])
}

/// What is stored for one host at one revision.
pub struct Stored<'s> {
    pub documents: Documents,
    pub store: Option<&'s Store>,
    pub over: BTreeMap<String, Option<Json>>,
    pub revision: i64,
}

impl Stored<'_> {
    fn target(&self, path: &str) -> Option<Json> {
        match self.over.get(path) {
            Some(document) => document.clone(),
            None => self.store?.json(path, self.revision),
        }
    }

    /// The value behind references; `Err`: they lead nowhere.
    fn follow(&self, value: &Json) -> Result<Json, ()> {
        let mut value = value.clone();
        for _ in 0..5 {
            let Some(place) = value.get("$ref").map(|place| place.as_str().unwrap_or_default().to_owned())
            else {
                return Ok(value);
            };
            let (path, key) = place.split_once('|').ok_or(())?;
            value = self.target(path).and_then(|document| document.get(key).cloned()).ok_or(())?;
        }
        Err(())
    }

    /// All values; a silent immutable parameter has that of `identity`. `None`: something is wrong with one of them.
    pub fn evaluate(&self, identity: &Plain) -> Option<Plain> {
        // References must lead somewhere even under keys that nobody knows.
        for document in self.documents.values() {
            for value in document.as_object()?.values() {
                self.follow(value).ok()?;
            }
        }
        let get = |section: &str, key: &str| {
            let value = self.documents.get(section).and_then(|document| document.get(key))?;
            self.follow(value).ok()
        };
        let number = |section, key, default: u64, most: u64| {
            let Some(value) = get(section, key) else { return Some(default.to_string()) };
            let number = match &value {
                Json::String(text) => match text.strip_suffix("KiB") {
                    Some(kib) => kib.parse::<u64>().ok()? << 10,
                    None => text.parse().ok()?,
                },
                other => other.as_u64()?,
            };
            (1..=most).contains(&number).then(|| number.to_string())
        };
        let text = |section, key, default: &str| match get(section, key) {
            None => Some(default.to_owned()),
            Some(value) => value.as_str().map(str::to_owned),
        };
        let cups = get("table", "cups").unwrap_or_else(|| Json::Array(vec![]));
        let cups: Option<Vec<String>> = cups
            .as_array()?
            .iter()
            .map(|cup| {
                let size = cup
                    .get("size")
                    .map_or(Some(256), Json::as_u64)
                    .filter(|size| (1..=4096).contains(size))?;
                let pin = cup.get("pin").map_or(Some(""), Json::as_str)?;
                Some(format!("{}/{size}/{pin}", cup.get("name")?.as_str()?))
            })
            .collect();
        let values = BTreeMap::from([
            (("heater", "least"), number("heater", "least", 512, 1 << 20)?),
            (("heater", "most"), number("heater", "most", 4096, 1 << 20)?),
            (("heater", "lid_timeout_ms"), number("heater", "lid_timeout_ms", 500, 10_000)?),
            (("heater", "password"), text("heater", "password", "")?),
            (("table", "cups"), cups?.join(",")),
            (("table", "legs"), number("table", "legs", 4, 8)?),
            (("plate", "serial"), text("plate", "serial", &identity[&("plate", "serial")])?),
            (("plate", "metal"), text("plate", "metal", &identity[&("plate", "metal")])?),
        ]);
        Some(values)
    }
}

/// Whether the values may stand together.
pub fn fits(values: &Plain) -> bool {
    let number = |key| values[&("heater", key)].parse::<u64>().expect("a number");
    number("least") <= number("most")
}

/// The declared sections of documents.
pub fn sections(documents: &Documents) -> BTreeSet<String> {
    documents.keys().filter(|section| SECTIONS.contains(&section.as_str())).cloned().collect()
}

/// What decides about a process: what the model says it runs with and knows.
#[derive(Clone, Debug)]
pub struct Model {
    pub running: Plain,
    pub sections: BTreeSet<String>,
    /// Those after the commit.
    pub next_sections: BTreeSet<String>,
    /// What is stored, if each value is valid.
    pub stored: Option<Plain>,
    /// What a restart would bring.
    pub accepted: Plain,
    pub observed: i64,
    pub late: usize,
}

impl Model {
    pub fn judge(&self, stored: &Stored<'_>, allow_reset: bool) -> Verdict {
        let found = Found {
            is_empty: stored.documents.is_empty(),
            sections: sections(&stored.documents),
            values: stored.evaluate(&self.running),
        };
        KETTLE.judge(&self.running, &self.sections, &found, allow_reset)
    }

    pub fn observe(&mut self, revision: i64, stored: Option<Plain>, verdict: &Verdict) {
        if revision >= self.observed {
            (self.observed, self.stored) = (revision, stored);
            if let Verdict::Good { stored, .. } = verdict {
                self.accepted = stored.clone();
            }
        }
    }

    pub fn pending(&self) -> BTreeSet<String> {
        differences(&self.running, &self.accepted, KETTLE.restart)
    }
}

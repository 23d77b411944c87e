//! A store with revisions, and the numbers that everything random is made of.

use std::collections::BTreeMap;

use cfg_schema::Documents;
use serde_json::Value as Json;

/// Numbers from a seed (SplitMix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn of<'a, V>(&mut self, values: &'a [V]) -> &'a V {
        &values[self.below(values.len() as u64) as usize]
    }
}

/// Every version of every key.
#[derive(Debug, Default)]
pub struct Store {
    pub revision: i64,
    pub compacted: i64,
    history: BTreeMap<String, Vec<(i64, Option<String>)>>,
}

impl Store {
    /// Writes one key; `None` deletes it.
    pub fn put(&mut self, key: &str, value: Option<String>) -> i64 {
        self.revision += 1;
        self.history.entry(key.to_owned()).or_default().push((self.revision, value));
        self.revision
    }

    /// The value at a revision, and the revision at which it was written.
    pub fn get(&self, key: &str, revision: i64) -> Option<(i64, &str)> {
        let versions = self.history.get(key)?;
        let (written, value) = versions.iter().rev().find(|(written, _)| *written <= revision)?;
        Some((*written, value.as_deref()?))
    }

    pub fn json(&self, key: &str, revision: i64) -> Option<Json> {
        self.get(key, revision).map(|(_, text)| serde_json::from_str(text).expect("JSON"))
    }

    /// The documents directly below a folder.
    pub fn documents(&self, folder: &str, revision: i64) -> Documents {
        let below = format!("{folder}/");
        let keys = self.history.range(below.clone()..).take_while(|(key, _)| key.starts_with(&below));
        keys.filter_map(|(key, _)| Some((key[below.len()..].to_owned(), self.json(key, revision)?))).collect()
    }

    /// All values below a folder now.
    pub fn below(&self, folder: &str) -> Vec<&str> {
        let below = format!("{folder}/");
        let keys = self.history.range(below.clone()..).take_while(|(key, _)| key.starts_with(&below));
        keys.filter_map(|(key, _)| Some(self.get(key, self.revision)?.1)).collect()
    }

    /// The versions of a key that were written at `from` or later.
    pub fn since(&self, key: &str, from: i64) -> Vec<(i64, Option<String>)> {
        let versions = self.history.get(key).into_iter().flatten();
        versions.filter(|(written, _)| *written >= from).cloned().collect()
    }
}

//! What differs between two values.

use std::collections::BTreeMap;

use cfg_client::KeyPath;
use serde_json::{Value as Json, json};

use super::Session;
use super::history::{self, Entry};
use super::secret::{Content, Hashes, MASK};
use crate::failure::Failure;

/// One side of a comparison.
struct Side {
    /// `None`: the key is not there.
    value: Option<Json>,
    secrets: Hashes,
}

impl From<Entry> for Side {
    fn from(entry: Entry) -> Side {
        let value = (!entry.head.deleted).then(|| entry.value.shown());
        Side { value, secrets: entry.head.secrets }
    }
}

impl Session {
    pub(super) async fn diff(
        &self,
        key: &KeyPath,
        old: i64,
        new: Option<i64>,
        show: bool,
    ) -> Result<(), Failure> {
        let entries = history::entries(&self.store, key).await?;
        let old = Side::from(history::find(&entries, key, old)?);
        let new = match new {
            Some(new) => Side::from(history::find(&entries, key, new)?),
            None => self.stored(key, show).await?,
        };
        let differences = differences(&old, &new);
        let values: Vec<Json> = differences
            .iter()
            .map(|(place, (old, new))| json!({"place": place, "old": old, "new": new}))
            .collect();
        if values.is_empty() && !self.json {
            return Ok(());
        }
        self.show(&values, || differences.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    /// What is stored now, as an entry would keep it.
    async fn stored(&self, key: &KeyPath, show: bool) -> Result<Side, Failure> {
        let Some(pair) = self.current(key).await? else {
            return Ok(Side { value: None, secrets: Hashes::new() });
        };
        let clear = Content::of(&pair.value);
        let mut masked = clear.clone();
        let secrets = masked.mask(key);
        let secrets = match secrets.is_empty() {
            true => Hashes::new(),
            false => history::hasher(&self.store)
                .await
                .map_err(|failure| {
                    Failure::new(
                        failure.kind(),
                        format!("the secrets of {key} cannot be compared: {failure}"),
                    )
                })?
                .hashes(key, &secrets),
        };
        let value = if show { clear.shown() } else { masked.shown() };
        Ok(Side { value: Some(value), secrets })
    }
}

type Differences = BTreeMap<String, (Option<Json>, Option<Json>)>;

fn differences(old: &Side, new: &Side) -> Differences {
    let mut found = Differences::new();
    let of = |side: &Side| side.value.as_ref().map(leaves).unwrap_or_default();
    let (old_leaves, new_leaves) = (of(old), of(new));
    for place in old_leaves.keys().chain(new_leaves.keys()) {
        let (before, after) = (old_leaves.get(place), new_leaves.get(place));
        let differs = match (old.secrets.get(place), new.secrets.get(place)) {
            (Some(before), Some(after)) => before != after,
            _ => before != after,
        };
        if differs {
            found.insert(place.clone(), (before.cloned(), after.cloned()));
        }
    }
    found
}

/// All values that contain no others, by their JSON pointers.
pub(super) fn leaves(value: &Json) -> BTreeMap<String, Json> {
    fn collect(value: &Json, pointer: String, leaves: &mut BTreeMap<String, Json>) {
        match value {
            Json::Object(members) if !members.is_empty() => {
                for (name, value) in members {
                    collect(value, format!("{pointer}/{}", super::place::escaped(name)), leaves);
                }
            }
            Json::Array(elements) if !elements.is_empty() => {
                for (index, value) in elements.iter().enumerate() {
                    collect(value, format!("{pointer}/{index}"), leaves);
                }
            }
            leaf => drop(leaves.insert(pointer, leaf.clone())),
        }
    }
    let mut leaves = BTreeMap::new();
    collect(value, String::new(), &mut leaves);
    leaves
}

/// A JSON pointer as people write it behind `|`.
pub(super) fn place_name(pointer: &str) -> String {
    match pointer.strip_prefix('/') {
        None => "(the whole)".to_owned(),
        Some(place) => place.replace('/', ".").replace("~1", "/").replace("~0", "~"),
    }
}

fn line((place, (old, new)): (&String, &(Option<Json>, Option<Json>))) -> String {
    let name = place_name(place);
    match (old, new) {
        (None, Some(new)) => format!("+ {name}: {new}"),
        (Some(old), None) => format!("- {name}: {old}"),
        (Some(Json::String(old)), Some(Json::String(new))) if old == MASK && new == MASK => {
            format!("~ {name}: {MASK} -> another {MASK}")
        }
        (old, new) => {
            let shown = |value: &Option<Json>| value.as_ref().map_or(String::new(), Json::to_string);
            format!("~ {name}: {} -> {}", shown(old), shown(new))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(value: Option<Json>, secrets: &[(&str, &str)]) -> Side {
        let secrets = secrets.iter().map(|(place, hash)| (place.to_string(), hash.to_string())).collect();
        Side { value, secrets }
    }

    #[test]
    fn differences_are_told_by_place() {
        let old = side(
            Some(json!({"a": 1, "b": [1, 2], "p": "***", "q": "***", "r/s": {}})),
            &[("/p", "1"), ("/q", "1")],
        );
        let new = side(
            Some(json!({"a": 2, "b": [1], "p": "***", "q": "***", "c": {"d": null}})),
            &[("/p", "1"), ("/q", "2")],
        );
        let lines: Vec<String> = differences(&old, &new).iter().map(line).collect();
        assert_eq!(lines, ["~ a: 1 -> 2", "- b.1: 2", "+ c.d: null", "~ q: *** -> another ***", "- r/s: {}"]);
        let gone = side(None, &[]);
        let lines: Vec<String> = differences(&side(Some(json!(1)), &[]), &gone).iter().map(line).collect();
        assert_eq!(lines, ["- (the whole): 1"]);
        assert!(differences(&old, &old).is_empty());
    }
}

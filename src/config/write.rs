//! Commands that change: set, delete, rename, revert.

use std::collections::BTreeSet;
use std::io::{self, Read};

use cfg_client::{Content as ListContent, DOCUMENT_LIMIT, Error, KeyPath, Pair};
use serde_json::{Map, Value as Json, json};

use super::change::{Edit, Intent};
use super::check::Check;
use super::history;
use super::journal::Done;
use super::place::Place;
use super::secret::Content;
use super::{Session, counted, failure_of};
use crate::failure::{Failure, Kind};

/// How often a change is based anew on what others wrote meanwhile.
pub(super) const TRIES: usize = 8;

impl Session {
    pub(super) async fn set(
        &self,
        place: &Place,
        value: &str,
        if_revision: Option<i64>,
        note: Option<String>,
        check: Check,
    ) -> Result<(), Failure> {
        let (text, value) = given(place, value)?;
        let intent = Intent::new("set", note)?;
        for _ in 0..TRIES {
            let before = self.current(&place.key).await?;
            expect(&place.key, before.as_ref(), if_revision)?;
            let after = changed(place, &text, &value, before.as_ref())?;
            if before.as_ref().is_some_and(|before| before.value[..] == after[..]) {
                let revision = before.as_ref().map_or(0, |before| before.mod_revision);
                return self.show(
                    &json!({"key": place.to_string(), "revision": revision, "changed": false}),
                    || format!("{place} is so already, since revision {revision}"),
                );
            }
            let edit = Edit { key: place.key.clone(), before, after: Some(after), other: None };
            if let Some(Done { revision, report }) = self.commit(&[edit], &intent, check).await? {
                let result = json!({"key": place.to_string(), "revision": revision, "changed": true});
                return self.show_changed(&report, result, || format!("set {place} at revision {revision}"));
            }
        }
        Err(busy(&place.key))
    }

    pub(super) async fn delete(
        &self,
        place: &Place,
        if_revision: Option<i64>,
        note: Option<String>,
        check: Check,
    ) -> Result<(), Failure> {
        let intent = Intent::new("delete", note)?;
        for _ in 0..TRIES {
            let before = self.document(&place.key).await?;
            expect(&place.key, Some(&before), if_revision)?;
            let after = if place.steps.is_empty() {
                None
            } else {
                let Content::Json(mut document) = Content::of(&before.value) else {
                    return Err(no_json(&place.key));
                };
                if !place.remove(&mut document) {
                    return Err(Failure::not_found(format!("there is no {place}")));
                }
                Some(document.to_string().into_bytes())
            };
            let going = if after.is_none() { BTreeSet::from([place.key.as_str()]) } else { BTreeSet::new() };
            self.refuse_if_referred(place, &going).await?;
            let edit = Edit { key: place.key.clone(), before: Some(before), after, other: None };
            if let Some(done) = self.commit(&[edit], &intent, check).await? {
                return self.deleted(&place.to_string(), 1, &done);
            }
        }
        Err(busy(&place.key))
    }

    pub(super) async fn delete_recursive(
        &self,
        place: &Place,
        note: Option<String>,
        check: Check,
    ) -> Result<(), Failure> {
        if !place.steps.is_empty() {
            return Err(Failure::usage(
                "--recursive is for keys; a place in a document is deleted as a whole anyway",
            ));
        }
        let intent = Intent::new("delete", note)?;
        for _ in 0..TRIES {
            let (_, _, pairs) = self.keys(&place.key, ListContent::Values).await?;
            if pairs.is_empty() {
                return Err(Failure::not_found(format!("there is nothing at {}", place.key)));
            }
            let edits: Vec<Edit> = pairs
                .into_iter()
                .map(|pair| Ok(Edit { key: key_of(&pair)?, before: Some(pair), after: None, other: None }))
                .collect::<Result<_, Failure>>()?;
            let going: BTreeSet<&str> = edits.iter().map(|edit| edit.key.as_str()).collect();
            self.refuse_if_referred(place, &going).await?;
            if let Some(done) = self.commit(&edits, &intent, check).await? {
                return self.deleted(place.key.as_str(), edits.len(), &done);
            }
        }
        Err(busy(&place.key))
    }

    fn deleted(&self, what: &str, keys: usize, done: &Done) -> Result<(), Failure> {
        let revision = done.revision;
        let result = json!({"deleted": what, "keys": keys, "revision": revision});
        self.show_changed(&done.report, result, || match keys {
            1 => format!("deleted {what} at revision {revision}"),
            keys => format!("deleted {what}, {}, at revision {revision}", counted(keys)),
        })
    }

    pub(super) async fn rename(
        &self,
        from: &KeyPath,
        to: &KeyPath,
        note: Option<String>,
        check: Check,
    ) -> Result<(), Failure> {
        if from.is_root() || from.covers(to.as_str().as_bytes()) || to.covers(from.as_str().as_bytes()) {
            return Err(Failure::usage(format!(
                "{from} and {to}: one is, or lies in, the other; choose another name"
            )));
        }
        let intent = Intent::new("rename", note)?;
        for _ in 0..TRIES {
            let (_, _, pairs) = self.keys(from, ListContent::Values).await?;
            if pairs.is_empty() {
                return Err(Failure::not_found(format!("there is nothing at {from}")));
            }
            let (_, _, occupied) = self.keys(to, ListContent::Keys).await?;
            if !occupied.is_empty() {
                let message =
                    format!("there is something at {to} already; delete it, or choose another name");
                return Err(Failure::new(Kind::Conflict, message));
            }
            let old = Place { key: from.clone(), steps: Vec::new() };
            self.refuse_if_referred(&old, &BTreeSet::new()).await?;
            let mut edits = Vec::new();
            for pair in pairs {
                let old = key_of(&pair)?;
                let new = format!("{to}{}", &old.as_str()[from.as_str().len()..]);
                let new = KeyPath::parse(&new).map_err(failure_of)?;
                let after = Some(pair.value.to_vec());
                // Written before the old one goes, so that nothing is lost between two transactions of a large rename.
                edits.push(Edit { key: new.clone(), before: None, after, other: Some(old.clone()) });
                edits.push(Edit { key: old, before: Some(pair), after: None, other: Some(new) });
            }
            let keys = edits.len() / 2;
            if let Some(Done { revision, report }) = self.commit(&edits, &intent, check).await? {
                let result =
                    json!({"from": from.as_str(), "to": to.as_str(), "keys": keys, "revision": revision});
                return self.show_changed(&report, result, || {
                    format!("renamed {from} to {to}, {}, at revision {revision}", counted(keys))
                });
            }
        }
        Err(busy(from))
    }

    pub(super) async fn revert(
        &self,
        key: &KeyPath,
        revision: i64,
        note: Option<String>,
        check: Check,
    ) -> Result<(), Failure> {
        let intent = Intent::new("revert", note)?;
        for _ in 0..TRIES {
            let entry = history::find(&history::entries(&self.store, key).await?, key, revision)?;
            let before = self.current(key).await?;
            let after = match entry.head.deleted {
                true => None,
                false => Some(self.reverted(key, &entry, before.as_ref()).await?),
            };
            if before.as_ref().map(|pair| &pair.value[..]) == after.as_deref() {
                return self.show(&json!({"key": key.as_str(), "to": revision, "changed": false}), || {
                    format!("{key} is as it was at revision {revision} already")
                });
            }
            if after.is_none() {
                let place = Place { key: key.clone(), steps: Vec::new() };
                self.refuse_if_referred(&place, &BTreeSet::from([key.as_str()])).await?;
            }
            let edit = Edit { key: key.clone(), before, after, other: None };
            if let Some(Done { revision: now, report }) = self.commit(&[edit], &intent, check).await? {
                let result = json!({"key": key.as_str(), "to": revision, "revision": now, "changed": true});
                return self.show_changed(&report, result, || {
                    format!("reverted {key} to revision {revision} at revision {now}")
                });
            }
        }
        Err(busy(key))
    }

    /// The value of an entry with the stored secrets in it, which must be those of then.
    pub(super) async fn reverted(
        &self,
        key: &KeyPath,
        entry: &history::Entry,
        before: Option<&Pair>,
    ) -> Result<Vec<u8>, Failure> {
        if entry.head.secrets.is_empty() {
            return Ok(entry.text.clone());
        }
        let other_secrets = |places: &[&str]| {
            let message = format!(
                "the secrets of {key} at {} are not those of revision {}, of which only hashes are kept; \
                 set the old document with the secrets that it shall have",
                places.join(" "),
                entry.revision
            );
            Failure::new(Kind::Conflict, message)
        };
        let stored = before.map(|pair| Content::of(&pair.value));
        let secrets = stored.clone().map(|mut stored| stored.mask(key)).unwrap_or_default();
        let hashes = history::hasher(&self.store).await?.hashes(key, &secrets);
        let differing = entry.head.secrets.iter().filter(|(place, hash)| hashes.get(*place) != Some(*hash));
        let differing: Vec<&str> = differing.map(|(place, _)| place.as_str()).collect();
        if !differing.is_empty() {
            return Err(other_secrets(&differing));
        }
        let mut value = entry.value.clone();
        value
            .unmask(key, stored.as_ref())
            .map_err(|places| other_secrets(&places.iter().map(String::as_str).collect::<Vec<_>>()))?;
        Ok(value.bytes())
    }

    /// What is stored at a key.
    pub(super) async fn current(&self, key: &KeyPath) -> Result<Option<Pair>, Failure> {
        match self.store.get(key, None).await {
            Ok(pair) => Ok(Some(pair)),
            Err(Error::Absent { .. }) => Ok(None),
            Err(error) => Err(failure_of(error)),
        }
    }
}

/// The key of a pair that is to be changed.
pub(super) fn key_of(pair: &Pair) -> Result<KeyPath, Failure> {
    let text = str::from_utf8(&pair.key);
    let text = text.map_err(|_| Failure::rejected("a key that is no UTF-8 text cannot be changed by ovs"))?;
    KeyPath::parse(text).map_err(failure_of)
}

fn no_json(key: &KeyPath) -> Failure {
    Failure::rejected(format!("{key} is no JSON, so nothing is inside it; set it as a whole"))
}

pub(super) fn busy(key: &KeyPath) -> Failure {
    let message = format!("{key} was changed by others each of the {TRIES} times it was tried; try again");
    Failure::new(Kind::Conflict, message)
}

/// With a condition, that the key was written by others is an answer and not a reason to try again.
fn expect(key: &KeyPath, before: Option<&Pair>, if_revision: Option<i64>) -> Result<(), Failure> {
    let found = before.map_or(0, |pair| pair.mod_revision);
    match if_revision {
        Some(expected) if expected != found => {
            let message = match found {
                0 => format!("{key} is not there, and not of revision {expected}"),
                found => format!("{key} was written at revision {found}, not {expected}; look at it again"),
            };
            Err(Failure::new(Kind::Conflict, message))
        }
        _ => Ok(()),
    }
}

/// The value of a command as text, and what it means at `place`.
pub(super) fn given(place: &Place, value: &str) -> Result<(String, Json), Failure> {
    let text = if value == "-" { standard_input()? } else { value.to_owned() };
    let value = parse(place, &text)?;
    Ok((text, value))
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let limit = 2 * DOCUMENT_LIMIT as u64;
    match io::stdin().take(limit + 1).read_to_string(&mut text) {
        Ok(length) if length as u64 > limit => Err(Failure::rejected(format!(
            "standard input is too large; a document has at most {} KiB",
            DOCUMENT_LIMIT >> 10
        ))),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Failure::rejected("standard input is no UTF-8 text"))
        }
        Err(error) => Err(Failure::failed(format!("standard input cannot be read: {error}"))),
    }
}

/// The value of a command: JSON. Inside a document a word that cannot be JSON is a string.
fn parse(place: &Place, text: &str) -> Result<Json, Failure> {
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let word = text.trim_end_matches('\n');
    if !place.steps.is_empty() && !word.is_empty() && !word.starts_with(['{', '[', '"']) {
        return Ok(Json::String(word.to_owned()));
    }
    Err(Failure::rejected(format!(
        "the value for {place} is no JSON: {error}; a text stands in quotes: '\"text\"'"
    )))
}

/// The bytes that a key has after `value` was put at a place of it.
pub(super) fn changed(
    place: &Place,
    text: &str,
    value: &Json,
    before: Option<&Pair>,
) -> Result<Vec<u8>, Failure> {
    let stored = before.map(|pair| Content::of(&pair.value));
    let (mut content, as_given) = if place.steps.is_empty() {
        (Content::Json(value.clone()), true)
    } else {
        let mut document = match &stored {
            None => Json::Object(Map::new()),
            Some(Content::Json(document)) => document.clone(),
            Some(Content::Bytes(_)) => return Err(no_json(&place.key)),
        };
        place.put(&mut document, value.clone()).map_err(Failure::rejected)?;
        (Content::Json(document), false)
    };
    let given = content.clone();
    content.unmask(&place.key, stored.as_ref()).map_err(|missing| not_stored(&place.key, &missing))?;
    // A document that was given as a whole keeps its look.
    Ok(if as_given && content == given { text.trim().as_bytes().to_vec() } else { content.bytes() })
}

/// A mask where there is no secret to keep.
pub(super) fn not_stored(key: &KeyPath, missing: &[String]) -> Failure {
    let places =
        missing.iter().map(|place| if place.is_empty() { "the whole" } else { place }).collect::<Vec<_>>();
    Failure::rejected(format!(
        "{key} has *** at {}, where nothing is stored that could stay; give the secret",
        places.join(" ")
    ))
}

//! Changes that are carried out: small ones in one transaction, large ones from a journal in the store.
//!
//! The journal of a change is `/ovs/changes/journal/<id>/`: a piece for each transaction (`00000`, …), then `head`,
//! which is written last. Without `head` nothing of the change was begun. A piece is deleted in the transaction that
//! carries it out, and `head` with the last one; so whoever goes on, and however often, each piece happens once.

use std::collections::BTreeMap;

use cfg_client::{
    Compare, Content as ListContent, Error, KeyPath, KeyRange, MARKERS, Pair, Proof, Transaction, Write,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::change::{self, Batch, Edit, Intent};
use super::check::{Check, Report};
use super::{Session, failure_of};
use crate::failure::{Failure, Kind};

/// Most pieces of one journal.
const PIECES: usize = 10_000;

/// The last key of a journal.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    action: String,
    by: String,
    time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    keys: usize,
    pieces: usize,
}

/// One edit in the first line of a piece; the values follow it in the same order.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: String,
    /// Revision that the key must have; 0: it must not be there.
    previous: i64,
    /// Bytes of its new value; `None`: it goes.
    length: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other: Option<String>,
}

fn journals() -> Result<KeyPath, Failure> {
    KeyPath::parse(&format!("{MARKERS}/journal")).map_err(failure_of)
}

/// A change that was carried out.
#[derive(Debug)]
pub(super) struct Done {
    /// Of the last transaction.
    pub(super) revision: i64,
    /// What it means for the hosts that it touches.
    pub(super) report: Report,
}

impl Session {
    /// Checks edits and carries them out; `None` when someone else changed a key since it was read, and nothing was
    /// done.
    pub(super) async fn commit(
        &self,
        edits: &[Edit],
        intent: &Intent,
        check: Check,
    ) -> Result<Option<Done>, Failure> {
        change::check(edits)?;
        change::check_places(&self.store, edits).await?;
        let report = match check {
            Check::Made => self.check(edits).await?,
            Check::Omitted => Report::default(),
        };
        self.refuse(&report)?;
        let hasher = change::hasher_for(&self.store, edits).await?;
        change::record_found(&self.store, edits, hasher.as_ref()).await?;
        let (mut batches, sizes) = change::batches(edits, intent, hasher.as_ref())?;
        if batches.len() > 1 {
            let revision = self.journal(edits, &sizes, intent).await?;
            return Ok(Some(Done { revision, report }));
        }
        let Some(batch) = batches.pop() else { return Err(Failure::failed("there is nothing to change")) };
        let mut more = Transaction::default();
        if report.hosts.len() <= batch.room() {
            more.compares.extend(report.hosts.iter().map(|host| host.guard.clone()));
        }
        match batch.apply(&self.store, more).await {
            Ok(revision) => Ok(Some(Done { revision, report })),
            Err(Error::Conflict) => Ok(None),
            Err(error) => Err(failure_of(error)),
        }
    }

    /// Writes the journal of a large change, and works through it.
    async fn journal(&self, edits: &[Edit], sizes: &[usize], intent: &Intent) -> Result<i64, Failure> {
        if sizes.len() > PIECES {
            let message =
                format!("the change takes {} transactions, at most {PIECES} are allowed", sizes.len());
            return Err(Failure::rejected(message));
        }
        let folder = journals()?.join(&intent.id).map_err(failure_of)?;
        eprintln!(
            "ovs: {} keys take {} transactions; they run from the journal {}; if this is interrupted, \
             `ovs config resume {}` goes on",
            edits.len(),
            sizes.len(),
            intent.id,
            intent.id
        );
        let mut rest = edits;
        for (number, size) in sizes.iter().enumerate() {
            let (piece, behind) = rest.split_at(*size);
            self.create(&folder.join(&format!("{number:05}")).map_err(failure_of)?, encode(piece)).await?;
            rest = behind;
        }
        let head = Head {
            action: intent.action.to_owned(),
            by: intent.by.clone(),
            time: intent.time.clone(),
            note: intent.note.clone(),
            keys: edits.len(),
            pieces: sizes.len(),
        };
        // A struct of strings and numbers always becomes JSON.
        let head = serde_json::to_vec(&head).unwrap_or_default();
        self.create(&folder.join("head").map_err(failure_of)?, head).await?;
        self.work(&folder, &intent.id).await
    }

    async fn create(&self, key: &KeyPath, value: Vec<u8>) -> Result<(), Failure> {
        let transaction = Transaction { compares: Vec::new(), writes: vec![Write::put(key, value)] };
        self.store.change(transaction, Proof::Key(key.clone())).await.map(drop).map_err(failure_of)
    }

    /// Carries out what is left of a journal.
    async fn work(&self, folder: &KeyPath, id: &str) -> Result<i64, Failure> {
        let head =
            self.store.get(&folder.join("head").map_err(failure_of)?, None).await.map_err(failure_of)?;
        let parsed: Head =
            serde_json::from_slice(&head.value).map_err(|error| damaged(folder, &error.to_string()))?;
        let intent = Intent {
            id: id.to_owned(),
            action: action(&parsed.action),
            by: parsed.by,
            time: parsed.time,
            note: parsed.note,
        };
        let pieces =
            self.store.list(&folder.below(), ListContent::Keys, None).await.map_err(failure_of)?.pairs;
        let pieces: Vec<Pair> = pieces.into_iter().filter(|pair| pair.key != head.key).collect();
        let mut revision = 0;
        for (index, piece) in pieces.iter().enumerate() {
            let key = super::write::key_of(piece)?;
            let value = match self.store.get(&key, None).await {
                Ok(pair) => pair.value,
                // Somebody else goes on with the same journal.
                Err(Error::Absent { .. }) => continue,
                Err(error) => return Err(failure_of(error)),
            };
            let edits = decode(&value).map_err(|problem| damaged(&key, &problem))?;
            let edits = self.current_edits(edits, id, index, pieces.len()).await?;
            let hasher = change::hasher_for(&self.store, &edits).await?;
            let batch = single(change::batches(&edits, &intent, hasher.as_ref())?.0, &key)?;
            let mut more = Transaction {
                compares: vec![Compare::Unchanged { key: key.clone(), mod_revision: piece.mod_revision }],
                writes: vec![Write::Delete(KeyRange::from(&key))],
            };
            if index + 1 == pieces.len() {
                more.writes.push(Write::Delete(KeyRange::key(head.key.to_vec())));
            }
            match batch.apply(&self.store, more).await {
                Ok(done) => revision = done,
                Err(Error::Conflict) => {
                    return Err(interrupted(id, index, pieces.len(), "someone else changes its keys"));
                }
                Err(error) => {
                    let advice = format!("; `ovs config resume {id}` goes on");
                    let failure = failure_of(error);
                    return Err(Failure::new(failure.kind(), format!("{failure}{advice}")));
                }
            }
        }
        Ok(revision)
    }

    /// Edits of a piece with what their keys have now, which must be what they had.
    async fn current_edits(
        &self,
        planned: Vec<(Edit, i64)>,
        id: &str,
        done: usize,
        pieces: usize,
    ) -> Result<Vec<Edit>, Failure> {
        let mut edits = Vec::new();
        for (mut edit, previous) in planned {
            edit.before = self.current(&edit.key).await?;
            if edit.before.as_ref().map_or(0, |pair| pair.mod_revision) != previous {
                return Err(interrupted(id, done, pieces, &format!("someone else changed {}", edit.key)));
            }
            edits.push(edit);
        }
        Ok(edits)
    }

    /// Lists the journals that are there.
    pub(super) async fn journals(&self) -> Result<(), Failure> {
        let folder = journals()?;
        let pairs =
            self.store.list(&folder.below(), ListContent::Keys, None).await.map_err(failure_of)?.pairs;
        let mut found: BTreeMap<String, (usize, bool)> = BTreeMap::new();
        for pair in pairs {
            let key = String::from_utf8_lossy(&pair.key).into_owned();
            let Some((id, name)) =
                key.rsplit_once('/').and_then(|(path, name)| Some((path.rsplit('/').next()?, name)))
            else {
                continue;
            };
            let (left, ready) = found.entry(id.to_owned()).or_default();
            if name == "head" { *ready = true } else { *left += 1 }
        }
        let values: Vec<_> = found
            .iter()
            .map(|(id, (left, ready))| json!({"id": id, "transactions_left": left, "complete": ready}))
            .collect();
        let lines: Vec<String> = found
            .iter()
            .map(|(id, (left, ready))| match ready {
                true => format!("{id} has {left} transactions left"),
                false => {
                    format!("{id} was interrupted before it began, or is being written; --abort removes it")
                }
            })
            .collect();
        if lines.is_empty() && !self.json { Ok(()) } else { self.show(&values, || lines.join("\n")) }
    }

    /// Goes on with a journal, or forgets the rest of it.
    pub(super) async fn resume(&self, id: &str, abort: bool) -> Result<(), Failure> {
        let folder = journals()?.join(id).map_err(failure_of)?;
        let left = self.store.list(&folder.below(), ListContent::Keys, None).await.map_err(failure_of)?.pairs;
        let head = folder.join("head").map_err(failure_of)?;
        if left.is_empty() {
            return Err(Failure::not_found(format!("there is no journal {id}; it may be done already")));
        }
        if abort {
            self.store.delete(&folder.below()).await.map_err(failure_of)?;
            return self.show(&json!({"aborted": id}), || format!("forgot what was left of {id}"));
        }
        if !left.iter().any(|pair| pair.key == head.as_str().as_bytes()) {
            let message =
                format!("{id} was interrupted before it began; nothing was changed; remove it with --abort");
            return Err(Failure::new(Kind::Conflict, message));
        }
        let revision = self.work(&folder, id).await?;
        self.show(&json!({"id": id, "revision": revision}), || {
            format!("{id} is done, at revision {revision}")
        })
    }
}

fn single(mut batches: Vec<Batch>, key: &KeyPath) -> Result<Batch, Failure> {
    match (batches.pop(), batches.is_empty()) {
        (Some(batch), true) => Ok(batch),
        _ => Err(damaged(key, "it does not fit one transaction")),
    }
}

fn interrupted(id: &str, done: usize, pieces: usize, why: &str) -> Failure {
    let message = format!(
        "{id} stopped with {} of {pieces} transactions left: {why}; undo that and `ovs config resume {id}`, or \
         forget the rest with `ovs config resume {id} --abort`",
        pieces - done
    );
    Failure::new(Kind::Conflict, message)
}

fn damaged(key: &KeyPath, problem: &str) -> Failure {
    Failure::failed(format!("{key} is no journal: {problem}"))
}

/// The action of this name. One of another version is recorded as what it does to each key.
fn action(name: &str) -> &'static str {
    ["delete", "rename", "import"].into_iter().find(|known| *known == name).unwrap_or("set")
}

fn encode(edits: &[Edit]) -> Vec<u8> {
    let line = |edit: &Edit| Line {
        key: edit.key.to_string(),
        previous: edit.before.as_ref().map_or(0, |pair| pair.mod_revision),
        length: edit.after.as_ref().map(Vec::len),
        other: edit.other.as_ref().map(KeyPath::to_string),
    };
    // Structs of strings and numbers always become JSON.
    let mut piece = serde_json::to_vec(&edits.iter().map(line).collect::<Vec<_>>()).unwrap_or_default();
    piece.push(b'\n');
    for value in edits.iter().filter_map(|edit| edit.after.as_ref()) {
        piece.extend(value);
    }
    piece
}

/// The edits of a piece, each with the revision that its key must have.
fn decode(piece: &[u8]) -> Result<Vec<(Edit, i64)>, String> {
    let end = piece.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let lines: Vec<Line> = serde_json::from_slice(&piece[..end]).map_err(|error| error.to_string())?;
    let mut values = &piece[end + 1..];
    let mut edits = Vec::new();
    for line in lines {
        let key = |text: &str| KeyPath::parse(text).map_err(|error| error.to_string());
        let after = match line.length {
            None => None,
            Some(length) => {
                let (value, rest) = values.split_at_checked(length).ok_or("it is too short")?;
                values = rest;
                Some(value.to_vec())
            }
        };
        let other = line.other.as_deref().map(key).transpose()?;
        edits.push((Edit { key: key(&line.key)?, before: None, after, other }, line.previous));
    }
    if values.is_empty() { Ok(edits) } else { Err("it is too long".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_back_and_damage_is_found() {
        let key = |text: &str| KeyPath::parse(text).expect("a key");
        let edit = |name: &str, after: Option<&[u8]>, other: Option<&str>| Edit {
            key: key(name),
            before: None,
            after: after.map(<[u8]>::to_vec),
            other: other.map(key),
        };
        let edits =
            [edit("/a", Some(b"\xff\n"), None), edit("/b", None, Some("/c")), edit("/c", Some(b""), None)];
        let piece = encode(&edits);
        let found = decode(&piece).expect("read back");
        for ((found, previous), edit) in found.iter().zip(&edits) {
            assert_eq!((&found.key, &found.after, &found.other), (&edit.key, &edit.after, &edit.other));
            assert_eq!(*previous, 0);
        }
        for damaged in [&piece[..piece.len() - 1], &[&piece[..], b"x"].concat(), b"", b"[]", b"{}\n"] {
            assert!(decode(damaged).is_err(), "{damaged:?}");
        }
    }
}

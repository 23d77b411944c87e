//! `ovs config revert --to-running`: stores again what a process runs with.

use std::collections::{BTreeMap, BTreeSet};

use cfg_client::{Content as ListContent, Error, KeyPath};
use cfg_engine::Status;
use serde_json::json;

use super::change::{Edit, Intent};
use super::check::Check;
use super::host::Host;
use super::journal::Done;
use super::place::Place;
use super::write::{TRIES, busy, key_of};
use super::{Session, counted, failure_of, history};
use crate::failure::Failure;

impl Session {
    /// Of one document of a host, or of its whole folder `config`. What waits for a restart counts as running: the
    /// process took it.
    pub(super) async fn revert_to_running(
        &self,
        key: &KeyPath,
        note: Option<String>,
        check: Check,
    ) -> Result<(), Failure> {
        let (host, is_folder) = match (Host::of(key.as_str()), Host::of_document(key.as_str())) {
            (Some((host, "config")), _) => (host, true),
            (_, Some((host, _))) => (host, false),
            _ => {
                return Err(Failure::usage(format!(
                    "{key} belongs to no process; --to-running wants …/hosts/ID/config or a section below it"
                )));
            }
        };
        let revision = self.running_revision(&host).await?;
        let intent = Intent::new("revert", note)?;
        for _ in 0..TRIES {
            let keys =
                if is_folder { self.sections(key, revision).await? } else { BTreeSet::from([key.clone()]) };
            let mut edits = Vec::new();
            for key in keys {
                let before = self.current(&key).await?;
                let after = self.value_of(&key, revision).await?;
                if before.as_ref().map(|pair| &pair.value[..]) == after.as_deref() {
                    continue;
                }
                if after.is_none() {
                    let place = Place { key: key.clone(), steps: Vec::new() };
                    self.refuse_if_referred(&place, &BTreeSet::from([key.as_str()])).await?;
                }
                edits.push(Edit { key, before, after, other: None });
            }
            if edits.is_empty() {
                let result = json!({"key": key.as_str(), "to": revision, "changed": false});
                return self
                    .show(&result, || format!("{key} is what runs already, that of revision {revision}"));
            }
            if let Some(Done { revision: now, report }) = self.commit(&edits, &intent, check).await? {
                let changed = edits.len();
                let result = json!({"key": key.as_str(), "to": revision, "revision": now, "changed": true});
                return self.show_changed(&report, result, || {
                    format!(
                        "reverted {} to what runs, that of revision {revision}, at {now}",
                        counted(changed)
                    )
                });
            }
        }
        Err(busy(key))
    }

    /// The revision of what the process runs with, as it says, or said last.
    async fn running_revision(&self, host: &Host) -> Result<i64, Failure> {
        for name in ["status", "last_status"] {
            let Some(pair) = self.current(&host.key(name)?).await? else { continue };
            match Status::read(&pair.value) {
                Ok(status) if status.running_revision > 0 => return Ok(status.running_revision),
                Ok(_) => {}
                Err(problem) => eprintln!("ovs: {host}/{name} {problem}; it is left out"),
            }
        }
        let problem = "no process says what it runs with; `ovs config history` shows what was stored";
        Err(Failure::not_found(format!("{host}: {problem}")))
    }

    /// All sections that are there now, or were at `revision`.
    async fn sections(&self, config: &KeyPath, revision: i64) -> Result<BTreeSet<KeyPath>, Failure> {
        let mut keys = BTreeMap::new();
        for at in [None, Some(revision)] {
            let listing = match self.store.list(&config.below(), ListContent::Keys, at).await {
                Ok(listing) => listing,
                // Those that went since then are not known any more.
                Err(Error::Compacted) => continue,
                Err(error) => return Err(failure_of(error)),
            };
            for pair in &listing.pairs {
                let key = key_of(pair)?;
                if Host::of_document(key.as_str()).is_some() {
                    keys.insert(key.as_str().to_owned(), key);
                }
            }
        }
        Ok(keys.into_values().collect())
    }

    /// What a key was at a revision: from the store, and from the history where the store forgot it. `None`: it was not
    /// there.
    async fn value_of(&self, key: &KeyPath, revision: i64) -> Result<Option<Vec<u8>>, Failure> {
        match self.store.get(key, Some(revision)).await {
            Ok(pair) => return Ok(Some(pair.value.to_vec())),
            Err(Error::Absent { .. }) => return Ok(None),
            Err(Error::Compacted) => {}
            Err(error) => return Err(failure_of(error)),
        }
        let before = self.current(key).await?;
        if let Some(pair) = before.as_ref().filter(|pair| pair.mod_revision <= revision) {
            return Ok(Some(pair.value.to_vec()));
        }
        let entries = history::entries(&self.store, key).await?;
        let written = |entry: &history::Entry| entry.head.written.unwrap_or(entry.revision);
        let of_then =
            entries.iter().filter(|entry| written(entry) <= revision).max_by_key(|entry| written(entry));
        match of_then {
            Some(entry) if entry.head.deleted => Ok(None),
            Some(entry) => self.reverted(key, entry, before.as_ref()).await.map(Some),
            None => Err(Failure::not_found(format!(
                "neither the store nor the history of {key} goes back to revision {revision}; set the document by hand"
            ))),
        }
    }
}

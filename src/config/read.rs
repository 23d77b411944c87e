//! Commands that show: list, get, history.

use std::collections::BTreeSet;

use cfg_client::{Content as ListContent, Error, KeyPath, Pair};
use serde_json::{Value as Json, json};

use super::change::is_internal;
use super::history;
use super::place::Place;
use super::secret::Content;
use super::{Session, failure_of};
use crate::failure::Failure;
use crate::output;

impl Session {
    /// Keys at or below a prefix. What `ovs` keeps for itself is left out, unless the prefix lies in it.
    pub(super) async fn keys(
        &self,
        prefix: &KeyPath,
        content: ListContent,
    ) -> Result<(i64, u64, Vec<Pair>), Failure> {
        let listing = self.store.list_path(prefix, content, None).await.map_err(failure_of)?;
        let mut pairs = listing.pairs;
        if !is_internal(prefix.as_str().as_bytes()) {
            pairs.retain(|pair| !is_internal(&pair.key));
        }
        Ok((listing.revision, listing.cluster_id, pairs))
    }

    pub(super) async fn list(&self, prefix: &KeyPath) -> Result<(), Failure> {
        let (_, _, pairs) = self.keys(prefix, ListContent::Keys).await?;
        let folder = prefix.folder();
        let below = pairs.iter().filter_map(|pair| pair.key.strip_prefix(folder.as_bytes()));
        let mut children = BTreeSet::new();
        for name in below {
            let name = String::from_utf8_lossy(name);
            match name.split_once('/') {
                Some((folder, _)) => children.insert(format!("{folder}/")),
                None => children.insert(name.into_owned()),
            };
        }
        let both: Vec<String> =
            children.iter().filter(|name| children.contains(&format!("{name}/"))).cloned().collect();
        for name in both {
            children.remove(&name);
            eprintln!(
                "ovs: {folder}{name} is a document and a folder, which ovs never makes; the folder counts"
            );
        }
        if children.is_empty() && !prefix.is_root() {
            return Err(Failure::not_found(match pairs.is_empty() {
                true => format!("there is nothing at {prefix}"),
                false => format!("{prefix} is a document, not a folder; use `ovs config get {prefix}`"),
            }));
        }
        self.print_names(children.into_iter().collect())
    }

    pub(super) async fn list_recursive(&self, prefix: &KeyPath) -> Result<(), Failure> {
        let (_, _, pairs) = self.keys(prefix, ListContent::Keys).await?;
        if pairs.is_empty() && !prefix.is_root() {
            return Err(Failure::not_found(format!("there is nothing at {prefix}")));
        }
        self.print_names(pairs.iter().map(|pair| String::from_utf8_lossy(&pair.key).into_owned()).collect())
    }

    fn print_names(&self, names: Vec<String>) -> Result<(), Failure> {
        match names.is_empty() && !self.json {
            true => Ok(()),
            false => self.show(&names, || names.join("\n")),
        }
    }

    /// The document at a key; absent, the failure says what is there instead.
    pub(super) async fn document(&self, key: &KeyPath) -> Result<Pair, Failure> {
        let absent = match self.store.get(key, None).await {
            Ok(pair) => return Ok(pair),
            Err(error @ Error::Absent { .. }) => failure_of(error),
            Err(error) => return Err(failure_of(error)),
        };
        let below = self.store.list(&key.below(), ListContent::Keys, None).await.map_err(failure_of)?;
        Err(match below.pairs.is_empty() {
            true => absent,
            false => {
                Failure::not_found(format!("{key} is a folder; `ovs config list {key}` shows what is in it"))
            }
        })
    }

    pub(super) async fn get(&self, place: &Place, show_secrets: bool) -> Result<(), Failure> {
        let pair = self.document(&place.key).await?;
        let stored = Content::of(&pair.value);
        let mut content = stored.clone();
        let masked = !show_secrets && !content.mask(&place.key).is_empty();
        if !masked {
            content = stored.clone();
        }
        if !place.steps.is_empty() {
            let Content::Json(document) = &content else {
                return Err(Failure::rejected(format!("{} is no JSON, so nothing is inside it", place.key)));
            };
            let value = place.find(document).cloned();
            let value = value.ok_or_else(|| Failure::not_found(format!("there is no {place}")))?;
            content = Content::Json(value);
        }
        if self.json {
            let value = content.shown();
            return output::json(
                &json!({"key": place.to_string(), "revision": pair.mod_revision, "value": value}),
            );
        }
        // What nothing was taken out of is printed as it was stored.
        let whole = place.steps.is_empty() && !masked;
        output::line(&match (whole, &content) {
            (true, _) => String::from_utf8_lossy(&pair.value).into_owned(),
            (false, Content::Json(Json::String(text))) if !place.steps.is_empty() => text.clone(),
            (false, content) => text(content),
        })
    }

    pub(super) async fn history(&self, key: &KeyPath) -> Result<(), Failure> {
        let current = match self.store.get(key, None).await {
            Ok(pair) => Some(pair),
            Err(Error::Absent { .. }) => None,
            Err(error) => return Err(failure_of(error)),
        };
        if let Some(current) = &current {
            let edit = super::change::Edit {
                key: key.clone(),
                before: Some(current.clone()),
                after: None,
                other: None,
            };
            let hasher = super::change::hasher_for(&self.store, &[edit]).await;
            // To see it is enough to read; a user without the right to write sees what is recorded.
            let recorded = match hasher {
                Ok(hasher) => history::record_found(&self.store, current, key, hasher.as_ref()).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = recorded {
                eprintln!("ovs: what others changed is not recorded: {failure}");
            }
        }
        let entries = history::entries(&self.store, key).await?;
        if entries.is_empty() {
            return Err(Failure::not_found(format!("{key} has no history")));
        }
        let mut rows = Vec::new();
        let mut values = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let gap = entry.has_gap(index.checked_sub(1).map(|before| &entries[before]));
            if gap {
                rows.push(["-", "-", "unknown", "gap", ""].map(str::to_owned));
            }
            let head = &entry.head;
            let shown = if head.deleted { Json::Null } else { entry.value.shown() };
            values.push(json!({
                "revision": entry.revision, "time": head.time, "by": head.by, "action": head.action,
                "message": head.note, "deleted": head.deleted, "value": shown, "other": head.other, "gap_before": gap,
            }));
            let what = match &head.other {
                Some(other) if head.deleted => format!("{} to {other}", head.action),
                Some(other) => format!("{} from {other}", head.action),
                None => head.action.clone(),
            };
            let note = head.note.clone().unwrap_or_default();
            rows.push([entry.revision.to_string(), head.time.clone(), head.by.clone(), what, note]);
        }
        self.show(&values, || output::table(["REV", "TIME", "BY", "ACTION", "MESSAGE"], &["REV"], &rows))
    }
}

/// A value on one line, or as the text it is.
pub(super) fn text(content: &Content) -> String {
    match content {
        Content::Json(value) => value.to_string(),
        Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

//! What is wanted for hosts: the documents of a directory, or values of sections.

use std::collections::BTreeMap;
use std::path::Path;

use cfg_client::{Content as ListContent, FileSource, Pair};
use cfg_schema::Documents;
use serde_json::Value as Json;

use crate::agent::place::Place as HostPlace;
use crate::config::change::Edit;
use crate::config::place::Place;
use crate::config::secret::Content;
use crate::config::write::{changed, given, key_of};
use crate::config::{Session, failure_of};
use crate::endpoints::percent_encode;
use crate::failure::Failure;

/// The documents `SECTION.json` of a directory, of which there must be some.
pub(in crate::config) fn documents(directory: &Path) -> Result<Documents, Failure> {
    let directory = std::path::absolute(directory)
        .map_err(|error| Failure::failed(format!("{}: {error}", directory.display())))?;
    let url = format!("file://{}", percent_encode(&directory));
    let documents = FileSource::open(&url).and_then(|source| source.read("")).map_err(failure_of)?.documents;
    match documents.is_empty() {
        true => Err(Failure::not_found(format!("{} has no documents: SECTION.json", directory.display()))),
        false => Ok(documents),
    }
}

/// A value that a section of every host shall have.
#[derive(Clone, Debug)]
pub(in crate::config) struct Wanted {
    /// `SECTION` or `SECTION|x.y`
    section: String,
    /// As it was given.
    text: String,
    value: Json,
}

impl Wanted {
    /// A value for the hosts of a vPool; `-` reads it from standard input.
    pub(in crate::config) fn parse(vpool: &str, section: &str, value: &str) -> Result<Wanted, Failure> {
        // Checked before the store is asked: the section is the same for all hosts.
        let (text, value) = given(&place(vpool, "host", section)?, value)?;
        Ok(Wanted { section: section.to_owned(), text, value })
    }
}

fn place(vpool: &str, host: &str, section: &str) -> Result<Place, Failure> {
    Place::parse(&format!("/ovs/vpools/{vpool}/hosts/{host}/config/{section}")).map_err(Failure::usage)
}

impl Session {
    /// What has to change on a host so that it has these documents, and with `prune` no others.
    pub(in crate::config) async fn edits_of_documents(
        &self,
        host: &HostPlace,
        documents: &Documents,
        prune: bool,
    ) -> Result<Vec<Edit>, Failure> {
        let mut edits = Vec::new();
        for (section, document) in documents {
            let key = host.config.join(section).map_err(failure_of)?;
            let before = self.current(&key).await?;
            let stored = before.as_ref().map(|pair| Content::of(&pair.value));
            let mut content = Content::Json(document.clone());
            content.unmask(&key, stored.as_ref()).map_err(|missing| {
                Failure::rejected(format!("{key}: *** stands for a secret that is not stored: {missing:?}"))
            })?;
            if stored.as_ref() != Some(&content) {
                let after = crate::config::read::text(&content).into_bytes();
                edits.push(Edit { key, before, after: Some(after), other: None });
            }
        }
        if prune {
            let listing = self.store.list(&host.config.below(), ListContent::Values, None).await;
            for pair in listing.map_err(failure_of)?.pairs {
                let key = key_of(&pair)?;
                let section = key.as_str().strip_prefix(&host.config.folder()).unwrap_or_default();
                if !documents.contains_key(section) {
                    edits.push(Edit { key, before: Some(pair), after: None, other: None });
                }
            }
        }
        Ok(edits)
    }

    /// What has to change on a host so that it has these values; a later one is put into what an earlier one made.
    pub(in crate::config) async fn edits_of_values(
        &self,
        vpool: &str,
        host: &str,
        values: &[Wanted],
    ) -> Result<Vec<Edit>, Failure> {
        let mut edits: BTreeMap<String, Edit> = BTreeMap::new();
        for Wanted { section, text, value } in values {
            let place = place(vpool, host, section)?;
            let edit = match edits.remove(place.key.as_str()) {
                Some(edit) => edit,
                None => {
                    let before = self.current(&place.key).await?;
                    Edit { key: place.key.clone(), before, after: None, other: None }
                }
            };
            let made = edit.after.clone().map(|value| Pair {
                key: place.key.as_str().to_owned().into(),
                value: value.into(),
                create_revision: 0,
                mod_revision: 0,
                version: 0,
                lease: 0,
            });
            let after = changed(&place, text, value, made.as_ref().or(edit.before.as_ref()))?;
            edits.insert(place.key.to_string(), Edit { after: Some(after), ..edit });
        }
        let differs = |edit: &Edit| edit.before.as_ref().map(|pair| &pair.value[..]) != edit.after.as_deref();
        Ok(edits.into_values().filter(differs).collect())
    }
}

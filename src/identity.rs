//! Who a data directory is: its id, and the values of immutable parameters that it was made with.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use cfg_client::LastGood;
use cfg_schema::{Category, Documents, Problem, SectionDeclaration};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::cluster_id::ClusterId;
use crate::data_dir::{DataDir, read_file, write_json};
use crate::failure::Failure;

/// The only version of the file so far.
const VERSION: u32 = 1;

/// Content of `identity.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    version: u32,
    /// A UUID, made with the directory.
    pub(crate) directory_id: String,
    /// Section, key and value in canonical form.
    immutable: BTreeMap<String, BTreeMap<String, Json>>,
    /// The vPool that it belongs to; empty: it was made before there was a store.
    #[serde(default)]
    vpool_guid: String,
    /// Who it is in that vPool; empty as above.
    #[serde(default)]
    vrouter_id: String,
    /// Its first documents are in the store: that there are none later is not for it to mend.
    #[serde(default)]
    configured: bool,
    /// The store that it follows; none: it was made by a version that did not record it, or has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster_id: Option<ClusterId>,
    /// Processes that served from the directory, this one included.
    #[serde(default)]
    starts: u64,
}

impl Identity {
    /// A new one for a directory that is made with these values.
    pub(crate) fn new(
        directory_id: String,
        declarations: &[SectionDeclaration],
        values: &Documents,
    ) -> Identity {
        let mut identity = Identity {
            version: VERSION,
            directory_id,
            immutable: BTreeMap::new(),
            vpool_guid: String::new(),
            vrouter_id: String::new(),
            configured: false,
            cluster_id: None,
            starts: 0,
        };
        identity.extend(declarations, values);
        identity
    }

    /// Reads the identity; `None` when the directory has none yet.
    pub(crate) fn read(path: &Path) -> Result<Option<Identity>, Failure> {
        let failed = |what: String| {
            Failure::failed(format!(
                "{}: {what}; restore it from a copy of the data directory",
                path.display()
            ))
        };
        let Some(content) = read_file(path).map_err(|error: io::Error| failed(error.to_string()))? else {
            return Ok(None);
        };
        let identity: Identity =
            serde_json::from_slice(&content).map_err(|error| failed(error.to_string()))?;
        match identity.version {
            VERSION => Ok(Some(identity)),
            version => Err(Failure::failed(format!(
                "{} has version {version}, and this program knows version {VERSION}; use a newer ovs",
                path.display()
            ))),
        }
    }

    /// Gives the node its place in the store, if it has none. Whether it had none.
    pub(crate) fn name_node(&mut self, id: impl Fn() -> Result<String, Failure>) -> Result<bool, Failure> {
        if !self.vpool_guid.is_empty() && !self.vrouter_id.is_empty() {
            return Ok(false);
        }
        (self.vpool_guid, self.vrouter_id) = (id()?, id()?);
        Ok(true)
    }

    /// Gives the node a place that somebody else chose; its documents are in the store.
    pub(crate) fn place(&mut self, vpool_guid: &str, vrouter_id: &str) {
        (self.vpool_guid, self.vrouter_id) = (vpool_guid.to_owned(), vrouter_id.to_owned());
        self.configured = true;
    }

    /// The vPool that the node belongs to.
    pub(crate) fn vpool_guid(&self) -> &str {
        &self.vpool_guid
    }

    /// Who the node is in its vPool.
    pub(crate) fn vrouter_id(&self) -> &str {
        &self.vrouter_id
    }

    /// Whether the first documents are in the store.
    pub(crate) fn is_configured(&self) -> bool {
        self.configured
    }

    /// They are. Whether that is news.
    pub(crate) fn set_configured(&mut self) -> bool {
        !std::mem::replace(&mut self.configured, true)
    }

    /// The cluster of the store that the directory follows. Where it is not recorded, it is the one that its last
    /// good configuration came from.
    pub(crate) fn cluster(&self, directory: &DataDir) -> Option<ClusterId> {
        let of_last_good = || LastGood::read(&directory.last_good()).ok()?.cluster_id.and_then(ClusterId::of);
        self.cluster_id.or_else(of_last_good)
    }

    /// Records the cluster of the store. Whether that is news.
    pub(crate) fn follow(&mut self, cluster: ClusterId) -> bool {
        self.cluster_id.replace(cluster) != Some(cluster)
    }

    /// Counts one more process that serves from the directory; gives their number.
    pub(crate) fn count_start(&mut self) -> u64 {
        self.starts = self.starts.saturating_add(1);
        self.starts
    }

    /// Writes the identity.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        write_json(path, self)
    }

    /// Adds immutable parameters that are not recorded, such as those of a newer version. Whether there were any.
    pub(crate) fn extend(&mut self, declarations: &[SectionDeclaration], values: &Documents) -> bool {
        let mut extended = false;
        for section in declarations {
            let immutable = section.parameters.iter().filter(|p| p.category == Some(Category::Immutable));
            for key in immutable.map(|parameter| parameter.key) {
                let Some(value) = values.get(section.section).and_then(|document| document.get(key)) else {
                    continue;
                };
                let recorded = self.immutable.entry(section.section.to_owned()).or_default();
                if !recorded.contains_key(key) {
                    recorded.insert(key.to_owned(), value.clone());
                    extended = true;
                }
            }
        }
        extended
    }

    /// Puts recorded values where `documents` are silent: a default that another version changed is not a change.
    pub(crate) fn complete(&self, documents: &mut Documents) {
        for (section, values) in &self.immutable {
            let document =
                documents.entry(section.clone()).or_insert_with(|| Json::Object(Default::default()));
            // Anything but an object is refused when it is read.
            let Json::Object(document) = document else { continue };
            for (key, value) in values {
                document.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }

    /// What differs in `values`, which are in canonical form.
    pub(crate) fn differences(&self, values: &Documents) -> Vec<Problem> {
        let recorded =
            self.immutable.iter().flat_map(|(section, keys)| keys.iter().map(move |kv| (section, kv)));
        recorded
            .filter_map(|(section, (key, recorded))| {
                let value = values.get(section)?.get(key)?;
                let problem = format!("is immutable; this data directory was made with {recorded}");
                (value != recorded).then(|| Problem::new(section, key, value.clone(), problem))
            })
            .collect()
    }
}

//! Export to a file, import from one.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cfg_client::{Content as ListContent, KeyPath, Pair};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::change::{Edit, Intent};
use super::check::Check;
use super::journal::Done;
use super::read::text;
use super::secret::Content;
use super::update::rollout::Rollouts;
use super::write::{key_of, not_stored};
use super::{Session, counted};
use crate::failure::{Failure, Kind};

/// What a file says of itself.
const FORMAT: &str = "ovs-config";

/// The version of the format.
const VERSION: u32 = 1;

/// Largest file, in bytes.
const FILE_LIMIT: u64 = 512 << 20;

/// The file: one JSON object.
#[derive(Debug, Serialize, Deserialize)]
struct Export {
    format: String,
    version: u32,
    /// Where it comes from; of no meaning to an import.
    cluster_id: String,
    revision: i64,
    /// Key → document.
    documents: Map<String, Json>,
    /// Key → text, of values that are no JSON, which foreign clients store.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    texts: Map<String, Json>,
}

impl Session {
    pub(super) async fn export(
        &self,
        file: &Path,
        prefix: &KeyPath,
        show_secrets: bool,
    ) -> Result<(), Failure> {
        let (revision, cluster_id, pairs) = self.keys(prefix, ListContent::Values).await?;
        let mut export = Export {
            format: FORMAT.to_owned(),
            version: VERSION,
            cluster_id: format!("{cluster_id:016x}"),
            revision,
            documents: Map::new(),
            texts: Map::new(),
        };
        // What hangs on a lease is the state of a process, and a roll-out that of a change: no configuration.
        let is_state =
            |pair: &Pair| pair.lease != 0 || Rollouts::place(&String::from_utf8_lossy(&pair.key)).is_some();
        for pair in pairs.into_iter().filter(|pair| !is_state(pair)) {
            let Ok(key) = key_of(&pair) else {
                let key = String::from_utf8_lossy(&pair.key).into_owned();
                eprintln!("ovs: {key:?} is no key that ovs can name; it is left out");
                continue;
            };
            let mut content = Content::of(&pair.value);
            if !show_secrets {
                content.mask(&key);
            }
            match content {
                Content::Json(value) => drop(export.documents.insert(key.to_string(), value)),
                Content::Bytes(bytes) => {
                    let text = String::from_utf8(bytes);
                    let text = text.map_err(|_| {
                        Failure::rejected(format!("{key} is neither JSON nor text and cannot be exported"))
                    })?;
                    export.texts.insert(key.to_string(), text.into());
                }
            }
        }
        let keys = export.documents.len() + export.texts.len();
        if keys == 0 && !prefix.is_root() {
            return Err(Failure::not_found(format!("there is nothing at {prefix} to export")));
        }
        let mut content = serde_json::to_string_pretty(&export)
            .map_err(|error| Failure::failed(format!("the documents cannot be written as JSON: {error}")))?;
        content.push('\n');
        if file == Path::new("-") {
            return crate::output::line(content.trim_end());
        }
        let failed =
            |error: io::Error| Failure::failed(format!("{} cannot be written: {error}", file.display()));
        replace(file, content.as_bytes()).map_err(failed)?;
        let shown = file.display().to_string();
        self.show(&json!({"file": shown, "keys": keys, "revision": revision}), || {
            format!("exported {} of revision {revision} to {shown}", counted(keys))
        })
    }

    pub(super) async fn import(
        &self,
        file: &Path,
        note: Option<String>,
        check: Check,
    ) -> Result<(), Failure> {
        let export = read(file)?;
        let mut wanted = Vec::new();
        for (name, value) in export.documents {
            wanted.push((name, Content::Json(value)));
        }
        for (name, value) in export.texts {
            let Json::String(text) = value else {
                return Err(Failure::rejected(format!(
                    "{}: the text of {name} is no string",
                    file.display()
                )));
            };
            wanted.push((name, Content::Bytes(text.into_bytes())));
        }
        let intent = Intent::new("import", note)?;
        let mut unchanged = 0;
        let mut edits = Vec::new();
        for (name, mut content) in wanted {
            let key = KeyPath::parse(&name)
                .map_err(|error| Failure::rejected(format!("{}: {error}", file.display())))?;
            let before = self.current(&key).await?;
            let stored = before.as_ref().map(|pair| Content::of(&pair.value));
            content.unmask(&key, stored.as_ref()).map_err(|missing| not_stored(&key, &missing))?;
            if stored.as_ref() == Some(&content) {
                unchanged += 1;
                continue;
            }
            edits.push(Edit { key, before, after: Some(text(&content).into_bytes()), other: None });
        }
        let imported = edits.len();
        if edits.is_empty() {
            return self.show(&json!({"imported": 0, "unchanged": unchanged}), || {
                format!("imported nothing; so already: {}", counted(unchanged))
            });
        }
        let Some(Done { revision, report }) = self.commit(&edits, &intent, check).await? else {
            let message =
                "someone else changed one of the keys meanwhile, and nothing was imported; try again";
            return Err(Failure::new(Kind::Conflict, message));
        };
        let result = json!({"imported": imported, "unchanged": unchanged, "revision": revision});
        self.show_changed(&report, result, || {
            format!(
                "imported {} at revision {revision}; so already: {}",
                counted(imported),
                counted(unchanged)
            )
        })
    }
}

/// Replaces a file in one step. It is for this user only: it may hold secrets.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let draft = file.with_file_name(format!(".{name}.new"));
    let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    opened.write_all(content)?;
    opened.sync_all()?;
    fs::rename(&draft, file)
}

fn read(file: &Path) -> Result<Export, Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::not_found(format!("there is no file {}", file.display())),
        _ => Failure::failed(format!("{} cannot be read: {error}", file.display())),
    };
    let mut content = Vec::new();
    let length = match file == Path::new("-") {
        true => io::stdin().take(FILE_LIMIT + 1).read_to_end(&mut content),
        false => fs::File::open(file).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut content)),
    };
    if length.map_err(failed)? as u64 > FILE_LIMIT {
        return Err(Failure::rejected(format!("{} is larger than {} MiB", file.display(), FILE_LIMIT >> 20)));
    }
    let export: Export = serde_json::from_slice(&content)
        .map_err(|error| Failure::rejected(format!("{} is no export of ovs: {error}", file.display())))?;
    if (export.format.as_str(), export.version) != (FORMAT, VERSION) {
        let (format, version) = (&export.format, export.version);
        let message =
            format!("{} is {format} version {version}, not {FORMAT} version {VERSION}", file.display());
        return Err(Failure::rejected(message));
    }
    Ok(export)
}

//! Which data directory a driver of a vPool works in: `…/hosts/<id>/directory` in the store. Another directory has
//! other volumes under the same names, so it is refused.

use cfg_client::{Compare, Error, KeyPath, Store, Transaction, Write};
use serde::{Deserialize, Serialize};

use crate::data_dir::DataDir;
use crate::failure::{Failure, Kind};
use crate::identity::Identity;

/// Tries against others who write the same key.
const TRIES: usize = 8;

/// What is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Directory {
    /// The id in `identity.json`.
    directory_id: String,
    /// Where it was when this was written.
    path: String,
    /// On which machine.
    machine: String,
    /// When: UTC, RFC 3339.
    since: String,
}

impl Directory {
    fn here(directory: &DataDir, identity: &Identity) -> Directory {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Directory {
            directory_id: identity.directory_id.clone(),
            path: directory.path().display().to_string(),
            machine: machine.trim().to_owned(),
            since: crate::config::now(),
        }
    }
}

/// Says that the driver works in this directory; with `replace` from now on, whatever was before.
///
/// # Errors
/// It works in another one. That the store does not answer is none: who starts then was here before.
pub(super) async fn claim_directory(
    store: &Store,
    key: &KeyPath,
    directory: &DataDir,
    identity: &Identity,
    replace: bool,
) -> Result<(), Failure> {
    let away = |error: Error| {
        tracing::warn!(%error, "whether this is the driver's directory cannot be seen now");
        Ok(())
    };
    for _ in 0..TRIES {
        let before = match store.get(key, None).await {
            Ok(pair) => Some(pair),
            Err(Error::Absent { .. }) => None,
            Err(error) => return away(error),
        };
        let known = before.as_ref().and_then(|pair| serde_json::from_slice::<Directory>(&pair.value).ok());
        match known {
            Some(known) if known.directory_id == identity.directory_id => return Ok(()),
            Some(known) if !replace => return Err(refused(&known, directory, identity)),
            Some(known) => tracing::warn!(before = known.path, "works in another directory from now on"),
            None => {}
        }
        let compare = Compare::Unchanged {
            key: key.clone(),
            mod_revision: before.as_ref().map_or(0, |pair| pair.mod_revision),
        };
        let text = serde_json::to_string(&Directory::here(directory, identity))
            .map_err(|error| Failure::failed(format!("{key}: no JSON: {error}")))?;
        let put = Transaction { compares: vec![compare], writes: vec![Write::put(key, text)] };
        match store.transact(&put).await {
            Ok(_) => return Ok(()),
            Err(Error::Conflict | Error::Unknown { .. }) => {}
            Err(error) => return away(error),
        }
    }
    Err(Failure::new(Kind::Conflict, format!("{key} keeps changing; see who else starts as this driver")))
}

fn refused(known: &Directory, directory: &DataDir, identity: &Identity) -> Failure {
    let Directory { path, machine, since, .. } = known;
    Failure::new(
        Kind::Conflict,
        format!(
            "the driver {} of the vPool {} works in the directory {path} of {machine} since {since}, and its \
             volumes are there; start it with that one, or with --replace-directory if that one is lost: this is {}",
            identity.vrouter_id(),
            identity.vpool_guid(),
            directory.path().display(),
        ),
    )
}

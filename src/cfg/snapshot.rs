//! `ovs cfg snapshot save` and `restore`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use cfg_store::RestoreError;
use serde_json::json;

use super::Session;
use crate::args::Global;
use crate::config::failure_of;
use crate::data_dir::DataDir;
use crate::failure::{Failure, Kind};
use crate::output::{json, line};

impl Session {
    /// Writes the store to `file`, which appears when it is whole. Mode 0600: documents hold secrets.
    pub(super) async fn save(&self, file: &Path) -> Result<(), Failure> {
        let mut draft = file.as_os_str().to_owned();
        draft.push(".part");
        let draft = Path::new(&draft);
        let failed = |error| Failure::failed(format!("{}: {error}", draft.display()));
        // What an earlier try left may have other rights.
        if draft.exists() {
            fs::remove_file(draft).map_err(failed)?;
        }
        let mut out =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft).map_err(failed)?;
        let bytes = self.store.save_snapshot(&mut out).await.map_err(failure_of)?;
        out.flush().and_then(|()| out.sync_all()).map_err(failed)?;
        fs::rename(draft, file).map_err(failed)?;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        if self.json {
            return json(&json!({"file": file, "bytes": bytes}));
        }
        line(&format!("saved {bytes} bytes to {}", file.display()))
    }
}

/// Makes the data directory the first member of a new cluster with what `file` holds.
pub(super) fn restore(global: &Global, file: &Path, bump: u64) -> Result<(), Failure> {
    let directory = DataDir::locate(global.data_dir.as_deref())?;
    directory.create()?;
    let restored = cfg_store::restore(Arc::new(uring::LocalDisk), file, &directory.cfg(), bump);
    let restored = restored.map_err(|error| {
        let kind = match &error {
            RestoreError::NotEmpty(_) => Kind::Conflict,
            RestoreError::Damaged { .. } => Kind::Rejected,
            RestoreError::Io { .. } => Kind::Failed,
        };
        Failure::new(kind, error.to_string())
    })?;
    let (cluster, revision, keys) = (format!("{:x}", restored.cluster_id), restored.revision, restored.keys);
    if global.json {
        return json(&json!({"cluster_id": cluster, "revision": revision, "keys": keys}));
    }
    line(&format!(
        "restored {keys} keys as cluster {cluster}, at revision {revision}; start it with ovs cfg run or ovs up"
    ))
}

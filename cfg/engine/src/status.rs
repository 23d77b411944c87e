//! What a process says about itself: the JSON at `status` (under its lease) and `last_status` (without one).

use serde::{Deserialize, Serialize};

use crate::feedback::{Pending, Rejected, is_false};

/// Who the process is; nothing of it changes while it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The `vrouter_id`, or the id of another service.
    pub node: String,
    /// The process id.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// The cluster of the store that its configuration comes from; `None`: files.
    pub cluster_id: Option<u64>,
    /// Counts the starts on this data directory.
    pub incarnation: u64,
    /// When it started: UTC, RFC 3339.
    pub started: String,
    /// URL of its admin RPC; `None`: it has none.
    pub xmlrpc: Option<String>,
    /// The cluster that requests to it must name.
    pub vrouter_cluster_id: Option<String>,
}

/// A status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who it is.
    pub node: String,
    /// Its process id.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// Hash of the declarations of its parameters: processes with the same accept the same documents.
    pub schema: String,
    /// The cluster of the store.
    pub cluster_id: Option<u64>,
    /// Counts the starts on its data directory.
    pub incarnation: u64,
    /// When it started: UTC, RFC 3339.
    pub started: String,
    /// The newest revision at which it read what is stored for it; 0: none yet.
    pub observed_revision: i64,
    /// The revision of what it runs with; 0: not known.
    pub running_revision: i64,
    /// Hash of what it runs with.
    pub config_hash: String,
    /// Hash of what is stored for it, as far as it read that; `null`: that has problems, or was not read.
    pub stored_hash: Option<String>,
    /// Why it does not run as it should.
    #[serde(default)]
    pub degraded: Vec<Rejected>,
    /// What is stored and takes effect at its next start.
    #[serde(default)]
    pub pending_restart: Vec<Pending>,
    /// The id of its newest feedback.
    #[serde(default)]
    pub last_feedback: Option<String>,
    /// It runs on its last good copy because the store did not answer when it started.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stale: bool,
    /// It takes no update.
    #[serde(default, skip_serializing_if = "is_false")]
    pub frozen: bool,
    /// Feedbacks since its start that could not be kept until the store took them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub feedback_lost: u64,
    /// URL of its admin RPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xmlrpc: Option<String>,
    /// The cluster that requests to it must name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrouter_cluster_id: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Status {
    /// The JSON text.
    pub fn text(&self) -> String {
        // A struct of texts, numbers and lists is always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads one; unknown fields are ignored.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(value: &[u8]) -> Result<Status, String> {
        let status: Status =
            serde_json::from_slice(value).map_err(|error| format!("is no status: {error}"))?;
        if status.node.is_empty() || status.config_hash.is_empty() {
            return Err("is no status: node and config_hash must say something".to_owned());
        }
        Ok(status)
    }

    /// Whether it runs with something else than what is stored for it; `None`: it is not known what is stored.
    pub fn drifts(&self) -> Option<bool> {
        self.stored_hash.as_ref().map(|stored| *stored != self.config_hash)
    }
}

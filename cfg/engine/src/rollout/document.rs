//! The document of a roll-out: what changes, where and in which order, and how far that has come.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The version of the document.
pub const ROLLOUT_VERSION: u32 = 1;

/// Most bytes of a host's problem that are kept: the whole is in its feedback.
pub(super) const TEXT_LIMIT: usize = 160;

/// Most bytes of a reason that are kept.
pub(super) const REASON_LIMIT: usize = 1024;

/// Bytes that the progress of one host takes at most, its problems included.
const HOST_BYTES: usize = 1536;

/// Bytes that the state of the whole takes at most.
const STATE_BYTES: usize = 8192;

/// A staged change with its progress.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// [`ROLLOUT_VERSION`].
    pub version: u32,
    /// Its id, the last part of its key.
    pub id: String,
    /// Who began it: `user@host`.
    pub by: String,
    /// When: UTC, RFC 3339.
    pub time: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The change set: path → new document; `None`: it goes.
    pub changes: BTreeMap<String, Option<Json>>,
    /// For each of these paths whose it is and what was there before.
    pub old: BTreeMap<String, Old>,
    /// The hosts of each stage.
    pub stages: Vec<Vec<String>>,
    /// Hosts that are left out, and why.
    #[serde(default)]
    pub skipped: BTreeMap<String, String>,
    /// How long the hosts of a stage have to answer, in seconds.
    pub wait_secs: u64,
    /// How long a stage runs before the next one begins, in seconds.
    pub pause_secs: u64,
    /// Which answers undo it.
    pub abort_on: AbortOn,
    /// Whether sections may go back to their defaults.
    pub allow_reset: bool,
    /// How far it is.
    pub state: State,
    /// The stage that is written, from 1; 0: none yet.
    pub stage: usize,
    /// What was asked of each host.
    #[serde(default)]
    pub hosts: BTreeMap<String, Progress>,
    /// Somebody wants it to be undone.
    #[serde(default)]
    pub abort: Option<Abort>,
    /// Why it was refused or undone.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// Keys that were not undone because somebody else wrote them meanwhile.
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
}

/// What a key had before the roll-out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Old {
    /// The host that it belongs to.
    pub host: String,
    /// The revision of its last write; 0: it was not there.
    pub revision: i64,
    /// Its value, byte by byte; `None`: it was not there.
    pub value: Option<String>,
}

/// How far a roll-out is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A dry run on all hosts that live.
    Checking,
    /// The hosts of a stage are written, or answer.
    Applying,
    /// All hosts are written.
    Done,
    /// It ended before anything was changed.
    Refused,
    /// The old values are put back.
    Undoing,
    /// They were put back.
    Undone,
}

/// Which answers undo a roll-out. That a host fails, or does not answer in time, always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AbortOn {
    /// That a host rejects it, too.
    Rejected,
    /// Nothing else.
    Failed,
}

/// What was asked of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Asked>,
    /// The new values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<Asked>,
    /// The old values again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Asked>,
}

/// An update that a host was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The id of the update.
    pub update: String,
    /// The revision of its write; 0: that of the document as it is stored.
    pub revision: i64,
    /// Whether the host lived then. One that did not is not waited for.
    pub live: bool,
    /// What came of it.
    #[serde(default)]
    pub answer: Option<Answer>,
}

/// What came of an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// How it ended.
    pub outcome: Ended,
    /// Why, if not well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
}

/// How an update of a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// The host took it.
    Applied,
    /// It refused, and nothing changed there.
    Rejected,
    /// A component broke its word.
    Failed,
    /// No answer in time.
    Silent,
    /// Nothing was written, because somebody else wrote all of its keys.
    Conflict,
}

/// Somebody's wish to undo a roll-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// `user@host`
    pub by: String,
    /// When: UTC, RFC 3339.
    pub time: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Why a roll-out was refused or undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What kind of reason.
    pub cause: Cause,
    /// The host that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// In words.
    pub problem: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A host rejects it.
    Rejected,
    /// A host failed, or did not answer.
    Failed,
    /// Somebody else wrote a key of it.
    Conflict,
    /// Somebody wanted it.
    Aborted,
}

/// A key that was left as somebody else wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The key.
    pub key: String,
    /// The revision of that write; 0: it was deleted.
    pub revision: i64,
}

impl fmt::Debug for Rollout {
    /// The values may be secrets, and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.changes.keys().collect();
        let mut shown = f.debug_struct("Rollout");
        shown.field("id", &self.id).field("state", &self.state).field("stage", &self.stage);
        shown.field("keys", &keys).field("stages", &self.stages).field("hosts", &self.hosts);
        shown.field("reason", &self.reason).field("conflicts", &self.conflicts).finish_non_exhaustive()
    }
}

impl fmt::Debug for Old {
    /// The value may be a secret, and is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Old")
            .field("host", &self.host)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Whether there is something left to do.
    pub fn is_open(self) -> bool {
        matches!(self, State::Checking | State::Applying | State::Undoing)
    }
}

impl Rollout {
    /// The JSON text.
    pub fn text(&self) -> String {
        // A struct of texts, numbers, JSON and maps with texts as keys is always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Bytes that the document has at most, now or later.
    pub fn largest(&self) -> usize {
        let hosts: usize = self.targets().map(|host| host.len() + HOST_BYTES).sum();
        let conflicts: usize = self.changes.keys().map(|path| path.len() + 64).sum();
        self.text().len() + STATE_BYTES + hosts + conflicts
    }

    /// Its hosts, in the order of the stages.
    pub fn targets(&self) -> impl Iterator<Item = &String> {
        self.stages.iter().flatten()
    }

    /// The paths that belong to a host.
    pub fn paths<'r>(&'r self, host: &'r str) -> impl Iterator<Item = &'r String> {
        self.old.iter().filter(move |(_, old)| old.host == host).map(|(path, _)| path)
    }

    /// Puts the revision of its storing wherever it was not known yet.
    pub(super) fn stored_at(&mut self, revision: i64) {
        for Progress { check, apply, undo } in self.hosts.values_mut() {
            for asked in [check, apply, undo].into_iter().flatten() {
                if asked.revision == 0 {
                    asked.revision = revision;
                }
            }
        }
    }
}

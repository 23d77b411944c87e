//! The answer of a process to one update: the JSON at `feedback/<id>`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::update::is_id;

/// Feedbacks that are kept whatever their age.
pub const KEPT: usize = 16;
/// Feedbacks that are kept while they are younger than [`RECENT`], the above included.
pub const KEPT_RECENT: usize = 256;
/// How long a feedback is a recent one.
pub const RECENT: Duration = Duration::from_secs(600);

/// The end of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The process took what was stored (in a dry run: would have).
    Applied,
    /// Something is wrong, and nothing changed.
    Rejected,
    /// A component broke its word while it switched over: some values are new and some are old.
    Failed,
    /// A newer update was done in its place.
    Superseded,
}

/// A value that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The section.
    pub component: String,
    /// The parameter.
    pub param: String,
    /// Before, for people.
    pub old: String,
    /// Now.
    pub new: String,
}

/// A stored value that takes effect at the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The section.
    pub component: String,
    /// The parameter.
    pub param: String,
    /// The value until then.
    pub running: String,
    /// The value after it.
    pub stored: String,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The section; `update` if the update itself is wrong.
    pub component: String,
    /// The parameter, as `key` or `key[0].inner`; empty: the section as a whole.
    pub param: String,
    /// The value that is refused; `null`: there is none.
    pub value: Option<String>,
    /// What is wrong and what is allowed.
    pub problem: String,
}

/// What a parameter has after a component broke its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runs {
    /// The value of before.
    Old,
    /// The value of the update.
    New,
}

/// One of the parameters of an update that was applied in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixed {
    /// The section.
    pub component: String,
    /// The parameter.
    pub param: String,
    /// Before.
    pub old: String,
    /// As it should be.
    pub new: String,
    /// Which of both it is.
    pub runs: Runs,
    /// Why it is the old one.
    pub problem: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// The update's id; `r<revision>` if it has no valid one.
    pub id: String,
    /// Who answers.
    pub node: String,
    /// The revision of the update key.
    pub revision: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it was a dry run, in which nothing changes.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether it was answered because the process started, and read what is stored anyway.
    #[serde(default)]
    pub at_start: bool,
    /// The id of the update that was done in its place.
    #[serde(default)]
    pub by: Option<String>,
    /// From when the process saw the update to the answer, in microseconds.
    #[serde(default)]
    pub took_us: u64,
    /// What changed.
    #[serde(default)]
    pub applied: Vec<Applied>,
    /// All that is stored and takes effect at the next start.
    #[serde(default)]
    pub pending_restart: Vec<Pending>,
    /// What is wrong.
    #[serde(default)]
    pub rejected: Vec<Rejected>,
    /// Every parameter of an update that failed.
    #[serde(default)]
    pub mixed: Vec<Mixed>,
    /// Stored keys that this program does not act on.
    #[serde(default)]
    pub no_effect: Vec<String>,
    /// Stored keys that this program does not know.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// Whether it is rejected because the process is frozen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub frozen: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

impl Feedback {
    /// An answer that says nothing yet but how it ended.
    pub fn new(id: &str, node: &str, revision: i64, outcome: Outcome) -> Feedback {
        Feedback {
            id: id.to_owned(),
            node: node.to_owned(),
            revision,
            outcome,
            dry_run: false,
            at_start: false,
            by: None,
            took_us: 0,
            applied: Vec::new(),
            pending_restart: Vec::new(),
            rejected: Vec::new(),
            mixed: Vec::new(),
            no_effect: Vec::new(),
            unknown: Vec::new(),
            frozen: false,
        }
    }

    /// The JSON text.
    pub fn text(&self) -> String {
        // A struct of texts, numbers and lists is always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads one; unknown fields are ignored.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(value: &[u8]) -> Result<Feedback, String> {
        let feedback: Feedback =
            serde_json::from_slice(value).map_err(|error| format!("is no feedback: {error}"))?;
        if !is_id(&feedback.id) {
            return Err("is no feedback: its id is none".to_owned());
        }
        if feedback.revision <= 0 {
            return Err(format!("is no feedback: no update key has the revision {}", feedback.revision));
        }
        if (feedback.outcome == Outcome::Superseded) != feedback.by.as_deref().is_some_and(is_id) {
            return Err("is no feedback: `by` names an update if it is superseded, and only then".to_owned());
        }
        Ok(feedback)
    }
}

/// The answer to the update `id` whose key was written at `revision`, among those of a host by their ids: of one that
/// was superseded that of the newer one. `None`: there is none yet.
pub fn answer<'f>(feedback: &'f BTreeMap<String, Feedback>, id: &str, revision: i64) -> Option<&'f Feedback> {
    let mut found = feedback.get(id).filter(|feedback| feedback.revision >= revision)?;
    // Ids that name one another would lead in a circle.
    for _ in 0..feedback.len() {
        match (found.outcome, &found.by) {
            (Outcome::Superseded, Some(by)) if *by != found.id => {
                found = feedback.get(by).filter(|feedback| feedback.revision > revision)?;
            }
            _ => return Some(found),
        }
    }
    None
}

/// A feedback that is stored: what decides about its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// The revision at which it was written (not that of its update).
    pub revision: i64,
    /// Whether it answers an update key that still stands: without it the update would be answered again at the next
    /// start.
    pub standing: bool,
    /// Time since it was written, as far as the process knows; what it found at its start counts from there.
    pub age: Duration,
}

/// The ids of the feedbacks that have to go: beyond the last [`KEPT`] those that are older than [`RECENT`], and all
/// beyond the last [`KEPT_RECENT`]; never one that answers what still stands, of which there are at most two.
pub fn trim(mut kept: Vec<Kept>) -> Vec<String> {
    kept.sort_by_key(|feedback| std::cmp::Reverse(feedback.revision));
    let goes = |(place, feedback): &(usize, Kept)| {
        !feedback.standing && (*place >= KEPT_RECENT || (*place >= KEPT && feedback.age > RECENT))
    };
    kept.into_iter().enumerate().filter(goes).map(|(_, feedback)| feedback.id).collect()
}

//! Reading the document of a roll-out: nothing of it is believed before it fits together.

use std::collections::BTreeSet;

use super::document::{ROLLOUT_VERSION, Rollout, State};
use crate::update::is_id;

/// Longest wait and pause, in seconds: a week.
const LONGEST: u64 = 7 * 24 * 3600;

/// Most characters of the id: those of its updates are longer.
const ID_LENGTH: usize = 40;

impl Rollout {
    /// Reads the document of `id` that was stored at `revision`; unknown fields are ignored.
    ///
    /// # Errors
    /// What is wrong with it. Values are not part of it: they may be secrets.
    pub fn read(id: &str, value: &[u8], revision: i64) -> Result<Rollout, String> {
        let place = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            format!("is no roll-out: what is needed is missing or wrong at line {line}, column {column}")
        };
        let versioned: Version = serde_json::from_slice(value).map_err(place)?;
        if versioned.version != ROLLOUT_VERSION {
            let version = versioned.version;
            return Err(format!(
                "is a roll-out of version {version}, this program knows {ROLLOUT_VERSION}; use the other version"
            ));
        }
        let mut rollout: Rollout = serde_json::from_slice(value).map_err(place)?;
        rollout.check(id, revision).map_err(|problem| format!("is no roll-out: {problem}"))?;
        rollout.stored_at(revision);
        Ok(rollout)
    }

    fn check(&self, id: &str, revision: i64) -> Result<(), String> {
        if self.id != id || !is_id(id) || id.len() > ID_LENGTH {
            return Err(format!("its id is not the name of its key, or longer than {ID_LENGTH}"));
        }
        if self.wait_secs > LONGEST || self.pause_secs > LONGEST {
            return Err(format!("it waits or pauses for more than {LONGEST} s"));
        }
        let targets: BTreeSet<&String> = self.targets().collect();
        if targets.is_empty() || targets.len() != self.targets().count() {
            return Err("its stages have no host, or one twice".to_owned());
        }
        if self.stages.iter().any(Vec::is_empty) {
            return Err("a stage has no host".to_owned());
        }
        let stages = match self.state {
            State::Checking | State::Refused => 0..=self.stages.len(),
            State::Applying | State::Undoing | State::Undone => 1..=self.stages.len(),
            State::Done => self.stages.len()..=self.stages.len(),
        };
        if !stages.contains(&self.stage) {
            return Err(format!("it cannot be in stage {} of {}", self.stage, self.stages.len()));
        }
        self.check_keys(&targets)?;
        self.check_progress(&targets, revision)
    }

    /// Each path has an old value, and belongs to a host of a stage.
    fn check_keys(&self, targets: &BTreeSet<&String>) -> Result<(), String> {
        if !self.changes.keys().eq(self.old.keys()) {
            return Err("changes and old do not have the same keys".to_owned());
        }
        let mut hosts = BTreeSet::new();
        for (path, old) in &self.old {
            if !targets.contains(&old.host) {
                return Err(format!("{path} belongs to {}, which is in no stage", old.host));
            }
            if old.revision < 0 || (old.revision == 0) != old.value.is_none() {
                return Err(format!("the old value of {path} does not go with its revision"));
            }
            hosts.insert(&old.host);
        }
        match targets.iter().find(|host| !hosts.contains(*host)) {
            Some(host) => Err(format!("nothing changes on {host}")),
            None => Ok(()),
        }
    }

    fn check_progress(&self, targets: &BTreeSet<&String>, revision: i64) -> Result<(), String> {
        for (host, progress) in &self.hosts {
            if !targets.contains(host) {
                return Err(format!("{host} is in no stage"));
            }
            if progress.undo.is_some() && progress.apply.is_none() {
                return Err(format!("{host} is undone and was not written"));
            }
            if progress.apply.is_some() && matches!(self.state, State::Checking | State::Refused) {
                return Err(format!("{host} is written already"));
            }
            for asked in [&progress.check, &progress.apply, &progress.undo].into_iter().flatten() {
                if !is_id(&asked.update) || !(0..=revision).contains(&asked.revision) {
                    return Err(format!("what was asked of {host} has no such id or revision"));
                }
            }
        }
        if self.conflicts.iter().any(|conflict| !self.changes.contains_key(&conflict.key)) {
            return Err("a conflict is about a key that does not change".to_owned());
        }
        Ok(())
    }
}

/// What every version has.
#[derive(serde::Deserialize)]
struct Version {
    version: u32,
}

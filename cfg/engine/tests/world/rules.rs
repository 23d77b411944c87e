//! The rules of an update, apart from what is configured: what a reading must lead to, and which update covers which.
//! Shares nothing with the engine. Simulated processes are judged by it, and real ones.

use std::collections::{BTreeMap, BTreeSet};

/// Section and key of a parameter.
pub type Name = (&'static str, &'static str);

/// Values by section and key, each as one text; equal values have equal texts.
pub type Plain = BTreeMap<Name, String>;

/// What is configured, as far as the rules go.
pub struct Subject {
    pub dynamic: &'static [Name],
    pub restart: &'static [Name],
    pub immutable: &'static [Name],
    /// Whether the values may stand together.
    pub fits: fn(&Plain) -> bool,
}

/// What stands in the store for one process at one revision.
#[derive(Clone, Debug)]
pub struct Found {
    /// Whether there is no document at all.
    pub is_empty: bool,
    /// The declared sections that are there.
    pub sections: BTreeSet<String>,
    /// All values; `None`: something is wrong with one of them.
    pub values: Option<Plain>,
}

/// Everything about an update key that was written.
#[derive(Clone, Debug)]
pub struct Told {
    /// Empty: it cannot be read.
    pub id: String,
    pub dry_run: bool,
    pub allow_reset: bool,
    pub rollout: Option<String>,
    pub malformed: bool,
}

impl Told {
    /// The id of the answer, when it was written at `revision`.
    pub fn answer_id(&self, revision: i64) -> String {
        if self.id.is_empty() { format!("r{revision}") } else { self.id.clone() }
    }

    /// Whether an answer to this one, which was done later, says all about `older`.
    pub fn covers(&self, older: &Told) -> bool {
        let kind = match (self.dry_run, older.dry_run) {
            (false, false) => true,
            (false, true) => older.rollout.is_none() || self.id == older.id,
            (true, true) => older.rollout == self.rollout || self.id == older.id,
            (true, false) => false,
        };
        kind && !self.malformed
    }
}

/// `running` with those of `keys` that `stored` has.
pub fn with(running: &Plain, stored: &Plain, keys: &[Name]) -> Plain {
    let mut values = running.clone();
    for key in keys {
        values.insert(*key, stored[key].clone());
    }
    values
}

/// Names of what differs among `keys`.
pub fn differences(one: &Plain, other: &Plain, keys: &[(&str, &str)]) -> BTreeSet<String> {
    let differs = keys.iter().filter(|key| one[*key] != other[*key]);
    differs.map(|(section, key)| format!("{section}.{key}")).collect()
}

/// What must come of a reading.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Bad,
    /// What is stored, and what is to run.
    Good {
        stored: Plain,
        next: Plain,
    },
}

impl Subject {
    /// What an update leads to in a process that runs with `running`, and had `sections` when it took something last.
    pub fn judge(
        &self,
        running: &Plain,
        sections: &BTreeSet<String>,
        found: &Found,
        allow_reset: bool,
    ) -> Verdict {
        let gone = sections.difference(&found.sections).next().is_some();
        let nothing = found.is_empty && !sections.is_empty();
        let Some(values) = found.values.clone() else { return Verdict::Bad };
        let next = with(running, &values, self.dynamic);
        let immutable = !differences(running, &values, self.immutable).is_empty();
        let fits = (self.fits)(&values) && (self.fits)(&next);
        if nothing || (gone && !allow_reset) || immutable || !fits {
            return Verdict::Bad;
        }
        Verdict::Good { stored: values, next }
    }
}

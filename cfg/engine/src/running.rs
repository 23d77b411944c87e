//! What runs and what is stored: the values of one process, and what an update would make of them.

use std::collections::BTreeSet;
use std::fmt::Debug;

use cfg_schema::{Category, Change, Documents, Problem, Reading, SectionDeclaration};
use serde_json::Value as Json;

/// The typed parameters of a service; [`configuration!`](crate::configuration) makes one of a struct of
/// [`cfg_schema::parameters!`].
pub trait Configuration: Clone + PartialEq + Debug {
    /// All sections. They are asked for with every check, and making them costs more than the rest of it.
    fn declarations() -> &'static [SectionDeclaration];
    /// Typed values; each is checked on its own.
    fn read(documents: &Documents) -> Reading<Self>;
    /// Every value that has an effect; reading them gives an equal struct.
    fn documents(&self) -> Documents;
    /// A hash of all values but those that say who the process is.
    fn config_hash(&self) -> String;
    /// What is different in `new`. A parameter that is dynamic but cannot take just this change while the process runs
    /// is of the category [`Category::Restart`] here.
    fn changes(&self, new: &Self) -> Vec<Change>;
    /// What values that are valid on their own cannot be together.
    fn problems(&self) -> Vec<Problem>;
}

/// Makes a [`Configuration`] of a struct of [`cfg_schema::parameters!`]. The second argument checks values against each
/// other: a function `fn(&Parameters) -> Vec<Problem>`. A third says which dynamic parameters cannot take a change
/// while the process runs: a function `fn(running: &Parameters, new: &Parameters) -> Vec<(section, key)>`.
#[macro_export]
macro_rules! configuration {
    ($parameters:ty, $problems:expr) => {
        $crate::configuration!($parameters, $problems, |_: &$parameters, _: &$parameters| Vec::new());
    };
    ($parameters:ty, $problems:expr, $waiting:expr) => {
        impl $crate::Configuration for $parameters {
            fn declarations() -> &'static [$crate::schema::SectionDeclaration] {
                static ALL: ::std::sync::LazyLock<Vec<$crate::schema::SectionDeclaration>> =
                    ::std::sync::LazyLock::new(<$parameters>::declarations);
                &ALL
            }

            fn read(documents: &$crate::schema::Documents) -> $crate::schema::Reading<Self> {
                <$parameters>::read(documents)
            }

            fn documents(&self) -> $crate::schema::Documents {
                <$parameters>::documents(self)
            }

            fn config_hash(&self) -> String {
                <$parameters>::config_hash(self)
            }

            fn changes(&self, new: &Self) -> Vec<$crate::schema::Change> {
                let waiting: Vec<(&str, &str)> = $waiting(self, new);
                $crate::with_waiting(<$parameters>::changes(self, new), &waiting)
            }

            fn problems(&self) -> Vec<$crate::schema::Problem> {
                $problems(self)
            }
        }
    };
}

/// Changes of which those of `waiting` (section and key) wait for a restart.
#[doc(hidden)]
pub fn with_waiting(mut changes: Vec<Change>, waiting: &[(&str, &str)]) -> Vec<Change> {
    for change in &mut changes {
        if change.category == Category::Dynamic && waiting.contains(&(change.section, change.key)) {
            change.category = Category::Restart;
        }
    }
    changes
}

/// The values of one process.
///
/// Invariants: `running` and `accepted` each satisfy the checks across parameters, unless a component broke its word;
/// they have the same immutable values.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<T> {
    /// What the process runs with.
    pub running: T,
    /// What was stored when something stored was last found good: what a restart would bring.
    pub accepted: T,
    /// What was stored when it was last read; `None`: that has problems, or was not read yet.
    pub stored: Option<T>,
    /// The sections that were there when something stored was last taken.
    pub sections: BTreeSet<String>,
}

/// What an update does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<T> {
    /// What runs after it: dynamic parameters as they are stored, all others as they run.
    pub next: T,
    /// What is stored.
    pub stored: T,
    /// The sections that are stored.
    pub sections: BTreeSet<String>,
    /// From what runs to `next`.
    pub changes: Vec<Change>,
}

/// What is found in stored documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked<T> {
    /// What an update would do, or why it cannot.
    pub plan: Result<Plan<T>, Vec<Problem>>,
    /// The typed values, if each is valid on its own.
    pub stored: Option<T>,
    /// Stored keys that nobody declared.
    pub unknown: Vec<String>,
    /// Stored keys without effect.
    pub no_effect: Vec<String>,
}

/// The sections of `documents` that are declared.
pub(crate) fn sections<T: Configuration>(documents: &Documents) -> BTreeSet<String> {
    let declared = T::declarations();
    let is_declared =
        |section: &&String| declared.iter().any(|declared| declared.section == section.as_str());
    documents.keys().filter(is_declared).cloned().collect()
}

impl<T: Configuration> Values<T> {
    /// Of a process that starts with `running`, which was read from `documents`.
    pub fn new(running: T, documents: &Documents) -> Values<T> {
        Values { accepted: running.clone(), stored: None, sections: sections::<T>(documents), running }
    }

    /// What differs between what runs and what a restart would bring, restart parameters only.
    pub fn pending(&self) -> Vec<Change> {
        pending(&self.running, &self.accepted)
    }

    /// Checks stored documents (with references resolved) against what runs. `allow_reset`: a section that was there
    /// may be gone.
    pub fn check(&self, documents: &Documents, allow_reset: bool) -> Checked<T> {
        let mut complete = documents.clone();
        self.complete(&mut complete);
        let Reading { parameters, unknown, no_effect } = T::read(&complete);
        let sections = sections::<T>(documents);
        let mut problems = Vec::new();
        if documents.is_empty() && !self.sections.is_empty() {
            let problem = "nothing is stored any more, and without a document the process would not start again; \
                           store at least one, it may be {}";
            problems.push(Problem::new("config", "", Json::Null, problem));
        } else if !allow_reset {
            let gone = self.sections.difference(&sections);
            problems.extend(gone.map(|section| {
                let problem =
                    "was stored and is gone; put it back, or apply with allow_reset for its defaults";
                Problem::new(section, "", Json::Null, problem)
            }));
        }
        let stored = match parameters {
            Ok(stored) => stored,
            Err(found) => {
                problems.extend(found);
                return Checked { plan: Err(problems), stored: None, unknown, no_effect };
            }
        };
        problems.extend(stored.problems());
        let changes = self.running.changes(&stored);
        problems.extend(changes.iter().filter(|change| change.category == Category::Immutable).map(
            |change| {
                let Change { section, key, old, new, .. } = change;
                let problem = format!("is immutable; this process was made with {old}");
                Problem::new(section, key, Json::String(new.clone()), problem)
            },
        ));
        let plan = if problems.is_empty() { self.plan(&stored, sections) } else { Err(problems) };
        Checked { plan, stored: Some(stored), unknown, no_effect }
    }

    fn plan(&self, stored: &T, sections: BTreeSet<String>) -> Result<Plan<T>, Vec<Problem>> {
        let changes = self.running.changes(stored);
        let is_taken = |section: &str, key: &str| {
            changes.iter().any(|change| {
                change.category == Category::Dynamic && (change.section, change.key) == (section, key)
            })
        };
        let next = mix(&self.running, stored, is_taken)?;
        let problems = next.problems();
        if !problems.is_empty() {
            let until = |mut problem: Problem| {
                problem
                    .problem
                    .push_str("; until the restart, parameters that need one keep the values that run");
                problem
            };
            return Err(problems.into_iter().map(until).collect());
        }
        let changes = self.running.changes(&next);
        Ok(Plan { next, stored: stored.clone(), sections, changes })
    }

    /// Takes note of what is stored, whether an update says so or not.
    pub fn observe(&mut self, checked: &Checked<T>) {
        self.stored.clone_from(&checked.stored);
        if let Ok(plan) = &checked.plan {
            self.accepted = plan.stored.clone();
        }
    }

    /// Puts the running values of immutable parameters where `documents` are silent: a default that another version
    /// changed is not a change.
    fn complete(&self, documents: &mut Documents) {
        let running = self.running.documents();
        for section in T::declarations() {
            for parameter in section.parameters.iter().filter(|p| p.category == Some(Category::Immutable)) {
                let Some(value) =
                    running.get(section.section).and_then(|document| document.get(parameter.key))
                else {
                    continue;
                };
                let document = documents
                    .entry(section.section.to_owned())
                    .or_insert_with(|| Json::Object(Default::default()));
                // Anything but an object is refused when it is read.
                if let Json::Object(document) = document {
                    document.entry(parameter.key).or_insert_with(|| value.clone());
                }
            }
        }
    }

    /// Takes a plan that was committed. `broken`: section and key of parameters (an empty key: all of the section)
    /// whose component stayed with the old value.
    ///
    /// # Errors
    /// Never for values that came out of [`Values::check`]: what could be written is read again.
    pub fn commit(&mut self, plan: Plan<T>, broken: &[(&str, &str)]) -> Result<(), Vec<Problem>> {
        let Plan { next, sections, .. } = plan;
        let is_broken = |section: &str, key: &str| {
            broken.iter().any(|(name, param)| *name == section && (param.is_empty() || *param == key))
        };
        self.running = match broken.is_empty() {
            true => next,
            false => mix(&self.running, &next, |section, key| !is_broken(section, key))?,
        };
        self.sections = sections;
        Ok(())
    }
}

/// What differs and waits for a restart.
pub(crate) fn pending<T: Configuration>(running: &T, stored: &T) -> Vec<Change> {
    let mut changes = running.changes(stored);
    changes.retain(|change| change.category == Category::Restart);
    changes
}

/// `old` with those parameters of `new` that `takes` (section, key) chooses.
fn mix<T: Configuration>(old: &T, new: &T, takes: impl Fn(&str, &str) -> bool) -> Result<T, Vec<Problem>> {
    let (mut documents, mut new) = (old.documents(), new.documents());
    for section in T::declarations() {
        for parameter in &section.parameters {
            if takes(section.section, parameter.key)
                && let Some(value) =
                    new.get_mut(section.section).and_then(|document| document.get_mut(parameter.key))
                && let Some(Json::Object(document)) = documents.get_mut(section.section)
            {
                document.insert(parameter.key.to_owned(), value.take());
            }
        }
    }
    T::read(&documents).parameters
}

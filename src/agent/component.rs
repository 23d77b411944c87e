//! The parts of a process that take parameters while it runs.

use std::collections::BTreeSet;
use std::fmt;

use cfg_engine::Broken;
use cfg_schema::{Change, Problem};
use volumedriver::parameters::Parameters;

/// A part of the process.
pub(crate) trait Component: Send + Sync {
    /// Does everything that can fail, for values of which those of `changes` are new. May block; has no effect that
    /// dropping the result does not undo.
    ///
    /// # Errors
    /// What cannot be done; then nothing is.
    fn prepare(&self, values: &Parameters, changes: &[Change]) -> Result<Box<dyn Prepared>, Vec<Problem>>;
}

/// What a component is ready to do. Dropped it undoes what was prepared.
pub(crate) trait Prepared: Send {
    /// Switches over. It cannot fail; what it could not do all the same it says.
    fn commit(self: Box<Self>) -> Vec<Broken>;
}

/// Nothing is to be done.
pub(crate) struct Nothing;

impl Prepared for Nothing {
    fn commit(self: Box<Self>) -> Vec<Broken> {
        Vec::new()
    }
}

/// What all components are ready to do.
pub(crate) struct Guards {
    prepared: Vec<Box<dyn Prepared>>,
    /// The sections that change.
    sections: BTreeSet<&'static str>,
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guards({})", self.prepared.len())
    }
}

impl Guards {
    /// Switches all over, in the order of their preparation.
    pub(crate) fn commit(self) -> Vec<Broken> {
        self.prepared.into_iter().flat_map(Prepared::commit).collect()
    }

    /// What is said if the switch does not come to its end: nothing of it is known to run.
    pub(crate) fn all_broken(&self) -> Vec<Broken> {
        let broken = |section: &&str| Broken {
            section: (*section).to_owned(),
            key: String::new(),
            problem: "a component broke down while it switched over".to_owned(),
        };
        self.sections.iter().map(broken).collect()
    }
}

/// Prepares all; what was prepared before one that fails is dropped.
pub(crate) fn prepare_all(
    components: &[Box<dyn Component>],
    values: &Parameters,
    changes: &[Change],
) -> Result<Guards, Vec<Problem>> {
    let mut prepared = Vec::new();
    for component in components {
        prepared.push(component.prepare(values, changes)?);
    }
    let sections = changes.iter().map(|change| change.section).collect();
    Ok(Guards { prepared, sections })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Notes what happens to it.
    struct Noted(&'static str, Arc<Mutex<Vec<String>>>, bool);

    struct Ready(&'static str, Arc<Mutex<Vec<String>>>, bool);

    impl Component for Noted {
        fn prepare(&self, _: &Parameters, _: &[Change]) -> Result<Box<dyn Prepared>, Vec<Problem>> {
            if self.2 {
                return Err(vec![Problem::new("s", "k", serde_json::Value::Null, "no room")]);
            }
            Ok(Box::new(Ready(self.0, self.1.clone(), false)))
        }
    }

    impl Prepared for Ready {
        fn commit(mut self: Box<Self>) -> Vec<Broken> {
            self.2 = true;
            self.1.lock().expect("no panic").push(format!("{} commits", self.0));
            Vec::new()
        }
    }

    impl Drop for Ready {
        fn drop(&mut self) {
            if !self.2 {
                self.1.lock().expect("no panic").push(format!("{} undoes", self.0));
            }
        }
    }

    #[test]
    fn when_one_cannot_all_are_undone() {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let part = |name, fails| Box::new(Noted(name, notes.clone(), fails)) as Box<dyn Component>;
        let values = Parameters::default();
        let refused = prepare_all(&[part("a", false), part("b", true), part("c", false)], &values, &[]);
        assert_eq!(refused.expect_err("b fails")[0].problem, "no room");
        let guards = prepare_all(&[part("a", false), part("c", false)], &values, &[]).expect("prepared");
        assert!(guards.commit().is_empty());
        assert_eq!(*notes.lock().expect("no panic"), ["a undoes", "a commits", "c commits"]);
    }
}

//! Updates that were seen and wait.

use std::time::Duration;

use crate::Update;
use crate::engine::input::Scope;

/// An update that waits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    /// Whose key it was.
    pub(super) scope: Scope,
    /// The key's mod revision.
    pub(super) revision: i64,
    /// What it says.
    pub(super) update: Update,
    /// When it was seen.
    pub(super) seen: Duration,
}

/// What is known of one update key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Newest {
    /// The newest mod revision that was seen; nothing up to it is looked at again.
    revision: i64,
    /// The update there, if it is one that may have to be done.
    update: Option<Update>,
}

/// The updates that wait, oldest first.
///
/// Invariant: a mod revision of a scope enters once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    host: Newest,
    vpool: Newest,
}

impl Queue {
    fn newest(&mut self, scope: Scope) -> &mut Newest {
        match scope {
            Scope::Host => &mut self.host,
            Scope::VPool => &mut self.vpool,
        }
    }

    /// Notes that a key has this revision, and what is there. `false`: that was known.
    pub(super) fn note(&mut self, scope: Scope, revision: i64, update: Option<&Update>) -> bool {
        let newest = self.newest(scope);
        let news = revision > newest.revision;
        if news {
            *newest = Newest { revision, update: update.cloned() };
        }
        news
    }

    /// Takes out those whose key was written again, each with the id of the update that stands there now, if that
    /// covers it.
    pub(super) fn take_overwritten(&mut self) -> Vec<(Waiting, Option<String>)> {
        let (host, vpool) = (self.host.clone(), self.vpool.clone());
        let newest = |waiting: &Waiting| match waiting.scope {
            Scope::Host => &host,
            Scope::VPool => &vpool,
        };
        let taken = self.take(|waiting| newest(waiting).revision > waiting.revision);
        let with_id = |waiting: Waiting| {
            let newer = newest(&waiting).update.as_ref();
            let id = newer.filter(|newer| covers(newer, &waiting.update)).map(|newer| newer.id.clone());
            (waiting, id)
        };
        taken.into_iter().map(with_id).collect()
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        let at = self.waiting.partition_point(|other| other.revision <= waiting.revision);
        self.waiting.insert(at, waiting);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes out the oldest one.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        (!self.waiting.is_empty()).then(|| self.waiting.remove(0))
    }

    /// Takes out the oldest dry run.
    pub(super) fn pop_dry_run(&mut self) -> Option<Waiting> {
        let at = self.waiting.iter().position(|waiting| waiting.update.dry_run)?;
        Some(self.waiting.remove(at))
    }

    /// Takes out those that a newer one covers, each with the id of the newest that does.
    pub(super) fn take_covered(&mut self) -> Vec<(Waiting, String)> {
        let covering = |waiting: &Waiting| {
            let newer = self.waiting.iter().filter(|other| other.revision > waiting.revision);
            newer
                .rev()
                .find(|newer| covers(&newer.update, &waiting.update))
                .map(|newer| newer.update.id.clone())
        };
        let covering: Vec<Option<String>> = self.waiting.iter().map(covering).collect();
        let mut covered = Vec::new();
        let mut left = Vec::new();
        for (waiting, by) in self.waiting.drain(..).zip(covering) {
            match by {
                Some(by) => covered.push((waiting, by)),
                None => left.push(waiting),
            }
        }
        self.waiting = left;
        covered
    }

    /// Takes out those for which `chosen` says so.
    pub(super) fn take(&mut self, chosen: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let (taken, left) = self.waiting.drain(..).partition(chosen);
        self.waiting = left;
        taken
    }
}

/// Whether the answer to `newer` says what there is to say about `older`. A dry run changes nothing, so it covers no
/// update that does; one with a roll-out looks at other documents than all others. Of two with one id only one answer
/// can stand in the store, and it must be that of the newer one.
pub(super) fn covers(newer: &Update, older: &Update) -> bool {
    let same_id = newer.id == older.id;
    match (newer.dry_run, older.dry_run) {
        (false, false) => true,
        (false, true) => older.rollout.is_none() || same_id,
        (true, true) => newer.rollout == older.rollout || same_id,
        (true, false) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(revision: i64, dry_run: bool, rollout: Option<&str>) -> Waiting {
        let update = Update {
            id: revision.to_string(),
            dry_run,
            rollout: rollout.map(str::to_owned),
            ..Update::default()
        };
        Waiting { scope: Scope::Host, revision, update, seen: Duration::ZERO }
    }

    #[test]
    fn the_newest_of_each_kind_is_left() {
        let mut queue = Queue::default();
        for (revision, dry_run, rollout) in [
            (1, false, None),
            (2, true, Some("r")),
            (3, true, None),
            (9, true, Some("r")),
            (5, false, None),
            (4, true, None),
            (8, true, Some("s")),
            (7, true, None),
        ] {
            queue.push(waiting(revision, dry_run, rollout));
        }
        let covered: Vec<(i64, String)> =
            queue.take_covered().into_iter().map(|(waiting, by)| (waiting.revision, by)).collect();
        let by = |revision, by: &str| (revision, by.to_owned());
        assert_eq!(covered, [by(1, "5"), by(2, "9"), by(3, "7"), by(4, "7")]);
        let left: Vec<i64> = std::iter::from_fn(|| queue.pop()).map(|waiting| waiting.revision).collect();
        assert_eq!(left, [5, 7, 8, 9]);
    }

    #[test]
    fn a_revision_of_a_key_is_news_once() {
        let mut queue = Queue::default();
        let update = |dry_run| waiting(5, dry_run, None).update;
        assert!(queue.note(Scope::Host, 5, Some(&update(false))));
        assert!(!queue.note(Scope::Host, 5, None) && !queue.note(Scope::Host, 4, None));
        assert!(queue.note(Scope::VPool, 4, None));
        queue.push(waiting(4, false, None));
        queue.push(waiting(5, false, None));
        let overwritten = queue.take_overwritten();
        assert_eq!(overwritten.len(), 1);
        assert_eq!((overwritten[0].0.revision, overwritten[0].1.as_deref()), (4, Some("5")));
        assert_eq!(queue.len(), 1);
        assert!(queue.note(Scope::Host, 6, Some(&update(true))));
        assert_eq!(queue.take_overwritten()[0].1, None, "a dry run covers no update");
    }
}

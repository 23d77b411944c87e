//! What hosts and other people do.

use std::collections::BTreeMap;

use cfg_engine::{Feedback, Heard, Outcome, Update};

use super::{World, Writer};

/// Numbers from a seed.
pub struct Random(pub u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        let index = self.below(all.len() as u64);
        all[usize::try_from(index).expect("small")].clone()
    }
}

/// What a host does with new values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Takes,
    RefusesAlways,
    RefusesWhenItCounts,
    Fails,
    IsSilent,
}

/// One host.
pub struct Host {
    live: bool,
    frozen: bool,
    nature: Nature,
    /// What is stored for it is the new configuration.
    pub new_values: bool,
    /// Update keys it has to answer, with their revisions.
    waiting: Vec<(i64, Update)>,
    feedback: BTreeMap<String, Feedback>,
}

impl Host {
    pub fn new(random: &mut Random, peaceful: bool) -> Host {
        let natures = [Nature::RefusesAlways, Nature::RefusesWhenItCounts, Nature::Fails, Nature::IsSilent];
        let takes = peaceful || !random.one_in(9);
        let nature = if takes { Nature::Takes } else { random.pick(&natures) };
        Host {
            live: !random.one_in(6),
            frozen: false,
            nature,
            new_values: false,
            waiting: Vec::new(),
            feedback: BTreeMap::new(),
        }
    }

    pub fn heard(&self) -> Heard {
        Heard { live: self.live, frozen: self.frozen, feedback: self.feedback.clone() }
    }

    /// An update key was written. Of those that stand only the newest of each key is seen by a host that was down.
    pub fn told(&mut self, revision: i64, update: Update) {
        if !self.live {
            self.waiting.retain(|(_, known)| known.dry_run != update.dry_run);
        }
        self.waiting.push((revision, update));
    }
}

impl World {
    /// A host answers what it was asked.
    pub(super) fn host_acts(&mut self, name: &str) {
        let host = self.hosts.get_mut(name).expect("a host");
        if !host.live || host.waiting.is_empty() || (host.nature == Nature::IsSilent && host.new_values) {
            return;
        }
        let mut answers = Vec::new();
        let newest = host.waiting.iter().rev().find(|(_, update)| !update.dry_run).cloned();
        for (revision, update) in std::mem::take(&mut host.waiting) {
            let mut outcome = match host.nature {
                _ if host.frozen => Outcome::Rejected,
                Nature::RefusesAlways if host.new_values || update.dry_run => Outcome::Rejected,
                Nature::RefusesWhenItCounts if host.new_values && !update.dry_run => Outcome::Rejected,
                Nature::Fails if host.new_values && !update.dry_run => Outcome::Failed,
                _ => Outcome::Applied,
            };
            let mut by = None;
            if let Some((later, newer)) = newest.as_ref().filter(|_| !update.dry_run)
                && *later > revision
                && newer.id != update.id
            {
                (outcome, by) = (Outcome::Superseded, Some(newer.id.clone()));
                self.tally.superseded += 1;
            }
            let mut feedback = Feedback::new(&update.id, name, revision, outcome);
            (feedback.dry_run, feedback.by) = (update.dry_run, by);
            answers.push(feedback);
        }
        host.feedback.extend(answers.into_iter().map(|feedback| (feedback.id.clone(), feedback)));
    }

    pub(super) fn host_lives_or_dies(&mut self, name: &str) {
        let (dies, freezes) = (self.random.one_in(20), self.random.one_in(60));
        let host = self.hosts.get_mut(name).expect("a host");
        if !host.live {
            host.live = true;
            // It answers what stands when it acts.
            self.tally.at_start += u64::from(!host.waiting.is_empty());
        } else if dies {
            (host.live, host.frozen) = (false, false);
            self.tally.deaths += 1;
        } else if freezes || (host.frozen && self.random.one_in(4)) {
            host.frozen = !host.frozen;
        }
        self.say(&format!("{name}: live {}, frozen {}", self.hosts[name].live, self.hosts[name].frozen));
    }

    /// Somebody writes, or deletes, a document of a host.
    pub(super) fn somebody_writes(&mut self) {
        if !self.random.one_in(9) {
            return;
        }
        let paths: Vec<String> = self.writers.keys().cloned().collect();
        let path = self.random.pick(&paths);
        // What is deleted where nothing is is no change.
        let deletes = self.random.one_in(4) && self.keys.contains_key(&path);
        let value = (!deletes).then(|| format!("{{\"somebody\":{}}}", self.revision));
        self.transact(&[], vec![(path.clone(), value)]);
        self.say(&format!("somebody writes {path}"));
        let writer = match self.others[&path] {
            (other, false) if deletes => other,
            _ => Writer::Somebody,
        };
        self.touched.insert(path.clone());
        self.writers.insert(path, writer);
        self.tally.foreign += 1;
    }

    /// Somebody asks all hosts to take what is stored.
    pub(super) fn somebody_updates(&mut self) {
        let id = format!("other-{}", self.revision);
        let update = Update { id, ..Update::default() };
        let revision =
            self.transact(&[], vec![("update".to_owned(), Some("{}".to_owned()))]).expect("written");
        self.hosts.values_mut().for_each(|host| host.told(revision, update.clone()));
    }
}

//! Beginning a roll-out: what changes on which host, and in which stage.

use std::collections::BTreeMap;
use std::path::Path;

use cfg_client::{
    Compare, Content as ListContent, DOCUMENT_LIMIT, Error, KeyRange, Proof, Transaction, Write,
};
use cfg_engine::{AbortOn, Old, ROLLOUT_VERSION, Rollout, State};
use serde_json::json;

use super::drive::{COMPARES, Drive};
use super::lease::Lease;
use super::tell::{self, Wanted};
use super::{Keys, Options, Rollouts, Session, Stored};
use crate::config::change::{self, Edit, Intent};
use crate::config::failure_of;
use crate::config::update::targets::{Host, Targets};
use crate::config::update::wanted::{self, Wanted as Value};
use crate::config::write::{TRIES, busy};
use crate::failure::{Failure, Kind};

/// How a change shall reach its hosts.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    /// The documents of all hosts.
    pub(in crate::config) directory: Option<&'a Path>,
    /// Or values, as `SECTION|x.y=VALUE`.
    pub(in crate::config) set: &'a [String],
    /// Sections that are not in the directory go.
    pub(in crate::config) prune: bool,
    /// The first stages.
    pub(in crate::config) sizes: &'a Sizes,
    /// Seconds that a stage has to answer.
    pub(in crate::config) wait: u64,
    /// Seconds that a stage runs before the next one.
    pub(in crate::config) pause: u64,
    /// What undoes it.
    pub(in crate::config) abort_on: AbortOn,
    /// Sections may be gone.
    pub(in crate::config) allow_reset: bool,
    /// The author's words.
    pub(in crate::config) note: Option<String>,
}

/// How many hosts a stage has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Hosts(usize),
    /// Of all hosts, rounded up.
    Percent(usize),
}

/// The sizes of the first stages; what is left is the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sizes(Vec<Size>);

impl std::str::FromStr for Sizes {
    type Err = String;

    /// `1`, `1,4`, `10%` or `1,25%`.
    fn from_str(text: &str) -> Result<Sizes, String> {
        let size = |part: &str| {
            let (number, percent) = match part.strip_suffix('%') {
                Some(number) => (number, true),
                None => (part, false),
            };
            match (number.parse::<usize>(), percent) {
                (Ok(0), _) => Err("a stage has at least one host".to_owned()),
                (Ok(percent @ 1..=100), true) => Ok(Size::Percent(percent)),
                (Ok(hosts), false) => Ok(Size::Hosts(hosts)),
                _ => Err("give numbers of hosts, such as 1 or 1,4 or 10%".to_owned()),
            }
        };
        text.split(',').map(size).collect::<Result<_, _>>().map(Sizes)
    }
}

impl Sizes {
    /// Puts hosts into stages.
    fn stages(&self, hosts: &[String]) -> Result<Vec<Vec<String>>, Failure> {
        let mut stages = Vec::new();
        let mut rest = hosts;
        for size in &self.0 {
            let size = match size {
                Size::Hosts(number) => *number,
                Size::Percent(percent) => (hosts.len() * percent).div_ceil(100).min(rest.len().max(1)),
            };
            if size > rest.len() {
                return Err(Failure::usage(format!(
                    "the stages of --canary have more hosts than the change: it reaches {}, of which {} are left for a \
                     stage of {size}",
                    hosts.len(),
                    rest.len()
                )));
            }
            let (stage, behind) = rest.split_at(size);
            stages.push(stage.to_vec());
            rest = behind;
        }
        if !rest.is_empty() {
            stages.push(rest.to_vec());
        }
        Ok(stages)
    }
}

/// What a plan means for the hosts as they are.
struct Outline {
    edits: BTreeMap<String, Vec<Edit>>,
    /// Hosts that change: those that live first, as the others say nothing.
    order: Vec<String>,
    skipped: BTreeMap<String, String>,
}

impl Session {
    /// Begins a roll-out, and drives it.
    pub(in crate::config) async fn roll_out(&self, targets: &Targets, plan: Plan<'_>) -> Result<(), Failure> {
        if plan.directory.is_none() && plan.set.is_empty() {
            return Err(Failure::usage(
                "--canary writes documents when a host has its turn, so it must know them: give a DIRECTORY, or --set",
            ));
        }
        let options = Options::default();
        let rollouts = Rollouts::of(&targets.vpool)?;
        let documents = plan.directory.map(wanted::documents).transpose()?;
        let parse = |text: &String| match text.split_once('=') {
            Some((section, value)) => Value::parse(&targets.vpool, section, value),
            None => Err(Failure::usage(format!("--set {text}: give SECTION=VALUE or 'SECTION|x.y=VALUE'"))),
        };
        let values: Vec<Value> = plan.set.iter().map(parse).collect::<Result<_, _>>()?;
        for _ in 0..TRIES {
            let hosts = self.hosts_of(targets).await?;
            let mut outline = Outline { edits: BTreeMap::new(), order: Vec::new(), skipped: BTreeMap::new() };
            for (name, host) in &hosts {
                let edits = match &documents {
                    Some(documents) => self.edits_of_documents(&host.place, documents, plan.prune).await?,
                    None if host.written == 0 => Vec::new(),
                    None => self.edits_of_values(&targets.vpool, name, &values).await?,
                };
                outline.add(name, host, edits);
            }
            if outline.order.is_empty() {
                let skipped: Vec<&String> = outline.skipped.keys().collect();
                let result = json!({"vpool": targets.vpool, "changed": false, "skipped": skipped});
                return self.show(&result, || match skipped.len() {
                    0 => format!("all {} hosts of {} have it already", hosts.len(), targets.name()),
                    frozen => format!("nothing to do: {frozen} hosts are frozen, the others have it already"),
                });
            }
            outline.order.sort_by_key(|name| hosts[name].status.is_none());
            let rollout = self.planned(&outline, &plan).await?;
            if let Some((keys, lease, stored)) = self.store_new(&rollouts, rollout, &options).await? {
                let rollout = Drive::begin(self, &keys, lease, stored, None).await?.run().await?;
                return self.end_rollout(&keys, &rollout, Wanted::Done);
            }
        }
        Err(busy(&rollouts.folder))
    }

    /// The document of a roll-out that begins, if all of it can be done.
    async fn planned(&self, outline: &Outline, plan: &Plan<'_>) -> Result<Rollout, Failure> {
        let stages = plan.sizes.stages(&outline.order)?;
        let all: Vec<Edit> = outline.edits.values().flatten().cloned().collect();
        change::check(&all)?;
        change::check_places(&self.store, &all).await?;
        let report = self.check(&all).await?;
        self.refuse(&report)?;
        let intent = Intent::new("rollout", plan.note.clone())?;
        let (mut changes, mut old) = (BTreeMap::new(), BTreeMap::new());
        for (host, edits) in &outline.edits {
            for edit in edits {
                let key = &edit.key;
                let text = |value: &[u8]| {
                    String::from_utf8(value.to_vec()).map_err(|_| {
                        Failure::rejected(format!(
                            "{key} is no text, so it could not be put back; set it first"
                        ))
                    })
                };
                let new = edit.after.as_deref().map(serde_json::from_slice).transpose();
                let new =
                    new.map_err(|error| Failure::rejected(format!("{key} would be no JSON: {error}")))?;
                let value = edit.before.as_ref().map(|pair| text(&pair.value)).transpose()?;
                let revision = edit.before.as_ref().map_or(0, |pair| pair.mod_revision);
                changes.insert(key.to_string(), new);
                old.insert(key.to_string(), Old { host: host.clone(), revision, value });
            }
        }
        let gone = changes.values().any(Option::is_none);
        Ok(Rollout {
            version: ROLLOUT_VERSION,
            id: intent.id.chars().take(8).collect(),
            by: intent.by.clone(),
            time: intent.time.clone(),
            note: plan.note.clone().unwrap_or_default(),
            changes,
            old,
            stages,
            skipped: outline.skipped.clone(),
            wait_secs: plan.wait,
            pause_secs: plan.pause,
            abort_on: plan.abort_on,
            allow_reset: plan.allow_reset || gone,
            state: State::Checking,
            stage: 0,
            hosts: BTreeMap::new(),
            abort: None,
            reason: None,
            conflicts: Vec::new(),
        })
        .and_then(|rollout| self.fits(rollout, outline, &intent))
    }

    /// Whether the document, and each host's part of it, can be written at once.
    fn fits(&self, rollout: Rollout, outline: &Outline, intent: &Intent) -> Result<Rollout, Failure> {
        let advice = "bring out fewer sections at a time, or do without --canary";
        let largest = rollout.largest();
        if largest > DOCUMENT_LIMIT {
            let (needed, limit) = (largest.div_ceil(1024), DOCUMENT_LIMIT >> 10);
            return Err(Failure::rejected(format!(
                "the old and new values of {} hosts take {needed} KiB, a roll-out has at most {limit} KiB; {advice}",
                outline.order.len()
            )));
        }
        for (host, edits) in &outline.edits {
            let bytes = |edit: &Edit| {
                let before = edit.before.as_ref().map_or(0, |pair| pair.value.len());
                before.max(edit.after.as_ref().map_or(0, Vec::len))
            };
            let request = largest + 2 * edits.iter().map(bytes).sum::<usize>();
            let (batches, _) = change::batches(edits, intent, None)?;
            let fits = matches!(batches.as_slice(), [batch] if batch.room() >= COMPARES);
            if !fits || request > Options::default().request {
                let message = format!("what changes on {host} is too much for one transaction; {advice}");
                return Err(Failure::rejected(message));
            }
        }
        Ok(rollout)
    }

    /// Stores a new document with the key of its driver; `None`: another roll-out was stored meanwhile.
    async fn store_new(
        &self,
        rollouts: &Rollouts,
        rollout: Rollout,
        options: &Options,
    ) -> Result<Option<(Keys, Lease, Stored)>, Failure> {
        let range = rollouts.folder.below();
        let listing = self.store.list(&range, ListContent::Keys, None).await.map_err(failure_of)?;
        let mut over = Vec::new();
        for keys in self.all_rollouts(Some(&rollouts.vpool)).await? {
            let stored = self.load(&keys).await?;
            if stored.rollout.state.is_open() {
                return Err(self.open(&keys, &stored.rollout).await?);
            }
            over.push((stored.revision, keys));
        }
        over.sort_by_key(|(revision, _)| std::cmp::Reverse(*revision));
        let keys = rollouts.keys(&rollout.id)?;
        let (id, driver) = Lease::grant(self, &keys, options.lease).await?;
        let mut transaction = Transaction {
            compares: vec![
                Compare::NotAfter { range, revision: listing.revision },
                Compare::Absent(KeyRange::from(&keys.document)),
            ],
            writes: vec![driver, Write::put(&keys.document, rollout.text())],
        };
        let old = over.iter().skip(options.kept.saturating_sub(1)).take(options.kept);
        transaction.writes.extend(old.map(|(_, keys)| Write::Delete(KeyRange::from(&keys.document))));
        match self.store.change(transaction, Proof::Marker).await {
            Ok(revision) => {
                let lease = Lease::keep(self, &keys, id, revision, options.lease);
                Ok(Some((keys, lease, Stored { rollout, revision })))
            }
            Err(Error::Conflict) => {
                self.store.revoke_lease(id).await.map_err(failure_of)?;
                Ok(None)
            }
            Err(error) => Err(failure_of(error)),
        }
    }

    /// Why there cannot be another one.
    async fn open(&self, keys: &Keys, rollout: &Rollout) -> Result<Failure, Failure> {
        let (id, at) = (&keys.id, tell::stage(rollout));
        let advice = match self.driver_of(keys).await? {
            Some(driver) => format!("driven by {}; wait for it", super::lease::named(&driver)),
            None => format!("driven by nobody; `ovs config rollout resume {id}` goes on"),
        };
        let message = format!(
            "the vPool {} has an open roll-out, {id} ({at}), {advice}; `ovs config rollout abort {id}` takes it back",
            keys.vpool
        );
        Ok(Failure::new(Kind::Conflict, message))
    }
}

impl Outline {
    fn add(&mut self, name: &str, host: &Host, edits: Vec<Edit>) {
        if edits.is_empty() {
            return;
        }
        if host.frozen {
            self.skipped.insert(name.to_owned(), "frozen".to_owned());
            return;
        }
        self.order.push(name.to_owned());
        self.edits.insert(name.to_owned(), edits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> Vec<String> {
        (0..count).map(|number| number.to_string()).collect()
    }

    #[test]
    fn stages_have_the_sizes_that_were_given_and_the_rest() {
        for (text, count, sizes) in [
            ("1", 8, &[1, 7][..]),
            ("1,3", 8, &[1, 3, 4]),
            ("10%", 8, &[1, 7]),
            ("1,25%", 8, &[1, 2, 5]),
            ("100%", 8, &[8]),
            ("8", 8, &[8]),
            ("1", 1, &[1]),
            ("50%,50%", 5, &[3, 2]),
        ] {
            let stages = text.parse::<Sizes>().expect(text).stages(&hosts(count)).expect(text);
            assert_eq!(stages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{text}");
            assert_eq!(stages.concat(), hosts(count), "{text}");
        }
        for (text, count) in [("9", 8), ("1,8", 8), ("100%,1", 8)] {
            assert!(text.parse::<Sizes>().expect(text).stages(&hosts(count)).is_err(), "{text}");
        }
        for text in ["", "0", "0%", "101%", "-1", "1,", "x", "1.5", "1;2"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}

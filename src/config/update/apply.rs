//! `ovs config apply`: asks processes to take what is stored for them, and waits for what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use cfg_client::{KeyPath, Transaction, Write};
use cfg_engine::{Feedback, Outcome, Update};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::hearing::Hearing;
use super::targets::{Host, Targets};
use super::wanted;
use crate::config::change::Intent;
use crate::config::check::Check;
use crate::config::write::{TRIES, busy};
use crate::config::{Session, author, failure_of};
use crate::failure::{Failure, Kind};
use crate::output;

/// How long the answers to `set --apply` and `edit --apply` are waited for, in seconds.
const WAIT: u64 = 30;

/// How an update is asked for.
#[derive(Clone, Debug)]
pub(in crate::config) struct Wish<'a> {
    /// Documents that are stored first.
    pub(in crate::config) directory: Option<&'a Path>,
    /// Sections that are not in it go.
    pub(in crate::config) prune: bool,
    /// Nothing is changed; the answers say what would be.
    pub(in crate::config) dry_run: bool,
    /// Sections may be gone.
    pub(in crate::config) allow_reset: bool,
    /// How long answers are waited for.
    pub(in crate::config) wait: Duration,
    /// The author's words.
    pub(in crate::config) note: Option<String>,
}

/// What came of an update.
#[derive(Debug, Serialize)]
struct Collected {
    id: String,
    revision: i64,
    feedback: BTreeMap<String, Feedback>,
    /// Hosts that live and did not answer in time.
    silent: Vec<String>,
    /// Hosts that do not live.
    down: Vec<String>,
}

impl Wish<'_> {
    /// What is stored, as it is.
    fn plain(note: Option<String>) -> Wish<'static> {
        let (prune, dry_run, allow_reset) = (false, false, false);
        Wish { directory: None, prune, dry_run, allow_reset, wait: Duration::from_secs(WAIT), note }
    }
}

impl Session {
    /// After a change: asks those whom it is for, if that was wanted.
    pub(in crate::config) async fn apply_then(
        &self,
        targets: Option<Targets>,
        note: Option<String>,
    ) -> Result<(), Failure> {
        match targets {
            Some(targets) => self.apply(&targets, Wish::plain(note)).await,
            None => Ok(()),
        }
    }

    pub(in crate::config) async fn apply(&self, targets: &Targets, wish: Wish<'_>) -> Result<(), Failure> {
        let hosts = self.hosts_of(targets).await?;
        let allow_reset = wish.allow_reset || wish.prune;
        if let Some(directory) = wish.directory {
            self.store_documents(&hosts, directory, &wish).await?;
        }
        let id = cfg_client::random_id().map_err(failure_of)?;
        let update = Update {
            id: id.clone(),
            by: author::author(),
            note: wish.note.clone().unwrap_or_default(),
            dry_run: wish.dry_run,
            allow_reset,
            rollout: None,
        };
        let key = match (&targets.host, hosts.values().next()) {
            (Some(_), Some(host)) => host.place.update.clone(),
            (None, Some(host)) => host.place.vpool_update.clone(),
            (_, None) => return Err(Failure::not_found(format!("{} has no hosts", targets.name()))),
        };
        let revision = self.request(&key, &update).await?;
        let living = |alive: bool| {
            let chosen = hosts.iter().filter(move |(_, host)| host.status.is_some() == alive);
            chosen.map(|(name, _)| name.clone()).collect::<BTreeSet<String>>()
        };
        let (feedback, silent) =
            self.collect(targets, revision, &id, living(true), Instant::now() + wish.wait).await?;
        let down = living(false).into_iter().collect();
        self.report(Collected { id, revision, feedback, silent, down })
    }

    /// Writes an update key; gives its revision.
    pub(in crate::config) async fn request(&self, key: &KeyPath, update: &Update) -> Result<i64, Failure> {
        let text = serde_json::to_string(update)
            .map_err(|error| Failure::failed(format!("the update is no JSON: {error}")))?;
        let put = Transaction { compares: Vec::new(), writes: vec![Write::put(key, text)] };
        self.store.transact(&put).await.map_err(failure_of)
    }

    /// Stores the documents of a directory for all hosts, in as few changes as they fit.
    async fn store_documents(
        &self,
        hosts: &BTreeMap<String, Host>,
        directory: &Path,
        wish: &Wish<'_>,
    ) -> Result<(), Failure> {
        if wish.dry_run {
            return Err(Failure::usage(
                "--dry-run stores nothing, so it cannot try the documents of a directory",
            ));
        }
        let documents = wanted::documents(directory)?;
        let intent = Intent::new("apply", wish.note.clone())?;
        for _ in 0..TRIES {
            let mut edits = Vec::new();
            for host in hosts.values() {
                edits.extend(self.edits_of_documents(&host.place, &documents, wish.prune).await?);
            }
            if edits.is_empty() || self.commit(&edits, &intent, Check::Made).await?.is_some() {
                return Ok(());
            }
        }
        Err(busy(&KeyPath::root()))
    }

    /// Waits for the answers to the update of `revision`: of one that was superseded, for that of the newer one.
    pub(in crate::config) async fn collect(
        &self,
        targets: &Targets,
        revision: i64,
        id: &str,
        mut waiting: BTreeSet<String>,
        until: Instant,
    ) -> Result<(BTreeMap<String, Feedback>, Vec<String>), Failure> {
        let mut hearing = Hearing::new(&self.store, targets)?;
        let mut answers = BTreeMap::new();
        while !waiting.is_empty() {
            let Ok(heard) = timeout_at(until, hearing.next()).await else { break };
            heard?;
            waiting.retain(|host| {
                let feedback = hearing.hosts().get(host).map(|heard| &heard.feedback);
                let Some(answer) = feedback.and_then(|all| cfg_engine::answer(all, id, revision)) else {
                    return true;
                };
                answers.insert(host.clone(), answer.clone());
                false
            });
        }
        Ok((answers, waiting.into_iter().collect()))
    }

    /// Prints what came of it; the exit code is that of the worst answer.
    fn report(&self, collected: Collected) -> Result<(), Failure> {
        let count = |outcome| collected.feedback.values().filter(|f| f.outcome == outcome).count();
        let (rejected, failed) = (count(Outcome::Rejected), count(Outcome::Failed));
        let (silent, down) = (collected.silent.len(), collected.down.len());
        if self.json {
            output::json(&collected)?;
        } else {
            for (host, feedback) in &collected.feedback {
                output::line(&described(host, feedback))?;
            }
            for host in &collected.silent {
                output::line(&format!("{host}: no answer yet; `ovs config status` shows when there is one"))?;
            }
            for host in &collected.down {
                output::line(&format!("{host}: is down; it takes what is stored when it starts"))?;
            }
        }
        let of = collected.feedback.len() + silent + down;
        if failed > 0 {
            return Err(Failure::failed(format!("{failed} of {of} hosts failed to apply; see mixed above")));
        }
        if rejected > 0 {
            return Err(Failure::rejected(format!(
                "{rejected} of {of} hosts reject it; nothing changed there"
            )));
        }
        if silent > 0 {
            return Err(Failure::new(Kind::NotInSync, format!("{silent} of {of} hosts have not answered")));
        }
        Ok(())
    }
}

/// An answer for people.
fn described(host: &str, feedback: &Feedback) -> String {
    let verb = match (feedback.outcome, feedback.dry_run) {
        (Outcome::Applied, false) => "applied",
        (Outcome::Applied, true) => "would apply",
        (Outcome::Rejected, _) => "rejected",
        (Outcome::Failed, _) => "failed",
        (Outcome::Superseded, _) => "superseded",
    };
    let mut lines = vec![format!("{host}: {verb} at revision {}", feedback.revision)];
    for applied in &feedback.applied {
        lines.push(format!("  {}.{}: {} -> {}", applied.component, applied.param, applied.old, applied.new));
    }
    for pending in &feedback.pending_restart {
        let (component, param) = (&pending.component, &pending.param);
        let (running, stored) = (&pending.running, &pending.stored);
        lines.push(format!("  {component}.{param}: {running} until a restart, then {stored}"));
    }
    for rejected in &feedback.rejected {
        let name = [rejected.component.as_str(), rejected.param.as_str()];
        let name: Vec<&str> = name.into_iter().filter(|part| !part.is_empty()).collect();
        let value = rejected.value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default();
        lines.push(format!("  {}{value}: {}", name.join("."), rejected.problem));
    }
    for mixed in &feedback.mixed {
        lines.push(format!(
            "  {}.{}: {} -> {}, runs with the {} value",
            mixed.component,
            mixed.param,
            mixed.old,
            mixed.new,
            format!("{:?}", mixed.runs).to_lowercase()
        ));
    }
    for key in &feedback.no_effect {
        lines.push(format!("  {key}: has no effect in this program"));
    }
    for key in &feedback.unknown {
        lines.push(format!("  {key}: unknown key, kept"));
    }
    lines.join("\n")
}

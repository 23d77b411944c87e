//! `ovs config apply`: asks processes to take what is stored for them, and waits for what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use cfg_client::{Content as ListContent, Event, FileSource, Item, KeyPath, Transaction, Write};
use cfg_engine::{Feedback, Outcome, Update};
use cfg_schema::Documents;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::change::{Edit, Intent};
use super::check::Check;
use super::secret::Content;
use super::targets::{Host, Targets};
use super::write::{TRIES, busy};
use super::{Session, author, failure_of};
use crate::endpoints::percent_encode;
use crate::failure::{Failure, Kind};
use crate::output;

/// How an update is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wish<'a> {
    /// Documents that are stored first.
    pub(super) directory: Option<&'a Path>,
    /// Sections that are not in it go.
    pub(super) prune: bool,
    /// Nothing is changed; the answers say what would be.
    pub(super) dry_run: bool,
    /// Sections may be gone.
    pub(super) allow_reset: bool,
    /// How long answers are waited for.
    pub(super) wait: Duration,
    /// The author's words.
    pub(super) note: Option<String>,
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

impl Session {
    pub(super) async fn apply(&self, targets: &Targets, wish: Wish<'_>) -> Result<(), Failure> {
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
    pub(super) async fn request(&self, key: &KeyPath, update: &Update) -> Result<i64, Failure> {
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
        let directory = std::path::absolute(directory)
            .map_err(|error| Failure::failed(format!("{}: {error}", directory.display())))?;
        let url = format!("file://{}", percent_encode(&directory));
        let documents =
            FileSource::open(&url).and_then(|source| source.read("")).map_err(failure_of)?.documents;
        if documents.is_empty() {
            return Err(Failure::not_found(format!(
                "{} has no documents: SECTION.json",
                directory.display()
            )));
        }
        let intent = Intent::new("apply", wish.note.clone())?;
        for _ in 0..TRIES {
            let mut edits = Vec::new();
            for host in hosts.values() {
                edits.extend(self.edits(&host.place.config, &documents, wish.prune).await?);
            }
            if edits.is_empty() || self.commit(&edits, &intent, Check::Made).await?.is_some() {
                return Ok(());
            }
        }
        Err(busy(&KeyPath::root()))
    }

    /// What makes the documents below `config` those that are given; with `prune` no others stay.
    pub(super) async fn edits(
        &self,
        config: &KeyPath,
        documents: &Documents,
        prune: bool,
    ) -> Result<Vec<Edit>, Failure> {
        let mut edits = Vec::new();
        for (section, document) in documents {
            let key = config.join(section).map_err(failure_of)?;
            let before = self.current(&key).await?;
            let stored = before.as_ref().map(|pair| Content::of(&pair.value));
            let mut content = Content::Json(document.clone());
            content.unmask(&key, stored.as_ref()).map_err(|missing| {
                Failure::rejected(format!("{key}: *** stands for a secret that is not stored: {missing:?}"))
            })?;
            if stored.as_ref() != Some(&content) {
                let after = super::read::text(&content).into_bytes();
                edits.push(Edit { key, before, after: Some(after), other: None });
            }
        }
        if prune {
            let listing = self.store.list(&config.below(), ListContent::Values, None).await;
            for pair in listing.map_err(failure_of)?.pairs {
                let key = super::write::key_of(&pair)?;
                let section = key.as_str().strip_prefix(&config.folder()).unwrap_or_default();
                if !documents.contains_key(section) {
                    edits.push(Edit { key, before: Some(pair), after: None, other: None });
                }
            }
        }
        Ok(edits)
    }

    /// Waits for the answers to the update of `revision`: of one that was superseded, for that of the newer one.
    pub(super) async fn collect(
        &self,
        targets: &Targets,
        revision: i64,
        id: &str,
        mut waiting: BTreeSet<String>,
        until: Instant,
    ) -> Result<(BTreeMap<String, Feedback>, Vec<String>), Failure> {
        let path = targets.hosts()?;
        let folder = path.folder();
        let mut watch = self.store.watch(&path, Some(revision + 1));
        // What a host was answered under: another id once the update was superseded there.
        let mut followed: BTreeMap<String, String> = BTreeMap::new();
        let mut answers = BTreeMap::new();
        while !waiting.is_empty() {
            let Ok(item) = timeout_at(until, watch.next()).await else { break };
            let pairs = match item.map_err(failure_of)? {
                Item::Listed(listing) => listing.pairs,
                Item::Changed { events, .. } => events
                    .into_iter()
                    .filter_map(|event| match event {
                        Event::Put(pair) => Some(pair),
                        Event::Deleted(_) => None,
                    })
                    .collect(),
            };
            for pair in pairs {
                let key = str::from_utf8(&pair.key).ok().and_then(|key| key.strip_prefix(&folder));
                let Some((host, rest)) = key.and_then(|key| key.split_once('/')) else { continue };
                let Some(of) = rest.strip_prefix("feedback/") else { continue };
                let wanted = followed.get(host).map_or(id, String::as_str);
                if of != wanted || !waiting.contains(host) {
                    continue;
                }
                let Ok(feedback) = Feedback::read(&pair.value) else { continue };
                if feedback.revision < revision {
                    continue;
                }
                match (feedback.outcome, feedback.by.clone()) {
                    (Outcome::Superseded, Some(by)) if by != of => {
                        followed.insert(host.to_owned(), by.clone());
                        // That answer may have been there before.
                        if let Some(feedback) = self.answer(targets, host, &by, revision).await? {
                            waiting.remove(host);
                            answers.insert(host.to_owned(), feedback);
                        }
                    }
                    _ => {
                        waiting.remove(host);
                        answers.insert(host.to_owned(), feedback);
                    }
                }
            }
        }
        Ok((answers, waiting.into_iter().collect()))
    }

    /// An answer that is stored already.
    async fn answer(
        &self,
        targets: &Targets,
        host: &str,
        id: &str,
        revision: i64,
    ) -> Result<Option<Feedback>, Failure> {
        let path = targets.hosts()?;
        let key = KeyPath::parse(&format!("{path}/{host}/feedback/{id}")).map_err(failure_of)?;
        let Some(pair) = self.current(&key).await? else { return Ok(None) };
        let feedback = Feedback::read(&pair.value).ok();
        Ok(feedback
            .filter(|feedback| feedback.revision > revision && feedback.outcome != Outcome::Superseded))
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

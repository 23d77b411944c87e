//! `ovs config …`: documents in the configuration store. What a service does with them is not known here, but which of
//! their values are secrets, and what is generated from their declarations.

mod accept;
pub(crate) mod address;
mod author;
mod change;
mod check;
mod command;
mod diff;
mod edit;
mod editor;
mod history;
mod host;
mod journal;
mod place;
mod read;
mod reference;
mod refs;
mod running;
mod secret;
mod transfer;
pub(crate) mod update;
mod validate;
mod vpool;
mod watch;
mod whole;
mod write;

pub(crate) use author::now;
pub(crate) use command::ConfigCommand;
use command::{ApplyArgs, StoreCommand};
pub(crate) use reference::help_markdown;

use std::time::Duration;

use cfg_client::{Content, Error, KeyPath, Options, Store};
use cfg_schema::Documents;
use serde::Serialize;
use tokio::runtime::Runtime;

use change::{Edit, Intent};
use check::Check;
use place::Place;
use update::targets::Targets;

use crate::args::Global;
use crate::failure::{Failure, Kind};
use crate::identity::Identity;
use crate::output;

/// How often all endpoints are tried: somebody waits for the answer.
const ROUNDS: usize = 5;

/// The same for what goes on for long, such as a watch, and shall outlive the restart of a store: more than half a
/// minute.
const WATCH_ROUNDS: usize = 20;

/// A command at work.
struct Session {
    store: Store,
    /// Whether people or scripts read the output.
    json: bool,
    /// Who the node on this machine is, if one is known: its data directory was made with values that stay.
    identity: Option<Identity>,
}

/// Does one command.
pub(crate) fn run(global: &Global, command: ConfigCommand) -> Result<(), Failure> {
    let command = match command {
        ConfigCommand::Store(StoreCommand::Validate { dir: Some(dir), .. }) => {
            return validate::directory(global, &dir);
        }
        ConfigCommand::Store(command) => command,
        ConfigCommand::AcceptCluster { id } => return accept::run(global, id),
        ConfigCommand::Docs => return reference::docs(),
        ConfigCommand::Schema => return reference::schema(),
        ConfigCommand::Sample => return reference::sample(global.json),
    };
    let lasting =
        matches!(command, StoreCommand::Watch { .. } | StoreCommand::Apply(_) | StoreCommand::Rollout(_));
    let rounds = if lasting { WATCH_ROUNDS } else { ROUNDS };
    let (runtime, session) = open(global, rounds)?;
    runtime.block_on(session.run(command))
}

/// The store that the arguments name, and what drives it.
fn open(global: &Global, rounds: usize) -> Result<(Runtime, Session), Failure> {
    let url = address::find(global)?;
    let store = Store::open(&url, Options { rounds, ..Options::default() }).map_err(failure_of)?;
    let session = Session { store, json: global.json, identity: address::identity(global) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    Ok((runtime, session))
}

/// Stores documents below `path` where there is nothing yet, all or none, with their history. `false`: there is
/// something.
pub(crate) async fn store_first(
    store: &Store,
    path: &KeyPath,
    documents: &Documents,
    action: &'static str,
) -> Result<bool, Failure> {
    if !store.list(&path.below(), Content::Keys, None).await.map_err(failure_of)?.pairs.is_empty() {
        return Ok(false);
    }
    let edit = |(section, document): (&String, &serde_json::Value)| {
        let key = path.join(section).map_err(failure_of)?;
        Ok(Edit { key, before: None, after: Some(document.to_string().into_bytes()), other: None })
    };
    let edits: Vec<Edit> = documents.iter().map(edit).collect::<Result<_, Failure>>()?;
    let session = Session { store: store.clone(), json: false, identity: None };
    // Whoever stores the first documents has read them.
    Ok(session.commit(&edits, &Intent::new(action, None)?, Check::Omitted).await?.is_some())
}

/// Masks the secrets of documents that lie below `folder`.
pub(crate) fn mask_secrets(folder: &KeyPath, documents: &mut Documents) -> Result<(), Failure> {
    for (section, document) in documents {
        let key = folder.join(section).map_err(failure_of)?;
        let mut content = secret::Content::Json(std::mem::take(document));
        content.mask(&key);
        if let secret::Content::Json(masked) = content {
            *document = masked;
        }
    }
    Ok(())
}

impl Session {
    async fn run(&self, command: StoreCommand) -> Result<(), Failure> {
        match command {
            StoreCommand::Set { key, value, vpool: Some(vpool), message, checks, then, .. } => {
                let targets = then.targets(|| Ok(Targets { vpool: vpool.clone(), host: None }))?;
                self.set_vpool(&vpool, &key, &value, message.text.clone(), checks.check()).await?;
                self.apply_then(targets, message.text).await
            }
            StoreCommand::Set { key, value, if_revision, message, checks, then, .. } => {
                let place = Place::parse(&key).map_err(Failure::usage)?;
                let targets = then.targets(|| Targets::of_document(&place.key))?;
                self.set(&place, &value, if_revision, message.text.clone(), checks.check()).await?;
                self.apply_then(targets, message.text).await
            }
            StoreCommand::Edit { key, message, checks, then } => {
                let targets = then.targets(|| Targets::of_document(&key))?;
                self.edit(&key, message.text.clone(), checks.check()).await?;
                self.apply_then(targets, message.text).await
            }
            StoreCommand::Delete { key, recursive: true, message, checks, .. } => {
                self.delete_recursive(&key, message.text, checks.check()).await
            }
            StoreCommand::Delete { key, if_revision, message, checks, .. } => {
                self.delete(&key, if_revision, message.text, checks.check()).await
            }
            StoreCommand::Rename { from, to, message, checks } => {
                self.rename(&from, &to, message.text, checks.check()).await
            }
            StoreCommand::Revert { key, revision: Some(revision), message, checks, .. } => {
                self.revert(&key, revision, message.text, checks.check()).await
            }
            StoreCommand::Revert { key, message, checks, .. } => {
                self.revert_to_running(&key, message.text, checks.check()).await
            }
            StoreCommand::Import { file, message, checks } => {
                self.import(&file, message.text, checks.check()).await
            }
            StoreCommand::Freeze { host, vpool, message } => {
                self.freeze(&host, vpool.as_deref(), message.text).await
            }
            StoreCommand::Thaw { host, vpool, message } => {
                self.thaw(&host, vpool.as_deref(), message.text).await
            }
            StoreCommand::Resume { id: Some(id), abort } => self.resume(&id, abort).await,
            StoreCommand::Apply(arguments) => self.apply_as(arguments).await,
            StoreCommand::Rollout(command) => self.rollout(command).await,
            looking => self.look(looking).await,
        }
    }

    /// `ovs config apply`, at once or in stages.
    async fn apply_as(&self, arguments: ApplyArgs) -> Result<(), Failure> {
        let targets = self.targets(&arguments.target)?;
        let ApplyArgs { directory, prune, dry_run, allow_reset, wait, message, .. } = &arguments;
        let (directory, note) = (directory.as_deref(), message.text.clone());
        if let Some(canary) = &arguments.canary {
            let plan = update::rollout::Plan {
                directory,
                set: &arguments.set,
                prune: *prune,
                sizes: canary,
                wait: *wait,
                pause: arguments.pause,
                abort_on: arguments.abort_on,
                allow_reset: *allow_reset,
                note,
            };
            return self.roll_out(&targets, plan).await;
        }
        let wait = Duration::from_secs(*wait);
        let (prune, dry_run, allow_reset) = (*prune, *dry_run, *allow_reset);
        self.apply(&targets, update::apply::Wish { directory, prune, dry_run, allow_reset, wait, note }).await
    }

    /// The commands that change nothing.
    async fn look(&self, command: StoreCommand) -> Result<(), Failure> {
        match command {
            StoreCommand::List { prefix } => self.list(&prefix).await,
            StoreCommand::ListRecursive { prefix } => self.list_recursive(&prefix).await,
            StoreCommand::Get { key, secrets } => self.get(&key, secrets.show).await,
            StoreCommand::History { key, .. } => self.history(&key).await,
            StoreCommand::Diff { key, old, new, secrets } => self.diff(&key, old, new, secrets.show).await,
            StoreCommand::Export { file, prefix, secrets } => self.export(&file, &prefix, secrets.show).await,
            StoreCommand::Validate { vpool, host, .. } => {
                self.validate(vpool.as_deref(), host.as_deref()).await
            }
            StoreCommand::Status { target, wait } => {
                self.status(&self.targets(&target)?, wait.map(Duration::from_secs)).await
            }
            StoreCommand::Refs { key } => self.refs(&key).await,
            StoreCommand::Watch { prefix, from, secrets } => self.watch(&prefix, from, secrets.show).await,
            StoreCommand::Resume { .. } => self.journals().await,
            // Answered above.
            StoreCommand::Set { .. }
            | StoreCommand::Edit { .. }
            | StoreCommand::Delete { .. }
            | StoreCommand::Rename { .. }
            | StoreCommand::Revert { .. }
            | StoreCommand::Import { .. }
            | StoreCommand::Freeze { .. }
            | StoreCommand::Thaw { .. }
            | StoreCommand::Apply { .. }
            | StoreCommand::Rollout { .. } => Ok(()),
        }
    }

    /// Prints a result for scripts or for people.
    fn show(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { output::json(value) } else { output::line(&text()) }
    }
}

/// A number of keys in words.
fn counted(keys: usize) -> String {
    if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") }
}

/// What an error of the store means for a command.
pub(crate) fn failure_of(error: Error) -> Failure {
    let (kind, advice) = match &error {
        Error::Absent { .. } => (Kind::NotFound, "; `ovs config list` shows what there is"),
        Error::Conflict => (Kind::Conflict, "; look at it again, then repeat the command"),
        Error::Changing { .. } => (Kind::Conflict, ""),
        Error::Syntax { .. } | Error::TooLarge { .. } => (Kind::Rejected, ""),
        Error::Unreachable { .. } => (Kind::Unreachable, "; nothing was changed; is the store running?"),
        Error::Unknown { .. } => (Kind::Unreachable, "; `ovs config history KEY` shows whether it did"),
        Error::Url { .. } | Error::Key { .. } => (Kind::Usage, ""),
        Error::Denied { .. } => (Kind::Failed, "; see to the rights or certificates of --endpoint"),
        Error::Compacted | Error::Refused { .. } | Error::OtherCluster { .. } | Error::Damaged { .. } => {
            (Kind::Failed, "")
        }
    };
    Failure::new(kind, format!("{error}{advice}"))
}

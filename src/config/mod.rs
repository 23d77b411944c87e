//! `ovs config …`: documents in the configuration store. What a service does with them is not known here, but which of
//! their values are secrets, and what is generated from their declarations.

pub(crate) mod address;
mod author;
mod change;
mod command;
mod diff;
mod history;
mod journal;
mod place;
mod read;
mod reference;
mod secret;
mod transfer;
mod vpool;
mod watch;
mod write;

pub(crate) use command::ConfigCommand;
pub(crate) use reference::help_markdown;

use cfg_client::{Content, Error, KeyPath, Options, Store};
use cfg_schema::Documents;
use serde::Serialize;

use change::{Edit, Intent};
use place::Place;

use crate::args::Global;
use crate::failure::{Failure, Kind};
use crate::output;

/// How often all endpoints are tried: somebody waits for the answer.
const ROUNDS: usize = 5;

/// The same for a watch, which shall outlive the restart of a store: more than half a minute.
const WATCH_ROUNDS: usize = 20;

/// A command at work.
struct Session {
    store: Store,
    /// Whether people or scripts read the output.
    json: bool,
}

/// Does one command.
pub(crate) fn run(global: &Global, command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Docs => return reference::docs(),
        ConfigCommand::Schema => return reference::schema(),
        ConfigCommand::Sample => return reference::sample(global.json),
        _ => {}
    }
    let url = address::find(global)?;
    let rounds = if matches!(command, ConfigCommand::Watch { .. }) { WATCH_ROUNDS } else { ROUNDS };
    let store = Store::open(&url, Options { rounds, ..Options::default() }).map_err(failure_of)?;
    let session = Session { store, json: global.json };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    runtime.block_on(session.run(command))
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
    let session = Session { store: store.clone(), json: false };
    Ok(session.commit(&edits, &Intent::new(action, None)?).await?.is_some())
}

impl Session {
    async fn run(&self, command: ConfigCommand) -> Result<(), Failure> {
        match command {
            ConfigCommand::List { prefix } => self.list(&prefix).await,
            ConfigCommand::ListRecursive { prefix } => self.list_recursive(&prefix).await,
            ConfigCommand::Get { key, secrets } => self.get(&key, secrets.show).await,
            ConfigCommand::Set { key, value, vpool: Some(vpool), message, .. } => {
                self.set_vpool(&vpool, &key, &value, message.text).await
            }
            ConfigCommand::Set { key, value, if_revision, message, .. } => {
                let place = Place::parse(&key).map_err(Failure::usage)?;
                self.set(&place, &value, if_revision, message.text).await
            }
            ConfigCommand::Delete { key, recursive: true, message, .. } => {
                self.delete_recursive(&key, message.text).await
            }
            ConfigCommand::Delete { key, if_revision, message, .. } => {
                self.delete(&key, if_revision, message.text).await
            }
            ConfigCommand::Rename { from, to, message } => self.rename(&from, &to, message.text).await,
            ConfigCommand::History { key, .. } => self.history(&key).await,
            ConfigCommand::Diff { key, old, new, secrets } => self.diff(&key, old, new, secrets.show).await,
            ConfigCommand::Revert { key, revision, message } => {
                self.revert(&key, revision, message.text).await
            }
            ConfigCommand::Export { file, prefix, secrets } => {
                self.export(&file, &prefix, secrets.show).await
            }
            ConfigCommand::Import { file, message } => self.import(&file, message.text).await,
            ConfigCommand::Watch { prefix, from, secrets } => self.watch(&prefix, from, secrets.show).await,
            ConfigCommand::Resume { id: None, .. } => self.journals().await,
            ConfigCommand::Resume { id: Some(id), abort } => self.resume(&id, abort).await,
            // Answered without a store.
            ConfigCommand::Docs | ConfigCommand::Schema | ConfigCommand::Sample => Ok(()),
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
        Error::Url { .. } | Error::Key { .. } | Error::Unavailable { .. } => (Kind::Usage, ""),
        Error::Denied { .. } => (Kind::Failed, "; see to the rights or certificates of --endpoint"),
        Error::Compacted | Error::Refused { .. } | Error::OtherCluster { .. } | Error::Damaged { .. } => {
            (Kind::Failed, "")
        }
    };
    Failure::new(kind, format!("{error}{advice}"))
}

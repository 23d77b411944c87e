//! The configuration of the driver: shown, checked, and taken.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cfg_client::{EtcdSource, FileSource, Options};
use cfg_engine::{Feedback, Outcome};
use cfg_schema::{Documents, Problem};
use dxr::Value;
use serde_json::Value as Json;
use tokio::task::spawn_blocking;
use volumedriver::parameters::Parameters;

use super::Server;
use super::failed::Failed;
use super::table::Routing::Local;
use super::table::{Method, here};
use super::values::{Arguments, number, record, text};
use crate::config::mask_secrets;
use crate::config::update::own::Updated;
use crate::driver::Driver;

/// See the module.
pub(super) const METHODS: &[Method] = &[
    here(
        "persistConfigurationToString",
        Local,
        |s, a| Box::pin(shown(s, a)),
        "What the driver runs with, as one JSON \
        text; without `show_defaults` only what differs from the defaults. [`show_defaults`]; gives `configuration` \
        and `configuration_url`.",
    ),
    here(
        "updateConfiguration",
        Local,
        |s, a| Box::pin(update(s, a)),
        "Takes a configuration, or says what is wrong \
        with it. `configuration_path`; gives `updates` and `no_updates`.",
    ),
    here(
        "checkConfiguration",
        Local,
        |s, a| Box::pin(check(s, a)),
        "Says what is wrong with a configuration. \
        `configuration_path`; gives `success` and `problems`.",
    ),
];

/// Of the time of a call, how much an update may wait for its answer.
const WAIT_PART: (u32, u32) = (3, 4);

/// Largest file with a whole configuration, bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// What a `configuration_path` names.
enum Named {
    /// What is stored for this driver.
    Own,
    /// Documents elsewhere.
    Documents(Documents),
}

impl Named {
    fn documents(&self) -> Option<&Documents> {
        match self {
            Named::Own => None,
            Named::Documents(documents) => Some(documents),
        }
    }
}

async fn update(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let named = named(&server, arguments.text("configuration_path")?).await?;
    let wait: Duration = server.call_timeout * WAIT_PART.0 / WAIT_PART.1;
    match server.config.update(named.documents(), wait).await? {
        Updated::Taken(feedback) => taken(&feedback),
        Updated::Rejected(problems) => {
            let message = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ");
            let shown = |problem: &Problem| {
                record([
                    ("component_name", text(&problem.section)),
                    ("parameter_name", text(&problem.key)),
                    ("value", json(&problem.value)),
                    ("problem", text(&problem.problem)),
                ])
            };
            let message = format!("error updating configuration: {message}");
            Err(Failed::Rejected(message, problems.iter().map(shown).collect()))
        }
    }
}

/// What was applied, and what waits.
fn taken(feedback: &Feedback) -> Result<Value, Failed> {
    if feedback.outcome == Outcome::Failed {
        let of = |mixed: &cfg_engine::Mixed| {
            format!("{}.{}: {}", mixed.component, mixed.param, mixed.problem.clone().unwrap_or_default())
        };
        let mixed: Vec<String> = feedback.mixed.iter().map(of).collect();
        return Err(Failed::Other(format!("the update broke down half way: {}", mixed.join("; "))));
    }
    let change = |component: &str, parameter: &str, old: &str, new: &str| {
        record([
            ("component_name", text(component)),
            ("parameter_name", text(parameter)),
            ("old_value", text(old)),
            ("new_value", text(new)),
        ])
    };
    let updates = feedback.applied.iter();
    let updates =
        updates.map(|applied| change(&applied.component, &applied.param, &applied.old, &applied.new));
    let waiting = feedback.pending_restart.iter();
    let waiting =
        waiting.map(|pending| change(&pending.component, &pending.param, &pending.running, &pending.stored));
    Ok(record([
        ("updates", Value::Array(updates.collect())),
        ("no_updates", Value::Array(waiting.collect())),
        ("feedback_id", text(&feedback.id)),
        ("revision", number(feedback.revision.unsigned_abs())),
    ]))
}

async fn check(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let named = named(&server, arguments.text("configuration_path")?).await?;
    let problems = server.config.check(named.documents()).await?;
    let shown = |problem: &Problem| {
        record([
            ("param_name", text(&problem.key)),
            ("component_name", text(&problem.section)),
            ("problem", text(&problem.problem)),
        ])
    };
    Ok(record([
        ("success", Value::Boolean(problems.is_empty())),
        ("problems", Value::Array(problems.iter().map(shown).collect())),
    ]))
}

/// A value as text: a string as it is.
fn json(value: &Json) -> Value {
    match value {
        Json::String(string) => text(string),
        Json::Null => text(""),
        value => text(&value.to_string()),
    }
}

/// Finds what a `configuration_path` names: a URL, or an absolute path of a file or directory on this machine.
async fn named(server: &Server, path: &str) -> Result<Named, Failed> {
    if let Some((scheme, _)) = path.split_once("://") {
        return match scheme {
            "etcd" => stored(server, path).await,
            "file" => {
                let source = FileSource::open(path)?;
                read(move || Ok(source.read("")?.documents)).await
            }
            _ => Err(Failed::Other(format!(
                "{scheme}:// is not known; configuration_path is etcd://HOST:PORT/PATH, file:///DIR, or an absolute \
                 path"
            ))),
        };
    }
    let path = Path::new(path).to_owned();
    if !path.is_absolute() {
        let message =
            format!("configuration_path {:?} is neither a URL nor an absolute path", path.display());
        return Err(Failed::Other(message));
    }
    read(move || {
        let failed = |error| Failed::Other(format!("{} cannot be read: {error}", path.display()));
        let metadata = fs::metadata(&path).map_err(failed)?;
        if metadata.is_dir() {
            let url = path.display().to_string();
            return Ok(FileSource::new(&url, path.clone()).read("")?.documents);
        }
        // Reading anything else might never end.
        if !metadata.is_file() {
            return Err(Failed::Other(format!("{} is neither a file nor a directory", path.display())));
        }
        let mut content = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut content))
            .map_err(failed)?;
        if content.len() as u64 > FILE_LIMIT {
            return Err(Failed::Other(format!("{} is larger than {} MiB", path.display(), FILE_LIMIT >> 20)));
        }
        serde_json::from_slice(&content).map_err(|error| {
            Failed::Other(format!("{} is no JSON object of sections: {error}", path.display()))
        })
    })
    .await
}

/// Reads on a thread that may block.
async fn read(read: impl FnOnce() -> Result<Documents, Failed> + Send + 'static) -> Result<Named, Failed> {
    let documents = spawn_blocking(read).await;
    let documents = documents.map_err(|error| Failed::Other(format!("reading failed: {error}")))??;
    if documents.is_empty() {
        return Err(Failed::Other("configuration_path has no documents".to_owned()));
    }
    Ok(Named::Documents(documents))
}

/// The documents of a store. Where they are this driver's own, they are not read here.
async fn stored(server: &Server, url: &str) -> Result<Named, Failed> {
    let source = EtcdSource::open(url, Options { rounds: 2, ..Options::default() })?;
    if source.path() == server.config.path()
        && source.store().cluster_id().await? == server.store.cluster_id().await?
    {
        return Ok(Named::Own);
    }
    let documents = source.read("").await?.documents;
    if documents.is_empty() {
        return Err(Failed::Other(format!("there are no documents at {url}")));
    }
    Ok(Named::Documents(documents))
}

async fn shown(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let show_defaults = arguments.lenient_flag("show_defaults", false)?;
    let mut running = server.ask(Driver::parameters).await?.documents();
    if !show_defaults {
        let defaults = Parameters::default().documents();
        for (section, document) in &mut running {
            let Some(members) = document.as_object_mut() else { continue };
            members.retain(|key, value| {
                defaults.get(section).and_then(|section| section.get(key)) != Some(&*value)
            });
        }
        running.retain(|_, document| document.as_object().is_none_or(|members| !members.is_empty()));
    }
    mask_secrets(server.config.path(), &mut running)?;
    let configuration = serde_json::to_string_pretty(&running)
        .map_err(|error| Failed::Other(format!("the configuration cannot be written as JSON: {error}")))?;
    Ok(record([("configuration", text(&configuration)), ("configuration_url", text(&server.url))]))
}

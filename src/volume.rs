//! `ovs volume …`

use cfg_schema::ByteSize;
use hyper::Method;
use serde::Serialize;
use serde_json::Value as Json;

use crate::admin::api::{ChangeVolume, CreateVolume, Deleted, State, SyncIgnore, Volume};
use crate::admin::client::Client;
use crate::args::{Global, VolumeCommand};
use crate::failure::Failure;
use crate::output;

/// A request without body.
const NOTHING: Option<&()> = None;

/// Does one command.
pub(crate) fn run(global: &Global, command: VolumeCommand) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let path = |name: &dyn std::fmt::Display| format!("/v1/volumes/{name}");
    match command {
        VolumeCommand::Create { name, size } => {
            let body = CreateVolume { name: name.to_string(), size: size.bytes() };
            let volume: Volume = client.call(Method::POST, "/v1/volumes", Some(&body))?;
            show(global, &volume, || format!("created {}, {}", volume.name, ByteSize(volume.size)))
        }
        VolumeCommand::List => {
            let volumes: Vec<Volume> = client.call(Method::GET, "/v1/volumes", NOTHING)?;
            show(global, &volumes, || list(&volumes))
        }
        VolumeCommand::Info { name } => {
            let volume: Volume = client.call(Method::GET, &path(&name), NOTHING)?;
            show(global, &volume, || info(&volume))
        }
        VolumeCommand::Resize { name, size } => {
            let body = ChangeVolume { size: size.bytes() };
            let volume: Volume = client.call(Method::PATCH, &path(&name), Some(&body))?;
            show(global, &volume, || format!("resized {} to {}", volume.name, ByteSize(volume.size)))
        }
        VolumeCommand::Delete { name } => {
            let deleted: Deleted = client.call(Method::DELETE, &path(&name), NOTHING)?;
            show(global, &deleted, || format!("deleted {}", deleted.deleted))
        }
        VolumeCommand::Stats { name } => {
            let stats: Json = client.call(Method::GET, &format!("{}/stats", path(&name)), NOTHING)?;
            show(global, &stats, || flat("", &stats).join("\n"))
        }
    }
}

fn show(global: &Global, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if global.json { output::json(value) } else { output::line(&text()) }
}

fn state(volume: &Volume) -> &'static str {
    match volume.state {
        State::Running => "running",
        State::Halted => "halted",
    }
}

fn list(volumes: &[Volume]) -> String {
    let rows: Vec<[String; 5]> = volumes
        .iter()
        .map(|volume| {
            [
                volume.name.clone(),
                ByteSize(volume.size).to_string(),
                ByteSize(volume.stored_bytes).to_string(),
                volume.connections.to_string(),
                state(volume).to_owned(),
            ]
        })
        .collect();
    output::table(
        ["NAME", "SIZE", "STORED", "CONNECTIONS", "STATE"],
        &["SIZE", "STORED", "CONNECTIONS"],
        &rows,
    )
}

fn info(volume: &Volume) -> String {
    let state = match &volume.halted_reason {
        Some(reason) => format!("{}: {reason}", state(volume)),
        None => state(volume).to_owned(),
    };
    let syncs = match volume.sync_ignore {
        Some(SyncIgnore { flushes, seconds }) => {
            format!(
                "not for at most {flushes} flushes in a row, {seconds} seconds; a power loss may cost them"
            )
        }
        None => "at every flush".to_owned(),
    };
    let pages = volume
        .map_pages_max
        .map_or("as many as there is room for".to_owned(), |most| format!("at most {most}"));
    [
        ("name", volume.name.clone()),
        ("uuid", volume.uuid.clone()),
        ("size", format!("{} ({} bytes)", ByteSize(volume.size), volume.size)),
        ("state", state),
        ("stored", format!("{} bytes", volume.stored_bytes)),
        ("connections", volume.connections.to_string()),
        ("data thread", volume.data_thread.to_string()),
        ("syncs", syncs),
        ("map pages", pages),
    ]
    .map(|(key, value)| format!("{key:<12} {value}"))
    .join("\n")
}

/// One line for each number, nested ones as `outer.inner`.
fn flat(path: &str, value: &Json) -> Vec<String> {
    match value {
        Json::Object(object) => object
            .iter()
            .flat_map(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flat(&path, value)
            })
            .collect(),
        Json::String(text) => vec![format!("{path:<24} {text}")],
        other => vec![format!("{path:<24} {other}")],
    }
}

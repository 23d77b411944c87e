//! What a peer is: how it starts, where it listens and what its acknowledgement promises, read from a JSON file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Result};

/// Name of the export and of the volume on every side.
pub(crate) const VOLUME: &str = "bench";

/// The peers that come with the harness, in the order of the report.
const BUILT_IN: [&str; 11] = [
    include_str!("../peers/ovs.json"),
    include_str!("../peers/raw.json"),
    include_str!("../peers/qemu-nbd-raw.json"),
    include_str!("../peers/qemu-nbd-qcow2.json"),
    include_str!("../peers/qsd-raw.json"),
    include_str!("../peers/nbdkit-file.json"),
    include_str!("../peers/nbd-server.json"),
    include_str!("../peers/nbdkit-memory.json"),
    include_str!("../peers/nbdkit-null.json"),
    include_str!("../peers/zerofs.json"),
    include_str!("../peers/crucible.json"),
];

/// What a peer may be compared as.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// Keeps data on the disk and serves NBD: competes.
    Server,
    /// Serves NBD and keeps nothing: the limit of protocol and client.
    Protocol,
    /// No server at all: the limit of the disk.
    Limit,
}

/// The file that stands for the disk.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Image {
    /// The bytes of the volume, allocated in advance where the volume is to be filled.
    Raw,
    /// Made by `qemu-img create`.
    Qcow2,
}

/// A small file that is written before the start.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// Where it goes; its folder is made.
    pub(crate) path: String,
    /// Its lines.
    pub(crate) lines: Vec<String>,
}

/// How one sees that the server is there.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ready {
    /// It greets on its socket.
    #[default]
    Greeting,
    /// It has printed this line, and then greets.
    Line(String),
}

/// Where it listens.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Address {
    /// On `${socket}`.
    #[default]
    Socket,
    /// A field of a JSON file that it writes holds an `nbd+unix` URI.
    Endpoints {
        /// The file.
        endpoints: String,
        /// The field's name.
        field: String,
    },
}

/// One peer. Text may hold `${name}`; see the README for the names.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    /// Short name, used on the command line and in file names.
    pub(crate) name: String,
    /// What it is, in a line.
    pub(crate) title: String,
    /// What it is compared as.
    pub(crate) class: Class,
    /// When a write is acknowledged.
    pub(crate) acknowledges: String,
    /// What a flush waits for.
    pub(crate) flush: String,
    /// The image file it needs.
    #[serde(default)]
    pub(crate) image: Option<Image>,
    /// Files written before every start.
    #[serde(default)]
    pub(crate) files: Vec<Document>,
    /// Files written before the first start when the local space is limited; without them it cannot be limited.
    #[serde(default)]
    pub(crate) limited_files: Vec<Document>,
    /// Program and arguments; empty: fio works on the image itself.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// A server that goes to the background writes its process id here.
    #[serde(default)]
    pub(crate) pid_file: Option<String>,
    /// How one sees that it is there.
    #[serde(default)]
    pub(crate) ready: Ready,
    /// Where it listens.
    #[serde(default)]
    pub(crate) address: Address,
    /// Whether data is there again after a restart.
    #[serde(default = "yes")]
    pub(crate) retains: bool,
    /// Whether it runs only when its program is given on the command line.
    #[serde(default)]
    pub(crate) needs_binary: bool,
    /// How long a start may take.
    #[serde(default = "start_limit")]
    pub(crate) start_limit_seconds: u64,
}

fn yes() -> bool {
    true
}

fn start_limit() -> u64 {
    30
}

/// Reads one peer; `origin` names the text in an error.
fn parse(text: &str, origin: &str) -> Result<Peer> {
    let peer: Peer = serde_json::from_str(text).map_err(|e| BenchError::Setup(format!("{origin}: {e}")))?;
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if peer.name.is_empty() || peer.name.starts_with('.') || !peer.name.chars().all(fine) {
        return Err(BenchError::Setup(format!(
            "{origin}: '{}' is not a name (letters, digits, - _ .)",
            peer.name
        )));
    }
    if peer.command.is_empty() && peer.image != Some(Image::Raw) {
        return Err(BenchError::Setup(format!("{origin}: without a command it must have a raw image")));
    }
    Ok(peer)
}

/// All built-in peers and those of `files`, which replace a built-in one of the same name.
pub(crate) fn load(files: &[std::path::PathBuf]) -> Result<Vec<Peer>> {
    let mut peers =
        BUILT_IN.iter().map(|text| parse(text, "built-in peer")).collect::<Result<Vec<Peer>>>()?;
    for file in files {
        let peer = load_file(file)?;
        match peers.iter_mut().find(|p| p.name == peer.name) {
            Some(same) => *same = peer,
            None => peers.push(peer),
        }
    }
    Ok(peers)
}

fn load_file(file: &Path) -> Result<Peer> {
    let text = std::fs::read_to_string(file).map_err(BenchError::file(file))?;
    parse(&text, &file.display().to_string())
}

/// Puts values in for `${name}`. A name without a value is an error.
pub(crate) fn fill_in(text: &str, values: &[(&str, String)]) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        let end = from.find('}').ok_or_else(|| BenchError::Setup(format!("'{text}': '${{' without '}}'")))?;
        let name = &from[2..end];
        let value = values.iter().find(|(n, _)| *n == name);
        let (_, value) =
            value.ok_or_else(|| BenchError::Setup(format!("'{text}': there is no ${{{name}}} here")))?;
        out.push_str(before);
        out.push_str(value);
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_peers_are_sound() {
        let peers = load(&[]).unwrap();
        assert_eq!(peers.len(), BUILT_IN.len());
        assert_eq!(peers[0].name, "ovs");
        let names: std::collections::HashSet<&str> = peers.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names.len(), peers.len());
        assert!(peers.iter().filter(|p| p.class == Class::Limit).all(|p| p.command.is_empty()));
        assert!(matches!(&peers[0].address, Address::Endpoints { field, .. } if field == "nbd_unix"));
        assert!(matches!(&peers[0].ready, Ready::Line(line) if line == "ready"));
    }

    #[test]
    fn broken_peers_are_refused() {
        assert!(parse("{}", "x").is_err());
        let good = include_str!("../peers/raw.json");
        assert!(parse(&good.replace("\"raw\",\n  \"title\"", "\"../raw\",\n  \"title\""), "x").is_err());
        assert!(parse(&good.replace("\"image\"", "\"picture\""), "x").is_err());
    }

    #[test]
    fn variables_are_filled_in() {
        let values = [("dir", "/d".to_string()), ("size", "42".to_string())];
        assert_eq!(fill_in("${dir}/x=${size}!", &values).unwrap(), "/d/x=42!");
        assert!(fill_in("${nothing}", &values).is_err());
        assert!(fill_in("${dir", &values).is_err());
    }
}

//! What cargo knows of the workspace: members, their targets and dependencies, and the packages of the whole graph.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::run;

/// The workspace as its manifests declare it.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) members: Vec<Member>,
}

/// One crate of the workspace.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Its folder in the checkout; empty for the root package.
    pub(crate) folder: String,
    /// Root files of its library and programs, in the checkout.
    pub(crate) roots: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a manifest's dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Another crate of this workspace, not a library from a registry.
    pub(crate) local: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Linked into what is built, or run while building it.
    Product,
    /// For tests only.
    Development,
}

/// A package of the resolved graph that is not of this workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct External {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SPDX expression; empty if the manifest has none.
    pub(crate) license: String,
    pub(crate) source: String,
}

impl Workspace {
    /// Reads the manifests; needs no network.
    pub(crate) fn read(root: &Path) -> Result<Workspace, String> {
        let words = ["metadata", "--format-version=1", "--no-deps", "--offline"];
        let text = run::output(&mut run::cargo(root, words))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
        Ok(Workspace::from_json(&value))
    }

    fn from_json(value: &Value) -> Workspace {
        let root = format!("{}/", text(&value["workspace_root"]));
        let inside = |path: &str| path.strip_prefix(&root).unwrap_or(path).to_string();
        let members = each(&value["packages"]).map(|package| Member {
            name: text(&package["name"]),
            folder: inside(&text(&package["manifest_path"]))
                .trim_end_matches("Cargo.toml")
                .trim_end_matches('/')
                .into(),
            roots: each(&package["targets"])
                .filter(|target| each(&target["kind"]).any(|kind| kind == "lib" || kind == "bin"))
                .map(|target| inside(&text(&target["src_path"])))
                .collect(),
            dependencies: each(&package["dependencies"])
                .map(|dependency| Dependency {
                    name: text(&dependency["name"]),
                    kind: if dependency["kind"] == "dev" { Kind::Development } else { Kind::Product },
                    local: dependency["path"].is_string(),
                })
                .collect(),
        });
        Workspace { members: members.collect() }
    }
}

/// Every package the lock file resolves to for this machine's platform. Fails if the lock file is out of date.
pub(crate) fn externals(root: &Path) -> Result<Vec<External>, String> {
    let version = run::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?;
    let words = ["metadata", "--format-version=1", "--locked", "--filter-platform", host];
    let metadata = run::output(&mut run::cargo(root, words))?;
    let value: Value = serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    // `packages` is everything in the lock file; the resolved nodes are what this platform uses.
    let used: BTreeMap<String, ()> =
        each(&value["resolve"]["nodes"]).map(|node| (text(&node["id"]), ())).collect();
    Ok(each(&value["packages"])
        .filter(|package| package["source"].is_string() && used.contains_key(&text(&package["id"])))
        .map(|package| External {
            name: text(&package["name"]),
            version: text(&package["version"]),
            license: text(&package["license"]),
            source: text(&package["source"]),
        })
        .collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_with_folders_roots_and_kinds() {
        let value = serde_json::json!({"workspace_root": "/x", "packages": [{
            "name": "uring", "manifest_path": "/x/uring/Cargo.toml",
            "targets": [{"kind": ["lib"], "src_path": "/x/uring/src/lib.rs"},
                        {"kind": ["test"], "src_path": "/x/uring/tests/a.rs"}],
            "dependencies": [{"name": "bytes", "kind": null}, {"name": "wire", "kind": "dev", "path": "/x/wire"}]}]});
        let workspace = Workspace::from_json(&value);
        let member = &workspace.members[0];
        assert_eq!((member.name.as_str(), member.folder.as_str()), ("uring", "uring"));
        assert_eq!(member.roots, ["uring/src/lib.rs"]);
        assert_eq!(member.dependencies[0].kind, Kind::Product);
        assert!(!member.dependencies[0].local);
        assert_eq!(member.dependencies[1].kind, Kind::Development);
        assert!(member.dependencies[1].local);
    }
}

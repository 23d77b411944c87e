//! Walls between crates, and the reason for every library.

use std::collections::BTreeSet;

use super::{Finding, Tree};
use crate::metadata::{Kind, Workspace};

/// Which crates of the workspace a crate may depend on. `None`: any; these sit above all walls.
const WALLS: &[(&str, Option<&[&str]>)] = &[
    ("cfg-schema", Some(&[])),
    ("cfg-api", Some(&[])),
    ("cfg-client", Some(&["cfg-api", "cfg-schema"])),
    ("cfg-engine", Some(&["cfg-schema"])),
    ("cfg-store", Some(&["cfg-api", "uring"])),
    ("uring", Some(&[])),
    ("volumedriver", Some(&["cfg-schema", "cfg-client", "cfg-engine", "uring"])),
    ("ovs", Some(&["cfg-schema", "cfg-client", "cfg-engine", "cfg-store", "uring", "volumedriver"])),
    ("benches", None),
    ("xtask", None),
];

/// Every library with its reason.
const REASONS: &str = "xtask/dependencies.txt";
const MANIFEST: &str = "Cargo.toml";

/// The end-to-end tests belong to the root package and may use anything, so its development dependencies are free.
pub(super) fn walls(workspace: &Workspace) -> Vec<Finding> {
    let mut found = Vec::new();
    for member in &workspace.members {
        let manifest =
            if member.folder.is_empty() { MANIFEST.into() } else { format!("{}/{MANIFEST}", member.folder) };
        let Some((_, allowed)) = WALLS.iter().find(|(name, _)| *name == member.name) else {
            let message =
                format!("{} has no row in the table of walls, xtask/src/tidy/crates.rs", member.name);
            found.push(Finding::new(&manifest, 0, message));
            continue;
        };
        let Some(allowed) = allowed else { continue };
        let free = |kind: Kind| member.folder.is_empty() && kind == Kind::Development;
        for dependency in member.dependencies.iter().filter(|d| d.local && !free(d.kind)) {
            if !allowed.contains(&dependency.name.as_str()) {
                let message = format!("{} knows nothing of {}: a wall", member.name, dependency.name);
                found.push(Finding::new(&manifest, 0, message));
            }
        }
    }
    found
}

/// Every library in a manifest has a line with its reason, and every line a library.
pub(super) fn reasons(tree: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let text = |path: &str| tree.file(path).map_or("", |file| file.text.as_str());
    let mut used: BTreeSet<&str> = declared(text(MANIFEST)).collect();
    for dependency in workspace.members.iter().flat_map(|member| &member.dependencies) {
        if !dependency.local {
            used.insert(&dependency.name);
        }
    }
    let mut found = Vec::new();
    let mut listed = BTreeSet::new();
    for (index, line) in text(REASONS).lines().enumerate() {
        let (name, reason) = line.split_once('#').unwrap_or((line, ""));
        let name = name.trim();
        if name.is_empty() {
            continue;
        }
        if reason.trim().is_empty() {
            found.push(Finding::new(REASONS, index + 1, format!("{name} has no reason behind `#`")));
        }
        if !listed.insert(name) {
            found.push(Finding::new(REASONS, index + 1, format!("{name} stands here twice")));
        }
        if !used.contains(name) {
            found.push(Finding::new(REASONS, index + 1, format!("{name} is in no manifest any more")));
        }
    }
    let missing = used.difference(&listed);
    found.extend(
        missing.map(|name| Finding::new(REASONS, 0, format!("{name} has no line with the reason for it"))),
    );
    found
}

/// Libraries under `[workspace.dependencies]`, used by a member or not yet.
fn declared(manifest: &str) -> impl Iterator<Item = &str> {
    let behind = manifest.split_once("[workspace.dependencies]").map_or("", |(_, behind)| behind);
    behind
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.contains("path ="))
        .filter_map(|line| Some(line.split_once('=')?.0.trim()))
        .filter(|name| !name.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Dependency, Member};

    fn member(name: &str, folder: &str, dependencies: &[(&str, Kind, bool)]) -> Member {
        let dependencies = dependencies.iter();
        let dependencies = dependencies.map(|(name, kind, local)| Dependency {
            name: name.to_string(),
            kind: *kind,
            local: *local,
        });
        Member {
            name: name.into(),
            folder: folder.into(),
            dependencies: dependencies.collect(),
            ..Member::default()
        }
    }

    #[test]
    fn a_dependency_through_a_wall_is_found() {
        let local = |name| (name, Kind::Product, true);
        let workspace = Workspace {
            members: vec![
                member("cfg-client", "cfg/client", &[local("cfg-schema"), local("volumedriver")]),
                member(
                    "uring",
                    "uring",
                    &[("libc", Kind::Product, false), ("cfg-schema", Kind::Development, true)],
                ),
                member("volumedriver", "volumedriver", &[local("uring"), local("ovs")]),
                member("ovs", "", &[local("volumedriver"), ("benches", Kind::Development, true)]),
                member("benches", "benches", &[local("ovs")]),
                member("nobody", "nobody", &[]),
            ],
        };
        let found: Vec<String> = walls(&workspace).iter().map(Finding::to_string).collect();
        assert_eq!(
            found,
            [
                "cfg/client/Cargo.toml: cfg-client knows nothing of volumedriver: a wall",
                "uring/Cargo.toml: uring knows nothing of cfg-schema: a wall",
                "volumedriver/Cargo.toml: volumedriver knows nothing of ovs: a wall",
                "nobody/Cargo.toml: nobody has no row in the table of walls, xtask/src/tidy/crates.rs",
            ]
        );
    }

    #[test]
    fn libraries_without_reason_and_reasons_without_library_are_found() {
        let manifest = "[workspace.dependencies]\nbytes = \"1\"\n# c = 1\n\
                        uring = { path = \"uring\" }\n\n[package]\nname = 1\n";
        let list = "# head\nbytes # slices\nclap #\nold # was nice\nbytes # again\n";
        let tree = Tree::of(&[(MANIFEST, manifest), (REASONS, list)]);
        let uses = [
            ("clap", Kind::Product, false),
            ("libc", Kind::Development, false),
            ("uring", Kind::Product, true),
        ];
        let workspace = Workspace { members: vec![member("a", "a", &uses)] };
        let found: Vec<String> = reasons(&tree, &workspace).iter().map(Finding::to_string).collect();
        assert_eq!(
            found,
            [
                "xtask/dependencies.txt:3: clap has no reason behind `#`",
                "xtask/dependencies.txt:4: old is in no manifest any more",
                "xtask/dependencies.txt:5: bytes stands here twice",
                "xtask/dependencies.txt: libc has no line with the reason for it",
            ]
        );
    }
}

//! Rules about Rust files: what a module's first line is, what the cores may not touch, where `unsafe` may stand.

use super::code::{Token, mask, paths, tokens};
use super::{Finding, Tree};
use crate::metadata::Workspace;

/// Folders of code that takes inputs and a clock value and returns outputs, and does nothing else.
const CORES: &[&str] = &["volumedriver/src/volume/", "cfg/store/src/mvcc/", "cfg/engine/src/"];

/// What a core may not name: the path, and what it gets instead.
const OUTSIDE: &[(&[&str], &str)] = &[
    (&["std", "fs"], "files are outputs for the shell"),
    (&["std", "net"], "sockets are the shell's"),
    (&["std", "thread"], "a core runs on the thread that calls it"),
    (&["std", "process"], "processes are the shell's"),
    (&["std", "time", "Instant"], "time is an argument"),
    (&["std", "time", "SystemTime"], "time is an argument"),
    (&["uring", "Io"], "I/O is an output for the shell"),
    (&["uring", "io"], "I/O is an output for the shell"),
    (&["uring", "Disk"], "I/O is an output for the shell"),
    (&["uring", "disk"], "I/O is an output for the shell"),
];

/// Libraries a core may not use at all.
const LIBRARIES: &[(&str, &str)] = &[
    ("tokio", "a core is synchronous"),
    ("rand", "random numbers are arguments"),
    ("tracing", "what is worth a log line is an output"),
];

/// Names a core may not use, wherever they come from.
const WORDS: &[(&str, &str)] = &[
    ("Instant", "time is an argument"),
    ("SystemTime", "time is an argument"),
    ("Mutex", "a core has one owner"),
    ("RwLock", "a core has one owner"),
];

/// Folders and files that may contain `unsafe`, and why nothing else will do.
const UNSAFE: &[(&str, &str)] = &[
    ("benches/src/", "measures other processes: waits for them, signals them, asks the file system"),
    ("uring/", "the one place that hands memory to the kernel; its tests do what it does"),
    ("volumedriver/tests/", "look at descriptors and signals where no safe interface does"),
    ("volumedriver/src/nbd/bind.rs", "keep-alive options that tokio's sockets do not have"),
];

/// The first line that is not an attribute says what the file is for.
pub(super) fn module_docs(tree: &Tree) -> Vec<Finding> {
    let undocumented = tree.rust().filter(|file| {
        let mut lines =
            file.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("#!"));
        !lines.next().is_some_and(|line| line.starts_with("//! "))
    });
    undocumented
        .map(|file| Finding::new(&file.path, 1, "begins without `//! ` and what the file is for"))
        .collect()
}

/// Cores do no I/O and have no clock, tests in them included: what they do must follow from a seed.
pub(super) fn core_walls(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for core in CORES {
        if !tree.rust().any(|file| file.path.starts_with(core)) {
            found.push(Finding::new(
                core,
                0,
                "is empty: say in xtask/src/tidy/rust.rs where the core is now",
            ));
        }
    }
    for file in tree.rust().filter(|file| CORES.iter().any(|core| file.path.starts_with(core))) {
        for (path, line) in paths(&tokens(&mask(&file.text))) {
            if let Some(instead) = forbidden(&path) {
                let message = format!("a core may not use {}: {instead}", path.join("::"));
                found.push(Finding::new(&file.path, line, message));
            }
        }
    }
    found
}

fn forbidden(path: &[String]) -> Option<&'static str> {
    let prefix = OUTSIDE
        .iter()
        .find(|(outside, _)| path.len() >= outside.len() && path.iter().zip(*outside).all(|(a, b)| a == b));
    let library = LIBRARIES.iter().find(|(name, _)| path.len() > 1 && path[0] == *name);
    let word = WORDS.iter().find(|(name, _)| path.iter().any(|segment| segment == name));
    prefix.map(|(_, instead)| *instead).or(library.or(word).map(|(_, instead)| *instead))
}

/// `unsafe` stands only where the list says. A crate without such a place forbids it; one with some of its files on
/// the list denies it, so that each of these files has to say `allow`.
pub(super) fn unsafe_forbidden(tree: &Tree, workspace: &Workspace) -> Vec<Finding> {
    unsafe_outside(tree, workspace, UNSAFE)
}

fn unsafe_outside(tree: &Tree, workspace: &Workspace, places: &[(&str, &str)]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut used = vec![false; places.len()];
    for file in tree.rust() {
        let word =
            tokens(&mask(&file.text)).into_iter().find(|(token, _)| *token == Token::Word("unsafe".into()));
        let Some((_, line)) = word else { continue };
        match places.iter().position(|(place, _)| file.path.starts_with(place)) {
            Some(place) => used[place] = true,
            None => found.push(Finding::new(
                &file.path,
                line,
                "unsafe outside its places, xtask/src/tidy/rust.rs",
            )),
        }
    }
    for ((place, _), _) in places.iter().zip(used).filter(|(_, used)| !used) {
        found.push(Finding::new(
            place,
            0,
            "needs no unsafe any more: take it off the list in xtask/src/tidy/rust.rs",
        ));
    }
    for root in workspace.members.iter().flat_map(|member| &member.roots).filter_map(|root| tree.file(root)) {
        if places.iter().any(|(place, _)| root.path.starts_with(place)) {
            continue;
        }
        let folder = root.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let partly = places.iter().any(|(place, _)| place.starts_with(&format!("{folder}/")));
        let attribute = if partly { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
        if !mask(&root.text).contains(attribute) {
            found.push(Finding::new(&root.path, 1, format!("opens without {attribute}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Member;

    #[test]
    fn files_that_do_not_say_what_they_are_for_are_found() {
        let tree = Tree::of(&[
            ("good.rs", "#![forbid(unsafe_code)]\n\n//! Good.\nfn a() {}"),
            ("bad.rs", "use a;\n//! Late."),
            ("empty.rs", ""),
        ]);
        let found: Vec<String> = module_docs(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["bad.rs", "empty.rs"]);
    }

    #[test]
    fn a_core_that_reaches_outside_is_found() {
        let text = "//! Core.\nuse std::{collections::BTreeMap, fs};\nfn a() { std::thread::spawn(b); }\n\
                    use uring::{AlignedBuf, Disk};\nuse std::time::Duration;\nfn c(d: time::Instant) {}\n\
                    // Mutex\nfn e() { tracing::info!(\"x\") }\nuse std::sync::Mutex;\nlet rand = 1;";
        let mut files: Vec<(String, &str)> =
            CORES.iter().map(|core| (format!("{core}mod.rs"), "//! Pure.")).collect();
        files.push(("volumedriver/src/volume/a.rs".into(), text));
        files.push(("volumedriver/src/nbd.rs".into(), text));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let tree = Tree::of(&files);
        let found: Vec<(String, usize)> = core_walls(&tree).into_iter().map(|f| (f.path, f.line)).collect();
        let core = "volumedriver/src/volume/a.rs".to_string();
        assert_eq!(found, [2, 3, 4, 6, 8, 9].map(|line| (core.clone(), line)));
    }

    #[test]
    fn a_core_that_moved_away_is_noticed() {
        assert_eq!(core_walls(&Tree::of(&[("volumedriver/src/lib.rs", "//! X.")])).len(), CORES.len());
    }

    #[test]
    fn unsafe_is_found_outside_its_places_and_must_be_forbidden_elsewhere() {
        let member = |root: &str| Member { roots: vec![root.into()], ..Member::default() };
        let roots = ["a/src/lib.rs", "b/src/lib.rs", "c/src/lib.rs", "uring/src/lib.rs"];
        let workspace = Workspace { members: roots.map(member).into() };
        let tree = Tree::of(&[
            ("a/src/lib.rs", "#![forbid(unsafe_code)]\n// unsafe"),
            ("b/src/lib.rs", "// #![forbid(unsafe_code)]\nunsafe {}"),
            ("c/src/lib.rs", "#![forbid(unsafe_code)]"),
            ("c/src/d.rs", "unsafe {}"),
            ("uring/src/ring.rs", "unsafe {}"),
            ("uring/src/lib.rs", "mod ring;"),
        ]);
        let places = [("uring/src/", "kernel"), ("c/src/d.rs", "call"), ("c/src/e.rs", "gone")];
        let found: Vec<String> =
            unsafe_outside(&tree, &workspace, &places).iter().map(Finding::to_string).collect();
        assert_eq!(
            found,
            [
                "b/src/lib.rs:2: unsafe outside its places, xtask/src/tidy/rust.rs",
                "c/src/e.rs: needs no unsafe any more: take it off the list in xtask/src/tidy/rust.rs",
                "b/src/lib.rs:1: opens without #![forbid(unsafe_code)]",
                "c/src/lib.rs:1: opens without #![deny(unsafe_code)]",
            ]
        );
    }
}

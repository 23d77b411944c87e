//! The rules of the house, as checks over the files of the checkout. Each check is a function from the tree to its
//! findings and has a test in which it fires. The last test here runs them all on this checkout, so `cargo test` does.

mod code;
mod crates;
mod licences;
mod markdown;
mod names;
mod rust;
mod size;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::metadata::{self, Workspace};
use crate::run;

/// A breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// From 1; 0 means the file as a whole.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: path.into(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// The files of the checkout that are, or would be, under version control.
#[derive(Default)]
struct Tree {
    files: Vec<SourceFile>,
}

struct SourceFile {
    /// From the root of the checkout, with `/`.
    path: String,
    /// Empty for files that are not UTF-8.
    text: String,
}

impl Tree {
    fn read(root: &Path) -> Result<Tree, String> {
        let mut files = Vec::new();
        for path in paths(root)? {
            let full = root.join(&path);
            if !full.is_file() {
                continue;
            }
            let bytes = fs::read(&full).map_err(|e| format!("{path}: {e}"))?;
            files.push(SourceFile { path, text: String::from_utf8(bytes).unwrap_or_default() });
        }
        Ok(Tree { files })
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Tree {
        let files =
            files.iter().map(|(path, text)| SourceFile { path: path.to_string(), text: text.to_string() });
        Tree { files: files.collect() }
    }

    fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Every folder that holds a file, directly or not.
    fn folders(&self) -> BTreeSet<&str> {
        self.files
            .iter()
            .flat_map(|file| file.path.match_indices('/').map(|(end, _)| &file.path[..end]))
            .collect()
    }
}

/// What git tracks or would track; without git (an unpacked archive) everything but build results.
fn paths(root: &Path) -> Result<Vec<String>, String> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    if let Ok(list) = run::output(&mut git) {
        let unique: BTreeSet<&str> = list.split('\0').filter(|path| !path.is_empty()).collect();
        return Ok(unique.into_iter().map(String::from).collect());
    }
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            // `is_dir` of the entry, not of the path: links are not followed.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && (name == "target" || name == ".git") => {}
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => {
                    let inside = path.strip_prefix(root).expect("found below the root");
                    found.push(inside.to_string_lossy().into_owned());
                }
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Checks the checkout and prints what is wrong.
pub(crate) fn report(root: &Path) -> Outcome {
    let findings = findings(root)?;
    if findings.is_empty() {
        println!("tidy: nothing to mend");
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    Err(format!("{}\n{} things to mend", lines.join("\n"), lines.len()))
}

fn findings(root: &Path) -> Result<Vec<Finding>, String> {
    let tree = Tree::read(root)?;
    let workspace = Workspace::read(root)?;
    let externals = metadata::externals(root)?;
    let checks = [
        text::line_width(&tree),
        text::banned_words(&tree),
        text::machine_paths(&tree),
        text::merge_markers(&tree),
        text::unexplained_sleeps(&tree),
        size::sizes(&tree),
        names::meaningless(&tree),
        names::soak_list(&tree),
        rust::module_docs(&tree),
        rust::core_walls(&tree),
        rust::unsafe_forbidden(&tree, &workspace),
        markdown::dead_links(&tree),
        markdown::architecture(&tree, &workspace),
        markdown::formats_linked(&tree),
        markdown::decisions_indexed(&tree),
        crates::walls(&workspace),
        crates::reasons(&tree, &workspace),
        licences::allowed(&tree, &externals),
    ];
    let mut findings: Vec<Finding> = checks.into_iter().flatten().collect();
    findings.sort();
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_checkout_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        if let Err(problem) = report(root) {
            panic!("{problem}");
        }
    }

    #[test]
    fn findings_are_printed_as_editors_read_them() {
        assert_eq!(Finding::new("a/b.rs", 3, "wrong").to_string(), "a/b.rs:3: wrong");
        assert_eq!(Finding::new("a/b.rs", 0, "wrong").to_string(), "a/b.rs: wrong");
    }

    #[test]
    fn folders_are_those_on_the_way_to_files() {
        let tree = Tree::of(&[("a/b/c.rs", ""), ("d.rs", "")]);
        assert_eq!(tree.folders().into_iter().collect::<Vec<_>>(), ["a", "a/b"]);
    }
}

//! Names of files and folders that say nothing about what is inside, and names of tests that exist no more.

use super::code::{functions, mask, tokens};
use super::{Finding, Tree};
use crate::soak;

const MEANINGLESS: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];

pub(super) fn meaningless(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &tree.files {
        let bad = file.path.split('/').find(|part| {
            let stem = part.split('.').next().unwrap_or_default().to_lowercase();
            stem.split(['_', '-']).any(|word| MEANINGLESS.contains(&word))
        });
        if let Some(part) = bad {
            found.push(Finding::new(&file.path, 0, format!("{part}: name it after what is inside")));
        }
    }
    found
}

/// Every name in the list of long tests is part of the name of a function outside this crate.
pub(super) fn soak_list(tree: &Tree) -> Vec<Finding> {
    let others = tree.rust().filter(|file| !file.path.starts_with("xtask/"));
    let existing: Vec<String> =
        others.flat_map(|file| functions(&tokens(&mask(&file.text)))).map(|function| function.name).collect();
    let listed = soak::listed(tree.file(soak::LIST).map_or("", |file| file.text.as_str()));
    let gone =
        listed.into_iter().filter(|name| !existing.iter().any(|function| function.contains(name.as_str())));
    gone.map(|name| Finding::new(soak::LIST, 0, format!("no test has {name} in its name"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_tests_that_are_gone_are_found() {
        let list = "# head\nlong # rounds\ngone # was there\n";
        let tree = Tree::of(&[("xtask/soak.txt", list), ("tests/a.rs", "#[test]\nfn a_long_one() {}")]);
        let found: Vec<String> = soak_list(&tree).iter().map(Finding::to_string).collect();
        assert_eq!(found, ["xtask/soak.txt: no test has gone in its name"]);
    }

    #[test]
    fn names_without_meaning_are_found_in_files_and_folders() {
        let tree =
            Tree::of(&[("tests/common/mod.rs", ""), ("a/test_utils.rs", ""), ("a/commonplace.rs", "")]);
        let found: Vec<String> = meaningless(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["tests/common/mod.rs", "a/test_utils.rs"]);
    }
}

//! How large files and functions may be. What is larger stands in a list that may only get shorter.

use std::collections::BTreeMap;

use super::code::{functions, mask, tokens};
use super::{Finding, Tree};

/// Lines of a .rs file. A larger one has two reasons to exist.
const FILE: usize = 600;
/// Lines of a function, from `fn` to its last brace.
const FUNCTION: usize = 100;

/// The exceptions: what, and the lines it may have.
const RATCHET: &str = "xtask/ratchet.txt";

pub(super) fn sizes(tree: &Tree) -> Vec<Finding> {
    let (mut allowed, mut found) = exceptions(tree);
    let mut large: BTreeMap<String, (String, usize, usize)> = BTreeMap::new();
    for file in tree.rust() {
        let lines = file.text.lines().count();
        if lines > FILE {
            large.insert(format!("file {}", file.path), (file.path.clone(), 0, lines));
        }
        for function in functions(&tokens(&mask(&file.text))) {
            let lines = function.lines.end() + 1 - function.lines.start();
            if lines > FUNCTION {
                let what = format!("function {} {}", file.path, function.name);
                let place = (file.path.clone(), *function.lines.start(), lines);
                // Of two with one name, the larger one counts.
                let entry = large.entry(what).or_insert(place.clone());
                if entry.2 < lines {
                    *entry = place;
                }
            }
        }
    }
    for (what, (path, line, lines)) in large {
        let kind = what.split(' ').next().unwrap_or_default();
        match allowed.remove(&what) {
            Some(limit) if lines > limit => found.push(Finding::new(
                &path,
                line,
                format!("{lines} lines: grew beyond the {limit} of {RATCHET}; cut it into parts"),
            )),
            Some(limit) if lines < limit => {
                found.push(Finding::new(
                    RATCHET,
                    0,
                    format!("{what} now has {lines} lines: lower its {limit}"),
                ));
            }
            Some(_) => {}
            None => {
                let limit = if line == 0 { FILE } else { FUNCTION };
                found.push(Finding::new(
                    &path,
                    line,
                    format!("{kind} of {lines} lines, {limit} are allowed"),
                ));
            }
        }
    }
    found.extend(
        allowed.into_keys().map(|what| Finding::new(RATCHET, 0, format!("{what} needs no exception"))),
    );
    found
}

fn exceptions(tree: &Tree) -> (BTreeMap<String, usize>, Vec<Finding>) {
    let mut allowed = BTreeMap::new();
    let mut found = Vec::new();
    let text = tree.file(RATCHET).map_or("", |file| file.text.as_str());
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match line.rsplit_once(' ').map(|(what, lines)| (what, lines.parse())) {
            Some((what, Ok(lines))) => drop(allowed.insert(what.to_string(), lines)),
            _ => found.push(Finding::new(
                RATCHET,
                index + 1,
                "not `file PATH LINES` or `function PATH NAME LINES`",
            )),
        }
    }
    (allowed, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large() -> String {
        format!("fn a() {{\n{}}}\n{}", "b();\n".repeat(FUNCTION), "\n".repeat(FILE))
    }

    fn messages(ratchet: &str, text: &str) -> Vec<String> {
        let tree = Tree::of(&[("a.rs", text), (RATCHET, ratchet)]);
        sizes(&tree).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn large_files_and_functions_are_found() {
        let found = messages("", &large());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|f| f.contains("a.rs: file of 702 lines")), "{found:?}");
        assert!(found.iter().any(|f| f.contains("a.rs:1: function of 102 lines")), "{found:?}");
        assert_eq!(messages("", "fn a() {}\n"), [""; 0]);
    }

    #[test]
    fn the_list_of_exceptions_only_gets_shorter() {
        assert_eq!(messages("file a.rs 702\nfunction a.rs a 102\n", &large()), [""; 0]);
        let found = messages("file a.rs 701\nfunction a.rs a 103\n", &large());
        assert!(found.iter().any(|f| f.contains("grew beyond the 701")), "{found:?}");
        assert!(found.iter().any(|f| f.contains("lower its 103")), "{found:?}");
        assert!(messages("file a.rs 700\n", "")[0].contains("needs no exception"));
        assert!(messages("file a.rs\n", "")[0].contains(":1: not `file"));
    }
}

//! Documentation that is generated from declarations, and whether what is stored is what would be generated now.

use std::fs;
use std::path::Path;

use crate::{Outcome, run};

/// A generated page and the arguments of `cargo run` that print it.
const GENERATED: &[(&str, &[&str])] = &[("docs/configuration.md", &["config", "docs"])];

/// Compares every generated page with its source; `write` brings the stored ones up to date.
pub(crate) fn generated(root: &Path, write: bool) -> Outcome {
    let mut stale = Vec::new();
    for (page, arguments) in GENERATED {
        let path = root.join(page);
        if !path.exists() && !write {
            println!("{page}: not written yet, nothing compared");
            continue;
        }
        let mut command = run::cargo(root, ["run", "--quiet", "--package", "ovs", "--"]);
        let fresh = run::output(command.args(*arguments))?;
        let stored = fs::read_to_string(&path).unwrap_or_default();
        match first_difference(&stored, &fresh) {
            None => println!("{page}: fresh"),
            Some(_) if write => {
                fs::write(&path, fresh).map_err(|e| format!("{page}: {e}"))?;
                println!("{page}: written");
            }
            Some(line) => stale.push(format!("{page}:{line}: stale")),
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!("{}\n`cargo xtask docs --write` writes what is generated now", stale.join("\n")))
}

/// The first line (from 1) in which two texts differ.
fn first_difference(stored: &str, fresh: &str) -> Option<usize> {
    if stored == fresh {
        return None;
    }
    let same = stored.lines().zip(fresh.lines()).take_while(|(a, b)| a == b).count();
    Some(same + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_different_line_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a", "a\n"), Some(2));
    }
}

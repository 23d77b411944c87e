//! Documentation that is generated from declarations, and whether what is stored is what would be generated now.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, run};

/// What prints a page.
enum Generator {
    /// The program, with these arguments.
    Ovs(&'static [&'static str]),
    /// A script for Python 3, which needs nothing but Python.
    Python(&'static str),
}

/// A generated page and what prints it.
const GENERATED: &[(&str, Generator)] = &[
    ("docs/configuration.md", Generator::Ovs(&["config", "docs"])),
    ("docs/python-api.md", Generator::Python("python/docs.py")),
];

impl Generator {
    fn command(&self, root: &Path) -> Command {
        match self {
            Generator::Ovs(arguments) => {
                let mut command = run::cargo(root, ["run", "--quiet", "--package", "ovs", "--"]);
                command.args(*arguments);
                command
            }
            Generator::Python(script) => {
                let mut command = Command::new("/usr/bin/python3");
                command.arg("-B").arg(root.join(script));
                command
            }
        }
    }
}

/// Compares every generated page with its source; `write` brings the stored ones up to date.
pub(crate) fn generated(root: &Path, write: bool) -> Outcome {
    let mut stale = Vec::new();
    for (page, generator) in GENERATED {
        let path = root.join(page);
        if !path.exists() && !write {
            println!("{page}: not written yet, nothing compared");
            continue;
        }
        let fresh = run::output(&mut generator.command(root))?;
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

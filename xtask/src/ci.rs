//! `cargo xtask ci`: every check, each timed, all run even when one fails, then the tests.
//!
//! There is no rust-toolchain.toml: it would make every build insist on one exact toolchain, also where only another
//! recent stable one is installed. `rust-version` in Cargo.toml states the oldest that works.

use std::path::Path;
use std::time::Instant;

use crate::{Outcome, docs, packages, run, suite, tidy};

/// Ends the tests of a CI run in which something hangs, in minutes; a run on two cores takes far less.
const TEST_LIMIT: u32 = 25;

/// `deny`: all of cargo-deny, installed first if it is missing. Without it, licences, bans and sources are still held
/// by `tidy`; building cargo-deny in every run would take longer than all the rest.
pub(crate) fn ci(root: &Path, deny: bool) -> Outcome {
    let began = Instant::now();
    let mut closing = suite::Closing::default();
    let mut steps = Steps::default();
    steps.take("format", || run::shown(&mut run::cargo(root, ["fmt", "--all", "--check"])));
    steps.take("tidy", || tidy::report(root));
    steps.take("deny", || cargo_deny(root, deny));
    steps.take("clippy", || {
        let words = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
        run::shown(&mut run::cargo(root, words))
    });
    steps.take("rustdoc", || {
        let words = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        run::shown(run::cargo(root, words).env("RUSTDOCFLAGS", "-Dwarnings"))
    });
    steps.take("docs", || docs::generated(root, false));
    steps.take("packages", || packages::provide(root));
    steps.take("test", || match suite::tests(root, &[], Some(TEST_LIMIT), &mut closing)? {
        true => Ok(()),
        false => Err("tests failed".into()),
    });
    // Each once, unoptimized: that they run, not how fast.
    steps.take("micro-benchmarks", || {
        run::shown(&mut run::cargo(
            root,
            ["test", "--locked", "--package", "volumedriver", "--bench", "cores"],
        ))
    });
    let line =
        format!("ci: {} in {} s: {}; {closing}", steps.verdict(), began.elapsed().as_secs(), steps.times());
    if !steps.failed.is_empty() {
        return Err(line);
    }
    println!("{line}");
    Ok(())
}

#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, u64)>,
    failed: Vec<&'static str>,
}

impl Steps {
    fn take(&mut self, name: &'static str, step: impl FnOnce() -> Outcome) {
        println!("== {name}");
        let began = Instant::now();
        let outcome = step();
        let seconds = began.elapsed().as_secs();
        match outcome {
            Ok(()) => println!("== {name}: ok, {seconds} s"),
            Err(problem) => {
                println!("{problem}\n== {name}: FAILED, {seconds} s");
                self.failed.push(name);
            }
        }
        self.done.push((name, seconds));
    }

    fn verdict(&self) -> String {
        if self.failed.is_empty() { "passed".into() } else { format!("FAILED ({})", self.failed.join(", ")) }
    }

    fn times(&self) -> String {
        self.done.iter().map(|(name, seconds)| format!("{name} {seconds} s")).collect::<Vec<_>>().join(", ")
    }
}

fn cargo_deny(root: &Path, all: bool) -> Outcome {
    let installed = run::succeeds(&mut run::cargo(root, ["deny", "--version"]));
    match (installed, all) {
        (false, false) => {
            println!(
                "cargo-deny is not installed: its lists were checked by tidy, security advisories were not"
            );
            Ok(())
        }
        // Advisories need a download of their database; without --deny a run must not depend on it.
        (true, false) => run::shown(&mut run::cargo(root, ["deny", "check", "bans", "licenses", "sources"])),
        (installed, true) => {
            if !installed {
                run::shown(&mut run::cargo(root, ["install", "--locked", "cargo-deny"]))?;
            }
            run::shown(&mut run::cargo(root, ["deny", "check"]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_and_the_next_one_runs() {
        let mut steps = Steps::default();
        steps.take("first", || Err("broken".into()));
        steps.take("second", || Ok(()));
        assert_eq!(steps.verdict(), "FAILED (first)");
        assert_eq!(steps.times(), "first 0 s, second 0 s");
    }
}

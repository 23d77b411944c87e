//! `cargo xtask test`: what the tests need, then the tests. The last line holds the runner's own closing line.

use std::path::Path;
use std::process::Command;

use crate::{Outcome, packages, run};

/// What the runners said at their end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Closing {
    /// nextest's one line.
    nextest: Option<String>,
    /// Of libtest (`cargo test`, documentation tests): one line a binary, added up.
    libtest: Option<Counts>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    binaries: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Packages, tests, documentation tests. `arguments` select tests; a selection leaves out the documentation tests.
pub(crate) fn test(root: &Path, arguments: &[String]) -> Outcome {
    packages::provide(root)?;
    let mut closing = Closing::default();
    let passed = tests(root, arguments, None, &mut closing)?;
    if !passed {
        return Err(format!("test: FAILED; {closing}"));
    }
    println!("test: passed; {closing}");
    Ok(())
}

/// Runs them and reports whether all passed. `limit`: ends the runners after so many minutes.
pub(crate) fn tests(
    root: &Path,
    arguments: &[String],
    limit: Option<u32>,
    closing: &mut Closing,
) -> Result<bool, String> {
    let nextest = run::succeeds(&mut run::cargo(root, ["nextest", "--version"]));
    let mut passed = true;
    // Documentation tests first, so that what stands at the end is about the many. `cargo test` includes them.
    if nextest && arguments.is_empty() {
        let mut command = bounded(root, limit, &["test", "--workspace", "--doc"]);
        passed &= run::watched(&mut command, |line| closing.look(line))?;
    }
    let mut words = if nextest { vec!["nextest", "run"] } else { vec!["test", "--no-fail-fast"] };
    if !arguments.iter().any(|a| a == "-p" || a.starts_with("--package")) {
        words.push("--workspace");
    }
    let mut command = bounded(root, limit, &words);
    command.args(arguments);
    passed &= run::watched(&mut command, |line| closing.look(line))?;
    Ok(passed)
}

fn bounded(root: &Path, limit: Option<u32>, words: &[&str]) -> Command {
    let Some(minutes) = limit else { return run::cargo(root, words.iter().copied()) };
    let mut command = Command::new("timeout");
    command.current_dir(root).args(["--kill-after=30s", &format!("{minutes}m"), "cargo"]).args(words);
    command
}

impl Closing {
    /// Takes in a line of a runner's output. nextest indents the output of tests that fail, whose own `test result`
    /// does not count.
    pub(crate) fn look(&mut self, line: &str) {
        if line.trim().starts_with("Summary [") {
            self.nextest = Some(line.trim().to_string());
        } else if let Some(counts) = libtest(line) {
            let sum = self.libtest.get_or_insert_default();
            sum.binaries += 1;
            sum.passed += counts.passed;
            sum.failed += counts.failed;
            sum.ignored += counts.ignored;
        }
    }

    /// Tests that ran under libtest.
    pub(crate) fn ran(&self) -> u64 {
        self.libtest.map_or(0, |sum| sum.passed + sum.failed)
    }
}

/// The counts of a line `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn libtest(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut sum = Counts::default();
    for part in counts.split(';') {
        match part.trim().split_once(' ') {
            Some((number, "passed")) => sum.passed = number.parse().ok()?,
            Some((number, "failed")) => sum.failed = number.parse().ok()?,
            Some((number, "ignored")) => sum.ignored = number.parse().ok()?,
            _ => {}
        }
    }
    Some(sum)
}

impl std::fmt::Display for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = [
            self.libtest.map(|sum| {
                let verdict = if sum.failed == 0 { "ok" } else { "FAILED" };
                format!(
                    "cargo test: test result: {verdict}. {} passed; {} failed; {} ignored in {} binaries",
                    sum.passed, sum.failed, sum.ignored, sum.binaries
                )
            }),
            self.nextest.as_ref().map(|line| format!("nextest: {line}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        f.write_str(if parts.is_empty() { "no test ran" } else { "" })?;
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_both_runners_are_kept() {
        let mut closing = Closing::default();
        closing.look("running 3 tests");
        assert_eq!(closing.to_string(), "no test ran");
        closing.look(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        closing.look("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        closing.look("    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        closing.look("     Summary [   1.204s] 345 tests run: 345 passed, 2 skipped");
        assert_eq!(closing.ran(), 9);
        assert_eq!(
            closing.to_string(),
            "cargo test: test result: FAILED. 7 passed; 2 failed; 1 ignored in 2 binaries; \
             nextest: Summary [   1.204s] 345 tests run: 345 passed, 2 skipped"
        );
    }
}

//! `cargo xtask soak`: the long versions. Tests read `OVS_SOAK` and do their full numbers; fuzzers run for minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, packages, run, suite};

/// Substrings of the names of tests that have a long version.
pub(crate) const LIST: &str = "xtask/soak.txt";

/// `only`: instead of the list, what has this in its name.
pub(crate) fn soak(root: &Path, minutes: u32, only: Option<&str>) -> Outcome {
    packages::provide(root)?;
    let names = match only {
        Some(name) => vec![name.to_string()],
        None => listed(&fs::read_to_string(root.join(LIST)).map_err(|e| format!("{LIST}: {e}"))?),
    };
    let mut failed = Vec::new();
    let mut ran = 0;
    for name in &names {
        let mut closing = suite::Closing::default();
        // One at a time and with its output: a soak's numbers are its result.
        let mut words = vec!["test", "--workspace", "--exclude", "xtask", "--lib", "--bins", "--tests"];
        words.extend(["--no-fail-fast", "--", "--nocapture", "--test-threads=1", name]);
        let mut command = run::cargo(root, words);
        command.env("OVS_SOAK", "1").env("OVS_SOAK_MINUTES", minutes.to_string());
        if !run::watched(&mut command, |line| closing.look(line))? {
            failed.push(format!("tests named {name}"));
        }
        if only.is_none() && closing.ran() == 0 {
            failed.push(format!("{LIST} names {name}, which no test has in its name"));
        }
        println!("soak: {name}: {closing}");
        ran += closing.ran();
    }
    ran += fuzz(root, minutes, only, &mut failed)?;
    if ran == 0 {
        failed.push("nothing ran".into());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// The names in the text of the list.
pub(crate) fn listed(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split('#').next()?.split_whitespace().next())
        .map(String::from)
        .collect()
}

/// Every fuzz target of every folder `fuzz` beside a crate; the number that ran.
fn fuzz(root: &Path, minutes: u32, only: Option<&str>, failed: &mut Vec<String>) -> Result<u64, String> {
    let folders: Vec<PathBuf> = ["", "uring", "cfg/schema", "cfg/client", "volumedriver"]
        .map(|krate| root.join(krate))
        .into_iter()
        .filter(|krate| krate.join("fuzz/Cargo.toml").is_file())
        .collect();
    if folders.is_empty() {
        return Ok(0);
    }
    // The variable would override `+nightly`, which the fuzzers' instrumentation needs.
    let nightly = |words: &[&str], folder: &Path| {
        let mut command = Command::new("cargo");
        command.arg("+nightly").args(words).current_dir(folder).env_remove("RUSTUP_TOOLCHAIN");
        command
    };
    if !run::succeeds(&mut nightly(&["--version"], root)) {
        return Err("the fuzzers need a nightly toolchain: rustup toolchain install nightly".into());
    }
    if !run::succeeds(&mut nightly(&["fuzz", "--version"], root)) {
        run::shown(&mut run::cargo(root, ["install", "--locked", "cargo-fuzz"]))?;
    }
    let mut ran = 0;
    for folder in &folders {
        let targets = run::output(&mut nightly(&["fuzz", "list"], folder))?;
        for target in targets.lines().filter(|target| only.is_none_or(|name| target.contains(name))) {
            let limit = format!("-max_total_time={}", minutes * 60);
            if let Err(problem) = run::shown(&mut nightly(&["fuzz", "run", target, "--", &limit], folder)) {
                failed.push(problem);
            }
            ran += 1;
        }
    }
    Ok(ran)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_names_and_comments() {
        assert_eq!(listed("# head\n\nsoak  # all\npower_loss\n"), ["soak", "power_loss"]);
    }
}

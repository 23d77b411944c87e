//! The commands of docs/config-commands.md do what the page says.

mod cli_node;
#[path = "../cfg/client/tests/etcd/mod.rs"]
mod etcd;

use std::fs;
use std::path::Path;
use std::process::Command;

use etcd::{Cluster, Directory};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config-commands.md");

/// A command of the page with the lines below it.
struct Step {
    command: String,
    expected: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in page.lines() {
        let Some(line) = line.strip_prefix("    ") else { continue };
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
            None => steps.last_mut().expect("a command").expected.push(line.to_owned()),
        }
    }
    steps
}

/// A line without what differs from run to run: times, authors, and the widths of columns.
fn settled(line: &str) -> String {
    let word = |word: &str| match word {
        word if word.contains('@') => "user@host".to_owned(),
        word if word.len() == 20 && word.starts_with("20") && word.ends_with('Z') => "TIME".to_owned(),
        word => word.to_owned(),
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_says_what_happens() {
    let cluster = Cluster::start(1);
    let directory = Directory::new();
    let programs = Path::new(env!("CARGO_BIN_EXE_ovs")).parent().expect("a directory");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
    let page = fs::read_to_string(PAGE).expect("the page");
    let steps = steps(&page);
    assert!(steps.len() > 20, "the page has commands");
    let mut transcript = String::new();
    let mut differing = Vec::new();
    for step in &steps {
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("{} 2>&1", step.command))
            .current_dir(directory.path(""))
            .env("PATH", &path)
            .env_remove("VISUAL")
            .env("OVS_ENDPOINT", format!("etcd://{}", cluster.endpoints[0]))
            .output()
            .expect("sh runs");
        let mut lines: Vec<String> =
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            lines.push(format!("(exit code {code})"));
        }
        transcript.push_str(&format!("    $ {}\n", step.command));
        lines.iter().for_each(|line| transcript.push_str(&format!("    {line}\n")));
        let settle = |lines: &[String]| lines.iter().map(|line| settled(line)).collect::<Vec<_>>();
        if settle(&lines) != settle(&step.expected) {
            differing.push(step.command.as_str());
        }
    }
    assert!(differing.is_empty(), "these differ: {differing:#?}\nwhat happens is:\n{transcript}");
}

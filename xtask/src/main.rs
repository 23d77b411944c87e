//! Developer commands: `cargo xtask <command>`. `ci` is what CI calls; all others are parts of it or longer versions.
#![forbid(unsafe_code)]

mod bare_debian;
mod ci;
mod docs;
mod guest;
mod metadata;
mod packages;
mod python;
mod run;
mod soak;
mod suite;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a command ends with: `Err` is a sentence for the person who called it.
type Outcome = Result<(), String>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of this workspace")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need (or say what to install), then run all tests
    Test {
        /// Handed to the test runner; with arguments, documentation tests are left out
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Only the first half of `test`: the system packages, the guest kernel and Python libraries
    Packages,
    /// Every check CI makes, then the tests
    Ci {
        /// Also run all of cargo-deny, advisories included; builds it first if it is missing (minutes)
        #[arg(long)]
        deny: bool,
    },
    /// Check the sources against the rules of the house
    Tidy,
    /// Check that generated documentation is fresh
    Docs {
        /// Write it instead of comparing
        #[arg(long)]
        write: bool,
    },
    /// Run the long versions of tests, and the fuzzers (cargo-fuzz is installed if it is missing)
    Soak {
        /// How long each fuzz target runs; tests read it as OVS_SOAK_MINUTES
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1440))]
        minutes: u32,
        /// Only tests and fuzz targets whose name contains this
        #[arg(long)]
        only: Option<String>,
    },
    /// Build the release binaries and measure ovs against its peers; `cargo xtask bench -- --help` lists the options
    Bench {
        /// Handed to the harness
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Try `cargo xtask test` in a Debian that has nothing but its base system, a C compiler and Rust
    BareDebian {
        /// Leave the tree in target/bare-debian
        #[arg(long)]
        keep: bool,
        /// Stop after the packages are installed and each tool was found
        #[arg(long)]
        packages_only: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match workspace_root().and_then(|root| perform(arguments.command, root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command, root: PathBuf) -> Outcome {
    match command {
        Command::Test { arguments } => suite::test(&root, &arguments),
        Command::Packages => packages::provide(&root),
        Command::Ci { deny } => ci::ci(&root, deny),
        Command::Tidy => tidy::report(&root),
        Command::Docs { write } => docs::generated(&root, write),
        Command::Soak { minutes, only } => soak::soak(&root, minutes, only.as_deref()),
        Command::Bench { arguments } => {
            run::shown(&mut run::cargo(&root, ["build", "--release", "--package", "ovs"]))?;
            let harness = ["run", "--release", "--package", "benches", "--"];
            run::shown(run::cargo(&root, harness).args(arguments))
        }
        Command::BareDebian { keep, packages_only } => bare_debian::trial(&root, keep, packages_only),
    }
}

/// The checkout that the current directory lies in. Not taken from where this program was compiled: the trial in a
/// bare Debian runs it elsewhere.
fn workspace_root() -> Result<PathBuf, String> {
    let here = std::env::current_dir().map_err(|e| format!("current directory: {e}"))?;
    here.ancestors()
        .find(|folder| folder.join(packages::LIST).is_file())
        .map(PathBuf::from)
        .ok_or_else(|| format!("{} lies in no checkout of this workspace", here.display()))
}

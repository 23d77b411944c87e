//! Arguments of `ovs config …`

use std::path::PathBuf;

use clap::Subcommand;

use super::check::Check;
use super::place::Place;
use super::update::rollout::{RolloutCommand, Sizes};
use super::update::targets::{Target, Targets};
use crate::cluster_id::ClusterId;
use crate::failure::Failure;
use cfg_client::KeyPath;
use cfg_engine::AbortOn;

/// `ovs config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// What is done in the store
    #[command(flatten)]
    Store(StoreCommand),
    /// Let the data directory of a node that does not run follow another store: one that was restored from a copy of
    /// its own
    AcceptCluster {
        /// The id of that store's cluster, as the refused start shows it
        id: ClusterId,
    },
    /// Print the reference of all parameters, as Markdown
    Docs,
    /// Print a JSON schema of all sections
    Schema,
    /// Print all sections with their defaults, each key explained; with --json only the documents
    Sample,
}

/// What is done in the store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List what is directly below a prefix, one a line; folders end in /
    List {
        /// The prefix, such as /ovs/vpools
        #[arg(value_parser = parse_prefix)]
        prefix: KeyPath,
    },
    /// List all keys below a prefix, one a line
    ListRecursive {
        /// The prefix
        #[arg(value_parser = parse_prefix)]
        prefix: KeyPath,
    },
    /// Print the value of a key, or of a place in its document
    Get {
        /// /a/b/c, or '/a/b/c|x.y' for x.y in the document /a/b/c
        #[arg(value_parser = Place::parse)]
        key: Place,
        /// Secrets
        #[command(flatten)]
        secrets: Secrets,
    },
    /// Store a value
    Set {
        /// /a/b/c, or '/a/b/c|x.y' for x.y in the document /a/b/c; with --vpool SECTION or 'SECTION|x.y'
        key: String,
        /// JSON; inside a document also a bare word, which is a string; - reads standard input
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Set it for every host of this vPool
        #[arg(long, value_name = "GUID")]
        vpool: Option<String>,
        /// Only if the key was last written at this revision; 0: only if it is not there
        #[arg(long, value_name = "REV", conflicts_with = "vpool")]
        if_revision: Option<i64>,
        /// About the change
        #[command(flatten)]
        message: Message,
        /// Whether it is checked
        #[command(flatten)]
        checks: Checks,
        /// What follows
        #[command(flatten)]
        then: Then,
    },
    /// Change a document in $VISUAL or $EDITOR, or make a new one
    Edit {
        /// The key
        #[arg(value_parser = KeyPath::parse)]
        key: KeyPath,
        /// About the change
        #[command(flatten)]
        message: Message,
        /// Whether it is checked
        #[command(flatten)]
        checks: Checks,
        /// What follows
        #[command(flatten)]
        then: Then,
    },
    /// Delete a key, a place in its document, or a whole folder
    Delete {
        /// /a/b/c, or '/a/b/c|x.y' for x.y in the document /a/b/c
        #[arg(value_parser = Place::parse)]
        key: Place,
        /// Delete everything below it too
        #[arg(long)]
        recursive: bool,
        /// Only if the key was last written at this revision
        #[arg(long, value_name = "REV", conflicts_with = "recursive")]
        if_revision: Option<i64>,
        /// About the change
        #[command(flatten)]
        message: Message,
        /// Whether it is checked
        #[command(flatten)]
        checks: Checks,
    },
    /// Give a key, with all that is below it, another name
    Rename {
        /// What is there
        #[arg(value_parser = KeyPath::parse)]
        from: KeyPath,
        /// What is not there yet
        #[arg(value_parser = KeyPath::parse)]
        to: KeyPath,
        /// About the change
        #[command(flatten)]
        message: Message,
        /// Whether it is checked
        #[command(flatten)]
        checks: Checks,
    },
    /// Show who changed a key, when, and to what
    History {
        /// The key
        #[arg(value_parser = KeyPath::parse)]
        key: KeyPath,
        /// Secrets
        #[command(flatten)]
        secrets: Secrets,
    },
    /// Show what differs between two entries of a key's history, or between one and what is stored now
    Diff {
        /// The key
        #[arg(value_parser = KeyPath::parse)]
        key: KeyPath,
        /// As `history` shows it
        #[arg(value_name = "REV1")]
        old: i64,
        /// As `history` shows it [default: what is stored now]
        #[arg(value_name = "REV2")]
        new: Option<i64>,
        /// Secrets
        #[command(flatten)]
        secrets: Secrets,
    },
    /// Store the value that a key had at an entry of its history
    Revert {
        /// The key
        #[arg(value_parser = KeyPath::parse)]
        key: KeyPath,
        /// As `history` shows it
        #[arg(value_name = "REV", required_unless_present = "to_running")]
        revision: Option<i64>,
        /// What the process runs with; KEY is one of its documents, or …/hosts/ID/config for all
        #[arg(long, conflicts_with = "revision")]
        to_running: bool,
        /// About the change
        #[command(flatten)]
        message: Message,
        /// Whether it is checked
        #[command(flatten)]
        checks: Checks,
    },
    /// Ask processes to take what is stored for them, wait for their answers and print them; with --canary bring a
    /// change to a vPool in stages, and take it back everywhere if a host refuses it
    Apply(ApplyArgs),
    /// Show changes that reach a vPool in stages, go on with one, or take one back
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Show for every process what it runs with and whether that is what is stored; exit code 7 if one is not in sync
    Status {
        /// Who
        #[command(flatten)]
        target: Target,
        /// Wait until all are in sync, so many seconds at most
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Write all documents to a file
    Export {
        /// The file; - is standard output
        file: PathBuf,
        /// Only what is at or below this
        #[arg(long, default_value = "/", value_parser = parse_prefix)]
        prefix: KeyPath,
        /// Secrets
        #[command(flatten)]
        secrets: Secrets,
    },
    /// Store the documents of a file; what is *** in it stays as it is
    Import {
        /// The file; - is standard input
        file: PathBuf,
        /// About the change
        #[command(flatten)]
        message: Message,
        /// Whether it is checked
        #[command(flatten)]
        checks: Checks,
    },
    /// Check what is stored for hosts, or the documents of a directory; prints all that is wrong
    Validate {
        /// A directory with files SECTION.json [default: what is stored]
        #[arg(conflicts_with_all = ["vpool", "host"])]
        dir: Option<PathBuf>,
        /// Only hosts of this vPool
        #[arg(long, value_name = "GUID")]
        vpool: Option<String>,
        /// Only this host
        #[arg(long, value_name = "ID")]
        host: Option<String>,
    },
    /// Let no update reach a host
    Freeze {
        /// The id of the host
        host: String,
        /// Its vPool, if several have such a host
        #[arg(long, value_name = "GUID")]
        vpool: Option<String>,
        /// About the change
        #[command(flatten)]
        message: Message,
    },
    /// Let updates reach a host again
    Thaw {
        /// The id of the host
        host: String,
        /// Its vPool, if several have such a host
        #[arg(long, value_name = "GUID")]
        vpool: Option<String>,
        /// About the change
        #[command(flatten)]
        message: Message,
    },
    /// List what refers to a key, to something in its document, or to what is below it
    Refs {
        /// /a/b/c, or '/a/b/c|x.y' for x.y in the document /a/b/c
        #[arg(value_parser = Place::parse)]
        key: Place,
    },
    /// Print changes as they happen, until ^C
    Watch {
        /// The prefix
        #[arg(value_parser = parse_prefix)]
        prefix: KeyPath,
        /// Begin with this revision [default: with the next one]
        #[arg(long, value_name = "REV")]
        from: Option<i64>,
        /// Secrets
        #[command(flatten)]
        secrets: Secrets,
    },
    /// Go on with a large change that was interrupted, or list those that were
    Resume {
        /// Its id [default: list them]
        id: Option<String>,
        /// Forget what is not done of it; what is done stays
        #[arg(long, requires = "id")]
        abort: bool,
    },
}

/// Arguments of `ovs config apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// Store the documents SECTION.json of this directory first; with --canary as each host's turn comes
    pub(super) directory: Option<PathBuf>,
    /// Who
    #[command(flatten)]
    pub(super) target: Target,
    /// Delete the sections that are not in the directory
    #[arg(long, requires = "directory")]
    pub(super) prune: bool,
    /// Change nothing: the answers say what would be applied
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Let sections that are gone go back to their defaults
    #[arg(long)]
    pub(super) allow_reset: bool,
    /// How long answers are waited for, with --canary in each stage: 30, 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_seconds)]
    pub(super) wait: u64,
    /// Begin with so many hosts, then the rest; several stages as 1,4 or 1,25%. Needs --vpool, and DIRECTORY or --set
    #[arg(long, value_name = "N[,N]", requires = "vpool", conflicts_with_all = ["host", "dry_run"])]
    pub(super) canary: Option<Sizes>,
    /// What --canary brings to every host, instead of a directory; can be given more than once
    #[arg(long, value_name = "SECTION|x.y=VALUE", requires = "canary", conflicts_with = "directory")]
    pub(super) set: Vec<String>,
    /// How long a stage of --canary runs before the next one begins
    #[arg(long, value_name = "TIME", requires = "canary", default_value = "0s", value_parser = parse_seconds)]
    pub(super) pause: u64,
    /// What takes a change with --canary back: rejected (a host refuses it, fails, or does not answer), or failed
    /// (only the latter two)
    #[arg(long, value_name = "WHAT", requires = "canary", default_value = "rejected", value_parser = parse_abort_on)]
    pub(super) abort_on: AbortOn,
    /// About the update
    #[command(flatten)]
    pub(super) message: Message,
}

/// Whether secrets are shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Secrets {
    /// Print secrets instead of ***; of earlier values only a keyed hash is kept
    #[arg(long = "show-secrets")]
    pub(crate) show: bool,
}

/// What is recorded with a change.
#[derive(Debug, clap::Args)]
pub(crate) struct Message {
    /// Recorded in the history with the change
    #[arg(short = 'm', long = "message", value_name = "TEXT", value_parser = parse_message)]
    pub(crate) text: Option<String>,
}

/// Whether a change is checked.
#[derive(Debug, clap::Args)]
pub(crate) struct Checks {
    /// Store it even if the configuration of a host would not be valid
    #[arg(long)]
    unchecked: bool,
}

impl Checks {
    /// The same as a word.
    pub(super) fn check(&self) -> Check {
        if self.unchecked { Check::Omitted } else { Check::Made }
    }
}

/// What follows a change.
#[derive(Debug, clap::Args)]
pub(crate) struct Then {
    /// Then ask the processes to take what is stored for them, as `apply` does, and print their answers
    #[arg(long)]
    apply: bool,
}

impl Then {
    /// Whom to ask, if that is wanted.
    pub(super) fn targets(
        &self,
        of: impl FnOnce() -> Result<Targets, Failure>,
    ) -> Result<Option<Targets>, Failure> {
        if self.apply { of().map(Some) } else { Ok(None) }
    }
}

/// Longest message, in bytes.
const MESSAGE_LIMIT: usize = 1024;

fn parse_message(text: &str) -> Result<String, String> {
    match text.len() {
        length if length > MESSAGE_LIMIT => {
            Err(format!("it has {length} bytes, at most {MESSAGE_LIMIT} are kept"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Longest time that can be waited, in seconds: a week.
const LONGEST: u64 = 7 * 24 * 3600;

/// `30`, `30s`, `5m` or `1h` in seconds.
pub(super) fn parse_seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds = match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    let time = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
    match time {
        Some(time) if time <= LONGEST => Ok(time),
        Some(_) => Err("it is longer than a week".to_owned()),
        None => Err("give a time such as 30s, 5m or 1h".to_owned()),
    }
}

fn parse_abort_on(text: &str) -> Result<AbortOn, String> {
    match text {
        "rejected" => Ok(AbortOn::Rejected),
        "failed" => Ok(AbortOn::Failed),
        "latency" => Err("the latency of requests is not compared yet; give rejected or failed".to_owned()),
        _ => Err("give rejected or failed".to_owned()),
    }
}

/// A prefix may end in a slash.
fn parse_prefix(text: &str) -> Result<KeyPath, cfg_client::Error> {
    KeyPath::parse(text.strip_suffix('/').filter(|text| !text.is_empty()).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("30", 30), ("0s", 0), ("5m", 300), ("1h", 3600), ("168h", LONGEST)] {
            assert_eq!(parse_seconds(text), Ok(seconds));
        }
        for text in ["", "s", "-1", "1d", "1.5s", "169h", "99999999999999999999"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
        assert!(parse_abort_on("latency").is_err_and(|problem| problem.contains("not compared yet")));
    }
}

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::units::parse_size;

/// The same fio work against ovs and other servers of block volumes, over NBD on unix sockets.
#[derive(Debug, Parser)]
#[command(name = "benches", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) scenario: Option<Scenario>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What to run instead of the comparison.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Overwrites a full volume several times with little local space, and compares each minute with the first
    Steady {
        /// Bytes overwritten, in sizes of the volume
        #[arg(long, default_value_t = 5)]
        passes: u64,
        /// Length of a window in seconds
        #[arg(long, default_value_t = 60)]
        window: u64,
        /// Local space, in percent of the volume's size
        #[arg(long, default_value_t = 150)]
        local_percent: u64,
    },
    /// Writes at random, kills the server, and times its next start
    Restart {
        /// Bytes written at random before the kill
        #[arg(long, default_value = "20GiB", value_parser = parse_size)]
        written: u64,
    },
    /// Creates many volumes and measures the start and the memory of idle volumes (ovs only)
    Many {
        /// Number of volumes
        #[arg(long, default_value_t = 1000)]
        volumes: u32,
    },
    /// What an I/O and a volume cost as the work grows: depths, numbers of volumes, sizes
    Growth {
        /// Only these
        #[arg(long, value_delimiter = ',', value_enum, default_values_t = Growing::ALL)]
        of: Vec<Growing>,
    },
    /// One hot volume beside busy ones on the same server (ovs only)
    Hot {
        /// Number of busy volumes
        #[arg(long, default_value_t = 16)]
        busy: u32,
    },
    /// The configuration store beside etcd: puts, gets, transactions, watches, memory, restarts (no fio)
    Cfg(crate::scenario::cfg::CfgCourse),
    /// Changes of the configuration: what they cost I/O, how soon they are answered, what waiting for them takes
    Update(crate::scenario::update::UpdateCourse),
    /// Bad input at the admin RPC: what it takes from I/O at a fixed rate (ovs only)
    Rpc(crate::scenario::rpc::RpcCourse),
    /// Writes at random all over a huge volume and follows the server's memory
    Sparse {
        /// Millions of 4 KiB writes
        #[arg(long, default_value_t = 4.0)]
        millions: f64,
    },
}

/// What grows in the scenario `growth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Growing {
    /// I/Os in flight, 1 to 128.
    Depth,
    /// Volumes of one server, 1 to 1,000.
    Volumes,
    /// Size of a volume, 1 GiB to 1 TiB.
    Size,
}

impl Growing {
    const ALL: [Growing; 3] = [Growing::Depth, Growing::Volumes, Growing::Size];
}

/// Options of every run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Under three minutes: the five core workloads on a few peers, small volumes; ratios against the committed ones
    #[arg(long, global = true)]
    pub(crate) quick: bool,
    /// Where the ratios of an earlier quick run are
    #[arg(long, global = true, default_value = "benches/baseline.json", value_name = "FILE")]
    pub(crate) baseline: PathBuf,
    /// Put the ratios of this run there
    #[arg(long, global = true)]
    pub(crate) write_baseline: bool,
    /// Who is compared with all others, or measured by a scenario
    #[arg(long, global = true, default_value = "ovs", value_name = "NAME")]
    pub(crate) subject: String,
    /// Peers to compare with, by name; without this all that are installed (quick: raw, qsd-raw, nbdkit-file)
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) peers: Option<Vec<String>>,
    /// Workloads, by name; without this all
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) workloads: Vec<String>,
    /// Repeats of each cell [default: 5; quick: 2]
    #[arg(long, global = true)]
    pub(crate) repeats: Option<usize>,
    /// Seconds that count in each run [default: 8; quick: 2]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) runtime: Option<Duration>,
    /// Seconds at most that a run waits for the disk to become quiet
    #[arg(long, global = true, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub(crate) settle: Duration,
    /// Size of each volume [default: 4GiB; quick: 512MiB; sparse: 1TiB]
    #[arg(long, global = true, value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// Where the volumes are put: a directory on the disk to be measured, with a short path
    #[arg(long, global = true, default_value = "target/bench")]
    pub(crate) dir: PathBuf,
    /// Where the results are put
    #[arg(long, global = true, default_value = "target/bench/results")]
    pub(crate) out: PathBuf,
    /// The ovs program
    #[arg(long, global = true, default_value = "target/release/ovs", value_name = "PATH")]
    pub(crate) ovs_binary: PathBuf,
    /// The program of another peer, such as zerofs=PATH; may be repeated
    #[arg(long, global = true, value_name = "NAME=PATH", value_parser = parse_binary)]
    pub(crate) peer_binary: Vec<(String, PathBuf)>,
    /// Another peer, described by a JSON file; may be repeated
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) peer_file: Vec<PathBuf>,
    /// Keep the volumes and the servers' logs
    #[arg(long, global = true)]
    pub(crate) keep: bool,
    /// Only print the names of peers and workloads
    #[arg(long, global = true)]
    pub(crate) list: bool,
}

impl Options {
    /// Repeats of each cell.
    pub(crate) fn repeats(&self) -> usize {
        self.repeats.unwrap_or(if self.quick { 2 } else { 5 }).max(1)
    }

    /// Time that counts in each run.
    pub(crate) fn runtime(&self) -> Duration {
        self.runtime.unwrap_or(Duration::from_secs(if self.quick { 2 } else { 8 }))
    }

    /// Size of each volume in bytes: the one given, else `default`, or 512 MiB when it is to be quick.
    pub(crate) fn size_or(&self, default: u64) -> u64 {
        self.size.unwrap_or(if self.quick { 512 << 20 } else { default })
    }
}

/// A time from a tenth of a second to a day.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (0.1..=86_400.0).contains(s));
    let seconds = seconds.ok_or_else(|| format!("'{text}' is not a number of seconds from 0.1 to 86400"))?;
    Ok(Duration::from_secs_f64(seconds))
}

fn parse_binary(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or_else(|| format!("'{text}' is not NAME=PATH"))?;
    Ok((name.to_string(), PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_are_taken_on_both_sides_of_a_scenario() {
        let cli = Cli::parse_from(["benches", "--quick", "steady", "--size", "1GiB", "--window", "5"]);
        assert!(cli.options.quick && cli.options.size == Some(1 << 30));
        assert!(matches!(cli.scenario, Some(Scenario::Steady { window: 5, passes: 5, .. })));
        assert_eq!((cli.options.repeats(), cli.options.runtime()), (2, Duration::from_secs(2)));
        for (option, value) in [("--size", "many"), ("--runtime", "0"), ("--runtime", "NaN")] {
            assert!(Cli::try_parse_from(["benches", option, value]).is_err(), "{option} {value}");
        }
    }
}

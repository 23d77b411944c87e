//! Command-line arguments.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use cfg_schema::ByteSize;
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::ConfigCommand;
use crate::driver::VolumeName;
use crate::failure::Failure;

/// Block storage for virtual machines.
#[derive(Debug, Parser)]
#[command(name = "ovs", version, disable_help_subcommand = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 bad usage, 3 not found, 4 conflict, 5 rejected by validation, \
                        6 not reachable"
)]
pub(crate) struct Args {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The node to talk to: unix:///PATH of its admin socket, or the path of its endpoints.json; for `config` also a
    /// store, etcd://HOST:PORT,HOST:PORT[?cacert=FILE&cert=FILE&key=FILE]
    #[arg(long, global = true, env = "OVS_ENDPOINT", value_name = "URL")]
    pub(crate) endpoint: Option<String>,

    /// The node's directory [default: ~/.local/state/ovs]
    #[arg(long, global = true, env = "OVS_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// Least level that is logged: error, warn, info, debug or trace; also per module, as in info,volumedriver=debug
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine, in one process, until SIGTERM or ^C
    Up(UpArgs),
    /// Create, show, resize and delete volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Run and look after members of the configuration store
    #[command(subcommand)]
    Cfg(CfgCommand),
    /// Show and change the configuration in the store
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the reference of all configuration parameters
    #[command(hide = true)]
    ConfigReference {
        /// The form
        #[arg(long = "format", value_enum, default_value = "markdown")]
        form: ReferenceForm,
    },
}

/// Arguments of `ovs up`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Create this volume if it is not there; can be given more than once
    #[arg(long = "volume", value_name = "NAME=SIZE", value_parser = parse_new_volume)]
    pub(crate) volumes: Vec<NewVolume>,

    /// Let the system choose every TCP port; endpoints.json tells which
    #[arg(long)]
    pub(crate) ephemeral: bool,

    /// Port of the configuration store [default: 2379, or another one if that is taken]
    #[arg(long, value_name = "PORT")]
    pub(crate) etcd_port: Option<u16>,

    /// Port for other members of the configuration store [default: 2380, or another one if that is taken]
    #[arg(long, value_name = "PORT")]
    pub(crate) peer_port: Option<u16>,

    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) listen: IpAddr,

    /// Allow listening off loopback, where anybody who reaches the port can read and write every volume
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// `ovs volume …`
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Create a volume, all zeros
    Create {
        /// Its name
        #[arg(value_parser = VolumeName::parse)]
        name: VolumeName,
        /// Its size: 4096, 10GiB, 10GB; a multiple of 512
        #[arg(long, value_parser = parse_volume_size)]
        size: ByteSize,
    },
    /// List all volumes
    List,
    /// Show one volume
    Info {
        /// Its name
        #[arg(value_parser = VolumeName::parse)]
        name: VolumeName,
    },
    /// Make a volume larger
    Resize {
        /// Its name
        #[arg(value_parser = VolumeName::parse)]
        name: VolumeName,
        /// Its new size: 4096, 10GiB, 10GB; a multiple of 512, not less than now
        #[arg(long, value_parser = parse_volume_size)]
        size: ByteSize,
    },
    /// Delete a volume and all that is in it
    Delete {
        /// Its name
        #[arg(value_parser = VolumeName::parse)]
        name: VolumeName,
    },
    /// Show what a volume has done since it was started
    Stats {
        /// Its name
        #[arg(value_parser = VolumeName::parse)]
        name: VolumeName,
    },
}

/// `ovs cfg …`
#[derive(Debug, Subcommand)]
pub(crate) enum CfgCommand {
    /// Run one member of the configuration store, until SIGTERM or ^C
    Run(Box<CfgRunArgs>),
    /// List the members
    Members,
    /// Admit a member, before it is started; it gets a vote when it has caught up
    Add {
        /// Where the other members will reach it
        #[arg(value_name = "PEER-URL", required = true, value_delimiter = ',')]
        peer_urls: Vec<String>,
        /// It stays without a vote until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Take a member out for good
    Remove {
        /// Its number, as `ovs cfg members` shows it
        #[arg(value_parser = parse_member)]
        member: u64,
    },
    /// Give a learner a vote
    Promote {
        /// Its number, as `ovs cfg members` shows it
        #[arg(value_parser = parse_member)]
        member: u64,
    },
    /// Let another member lead
    MoveLeader {
        /// Its number, as `ovs cfg members` shows it
        #[arg(value_parser = parse_member)]
        member: u64,
    },
    /// Show how each member is
    Status,
    /// Let all members give back what their logs do not need any more
    Defrag,
    /// Save the whole store, and begin a new cluster with it
    #[command(subcommand)]
    Snapshot(CfgSnapshotCommand),
}

/// `ovs cfg snapshot …`
#[derive(Debug, Subcommand)]
pub(crate) enum CfgSnapshotCommand {
    /// Write the whole store to a file
    Save {
        /// The file
        file: PathBuf,
    },
    /// Make the data directory the first member of a new cluster with what a file holds
    Restore {
        /// The file
        file: PathBuf,
        /// Raise the revision by so much, so that none is given twice
        #[arg(long, value_name = "COUNT", default_value_t = 1_000_000_000)]
        bump_revision: u64,
    },
}

/// Arguments of `ovs cfg run`.
#[derive(Debug, clap::Args)]
pub(crate) struct CfgRunArgs {
    /// What people call this member
    #[arg(long, default_value = "default")]
    pub(crate) name: String,

    /// Where clients are listened to; port 0 lets the system choose
    #[arg(long, value_name = "URL", value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub(crate) client_urls: Vec<String>,

    /// Where other members are listened to
    #[arg(long, value_name = "URL", value_delimiter = ',', default_value = "http://127.0.0.1:2380")]
    pub(crate) peer_urls: Vec<String>,

    /// Where clients are told to go [default: --client-urls]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) advertise_client_urls: Vec<String>,

    /// Where other members are told to go [default: --peer-urls]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) advertise_peer_urls: Vec<String>,

    /// Members of a new cluster; the first one founds it, the others join
    #[arg(long, value_name = "NAME=URL,…")]
    pub(crate) initial_cluster: Option<String>,

    /// Join the cluster with a member at one of these peer URLs
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) join: Vec<String>,

    /// Join without a vote, until somebody promotes this member
    #[arg(long, requires = "join")]
    pub(crate) learner: bool,

    /// Seconds to try to come to a cluster
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) join_timeout: u64,

    /// Milliseconds without a sign of the leader before another one may be elected
    #[arg(long, value_name = "MS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pub(crate) election_timeout: u64,

    /// Milliseconds between the leader's signs of life
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    pub(crate) heartbeat: u64,

    /// Entries of the log after which a snapshot is written; a tenth of them stays behind it
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub(crate) snapshot_count: u64,

    /// What the store may hold before it only takes what makes room
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub(crate) quota: ByteSize,

    /// What the retention counts
    #[arg(long, value_enum, value_name = "MODE", default_value_t = CompactionMode::Revision)]
    pub(crate) auto_compaction_mode: CompactionMode,

    /// What is kept of the past: revisions, or hours or a time such as 30m; 0 keeps all [default: 10000 revisions]
    #[arg(long, value_name = "RETENTION")]
    pub(crate) auto_compaction_retention: Option<String>,

    /// Allow listening off loopback, where anybody who reaches the port can read and change everything
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// How old revisions of the configuration store are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompactionMode {
    /// So many revisions.
    Revision,
    /// Those of so long.
    Periodic,
}

/// Forms of the reference.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ReferenceForm {
    /// The page docs/configuration.md.
    Markdown,
    /// A JSON schema of all documents.
    JsonSchema,
    /// All documents with their defaults.
    Sample,
}

/// A volume that `ovs up` creates if it is not there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewVolume {
    /// Its name.
    pub(crate) name: VolumeName,
    /// Its size when it is created.
    pub(crate) size: ByteSize,
}

/// Answers arguments that are no command: a question for help or the version, or one line that says what is wrong.
pub(crate) fn refused(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    if matches!(error.kind(), DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand) {
        // Nobody is left to tell when this cannot be printed.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.render().to_string();
    let problem =
        text.split("\n\nFor more information").next().unwrap_or_default().trim_start_matches("error: ");
    let failure = Failure::usage(format!("{}\ntry --help", problem.trim_end()));
    eprintln!("ovs: {failure}");
    failure.exit_code()
}

fn parse_member(text: &str) -> Result<u64, String> {
    let number = u64::from_str_radix(text.trim_start_matches("0x"), 16);
    number.map_err(|error| format!("{error}; give the number of a member, as `ovs cfg members` shows it"))
}

fn parse_volume_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error: cfg_schema::ParseSizeError| error.to_string())?;
    match size.bytes() {
        0 => Err("a volume cannot have the size 0; give at least 512".to_owned()),
        bytes if !bytes.is_multiple_of(512) => {
            let next = bytes.checked_next_multiple_of(512).unwrap_or(u64::MAX - 511);
            Err(format!("{bytes} bytes are not a multiple of 512; the next one is {next}"))
        }
        _ => Ok(size),
    }
}

fn parse_new_volume(text: &str) -> Result<NewVolume, String> {
    let (name, size) = text.split_once('=').ok_or("give a name and a size, such as vm1=10GiB")?;
    let name = VolumeName::parse(name).map_err(|error| error.to_string())?;
    Ok(NewVolume { name, size: parse_volume_size(size)? })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declared_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn volume_sizes_are_multiples_of_512() {
        assert_eq!(parse_volume_size("10GiB"), Ok(ByteSize::gib(10)));
        assert_eq!(parse_volume_size("512"), Ok(ByteSize(512)));
        assert!(parse_volume_size("0").is_err_and(|error| error.contains("at least 512")));
        assert!(parse_volume_size("10GB").is_ok_and(|size| size.bytes() == 10_000_000_000));
        assert!(parse_volume_size("1000").is_err_and(|error| error.contains("the next one is 1024")));
        assert!(parse_volume_size("18446744073709551615").is_err());
    }

    #[test]
    fn a_new_volume_is_a_name_and_a_size() {
        assert!(parse_new_volume("vm1=1MiB").is_ok_and(|new| new.size == ByteSize::mib(1)));
        for text in ["vm1", "=1MiB", "a/b=1MiB", "vm1=", "vm1=1", "vm1=x"] {
            assert!(parse_new_volume(text).is_err(), "{text}");
        }
    }
}

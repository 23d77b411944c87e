//! Command-line arguments.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use cfg_schema::ByteSize;
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::cfg::CfgCommand;
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
    /// Run single services
    #[command(subcommand)]
    Volumedriver(VolumedriverCommand),
    /// Show and change the configuration in the store
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Arguments of every process that serves volumes.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// Create this volume if it is not there; can be given more than once
    #[arg(long = "volume", value_name = "NAME=SIZE", value_parser = parse_new_volume)]
    pub(crate) volumes: Vec<NewVolume>,

    /// Let the system choose every TCP port; endpoints.json tells which
    #[arg(long)]
    pub(crate) ephemeral: bool,

    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) listen: IpAddr,

    /// Allow listening off loopback, where anybody who reaches the port can read and write every volume
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// Arguments of `ovs up`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Those of every node
    #[command(flatten)]
    pub(crate) node: NodeArgs,

    /// Port of the configuration store [default: 2379, or another one if that is taken]
    #[arg(long, value_name = "PORT")]
    pub(crate) etcd_port: Option<u16>,

    /// Port for other members of the configuration store [default: 2380, or another one if that is taken]
    #[arg(long, value_name = "PORT")]
    pub(crate) peer_port: Option<u16>,
}

/// `ovs volumedriver …`
#[derive(Debug, Subcommand)]
pub(crate) enum VolumedriverCommand {
    /// Run one more driver of a vPool, with its documents in a configuration store, until SIGTERM or ^C
    Run(DriverArgs),
}

/// Arguments of `ovs volumedriver run`.
#[derive(Debug, clap::Args)]
pub(crate) struct DriverArgs {
    /// Those of every node
    #[command(flatten)]
    pub(crate) node: NodeArgs,

    /// Where its documents are: etcd://HOST:PORT,…/ovs/vpools/GUID/hosts/ID/config
    #[arg(long, value_name = "URL", required_unless_present = "config_help_markdown")]
    pub(crate) config: Option<String>,

    /// Print a table of all parameters, as Markdown, and end
    #[arg(long)]
    pub(crate) config_help_markdown: bool,

    /// Hours that a copy of the last good configuration serves while the store cannot be reached
    #[arg(long, value_name = "HOURS", default_value_t = 168)]
    pub(crate) last_good_max_age: u64,

    /// Work in this data directory from now on: the one that the driver worked in is lost, with its volumes
    #[arg(long)]
    pub(crate) replace_directory: bool,
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

//! Arguments of `ovs cfg …`.

use std::path::PathBuf;

use cfg_schema::ByteSize;
use clap::{Subcommand, ValueEnum};

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
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub(crate) snapshot_count: u64,

    /// Certificate that clients are shown, PEM; with it --client-urls are https://
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub(crate) cert_file: Option<PathBuf>,

    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub(crate) key_file: Option<PathBuf>,

    /// Authorities of clients: who connects must show a certificate of one of them
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub(crate) trusted_ca_file: Option<PathBuf>,

    /// Certificate for other members, shown by both sides, PEM; with it --peer-urls are https://
    #[arg(long, value_name = "FILE", requires_all = ["peer_key_file", "peer_trusted_ca_file"])]
    pub(crate) peer_cert_file: Option<PathBuf>,

    /// Its key
    #[arg(long, value_name = "FILE", requires = "peer_cert_file")]
    pub(crate) peer_key_file: Option<PathBuf>,

    /// Authorities of the members
    #[arg(long, value_name = "FILE", requires = "peer_cert_file")]
    pub(crate) peer_trusted_ca_file: Option<PathBuf>,

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

fn parse_member(text: &str) -> Result<u64, String> {
    let number = u64::from_str_radix(text.trim_start_matches("0x"), 16);
    number.map_err(|error| format!("{error}; give the number of a member, as `ovs cfg members` shows it"))
}

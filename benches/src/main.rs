//! The benchmark harness: the same fio work against ovs and other servers of block volumes.
//!
//! `compare` runs every workload on every side; `scenario` holds the long runs on one side. Both see a side as an
//! [`server::Instance`], run fio through [`measure`], and leave their results through [`report`].

mod accounting;
mod baseline;
mod compare;
mod disk;
mod error;
mod fio;
mod fio_output;
mod interrupt;
mod machine;
mod measure;
mod nbd_probe;
mod options;
mod peers;
mod process;
mod progress;
mod report;
mod results;
mod scenario;
mod server;
mod stats;
mod units;
mod workload;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::error::{BenchError, Result};
use crate::options::{Cli, Options};
use crate::workspace::Workspace;

fn list(options: &Options) -> Result<()> {
    println!("peers:");
    for peer in peers::load(&options.peer_file)? {
        println!("  {:<18} {}", peer.name, peer.title);
    }
    println!("workloads (*: core):");
    for workload in workload::ALL {
        println!("  {:<24} {} {}", workload.name, if workload.core { "*" } else { " " }, workload.title);
    }
    Ok(())
}

fn run(cli: &Cli) -> Result<()> {
    if cli.options.list {
        return list(&cli.options);
    }
    interrupt::install();
    process::adopt_orphans();
    let workspace = Workspace::open(&cli.options)?;
    match &cli.scenario {
        None => compare::run(&workspace),
        Some(scenario) => scenario::run(&workspace, scenario),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(BenchError::Interrupted) => {
            eprintln!("interrupted");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("benches: {e}");
            ExitCode::FAILURE
        }
    }
}

//! The `ovs` command: block storage for virtual machines. Arguments, start-up and the admin socket live here; there is
//! no storage logic.
#![forbid(unsafe_code)]

mod admin;
mod agent;
mod args;
mod cfg;
mod cluster_id;
mod completions;
mod config;
mod data_dir;
mod endpoints;
mod failure;
mod identity;
mod logging;
mod output;
mod progress;
mod rpc;
mod signals;
mod up;
mod volume;

use std::process::ExitCode;

use clap::Parser;
use volumedriver::driver;

use crate::args::{Args, Command};

/// Small allocations of many connections come and go on a few threads; this one keeps them apart.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Args { global, command } = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return args::refused(&error),
    };
    let result = match command {
        Command::Up(arguments) => up::run(&global, &arguments),
        Command::Volumedriver(args::VolumedriverCommand::Run(arguments))
            if arguments.config_help_markdown =>
        {
            config::help_markdown()
        }
        Command::Volumedriver(args::VolumedriverCommand::Run(arguments)) => {
            up::run_driver(&global, &arguments)
        }
        Command::Volume(command) => volume::run(&global, command),
        Command::Cfg(command) => cfg::run(&global, command),
        Command::Config(command) => config::run(&global, command),
        Command::Completions { shell } => completions::run(shell),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ovs: {failure}");
            failure.exit_code()
        }
    }
}

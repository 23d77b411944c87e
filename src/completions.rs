//! Shell completions.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::failure::Failure;
use crate::output;

/// `ovs completions SHELL`
pub(crate) fn run(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "ovs", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())
}

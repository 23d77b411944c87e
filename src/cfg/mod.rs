//! `ovs cfg`: a member of the configuration store by itself.

mod run;

use crate::args::{CfgCommand, Global};
use crate::failure::Failure;

/// Does what `command` says.
pub(crate) fn run(global: &Global, command: CfgCommand) -> Result<(), Failure> {
    match command {
        CfgCommand::Run(arguments) => run::run(global, arguments),
    }
}

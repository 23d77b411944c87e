//! How the members agree, by openraft; nothing outside of this folder names its types.

mod compaction;
mod elections;
mod files;
mod handlers;
mod members;
mod network;
mod news;
mod node;
mod propose;
mod reads;
mod recover;
mod state_machine;
mod storage;
mod tasks;
#[cfg(test)]
mod tests;
mod types;

pub use compaction::AutoCompaction;
pub use files::BadSnapshot;
pub(crate) use files::write_snapshot;
pub(crate) use node::Node;
pub use node::{Ended, NodeError, RaftOptions};
pub(crate) use recover::prepare;

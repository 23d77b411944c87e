//! Members among each other: who asks, and who answers.

mod client;
mod server;
mod unanswered;

pub(crate) use client::{MESSAGE_MAX, PeerOptions, Peers, introduce, join};
pub(crate) use server::{PeerService, Place};
pub(crate) use unanswered::Unanswered;

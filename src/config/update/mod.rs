//! How processes come to take what is stored: whom a command means, asking them, hearing what they answer, changes in
//! stages, and those that take none.

pub(super) mod apply;
pub(super) mod freeze;
mod hearing;
pub(crate) mod own;
pub(super) mod rollout;
mod status;
pub(super) mod targets;
pub(super) mod wanted;

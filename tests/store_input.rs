//! Input that is wrong, too large, or meant to harm, to a member of the configuration store: it is refused with a clear
//! answer, others are served all the time, and memory stays bounded.

mod harness;

#[path = "store_input/arguments.rs"]
mod arguments;
#[path = "store_input/client.rs"]
mod client;
#[path = "store_input/crowd.rs"]
mod crowd;
#[path = "store_input/frames.rs"]
mod frames;
#[path = "store_input/gateway.rs"]
mod gateway;
#[path = "store_input/numbers.rs"]
mod numbers;
#[path = "store_input/peers.rs"]
mod peers;
#[path = "store_input/raw.rs"]
mod raw;
#[path = "store_input/room.rs"]
mod room;
#[path = "store_input/sizes.rs"]
mod sizes;

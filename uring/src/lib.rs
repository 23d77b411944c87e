//! Everything that touches io_uring: aligned buffers, the ring loop, files, sockets. Knows nothing of any service.
pub mod buffer;
mod disk;
mod files;
mod io;
pub mod limits;
pub mod memory;
mod probe;
mod ring;
pub mod sim;
mod threads;
mod transfer;
mod wake;

pub use buffer::AlignedBuf;
pub use disk::{Disk, File, OpenMode};
pub use files::LocalDisk;
pub use io::{Completion, Durability, Io, Op, Token, Wake};
pub use probe::{Backend, Probe, RingOptions, open};

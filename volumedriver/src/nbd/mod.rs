//! Network block device: the server's side of the protocol, without storage.
//!
//! | file | what it does |
//! |---|---|
//! | [`protocol`] | numbers of the wire: magics, options, commands, flags, errors, limits |
//! | [`handshake`] | fixed newstyle negotiation as a state machine without I/O |
//! | [`options`] | what each negotiated option means and how it is answered |
//! | [`transmission`] | requests out of a receive buffer, without copying or allocating |
//! | [`reply`] | replies and their headers |
//! | [`bind`] | listening sockets: TCP with bounded retries, unix with mode 0600 |
//! | [`listener`] | accepts, negotiates, and hands the socket to whoever serves the volume |
//! | [`fuzz`] | drives the parsers with arbitrary bytes and checks what must always hold |
//!
//! Nothing in here knows what a volume is: an export is a name and a size in bytes.

pub mod bind;
pub mod fuzz;
pub mod handshake;
pub mod listener;
pub mod options;
pub mod protocol;
pub mod reply;
pub mod transmission;

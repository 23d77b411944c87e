//! How volumes and the process are reached.

use cfg_schema::{ByteSize, Milliseconds, sections};

sections! {
    objects {
        /// Blocks of memory of one size for messages.
        XioSlab {
            /// Size of a block.
            block_sz: ByteSize;
            /// Blocks from the start.
            init_block_nr: u64, unit "blocks";
            /// Blocks that are added when none is left.
            grow_block_nr: u64, unit "blocks";
            /// Blocks at most.
            max_block_nr: u64, unit "blocks";
        }
    }

    /// Network block device: how volumes are exported.
    section nbd: Nbd {
        /// TCP port; 0 lets the system choose.
        nbd_port: u16 = 10_809, Restart;
        /// Connections at once over TCP and the unix socket together; more are closed at once.
        nbd_max_connections: u32 = 4096, Dynamic, unit "connections", range 1..=65_536;
        /// Clients at once that are choosing an export; more are closed at once.
        nbd_max_handshakes: u32 = 256, Dynamic, unit "connections", range 1..=65_536;
        /// How long a client may take to choose an export.
        nbd_handshake_timeout_ms: Milliseconds = Milliseconds(30_000), Dynamic, range 100..=600_000;
        /// Requests of one connection that may be unanswered; more are left in the socket.
        nbd_requests_in_flight: u32 = 1024, Dynamic, unit "requests", range 1..=65_536;
        /// Replies of one connection that are being made or sent; its further requests are left in the socket.
        nbd_reply_bytes_in_flight: ByteSize = ByteSize::mib(16), Dynamic, range 1 << 20..=1 << 30;
        /// How long a client may leave its replies in the socket before its connection is closed.
        nbd_send_timeout_ms: Milliseconds = Milliseconds(60_000), Dynamic, range 100..=600_000;
    }

    /// HTTP for metrics and health, and the admin socket.
    section http: Http {
        /// TCP port of metrics and health; 0 lets the system choose.
        http_port: u16 = 26_200, Restart;
        /// Connections at once to the TCP port, and as many to the admin socket.
        http_max_connections: u32 = 256, Restart, unit "connections", range 1..=65_536;
        /// How long a client may take to send a request.
        http_read_timeout_ms: Milliseconds = Milliseconds(10_000), Restart, range 100..=600_000;
        /// Longest body of an admin request.
        http_body_limit: ByteSize = ByteSize::kib(64), Restart, range 1024..=16 << 20;
        /// Admin operations that run at once; more wait.
        admin_operations_in_flight: u32 = 16, Restart, unit "operations", range 1..=1024;
    }

    /// The admin RPC: XML-RPC over HTTP.
    section xmlrpc: Xmlrpc {
        /// TCP port; 0 lets the system choose.
        xmlrpc_port: u16 = 26_201, Restart;
        /// Name or address under which other hosts reach it, for redirects; empty: the address that it listens on.
        xmlrpc_host: String = String::new(), Restart;
        /// Connections at once; further ones wait until one ends.
        xmlrpc_max_connections: u32 = 512, Restart, unit "connections", range 1..=65_536;
        /// How long a client may take to send a request.
        xmlrpc_read_timeout_ms: Milliseconds = Milliseconds(10_000), Restart, range 100..=600_000;
        /// Longest request.
        xmlrpc_request_limit: ByteSize = ByteSize::kib(256), Restart, range 4096..=64 << 20;
        /// Elements inside each other in a request.
        xmlrpc_depth_limit: u32 = 64, Restart, unit "elements", range 8..=256;
        /// Requests that are worked on at once; more wait.
        xmlrpc_calls_in_flight: u32 = 64, Restart, unit "requests", range 1..=1024;
        /// How long a request may take; then it is answered with a fault, and what it began goes on.
        xmlrpc_call_timeout_ms: Milliseconds = Milliseconds(120_000), Restart, range 100..=3_600_000;
        /// TLS: file with the certificate and those between it and the authority, in PEM; empty: no TLS.
        xmlrpc_tls_cert_file: String = String::new(), Restart;
        /// TLS: file with the key of the certificate, in PEM.
        xmlrpc_tls_key_file: String = String::new(), Restart;
        /// What clients must show to be let in; empty: nothing. Without TLS and a token it listens on loopback only.
        xmlrpc_token: String = String::new(), Restart, secret;
    }

    /// Prometheus metrics.
    section metrics: Metrics {
        /// Whether metrics carry the label `volume`; without it they are sums over all volumes.
        metrics_per_volume: bool = true, Dynamic;
    }

    /// The network (edge) interface, for clients of the original.
    section network_interface: NetworkInterface {
        /// Where it listens, `tcp://…` or `rdma://…`; the registry of the cluster comes first.
        network_uri: String = "tcp://127.0.0.1:21321".to_owned(), NoEffect;
        /// Messages that may wait, in each direction.
        network_snd_rcv_queue_depth: u64 = 2048, NoEffect, unit "messages";
        /// Threads for data; unset means one for each core.
        network_workqueue_max_threads: Option<u32> = None, NoEffect, unit "threads";
        /// Threads for control.
        network_workqueue_ctrl_max_threads: u32 = 128, NoEffect, unit "threads";
        /// Hosts at this distance or farther are not told to clients.
        network_max_neighbour_distance: u32 = u32::MAX, NoEffect, unit "distance";
        /// Memory for messages, by the size of its blocks.
        network_xio_slab_config: Vec<XioSlab> = slabs(), NoEffect, range 1..=6;
    }

    /// Volumes through shared memory.
    section shm_interface: ShmInterface {
        /// Size of the shared memory.
        shm_region_size: ByteSize = ByteSize::mib(256), NoEffect;
    }
}

/// The default memory for messages.
fn slabs() -> Vec<XioSlab> {
    let slab = |(kib, init_block_nr, grow_block_nr, max_block_nr)| XioSlab {
        block_sz: ByteSize::kib(kib),
        init_block_nr,
        grow_block_nr,
        max_block_nr,
    };
    let slabs = [
        (4, 2048, 8192, 131_072),
        (8, 2048, 4096, 131_072),
        (16, 2048, 4096, 131_072),
        (32, 2048, 2048, 131_072),
        (64, 0, 2048, 65_536),
        (128, 0, 512, 16_384),
    ];
    slabs.into_iter().map(slab).collect()
}

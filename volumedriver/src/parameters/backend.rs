//! The backend: connections to it, threads that upload and delete, locks in it.

use cfg_schema::{Milliseconds, Seconds, sections, words};

use super::nodes::ArakoonNode;

words! {
    /// Kinds of backend.
    pub enum BackendType {
        /// A directory.
        Local = "LOCAL",
        /// Amazon S3 and what speaks like it.
        S3 = "S3",
        /// Several backends of one kind, one for each numbered object of the section.
        Multi = "MULTI",
        /// ALBA, through its proxy.
        Alba = "ALBA",
    }
}

words! {
    /// Which of several connection pools serves a call.
    pub enum SwitchPolicy {
        /// The same one until it fails.
        SwitchOnError = "SwitchOnError",
        /// One after the other.
        RoundRobin = "RoundRobin",
    }
}

words! {
    /// Dialects of S3.
    pub enum S3Flavour {
        /// Amazon's.
        S3 = "S3",
        /// Google's.
        Gcs = "GCS",
        /// Eucalyptus'.
        Walrus = "WALRUS",
        /// OpenStack's.
        Swift = "SWIFT",
    }
}

words! {
    /// How the proxy of ALBA is reached.
    pub enum AlbaTransport {
        /// TCP.
        Tcp = "TCP",
        /// Remote direct memory access.
        Rdma = "RDMA",
    }
}

words! {
    /// Where locks of namespaces are kept.
    pub enum LockStoreType {
        /// As objects of the backend.
        Backend = "Backend",
        /// In an Arakoon cluster.
        Arakoon = "Arakoon",
    }
}

sections! {
    /// Connections to the backend, and how failed calls are repeated.
    section backend_connection_manager: BackendConnectionManager,
        numbered "With `backend_type` MULTI: one of the backends, all of one type; counted from 0 without gaps." {
        /// Idle connections that a pool keeps; each backend or proxy has one pool.
        backend_connection_pool_capacity: u32 = 64, NoEffect, unit "connections";
        /// How long a pool is left alone after a connection to it could not be made.
        backend_connection_pool_blacklist_secs: Seconds = Seconds(15), NoEffect;
        /// How often a failed call is repeated. A missing object or namespace and a failed assertion are answers, not
        /// failures.
        backend_interface_retries_on_error: u32 = 2, NoEffect, unit "retries";
        /// Pause before the first repetition.
        backend_interface_retry_interval_secs: Seconds = Seconds(0), NoEffect;
        /// By how much the pause grows with each repetition; fractions count.
        backend_interface_retry_backoff_multiplier: f64 = 1.0, NoEffect;
        /// For tests: partial reads return at once and bring no data.
        backend_interface_partial_read_nullio: bool = false, NoEffect;
        /// Which pool serves a call that is no partial read.
        backend_interface_switch_connection_pool_policy: SwitchPolicy = SwitchPolicy::RoundRobin, NoEffect;
        /// Which pool serves a partial read.
        backend_interface_switch_connection_pool_partial_read_policy: SwitchPolicy = SwitchPolicy::SwitchOnError,
            NoEffect;
        /// Which failures make SwitchOnError take the next pool: a sum of 1 for errors of the backend and 2 for
        /// timeouts.
        backend_interface_switch_connection_pool_on_error_policy: u32 = 3, NoEffect, unit "bits", range 0..=3;
        /// The kind of backend, which decides what other keys of the section count.
        backend_type: BackendType = BackendType::Local, NoEffect;

        /// LOCAL: the directory that holds everything.
        local_connection_path: String, NoEffect;
        /// LOCAL, for tests: whole seconds by which writes are delayed.
        local_connection_tv_sec: i32 = 0, NoEffect, unit "seconds";
        /// LOCAL, for tests: nanoseconds by which writes are delayed, added to the seconds.
        local_connection_tv_nsec: i32 = 0, NoEffect, unit "nanoseconds";
        /// LOCAL: parts of objects can be read.
        local_connection_enable_partial_read: bool = true, NoEffect;
        /// LOCAL: each object is made durable after it was written.
        local_connection_sync_object_after_write: bool = true, NoEffect;

        /// S3: host of the service.
        s3_connection_host: String = "s3.amazonaws.com".to_owned(), NoEffect;
        /// S3: port of the service.
        s3_connection_port: u16 = 80, NoEffect;
        /// S3: name of the user, or id of the access key.
        s3_connection_username: String = String::new(), NoEffect;
        /// S3: the secret of the user.
        s3_connection_password: String = String::new(), NoEffect, secret;
        /// S3: the client logs much.
        s3_connection_verbose_logging: bool = true, NoEffect;
        /// S3: connections are encrypted.
        s3_connection_use_ssl: bool = false, NoEffect;
        /// S3: the certificate's subject must be the host.
        s3_connection_ssl_verify_host: bool = true, NoEffect;
        /// S3: file with the certificate; empty for none.
        s3_connection_ssl_cert_file: String = String::new(), NoEffect;
        /// S3: the dialect that the service speaks.
        s3_connection_flavour: S3Flavour = S3Flavour::S3, NoEffect;
        /// S3: the service always answers with what was written last, so that nothing is asked for twice.
        s3_connection_strict_consistency: bool = false, NoEffect;

        /// ALBA: host of the proxy.
        alba_connection_host: String = "127.0.0.1".to_owned(), NoEffect;
        /// ALBA: port of the proxy.
        alba_connection_port: u16 = 56_789, NoEffect;
        /// ALBA: how long the proxy may take to answer.
        alba_connection_timeout: Seconds = Seconds(5), NoEffect, unit "seconds", range 0..=65_535;
        /// ALBA: preset of the namespaces that are created; empty for the proxy's default.
        alba_connection_preset: String = String::new(), NoEffect;
        /// ALBA: how the proxy is reached.
        alba_connection_transport: AlbaTransport = AlbaTransport::Tcp, NoEffect;
        /// ALBA: fragments are read from the disk servers, past the proxy. The other keys with `rora` and `asd` count
        /// only then.
        alba_connection_use_rora: bool = false, NoEffect;
        /// ALBA: manifests that are remembered for reads past the proxy.
        alba_connection_rora_manifest_cache_capacity: u64 = 10_000, NoEffect, unit "manifests";
        /// ALBA, for tests: reads past the proxy bring no data.
        alba_connection_rora_use_nullio: bool = false, NoEffect;
        /// ALBA: connections kept to each disk server.
        alba_connection_asd_connection_pool_capacity: u64 = 5, NoEffect, unit "connections";
        /// ALBA: how long a partial read past the proxy may take.
        alba_connection_rora_timeout_msecs: Milliseconds = Milliseconds(100), NoEffect;
    }

    /// Deletion of what the backend holds in vain.
    section backend_garbage_collector: BackendGarbageCollector {
        /// Threads that delete.
        bgc_threads: u32 = 4, NoEffect, unit "threads", range 0..=256;
    }

    /// Upload of SCOs and TLogs.
    section threadpool_component: ThreadpoolComponent {
        /// Threads that upload.
        num_threads: u32 = 4, NoEffect, unit "threads", range 0..=256;
    }

    /// Locks by which hosts keep each other from a namespace.
    section distributed_lock_store: DistributedLockStore {
        /// Where the locks are kept.
        dls_type: LockStoreType = LockStoreType::Backend, NoEffect;
        /// Arakoon: how long it may take to answer.
        dls_arakoon_timeout_ms: Milliseconds = Milliseconds(60_000), NoEffect;
        /// Arakoon: id of the cluster.
        dls_arakoon_cluster_id: String = String::new(), NoEffect;
        /// Arakoon: the servers of the cluster.
        dls_arakoon_cluster_nodes: Vec<ArakoonNode> = Vec::new(), NoEffect;
    }

    /// The distributed transaction log: what a second host keeps of writes that are not on the backend yet.
    section distributed_transaction_log: DistributedTransactionLog {
        /// Directory of the server.
        dtl_path: String, NoEffect;
        /// How clients reach the server. RDMA and RSocket are two names of the same.
        dtl_transport: DtlTransport = DtlTransport::Tcp, NoEffect;
    }
}

words! {
    /// How a server of the DTL is reached.
    pub enum DtlTransport {
        /// TCP.
        Tcp = "TCP",
        /// Remote direct memory access behind the interface of sockets.
        RSocket = "RSocket",
        /// The name that the original's help gave it.
        Rdma = "RDMA",
    }
}

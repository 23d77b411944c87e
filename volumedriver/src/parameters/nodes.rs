//! Objects in lists of several sections.

use cfg_schema::sections;

sections! {
    objects {
        /// One server of an Arakoon cluster.
        ArakoonNode {
            /// Its name in the cluster.
            node_id: String;
            /// Where clients reach it.
            host: String;
            /// Its port for clients.
            port: u16;
        }

        /// A metadata server of a volume.
        MdsAddress {
            /// Where it listens.
            host: String;
            /// Its port.
            port: u16;
        }
    }
}

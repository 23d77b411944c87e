//! `endpoints.json`: how a running node is reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Addresses of a running node. Keys are added as services are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    /// NBD over TCP; an export's name is appended as path.
    pub(crate) nbd: String,
    /// NBD over the unix socket; an export's name goes between `///` and `?`.
    pub(crate) nbd_unix: String,
    /// Metrics and health.
    pub(crate) http: String,
    /// The admin socket.
    pub(crate) admin: String,
    /// The admin RPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) xmlrpc: Option<String>,
    /// The cluster that requests to it must name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vrouter_cluster_id: Option<String>,
    /// The configuration store, as `http://host:port` or an `etcd://` URL; a node that reads files has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etcd: Option<String>,
    /// The vPool that the node belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vpool_guid: Option<String>,
    /// Who it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vrouter_id: Option<String>,
    /// The URL of its documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    /// The process.
    pub(crate) pid: u32,
}

/// The scheme of admin sockets.
pub(crate) const ADMIN_SCHEME: &str = "unix://";

impl Endpoints {
    /// The addresses of this process.
    pub(crate) fn new(
        nbd: SocketAddr,
        nbd_socket: &Path,
        http: SocketAddr,
        admin_socket: &Path,
    ) -> Endpoints {
        Endpoints {
            nbd: format!("nbd://{}", reachable(nbd)),
            nbd_unix: format!("nbd+unix:///?socket={}", percent_encode(nbd_socket)),
            http: format!("http://{}", reachable(http)),
            admin: format!("{ADMIN_SCHEME}{}", admin_socket.display()),
            xmlrpc: None,
            vrouter_cluster_id: None,
            etcd: None,
            vpool_guid: None,
            vrouter_id: None,
            config: None,
            pid: std::process::id(),
        }
    }
}

/// An address that clients on this machine can connect to: nobody connects to `0.0.0.0`.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A path in a URI.
pub(crate) fn percent_encode(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut encoded, &byte| {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_a_client_connects_to() {
        let any = SocketAddr::from(([0, 0, 0, 0], 10809));
        let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 26200));
        let endpoints = Endpoints::new(any, Path::new("/a b/nbd.sock"), v6, Path::new("/a b/admin.sock"));
        assert_eq!(endpoints.nbd, "nbd://127.0.0.1:10809");
        assert_eq!(endpoints.nbd_unix, "nbd+unix:///?socket=/a%20b/nbd.sock");
        assert_eq!(endpoints.http, "http://[::1]:26200");
        assert_eq!(endpoints.admin, "unix:///a b/admin.sock");
    }
}

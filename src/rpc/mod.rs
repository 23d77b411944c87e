//! The admin RPC of a volume driver: XML-RPC over HTTP with the methods of the original, so that management software
//! that knows those finds them. What a request is and how it ends is on the page `docs/admin-rpc.md`.
//!
//! A request passes the listener's bounds (`up/http.rs`), the token, a look at its depth, the parser, its turn among
//! those that are worked on, the id of the cluster, the redirect, and the method's handler. Handlers ask the driver on
//! threads that may block, with the driver's own bounds; none of them runs on a data thread. What is long is parsed by
//! a thread that gives way to those.

mod aside;
mod call;
mod cluster;
mod configuration;
mod diagnostics;
mod failed;
mod http;
mod logs;
mod redirect;
mod scan;
mod settings;
mod snapshots;
mod statistics;
mod system;
mod table;
mod values;
mod volumes;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cfg_client::Store;
use cfg_schema::Documents;
use cfg_store::{Acceptor, TlsFiles};
use tokio::sync::Semaphore;
use volumedriver::parameters::Xmlrpc;

use self::aside::Aside;
use self::redirect::Address;
use crate::config::update::own::OwnConfig;
use crate::endpoints::reachable;
use crate::failure::Failure;
use crate::identity::Identity;
use crate::up::node::Node;

pub(crate) use http::router;

/// What answers requests.
pub(crate) struct Server {
    node: Arc<Node>,
    store: Store,
    vpool_guid: String,
    vrouter_id: String,
    /// What every request must name.
    cluster_id: String,
    /// The URL of the driver's documents.
    url: String,
    /// Where this server is reached, for redirects to itself.
    address: Address,
    config: OwnConfig,
    turns: Arc<Semaphore>,
    aside: Aside,
    call_timeout: Duration,
    depth_limit: usize,
    token: Option<http::Token>,
}

/// What a server is made of.
pub(crate) struct Parts<'a> {
    /// The driver.
    pub(crate) node: Arc<Node>,
    /// The store of the configuration.
    pub(crate) store: Store,
    /// Who the driver is.
    pub(crate) identity: &'a Identity,
    /// The id of the cluster.
    pub(crate) cluster_id: String,
    /// The URL of its documents.
    pub(crate) url: String,
    /// The URL of the server itself.
    pub(crate) own_url: &'a str,
    /// Its parameters.
    pub(crate) parameters: &'a Xmlrpc,
}

impl Server {
    /// Ready to answer.
    ///
    /// # Errors
    /// The driver's place in the store cannot be named.
    pub(crate) fn new(parts: Parts<'_>) -> Result<Arc<Server>, Failure> {
        let Parts { node, store, identity, cluster_id, url, own_url, parameters } = parts;
        let address = Address::of_url(own_url)
            .ok_or_else(|| Failure::failed(format!("{own_url} does not say where the admin RPC is")))?;
        let config = OwnConfig::new(store.clone(), identity)?;
        let in_flight = parameters.xmlrpc_calls_in_flight as usize;
        let aside = Aside::start(in_flight)
            .map_err(|error| Failure::failed(format!("no thread for the admin RPC: {error}")))?;
        Ok(Arc::new(Server {
            node,
            store,
            vpool_guid: identity.vpool_guid().to_owned(),
            vrouter_id: identity.vrouter_id().to_owned(),
            cluster_id,
            url,
            address,
            config,
            turns: Arc::new(Semaphore::new(in_flight)),
            aside,
            call_timeout: parameters.xmlrpc_call_timeout_ms.duration(),
            depth_limit: parameters.xmlrpc_depth_limit as usize,
            token: http::Token::of(&parameters.xmlrpc_token)?,
        }))
    }
}

/// The id of the cluster that requests must name: that of the configuration, else the vPool's.
pub(crate) fn cluster_id(documents: &Documents, identity: &Identity) -> String {
    let configured =
        documents.get("volume_router_cluster").and_then(|section| section.get("vrouter_cluster_id"));
    match configured.and_then(|id| id.as_str()) {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => identity.vpool_guid().to_owned(),
    }
}

/// Certificates of the configuration; `None`: no TLS.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn tls(parameters: &Xmlrpc) -> Result<Option<Arc<Acceptor>>, Failure> {
    if parameters.xmlrpc_tls_cert_file.is_empty() {
        return Ok(None);
    }
    let files = TlsFiles {
        cert: PathBuf::from(&parameters.xmlrpc_tls_cert_file),
        key: PathBuf::from(&parameters.xmlrpc_tls_key_file),
        ca: None,
    };
    let acceptor = Acceptor::new(files, &["http/1.1"]);
    acceptor.map(|acceptor| Some(Arc::new(acceptor))).map_err(|error| {
        Failure::failed(format!(
            "xmlrpc_tls_cert_file: {error}; correct the files, or take both parameters away"
        ))
    })
}

/// Where the server listens when the node listens on `ip`: without TLS and a token on loopback only.
pub(crate) fn listen_on(ip: IpAddr, parameters: &Xmlrpc) -> IpAddr {
    let guarded = !parameters.xmlrpc_tls_cert_file.is_empty() && !parameters.xmlrpc_token.is_empty();
    if ip.is_loopback() || guarded {
        return ip;
    }
    tracing::warn!(
        "the admin RPC listens on loopback only: off loopback it needs xmlrpc_tls_cert_file and xmlrpc_token"
    );
    match ip {
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    }
}

/// The URL of a server that listens on `address`.
pub(crate) fn url(address: SocketAddr, parameters: &Xmlrpc) -> String {
    let scheme = if parameters.xmlrpc_tls_cert_file.is_empty() { "http" } else { "https" };
    let host = &parameters.xmlrpc_host;
    let authority = match host.as_str() {
        "" => reachable(address).to_string(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{}", address.port()),
        host => format!("{host}:{}", address.port()),
    };
    format!("{scheme}://{authority}/RPC2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_loopback_it_wants_tls_and_a_token() {
        let ip = IpAddr::from([10, 0, 0, 1]);
        let mut parameters = Xmlrpc::default();
        assert_eq!(listen_on(ip, &parameters), IpAddr::from([127, 0, 0, 1]));
        parameters.xmlrpc_tls_cert_file = "cert.pem".to_owned();
        assert!(listen_on(ip, &parameters).is_loopback());
        parameters.xmlrpc_token = "open sesame".to_owned();
        assert_eq!(listen_on(ip, &parameters), ip);
        assert!(listen_on(IpAddr::from([127, 0, 0, 5]), &Xmlrpc::default()).is_loopback());
    }

    #[test]
    fn the_url_is_what_others_connect_to() {
        let mut parameters = Xmlrpc::default();
        let address = SocketAddr::from(([0, 0, 0, 0], 7));
        assert_eq!(url(address, &parameters), "http://127.0.0.1:7/RPC2");
        parameters.xmlrpc_host = "storage1".to_owned();
        assert_eq!(url(address, &parameters), "http://storage1:7/RPC2");
        parameters.xmlrpc_host = "fe80::1".to_owned();
        parameters.xmlrpc_tls_cert_file = "cert.pem".to_owned();
        assert_eq!(url(address, &parameters), "https://[fe80::1]:7/RPC2");
    }
}

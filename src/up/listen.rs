//! The sockets of a node.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use volumedriver::driver::admission_limits;
use volumedriver::nbd::bind::{bind_tcp, bind_unix};
use volumedriver::nbd::handshake::Limits;
use volumedriver::nbd::listener::{self, Admission, Listener, ListenerOptions};
use volumedriver::parameters::Parameters;

use crate::data_dir::DataDir;
use crate::driver::Driver;
use crate::endpoints::Endpoints;
use crate::failure::Failure;
use crate::rpc;

/// Attempts to bind a port that a dying predecessor may still hold, 200 ms apart.
const BIND_RETRIES: u32 = 5;

/// Sockets of NBD.
pub(super) struct NbdSockets {
    tcp: TcpListener,
    unix: UnixListener,
}

/// Everything that clients connect to.
pub(super) struct Sockets {
    /// NBD, over TCP and the unix socket.
    pub(super) nbd: NbdSockets,
    /// Metrics and health.
    pub(super) http: TcpListener,
    /// The admin RPC.
    pub(super) xmlrpc: TcpListener,
    /// The admin API.
    pub(super) admin: UnixListener,
}

impl Sockets {
    /// Binds all of them. Connections wait in the kernel until somebody serves them.
    pub(super) async fn bind(
        ip: IpAddr,
        parameters: &Parameters,
        directory: &DataDir,
    ) -> Result<Sockets, Failure> {
        let tcp = async |ip: IpAddr, port: u16, section: &str| {
            let address = SocketAddr::new(ip, port);
            bind_tcp(address, BIND_RETRIES)
                .await
                .map_err(|error| refused(address, section, directory, &error))
        };
        let unix = async |path: &Path| {
            let failed =
                |error| Failure::failed(format!("cannot listen on {}: {error}; remove it", path.display()));
            bind_unix(path).await.map_err(failed)
        };
        Ok(Sockets {
            nbd: NbdSockets {
                tcp: tcp(ip, parameters.nbd.nbd_port, "nbd").await?,
                unix: unix(&directory.nbd_socket()).await?,
            },
            http: tcp(ip, parameters.http.http_port, "http").await?,
            xmlrpc: tcp(rpc::listen_on(ip, &parameters.xmlrpc), parameters.xmlrpc.xmlrpc_port, "xmlrpc")
                .await?,
            admin: unix(&directory.admin_socket()).await?,
        })
    }

    /// The addresses, with the ports that the system chose.
    pub(super) fn endpoints(
        &self,
        parameters: &Parameters,
        directory: &DataDir,
    ) -> Result<Endpoints, Failure> {
        let failed = |error: io::Error| Failure::failed(format!("a socket has no address: {error}"));
        let nbd = self.nbd.tcp.local_addr().map_err(failed)?;
        let http = self.http.local_addr().map_err(failed)?;
        let xmlrpc = self.xmlrpc.local_addr().map_err(failed)?;
        let mut endpoints = Endpoints::new(nbd, &directory.nbd_socket(), http, &directory.admin_socket());
        endpoints.xmlrpc = Some(rpc::url(xmlrpc, &parameters.xmlrpc));
        Ok(endpoints)
    }
}

fn refused(address: SocketAddr, section: &str, directory: &DataDir, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let directory = directory.path().display();
            format!(
                "stop what uses it, give --ephemeral, or change {section}_port: `ovs cfg run --data-dir {directory}` \
                 runs the configuration store alone, `ovs config set` changes it"
            )
        }
        io::ErrorKind::AddrNotAvailable => "give --listen an address of this machine".to_owned(),
        _ => "give another --listen or port".to_owned(),
    };
    Failure::failed(format!("cannot listen on {address}: {error}; {advice}"))
}

/// Serves NBD on both sockets until `stop` is true.
pub(super) fn serve_nbd(
    sockets: NbdSockets,
    parameters: &Parameters,
    driver: &Driver,
    stop: &watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + use<> {
    let admission = Admission::new(admission_limits(parameters));
    let options = ListenerOptions { limits: Limits::default(), admission };
    driver.watch_admission(options.admission.clone());
    let serve = |listener| {
        listener::serve(listener, options.clone(), driver.exports(), driver.attach(), stop.clone())
    };
    let (tcp, unix) = (serve(Listener::Tcp(sockets.tcp)), serve(Listener::Unix(sockets.unix)));
    async {
        tokio::join!(tcp, unix);
    }
}

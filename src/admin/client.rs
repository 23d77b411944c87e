//! The command's side of the admin API.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::api::ErrorBody;
use crate::args::Global;
use crate::data_dir::{DataDir, read_file};
use crate::endpoints::{ADMIN_SCHEME, Endpoints};
use crate::failure::{Failure, Kind};

/// For the connection to be accepted.
const CONNECT: Duration = Duration::from_secs(5);

/// For the answer: creating a volume may have to wait for its turn and for the disk.
const ANSWER: Duration = Duration::from_secs(300);

/// Longest answer, in bytes: 100,000 volumes fit.
const ANSWER_LIMIT: usize = 64 << 20;

/// A running node.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

fn unreachable(message: String) -> Failure {
    Failure::new(Kind::Unreachable, message)
}

impl Client {
    /// Finds the node that the arguments mean. Nothing is sent yet.
    pub(crate) fn find(global: &Global) -> Result<Client, Failure> {
        let socket = match global.endpoint.as_deref() {
            Some(endpoint) => socket_of_endpoint(endpoint)?,
            None => {
                let directory = DataDir::locate(global.data_dir.as_deref())?;
                let start = format!("start one with `ovs up --data-dir {}`", directory.path().display());
                let advice = format!("{start}, or name one by --endpoint");
                socket_of_file(&directory.endpoints(), &advice)?
            }
        };
        Ok(Client { socket })
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let body = body.map_or(Ok(Vec::new()), serde_json::to_vec);
        let body = body.map_err(|error| Failure::failed(format!("the request cannot be sent: {error}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
        let (status, answer) = runtime.block_on(self.exchange(method, path, body))?;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|error| {
                Failure::failed(format!(
                    "the node's answer is not understood ({error}); is it another version?"
                ))
            });
        }
        Err(match serde_json::from_slice::<ErrorBody>(&answer) {
            Ok(ErrorBody { error }) => Failure::new(error.kind.failure(), error.message),
            Err(_) => {
                Failure::failed(format!("the node answered {status} to {path}; is it another version?"))
            }
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "ovs")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::failed(format!("the request cannot be sent: {error}")))?;
        let stream = match timeout(CONNECT, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.no_connection(&error)),
            Err(_) => return Err(self.no_connection(&io::ErrorKind::TimedOut.into())),
        };
        let lost = |error: &dyn std::fmt::Display| {
            unreachable(format!(
                "the connection to the node was lost ({error}); look at what it did, then try again"
            ))
        };
        let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|error| lost(&error))?;
        // Ends with the exchange; what went wrong is seen there.
        let connection = tokio::spawn(async { drop(connection.await) });
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
            Ok((status, body.map_err(|error| lost(&error))?.to_bytes()))
        };
        let result = timeout(ANSWER, exchange).await;
        connection.abort();
        result.unwrap_or_else(|_| {
            let seconds = ANSWER.as_secs();
            Err(unreachable(format!(
                "the node did not answer within {seconds} s; the operation may still go on"
            )))
        })
    }

    fn no_connection(&self, error: &io::Error) -> Failure {
        let path = self.socket.display();
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => "run as the user of the node",
            _ => "start the node with `ovs up`, or name another one by --endpoint",
        };
        unreachable(format!("no node answers on {path} ({error}); {advice}"))
    }
}

fn socket_of_endpoint(endpoint: &str) -> Result<PathBuf, Failure> {
    if let Some(path) = endpoint.strip_prefix(ADMIN_SCHEME) {
        return match path.starts_with('/') {
            true => Ok(PathBuf::from(path)),
            false => Err(Failure::usage(format!(
                "--endpoint {endpoint}: write unix:///PATH with an absolute path"
            ))),
        };
    }
    let path = endpoint.strip_prefix("file://").unwrap_or(endpoint);
    if path.is_empty() || path.contains("://") {
        let allowed = "unix:///PATH of the admin socket, or the path of an endpoints.json";
        return Err(Failure::usage(format!("--endpoint {endpoint:?} is not understood; give {allowed}")));
    }
    let path = Path::new(path);
    let file = if path.is_dir() { path.join("endpoints.json") } else { path.to_path_buf() };
    socket_of_file(&file, "start the node with `ovs up`, or correct --endpoint")
}

fn socket_of_file(file: &Path, advice: &str) -> Result<PathBuf, Failure> {
    socket_of_endpoint(&endpoints_of_file(file, advice)?.admin)
}

/// What an `endpoints.json` says; `advice` is for the case that it says nothing.
pub(crate) fn endpoints_of_file(file: &Path, advice: &str) -> Result<Endpoints, Failure> {
    let content = match read_file(file) {
        Ok(Some(content)) => content,
        Ok(None) => {
            let place = file.parent().unwrap_or(file).display();
            return Err(unreachable(format!(
                "no node runs on {place}: there is no endpoints.json; {advice}"
            )));
        }
        Err(error) => {
            return Err(unreachable(format!("{} cannot be read: {error}; {advice}", file.display())));
        }
    };
    serde_json::from_slice(&content)
        .map_err(|error| unreachable(format!("{} is no endpoints.json: {error}; {advice}", file.display())))
}

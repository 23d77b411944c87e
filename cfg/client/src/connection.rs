//! One connection at a time to one of several endpoints, and what its failures mean.

use std::error::Error as _;
use std::fs;
use std::path::Path;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use crate::url::{TlsFiles, refused};
use crate::{Error, Options, StoreUrl};

/// The endpoints, and the connection to one of them.
#[derive(Debug)]
pub(crate) struct Connections {
    endpoints: Vec<Endpoint>,
    names: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The endpoint that is connected, or is tried next.
    current: usize,
    /// Counts connections.
    number: u64,
    channel: Option<Channel>,
}

/// A connection, with its number and its endpoint's name.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    number: u64,
    pub(crate) name: String,
}

/// How one attempt failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Nothing was sent: even a write can go elsewhere.
    NotSent(String),
    /// As `NotSent`, but it was no accident: a certificate or the like.
    NotTrusted(String),
    /// Whether the request was carried out is not known. A read can go elsewhere.
    Lost(String),
    /// The store has answered.
    Answered(Error),
}

impl Connections {
    pub(crate) fn new(url: &StoreUrl, options: &Options) -> Result<Connections, Error> {
        let tls = url.tls.as_ref().map(|files| tls_config(url, files)).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = |name: &String| {
            let not_usable = |error: tonic::transport::Error| {
                refused(&url.to_string(), &format!("{name}: {}", chain(&error)))
            };
            let endpoint = Endpoint::from_shared(format!("{scheme}://{name}")).map_err(not_usable)?;
            let endpoint = match &tls {
                Some(tls) => endpoint.tls_config(tls.clone()).map_err(not_usable)?,
                None => endpoint,
            };
            Ok(endpoint
                .connect_timeout(options.connect_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(options.keep_alive_interval)
                .keep_alive_timeout(options.keep_alive_timeout)
                .keep_alive_while_idle(true))
        };
        let endpoints = url.endpoints.iter().map(endpoint).collect::<Result<_, Error>>()?;
        Ok(Connections { endpoints, names: url.endpoints.clone(), state: Mutex::default() })
    }

    /// Number of endpoints.
    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// The open connection, or a new one to the endpoint that is next.
    pub(crate) async fn get(&self, options: &Options) -> Result<Connection, Failed> {
        let mut state = self.state.lock().await;
        let name = self.names[state.current].clone();
        if let Some(channel) = &state.channel {
            return Ok(Connection { channel: channel.clone(), number: state.number, name });
        }
        // The endpoint's own timeout does not cover the TLS handshake.
        let problem = match timeout(options.connect_timeout, self.endpoints[state.current].connect()).await {
            Ok(Ok(channel)) => {
                state.number += 1;
                state.channel = Some(channel.clone());
                return Ok(Connection { channel, number: state.number, name });
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no connection within {:?}", options.connect_timeout),
        };
        state.current = (state.current + 1) % self.endpoints.len();
        let untrusted = about_certificates(&problem);
        let problem = format!("{name}: {problem}");
        Err(if untrusted { Failed::NotTrusted(problem) } else { Failed::NotSent(problem) })
    }

    /// Gives a connection up; the next one goes to the next endpoint. One that was given up already is not counted
    /// twice.
    pub(crate) async fn give_up(&self, connection: &Connection) {
        let mut state = self.state.lock().await;
        if state.number == connection.number && state.channel.take().is_some() {
            state.current = (state.current + 1) % self.endpoints.len();
        }
    }
}

fn tls_config(url: &StoreUrl, files: &TlsFiles) -> Result<ClientTlsConfig, Error> {
    let read = |path: &Path| {
        fs::read(path).map_err(|error| refused(&url.to_string(), &format!("{}: {error}", path.display())))
    };
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&files.ca_certificate)?));
    Ok(match &files.identity {
        Some((certificate, key)) => config.identity(Identity::from_pem(read(certificate)?, read(key)?)),
        None => config,
    })
}

/// What is behind a status that is no success. `at` names the endpoint.
pub(crate) fn failed(at: &str, status: &Status) -> Failed {
    let text = match status.source() {
        Some(source) => chain(source),
        None => status.message().to_owned(),
    };
    let problem = format!("{at}: {text}");
    // What the transport reports has a source or names its protocol; what the store says has neither.
    if status.source().is_some() || text.starts_with("h2 protocol error") {
        return match about_certificates(&text) {
            true => Failed::Answered(Error::Denied { place: at.to_owned(), problem: text }),
            false => Failed::Lost(problem),
        };
    }
    let answer = match status.code() {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::Aborted
        | Code::DataLoss
        | Code::Ok => return Failed::Lost(problem),
        // Said before anything is begun.
        Code::ResourceExhausted if text.contains("too many requests") => return Failed::NotSent(problem),
        Code::PermissionDenied | Code::Unauthenticated => {
            Error::Denied { place: at.to_owned(), problem: text }
        }
        Code::InvalidArgument if about_rights(&text) => Error::Denied { place: at.to_owned(), problem: text },
        Code::OutOfRange if text.contains("compacted") => Error::Compacted,
        Code::OutOfRange | Code::ResourceExhausted if text.contains("message") && text.contains("large") => {
            Error::TooLarge { place: "an answer".to_owned(), problem: text }
        }
        Code::InvalidArgument | Code::ResourceExhausted
            if text.contains("too large")
                || text.contains("larger than max")
                || text.contains("too many operations") =>
        {
            Error::TooLarge { place: "the request".to_owned(), problem: text }
        }
        Code::NotFound if text.contains("lease") => Error::Absent { place: "the lease".to_owned() },
        _ => Error::Refused { problem: text },
    };
    Failed::Answered(answer)
}

/// Whether the store speaks of missing rights: a request without a user is an invalid argument to it, and a watch that
/// is not allowed is cancelled with words alone.
pub(crate) fn about_rights(text: &str) -> bool {
    ["permission denied", "user name is empty", "invalid auth token"].iter().any(|part| text.contains(part))
}

/// TLS speaks of certificates when it is they that are wrong.
fn about_certificates(text: &str) -> bool {
    text.to_ascii_lowercase().contains("certificate")
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

//! The URL forms that name a configuration.

use std::ffi::OsString;
use std::fmt;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::{Error, KeyPath};

/// The port of an endpoint that names none.
const DEFAULT_PORT: u16 = 2379;

/// Most endpoints of one URL.
const ENDPOINT_LIMIT: usize = 32;

/// Where a store is, and the path in it: `etcd://host:port,host:port/path?cacert=FILE&cert=FILE&key=FILE`.
///
/// The port is 2379 if none is given. With `cacert` (PEM) the connection is TLS and the servers must show a
/// certificate of that authority; `cert` and `key` (PEM) are shown to them. Path and files are percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    /// `host:port`, at least one, in the order given; IPv6 addresses in brackets.
    pub endpoints: Vec<String>,
    /// The path; keys are below it.
    pub path: KeyPath,
    /// The files of a TLS connection; `None`: plain TCP.
    pub tls: Option<TlsFiles>,
}

/// The PEM files of a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that signed the servers' certificates.
    pub ca_certificate: PathBuf,
    /// Our own certificate and its key, if the servers want one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl StoreUrl {
    /// Reads an `etcd://` URL.
    ///
    /// # Errors
    /// [`Error::Url`] with what is wrong.
    pub fn parse(url: &str) -> Result<StoreUrl, Error> {
        match scheme(url)? {
            ("etcd", rest) => StoreUrl::parse_rest(url, rest),
            (scheme, _) => Err(refused(url, &format!("{scheme}:// names no store; use etcd://HOST:PORT"))),
        }
    }

    /// `rest` is what follows `etcd://`.
    pub(crate) fn parse_rest(url: &str, rest: &str) -> Result<StoreUrl, Error> {
        if rest.contains('#') {
            return Err(refused(url, "an etcd URL takes no fragment; write # as %23"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err(refused(
                url,
                "an etcd URL takes no user and password; show a certificate by cert= and key=",
            ));
        }
        let endpoints: Vec<String> =
            authority.split(',').map(|endpoint| host_and_port(url, endpoint)).collect::<Result<_, _>>()?;
        if endpoints.len() > ENDPOINT_LIMIT {
            return Err(refused(url, &format!("has more than {ENDPOINT_LIMIT} endpoints")));
        }
        let path = decode_text(url, path)?;
        let trimmed = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(&path);
        let path = KeyPath::parse(trimmed).map_err(|error| refused(url, &error.to_string()))?;
        Ok(StoreUrl { endpoints, path, tls: tls_files(url, query)? })
    }
}

impl fmt::Display for StoreUrl {
    /// The endpoints, as messages name the store.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoints.join(","))
    }
}

fn host_and_port(url: &str, endpoint: &str) -> Result<String, Error> {
    let problem = |what: &str| refused(url, &format!("endpoint {endpoint:?} {what}"));
    let (host, port) = if let Some(rest) = endpoint.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or_else(|| problem("lacks its ]"))?;
        address.parse::<Ipv6Addr>().map_err(|_| problem("has no IPv6 address in its brackets"))?;
        (format!("[{address}]"), port)
    } else {
        let at = endpoint.find(':').unwrap_or(endpoint.len());
        (endpoint[..at].to_owned(), &endpoint[at..])
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() || !(host.starts_with('[') || host.bytes().all(plain)) {
        return Err(problem("is no HOST:PORT; an IPv6 address stands in brackets"));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => DEFAULT_PORT,
        None => return Err(problem("has something behind its bracket that is no :PORT")),
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(problem("has no port from 1 to 65535")),
        },
    };
    Ok(format!("{host}:{port}"))
}

fn tls_files(url: &str, query: &str) -> Result<Option<TlsFiles>, Error> {
    let (mut ca_certificate, mut certificate, mut key) = (None, None, None);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let slot = match name {
            "cacert" => &mut ca_certificate,
            "cert" => &mut certificate,
            "key" => &mut key,
            _ => return Err(refused(url, &format!("{name:?} is not known; there are cacert, cert and key"))),
        };
        let value = decode_text(url, value)?;
        if value.is_empty() {
            return Err(refused(url, &format!("{name} needs the path of a PEM file")));
        }
        if slot.replace(PathBuf::from(value)).is_some() {
            return Err(refused(url, &format!("{name} is given twice")));
        }
    }
    match (ca_certificate, certificate, key) {
        (None, None, None) => Ok(None),
        (None, ..) => Err(refused(url, "cert and key need cacert, the authority of the servers")),
        (Some(ca_certificate), None, None) => Ok(Some(TlsFiles { ca_certificate, identity: None })),
        (Some(ca_certificate), Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { ca_certificate, identity: Some((certificate, key)) }))
        }
        _ => Err(refused(url, "cert and key go together")),
    }
}

pub(crate) fn refused(url: &str, problem: &str) -> Error {
    Error::Url { url: url.to_owned(), problem: problem.to_owned() }
}

/// Splits off the scheme.
pub(crate) fn scheme(url: &str) -> Result<(&str, &str), Error> {
    url.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).ok_or_else(|| {
        refused(url, "is no URL; use etcd://HOST:PORT/PATH, or file:///DIR with an absolute path")
    })
}

/// The path of a `file` URL; `rest` is what follows `file://`.
pub(crate) fn file_path(url: &str, rest: &str) -> Result<PathBuf, Error> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(refused(url, "a file URL has three slashes and an absolute path: file:///DIR"));
    }
    if path.contains(['?', '#']) {
        return Err(refused(url, "a file URL takes no query and no fragment; write ? as %3F and # as %23"));
    }
    let bytes = decode(url, path)?;
    if bytes.contains(&0) {
        return Err(refused(url, "a path cannot contain %00"));
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

fn decode_text(url: &str, text: &str) -> Result<String, Error> {
    String::from_utf8(decode(url, text)?).map_err(|_| refused(url, "is not UTF-8 when it is decoded"))
}

fn decode(url: &str, text: &str) -> Result<Vec<u8>, Error> {
    percent_decode(text).ok_or_else(|| refused(url, "% must be followed by two hexadecimal digits"))
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_endpoints_path_and_files() {
        let url = StoreUrl::parse("etcd://a:1,b,[::1]:7/ovs/x%20y/?cacert=/c%26a.pem&cert=c.pem&key=k.pem")
            .unwrap();
        assert_eq!(url.endpoints, ["a:1", "b:2379", "[::1]:7"]);
        assert_eq!(url.path.as_str(), "/ovs/x y");
        let tls = url.tls.unwrap();
        assert_eq!(tls.ca_certificate, PathBuf::from("/c&a.pem"));
        assert_eq!(tls.identity, Some(("c.pem".into(), "k.pem".into())));
        for root in ["etcd://a", "etcd://a/"] {
            let url = StoreUrl::parse(root).unwrap();
            assert_eq!((url.path.as_str(), url.tls), ("/", None));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, problem) in [
            ("a:1/x", "is no URL"),
            ("http://a", "names no store"),
            ("etcd://", "is no HOST:PORT"),
            ("etcd://a,,b", "is no HOST:PORT"),
            ("etcd://::1", "is no HOST:PORT"),
            ("etcd://[::1", "lacks its ]"),
            ("etcd://[x]:1", "no IPv6 address"),
            ("etcd://[::1]1", "no :PORT"),
            ("etcd://a:0", "port from 1 to 65535"),
            ("etcd://a:65536", "port from 1 to 65535"),
            ("etcd://u:p@a", "no user and password"),
            ("etcd://a b", "is no HOST:PORT"),
            ("etcd://a/x#y", "no fragment"),
            ("etcd://a/%4", "two hexadecimal digits"),
            ("etcd://a/%ff", "not UTF-8"),
            ("etcd://a//x", "empty"),
            ("etcd://a/../x", ". or .."),
            ("etcd://a?ca=x", "is not known"),
            ("etcd://a?cacert=", "needs the path"),
            ("etcd://a?cacert=a&cacert=b", "given twice"),
            ("etcd://a?cacert=a&cert=b", "go together"),
            ("etcd://a?cert=a&key=b", "need cacert"),
        ] {
            let error = StoreUrl::parse(url).expect_err(url).to_string();
            assert!(error.contains(problem), "{url}: {error}");
        }
        let many = format!("etcd://{}", vec!["a"; 33].join(","));
        assert!(StoreUrl::parse(&many).unwrap_err().to_string().contains("more than 32"));
    }
}

//! TLS of clients and members. Certificates are read again when their files change, so that they can be renewed while
//! everything runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate that is shown, with those between it and the authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities of the other side. Whoever connects must show a certificate of one of them; without it anybody may
    /// connect.
    pub ca: Option<PathBuf>,
}

/// When the files were written, and how long they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<(Option<SystemTime>, u64)>);

impl TlsFiles {
    /// Changes when a file does.
    pub(crate) fn stamp(&self) -> Stamp {
        let of = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok();
            (metadata.as_ref().and_then(|file| file.modified().ok()), metadata.map_or(0, |file| file.len()))
        };
        Stamp([Some(&self.cert), Some(&self.key), self.ca.as_ref()].into_iter().flatten().map(of).collect())
    }

    /// What those who connect are met with.
    ///
    /// # Errors
    /// Which file cannot be used.
    fn server_config(&self, protocols: &[&str]) -> io::Result<ServerConfig> {
        let provider = Arc::new(crypto::ring::default_provider());
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| odd(&self.key, &error))?;
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder =
            builder.with_safe_default_protocol_versions().map_err(|error| odd(&self.cert, &error))?;
        let builder = match &self.ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(ca)? {
                    roots.add(certificate).map_err(|error| odd(ca, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| odd(ca, &error))?)
            }
        };
        let config = builder.with_single_cert(certificates(&self.cert)?, key);
        let mut config = config.map_err(|error| odd(&self.cert, &error))?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }

    /// How this side connects.
    ///
    /// # Errors
    /// Which file cannot be used.
    pub(crate) fn client_config(&self) -> io::Result<ClientTlsConfig> {
        let read = |path: &Path| fs::read(path).map_err(|error| odd(path, &error));
        let config = ClientTlsConfig::new().identity(Identity::from_pem(read(&self.cert)?, read(&self.key)?));
        Ok(match &self.ca {
            Some(ca) => config.ca_certificate(Certificate::from_pem(read(ca)?)),
            None => config,
        })
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| odd(path, &error))?.collect();
    let found = found.map_err(|error| odd(path, &error))?;
    if found.is_empty() {
        return Err(odd(path, &"it holds no certificate"));
    }
    Ok(found)
}

fn odd(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}

/// The configuration for those who connect, as the files are now.
#[derive(Debug)]
pub struct Acceptor {
    files: TlsFiles,
    protocols: &'static [&'static str],
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Acceptor {
    /// Reads the files. `protocols` are those that are offered, the preferred one first, by the names of ALPN.
    ///
    /// # Errors
    /// Which file cannot be used.
    pub fn new(files: TlsFiles, protocols: &'static [&'static str]) -> io::Result<Self> {
        let (stamp, config) = (files.stamp(), Arc::new(files.server_config(protocols)?));
        Ok(Self { files, protocols, current: Mutex::new((stamp, config)) })
    }

    /// For the next one who connects. Files that changed and cannot be used leave it as it was.
    pub fn config(&self) -> Arc<ServerConfig> {
        let stamp = self.files.stamp();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != stamp {
            match self.files.server_config(self.protocols) {
                Ok(config) => {
                    tracing::info!(cert = %self.files.cert.display(), "certificates were read again");
                    current.1 = Arc::new(config);
                }
                Err(error) => {
                    tracing::error!(%error, "changed certificates cannot be used; the old ones stay")
                }
            }
            current.0 = stamp;
        }
        current.1.clone()
    }
}

//! Certificates for tests that speak TLS.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// An authority, and where its certificates are.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, whose files are in a new folder.
    pub fn new(folder: &Path) -> Authority {
        fs::create_dir_all(folder).expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Python 3.13 wants what RFC 5280 says, to the letter.
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        fs::write(folder.join("ca.pem"), certificate.pem()).expect("written");
        Authority { folder: folder.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate for this machine; gives the files of certificate and key.
    pub fn sign(&self, name: &str) -> [String; 2] {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("parameters");
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let [cert, file] = ["pem", "key"].map(|kind| self.folder.join(format!("{name}.{kind}")));
        fs::write(&cert, certificate.pem()).expect("written");
        fs::write(&file, key.serialize_pem()).expect("written");
        [cert, file].map(|path| path.to_str().expect("a name").to_owned())
    }

    /// The file of its own certificate.
    pub fn ca(&self) -> String {
        self.folder.join("ca.pem").to_str().expect("a name").to_owned()
    }
}

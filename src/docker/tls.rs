//! TLS to an engine, with the files that the Docker command line reads: `ca.pem`, and of the client's own `cert.pem` and `key.pem`.
//!
//! <https://docs.docker.com/engine/security/protect-access/#use-tls-https-to-protect-the-docker-daemon-socket>

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// How an engine wants to be spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    /// Where the files are.
    pub(super) folder: PathBuf,
    /// Is the engine to prove who it is?
    pub(super) verify: bool,
}

/// What a connection is made with; else why there is none.
pub(super) fn config(tls: &Tls) -> Result<Arc<ClientConfig>, String> {
    if !tls.verify {
        return Err("nobody would check who answers, and builds carry secrets; have it verified (DOCKER_TLS_VERIFY=1)".to_owned());
    }
    let file = |name: &str| tls.folder.join(name);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&file("ca.pem"))? {
        roots.add(certificate).map_err(|error| format!("`{}`: {error}", file("ca.pem").display()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = builder.with_root_certificates(roots);
    // An engine may ask for no client's certificate.
    if !file("cert.pem").exists() && !file("key.pem").exists() {
        return Ok(Arc::new(builder.with_no_client_auth()));
    }
    let key = file("key.pem");
    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| format!("`{}`: {error}", key.display()))?;
    let own = certificates(&file("cert.pem"))?;
    builder.with_client_auth_cert(own, secret).map(Arc::new).map_err(|error| format!("`{}`: {error}", file("cert.pem").display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| unusable(&error))?;
    if found.is_empty() { Err(unusable(&"there is no certificate in it")) } else { Ok(found) }
}

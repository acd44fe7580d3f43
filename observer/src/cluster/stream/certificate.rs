//! The hub's certificate: read from files, and again when they change.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

use crate::listen::Acceptor;

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those that lead to the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The current certificate.
pub struct Certificate {
    files: Files,
    current: Mutex<Current>,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No such file, or nothing of that kind in it.
    #[error("cannot read {path} (it must be PEM): {cause}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: rustls_pki_types::pem::Error,
    },
    /// An empty one.
    #[error("{0} has no certificate")]
    Empty(PathBuf),
    /// They do not belong together, or are of a kind that is not supported.
    #[error("the certificate in {path} cannot be used with its key: {cause}")]
    Unusable {
        /// Of the certificate.
        path: PathBuf,
        /// Why.
        cause: rustls::Error,
    },
}

struct Current {
    acceptor: TlsAcceptor,
    /// Length and time of both files as they were read.
    seen: [Option<(u64, SystemTime)>; 2],
    looked: Instant,
}

/// How long the files are not looked at again.
const PAUSE: Duration = Duration::from_secs(5);

// === impl Certificate ===

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or not be used.
    pub fn read(files: Files) -> Result<Self, CertificateError> {
        // Looked at first: what is written while we read is read again.
        let seen = files.seen();
        let current = Current {
            acceptor: files.acceptor()?,
            seen,
            looked: Instant::now(),
        };
        Ok(Self {
            files,
            current: Mutex::new(current),
        })
    }

    /// What connections are accepted with, each with what the files are then.
    pub fn into_acceptor(self) -> Acceptor {
        Box::new(move || self.acceptor())
    }

    /// What to accept a connection with now.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor_at(Instant::now())
    }

    fn acceptor_at(&self, now: Instant) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(current.looked) >= PAUSE {
            current.looked = now;
            let seen = self.files.seen();
            if seen != current.seen {
                match self.files.acceptor() {
                    Ok(acceptor) => {
                        tracing::info!(file = %self.files.certificate.display(), "new certificate");
                        current.acceptor = acceptor;
                        current.seen = seen;
                    }
                    // Certificate and key are not written at once: the next look may find both.
                    Err(error) => tracing::warn!(%error, "the certificate stays as it was"),
                }
            }
        }
        current.acceptor.clone()
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Certificate")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

// === impl Files ===

impl Files {
    fn seen(&self) -> [Option<(u64, SystemTime)>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        })
    }

    fn acceptor(&self) -> Result<TlsAcceptor, CertificateError> {
        let certificates = read_certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|cause| CertificateError::unreadable(&self.key, cause))?;
        let unusable = |cause| CertificateError::Unusable {
            path: self.certificate.clone(),
            cause,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// All certificates in a file in PEM.
pub(super) fn read_certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unreadable = |cause| CertificateError::unreadable(path, cause);
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(CertificateError::Empty(path.to_owned()));
    }
    Ok(certificates)
}

// === impl CertificateError ===

impl CertificateError {
    fn unreadable(path: &Path, cause: rustls_pki_types::pem::Error) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            cause,
        }
    }
}

#[cfg(test)]
mod tests;

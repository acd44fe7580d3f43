//! TLS to a collector: its authorities, and a certificate of our own, read again when they change.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _};
use tokio_rustls::TlsConnector;

use crate::config::OtlpTls;

/// What connections are made with, from the files as they were.
pub(super) struct Tls {
    files: OtlpTls,
    /// What is offered by ALPN.
    protocol: &'static [u8],
    connector: TlsConnector,
    /// Length and time of each file when it was read.
    seen: Seen,
    looked: Instant,
}

/// Files of TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// No such file, or nothing of that kind in it.
    #[error("cannot read {path} (it must be PEM): {cause}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: pem::Error,
    },
    /// An empty one.
    #[error("{0} has no certificate")]
    Empty(PathBuf),
    /// The machine, or the image, has no certificates of authorities.
    #[error("this system has no certificates of authorities: name a file by otlp.tls.ca")]
    NoAuthorities,
    /// They do not belong together, or are of a kind that is not supported.
    #[error("cannot use {path} for TLS: {cause}")]
    Unusable {
        /// Of the certificate.
        path: PathBuf,
        /// Why.
        cause: rustls::Error,
    },
    /// Whoever was to read them is gone.
    #[error("cannot read the files of TLS: shutting down")]
    Stopped,
}

type Seen = [Option<(u64, SystemTime)>; 3];

/// How long the files are not looked at again.
const PAUSE: Duration = Duration::from_secs(5);

// === impl Tls ===

impl Tls {
    /// Reads the files, where reading may take its time.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or not be used.
    pub(super) async fn read(files: OtlpTls, protocol: &'static [u8]) -> Result<Self, TlsError> {
        // The authorities of a system are many.
        tokio::task::spawn_blocking(move || Self::read_now(files, protocol))
            .await
            .map_err(|_| TlsError::Stopped)?
    }

    fn read_now(files: OtlpTls, protocol: &'static [u8]) -> Result<Self, TlsError> {
        // Looked at first: what is written while we read is read again.
        let seen = seen(&files);
        let mut config = config(&files)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            files,
            protocol,
            seen,
            looked: Instant::now(),
        })
    }

    pub(super) const fn connector(&self) -> &TlsConnector {
        &self.connector
    }

    /// Whether there was something new in the files, which is used from now on.
    pub(super) async fn renew(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.looked) < PAUSE {
            return false;
        }
        self.looked = now;
        if seen(&self.files) == self.seen {
            return false;
        }
        match Self::read(self.files.clone(), self.protocol).await {
            Ok(new) => {
                *self = new;
                true
            }
            // Certificate and key are not written at once: the next look may find both.
            Err(error) => {
                tracing::warn!(%error, "OTLP goes on with the certificates from before");
                false
            }
        }
    }
}

fn seen(files: &OtlpTls) -> Seen {
    let OtlpTls {
        ca,
        certificate,
        key,
    } = files;
    [ca, certificate, key].map(|path| {
        let metadata = fs::metadata(path.as_ref()?).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    })
}

fn config(files: &OtlpTls) -> Result<ClientConfig, TlsError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |cause| TlsError::Unusable { path, cause }
    };
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(unusable(path))?;
            }
        }
        None => {
            // Some that cannot be read are no reason to do without the others.
            let found = rustls_native_certs::load_native_certs().certs;
            if roots.add_parsable_certificates(found).0 == 0 {
                return Err(TlsError::NoAuthorities);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable(Path::new("TLS")))?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&files.certificate, &files.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|cause| TlsError::Unreadable {
        path: key.clone(),
        cause,
    })?;
    builder
        .with_client_auth_cert(certificates(certificate)?, private)
        .map_err(unusable(certificate))
}

/// All certificates in a file in PEM.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |cause| TlsError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(path.to_owned()));
    }
    Ok(certificates)
}

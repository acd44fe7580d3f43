//! Certificates of a test's own authority, made by openssl(1).

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process;

/// An authority, with the certificates that it has signed; gone when dropped.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

/// Files of a certificate and of its key, in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

// === impl Authority ===

impl Authority {
    /// A new authority.
    pub fn create() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let authority = Self { folder };
        let Pair { certificate, key } = authority.pair("authority");
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            "/O=tests/CN=authority",
        ]);
        command.args(NEW_KEY);
        command.arg("-keyout").arg(key).arg("-out").arg(certificate);
        process::check(&mut command)?;
        Ok(authority)
    }

    /// A certificate for `name`, with these entries of `subjectAltName`, such as `DNS:a.test`.
    pub fn sign(&self, name: &str, alternatives: &[&str]) -> Result<Pair> {
        let (pair, own) = (self.pair(name), self.pair("authority"));
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            &format!("/CN={name}"),
        ]);
        command.args(NEW_KEY);
        command
            .arg("-CA")
            .arg(own.certificate)
            .arg("-CAkey")
            .arg(own.key);
        let names = format!("subjectAltName={}", alternatives.join(","));
        command.args([
            "-addext",
            &names,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]);
        command
            .arg("-keyout")
            .arg(&pair.key)
            .arg("-out")
            .arg(&pair.certificate);
        process::check(&mut command)?;
        Ok(pair)
    }

    /// The certificate of the authority itself.
    pub fn certificate(&self) -> PathBuf {
        self.pair("authority").certificate
    }

    fn pair(&self, name: &str) -> Pair {
        let file = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        Pair {
            certificate: file("pem"),
            key: file("key"),
        }
    }
}

/// `path` as text; those of tests are always that.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

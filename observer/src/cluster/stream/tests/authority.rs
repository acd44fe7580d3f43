//! An authority and its certificates, made by openssl(1).

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::cluster::stream::certificate::Files;

pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    pub(crate) fn create() -> Self {
        let authority = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        authority.openssl("req -x509 -days 2 -subj /CN=authority -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout authority.key -out authority.crt");
        authority
    }

    /// The certificate that signs the others.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("authority.crt")
    }

    /// A new certificate for this name and 127.0.0.1; it replaces an older one of that name.
    pub(crate) fn sign(&self, name: &str) -> Files {
        let extensions = self.folder.path().join("extensions");
        std::fs::write(
            extensions,
            format!("subjectAltName=DNS:{name},IP:127.0.0.1\n"),
        )
        .unwrap();
        self.openssl(&format!("req -subj /CN={name} -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr"));
        self.openssl(&format!("x509 -req -days 2 -in {name}.csr -CA authority.crt -CAkey authority.key -CAcreateserial -extfile extensions -out {name}.crt"));
        Files {
            certificate: self.folder.path().join(format!("{name}.crt")),
            key: self.folder.path().join(format!("{name}.key")),
        }
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .output()
            .expect("this test needs openssl(1)");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

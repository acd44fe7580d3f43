//! A real API server of Kubernetes with its etcd, in a network namespace of its own: objects are
//! checked, admitted and kept, and no controller and no node does anything with them.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    chart,
    namespace::Namespace,
    process::{self, Process},
    wait,
};

/// A running API server; ended when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    // In the order of their ends: the server before what it keeps its objects in.
    _server: Process,
    _store: Process,
    namespace: Namespace,
    folder: tempfile::TempDir,
}

/// Where the server answers, in its namespace.
const SERVER: &str = "https://127.0.0.1:6443";

/// Where etcd does.
const STORE: &str = "http://127.0.0.1:2379";

/// Who asks: somebody who may do everything.
const TOKEN: &str = "administrator";

/// How long the server may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(90);

/// Folder with `kube-apiserver` and `etcd`: `KUBEBUILDER_ASSETS`, or that of `cargo xtask setup`.
pub fn assets() -> Option<PathBuf> {
    std::env::var_os("KUBEBUILDER_ASSETS")
        .map(PathBuf::from)
        .into_iter()
        .chain([chart::workspace().join("target/tools/kubernetes")])
        .find(|folder| folder.join("kube-apiserver").is_file() && folder.join("etcd").is_file())
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts a server without any object but its own, and waits until it is ready.
    pub fn start() -> Result<Self> {
        let assets = assets().context("kube-apiserver and etcd are not here")?;
        let namespace = Namespace::create("api")?;
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let key = path("accounts.pem");
        process::check(
            Command::new("openssl")
                .args(["genrsa", "-out"])
                .arg(&key)
                .arg("2048"),
        )?;
        let tokens = path("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n"))?;
        let configuration = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{
                "name": "test",
                // It makes its certificate itself.
                "cluster": { "server": SERVER, "insecure-skip-tls-verify": true },
            }],
            "users": [{ "name": "admin", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "admin" } }],
        });
        std::fs::write(path("kubeconfig"), configuration.to_string())?;
        let program = |name: &str| -> Result<Command> {
            let mut command = namespace.command(&assets.join(name).to_string_lossy())?;
            let log = std::fs::File::create(path(&format!("{name}.log")))?;
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log);
            Ok(command)
        };
        let mut etcd = program("etcd")?;
        etcd.arg("--data-dir").arg(path("data"));
        etcd.args([
            "--listen-client-urls",
            STORE,
            "--advertise-client-urls",
            STORE,
        ]);
        // Nothing here outlives a crash.
        etcd.args(["--unsafe-no-fsync", "--log-level", "warn"]);
        let store = Process::spawn(&mut etcd)?;
        let mut server = program("kube-apiserver")?;
        server
            .args(["--etcd-servers", STORE, "--secure-port", "6443"])
            .args(["--bind-address", "127.0.0.1"])
            .args(["--advertise-address", "127.0.0.1"])
            .args(["--endpoint-reconciler-type", "none"])
            .args(["--service-cluster-ip-range", "10.96.0.0/16"])
            .args(["--authorization-mode", "RBAC"])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        for (flag, path) in [
            ("--cert-dir", path("certificates")),
            ("--service-account-key-file", key.clone()),
            ("--service-account-signing-key-file", key),
            ("--token-auth-file", tokens),
        ] {
            server.arg(flag).arg(path);
        }
        let server = Process::spawn(&mut server)?;
        let this = Self {
            _server: server,
            _store: store,
            namespace,
            folder,
        };
        wait::until("the API server is ready", PATIENCE, || {
            Ok(this.kubectl(&["get", "--raw", "/readyz"]).ok())
        })
        .with_context(|| {
            let log = std::fs::read_to_string(this.folder.path().join("kube-apiserver.log"));
            let log = log.unwrap_or_default();
            let start = log.char_indices().rev().nth(3000).map_or(0, |(at, _)| at);
            log[start..].to_owned()
        })?;
        Ok(this)
    }

    /// Where it runs: the server is on 127.0.0.1, port 6443, and says that it is 10.96.0.1 too.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The certificate of the authority that signed the server's.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("certificates/apiserver.crt")
    }

    /// `program` where it reaches the server, as somebody who may do everything.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = self
            .namespace
            .command(&program.as_ref().to_string_lossy())?;
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        Ok(command)
    }

    /// What `kubectl` prints with these arguments.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        process::check(self.command("kubectl")?.args(arguments))
    }

    /// What Helm prints with these arguments.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(chart::helm().context("Helm is not here")?)?;
        process::check(chart::quiet(&mut command).args(arguments))
    }

    /// Writes `objects` to a file and gives it to `kubectl` as the last argument.
    pub fn with_objects(&self, arguments: &[&str], objects: &[Value]) -> Result<String> {
        let file = tempfile::NamedTempFile::new_in(self.folder.path())?;
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        std::fs::write(file.path(), list.to_string())?;
        process::check(
            self.command("kubectl")?
                .args(arguments)
                .arg("--filename")
                .arg(file.path()),
        )
    }
}

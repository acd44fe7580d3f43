//! The real kube-apiserver with an etcd of its own, in a folder that goes with it.
//!
//! `KUBEBUILDER_ASSETS` names the folder with both programs, as it does for other tools.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Cluster, Request,
    accounts::{ADMIN_TOKEN, AUDIENCE},
    client::Client,
    store::SERVICE_NETWORK,
};
use crate::{
    certificates::{Authority, Pair},
    process::{self, Process, Signal},
    wait,
};

/// A real server; gone when dropped.
#[derive(Debug)]
pub struct Real {
    server: Option<Process>,
    /// Ended after the server, which would wait for it.
    etcd: Process,
    admin: Client,
    authority: Authority,
    pair: Pair,
    programs: PathBuf,
    address: SocketAddr,
    store: SocketAddr,
    features: String,
    folder: TempDir,
}

/// How long it may take to be ready on a busy machine.
const START: Duration = Duration::from_secs(90);

/// What goes to the audit log: that a request was received, and who it was from.
const POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
"omitStages": ["ResponseStarted", "ResponseComplete", "Panic"], "rules": [{"level": "Metadata"}]}"#;

/// The folder with `kube-apiserver` and `etcd`, or nothing, with a word why, if there is none. With
/// `OBSERVER_TESTS_REQUIRE=1` that is an error.
pub fn programs() -> Result<Option<PathBuf>> {
    let named = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/kubernetes");
    let folder = named.unwrap_or(own);
    let missing = ["kube-apiserver", "etcd"]
        .into_iter()
        .find(|program| !folder.join(program).is_file());
    let Some(missing) = missing else {
        return Ok(Some(folder));
    };
    let why = format!(
        "{} has no {missing}: run `cargo xtask setup`, or set KUBEBUILDER_ASSETS",
        folder.display()
    );
    if std::env::var("OBSERVER_TESTS_REQUIRE").is_ok_and(|value| value == "1") {
        bail!("{why}");
    }
    eprintln!("not against the real server: {why}");
    Ok(None)
}

// === impl Real ===

impl Real {
    /// Starts one, if this machine has the programs.
    pub fn start() -> Result<Option<Self>> {
        Self::start_with("")
    }

    /// Starts one with these feature gates, such as `WatchList=false`.
    pub fn start_with(features: &str) -> Result<Option<Self>> {
        let Some(programs) = programs()? else {
            return Ok(None);
        };
        // A port that was free may have been taken since; then once more.
        let mut last = None;
        for _ in 0..3 {
            match Self::try_start(&programs, features) {
                Ok(real) => return Ok(Some(real)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("never tried")?)
    }

    fn try_start(programs: &Path, features: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let authority = Authority::create()?;
        let pair = authority.sign("kube-apiserver", &["IP:127.0.0.1", "DNS:localhost"])?;
        let file = |name: &str| folder.path().join(name);
        process::check(
            Command::new("openssl")
                .args(["genrsa", "-out"])
                .arg(file("accounts.key")),
        )?;
        fs::write(
            file("tokens.csv"),
            format!("{ADMIN_TOKEN},admin,admin-uid,\"system:masters\"\n"),
        )?;
        fs::write(file("policy.json"), POLICY)?;
        let [store, peers, address] = ports()?;
        let mut command = Command::new(programs.join("etcd"));
        command
            .arg("--data-dir")
            .arg(file("etcd"))
            .args(["--unsafe-no-fsync", "--log-level", "error"])
            .arg(format!("--listen-client-urls=http://{store}"))
            .arg(format!("--advertise-client-urls=http://{store}"))
            .arg(format!("--listen-peer-urls=http://{peers}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peers}"))
            .arg(format!("--initial-cluster=default=http://{peers}"));
        let etcd = spawn(&mut command, &file("etcd.log"))?;
        let admin = Client::new(address, &authority.certificate(), Some(ADMIN_TOKEN))?;
        let mut real = Self {
            server: None,
            etcd,
            admin,
            authority,
            pair,
            programs: programs.to_owned(),
            address,
            store,
            features: features.to_owned(),
            folder,
        };
        real.run()?;
        Ok(real)
    }

    /// Starts the server and waits until it is ready.
    fn run(&mut self) -> Result<()> {
        let file = |name: &str| self.folder.path().join(name);
        let [high, low] = SERVICE_NETWORK;
        let mut command = Command::new(self.programs.join("kube-apiserver"));
        command
            .arg(format!("--etcd-servers=http://{}", self.store))
            .arg(format!("--bind-address={}", self.address.ip()))
            .arg(format!("--secure-port={}", self.address.port()))
            .arg("--tls-cert-file")
            .arg(&self.pair.certificate)
            .arg("--tls-private-key-file")
            .arg(&self.pair.key)
            .arg("--cert-dir")
            .arg(file("certificates"))
            .arg("--token-auth-file")
            .arg(file("tokens.csv"))
            .arg("--service-account-key-file")
            .arg(file("accounts.key"))
            .arg("--service-account-signing-key-file")
            .arg(file("accounts.key"))
            .arg("--audit-policy-file")
            .arg(file("policy.json"))
            .arg("--audit-log-path")
            .arg(file("audit.log"))
            .arg(format!("--service-account-issuer={AUDIENCE}"))
            .arg(format!("--api-audiences={AUDIENCE}"))
            .arg(format!("--service-cluster-ip-range={high}.{low}.0.0/16"))
            .args([
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--allow-privileged=true",
                "--shutdown-delay-duration=0s",
            ]);
        if !self.features.is_empty() {
            command.arg(format!("--feature-gates={}", self.features));
        }
        let log = file("kube-apiserver.log");
        let mut server = spawn(&mut command, &log)?;
        wait::until("a server that is ready", START, || {
            if let Some(status) = server.ended()? {
                bail!("kube-apiserver ended with {status}: {}", tail(&log));
            }
            let ready = self.admin.get("/readyz");
            Ok(ready.is_ok_and(|answer| answer.code == 200).then_some(()))
        })
        .with_context(|| tail(&log))?;
        // Everything is created in it, so it has to be there.
        wait::until("the default namespace", START, || {
            let found = self.admin.get("/api/v1/namespaces/default")?;
            Ok((found.code == 200).then_some(()))
        })?;
        self.server = Some(server);
        Ok(())
    }

    /// Compacts what etcd keeps, up to now.
    fn compact(&self) -> Result<()> {
        // The version of an empty list is that of etcd.
        let list = self.admin.get("/api/v1/namespaces?limit=1")?.success()?;
        let version = list["metadata"]["resourceVersion"].as_str();
        let version: u64 = version.context("no version")?.parse()?;
        let body = json!({"revision": version, "physical": true}).to_string();
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--data",
            &body,
        ]);
        process::check(curl.arg(format!("http://{}/v3/kv/compaction", self.store)))?;
        Ok(())
    }
}

impl Cluster for Real {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn authority(&self) -> PathBuf {
        self.authority.certificate()
    }

    fn admin(&self) -> &Client {
        &self.admin
    }

    fn requests(&self) -> Result<Vec<Request>> {
        let text = fs::read_to_string(self.folder.path().join("audit.log"))?;
        let mut requests = Vec::new();
        // The last line may not be all there yet.
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let event: Value = serde_json::from_str(line).context("read the audit log")?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let user = text(&event["user"]["username"]);
            if user == "admin" || user == "system:apiserver" {
                continue;
            }
            let (uri, agent) = (text(&event["requestURI"]), text(&event["userAgent"]));
            let mut request = Request::parse("", &uri, &user, &agent);
            request.verb = text(&event["verb"]);
            requests.push(request);
        }
        Ok(requests)
    }

    fn forget(&mut self) -> Result<()> {
        // What the server remembers itself is gone when it begins anew.
        self.compact()?;
        self.stop()?;
        self.start()
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.signal(Signal::Kill)?;
            server.wait(wait::PATIENCE)?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "it is there");
        self.run()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("kube-apiserver stays: {error:#}");
        }
        // It has nothing to save, and takes its time to end properly.
        let killed = self
            .etcd
            .signal(Signal::Kill)
            .and_then(|()| self.etcd.wait(wait::PATIENCE));
        if let Err(error) = killed {
            eprintln!("etcd stays: {error:#}");
        }
    }
}

fn spawn(command: &mut Command, log: &Path) -> Result<Process> {
    let file = File::create(log).with_context(|| format!("make {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    Process::spawn(command)
}

/// Ports of loopback that are free now.
fn ports<const COUNT: usize>() -> Result<[SocketAddr; COUNT]> {
    // All are held until the last is found, so that they differ.
    let mut held = Vec::new();
    let mut found = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); COUNT];
    for address in &mut found {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(found)
}

/// What a log ends with.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

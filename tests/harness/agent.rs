//! The observer under test: started on a cgroup, asked over its own interface, stopped cleanly.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    cgroup::Cgroup,
    flow::{BOTH_SIDES, Expected, Flow},
    http,
    metrics::Metrics,
    namespace::Namespace,
    place,
    process::{self, Process, Signal},
    relay::Relay,
    wait::{self, PATIENCE, SETTLE},
};

/// A running observer.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    address: SocketAddr,
    folder: TempDir,
    /// What leads to it where it is on another network.
    _relay: Option<Relay>,
}

/// How to start an observer.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Content of its configuration file; without, it has none.
    pub configuration: Option<String>,
    /// Program and arguments that start it, such as setpriv(1).
    pub wrapper: Vec<String>,
}

/// Where the observer's binary is: `OBSERVER_BIN`, or the newest build of this workspace.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("OBSERVER_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "OBSERVER_BIN is no file: {}",
            path.display()
        );
        return Ok(path);
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let found = ["release", "debug"].map(|profile| target.join(profile).join("observer"));
    let found = found.into_iter().find(|path| path.is_file());
    found.context("needs the observer: run `cargo xtask build`, or set OBSERVER_BIN")
}

/// Runs the observer with `arguments` to its end.
pub fn run(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    without_settings(command.args(arguments));
    process::run_within(&mut command, PATIENCE)
}

/// Takes variables that would configure an observer out of the environment of `command`.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let name_bytes = name.as_encoded_bytes();
        if name_bytes.starts_with(b"OBSERVER_") || name_bytes.starts_with(b"OTEL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A folder that every user may read, with a copy of the observer in it.
pub fn public_copy() -> Result<(TempDir, PathBuf)> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().context("make a folder")?;
    let everyone = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), everyone.clone())?;
    let copy = folder.path().join("observer");
    fs::copy(binary()?, &copy).context("copy the observer")?;
    fs::set_permissions(&copy, everyone)?;
    Ok((folder, copy))
}

// === impl Agent ===

impl Agent {
    /// Starts an observer of `cgroup` and waits until it is attached.
    pub fn start(cgroup: &Cgroup) -> Result<Self> {
        Self::start_with(cgroup, &Options::default())
    }

    /// As [`Self::start`], with `options`.
    pub fn start_with(cgroup: &Cgroup, options: &Options) -> Result<Self> {
        Self::start_in(None, cgroup, options)
    }

    /// As [`Self::start_with`], on the network of `namespace`.
    pub fn start_in(
        namespace: Option<&Namespace>,
        cgroup: &Cgroup,
        options: &Options,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let mut words = options.wrapper.clone();
        if words.is_empty() {
            words.push(binary()?.display().to_string());
        }
        let mut command = Command::new(&words[0]);
        place::enter(&mut command, None, namespace)?;
        let relay = match namespace {
            Some(_) => Some(Relay::start(None, 0, namespace)?),
            None => None,
        };
        let free = match &relay {
            Some(relay) => relay.address()?,
            None => TcpListener::bind(("127.0.0.1", 0))
                .context("find a free port")?
                .local_addr()?,
        };
        command
            .args(&words[1..])
            .args(["agent", "--listen", &free.to_string(), "--cgroup"]);
        without_settings(command.arg(cgroup.path()));
        if let Some(text) = &options.configuration {
            let path = folder.path().join("observer.yaml");
            fs::write(&path, text).context("write configuration")?;
            command.arg("--config").arg(path);
        }
        let log = File::create(folder.path().join("log")).context("make a log")?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Process::spawn(&mut command)?;
        let mut agent = Self {
            process,
            address: free,
            folder,
            _relay: relay,
        };
        let line = format!("listening on http://{free}");
        wait::until("the observer's address", PATIENCE, || {
            agent.alive()?;
            Ok(agent.log()?.contains(&line).then_some(()))
        })?;
        wait::until("the observer to be ready", PATIENCE, || {
            agent.alive()?;
            let ready = http::get(agent.address, "/readyz");
            Ok(ready
                .is_ok_and(|response| response.status == 200)
                .then_some(()))
        })?;
        Ok(agent)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All that it printed.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.folder.path().join("log")).context("read the observer's log")
    }

    /// Replaces its configuration file and lets it read that.
    pub fn reload(&self, configuration: &str) -> Result<()> {
        let path = self.folder.path().join("observer.yaml");
        fs::write(path, configuration).context("write configuration")?;
        self.process.signal(Signal::HangUp)
    }

    /// Content of `target`, which has to be answered with 200.
    pub fn get(&self, target: &str) -> Result<String> {
        let response = http::get(self.address, target)?;
        ensure!(response.status == 200, "{target}: {}", response.head);
        Ok(response.body)
    }

    /// Its metrics now.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&self.get("/metrics")?)
    }

    /// The flows it still has.
    pub fn flows(&self) -> Result<Vec<Flow>> {
        Flow::parse_lines(&self.get("/api/v1/flows?last=100000")?)
    }

    /// The flows that `wanted` picks, once there are `count` of them; more is an error, also a
    /// moment later.
    pub fn exactly(
        &self,
        count: usize,
        what: &str,
        wanted: impl Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>> {
        let pick = || -> Result<Vec<Flow>> {
            Ok(self
                .flows()?
                .into_iter()
                .filter(|flow| wanted(flow))
                .collect())
        };
        let reached = wait::until(
            what,
            PATIENCE,
            || Ok((pick()?.len() >= count).then_some(())),
        );
        if let Err(error) = reached {
            let found = pick()?;
            let log = self.log()?;
            bail!("{error:#}: {} of {count}: {found:#?}\n{log}", found.len());
        }
        std::thread::sleep(SETTLE);
        let found = pick()?;
        ensure!(
            found.len() == count,
            "{what}: {} instead of {count}: {found:#?}",
            found.len()
        );
        Ok(found)
    }

    /// Checks that the calls `wanted` picks are `expected`, in this order, at both sides.
    pub fn expect_calls(
        &self,
        what: &str,
        expected: &[Expected],
        wanted: impl Fn(&Flow) -> bool,
    ) -> Result<()> {
        for side in BOTH_SIDES {
            let what = format!("{what}, {side} side");
            let calls = self.exactly(expected.len(), &what, |flow| {
                flow.is_call_at(side) && wanted(flow)
            })?;
            for (number, (call, expected)) in calls.iter().zip(expected).enumerate() {
                let outline = call.outline();
                ensure!(
                    outline == *expected,
                    "{what}, call {number}: {outline:?} instead of {expected:?}: {call:?}"
                );
            }
        }
        Ok(())
    }

    /// Waits until the samples called `name` with `labels` sum to `expected`; more is an error,
    /// also a moment later.
    pub fn expect_metric(&self, name: &str, labels: &[(&str, &str)], expected: u64) -> Result<()> {
        let sum = || -> Result<f64> { Ok(self.metrics()?.sum(name, labels)) };
        let expected = expected as f64;
        let reached = wait::until(name, PATIENCE, || Ok((sum()? >= expected).then_some(())));
        if reached.is_ok() {
            std::thread::sleep(SETTLE);
        }
        let found = sum()?;
        ensure!(
            found == expected,
            "{name}{labels:?} is {found} instead of {expected}; lost: {:?}",
            self.metrics()?.losses()
        );
        Ok(())
    }

    /// Checks that nothing was lost up to now.
    pub fn expect_no_loss(&self) -> Result<()> {
        let losses = self.metrics()?.losses();
        ensure!(losses.is_empty(), "lost: {losses:?}");
        Ok(())
    }

    /// Ends it by SIGTERM; it has to exit with 0.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.stop()?;
        ensure!(
            status.success(),
            "the observer ended with {status}: {}",
            self.log()?
        );
        Ok(())
    }

    /// Ends it by SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.process.signal(Signal::Kill)?;
        self.process.wait(PATIENCE).map(drop)
    }

    /// Waits at most `patience` until `wanted` picks a flow.
    pub fn first(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Flow) -> bool,
    ) -> Result<Flow> {
        wait::until(what, patience, || {
            Ok(self.flows()?.into_iter().find(|flow| wanted(flow)))
        })
    }

    fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.process.ended()? {
            bail!("the observer ended with {status}: {}", self.log()?);
        }
        Ok(())
    }
}

//! Real DNS: dnsmasq, a server that fails as it is told, and clients that ask them.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    namespace::Namespace,
    place::Place,
    process::{self, Process},
    server::PYTHON,
    wait::{self, PATIENCE},
};

const RESPONDER: &str = include_str!("resolver/responder.py");
const ASK: &str = include_str!("resolver/ask.py");

/// A server of DNS on port 53.
#[derive(Debug)]
pub struct Resolver {
    process: Process,
    address: Ipv4Addr,
    folder: TempDir,
}

/// What dig(1) says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dug {
    /// `NOERROR` and the like; empty when nothing answered.
    pub status: String,
    /// Data of the records of the answer section, in order.
    pub answers: Vec<String>,
}

// === impl Resolver ===

impl Resolver {
    /// Starts dnsmasq at `place`, which is in `namespace`. It has `records` of its own (its options
    /// such as `host-record=`), sends what it does not know nowhere, and has `many.test` with more
    /// addresses than fit into 512 bytes.
    pub fn dnsmasq(
        place: &Place<'_>,
        namespace: &Namespace,
        address: Ipv4Addr,
        records: &[&str],
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let mut text = format!(
            "port=53\nlisten-address={address}\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\n\
             pid-file\nlocal=/test/\n"
        );
        for record in records {
            text.push_str(record);
            text.push('\n');
        }
        for number in 1..=60 {
            text.push_str(&format!("host-record=many.test,10.99.0.{number}\n"));
        }
        let configuration = folder.path().join("dnsmasq.conf");
        fs::write(&configuration, text)?;
        let file = format!("--conf-file={}", configuration.display());
        let mut command = place.command("dnsmasq")?;
        command.args(["--keep-in-foreground", &file]);
        Self::start(&mut command, namespace, address, folder)
    }

    /// Starts the server that fails as it is told: see `resolver/responder.py`.
    pub fn failing(place: &Place<'_>, namespace: &Namespace, address: Ipv4Addr) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let script = folder.path().join("responder.py");
        fs::write(&script, RESPONDER)?;
        let mut command = place.command(PYTHON)?;
        command.arg(script).arg(address.to_string());
        Self::start(&mut command, namespace, address, folder)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), 53)
    }

    /// Asks it with dig(1), which runs at `place`.
    pub fn dig(&self, place: &Place<'_>, arguments: &[&str]) -> Result<Dug> {
        self.dig_at(place, self.address, arguments)
    }

    /// As [`Self::dig`], at another address.
    pub fn dig_at(&self, place: &Place<'_>, address: Ipv4Addr, arguments: &[&str]) -> Result<Dug> {
        let mut command = place.command("dig")?;
        command
            .arg(format!("@{address}"))
            .args(["+noall", "+comments", "+answer", "+tries=1", "+time=1"])
            .args(arguments);
        // It fails when nothing answers, which may be what is wanted.
        let output = process::run(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text
            .lines()
            .find_map(|line| line.split_once("status: "))
            .and_then(|(_, rest)| rest.split(',').next())
            .unwrap_or_default();
        let answers = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(';'))
            .filter_map(|line| line.split_whitespace().last())
            .map(ToOwned::to_owned)
            .collect();
        Ok(Dug {
            status: status.to_owned(),
            answers,
        })
    }

    /// Asks it for the address of `name` so many times by one and the same question; returns how
    /// many responses came.
    pub fn ask(&self, place: &Place<'_>, name: &str, times: u32) -> Result<u32> {
        self.ask_at(place, self.address, name, times)
    }

    /// As [`Self::ask`], at another address.
    pub fn ask_at(
        &self,
        place: &Place<'_>,
        address: Ipv4Addr,
        name: &str,
        times: u32,
    ) -> Result<u32> {
        let script = self.folder.path().join("ask.py");
        fs::write(&script, ASK)?;
        let mut command = place.command(PYTHON)?;
        command
            .arg(script)
            .args([address.to_string(), name.to_owned(), times.to_string()]);
        let printed = process::check(&mut command)?;
        printed.trim().parse().context("a number of responses")
    }

    /// A command that will run at `place` and ask this server when it looks up a name.
    pub fn command(&self, place: &Place<'_>, program: &str) -> Result<Command> {
        let file = self.folder.path().join("resolv.conf");
        fs::write(&file, format!("nameserver {}\n", self.address))?;
        let mut command = place.command("unshare")?;
        let script = format!(
            "mount --bind {} /etc/resolv.conf && exec \"$@\"",
            file.display()
        );
        command.args(["--mount", "sh", "-c", &script, "sh", program]);
        Ok(command)
    }

    fn start(
        command: &mut Command,
        namespace: &Namespace,
        address: Ipv4Addr,
        folder: TempDir,
    ) -> Result<Self> {
        let log = File::create(folder.path().join("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Process::spawn(command)?;
        let mut resolver = Self {
            process,
            address,
            folder,
        };
        wait::until("a resolver to listen", PATIENCE, || {
            if let Some(status) = resolver.process.ended()? {
                let log = fs::read_to_string(resolver.folder.path().join("log"))?;
                bail!("the resolver ended with {status}: {log}");
            }
            let address = resolver.address();
            namespace.within(|| Ok(TcpStream::connect(address).ok().map(drop)))
        })?;
        Ok(resolver)
    }
}

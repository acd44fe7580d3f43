//! Network namespaces of a test's own, with links between them.

use std::{
    fs::File,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use crate::{place, process};

/// A network namespace with its loopback up; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

/// Connects two namespaces by a veth pair with the addresses `left` and `right`, each with its
/// prefix length. Returns the names of the two devices.
pub fn join(left: (&Namespace, &[&str]), right: (&Namespace, &[&str])) -> Result<(String, String)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let stem = format!("o{:x}v{number:x}", std::process::id());
    let (near, far) = (format!("{stem}a"), format!("{stem}b"));
    let (left_name, right_name) = (&left.0.name, &right.0.name);
    process::check(Command::new("ip").args([
        "link", "add", &near, "netns", left_name, "type", "veth", "peer", "name", &far, "netns",
        right_name,
    ]))?;
    left.0.bring_up(&near, left.1)?;
    right.0.bring_up(&far, right.1)?;
    Ok((near, far))
}

// === impl Namespace ===

impl Namespace {
    /// A new namespace.
    pub fn create(label: &str) -> Result<Self> {
        let name = crate::cgroup::unique(label);
        process::check(Command::new("ip").args(["netns", "add", &name]))?;
        let path = format!("/var/run/netns/{name}");
        let handle = File::open(&path).with_context(|| format!("open {path}"))?;
        let namespace = Self { name, handle };
        namespace.run("ip", &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Gives `device` its addresses and brings it up.
    pub fn bring_up(&self, device: &str, addresses: &[&str]) -> Result<()> {
        for address in addresses {
            // Without duplicate address detection an IPv6 address can be used at once.
            let flags: &[&str] = if address.contains(':') {
                &["nodad"]
            } else {
                &[]
            };
            let add = [&["addr", "add", address, "dev", device], flags].concat();
            self.run("ip", &add)?;
        }
        self.run("ip", &["link", "set", device, "up"])?;
        Ok(())
    }

    /// Runs a command in it that has to succeed, and returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        process::check(self.command(program)?.args(arguments))
    }

    /// A command that will run in this namespace, in the cgroup of the test itself.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(program);
        place::enter(&mut command, None, Some(self))?;
        Ok(command)
    }

    /// Loads a ruleset of nft(8).
    pub fn rules(&self, ruleset: &str) -> Result<()> {
        self.run("nft", &[ruleset]).map(drop)
    }

    /// Sets `net.` parameter `key` (as a path below /proc/sys/net).
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let script = format!("echo {value} > /proc/sys/net/{key}");
        self.run("sh", &["-c", &script]).map(drop)
    }

    /// An open handle of it for setns(2).
    pub fn handle(&self) -> Result<File> {
        self.handle
            .try_clone()
            .context("copy the handle of a namespace")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let delete = process::check(Command::new("ip").args(["netns", "del", &self.name]));
        if let Err(error) = delete {
            eprintln!("network namespace {} stays: {error:#}", self.name);
        }
    }
}

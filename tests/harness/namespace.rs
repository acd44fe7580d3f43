//! Network namespaces of a test's own, with links between them.

use std::{
    fs::File,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{place, process, wait};

/// A network namespace with its loopback up; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

/// A port that nothing listens on (RFC 863).
const DISCARD: u16 = 9;

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
    for address in right.1 {
        let address = address
            .split_once('/')
            .map_or(*address, |(address, _)| address);
        await_path(left.0, address.parse().context("read an address")?)?;
    }
    Ok((near, far))
}

/// Waits until packets from `namespace` reach `address`, where nothing may listen: the kernel
/// brings a link into use with a delay.
pub fn await_path(namespace: &Namespace, address: IpAddr) -> Result<()> {
    let target = SocketAddr::new(address, DISCARD);
    wait::until("a link to carry packets", wait::PATIENCE, || {
        let patience = Duration::from_millis(200);
        let tried = namespace.within(|| Ok(TcpStream::connect_timeout(&target, patience)))?;
        let error = tried.err().map(|error| error.kind());
        Ok(matches!(error, None | Some(ErrorKind::ConnectionRefused)).then_some(()))
    })
    .with_context(|| format!("reach {address}"))
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
        // Also the link-local addresses of devices to come can then be used at once.
        namespace.set("ipv6/conf/default/accept_dad", "0")?;
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

    /// Its name for ip-netns(8).
    pub fn name(&self) -> &str {
        &self.name
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

    /// Runs `work` on a thread of its own in this namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let joined = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: the descriptor is open; only this thread changes its namespace.
                let entered = unsafe { libc::setns(self.handle.as_raw_fd(), libc::CLONE_NEWNET) };
                ensure!(
                    entered == 0,
                    "enter a namespace: {}",
                    io::Error::last_os_error()
                );
                work()
            });
            thread.join()
        });
        joined.map_err(|_| anyhow!("a thread in a namespace died"))?
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

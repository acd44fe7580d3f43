//! Which process holds which socket of TCP or UDP, from `/proc`: for sockets older than the observer.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use hashbrown::HashMap;

use crate::model::time::Monotonic;

use super::process;

/// A socket and one process that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The process.
    pub(super) pid: u32,
    /// Inode of its network namespace; 0 when not readable.
    pub(super) namespace: u64,
    /// Local address of the socket.
    pub(super) local: SocketAddr,
}

/// The sockets as last scanned.
#[derive(Debug)]
pub(super) struct Sockets {
    limit: usize,
    established: HashMap<(SocketAddr, SocketAddr), Vec<Holder>, foldhash::fast::RandomState>,
    listening: HashMap<u16, Vec<Holder>, foldhash::fast::RandomState>,
    /// Sockets of UDP by their local port.
    datagrams: HashMap<u16, Vec<Holder>, foldhash::fast::RandomState>,
    entries: usize,
    scanned: Option<Monotonic>,
    pause: Duration,
    /// Sockets that did not fit.
    pub(super) overflow: u64,
    /// Processes whose descriptors may not be listed.
    pub(super) denied: u64,
}

/// One line of `/proc/net/tcp` or `/proc/net/udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    local: SocketAddr,
    remote: SocketAddr,
    listening: bool,
    datagrams: bool,
    inode: u64,
}

/// Scans are at least this far apart.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// A scan may take at most one part in so many of the time.
const SCAN_SHARE: u32 = 20;

/// Most bytes read of one table: about 400,000 sockets.
const MAX_TABLE: u64 = 64 << 20;

/// State column of a listener (`TCP_LISTEN` of the kernel's `net/tcp_states.h`).
const LISTEN: &str = "0A";

// === impl Sockets ===

impl Sockets {
    /// Nothing yet; keeps at most `limit` pairs of a socket and a process.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            established: HashMap::default(),
            listening: HashMap::default(),
            datagrams: HashMap::default(),
            entries: 0,
            scanned: None,
            pause: SCAN_INTERVAL,
            overflow: 0,
            denied: 0,
        }
    }

    /// Pairs of a socket and a process known.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Holders of the socket of a connection.
    pub(super) fn connection(&self, local: SocketAddr, remote: SocketAddr) -> &[Holder] {
        self.established
            .get(&(local, remote))
            .map_or(&[], Vec::as_slice)
    }

    /// Holders of the listeners that a connection to `local` can come from: those of the exact
    /// address, else those of any address.
    pub(super) fn listeners(&self, local: SocketAddr) -> Vec<Holder> {
        bound(&self.listening, local)
    }

    /// Holders of the sockets of UDP that datagrams to `local` can come to: those of the exact
    /// address, else those of any address.
    pub(super) fn datagrams(&self, local: SocketAddr) -> Vec<Holder> {
        bound(&self.datagrams, local)
    }

    /// Ports that a process listens on.
    pub(super) fn ports_of(&self, pid: u32) -> impl Iterator<Item = u16> {
        self.listening.iter().filter_map(move |(port, holders)| {
            holders
                .iter()
                .any(|holder| holder.pid == pid)
                .then_some(*port)
        })
    }

    /// Reads the tables again unless that was done less than a second ago, or would take more
    /// than a small share of the time. Says whether it did.
    pub(super) fn refresh(&mut self, proc_root: &Path, now: Monotonic) -> bool {
        if self
            .scanned
            .is_some_and(|scanned| now.since(scanned) < self.pause)
        {
            return false;
        }
        self.scanned = Some(now);
        let started = Instant::now();
        self.scan(proc_root);
        self.pause = SCAN_INTERVAL.max(started.elapsed() * SCAN_SHARE);
        true
    }

    /// Reads the tables.
    pub(super) fn scan(&mut self, proc_root: &Path) {
        self.established.clear();
        self.listening.clear();
        self.datagrams.clear();
        self.entries = 0;
        let mut tables: HashMap<u64, HashMap<u64, Line>> = HashMap::new();
        for pid in process::processes(proc_root).unwrap_or_default() {
            let folder = proc_root.join(pid.to_string());
            let descriptors = match std::fs::read_dir(folder.join("fd")) {
                Ok(descriptors) => descriptors,
                Err(error) => {
                    self.denied += u64::from(error.kind() == io::ErrorKind::PermissionDenied);
                    continue;
                }
            };
            let mut inodes: Vec<u64> = descriptors
                .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
                .filter_map(|target| bracketed(target.to_str()?, "socket:"))
                .collect();
            if inodes.is_empty() {
                continue;
            }
            inodes.sort_unstable();
            inodes.dedup();
            let namespace = std::fs::read_link(folder.join("ns/net"))
                .ok()
                .and_then(|target| bracketed(target.to_str()?, "net:"))
                .unwrap_or(0);
            let table = tables
                .entry(namespace)
                .or_insert_with(|| read_tables(&folder));
            for line in inodes.iter().filter_map(|inode| table.get(inode)) {
                self.add(
                    line,
                    Holder {
                        pid,
                        namespace,
                        local: line.local,
                    },
                );
            }
        }
    }

    fn add(&mut self, line: &Line, holder: Holder) {
        if self.entries >= self.limit {
            self.overflow += 1;
            return;
        }
        self.entries += 1;
        if line.datagrams {
            self.datagrams
                .entry(line.local.port())
                .or_default()
                .push(holder);
        } else if line.listening {
            self.listening
                .entry(line.local.port())
                .or_default()
                .push(holder);
        } else {
            self.established
                .entry((line.local, line.remote))
                .or_default()
                .push(holder);
        }
    }
}

/// Those of the exact address, else those of any address.
fn bound(
    sockets: &HashMap<u16, Vec<Holder>, foldhash::fast::RandomState>,
    local: SocketAddr,
) -> Vec<Holder> {
    let all = sockets.get(&local.port()).map_or(&[][..], Vec::as_slice);
    let exact: Vec<Holder> = all
        .iter()
        .filter(|holder| holder.local.ip() == local.ip())
        .copied()
        .collect();
    if exact.is_empty() {
        let any = |holder: &&Holder| holder.local.ip().is_unspecified();
        return all.iter().filter(any).copied().collect();
    }
    exact
}

/// Sockets of TCP and UDP of a process's network namespace, by inode.
fn read_tables(folder: &Path) -> HashMap<u64, Line> {
    [
        ("net/tcp", false),
        ("net/tcp6", false),
        ("net/udp", true),
        ("net/udp6", true),
    ]
    .into_iter()
    .filter_map(|(name, datagrams)| {
        let contents = process::read(&folder.join(name), MAX_TABLE).ok()?;
        Some((contents, datagrams))
    })
    .flat_map(|(contents, datagrams)| {
        let text = String::from_utf8_lossy(&contents);
        let lines = text.lines().skip(1).filter_map(line);
        lines
            .map(|line| Line { datagrams, ..line })
            .collect::<Vec<_>>()
    })
    .map(|line| (line.inode, line))
    .collect()
}

/// `proc_net_tcp` of the kernel's documentation: addresses as words in host order, in hex.
fn line(text: &str) -> Option<Line> {
    let mut fields = text.split_ascii_whitespace();
    let local = address(fields.nth(1)?)?;
    let remote = address(fields.next()?)?;
    let listening = fields.next()? == LISTEN;
    // Queues, timers, retransmits, uid and timeout stand between the state and the inode.
    let inode = fields.nth(5)?.parse().ok()?;
    (inode != 0).then_some(Line {
        local,
        remote,
        listening,
        datagrams: false,
        inode,
    })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// The number of `socket:[123]`.
fn bracketed(text: &str, kind: &str) -> Option<u64> {
    text.strip_prefix(kind)?
        .strip_prefix('[')?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let found = line(
            "   0: 0100007F:1F90 0200A8C0:C350 01 00000000:00000000 00:00000000 00000000  1000 \
             0 4711 1 0000000018e0e2ca 100 0 0 10 0",
        );
        let expected = Line {
            local: "127.0.0.1:8080".parse().unwrap(),
            remote: "192.168.0.2:50000".parse().unwrap(),
            listening: false,
            datagrams: false,
            inode: 4711,
        };
        if cfg!(target_endian = "little") {
            assert_eq!(found, Some(expected));
        }
        let found = line(
            "   1: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A \
             00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0",
        );
        assert_eq!(found.unwrap().local, "[::]:80".parse().unwrap());
        assert!(found.unwrap().listening);
        // Time-wait sockets have no inode, and garbage is nothing.
        for broken in [
            "",
            "0: x y",
            "0: 0100007F:1F90 0100007F:1F90 06 0:0 0:0 0 0 0 0 1",
        ] {
            assert_eq!(line(broken), None, "{broken}");
        }
        let mapped = address("0000000000000000FFFF00000100007F:0050");
        if cfg!(target_endian = "little") {
            assert_eq!(mapped, Some("127.0.0.1:80".parse().unwrap()));
        }
    }

    #[test]
    fn real_sockets_of_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sockets = Sockets::new(100_000);
        assert!(sockets.refresh(Path::new("/proc"), Monotonic(1)));
        let this = std::process::id();
        for stream in [&client, &server] {
            let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let holders = sockets.connection(local, remote);
            assert!(
                holders.iter().any(|holder| holder.pid == this),
                "{holders:?}"
            );
        }
        let address = listener.local_addr().unwrap();
        assert!(
            sockets
                .listeners(address)
                .iter()
                .any(|holder| holder.pid == this)
        );
        let holders = sockets.datagrams(datagrams.local_addr().unwrap());
        assert!(
            holders.iter().any(|holder| holder.pid == this),
            "{holders:?}"
        );
        assert!(sockets.ports_of(this).any(|port| port == address.port()));
        assert!(
            !sockets.refresh(Path::new("/proc"), Monotonic(2)),
            "not twice in a second"
        );
    }

    #[test]
    fn exact_listeners_come_first_and_all_is_bounded() {
        let mut sockets = Sockets::new(2);
        let add = |sockets: &mut Sockets, local: &str, pid| {
            let local = local.parse().unwrap();
            let line = Line {
                local,
                remote: local,
                listening: true,
                datagrams: false,
                inode: 1,
            };
            sockets.add(
                &line,
                Holder {
                    pid,
                    namespace: 1,
                    local,
                },
            );
        };
        add(&mut sockets, "0.0.0.0:80", 1);
        add(&mut sockets, "127.0.0.1:80", 2);
        add(&mut sockets, "0.0.0.0:81", 3);
        assert_eq!((sockets.len(), sockets.overflow), (2, 1));
        let pids = |address: &str| -> Vec<u32> {
            let found = sockets.listeners(address.parse().unwrap());
            found.iter().map(|holder| holder.pid).collect()
        };
        assert_eq!(pids("127.0.0.1:80"), [2]);
        assert_eq!(pids("10.0.0.1:80"), [1]);
        assert_eq!(pids("10.0.0.1:81"), [0_u32; 0]);
    }
}

//! What a node's kernel tells of the addresses that it translates for others.

use std::{
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use observer::host::{Config, Host, translation::Translations};
use observer_tests::{
    cgroup::Cgroup,
    namespace::{self, Namespace},
    node::{Backend, Cluster, Layout, PodSpec, Service},
    place::Place,
    process,
    requirement::{Need, lacking},
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A client and a server, and between them a router that translates addresses: a pod, another, and
/// their node.
struct Routed {
    cgroup: Cgroup,
    client: Namespace,
    node: Namespace,
    server: Namespace,
}

/// Services of the router: 80 of a virtual address is the server's 8080, and who dials 81 of it is
/// masqueraded too. Port 53 is one for datagrams.
const RULES: &str = "\
    table inet services { \
      chain prerouting { type nat hook prerouting priority dstnat; \
        ip daddr 10.96.0.10 tcp dport 80 dnat ip to 10.79.2.2:8080; \
        ip daddr 10.96.0.10 tcp dport 81 meta mark set 81 dnat ip to 10.79.2.2:8080; \
        ip daddr 10.96.0.10 udp dport 53 dnat ip to 10.79.2.2:5353; \
        ip6 daddr fd96::10 tcp dport 80 dnat ip6 to [fd79:2::2]:8080; }; \
      chain postrouting { type nat hook postrouting priority srcnat; \
        meta mark 81 masquerade; }; }";

impl Routed {
    fn create() -> Result<Self> {
        let (client, node) = (Namespace::create("client")?, Namespace::create("node")?);
        let routed = Self {
            cgroup: Cgroup::create("translated")?,
            client,
            node,
            server: Namespace::create("server")?,
        };
        let Self {
            client,
            node,
            server,
            ..
        } = &routed;
        node.set("ipv4/ip_forward", "1")?;
        node.set("ipv6/conf/all/forwarding", "1")?;
        namespace::join(
            (client, &["10.79.1.2/24", "fd79:1::2/64"]),
            (node, &["10.79.1.1/24", "fd79:1::1/64"]),
        )?;
        namespace::join(
            (server, &["10.79.2.2/24", "fd79:2::2/64"]),
            (node, &["10.79.2.1/24", "fd79:2::1/64"]),
        )?;
        for (place, v4, v6) in [
            (client, "10.79.1.1", "fd79:1::1"),
            (server, "10.79.2.1", "fd79:2::1"),
        ] {
            place.run("ip", &["route", "add", "default", "via", v4])?;
            place.run("ip", &["-6", "route", "add", "default", "via", v6])?;
        }
        node.rules(RULES)?;
        Ok(routed)
    }

    /// Connects to `dialled`, is accepted at `listening`, and gives what the client's and the
    /// server's socket see, and what the node tells of each.
    fn connect(&self, listening: &str, dialled: &str) -> Result<Told> {
        let (listening, dialled) = (listening.parse()?, dialled.parse()?);
        let listener = Place::inside(&self.cgroup, &self.server).listen(listening)?;
        let mut stream = Place::inside(&self.cgroup, &self.client).connect(dialled)?;
        let (mut accepted, seen) = listener.accept()?;
        stream.write_all(b"a")?;
        accepted.read_exact(&mut [0])?;
        let (near, far) = (stream.local_addr()?, accepted.local_addr()?);
        self.node.within(|| {
            let mut translations = Translations::open()?;
            Ok(Told {
                near,
                seen,
                answerer: translations.answerer(TCP, near, dialled)?,
                caller: translations.caller(TCP, far, seen)?,
                // Each asked as if it were the other.
                swapped: (
                    translations.answerer(TCP, far, seen)?,
                    translations.caller(TCP, near, dialled)?,
                ),
            })
        })
    }
}

#[derive(Debug)]
struct Told {
    near: SocketAddr,
    seen: SocketAddr,
    answerer: Option<SocketAddr>,
    caller: Option<(SocketAddr, SocketAddr)>,
    swapped: (Option<SocketAddr>, Option<(SocketAddr, SocketAddr)>),
}

fn cannot_run() -> Result<bool> {
    lacking(&[Need::Tool("ip"), Need::Tool("nft")])
}

#[test]
fn who_answers_behind_a_virtual_address_is_told() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let routed = Routed::create()?;
    for (listening, dialled, answers) in [
        ("10.79.2.2:8080", "10.96.0.10:80", "10.79.2.2:8080"),
        ("[fd79:2::2]:8080", "[fd96::10]:80", "[fd79:2::2]:8080"),
    ] {
        let told = routed.connect(listening, dialled)?;
        ensure!(told.answerer == Some(answers.parse()?), "{told:?}");
        ensure!(told.seen == told.near, "{told:?}");
        ensure!(
            told.caller == Some((told.near, dialled.parse()?)),
            "{told:?}"
        );
        ensure!(told.swapped == (None, None), "{told:?}");
    }
    Ok(())
}

#[test]
fn who_is_behind_a_masqueraded_address_is_told() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let routed = Routed::create()?;
    let told = routed.connect("10.79.2.2:8080", "10.96.0.10:81")?;
    ensure!(told.seen.ip().to_string() == "10.79.2.1", "{told:?}");
    ensure!(
        told.caller == Some((told.near, "10.96.0.10:81".parse()?)),
        "{told:?}"
    );
    ensure!(told.answerer == Some("10.79.2.2:8080".parse()?), "{told:?}");
    Ok(())
}

#[test]
fn a_connection_without_translation_tells_nothing() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let routed = Routed::create()?;
    let told = routed.connect("10.79.2.2:8080", "10.79.2.2:8080")?;
    ensure!(
        told.answerer.is_none() && told.caller.is_none() && told.swapped == (None, None),
        "{told:?}"
    );
    // Nor does one that never was, nor what has no ports, nor two families.
    routed.node.within(|| {
        let mut translations = Translations::open()?;
        let (near, far) = ("10.79.1.2:1".parse()?, "10.96.0.10:80".parse()?);
        for protocol in [TCP, UDP, 132, 1] {
            ensure!(translations.answerer(protocol, near, far)?.is_none());
            ensure!(translations.caller(protocol, near, far)?.is_none());
        }
        ensure!(
            translations
                .answerer(TCP, near, "[fd96::10]:80".parse()?)?
                .is_none()
        );
        Ok(())
    })
}

#[test]
fn datagrams_and_mapped_addresses_are_translated_too() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let routed = Routed::create()?;
    let server = routed
        .server
        .within(|| Ok(UdpSocket::bind("10.79.2.2:5353")?))?;
    let client = routed.client.within(|| {
        let client = UdpSocket::bind("[::]:0")?;
        client.connect("[::ffff:10.96.0.10]:53")?;
        Ok(client)
    })?;
    client.send(b"question")?;
    server.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (_, seen) = server.recv_from(&mut [0; 16])?;
    let (near, dialled) = (client.local_addr()?, client.peer_addr()?);
    ensure!(near.is_ipv6() && dialled.is_ipv6(), "{near} {dialled}");
    routed.node.within(|| {
        let mut translations = Translations::open()?;
        let answerer = translations.answerer(UDP, near, dialled)?;
        ensure!(answerer == Some("10.79.2.2:5353".parse()?), "{answerer:?}");
        let caller = translations.caller(UDP, server.local_addr()?, seen)?;
        ensure!(
            caller == Some((seen, "10.96.0.10:53".parse()?)),
            "{caller:?}"
        );
        // The ports are TCP's too, where nobody has dialled them.
        ensure!(translations.answerer(TCP, near, dialled)?.is_none());
        Ok(())
    })
}

#[test]
fn without_rights_the_table_is_closed() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let node = Namespace::create("closed")?;
    let error = node.within(|| {
        process::without_rights(|| Ok(Translations::open().err()))?
            .context("the table is open to everybody")
    })?;
    ensure!(
        error.kind() == std::io::ErrorKind::PermissionDenied,
        "{error:?}"
    );
    node.within(|| Translations::open().map(drop).context("as root"))
}

#[test]
fn many_questions_have_each_their_own_answer() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    const CONNECTIONS: usize = 200;
    let routed = Routed::create()?;
    let listener =
        Place::inside(&routed.cgroup, &routed.server).listen("10.79.2.2:8080".parse()?)?;
    let dialled: SocketAddr = "10.96.0.10:81".parse()?;
    let mut kept = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = Place::inside(&routed.cgroup, &routed.client).connect(dialled)?;
        let (accepted, seen) = listener.accept()?;
        kept.push((stream, accepted, seen));
    }
    routed.node.within(|| {
        let mut translations = Translations::open()?;
        let start = Instant::now();
        for (stream, accepted, seen) in &kept {
            let near = stream.local_addr()?;
            let answerer = translations.answerer(TCP, near, dialled)?;
            ensure!(answerer == Some(accepted.local_addr()?), "{answerer:?}");
            let caller = translations.caller(TCP, accepted.local_addr()?, *seen)?;
            ensure!(caller == Some((near, dialled)), "{caller:?}");
        }
        eprintln!(
            "{:?} a question",
            start.elapsed() / (2 * CONNECTIONS as u32)
        );
        Ok(())
    })
}

/// How often the host lost `reason`.
fn lost(host: &Host, reason: &str) -> u64 {
    let losses = host.losses();
    let found = losses.iter().find(|loss| loss.reason == reason);
    found.map_or(0, |loss| loss.count)
}

#[test]
fn the_host_of_a_pod_tells_which_pod_answered_and_which_called() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let cluster = Cluster::create("told", &[Layout::Containerd, Layout::Containerd])?;
    let client = cluster.node(1).pod(PodSpec::new("default", "client"))?;
    let dialled: SocketAddr = "10.96.0.10:80".parse()?;
    // On the client's node, and on the other.
    for number in [1, 2] {
        let server = cluster
            .node(number)
            .pod(PodSpec::new("default", "server"))?;
        cluster.serve(&[Service {
            addresses: vec![dialled.ip()],
            port: dialled.port(),
            node_port: Some(30080),
            local_only: false,
            backends: vec![Backend {
                pod: &server,
                port: 8080,
            }],
        }])?;
        let listener = server.container("app")?.listen(server.at(8080))?;
        let stream = client.container("app")?.connect(dialled)?;
        let (accepted, seen) = listener.accept()?;
        let near = stream.local_addr()?;
        let far = accepted.local_addr()?;
        cluster.node(1).namespace().within(|| {
            let mut host = Host::new(Config::default());
            let answerer = host.answerer(TCP, near, dialled);
            ensure!(answerer == Some(server.at(8080)), "{answerer:?}");
            // The server's socket is of this host only if it is on this node; the table has both.
            let caller = host.caller(TCP, far, seen);
            ensure!(caller == Some((near, dialled)), "{caller:?}");
            ensure!(lost(&host, "translation_failed") == 0);
            let mut unwanted = Host::new(Config {
                translations: false,
                ..Config::default()
            });
            ensure!(unwanted.answerer(TCP, near, dialled).is_none());
            Ok(())
        })?;
        // The other node has seen only what was translated already.
        cluster.node(2).namespace().within(|| {
            let mut host = Host::new(Config::default());
            ensure!(
                host.answerer(TCP, near, dialled).is_none()
                    && host.caller(TCP, far, seen).is_none()
            );
            ensure!(lost(&host, "translation_failed") == 0);
            Ok(())
        })?;
        // Behind a port of a node is somebody from outside, masqueraded.
        let node_port = SocketAddr::new(cluster.node(number).addresses()[0], 30080);
        let stream = cluster.outside().connect(node_port)?;
        let (accepted, seen) = listener.accept()?;
        let far = accepted.local_addr()?;
        cluster.node(number).namespace().within(|| {
            let caller = Host::new(Config::default()).caller(TCP, far, seen);
            let real = stream.local_addr()?;
            ensure!(caller == Some((real, node_port)), "{caller:?} for {seen}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_host_without_rights_asks_once() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let node = Namespace::create("refused")?;
    let (near, dialled) = ("10.79.1.2:4000".parse()?, "10.96.0.10:80".parse()?);
    node.within(|| {
        process::without_rights(|| {
            let mut host = Host::new(Config::default());
            for _ in 0..100 {
                ensure!(host.answerer(TCP, near, dialled).is_none());
            }
            ensure!(lost(&host, "translation_failed") == 1);
            ensure!(lost(&host, "translation_refused") == 99);
            Ok(())
        })
    })
}

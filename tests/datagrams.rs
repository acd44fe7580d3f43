//! Datagrams are counted as their sockets counted them, and QUIC is recognised.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    flow::Flow,
    namespace::Namespace,
    place::Place,
    process::{self, Process},
    requirement::{Need, lacking},
    server::PYTHON,
};

const EXCHANGE: &str = include_str!("harness/datagrams/exchange.py");
/// A flow is over so soon.
const CONFIGURATION: &str = "udp: {idle: 3s}\n";
/// How long that may take to be told.
const OVER: Duration = Duration::from_secs(15);

/// What passed: datagrams and bytes sent, datagrams and bytes received.
type Counted = [u64; 4];

fn agent(cgroup: &Cgroup) -> Result<Agent> {
    let options = Options {
        configuration: Some(CONFIGURATION.to_owned()),
        ..Options::default()
    };
    Agent::start_with(cgroup, &options)
}

fn traffic(flow: &Flow) -> Result<Counted> {
    Ok([
        flow.integer("sent_packets")?,
        flow.integer("sent_bytes")?,
        flow.integer("received_packets")?,
        flow.integer("received_bytes")?,
    ])
}

#[test]
fn datagrams_are_counted_as_their_sockets_counted_them() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("ip"), Need::Tool(PYTHON)])? {
        return Ok(());
    }
    let (cgroup, namespace) = (Cgroup::create("udp")?, Namespace::create("udp")?);
    let place = Place::inside(&cgroup, &namespace);
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("exchange.py");
    fs::write(&script, EXCHANGE)?;
    let agent = agent(&cgroup)?;
    for (address, port, options) in [
        ("127.0.0.1", 7001, &[][..]),
        ("127.0.0.1", 7002, &["connect"]),
        ("::1", 7003, &[]),
        ("::1", 7004, &["connect"]),
        // Whatever else uses the port of DNS.
        ("127.0.0.1", 53, &["connect"]),
        ("127.0.0.1", 7005, &["segment"]),
        ("::1", 7006, &["connect", "segment"]),
    ] {
        let mut command: Command = place.command(PYTHON)?;
        command
            .arg(&script)
            .args([address, &port.to_string(), "300", &port.to_string()])
            .args(options);
        let printed = process::check(&mut command)?;
        let counted: Vec<u64> = printed
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let counted: Counted = counted.try_into().ok().context("four numbers")?;
        let [sent_packets, sent_bytes, received_packets, received_bytes] = counted;
        let end = |flow: &Flow, own: &str| {
            flow.text("kind") == "datagrams" && flow.text(own).ends_with(&format!(":{port}"))
        };
        let asker = agent.first("the asker", OVER, |flow| end(flow, "remote"))?;
        ensure!(traffic(&asker)? == counted, "{asker:?}: {counted:?}");
        let asked = agent.first("the asked", OVER, |flow| end(flow, "local"))?;
        let mirrored = [received_packets, received_bytes, sent_packets, sent_bytes];
        ensure!(traffic(&asked)? == mirrored, "{asked:?}: {mirrored:?}");
        for flow in [&asker, &asked] {
            ensure!(flow.text("protocol") == "udp", "{flow:?}");
            ensure!(flow.text("service") == "exchange", "{flow:?}");
            ensure!(flow.text("cgroup") == cgroup.relative()?, "{flow:?}");
        }
        let port = port.to_string();
        let labels = [
            ("service_name", "exchange"),
            ("network_peer_address", address),
            ("network_peer_port", &port),
        ];
        for (name, expected) in [
            ("observer_udp_sent_packets_total", sent_packets),
            ("observer_udp_sent_bytes_total", sent_bytes),
            ("observer_udp_received_packets_total", received_packets),
            ("observer_udp_received_bytes_total", received_bytes),
        ] {
            agent.expect_metric(name, &labels, expected)?;
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn every_peer_is_counted_or_counted_as_lost() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("ip"), Need::Tool(PYTHON)])? {
        return Ok(());
    }
    const PEERS: u64 = 5000;
    let (cgroup, namespace) = (Cgroup::create("peers")?, Namespace::create("peers")?);
    let place = Place::inside(&cgroup, &namespace);
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for port in range(1000, 1000 + {PEERS}): s.sendto(b'x', ('127.0.0.1', port))\n"
    );
    for (max_flows, fits) in [(128, false), (16_384, true)] {
        let options = Options {
            configuration: Some(format!("udp: {{max_flows: {max_flows}}}\n")),
            ..Options::default()
        };
        let agent = Agent::start_with(&cgroup, &options)?;
        process::check(place.command(PYTHON)?.args(["-c", &script]))?;
        // Each peer is one datagram: it is counted, or lost and counted as such.
        observer_tests::wait::until("all of them", OVER, || {
            let metrics = agent.metrics()?;
            let sent = metrics.sum("observer_udp_sent_packets_total", &[]);
            let labels = [("stage", "assemble"), ("reason", "datagrams_evicted")];
            let lost = metrics.sum("observer_loss_total", &labels);
            let labels = [("stage", "kernel"), ("reason", "datagram_flows_full")];
            let refused = metrics.sum("observer_loss_total", &labels);
            let all = sent + lost + refused == PEERS as f64;
            Ok((all && (lost + refused == 0.0) == fits).then_some(()))
        })?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn quic_is_recognised_by_its_first_packets() -> Result<()> {
    let tools = ["ip", "gtlsclient", "gtlsserver", "openssl", "unshare"];
    if lacking(&tools.map(Need::Tool))? || lacking(&[Need::Observer])? {
        return Ok(());
    }
    let (cgroup, namespace) = (Cgroup::create("quic")?, Namespace::create("quic")?);
    let place = Place::inside(&cgroup, &namespace);
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key, certificate, hosts) = (file("key"), file("certificate"), file("hosts"));
    process::check(Command::new("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=shop.example",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]))?;
    fs::write(file("page"), [b'x'; 50_000])?;
    let agent = agent(&cgroup)?;
    let mut command = place.command("gtlsserver")?;
    command
        .args(["--quiet", "--htdocs", &folder.path().display().to_string()])
        .args(["*", "4433", &key, &certificate])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = Process::spawn(&mut command)?;
    let fetch = |name: &str| -> Result<()> {
        // What it dials is what it tells the server.
        fs::write(&hosts, format!("127.0.0.1 {name}\n"))?;
        let script = format!("mount --bind {hosts} /etc/hosts && exec \"$@\"");
        let mut command = place.command("unshare")?;
        command
            .args(["--mount", "sh", "-c", &script, "sh", "gtlsclient"])
            .args(["--quiet", "--exit-on-all-streams-close"])
            .args([name, "4433"])
            .arg(format!("https://{name}/page"));
        let output = process::run(&mut command)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{text}");
        Ok(())
    };
    observer_tests::wait::until("the server", observer_tests::wait::PATIENCE, || {
        let sockets = namespace.run("ss", &["-unlH"])?;
        Ok(sockets.contains(":4433").then_some(()))
    })?;
    let names = ["shop.example", "second.example"];
    for name in names {
        fetch(name)?;
    }
    for name in names {
        let mut both = Vec::new();
        for side in ["client", "server"] {
            let flow = agent.first(&format!("{name} at the {side}"), OVER, |flow| {
                flow.text("side") == side && flow.text("server_name") == name
            })?;
            ensure!(flow.text("kind") == "datagrams", "{flow:?}");
            ensure!(flow.text("protocol") == "quic", "{flow:?}");
            ensure!(flow.text("version") == "1", "{flow:?}");
            let alpn = flow.get("alpn").as_array().cloned().unwrap_or_default();
            ensure!(alpn.iter().any(|name| name == "h3"), "{flow:?}");
            ensure!(flow.text("ja4").starts_with("q13d"), "{flow:?}");
            both.push(traffic(&flow)?);
        }
        // Nothing is lost on loopback, but what comes when a socket is closed.
        let ([sent, sent_bytes, ..], [_, _, received, received_bytes]) = (both[0], both[1]);
        ensure!((sent, sent_bytes) == (received, received_bytes), "{both:?}");
        ensure!(both[0][3] > 50_000 && both[1][1] >= both[0][3], "{both:?}");
    }
    let labels = [
        ("network_protocol_name", "quic"),
        ("network_peer_port", "4433"),
    ];
    let sent = agent
        .metrics()?
        .sum("observer_udp_sent_packets_total", &labels);
    ensure!(sent > 10.0, "{sent}");
    agent.expect_no_loss()?;
    agent.stop()
}

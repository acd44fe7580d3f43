//! Lookups are told as clients and servers of DNS saw them, and name the peers that they led to.

use std::{
    net::{Ipv4Addr, TcpStream},
    process::Stdio,
};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    flow::{BOTH_SIDES, Flow},
    namespace::{self, Namespace},
    place::Place,
    process::{self, Process},
    requirement::{Need, lacking},
    resolver::Resolver,
    server::PYTHON,
    wait::{self, PATIENCE},
};

const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const FAILING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn is_lookup(flow: &Flow, side: &str, name: &str) -> bool {
    flow.text("kind") == "lookup" && flow.text("side") == side && flow.text("name") == name
}

#[test]
fn lookups_are_told_as_they_were() -> Result<()> {
    if lacking(&["ip", "dnsmasq", "dig"].map(Need::Tool))? || lacking(&[Need::Observer])? {
        return Ok(());
    }
    let (cgroup, namespace) = (Cgroup::create("dns")?, Namespace::create("dns")?);
    let place = Place::inside(&cgroup, &namespace);
    let records = [
        "host-record=web.test,10.7.0.2,fd07::2",
        "cname=www.test,web.test",
    ];
    let dnsmasq = Resolver::dnsmasq(&place, &namespace, SERVER, &records)?;
    let failing = Resolver::failing(&place, &namespace, FAILING)?;
    let agent = Agent::start(&cgroup)?;
    let asked: [(&Resolver, &str, &str, &str, usize); 6] = [
        (&dnsmasq, "web.test", "A", "NOERROR", 20),
        (&dnsmasq, "web.test", "AAAA", "NOERROR", 10),
        (&dnsmasq, "WWW.test", "A", "NOERROR", 10),
        (&dnsmasq, "web.test", "MX", "NOERROR", 3),
        (&dnsmasq, "missing.test", "A", "NXDOMAIN", 5),
        (&failing, "servfail.test", "A", "SERVFAIL", 4),
    ];
    for (resolver, name, kind, code, times) in asked {
        let mut answers = Vec::new();
        for _ in 0..times {
            let dug = resolver.dig(&place, &[name, kind])?;
            ensure!(dug.status == code, "{name} {kind}: {dug:?}");
            answers = dug.answers;
        }
        for side in BOTH_SIDES {
            let found = agent.exactly(times, "lookups", |flow| {
                is_lookup(flow, side, &name.to_lowercase()) && flow.text("type") == kind
            })?;
            for lookup in found {
                ensure!(lookup.text("code") == code, "{lookup:?}");
                ensure!(lookup.text("outcome") == "answered", "{lookup:?}");
                ensure!(lookup.text("transport") == "udp", "{lookup:?}");
                ensure!(lookup.integer("retries")? == 0, "{lookup:?}");
                let failed = code != "NOERROR";
                ensure!((lookup.text("error") == code) == failed, "{lookup:?}");
                let duration = lookup.number("duration_seconds")?;
                ensure!(duration > 0.0 && duration < 1.0, "{lookup:?}");
                let told = lookup.get("answers").as_array();
                let told: Vec<&str> = told
                    .into_iter()
                    .flatten()
                    .filter_map(|answer| answer["value"].as_str())
                    .collect();
                let expected: Vec<&str> = answers
                    .iter()
                    .map(|answer| answer.trim_end_matches('.'))
                    .collect();
                ensure!(told == expected, "{told:?} instead of {expected:?}");
                let (own, near, far) = match side {
                    "client" => ("dig", "local", "remote"),
                    _ if resolver.address() == dnsmasq.address() => ("dnsmasq", "remote", "local"),
                    _ => ("responder", "remote", "local"),
                };
                ensure!(lookup.text("service") == own, "{lookup:?}");
                let address = resolver.address().to_string();
                ensure!(lookup.text(far) == address, "{lookup:?}");
                ensure!(lookup.text(near).starts_with("127.0.0.1:"), "{lookup:?}");
            }
        }
        for side in BOTH_SIDES {
            let labels = [
                ("role", side),
                ("dns_question_type", kind),
                ("dns_response_code", code),
            ];
            let expected = match (kind, code) {
                // www.test has answers of the same kind.
                ("A", "NOERROR") if name == "WWW.test" => 30,
                _ => times as u64,
            };
            agent.expect_metric("observer_dns_lookups_total", &labels, expected)?;
        }
    }
    // At the client alone, with the server that was asked.
    let labels = [("service_name", "dig"), ("server_address", "127.0.0.1")];
    agent.expect_metric("dns_lookup_duration_seconds_count", &labels, 48)?;
    agent.expect_metric("dns_lookup_duration_seconds_count", &[], 52)?;
    let labels = [("error_type", "SERVFAIL")];
    agent.expect_metric("dns_lookup_duration_seconds_count", &labels, 4)?;
    // Questions and responses of both, at both ends.
    let labels = [
        ("service_name", "dig"),
        ("network_protocol_name", "dns"),
        ("network_peer_port", "53"),
    ];
    agent.expect_metric("observer_udp_sent_packets_total", &labels, 52)?;
    agent.expect_metric("observer_udp_received_packets_total", &labels, 52)?;
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn what_is_not_answered_is_told_too() -> Result<()> {
    if lacking(&["ip", "dig", PYTHON].map(Need::Tool))? || lacking(&[Need::Observer])? {
        return Ok(());
    }
    let (cgroup, namespace) = (Cgroup::create("mute")?, Namespace::create("mute")?);
    let place = Place::inside(&cgroup, &namespace);
    let failing = Resolver::failing(&place, &namespace, FAILING)?;
    let options = Options {
        configuration: Some("dns: {timeout: 1s}\n".to_owned()),
        ..Options::default()
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    let dug = failing.dig(&place, &["mute.test", "A"])?;
    ensure!(dug.status.is_empty(), "{dug:?}");
    ensure!(
        failing.ask(&place, "mute.x.test", 4)? == 0,
        "an answer came"
    );
    ensure!(
        failing.ask(&place, "second.test", 2)? == 1,
        "no answer came"
    );
    for side in BOTH_SIDES {
        for (name, retries, outcome, least) in [
            ("mute.test", 0, "timeout", 1.0),
            ("mute.x.test", 3, "timeout", 1.6),
            ("second.test", 1, "answered", 0.2),
        ] {
            let lookup = agent
                .exactly(1, name, |flow| is_lookup(flow, side, name))?
                .remove(0);
            ensure!(lookup.text("outcome") == outcome, "{lookup:?}");
            ensure!(lookup.integer("retries")? == retries, "{lookup:?}");
            let duration = lookup.number("duration_seconds")?;
            ensure!(duration >= least && duration < least + 1.0, "{lookup:?}");
            let error = match outcome {
                "timeout" => "timeout",
                _ => "SERVFAIL",
            };
            ensure!(lookup.text("error") == error, "{lookup:?}");
        }
        let labels = [("role", side), ("outcome", "timeout")];
        agent.expect_metric("observer_dns_lookups_total", &labels, 2)?;
        agent.expect_metric("observer_dns_retries_total", &[("role", side)], 4)?;
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn an_ignored_port_is_not_looked_at() -> Result<()> {
    if lacking(&["ip", "dig", PYTHON].map(Need::Tool))? || lacking(&[Need::Observer])? {
        return Ok(());
    }
    let (cgroup, namespace) = (Cgroup::create("deaf")?, Namespace::create("deaf")?);
    let place = Place::inside(&cgroup, &namespace);
    let failing = Resolver::failing(&place, &namespace, FAILING)?;
    let options = Options {
        configuration: Some("ignore: {ports: [53]}\n".to_owned()),
        ..Options::default()
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    let dug = failing.dig(&place, &["servfail.test", "A"])?;
    ensure!(dug.status == "SERVFAIL", "{dug:?}");
    agent.reload("ignore: {ports: [54]}\n")?;
    // Until the kernel has the new settings.
    wait::until("a lookup", PATIENCE, || {
        failing.dig(&place, &["seen.test", "A"])?;
        let flows = agent.flows()?;
        let seen = flows
            .iter()
            .any(|flow| is_lookup(flow, "client", "seen.test"));
        Ok(seen.then_some(()))
    })?;
    agent.exactly(0, "lookups", |flow| {
        is_lookup(flow, "client", "servfail.test")
    })?;
    agent.stop()
}

#[test]
fn what_does_not_fit_is_told_as_truncated() -> Result<()> {
    if lacking(&["ip", "dnsmasq", "dig"].map(Need::Tool))? || lacking(&[Need::Observer])? {
        return Ok(());
    }
    let (cgroup, namespace) = (Cgroup::create("cut")?, Namespace::create("cut")?);
    let place = Place::inside(&cgroup, &namespace);
    let agent = Agent::start(&cgroup)?;
    let dnsmasq = Resolver::dnsmasq(&place, &namespace, SERVER, &[])?;
    // dig asks again over TCP, and has all.
    let dug = dnsmasq.dig(&place, &["many.test", "A", "+noedns"])?;
    ensure!(dug.answers.len() == 60, "{dug:?}");
    for side in BOTH_SIDES {
        let lookup = agent
            .exactly(1, "a lookup", |flow| {
                is_lookup(flow, side, "many.test") && flow.text("transport") == "udp"
            })?
            .remove(0);
        ensure!(lookup.text("outcome") == "truncated", "{lookup:?}");
        ensure!(lookup.text("error").is_empty(), "{lookup:?}");
        // The server came after the observer, so it is known where it is.
        let server = lookup.text("peer_service") == "dnsmasq";
        ensure!(server == (side == "client"), "{lookup:?}");
        let lookup = agent
            .exactly(1, "a lookup over TCP", |flow| {
                is_lookup(flow, side, "many.test") && flow.text("transport") == "tcp"
            })?
            .remove(0);
        ensure!(lookup.text("outcome") == "answered", "{lookup:?}");
        ensure!(lookup.text("code") == "NOERROR", "{lookup:?}");
        let own = if side == "client" { "dig" } else { "dnsmasq" };
        ensure!(lookup.text("service") == own, "{lookup:?}");
    }
    // With room for all of it, the first answers are kept.
    let dug = dnsmasq.dig(&place, &["many.test", "A", "+bufsize=4096"])?;
    ensure!(dug.answers.len() == 60, "{dug:?}");
    for side in BOTH_SIDES {
        let lookup = agent.first("a lookup", PATIENCE, |flow| {
            is_lookup(flow, side, "many.test")
                && flow.text("outcome") == "answered"
                && flow.text("transport") == "udp"
        })?;
        let answers = lookup.get("answers").as_array().map_or(0, Vec::len);
        ensure!(answers == 16, "{lookup:?}");
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn lookups_through_address_translation_are_told_as_dialled() -> Result<()> {
    if lacking(&["ip", "nft", "dig", PYTHON].map(Need::Tool))? || lacking(&[Need::Observer])? {
        return Ok(());
    }
    let (cgroup, namespace) = (Cgroup::create("dnat")?, Namespace::create("dnat")?);
    for address in ["10.5.0.1/32", "10.5.0.2/32"] {
        namespace.run("ip", &["addr", "add", address, "dev", "lo"])?;
    }
    let route = [
        "route",
        "add",
        "10.96.0.10/32",
        "dev",
        "lo",
        "src",
        "10.5.0.1",
    ];
    namespace.run("ip", &route)?;
    namespace.rules(
        "table ip nat { chain out { type nat hook output priority -100; \
         ip daddr 10.96.0.10 udp dport 53 dnat to 10.5.0.2; }; };",
    )?;
    let place = Place::inside(&cgroup, &namespace);
    let served = Ipv4Addr::new(10, 5, 0, 2);
    let failing = Resolver::failing(&place, &namespace, served)?;
    let agent = Agent::start(&cgroup)?;
    // dig connects its socket; the other client does not, and its packets show where they go.
    let dialled = Ipv4Addr::new(10, 96, 0, 10);
    let dug = failing.dig_at(&place, dialled, &["servfail.connected.test", "A"])?;
    ensure!(dug.status == "SERVFAIL", "{dug:?}");
    let responses = failing.ask_at(&place, dialled, "servfail.other.test", 1)?;
    ensure!(responses == 1, "no answer came");
    for name in ["servfail.connected.test", "servfail.other.test"] {
        for (side, address, port) in [
            ("client", "10.96.0.10:53", "remote"),
            ("server", "10.5.0.2:53", "local"),
        ] {
            let lookup = agent
                .exactly(1, name, |flow| is_lookup(flow, side, name))?
                .remove(0);
            ensure!(lookup.text("code") == "SERVFAIL", "{lookup:?}");
            ensure!(lookup.text(port) == address, "{lookup:?}");
        }
    }
    agent.expect_metric("observer_dns_lookups_total", &[], 4)?;
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn lookups_name_the_peers_that_they_led_to() -> Result<()> {
    let tools = ["ip", "dnsmasq", "curl", "unshare", PYTHON];
    if lacking(&tools.map(Need::Tool))? || lacking(&[Need::Observer])? {
        return Ok(());
    }
    let (cgroup, elsewhere) = (Cgroup::create("named")?, Cgroup::create("elsewhere")?);
    let (near, far) = (Namespace::create("near")?, Namespace::create("far")?);
    namespace::join((&near, &["10.7.0.1/24"]), (&far, &["10.7.0.2/24"]))?;
    let place = Place::inside(&cgroup, &near);
    let outside = Place::inside(&elsewhere, &far);
    let mut command = outside.command(PYTHON)?;
    command
        .args(["-m", "http.server", "80", "--bind", "10.7.0.2"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = Process::spawn(&mut command)?;
    wait::until("the server", PATIENCE, || {
        near.within(|| Ok(TcpStream::connect("10.7.0.2:80").ok().map(drop)))
    })?;
    let resolver = Place::inside(&elsewhere, &near);
    let records = ["host-record=web.test,10.7.0.2", "cname=www.test,web.test"];
    let dnsmasq = Resolver::dnsmasq(&resolver, &near, SERVER, &records)?;
    let agent = Agent::start(&cgroup)?;

    let fetch = |url: &str| {
        let mut command = dnsmasq.command(&place, "curl")?;
        process::check(command.args(["--silent", "--show-error", "--head", url]))
    };
    fetch("http://10.7.0.2/")?;
    fetch("http://www.test/")?;
    let calls = agent.exactly(2, "calls", |flow| flow.is_call_at("client"))?;
    let peers: Vec<&str> = calls.iter().map(|call| call.text("peer")).collect();
    ensure!(peers == ["10.7.0.2:80", "www.test:80"], "{calls:?}");
    ensure!(calls[1].get("peer_service").is_null(), "{calls:?}");
    // curl asks for both kinds of address.
    for kind in ["A", "AAAA"] {
        agent.exactly(1, kind, |flow| {
            is_lookup(flow, "client", "www.test") && flow.text("type") == kind
        })?;
    }
    let labels = [
        ("service_peer_name", "www.test"),
        ("server_address", "10.7.0.2"),
    ];
    agent.expect_metric("http_client_request_duration_seconds_count", &labels, 1)?;
    agent.expect_metric("observer_tcp_connections_opened_total", &labels, 1)?;
    let found = agent.get("/api/v1/flows?peer=www.*")?;
    ensure!(found.lines().count() == 3, "opened, call, closed: {found}");
    agent.expect_no_loss()?;
    agent.stop()
}

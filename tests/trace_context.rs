//! Requests that name their trace, of real clients and in each of the usual ways: every call tells
//! it, at both ends.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{self, Agent, Options},
    cgroup::Cgroup,
    flow::BOTH_SIDES,
    h2load::Load,
    peers::{self, Peer},
    place::Place,
    process,
    requirement::{Need, lacking},
    server::Server,
    settings,
    tally::{self, Tally},
};
use serde_json::{Value, json};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Fields of a request, and what they tell: the kind, the trace, its parent, whether it is kept.
struct Case {
    name: &'static str,
    fields: Vec<String>,
    told: Option<(
        &'static str,
        &'static str,
        Option<&'static str>,
        Option<bool>,
    )>,
}

fn cases() -> Vec<Case> {
    const X_RAY: &str = "5759e988bd862e3fe1be46a994272793";
    const SHORT: &str = "0000000000000000a3ce929d0e0e4736";
    const REQUEST: &str = "f47ac10b58cc4372a5670e02b2c3d479";
    let parent = format!("traceparent: 00-{TRACE}-{SPAN}-01");
    let case = |name, fields: &[&str], told| Case {
        name,
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        told,
    };
    let both = |source, sampled| Some((source, TRACE, Some(SPAN), sampled));
    vec![
        case("none", &["x-other: 1"], None),
        case(
            "w3c",
            &[&parent, "TraceState: a=1", "tracestate: b=2"],
            both("tracecontext", Some(true)),
        ),
        case("wrong", &["traceparent: 00-1-2-3"], None),
        case(
            "b3",
            &[&format!("b3: {TRACE}-{SPAN}-d")],
            both("b3", Some(true)),
        ),
        case(
            "several",
            &[
                &format!("X-B3-TraceId: {}", &TRACE[16..]),
                &format!("X-B3-SpanId: {SPAN}"),
                &format!("X-B3-ParentSpanId: {SPAN}"),
                "X-B3-Sampled: 0",
            ],
            Some(("b3", SHORT, Some(SPAN), Some(false))),
        ),
        case(
            "jaeger",
            &[&format!("uber-trace-id: {TRACE}%3A{SPAN}%3A0%3A1")],
            both("jaeger", Some(true)),
        ),
        case(
            "xray",
            &["X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793;Parent=00f067aa0ba902b7"],
            Some(("xray", X_RAY, Some(SPAN), None)),
        ),
        case(
            "cloud",
            &[&format!("X-Cloud-Trace-Context: {TRACE}/1;o=0")],
            Some(("cloud_trace", TRACE, Some("0000000000000001"), Some(false))),
        ),
        case(
            "envoy",
            &["X-Request-Id: f47ac10b-58cc-9372-a567-0e02b2c3d479"],
            Some(("request_id", REQUEST, None, None)),
        ),
        case(
            "strongest",
            &[
                "x-request-id: f47ac10b-58cc-4372-a567-0e02b2c3d479",
                &format!("b3: {SPAN}-{SPAN}"),
                &parent,
            ],
            both("tracecontext", Some(true)),
        ),
    ]
}

impl Case {
    fn record(&self, version: &str) -> Value {
        let (source, trace, parent, sampled) = match self.told {
            Some((source, trace, parent, sampled)) => (Some(source), Some(trace), parent, sampled),
            None => (None, None, None, None),
        };
        json!({
            "path": format!("/hello/{}", self.name),
            "version": version,
            "status": 200,
            "outcome": "complete",
            "trace_id": trace,
            "trace_parent": parent,
            "trace_sampled": sampled,
            "trace_source": source,
        })
    }
}

fn observe(cgroup: &Cgroup) -> Result<Agent> {
    let options = Options {
        configuration: Some(settings::long_history()),
        ..Options::default()
    };
    Agent::start_with(cgroup, &options)
}

/// Lines that `observer flows` prints of a trace.
fn flows_of(agent: &Agent, trace: &str) -> Result<usize> {
    let url = format!("http://{}", agent.address());
    let arguments = [
        "flows", "--server", &url, "--last", "1000", "--trace", trace,
    ];
    let output = agent::run(&arguments)?;
    ensure!(output.status.success(), "observer flows: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).lines().count())
}

#[test]
fn every_kind_of_field_is_told_over_both_versions() -> Result<()> {
    let needs = [
        Need::Observer,
        Need::Tool("curl"),
        Need::Tool("h2load"),
        Need::Peer(Peer::Go),
    ];
    if lacking(&needs)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("traces")?;
    let place = Place::host(&cgroup);
    let server = Server::go(&place, LOCAL)?;
    let agent = observe(&cgroup)?;
    let mut counted = Tally::default();
    for case in cases() {
        let path = format!("/hello/{}", case.name);
        let url = server.url(&path);
        let headers: Vec<&str> = case
            .fields
            .iter()
            .flat_map(|field| ["--header", field])
            .collect();
        // All on one connection.
        for (flag, urls) in [("--http1.1", 3), ("--http2-prior-knowledge", 1)] {
            let mut command = place.command("curl")?;
            command.args(["--silent", "--fail", flag]).args(&headers);
            process::check(command.args(vec![&url; urls]))?;
        }
        // The later requests find the fields of the first in the table.
        let load = Load {
            address: server.address(),
            paths: &[(&path, 200, 12)],
            requests: 4,
            connections: 1,
            streams: 1,
            upload: None,
            arguments: &headers,
        };
        load.run(&place)?;
        counted.add(&case.record("1.1"), 3);
        counted.add(&case.record("2"), 5);
    }
    tally::expect(&agent, "traces", &counted, &BOTH_SIDES, |_| true)?;
    // What is malformed of a request is so at both of its ends.
    let loss = [("stage", "assemble"), ("reason", "trace_context")];
    agent.expect_metric("observer_loss_total", &loss, 8 * 2)?;
    ensure!(flows_of(&agent, &TRACE.to_uppercase())? == 5 * 8 * 2);
    ensure!(flows_of(&agent, &"1".repeat(32))? == 0);
    agent.stop()
}

#[test]
fn traces_of_a_load_are_told() -> Result<()> {
    let needs = [Need::Observer, Need::Tool("h2load"), Need::Tool("nghttpd")];
    if lacking(&needs)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("traced-load")?;
    let place = Place::host(&cgroup);
    let server = Server::nghttpd(&place, LOCAL, &[])?;
    let agent = observe(&cgroup)?;
    let mut counted = Tally::default();
    for (trace, requests) in [("1".repeat(32), 2000), ("2".repeat(32), 1000)] {
        let parent = format!("traceparent: 00-{trace}-{SPAN}-00");
        let load = Load {
            address: server.address(),
            paths: &[("/hello", 200, 12)],
            requests,
            connections: 4,
            streams: 10,
            upload: None,
            arguments: &["--header", &parent],
        };
        load.run(&place)?;
        counted.add(
            &json!({
                "path": "/hello",
                "status": 200,
                "outcome": "complete",
                "trace_id": trace,
                "trace_parent": SPAN,
                "trace_sampled": false,
                "trace_source": "tracecontext",
            }),
            requests,
        );
    }
    tally::expect(&agent, "load", &counted, &BOTH_SIDES, |_| true)?;
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn calls_of_grpcio_tell_their_own_traces() -> Result<()> {
    if lacking(&[Need::Observer, Need::Peer(Peer::Python)])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("traced-calls")?;
    let place = Place::host(&cgroup);
    let server = Server::rpc(&place, LOCAL)?;
    let agent = observe(&cgroup)?;
    let address = server.address().to_string();
    let counted = peers::count(&mut peers::python(&place, "rpc.py", &["trace", &address])?)?;
    ensure!(counted.total() == 400, "{counted:?}");
    tally::expect(&agent, "calls", &counted, &BOTH_SIDES, |_| true)?;
    agent.expect_no_loss()?;
    agent.stop()
}

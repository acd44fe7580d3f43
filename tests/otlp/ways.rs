//! The ways to a collector: gRPC and HTTP, through another collector, with TLS, headers and gzip.

use std::path::Path;

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{self, Agent},
    certificates::Authority,
    cgroup::Cgroup,
    client::Load,
    collector::{self, Collector},
    peers::Peer,
    place::Place,
    requirement::{Need, lacking},
    rotel::Rotel,
    server::Server,
    settings,
};

use crate::{SECRETS, observe};

/// Requests of a way.
const REQUESTS: usize = 60;

/// Asks for [`REQUESTS`] pages while an agent with this part `otlp` observes, and expects at
/// `collector` a span and an entry of the access log for both ends of each, and their number as a metric.
/// Returns the bytes that the agent says it has sent.
fn check(label: &str, otlp: &str, collector: &Collector) -> Result<f64> {
    check_with(label, otlp, &[], collector)
}

/// As [`check`], with these variables in the environment of the agent.
fn check_with(label: &str, otlp: &str, variables: &[String], collector: &Collector) -> Result<f64> {
    let cgroup = Cgroup::create(label)?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let configuration = format!(
        "{otlp}  batch:\n    delay: 100ms\n  metrics:\n    interval: 1s\ntraces:\n  \
         sampler: always\naccess_log:\n  to: otlp\n"
    );
    let mut wrapper = vec!["env".to_owned()];
    wrapper.extend_from_slice(variables);
    wrapper.push(agent::binary()?.display().to_string());
    let options = agent::Options {
        configuration: Some(configuration),
        wrapper,
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    let load = Load {
        address: nginx.address(),
        targets: &["/hello", "/users/7?secret-query=1", "/nothing"],
        connections: 2,
        rounds: REQUESTS / 2,
        pipelined: 1,
    };
    let counted = load.run(&place)?;
    ensure!(
        counted.statuses.values().sum::<u64>() == REQUESTS as u64,
        "{counted:?}"
    );
    let spans = collector.exactly(2 * REQUESTS, label, |_| true)?;
    for (path, count) in [("/hello", 40), ("/users/7", 40), ("/nothing", 40)] {
        let found = spans.iter().filter(|span| span.path() == path).count();
        ensure!(found == count, "{label}: {found} of {path}");
    }
    let patience = observer_tests::wait::PATIENCE;
    observer_tests::wait::until("records and metrics", patience, || {
        let logs = collector.logs()?.len();
        let points = collector.metrics()?;
        let counts = points.iter().filter(|point| {
            point.name == "http.server.request.duration" && point.temporality == "CUMULATIVE"
        });
        // Each export tells the whole again.
        let mut exports = std::collections::BTreeMap::<u64, u64>::new();
        for point in counts {
            *exports.entry(point.number).or_default() += point.count;
        }
        let last = exports.values().max().copied();
        Ok((logs == 2 * REQUESTS && last == Some(REQUESTS as u64)).then_some(()))
    })?;
    // An example of a duration leads to its span.
    let exemplars = collector
        .metrics()?
        .into_iter()
        .flat_map(|point| point.exemplars);
    let exemplars: Vec<_> = exemplars.collect();
    ensure!(!exemplars.is_empty(), "{label}: no exemplars");
    for exemplar in exemplars {
        let span = spans.iter().find(|span| span.id == exemplar.id);
        let fits = span.is_some_and(|span| {
            let took = (span.end - span.start) as f64 / 1e9;
            span.trace == exemplar.trace && (took - exemplar.value).abs() < 1e-6
        });
        ensure!(fits, "{label}: {exemplar:?} of {span:?}");
    }
    collector.expect_without(&SECRETS)?;
    agent.expect_no_loss()?;
    let sent = agent
        .metrics()?
        .sum("observer_export_sent_bytes_total", &[]);
    agent.stop()?;
    ensure!(
        collector.logs()?.len() == 2 * REQUESTS,
        "{label}: records came twice"
    );
    for request in collector.requests()? {
        ensure!(
            request.taken && request.error.is_none() && request.items > 0,
            "{request:?}"
        );
    }
    Ok(sent)
}

#[test]
fn grpc_reaches_a_collector() -> Result<()> {
    if lacking(&[
        Need::Observer,
        Need::Peer(Peer::Python),
        Need::Tool("nginx"),
    ])? {
        return Ok(());
    }
    let collector = Collector::start_with(&collector::Options {
        header: Some("x-scope-orgid=tenant-1"),
        ..collector::Options::default()
    })?;
    let otlp = format!(
        "otlp:\n  endpoint: {}\n  protocol: grpc\n  headers:\n    x-scope-orgid: tenant-1\n",
        collector.grpc()
    );
    let sent = check("grpc", &otlp, &collector)?;
    let requests = collector.requests()?;
    // A server of gRPC is not told whether a message came compressed.
    let bytes: u64 = requests.iter().map(|request| request.bytes).sum();
    ensure!(sent > 0.0 && sent < 0.7 * bytes as f64, "{sent} of {bytes}");
    ensure!(
        requests.iter().all(|request| request.transport == "grpc"),
        "{requests:?}"
    );
    let agent = requests[0]
        .headers
        .get("user-agent")
        .cloned()
        .unwrap_or_default();
    ensure!(agent.to_lowercase().contains("observer"), "{agent}");
    Ok(())
}

#[test]
fn http_reaches_a_collector() -> Result<()> {
    if lacking(&[
        Need::Observer,
        Need::Peer(Peer::Python),
        Need::Tool("nginx"),
    ])? {
        return Ok(());
    }
    for compression in ["gzip", "none"] {
        let collector = Collector::start()?;
        let otlp = format!(
            "otlp:\n  endpoint: {}\n  protocol: http/protobuf\n  compression: {compression}\n",
            collector.http()
        );
        check(&format!("http-{compression}"), &otlp, &collector)?;
        let encoding = if compression == "gzip" { "gzip" } else { "" };
        for request in collector.requests()? {
            ensure!(
                request.transport == "http" && request.encoding == encoding,
                "{request:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn rotel_reads_and_passes_on_all_of_it() -> Result<()> {
    let peers = [Peer::Python, Peer::Rotel].map(Need::Peer);
    if lacking(&[Need::Observer, Need::Tool("nginx")])? || lacking(&peers)? {
        return Ok(());
    }
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::start()?;
        let rotel = Rotel::start(&collector)?;
        let endpoint = if protocol == "grpc" {
            rotel.grpc()
        } else {
            rotel.http()
        };
        let otlp = format!("otlp:\n  endpoint: {endpoint}\n  protocol: {protocol}\n");
        check(&format!("rotel-{}", &protocol[..4]), &otlp, &collector)?;
    }
    Ok(())
}

#[test]
fn tls_with_certificates_of_both_reaches_a_collector() -> Result<()> {
    let tools = ["nginx", "openssl"].map(Need::Tool);
    if lacking(&[Need::Observer, Need::Peer(Peer::Python)])? || lacking(&tools)? {
        return Ok(());
    }
    let authority = Authority::create()?;
    let server = authority.sign("collector", &["IP:127.0.0.1", "DNS:localhost"])?;
    let own = authority.sign("agent", &["DNS:agent.test"])?;
    let text = |path: &Path| path.display().to_string();
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::start_with(&collector::Options {
            identity: Some(&server),
            clients: Some(&authority.certificate()),
            ..collector::Options::default()
        })?;
        let endpoint = if protocol == "grpc" {
            collector.grpc()
        } else {
            collector.http()
        };
        let otlp = format!(
            "otlp:\n  endpoint: {endpoint}\n  protocol: {protocol}\n  tls:\n    ca: {}\n    \
             certificate: {}\n    key: {}\n",
            text(&authority.certificate()),
            text(&own.certificate),
            text(&own.key)
        );
        check(&format!("tls-{}", &protocol[..4]), &otlp, &collector)?;
    }
    Ok(())
}

#[test]
fn variables_of_opentelemetry_lead_to_a_collector() -> Result<()> {
    if lacking(&[
        Need::Observer,
        Need::Peer(Peer::Python),
        Need::Tool("nginx"),
    ])? {
        return Ok(());
    }
    let collector = Collector::start_with(&collector::Options {
        header: Some("x-key=a b,c"),
        ..collector::Options::default()
    })?;
    let variables = [
        format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", collector.http()),
        "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf".to_owned(),
        "OTEL_EXPORTER_OTLP_HEADERS=x-key=a%20b%2Cc".to_owned(),
        "OTEL_EXPORTER_OTLP_COMPRESSION=none".to_owned(),
    ];
    check_with("variables", "otlp:\n", &variables, &collector)?;
    let requests = collector.requests()?;
    let fits = |one: &collector::Request| one.transport == "http" && one.encoding.is_empty();
    ensure!(requests.iter().all(fits), "{requests:?}");
    Ok(())
}

#[test]
fn a_new_configuration_leads_elsewhere() -> Result<()> {
    if lacking(&[
        Need::Observer,
        Need::Peer(Peer::Python),
        Need::Tool("nginx"),
    ])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("elsewhere")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let collectors = [Collector::start()?, Collector::start()?];
    let agent = observe(&cgroup, &settings::tracing(&collectors[0].grpc(), &[]))?;
    for (number, collector) in collectors.iter().enumerate() {
        if number > 0 {
            agent.reload(&settings::tracing(&collector.grpc(), &[]))?;
            std::thread::sleep(observer_tests::wait::SETTLE);
        }
        let load = Load {
            address: nginx.address(),
            targets: &["/hello"],
            connections: 1,
            rounds: 20,
            pipelined: 1,
        };
        load.run(&place)?;
        collector.exactly(40, "spans", |_| true)?;
    }
    ensure!(collectors[0].spans()?.len() == 40, "the first is told too");
    agent.expect_no_loss()?;
    agent.stop()
}

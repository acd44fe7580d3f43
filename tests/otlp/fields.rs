//! Every field of spans and log records is what was driven.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    cgroup::Cgroup,
    client::{self, Fetched},
    collector::{Attributes, Collector, SpanSeen},
    flow::Flow,
    namespace::Namespace,
    peers::{self, Peer},
    place::Place,
    process,
    requirement::{Need, lacking},
    resolver::Resolver,
    server::Server,
    settings,
};
use serde_json::{Value, json};

use crate::{SAYING_SECRETS, SECRETS, now, observe};

/// What a test expects of an attribute.
enum Wanted {
    /// This value; its type follows from it.
    Is(Value),
    /// Some text that is not empty.
    Text,
    /// A number of seconds that fits into what was driven.
    Seconds(f64),
    /// Some whole number above 0.
    Positive,
}

use Wanted::{Is, Positive, Seconds, Text};

/// Fails unless `found` has these attributes, of the right types, and no others.
fn expect(found: &Attributes, wanted: Vec<(&str, Wanted)>) -> Result<()> {
    let mut names: Vec<&str> = found.names().collect();
    let mut expected: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    expected.sort_unstable();
    ensure!(names == expected, "{names:#?} instead of {expected:#?}");
    for (name, wanted) in wanted {
        let (kind, value) = (found.kind(name), found.get(name));
        let fits = match &wanted {
            Is(expected) => {
                let of_type = match expected {
                    Value::String(_) => "string",
                    Value::Bool(_) => "bool",
                    Value::Number(number) if number.is_f64() => "double",
                    Value::Number(_) => "int",
                    _ => "array",
                };
                kind == of_type && value == expected
            }
            Text => kind == "string" && value.as_str().is_some_and(|text| !text.is_empty()),
            Seconds(most) => {
                kind == "double"
                    && value
                        .as_f64()
                        .is_some_and(|time| time > 0.0 && time <= *most)
            }
            Positive => kind == "int" && value.as_i64().is_some_and(|number| number > 0),
        };
        ensure!(fits, "{name} is {kind} {value}: {found:?}");
    }
    Ok(())
}

/// Fails unless the resource is that of a service with this name, on this host.
fn expect_service(span: &SpanSeen, name: &str) -> Result<()> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?
        .trim()
        .to_owned();
    let resource = &span.resource;
    let mut wanted = vec![
        ("service.name", Is(json!(name))),
        ("service.instance.id", Is(json!(format!("{host}.{name}")))),
        ("host.name", Is(json!(host))),
        ("telemetry.distro.name", Is(json!("observer"))),
        ("telemetry.distro.version", Text),
    ];
    if !resource.text("host.id").is_empty() {
        wanted.push(("host.id", Text));
    }
    // A client may be gone before anybody can ask what it was.
    let executable = resource.text("process.executable.path");
    if !executable.is_empty() || name != "curl" {
        wanted.push(("process.executable.path", Text));
        ensure!(executable.ends_with(&format!("/{name}")), "{executable}");
    }
    expect(resource, wanted)?;
    ensure!(
        span.schema.starts_with("https://opentelemetry.io/schemas/"),
        "{span:?}"
    );
    ensure!(
        span.scope.name == "observer" && !span.scope.version.is_empty(),
        "{span:?}"
    );
    Ok(())
}

fn of_both<'a>(spans: &'a [SpanSeen], path: &str) -> Result<(&'a SpanSeen, &'a SpanSeen)> {
    let of = |kind: &str| {
        let mut found = spans
            .iter()
            .filter(|span| span.span_kind == kind && span.path() == path);
        found.next().with_context(|| format!("no {kind} of {path}"))
    };
    Ok((of("CLIENT")?, of("SERVER")?))
}

/// What both ends of an exchange of HTTP/1.1 by curl tell alike.
fn common(fetched: &Fetched, path: &str, port: u16, took: f64) -> Vec<(&'static str, Wanted)> {
    vec![
        ("http.request.method", Is(json!("GET"))),
        ("http.response.status_code", Is(json!(fetched.status))),
        ("http.request.body.size", Is(json!(0))),
        (
            "http.response.body.size",
            Is(json!(fetched.response_body_bytes)),
        ),
        ("url.scheme", Is(json!("http"))),
        ("url.path", Is(json!(path))),
        ("server.address", Is(json!("127.0.0.1"))),
        ("server.port", Is(json!(port))),
        ("network.protocol.name", Is(json!("http"))),
        ("network.protocol.version", Is(json!("1.1"))),
        ("network.transport", Is(json!("tcp"))),
        ("network.peer.address", Is(json!("127.0.0.1"))),
        ("network.local.address", Is(json!("127.0.0.1"))),
        ("user_agent.original", Text),
        ("process.pid", Positive),
        ("observer.outcome", Is(json!("complete"))),
        ("observer.security", Is(json!("plaintext"))),
        ("observer.connection", Text),
        ("observer.time_to_first_byte", Seconds(took)),
        ("observer.peer.kind", Is(json!("local"))),
        ("observer.url.has_query", Is(json!(true))),
        ("observer.sampling.reason", Is(json!("sampled"))),
        ("span.metrics.skip", Is(json!(true))),
    ]
}

#[test]
fn every_field_of_an_exchange_is_what_curl_and_nginx_did() -> Result<()> {
    let tools = ["nginx", "curl"].map(Need::Tool);
    if lacking(&[Need::Observer, Need::Peer(Peer::Python)])? || lacking(&tools)? {
        return Ok(());
    }
    let (cgroup, collector) = (Cgroup::create("fields")?, Collector::start()?);
    let place = Place::host(&cgroup);
    let agent = observe(&cgroup, &settings::tracing(&collector.grpc(), &[]))?;
    // Of a server that is older than the agent the process is not known.
    let nginx = Server::nginx(&place)?;
    let port = nginx.address().port();
    for (path, route, status, error) in [
        ("/hello", "/hello", 200, None),
        ("/users/41", "/users/{id}", 200, None),
        ("/nothing", "/nothing", 404, Some("404")),
        ("/error", "/error", 500, Some("500")),
    ] {
        let begun = now();
        let url = nginx.url(&format!("{path}?secret-query=1"));
        let fetched = client::curl(&place, &[&SAYING_SECRETS[..], &[&url]].concat())?;
        let ended = now();
        ensure!(fetched.status == status, "{fetched:?}");
        let spans = collector.exactly(2, path, |span| span.path() == path)?;
        let (client, server) = of_both(&spans, path)?;
        let took = fetched.total.as_secs_f64();
        for span in [client, server] {
            ensure!(span.name == format!("GET {route}"), "{span:?}");
            ensure!(
                begun <= span.start && span.start <= span.end && span.end <= ended,
                "{span:?}"
            );
            ensure!(span.events.is_empty() && span.links.is_empty(), "{span:?}");
            ensure!(span.state.is_empty() && span.message.is_empty(), "{span:?}");
        }
        ensure!(
            server.trace == client.trace && server.parent == client.id,
            "{spans:?}"
        );
        ensure!(
            client.parent.is_empty() && client.id != server.id,
            "{spans:?}"
        );
        // Kept; whether a parent is remote is known of one that is there.
        ensure!(
            server.flags & 0x301 == 0x301 && client.flags & 1 == 1,
            "{spans:?}"
        );
        // What a client did wrong is its own error only.
        ensure!((client.status == "ERROR") == error.is_some(), "{client:?}");
        ensure!((server.status == "ERROR") == (status >= 500), "{server:?}");

        let mut wanted = common(&fetched, path, port, took);
        wanted.extend([
            ("url.full", Is(json!(nginx.url(path)))),
            ("url.template", Is(json!(route))),
            ("network.peer.port", Is(json!(port))),
            ("network.local.port", Is(json!(fetched.local_port))),
            ("service.peer.name", Is(json!("nginx"))),
            ("peer.service", Is(json!("nginx"))),
            ("observer.parent.source", Is(json!("root"))),
        ]);
        wanted.extend(error.map(|error| ("error.type", Is(json!(error)))));
        expect(&client.attributes, wanted).with_context(|| format!("the client of {path}"))?;
        let mut wanted = common(&fetched, path, port, took);
        wanted.extend([
            ("http.route", Is(json!(route))),
            ("network.peer.port", Is(json!(fetched.local_port))),
            ("network.local.port", Is(json!(port))),
            ("client.address", Is(json!("127.0.0.1"))),
            ("client.port", Is(json!(fetched.local_port))),
            ("service.peer.name", Is(json!("curl"))),
            ("observer.parent.source", Is(json!("hop"))),
        ]);
        let server_error = error.filter(|_| status >= 500);
        wanted.extend(server_error.map(|error| ("error.type", Is(json!(error)))));
        expect(&server.attributes, wanted).with_context(|| format!("the server of {path}"))?;
        expect_service(client, "curl")?;
        expect_service(server, "nginx")?;
    }
    collector.expect_without(&SECRETS)?;
    ensure!(collector.logs()?.is_empty() && collector.metrics()?.is_empty());
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn calls_of_grpc_are_spans_of_their_methods() -> Result<()> {
    if lacking(&[Need::Observer, Need::Peer(Peer::Python)])? {
        return Ok(());
    }
    let (cgroup, collector) = (Cgroup::create("grpc")?, Collector::start()?);
    let place = Place::host(&cgroup);
    let server = Server::rpc(&place, Ipv4Addr::LOCALHOST.into())?;
    let agent = observe(&cgroup, &settings::tracing(&collector.grpc(), &[]))?;
    let address = server.address().to_string();
    let mut command = peers::python(&place, "rpc.py", &["call", &address, "2"])?;
    let printed = process::check(&mut command)?;
    let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in Flow::parse_lines(&printed)? {
        let key = (
            line.text("path").to_owned(),
            line.text("rpc_status").to_owned(),
        );
        *counted.entry(key).or_default() += line.integer("count")?;
    }
    let total: u64 = counted.values().sum();
    let spans = collector.exactly(2 * total as usize, "calls", |span| {
        span.attributes.text("rpc.system.name") == "grpc"
    })?;
    for kind in ["CLIENT", "SERVER"] {
        let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
        for span in spans.iter().filter(|span| span.span_kind == kind) {
            let status = span.attributes.text("rpc.response.status_code");
            let path = format!("/{}", span.attributes.text("rpc.method"));
            *found.entry((path, status.to_owned())).or_default() += 1;
            ensure!(span.name == span.attributes.text("rpc.method"), "{span:?}");
            ensure!(
                span.attributes.text("network.protocol.version") == "2",
                "{span:?}"
            );
            let failed = match kind {
                "CLIENT" => status != "OK",
                _ => [
                    "UNKNOWN",
                    "DEADLINE_EXCEEDED",
                    "UNIMPLEMENTED",
                    "INTERNAL",
                    "UNAVAILABLE",
                    "DATA_LOSS",
                ]
                .contains(&status),
            };
            ensure!((span.status == "ERROR") == failed, "{span:?}");
        }
        ensure!(
            found == counted,
            "{kind}: {found:#?} instead of {counted:#?}"
        );
    }
    for span in spans.iter().filter(|span| span.is_server()) {
        let client = spans.iter().find(|other| other.id == span.parent);
        let client = client.with_context(|| format!("no parent of {span:?}"))?;
        let stream = |span: &SpanSeen| span.attributes.integer("observer.http2.stream");
        let port =
            |span: &SpanSeen, end: &str| span.attributes.integer(&format!("network.{end}.port"));
        ensure!(
            port(client, "local") == port(span, "peer"),
            "{client:?} {span:?}"
        );
        ensure!(
            client.trace == span.trace && stream(client) == stream(span),
            "{span:?}"
        );
        ensure!(client.attributes.text("rpc.method") == span.attributes.text("rpc.method"));
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn lookups_are_spans_of_their_questions() -> Result<()> {
    let tools = ["ip", "dnsmasq", "dig"].map(Need::Tool);
    if lacking(&tools)? || lacking(&[Need::Observer, Need::Peer(Peer::Python)])? {
        return Ok(());
    }
    let (cgroup, collector) = (Cgroup::create("dns")?, Collector::start()?);
    let namespace = Namespace::create("dns")?;
    let place = Place::inside(&cgroup, &namespace);
    let records = ["host-record=web.test,10.7.0.2"];
    let resolver = Resolver::dnsmasq(&place, &namespace, Ipv4Addr::LOCALHOST, &records)?;
    let configuration =
        settings::tracing(&collector.grpc(), &[]).replace("dns: false", "dns: true");
    let agent = observe(&cgroup, &configuration)?;
    let begun = now();
    for (name, code) in [("web.test", "NOERROR"), ("missing.test", "NXDOMAIN")] {
        let dug = resolver.dig(&place, &[name, "A"])?;
        ensure!(dug.status == code, "{dug:?}");
        let spans = collector.exactly(2, name, |span| {
            span.attributes.text("dns.question.name") == name
        })?;
        for span in &spans {
            ensure!(span.name == "DNS A", "{span:?}");
            ensure!(span.attributes.text("dns.question.type") == "A", "{span:?}");
            ensure!(
                span.attributes.text("dns.response.code") == code,
                "{span:?}"
            );
            ensure!(
                span.attributes.text("network.transport") == "udp",
                "{span:?}"
            );
            ensure!((span.status == "ERROR") == (code != "NOERROR"), "{span:?}");
            ensure!(
                begun <= span.start && span.start <= span.end && span.end <= now(),
                "{span:?}"
            );
            let answers = span.attributes.get("dns.answers");
            let expected = json!([["string", "10.7.0.2"]]);
            ensure!((*answers == expected) == (code == "NOERROR"), "{span:?}");
        }
        let mut services: Vec<&str> = spans.iter().map(SpanSeen::service).collect();
        services.sort_unstable();
        ensure!(services == ["dig", "dnsmasq"], "{services:?}");
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn the_access_log_tells_what_spans_tell() -> Result<()> {
    let tools = ["nginx", "curl"].map(Need::Tool);
    if lacking(&[Need::Observer, Need::Peer(Peer::Python)])? || lacking(&tools)? {
        return Ok(());
    }
    let (cgroup, collector) = (Cgroup::create("access")?, Collector::start()?);
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let configuration = settings::tracing(&collector.grpc(), &[])
        .replace("logs:\n    enabled: false", "logs:\n    enabled: true")
        + "access_log:\n  to: otlp\n";
    let agent = observe(&cgroup, &configuration)?;
    for (path, status, [client_severity, server_severity]) in [
        ("/hello", 200, ["INFO", "INFO"]),
        ("/nothing", 404, ["WARN", "WARN"]),
        ("/unavailable", 503, ["ERROR", "ERROR"]),
    ] {
        let url = nginx.url(&format!("{path}?secret-query=1"));
        let fetched = client::curl(&place, &[&SAYING_SECRETS[..], &[&url]].concat())?;
        ensure!(fetched.status == status, "{fetched:?}");
        let spans = collector.exactly(2, path, |span| span.path() == path)?;
        let (client, server) = of_both(&spans, path)?;
        for (span, severity) in [(client, client_severity), (server, server_severity)] {
            let records =
                observer_tests::wait::until("a record", observer_tests::wait::PATIENCE, || {
                    let logs = collector.logs()?;
                    let own: Vec<_> = logs.into_iter().filter(|log| log.id == span.id).collect();
                    Ok((!own.is_empty()).then_some(own))
                })?;
            ensure!(records.len() == 1, "{records:?}");
            let record = &records[0];
            ensure!(
                record.trace == span.trace && record.time == span.end,
                "{record:?}"
            );
            ensure!(record.observed >= record.time, "{record:?}");
            ensure!(record.event == "observer.access", "{record:?}");
            ensure!(record.severity_text == severity, "{record:?}");
            ensure!(record.resource == span.resource, "{record:?}");
            let body = record.body.1.as_str().unwrap_or_default();
            ensure!(body.starts_with(&format!("GET {path} {status} ")), "{body}");
            for name in [
                "http.request.method",
                "http.response.status_code",
                "url.path",
                "url.full",
            ] {
                ensure!(
                    record.attributes.get(name) == span.attributes.get(name),
                    "{record:?}"
                );
            }
            let took = (span.end - span.start) as f64 / 1e9;
            let told = record.attributes.get("observer.duration").as_f64();
            ensure!(
                told.is_some_and(|told| (told - took).abs() < 1e-6),
                "{record:?}"
            );
        }
    }
    collector.expect_without(&SECRETS)?;
    agent.expect_no_loss()?;
    agent.stop()
}

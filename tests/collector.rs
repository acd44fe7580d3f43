//! The harness' collectors are what they say: one passes on what the other receives, and refusals
//! are what OTLP says they are; without an observer.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    certificates::Authority,
    collector::{Collector, Options},
    peers::Peer,
    process,
    requirement::{Need, lacking},
    rotel::Rotel,
    wait::{self, PATIENCE},
};
use serde_json::json;

/// A field of protobuf that has a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let (low, high) = (content.len() % 128, content.len() / 128);
    assert!(high < 128, "two bytes of length");
    [&[number << 3 | 2, low as u8 | 0x80, high as u8], content].concat()
}

/// An ExportTraceServiceRequest with one span, `name`, of a server, by the fields' numbers in
/// opentelemetry-proto.
fn message(name: &str) -> Vec<u8> {
    let mut span = [field(1, &[1; 16]), field(2, &[2; 8]), field(4, &[3; 8])].concat();
    span.extend(field(5, name.as_bytes()));
    span.extend([6 << 3, 2]);
    // Flags are fixed32: the parent is remote, and sampled.
    span.extend([0x85, 0x01, 0x01, 0x03, 0, 0]);
    let text = |key: &str, value: &str| {
        [
            field(1, key.as_bytes()),
            field(2, &field(1, value.as_bytes())),
        ]
        .concat()
    };
    span.extend(field(9, &text("observer.parent.source", "hop")));
    let resource = field(1, &text("service.name", "shop"));
    field(
        1,
        &[field(1, &resource), field(2, &field(2, &span))].concat(),
    )
}

/// Sends a span to an endpoint for HTTP, and returns the status with what the answer asks to wait.
fn send(endpoint: &str, name: &str, more: &[&str]) -> Result<(String, String)> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), message(name))?;
    let mut command = std::process::Command::new("curl");
    command.args(["--silent", "--output", "/dev/null", "--max-time", "5"]);
    command.args(["--write-out", "%{http_code} %header{retry-after}"]);
    command.args(["--header", "Content-Type: application/x-protobuf"]);
    command
        .arg("--data-binary")
        .arg(format!("@{}", file.path().display()));
    command.args(more).arg(format!("{endpoint}/v1/traces"));
    let output = process::run(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (status, wait) = text.split_once(' ').context("curl tells nothing")?;
    Ok((status.to_owned(), wait.to_owned()))
}

#[test]
fn what_is_sent_to_rotel_reaches_the_collector() -> Result<()> {
    let needs = [Peer::Python, Peer::Rotel].map(Need::Peer);
    if lacking(&needs)? || lacking(&[Need::Tool("curl")])? {
        return Ok(());
    }
    let collector = Collector::start()?;
    let rotel = Rotel::start(&collector)?;
    ensure!(send(&rotel.http(), "GET /a", &[])?.0 == "200");
    let spans = collector.exactly(1, "a span", |_| true)?;
    let span = &spans[0];
    ensure!(span.name == "GET /a" && span.is_server(), "{span:?}");
    ensure!(
        span.trace == "01".repeat(16) && span.id == "02".repeat(8),
        "{span:?}"
    );
    ensure!(
        span.parent == "03".repeat(8) && span.flags == 0x301,
        "{span:?}"
    );
    ensure!(
        span.service() == "shop" && span.source() == "hop",
        "{span:?}"
    );
    ensure!(span.resource.kind("service.name") == "string", "{span:?}");
    let requests = collector.requests()?;
    ensure!(
        requests[0].encoding == "gzip" && requests[0].taken,
        "{requests:?}"
    );
    ensure!(
        collector.expect_without(&["GET /a"]).is_err(),
        "the message is not kept"
    );
    collector.expect_without(&["GET /b"])
}

#[test]
fn a_collector_refuses_leaves_and_comes_back() -> Result<()> {
    if lacking(&[Need::Peer(Peer::Python), Need::Tool("curl")])? {
        return Ok(());
    }
    let mut collector = Collector::start()?;
    let endpoint = collector.http();
    collector.behave(&json!({"status": "RESOURCE_EXHAUSTED", "retry": 2, "times": 1}))?;
    let (status, wait) = send(&endpoint, "refused", &[])?;
    ensure!(status == "429" && wait == "2", "{status} {wait}");
    ensure!(send(&endpoint, "taken", &[])?.0 == "200");
    collector.behave(&json!({"reject": 1, "times": 1}))?;
    ensure!(send(&endpoint, "rejected", &[])?.0 == "200");
    collector.leave()?;
    ensure!(send(&endpoint, "lost", &[])?.0 == "000");
    collector.come()?;
    ensure!(send(&endpoint, "back", &[])?.0 == "200");
    collector.freeze()?;
    ensure!(send(&endpoint, "late", &["--max-time", "0.2"])?.0 == "000");
    collector.thaw()?;
    wait::until("what waited in the kernel", PATIENCE, || {
        Ok((collector.spans()?.len() == 4).then_some(()))
    })?;
    collector.settle(Duration::from_millis(100))?;
    let names: Vec<String> = collector
        .spans()?
        .into_iter()
        .map(|span| span.name)
        .collect();
    ensure!(names == ["taken", "rejected", "back", "late"], "{names:?}");
    let statuses: Vec<(String, u64)> = collector
        .requests()?
        .into_iter()
        .map(|request| (request.status, request.rejected))
        .collect();
    ensure!(
        statuses[0].0 == "RESOURCE_EXHAUSTED" && statuses[2] == ("OK".to_owned(), 1),
        "{statuses:?}"
    );
    ensure!(collector.messages()?.len() == 5, "{statuses:?}");
    Ok(())
}

#[test]
fn a_collector_demands_certificates_and_a_header() -> Result<()> {
    if lacking(&[
        Need::Peer(Peer::Python),
        Need::Tool("curl"),
        Need::Tool("openssl"),
    ])? {
        return Ok(());
    }
    let authority = Authority::create()?;
    let server = authority.sign("collector", &["IP:127.0.0.1"])?;
    let client = authority.sign("agent", &["DNS:agent.test"])?;
    let collector = Collector::start_with(&Options {
        identity: Some(&server),
        clients: Some(&authority.certificate()),
        header: Some("x-key=secret"),
        ..Options::default()
    })?;
    let endpoint = collector.http();
    let path = |path: &std::path::Path| path.display().to_string();
    let (ca, certificate, key) = (
        path(&authority.certificate()),
        path(&client.certificate),
        path(&client.key),
    );
    let trust = ["--cacert", ca.as_str()];
    let own = ["--cert", certificate.as_str(), "--key", key.as_str()];
    ensure!(send(&endpoint, "a stranger", &trust)?.0 == "000");
    let known = [trust, own[..2].try_into()?, own[2..].try_into()?].concat();
    ensure!(send(&endpoint, "without the header", &known)?.0 == "401");
    let all = [&known[..], &["--header", "X-Key: secret"]].concat();
    ensure!(send(&endpoint, "as it should be", &all)?.0 == "200");
    let spans = collector.spans()?;
    ensure!(
        spans.len() == 1 && spans[0].name == "as it should be",
        "{spans:?}"
    );
    Ok(())
}

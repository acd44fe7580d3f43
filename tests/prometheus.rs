//! A real Prometheus scrapes the observer, in the formats that it asks for, and tells the same
//! numbers as the clients.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    client, http,
    place::Place,
    prometheus::{Prometheus, lint},
    requirement::{Need, lacking},
    server::Server,
    settings, wait,
};

const NEEDS: &[Need] = &[
    Need::Observer,
    Need::Tool("nginx"),
    Need::Tool("wrk"),
    Need::Tool("curl"),
    Need::Tool("prometheus"),
    Need::Tool("promtool"),
];

const DURATION: &str = "http_server_request_duration_seconds";

/// An observer that has seen nginx answer wrk and curl, and how many requests that were.
struct Seen {
    agent: Agent,
    /// Answered with 200.
    answered: u64,
    /// Answered with 404.
    missing: u64,
    _nginx: Server,
}

fn observed(cgroup: &Cgroup) -> Result<Seen> {
    let place = Place::host(cgroup);
    let nginx = Server::nginx(&place)?;
    // Spans are there where somebody is to get them; that nobody does is no matter here.
    let nobody = place.free_port()?;
    let spans = settings::tracing(&format!("http://127.0.0.1:{nobody}"), &[]);
    let configuration = Some(settings::all_metrics() + &spans);
    let agent = Agent::start_with(
        cgroup,
        &Options {
            configuration,
            ..Options::default()
        },
    )?;
    let answered = client::wrk(&place, &nginx.url("/hello"), 4, 400, 2, 2)?;
    let missing = 3;
    for _ in 0..missing {
        client::curl(&place, &[&nginx.url("/there-is-none")])?;
    }
    let all = answered + missing;
    agent.expect_metric(&format!("{DURATION}_count"), &[], all)?;
    agent.expect_metric("http_client_request_duration_seconds_count", &[], all)?;
    Ok(Seen {
        agent,
        answered,
        missing,
        _nginx: nginx,
    })
}

/// Content of `/metrics` for who accepts `accept`.
fn scraped(address: SocketAddr, accept: &str) -> Result<String> {
    let url = format!("http://{address}/metrics");
    let field = format!("Accept: {accept}");
    let mut command = std::process::Command::new("curl");
    command.args(["-sS", "--fail", "--compressed", "-H", &field, &url]);
    observer_tests::process::check(&mut command)
}

fn count(text: &str, needle: &str) -> usize {
    text.matches(needle).count()
}

#[test]
fn the_text_is_what_promtool_wants() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("promtool")?;
    let seen = observed(&cgroup)?;
    let text = seen.agent.get("/metrics")?;
    let said = lint(&text)?;
    ensure!(said.is_empty(), "{said}");
    let plain = scraped(seen.agent.address(), "text/plain;version=0.0.4")?;
    ensure!(count(&plain, "# TYPE") == count(&text, "# TYPE"));
    let open = scraped(seen.agent.address(), "application/openmetrics-text")?;
    ensure!(count(&open, "# TYPE") == count(&text, "# TYPE"));
    ensure!(open.ends_with("# EOF\n"));
    let head = http::get(seen.agent.address(), "/metrics")?.head;
    ensure!(head.to_ascii_lowercase().contains("vary: accept"), "{head}");
    seen.agent.stop()
}

/// What both ends of the same calls add up to, whatever the histograms are; `count` makes the
/// expression that counts a histogram.
fn expect_counts(prometheus: &Prometheus, seen: &Seen, count: fn(&str) -> String) -> Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let (answered, missing) = (seen.answered as f64, seen.missing as f64);
    let all = answered + missing;
    prometheus.expect("sum(up)", 1.0)?;
    prometheus.expect(&count(DURATION), all)?;
    let status = |code: u16| {
        count(&format!(
            "{DURATION}{{http_response_status_code=\"{code}\"}}"
        ))
    };
    prometheus.expect(&status(200), answered)?;
    prometheus.expect(&status(404), missing)?;
    // Both ends are on this host: only the server's counts.
    prometheus.expect("sum(traces_service_graph_request_total)", all)?;
    prometheus.expect(
        "sum(traces_service_graph_request_total{server=\"nginx\",connection_type=\"\"})",
        all,
    )?;
    let graph = |end: &str| count(&format!("traces_service_graph_request_{end}_seconds"));
    prometheus.expect(&graph("server"), all)?;
    prometheus.expect(&graph("client"), all)?;
    for (kind, status, expected) in [
        ("SERVER", "UNSET", all),
        ("CLIENT", "UNSET", answered),
        ("CLIENT", "ERROR", missing),
    ] {
        let labels =
            format!("{{span_kind=\"SPAN_KIND_{kind}\",status_code=\"STATUS_CODE_{status}\"}}");
        prometheus.expect(
            &format!("sum(traces_spanmetrics_calls_total{labels})"),
            expected,
        )?;
        prometheus.expect(
            &count(&format!("traces_spanmetrics_latency{labels}")),
            expected,
        )?;
    }
    Ok(())
}

/// Exemplars are spans that the observer names, too.
fn expect_exemplars(prometheus: &Prometheus, seen: &Seen, selector: &str) -> Result<()> {
    let open = scraped(seen.agent.address(), "application/openmetrics-text")?;
    ensure!(open.contains(" # {trace_id="), "no exemplars: {open}");
    let found = wait::until("exemplars", wait::PATIENCE, || {
        let found = prometheus.exemplars(selector)?;
        Ok((!found.is_empty()).then_some(found))
    })?;
    for exemplar in found {
        let trace = exemplar["labels"]["trace_id"]
            .as_str()
            .context("no trace")?;
        ensure!(trace.len() == 32, "{exemplar}");
        ensure!(open.contains(trace), "{exemplar} is none of the observer's");
    }
    Ok(())
}

#[test]
fn open_metrics_are_read_with_classic_histograms() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("openmetrics")?;
    let seen = observed(&cgroup)?;
    let prometheus = Prometheus::start(seen.agent.address(), &["exemplar-storage"])?;
    expect_counts(&prometheus, &seen, |selector| {
        let (name, labels) = selector.split_once('{').unwrap_or((selector, "}"));
        format!("sum({name}_count{{{labels})")
    })?;
    let quantile = format!("histogram_quantile(0.5, sum by (le) ({DURATION}_bucket))");
    let median = prometheus.value(&quantile)?.context("no quantile")?;
    ensure!(median > 0.0 && median <= 0.1, "{median}");
    expect_exemplars(&prometheus, &seen, &format!("{DURATION}_bucket"))?;
    seen.agent.stop()
}

/// Prometheus 2.40 and later with the feature `native-histograms`, Debian's 2.42 among them; later
/// ones take the name and have them anyway.
#[test]
fn native_histograms_are_read_by_protobuf() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("native")?;
    let seen = observed(&cgroup)?;
    let features = ["native-histograms", "exemplar-storage"];
    let prometheus = Prometheus::start(seen.agent.address(), &features)?;
    expect_counts(&prometheus, &seen, |selector| {
        format!("histogram_count(sum({selector}))")
    })?;
    let of = |expression: &str| prometheus.value(expression)?.context("no value");
    let mean = of(&format!(
        "histogram_sum(sum({DURATION})) / histogram_count(sum({DURATION}))"
    ))?;
    let quantile = |share: f64| of(&format!("histogram_quantile({share}, sum({DURATION}))"));
    let (lowest, median, highest) = (quantile(0.0)?, quantile(0.5)?, quantile(1.0)?);
    ensure!(
        0.0 < lowest && lowest <= median && median <= highest,
        "{lowest} {median} {highest}"
    );
    ensure!(lowest < mean && mean < highest, "{lowest} {mean} {highest}");
    // Durations on loopback are far below the first fixed bound: only narrow buckets tell them.
    ensure!(median < 0.005, "{median}");
    expect_exemplars(&prometheus, &seen, DURATION)?;
    seen.agent.stop()
}

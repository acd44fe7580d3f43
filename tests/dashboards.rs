//! What is made for Grafana and Prometheus works with a real Prometheus that scrapes a real observer:
//! every query of every dashboard and rule is answered, and most with data.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    certificates::Authority,
    cgroup::Cgroup,
    chart, client,
    collector::Collector,
    peers::{self, Peer},
    place::Place,
    process,
    prometheus::Prometheus,
    requirement::{Need, find_tool, lacking},
    server::{PYTHON, Server},
    settings, wait,
};
use serde_json::Value;

#[path = "dashboards/queries.rs"]
mod queries;

use queries::{Query, dashboards, rules};

const NEEDS: &[Need] = &[
    Need::Observer,
    Need::Tool("nginx"),
    Need::Tool("curl"),
    Need::Tool("openssl"),
    Need::Tool(PYTHON),
    Need::Tool("prometheus"),
    Need::Peer(Peer::Python),
];

/// How long there is traffic: a few scrapes, and a few evaluations of rules.
const TRAFFIC: Duration = Duration::from_secs(14);

/// What may have no data after this traffic: part of the place of a query, and why.
const MAY_BE_EMPTY: &[(&str, &str)] = &[
    ("Service mesh: ", "there is no mesh"),
    ("Own health: Not known", "there is no Kubernetes"),
    ("Own health: Age of what is known", "there is no Kubernetes"),
    ("Own health: Objects", "there is no Kubernetes"),
    ("Own health: Errors", "there is no Kubernetes"),
    ("Own health: Requests", "there is no Kubernetes"),
    ("variable cluster", "no cluster has a name"),
    ("variable namespace", "services of a host have no namespace"),
    (
        "variable source_namespace",
        "services of a host have no namespace",
    ),
    (
        "variable destination_namespace",
        "services of a host have no namespace",
    ),
];

/// A host with servers of all kinds.
struct Shop<'a> {
    place: Place<'a>,
    nginx: Server,
    python: Server,
    rpc: Server,
    tls: Server,
    _authority: Authority,
    closed_port: u16,
}

/// What clients did.
#[derive(Debug, Default)]
struct Done {
    to_nginx: u64,
    failed: u64,
    refused: u64,
}

impl<'a> Shop<'a> {
    fn open(cgroup: &'a Cgroup) -> Result<Self> {
        let authority = Authority::create()?;
        let pair = authority.sign("a.test", &["DNS:a.test"])?;
        let place = Place::host(cgroup);
        let mut command = place.command("openssl")?;
        command.args(["s_server", "-quiet", "-www", "-cert"]);
        command.arg(&pair.certificate).arg("-key").arg(&pair.key);
        let tls = Server::other(&place, &mut command, |command, _, port| {
            command.args(["-accept", &format!("127.0.0.1:{port}")]);
            Ok(())
        })?;
        Ok(Self {
            nginx: Server::nginx(&place)?,
            python: Server::python(&place, &[])?,
            rpc: Server::rpc(&place, [127, 0, 0, 1].into())?,
            tls,
            _authority: authority,
            closed_port: place.free_port()?,
            place,
        })
    }

    /// Traffic of all kinds, for a while.
    fn trade(&self) -> Result<Done> {
        let mut done = Done::default();
        let start = Instant::now();
        let rpc = self.rpc.address().to_string();
        let mut round = 0;
        while start.elapsed() < TRAFFIC {
            let curl = |arguments: &[&str]| client::curl(&self.place, arguments);
            for _ in 0..3 {
                ensure!(curl(&[&self.nginx.url("/hello")])?.status == 200);
                done.to_nginx += 1;
            }
            ensure!(curl(&[&self.python.url("/status/503")])?.status == 503);
            done.failed += 1;
            let refused = format!("http://127.0.0.1:{}/", self.closed_port);
            ensure!(curl(&[&refused])?.status == 0);
            done.refused += 1;
            let secure = format!("https://{}/", self.tls.address());
            ensure!(curl(&["--insecure", &secure])?.status == 200);
            if round % 4 == 0 {
                peers::count(&mut peers::python(
                    &self.place,
                    "rpc.py",
                    &["call", &rpc, "2"],
                )?)?;
            }
            round += 1;
            sleep(Duration::from_millis(400));
        }
        Ok(done)
    }
}

fn observe(cgroup: &Cgroup, collector: &Collector) -> Result<Agent> {
    let spans = settings::tracing(&collector.grpc(), &[]);
    let configuration = Some(settings::all_metrics() + &spans);
    let options = Options {
        configuration,
        ..Options::default()
    };
    Agent::start_with(cgroup, &options)
}

#[test]
fn every_query_is_answered_and_most_have_data() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("dashboards")?;
    let shop = Shop::open(&cgroup)?;
    let collector = Collector::start()?;
    let agent = observe(&cgroup, &collector)?;
    let files = queries::rule_files()?;
    let quick: Vec<String> = files
        .iter()
        .map(|(_, content)| content.replace("interval: \"30s\"", "interval: \"1s\""))
        .collect();
    let prometheus = Prometheus::start_with_rules(agent.address(), &["exemplar-storage"], &quick)?;
    let done = shop.trade()?;
    the_node_graph(&agent, &done)?;
    // What is recorded of records comes a second later each.
    wait::until("rules", Duration::from_secs(20), || {
        let last = prometheus.series("service:slo_errors:ratio_rate3d")?;
        Ok((!last.is_empty() && prometheus.broken_rules()?.is_empty()).then_some(()))
    })?;
    let mut problems = Vec::new();
    let mut asked = 0;
    for query in dashboards()?.into_iter().chain(rules()?) {
        asked += 1;
        let Query {
            place,
            expression,
            data,
        } = &query;
        let empty = MAY_BE_EMPTY.iter().any(|(part, _)| place.contains(part)) || !data;
        // A scrape that took too long on a busy machine leaves a second without data.
        let answered = wait::until("data", wait::PATIENCE, || {
            let series = prometheus.series(expression)?;
            Ok((empty || !series.is_empty()).then_some(()))
        });
        if let Err(error) = answered {
            problems.push(format!("{place}: {error:#}: {expression}"));
        }
    }
    ensure!(asked > 150, "only {asked} queries");
    ensure!(
        problems.is_empty(),
        "{} of {asked}:\n{}\n{}",
        problems.len(),
        problems.join("\n"),
        agent.get("/metrics")?
    );
    // What a dashboard shows of errors is what clients saw.
    let errors = prometheus
        .value("max(service:http_server_errors:ratio_rate5m{service_name=\"python3\"})")?;
    let errors = errors.or(prometheus.value("max(service:http_server_errors:ratio_rate5m)")?);
    ensure!(errors.is_some_and(|ratio| ratio > 0.5), "{errors:?}");
    // Points of the panels with durations lead to traces.
    let exemplars = prometheus.exemplars("http_server_request_duration_seconds_bucket")?;
    ensure!(!exemplars.is_empty(), "no exemplars");
    agent.expect_no_loss()?;
    agent.stop()
}

/// Titles of the nodes of an answer.
fn titles(graph: &Value) -> BTreeSet<&str> {
    let nodes = graph["nodes"].as_array().into_iter().flatten();
    nodes.filter_map(|node| node["title"].as_str()).collect()
}

/// Edges of an answer that end at a node of this title.
fn edges_to<'a>(graph: &'a Value, title: &str) -> Vec<&'a Value> {
    let nodes = graph["nodes"].as_array().into_iter().flatten();
    let ids: Vec<&Value> = nodes
        .filter(|node| node["title"] == title)
        .map(|node| &node["id"])
        .collect();
    let edges = graph["edges"].as_array().into_iter().flatten();
    edges
        .filter(|edge| ids.contains(&&edge["target"]))
        .collect()
}

/// The graph over HTTP tells what clients did, in every way that it is asked.
fn the_node_graph(agent: &Agent, done: &Done) -> Result<()> {
    let ask = |query: &str| -> Result<Value> {
        let body = agent.get(&format!("/api/v1/node-graph?{query}"))?;
        serde_json::from_str(&body).context(body)
    };
    // The last call is counted when its records are read.
    let requests = |graph: &Value, title: &str, key: &str| -> f64 {
        let seconds = graph["window_seconds"].as_f64().unwrap_or(0.0);
        let edges = edges_to(graph, title);
        let rates = edges.iter().filter_map(|edge| edge[key].as_f64());
        rates.sum::<f64>() * seconds
    };
    let mut graph = Value::Null;
    let reached = wait::until("the graph", wait::PATIENCE, || {
        graph = ask("window=1m")?;
        let found = requests(&graph, "nginx", "detail__requests_per_second");
        // Both ends are of this host: the same calls are not counted twice.
        Ok(((found - done.to_nginx as f64).abs() < 0.5).then_some(()))
    });
    reached.with_context(|| format!("{done:?}: {graph:#}"))?;
    let seconds = graph["window_seconds"].as_f64().unwrap_or(0.0);
    ensure!(
        (TRAFFIC.as_secs_f64() - 2.0..=70.0).contains(&seconds),
        "{seconds} seconds"
    );
    let nginx = edges_to(&graph, "nginx");
    ensure!(nginx.len() == 1, "{nginx:#?}");
    ensure!(nginx[0]["detail__error_ratio"] == 0.0, "{nginx:#?}");
    ensure!(nginx[0]["strokeDasharray"] == "8 4", "{nginx:#?}");
    ensure!(
        nginx[0]["detail__p95_seconds"]
            .as_f64()
            .is_some_and(|p95| p95 < 5.0),
        "{nginx:#?}"
    );
    // Focus: who calls nginx, and nobody else; two edges further there is everybody that curl calls.
    let near = ask("window=1m&focus=nginx")?;
    ensure!(
        titles(&near) == BTreeSet::from(["curl", "nginx"]),
        "{near:#}"
    );
    let far = ask("window=1m&focus=nginx&depth=2")?;
    ensure!(titles(&far).len() > 3, "{far:#}");
    // Errors: calls that failed, and connections that were refused.
    let failed = ask("window=1m&errors=true")?;
    ensure!(edges_to(&failed, "nginx").is_empty(), "{failed:#}");
    let edges = failed["edges"].as_array().context("edges")?;
    let sum = |key: &str| -> f64 {
        edges
            .iter()
            .filter_map(|edge| edge[key].as_f64())
            .sum::<f64>()
            * seconds
    };
    let refused = sum("detail__connect_failures_per_second");
    let told = sum("detail__errors_per_second");
    ensure!(
        (refused - done.refused as f64).abs() < 1.5,
        "{refused} of {done:?}"
    );
    ensure!(told > done.failed as f64 - 1.5, "{told} of {done:?}");
    // Security.
    let closed = ask("window=1m&security=encrypted")?;
    let edges = closed["edges"].as_array().context("edges")?;
    ensure!(!edges.is_empty(), "{closed:#}");
    ensure!(
        edges
            .iter()
            .all(|edge| edge["detail__encrypted_ratio"] == 1.0),
        "{closed:#}"
    );
    // Groups and limits.
    let zones = ask("window=1m&group=zone")?;
    ensure!(
        zones["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.len() == 1),
        "{zones:#}"
    );
    let few = ask("window=1m&limit=2")?;
    let left_out = few["nodes_left_out"].as_u64().unwrap_or(0);
    ensure!(left_out as usize + 2 == titles(&graph).len(), "{few:#}");
    // The plugin's endpoints.
    ensure!(agent.get("/api/health")?.starts_with("observed"));
    let fields: Value = serde_json::from_str(&agent.get("/api/graph/fields")?)?;
    ensure!(fields["edges_fields"].is_array(), "{fields}");
    let data = agent.get("/api/graph/data?query=focus%3Dnginx%26window%3D1m")?;
    ensure!(
        titles(&serde_json::from_str(&data)?).contains("nginx"),
        "{data}"
    );
    // What was a while ago is in the long window and not in the short one.
    wait::until("an empty window", Duration::from_secs(40), || {
        let graph = ask("window=10s&min_rate=0.001")?;
        Ok(edges_to(&graph, "nginx").is_empty().then_some(()))
    })?;
    let long = ask("window=5m")?;
    let found = requests(&long, "nginx", "detail__requests_per_second");
    ensure!(
        (found - done.to_nginx as f64).abs() < 0.5,
        "{found} of {done:?}"
    );
    Ok(())
}

#[test]
fn rules_are_those_of_prometheus_and_their_tests_pass() -> Result<()> {
    if lacking(&[Need::Tool("promtool")])? {
        return Ok(());
    }
    let promtool = || {
        find_tool("promtool")
            .context("no promtool")
            .map(Command::new)
    };
    let mut check = promtool()?;
    check.args(["check", "rules"]);
    for (path, _) in queries::rule_files()? {
        check.arg(path);
    }
    process::check(&mut check)?;
    let mut tests = Vec::new();
    for entry in fs::read_dir(chart::workspace().join("tests/rules"))? {
        tests.push(entry?.path());
    }
    ensure!(tests.len() > 2, "{tests:?}");
    tests.sort();
    // One process for each: reading three days takes a while.
    for test in tests {
        let mut command = promtool()?;
        command.args(["test", "rules"]).arg(&test);
        let output = process::run_within(&mut command, Duration::from_secs(180))?;
        ensure!(
            output.status.success(),
            "{}: {}{}",
            test.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

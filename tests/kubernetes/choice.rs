//! Pods that are chosen or left out, and the graph of those that are seen.

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::Agent,
    apiserver::{double::Double, objects},
    kubernetes::{Control, NAMESPACE, PORT, Site, ask, lines, serve},
    node::{Cluster, Layout, PodSpec},
    process,
    requirement::{Need, lacking},
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

const NEEDS: [Need; 4] = [
    Need::Observer,
    Need::Tool("nft"),
    Need::Tool("nginx"),
    Need::Tool("curl"),
];

#[test]
fn pods_are_left_out_and_chosen() -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    let api = Double::start()?;
    let cluster = Cluster::create("choice", &[Layout::Containerd])?;
    let site = Site::new(&api, &cluster, 1)?;
    site.api.create(&objects::namespace("other"))?;
    let server = site.pod(1, "server", Control::Bare)?;
    let _server = serve(&server.pod)?;
    let web = Control::Set("web-6d", ("apps/v1", "Deployment", "web"));
    let log = Control::Direct("apps/v1", "DaemonSet", "log");
    let clients = [
        site.run(1, PodSpec::new(NAMESPACE, "web"), web, |object| {
            object["metadata"]["labels"]["tier"] = json!("front-end");
        })?,
        site.pod(1, "log", log)?,
        site.run(1, PodSpec::new("other", "foreign"), Control::Bare, |_| ())?,
    ];
    let agents = [
        (
            "ignore:\n  namespaces: [other]\n",
            vec!["log", "server", "web"],
        ),
        ("only:\n  workloads: [shop/Deployment/*]\n", vec!["web"]),
        ("only:\n  pod_labels: [tier=front*]\n", vec!["web"]),
        (
            "ignore:\n  workloads: [DaemonSet/log]\n",
            vec!["foreign", "server", "web"],
        ),
    ];
    let started = agents.iter().map(|(text, _)| site.agent(1, &[], text));
    let started: Vec<Agent> = started.collect::<Result<_>>()?;
    for client in &clients {
        ask(
            &client.pod.container("app")?,
            &format!("{}/who", server.pod.at(PORT)),
            3,
        )?;
    }
    for ((text, expected), agent) in agents.iter().zip(&started) {
        let calls = if expected.contains(&"server") {
            3 * (expected.len() - 1) + 9
        } else {
            3 * expected.len()
        };
        let calls = agent.exactly(calls, text, |flow| flow.is_call())?;
        let found = lines(&calls, &["k8s_pod"]);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        ensure!(names == *expected, "{text}: {found:?}");
    }
    for agent in started {
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

fn edge(graph: &Value) -> Result<Value> {
    let edges = graph["edges"].as_array().context("no edges")?;
    let http = edges.iter().filter(|edge| edge["protocol"] == "http");
    let http: Vec<&Value> = http.collect();
    ensure!(http.len() == 1, "{graph:#}");
    Ok(http[0].clone())
}

#[test]
fn the_graph_has_what_clients_counted() -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    let api = Double::start()?;
    let cluster = Cluster::create("graph", &[Layout::Containerd, Layout::Containerd])?;
    let site = Site::new(&api, &cluster, 2)?;
    let control = |name| Control::Set("set", ("apps/v1", "Deployment", name));
    let front = site.pod(1, "front-a", control("front"))?;
    let back = Control::Direct("apps/v1", "StatefulSet", "back");
    let back = site.pod(2, "back-0", back)?;
    let _server = serve(&back.pod)?;
    let agents = [site.agent(1, &[], "")?, site.agent(2, &[], "")?];
    let place = front.pod.container("app")?;
    ask(&place, &format!("{}/good", back.pod.at(PORT)), 17)?;
    let bad = format!("http://{}/unavailable?[1-5]", back.pod.at(PORT));
    let mut command = place.command("curl")?;
    command.args(["--silent", "--output", "/dev/null", &bad]);
    process::check(&mut command)?;
    for (agent, side) in agents.iter().zip(["client", "server"]) {
        let graph = || -> Result<Value> { Ok(serde_json::from_str(&agent.get("/api/v1/graph")?)?) };
        wait::until("the edge", PATIENCE, || {
            let graph = graph()?;
            let edges = graph["edges"].as_array().context("no edges")?;
            Ok(edges
                .iter()
                .any(|edge| edge["requests_total"] == 22)
                .then_some(()))
        })?;
        let edge = edge(&graph()?)?;
        // An error is the server's at both ends: 503.
        let expected = json!({
            "source": "workload:shop/Deployment/front",
            "destination": "workload:shop/StatefulSet/back",
            "source_zone": "eu-1a", "destination_zone": "eu-1b", "reporter": side,
            "same_host": false, "requests_total": 22, "errors_total": 5,
            "connections_opened_total": 18, "dialled_service": null,
        });
        for (key, value) in expected.as_object().into_iter().flatten() {
            ensure!(edge[key] == *value, "{key} at the {side}: {edge:#}");
        }
        let labels = [
            ("source_name", "front"),
            ("source_namespace", NAMESPACE),
            ("destination_name", "back"),
            ("reporter", side),
            ("k8s_cluster_name", "test"),
        ];
        agent.expect_metric("observer_edge_requests_total", &labels, 22)?;
        agent.expect_metric("observer_edge_errors_total", &labels, 5)?;
        let own = [
            ("client", "Deployment", "front", "front-a"),
            ("server", "StatefulSet", "back", "back-0"),
        ];
        let (_, kind, workload, pod) = own[usize::from(side == "server")];
        let labels = [
            ("k8s_namespace_name", NAMESPACE),
            ("k8s_workload_kind", kind),
            ("k8s_workload_name", workload),
        ];
        let name = format!("http_{side}_request_duration_seconds_count");
        agent.expect_metric(&name, &labels, 22)?;
        agent.expect_metric("observer_pod_info", &[("k8s_pod_name", pod)], 1)?;
    }
    for agent in agents {
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

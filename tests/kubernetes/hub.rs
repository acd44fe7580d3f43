//! With a hub: the same names, little asked of the API server, and names that last while either of
//! them is away.

use std::time::Duration;

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    apiserver::{
        Cluster as Api,
        double::Double,
        faults::{Act, Fault},
        objects,
    },
    kubernetes::{Control, Known, PORT, Site, ask, expect, knows, serve},
    node::{Backend, Cluster, Layout, Service},
    requirement::{Need, lacking},
    wait::{self, PATIENCE},
};
use serde_json::json;

const NEEDS: [Need; 4] = [
    Need::Observer,
    Need::Tool("nft"),
    Need::Tool("nginx"),
    Need::Tool("curl"),
];

const CLIENT: [&str; 6] = [
    "k8s_pod",
    "k8s_container",
    "dialled_service",
    "peer_k8s_pod",
    "peer_k8s_workload",
    "peer_zone",
];

const SERVER: [&str; 4] = [
    "k8s_pod",
    "k8s_container",
    "peer_k8s_pod",
    "peer_k8s_workload",
];

/// Calls from `client` to `server`, on different nodes, at both ends.
fn check(
    (near, client): (&Agent, &Known<'_>),
    (far, server, workload): (&Agent, &Known<'_>, &str),
    path: &str,
) -> Result<()> {
    let target = format!("{}{path}", server.pod.at(PORT));
    ask(&client.pod.container("app")?, &target, 4)?;
    let (from, to) = (client.pod.name(), server.pod.name());
    let line = format!("{from}|app||{to}|{workload}|eu-1b");
    expect(near, "client", path, &CLIENT, &[(&line, 4)])?;
    let line = format!("{to}|app|{from}|{from}");
    expect(far, "server", path, &SERVER, &[(&line, 4)])
}

/// Seconds since the agent was last told of pods by the API server.
fn age(agent: &Agent, source: &str) -> Result<f64> {
    let labels = [("source", source), ("kind", "pods")];
    Ok(agent
        .metrics()?
        .sum("observer_kubernetes_age_seconds", &labels))
}

#[test]
fn agents_of_a_hub_name_the_same_and_ask_little() -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    let api = Double::start()?;
    let cluster = Cluster::create("hub", &[Layout::Containerd, Layout::Containerd])?;
    let site = Site::new(&api, &cluster, 2)?;
    let client = site.pod(1, "client", Control::Bare)?;
    let deployment = Control::Set("web-6d", ("apps/v1", "Deployment", "web"));
    let web = site.pod(2, "web-6d-a", deployment)?;
    let _server = serve(&web.pod)?;
    let mut service = objects::service("web", &[80]);
    service["spec"]["clusterIP"] = json!("10.96.0.10");
    site.service(service, &[&web])?;
    cluster.serve(&[Service {
        addresses: vec!["10.96.0.10".parse()?],
        port: 80,
        node_port: None,
        local_only: false,
        backends: vec![Backend {
            pod: &web.pod,
            port: PORT,
        }],
    }])?;
    let mut hub = site.hub(2)?;
    let before = api.requests()?.len();
    let setting = hub.setting();
    let agents = [
        site.agent(1, &[&setting], "")?,
        site.agent(2, &[&setting], "")?,
    ];
    let [one, two] = &agents;

    check((one, &client), (two, &web, "web"), "/first")?;
    let place = client.pod.container("app")?;
    ask(&place, "10.96.0.10/dialled", 4)?;
    let line = "client|app|web|web-6d-a|web|eu-1b";
    expect(one, "client", "/dialled", &CLIENT, &[(line, 4)])?;

    // What an agent asks for: the pods of its node, and who controls them.
    for request in &api.requests()?[before..] {
        let selector = request
            .query
            .get("fieldSelector")
            .cloned()
            .unwrap_or_default();
        let of_node = selector.starts_with("spec.nodeName=node");
        let owner = request.verb == "get" && request.resource == "replicasets";
        ensure!(
            request.resource == "pods" && of_node || owner,
            "{request:?}"
        );
    }

    // Without the hub for a while: what was known stays, what is new comes later.
    let pause = Duration::from_secs(2);
    std::thread::scope(|scope| -> Result<()> {
        let restarted = scope.spawn(|| hub.restart(pause));
        std::thread::sleep(Duration::from_millis(500));
        check((one, &client), (two, &web, "web"), "/hubless")?;
        restarted
            .join()
            .map_err(|_| anyhow::anyhow!("no restart"))?
    })?;
    let late = site.pod(2, "late", Control::Bare)?;
    let _late_server = serve(&late.pod)?;
    // A hub is looked for again after pauses, which are longer than calls wait for a pod.
    knows(one, "pods", 3)?;
    check((one, &client), (two, &late, "late"), "/late")?;

    // Without the API server for a while.
    api.misbehave(Fault::new(Act::Busy(503, None)));
    api.disconnect();
    wait::until("an age", 2 * PATIENCE, || {
        Ok((age(one, "api")? > 3.0).then_some(()))
    })?;
    check((one, &client), (two, &late, "late"), "/apiless")?;
    ensure!(one.get("/livez").is_ok());
    api.behave();
    let last = site.pod(2, "last", Control::Bare)?;
    let _last_server = serve(&last.pod)?;
    wait::until("an age", 4 * PATIENCE, || {
        Ok((age(one, "api")? < 3.0).then_some(()))
    })?;
    wait::until("an age", 4 * PATIENCE, || {
        Ok((age(two, "api")? < 3.0).then_some(()))
    })?;
    knows(one, "pods", 4)?;
    check((one, &client), (two, &last, "last"), "/last")?;
    for agent in agents {
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

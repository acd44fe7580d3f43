//! What is not known yet, no longer, or not for certain: held, told as unknown, never named wrongly.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    apiserver::{double::Double, mint::timestamp, objects},
    kubernetes::{Control, NAMESPACE, PORT, Site, ask, expect, knows, now, serve},
    node::{Cluster, Layout, PodSpec},
    requirement::{Need, lacking},
};
use serde_json::json;

const NEEDS: [Need; 4] = [
    Need::Observer,
    Need::Tool("nft"),
    Need::Tool("nginx"),
    Need::Tool("curl"),
];

const ENDS: [&str; 4] = ["k8s_pod", "k8s_container", "peer_kind", "peer_k8s_pod"];

/// What is told of what could not be named.
fn unknown(agent: &Agent, reason: &str) -> Result<f64> {
    let labels = [("stage", "enrich"), ("reason", reason)];
    Ok(agent.metrics()?.sum("observer_loss_total", &labels))
}

/// As kubelets do it for a pod of a file: the API has a mirror of it, later.
fn mirror(object: &mut serde_json::Value, hash: &str) {
    object["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": hash});
}

#[test]
fn a_pod_that_is_younger_than_the_watch_is_waited_for() -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    let api = Double::start()?;
    let cluster = Cluster::create("young", &[Layout::Containerd, Layout::Containerd])?;
    let site = Site::new(&api, &cluster, 2)?;
    let web = site.pod(1, "web", Control::Bare)?;
    let _server = serve(&web.pod)?;
    let patient = site.agent(1, &[], "")?;
    let far = site.agent(2, &[], "")?;

    // The API hears of it a second after its first call.
    let hash = "00112233445566778899aabbccddeeff";
    let spec = PodSpec {
        is_static: true,
        uid: Some(hash),
        ..PodSpec::new(NAMESPACE, "young")
    };
    let began = now();
    let young = site.node(2).pod(spec)?;
    ask(
        &young.container("app")?,
        &format!("{}/young", web.pod.at(PORT)),
        5,
    )?;
    std::thread::sleep(Duration::from_secs(1));
    let object = site.admit(2, &spec, Control::Bare, |object| mirror(object, hash))?;
    site.report_since(&young, &object, began)?;
    expect(&far, "client", "/young", &ENDS, &[("young|app|pod|web", 5)])?;
    expect(
        &patient,
        "server",
        "/young",
        &ENDS,
        &[("web|app|pod|young", 5)],
    )?;

    // Nobody ever hears of this one. Its first call waits, the following ones do not.
    let spec = PodSpec::new(NAMESPACE, "stranger");
    let stranger = site.node(2).pod(spec)?;
    let place = stranger.container("app")?;
    for (path, times) in [("/stranger", 3), ("/again", 4)] {
        let began = Instant::now();
        ask(&place, &format!("{}{path}", web.pod.at(PORT)), times)?;
        expect(&far, "client", path, &ENDS, &[("||pod|web", times)])?;
        expect(
            &patient,
            "server",
            path,
            &ENDS,
            &[("web|app|address|", times)],
        )?;
        let waited = began.elapsed();
        ensure!(
            (waited > Duration::from_secs(3)) == (path == "/stranger"),
            "{path} was told after {waited:?}"
        );
    }
    ensure!(
        unknown(&far, "pod_unknown")? >= 1.0,
        "{:?}",
        far.metrics()?.losses()
    );
    ensure!(
        unknown(&patient, "peer_unknown")? >= 1.0,
        "{:?}",
        patient.metrics()?.losses()
    );

    // With `hold: 0s` nothing waits.
    far.stop()?;
    let hasty = site.agent(2, &["hold: 0s"], "")?;
    let began = Instant::now();
    let stranger = site.node(2).pod(PodSpec::new(NAMESPACE, "another"))?;
    ask(
        &stranger.container("app")?,
        &format!("{}/hasty", web.pod.at(PORT)),
        3,
    )?;
    expect(&hasty, "client", "/hasty", &ENDS, &[("||pod|web", 3)])?;
    ensure!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    hasty.stop()?;
    patient.stop()
}

#[test]
fn what_the_api_says_in_error_names_nobody_wrongly() -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    let api = Double::start()?;
    let cluster = Cluster::create("odd", &[Layout::Containerd, Layout::Containerd])?;
    let site = Site::new(&api, &cluster, 2)?;
    let client = site.pod(1, "client", Control::Bare)?;
    let place = client.pod.container("app")?;
    let agent = site.agent(1, &["hold: 1s", "labels: [\"*\"]"], "")?;
    // Servers end before their pods.
    let mut pods = Vec::new();
    let mut servers = Vec::new();

    // Clocks of nodes that are wrong by minutes, either way.
    for (name, began) in [("early", now() - 600), ("late", now() + 600)] {
        let known = site.pod(2, name, Control::Bare)?;
        site.api.change_status(&known.object, |status| {
            status["startTime"] = json!(timestamp(began))
        })?;
        servers.push(serve(&known.pod)?);
        ask(&place, &format!("{}/{name}", known.pod.at(PORT)), 3)?;
        let line = format!("client|app|pod|{name}");
        expect(&agent, "client", &format!("/{name}"), &ENDS, &[(&line, 3)])?;
        pods.push(known);
    }

    // Thousands of labels.
    let many = site.run(
        2,
        PodSpec::new(NAMESPACE, "many"),
        Control::Bare,
        |object| {
            for number in 0..3000 {
                object["metadata"]["labels"][format!("label-{number}")] = json!("value");
            }
        },
    )?;
    servers.push(serve(&many.pod)?);
    ask(&place, &format!("{}/many", many.pod.at(PORT)), 3)?;
    expect(
        &agent,
        "client",
        "/many",
        &ENDS,
        &[("client|app|pod|many", 3)],
    )?;

    // Objects that lack nearly everything, and lines that are no objects.
    for line in [
        r#"{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"uid":"x","resourceVersion":"1"}}}"#,
        r#"{"type":"MODIFIED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"y","uid":"y"},"status":{"podIPs":[{"ip":"nowhere"},{}],"containerStatuses":[{}]}}}"#,
        r#"{"type":"ADDED"}"#,
        "no json",
    ] {
        api.inject("pods", line);
    }

    // Two pods that claim one address: neither is told.
    let twice = site.pod(2, "twice", Control::Bare)?;
    servers.push(serve(&twice.pod)?);
    let rival = objects::Pod::new("rival")
        .namespace(NAMESPACE)
        .running("node2", &[&twice.pod.addresses()[0].to_string()])
        .lean()
        .build();
    let rival = site.api.create(&rival)?;
    let began = timestamp(now());
    site.api
        .change_status(&rival, |status| status["startTime"] = json!(began))?;
    knows(&agent, "pods", 6)?;
    ask(&place, &format!("{}/twice", twice.pod.at(PORT)), 3)?;
    expect(
        &agent,
        "client",
        "/twice",
        &ENDS,
        &[("client|app|address|", 3)],
    )?;
    ensure!(
        unknown(&agent, "peer_unknown")? >= 1.0,
        "{:?}",
        agent.metrics()?.losses()
    );

    // A cgroup that no kubelet would make.
    let odd = site
        .node(1)
        .cgroup()
        .child("machine.slice/mystery-payload.scope/inner")?;
    let odd = observer_tests::place::Place::inside(&odd, site.node(1).namespace());
    ask(&odd, &format!("{}/mystery", many.pod.at(PORT)), 3)?;
    expect(&agent, "client", "/mystery", &ENDS, &[("||pod|many", 3)])?;
    agent.stop()
}

//! Pods and their controllers, on one node and across nodes, at both ends.

use anyhow::Result;
use observer_tests::{
    apiserver::{self, each},
    kubernetes::{Control, NAMESPACE, PORT, Site, ask, ask_with, expect, serve, serve_on},
    node::{Cluster, Layout, PodSpec, Quality},
    requirement::{Need, lacking},
};

/// What is told of both ends.
const ENDS: [&str; 12] = [
    "k8s_namespace",
    "k8s_pod",
    "k8s_container",
    "k8s_workload_kind",
    "k8s_workload",
    "k8s_node",
    "peer_k8s_namespace",
    "peer_k8s_pod",
    "peer_k8s_workload_kind",
    "peer_k8s_workload",
    "peer_k8s_node",
    "peer_zone",
];

const NEEDS: [Need; 4] = [
    Need::Observer,
    Need::Tool("nft"),
    Need::Tool("nginx"),
    Need::Tool("curl"),
];

/// Kinds of workloads: what controls a pod, and what is told as its workload.
const WORKLOADS: [(&str, Control<'static>, &str); 6] = [
    ("bare", Control::Bare, "Pod|bare"),
    (
        "web-6d4c-a",
        Control::Set("web-6d4c", ("apps/v1", "Deployment", "web")),
        "Deployment|web",
    ),
    (
        "roll-5f-a",
        Control::Set("roll-5f", ("argoproj.io/v1alpha1", "Rollout", "roll")),
        "Rollout|roll",
    ),
    (
        "data-0",
        Control::Direct("apps/v1", "StatefulSet", "data"),
        "StatefulSet|data",
    ),
    (
        "log-x",
        Control::Direct("apps/v1", "DaemonSet", "log"),
        "DaemonSet|log",
    ),
    (
        "night-1-a",
        Control::Job("night-1", "night"),
        "CronJob|night",
    ),
];

fn both_directions(api: &dyn apiserver::Cluster) -> Result<()> {
    let cluster = Cluster::create("pods", &[Layout::Containerd, Layout::Cgroupfs])?;
    let site = Site::new(api, &cluster, 2)?;
    let center = site.pod(1, "center", Control::Bare)?;
    let _server = serve(&center.pod)?;
    let (mut pods, mut servers) = (Vec::new(), Vec::new());
    for (place, (name, control, workload)) in WORKLOADS.iter().enumerate() {
        let number = 1 + place % 2;
        let known = site.pod(number, name, *control)?;
        servers.push(serve(&known.pod)?);
        pods.push((number, known, workload));
    }
    let agents = [site.agent(1, &[], "")?, site.agent(2, &[], "")?];
    for (number, known, workload) in &pods {
        let (pod, times) = (&known.pod, 3 + number);
        let name = pod.name();
        let zone = ["eu-1a", "eu-1b"][number - 1];
        let node = format!("node{number}");
        let far = format!("{NAMESPACE}|{name}|{workload}|{node}");
        let own = format!("{NAMESPACE}|{name}|app|{workload}|{node}");
        let center_own = format!("{NAMESPACE}|center|app|Pod|center|node1");
        let center_far = format!("{NAMESPACE}|center|Pod|center|node1");
        // To it, on connections of their own in IPv4, on one in IPv6.
        let path = format!("/to-{name}");
        ask(
            &center.pod.container("app")?,
            &format!("{}{path}", pod.at(PORT)),
            times,
        )?;
        let v6 = std::net::SocketAddr::new(pod.addresses()[1], PORT);
        ask_with(
            &center.pod.container("app")?,
            &format!("{v6}{path}"),
            times,
            &[],
        )?;
        let line = format!("{center_own}|{far}|{zone}");
        expect(&agents[0], "client", &path, &ENDS, &[(&line, 2 * times)])?;
        let line = format!("{own}|{center_far}|eu-1a");
        expect(
            &agents[number - 1],
            "server",
            &path,
            &ENDS,
            &[(&line, 2 * times)],
        )?;
        // From it.
        let path = format!("/from-{name}");
        ask(
            &pod.container("app")?,
            &format!("{}{path}", center.pod.at(PORT)),
            times,
        )?;
        expect(
            &agents[number - 1],
            "client",
            &path,
            &ENDS,
            &[(&line, times)],
        )?;
        let line = format!("{center_own}|{far}|{zone}");
        expect(&agents[0], "server", &path, &ENDS, &[(&line, times)])?;
    }
    for agent in agents {
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn both_ends_name_pods_and_their_workloads() -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    each(|api| both_directions(api))
}

#[test]
fn containers_are_told_apart_in_all_layouts_of_cgroups() -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    let api = apiserver::double::Double::start()?;
    let layouts = Layout::ALL;
    let cluster = Cluster::create("layouts", &layouts)?;
    let site = Site::new(&api, &cluster, layouts.len())?;
    let qualities = [Quality::Guaranteed, Quality::Burstable, Quality::BestEffort];
    let mut pods = Vec::new();
    for number in 1..=layouts.len() {
        for (place, quality) in qualities.into_iter().enumerate() {
            let name = format!("pod-{number}-{place}");
            let spec = PodSpec {
                containers: &["app", "sidecar"],
                quality,
                is_static: place == 2,
                ..PodSpec::new(NAMESPACE, &name)
            };
            let hash = format!("{number:016x}{place:016x}");
            pods.push(site.run(number, spec, Control::Bare, |object| {
                if spec.is_static {
                    object["metadata"]["annotations"] = serde_json::json!({
                        "kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash,
                        "kubernetes.io/config.source": "file",
                    });
                }
            })?);
        }
    }
    // One that sees all nodes.
    let options = observer_tests::agent::Options {
        configuration: Some(site.configuration("node1", &[])),
        ..Default::default()
    };
    let agent = observer_tests::agent::Agent::start_with(cluster.cgroup(), &options)?;
    observer_tests::kubernetes::synced(&agent)?;
    let keys = [
        "k8s_pod",
        "k8s_container",
        "k8s_node",
        "peer_k8s_pod",
        "peer_k8s_container",
    ];
    for known in &pods {
        let (pod, name, node) = (&known.pod, known.pod.name(), known.pod.node().name());
        let (app, sidecar) = (pod.container("app")?, pod.container("sidecar")?);
        let _servers = [
            serve_on(&app, PORT, "app")?,
            serve_on(&sidecar, 9090, "sidecar")?,
        ];
        let path = format!("/{name}");
        // Over the pod's own address, and from the application to its sidecar by loopback.
        ask(&sidecar, &format!("{}{path}-in", pod.at(PORT)), 2)?;
        ask(&app, &format!("127.0.0.1:9090{path}-out"), 3)?;
        let (app, sidecar) = (format!("{name}|app"), format!("{name}|sidecar"));
        for (side, own, far) in [("client", &sidecar, &app), ("server", &app, &sidecar)] {
            let line = format!("{own}|{node}|{far}");
            expect(&agent, side, &format!("{path}-in"), &keys, &[(&line, 2)])?;
        }
        for (side, own, far) in [("client", &app, &sidecar), ("server", &sidecar, &app)] {
            let line = format!("{own}|{node}|{far}");
            expect(&agent, side, &format!("{path}-out"), &keys, &[(&line, 3)])?;
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}

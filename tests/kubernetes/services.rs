//! Services: what was dialled and which pod served, whatever translates addresses in between.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use observer_tests::{
    apiserver::{double::Double, objects},
    kubernetes::{Control, NAMESPACE, PORT, Site, ask, expect, serve, serve_at},
    node::{Backend, Cluster, Layout, PodSpec, Service},
    peers::{self, Peer},
    process,
    requirement::{Need, lacking},
    resolver::Resolver,
    server::Server,
};
use serde_json::json;

const NEEDS: [Need; 5] = [
    Need::Observer,
    Need::Tool("nft"),
    Need::Tool("nginx"),
    Need::Tool("curl"),
    Need::Tool("dnsmasq"),
];

/// Address of the Service `web`.
const VIRTUAL: &str = "10.96.0.10";

/// Address at which a load balancer leads to it.
const BALANCER: &str = "198.51.100.7";

/// Its port of all nodes.
const NODE_PORT: u16 = 30080;

const DIALLED: [&str; 5] = [
    "k8s_pod",
    "dialled_kind",
    "dialled_service",
    "peer_kind",
    "peer_k8s_pod",
];

const SERVED: [&str; 4] = ["k8s_pod", "peer_kind", "peer_k8s_pod", "peer_k8s_node"];

fn service<'a>(
    address: &str,
    pods: &[&'a observer_tests::node::Pod<'a>],
    port: u16,
) -> Result<Service<'a>> {
    let backend = |pod: &&'a observer_tests::node::Pod<'a>| Backend { pod, port: PORT };
    Ok(Service {
        addresses: vec![address.parse()?],
        port,
        node_port: None,
        local_only: false,
        backends: pods.iter().map(backend).collect(),
    })
}

#[test]
fn a_service_is_told_with_the_pod_that_served() -> Result<()> {
    if lacking(&NEEDS)? || lacking(&[Need::Peer(Peer::Go)])? {
        return Ok(());
    }
    let api = Double::start()?;
    let cluster = Cluster::create("services", &[Layout::Containerd, Layout::Crio])?;
    let site = Site::new(&api, &cluster, 2)?;
    let client = site.pod(1, "client", Control::Bare)?;
    let near = site.pod(1, "near", Control::Bare)?;
    let far = site.pod(2, "far", Control::Bare)?;
    let host_network = PodSpec {
        host_network: true,
        ..PodSpec::new(NAMESPACE, "host")
    };
    let host = site.run(1, host_network, Control::Bare, |_| ())?;
    let _servers = [serve(&near.pod)?, serve(&far.pod)?];
    let _outside = serve_at(&cluster.outside(), "outside")?;

    // What the API says of Services, and what a proxy does for them.
    let mut web = objects::load_balancer("web", &[80], BALANCER);
    web["spec"]["clusterIP"] = json!(VIRTUAL);
    web["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
    site.service(web, &[&near, &far])?;
    site.service(objects::headless("peers", &[PORT]), &[&far])?;
    site.service(objects::named_outside("partner", "partner.test"), &[])?;
    let rpc = Server::go_rpc_at(&far.pod.container("app")?, far.pod.addresses()[0])?;
    let mut calls = objects::service("calls", &[rpc.address().port()]);
    calls["spec"]["clusterIP"] = json!("10.96.0.11");
    site.service(calls, &[&far])?;
    let both = [&near.pod, &far.pod];
    let mut virtual_service = service(VIRTUAL, &both, 80)?;
    virtual_service.node_port = Some(NODE_PORT);
    let mut remote = service("10.96.0.11", &[&far.pod], rpc.address().port())?;
    remote.backends[0].port = rpc.address().port();
    let services = [virtual_service, service(BALANCER, &both, 80)?, remote];
    cluster.serve(&services)?;

    let networks = "networks:\n  - name: office\n    ranges: [192.0.2.128/25]\n";
    let agents = [site.agent(1, &[], networks)?, site.agent(2, &[], networks)?];
    let place = client.pod.container("app")?;

    for (path, address, kind) in [
        ("/virtual", VIRTUAL, "cluster_ip"),
        ("/balancer", BALANCER, "load_balancer"),
    ] {
        let answers = ask(&place, &format!("{address}{path}"), 30)?;
        ensure!(answers.len() == 2, "{answers:?}");
        let lines = ["near", "far"].map(|name| {
            let kind_of_peer = if name == "near" { "local" } else { "pod" };
            (
                format!("client|{kind}|web|{kind_of_peer}|{name}"),
                answers[name],
            )
        });
        let lines = lines
            .each_ref()
            .map(|(line, count)| (line.as_str(), *count));
        expect(&agents[0], "client", path, &DIALLED, &lines)?;
        for (agent, name, kind) in [(&agents[0], "near", "local"), (&agents[1], "far", "pod")] {
            let line = format!("{name}|{kind}|client|node1");
            expect(agent, "server", path, &SERVED, &[(&line, answers[name])])?;
        }
    }

    // gRPC through a Service.
    let target = SocketAddr::new("10.96.0.11".parse()?, rpc.address().port()).to_string();
    let load = ["grpc-load", "-address", &target, "-calls", "20"];
    let printed = process::check(&mut peers::go(&place, &load)?)?;
    ensure!(printed.starts_with("measured 20 "), "{printed}");
    let total = 20;
    let keys = ["k8s_pod", "dialled_service", "peer_k8s_pod"];
    let remote =
        |flow: &observer_tests::flow::Flow| !flow.text("rpc_service").is_empty() && flow.is_call();
    let calls = agents[0].exactly(total, "remote calls", |flow| {
        remote(flow) && flow.text("side") == "client"
    })?;
    let lines = observer_tests::kubernetes::lines(&calls, &keys);
    ensure!(
        lines.len() == 1 && lines.contains_key("client|calls|far"),
        "{lines:?}"
    );
    let calls = agents[1].exactly(total, "remote calls", remote)?;
    let lines = observer_tests::kubernetes::lines(&calls, &["k8s_pod", "peer_k8s_pod"]);
    ensure!(
        lines.len() == 1 && lines.contains_key("far|client"),
        "{lines:?}"
    );

    // By a node's port from outside: masqueraded, and the node that was entered tells who called.
    let only_near = [{
        let mut only = service(VIRTUAL, &[&near.pod], 80)?;
        only.node_port = Some(NODE_PORT);
        only
    }];
    cluster.serve(&only_near)?;
    let entrance = SocketAddr::new(site.node(1).addresses()[0], NODE_PORT);
    ask(&cluster.outside(), &format!("{entrance}/entrance"), 4)?;
    let keys = [
        "k8s_pod",
        "peer_kind",
        "dialled_kind",
        "dialled_service",
        "wire_remote",
    ];
    let calls = agents[0].exactly(4, "calls from outside", |flow| {
        flow.is_call_at("server") && flow.text("path") == "/entrance"
    })?;
    for call in &calls {
        ensure!(
            call.text("wire_remote").starts_with("192.0.2.2:"),
            "{call:?}"
        );
    }
    let lines = observer_tests::kubernetes::lines(&calls, &keys[..4]);
    let (line, count) = lines
        .first_key_value()
        .map_or(("", 0), |(line, count)| (line, *count));
    ensure!(
        line == "near|address|node_port|web" && count == 4,
        "{lines:?}"
    );

    // From the node's network: a pod on it, which only its own node can tell.
    cluster.serve(&services)?;
    let from_host = host.pod.container("app")?;
    ask(&from_host, &format!("{}/host", near.pod.at(PORT)), 3)?;
    expect(
        &agents[0],
        "client",
        "/host",
        &DIALLED,
        &[("host|||local|near", 3)],
    )?;
    expect(
        &agents[0],
        "server",
        "/host",
        &SERVED,
        &[("near|local|host|node1", 3)],
    )?;
    ask(&from_host, &format!("{}/afar", far.pod.at(PORT)), 3)?;
    expect(
        &agents[0],
        "client",
        "/afar",
        &DIALLED,
        &[("host|||pod|far", 3)],
    )?;
    expect(
        &agents[1],
        "server",
        "/afar",
        &SERVED,
        &[("far|node||node1", 3)],
    )?;

    // Outside: a network with a name, and an address that nobody knows.
    let office: Ipv4Addr = "192.0.2.200".parse()?;
    let outside = cluster.outside();
    let namespace = outside.namespace();
    if let Some(namespace) = namespace {
        let device = namespace.run("sh", &["-c", "ip -o -4 addr | awk '/192.0.2.2/{print $2}'"])?;
        let add = ["addr", "add", "192.0.2.200/32", "dev", device.trim()];
        namespace.run("ip", &add)?;
    }
    for (path, address, kind) in [
        ("/office", office, "network"),
        ("/nobody", Ipv4Addr::new(192, 0, 2, 2), "address"),
    ] {
        ask(&place, &format!("{address}:{PORT}{path}"), 3)?;
        let line = format!("client|||{kind}|");
        expect(&agents[0], "client", path, &DIALLED, &[(&line, 3)])?;
    }

    // By name: a headless Service, a name that stands for one outside.
    let resolver_pod = site.pod(1, "resolver", Control::Bare)?;
    let records = [
        format!(
            "host-record=peers.shop.svc.cluster.local,{}",
            far.pod.addresses()[0]
        ),
        "host-record=partner.test,192.0.2.2".to_owned(),
        "cname=partner.shop.svc.cluster.local,partner.test".to_owned(),
    ];
    let records = records.each_ref().map(String::as_str);
    let resolver_place = resolver_pod.pod.container("app")?;
    if let (Some(namespace), std::net::IpAddr::V4(address)) =
        (resolver_place.namespace(), resolver_pod.pod.addresses()[0])
    {
        let dns = Resolver::dnsmasq(&resolver_place, namespace, address, &records)?;
        for (path, name, line) in [
            (
                "/headless",
                "peers.shop.svc.cluster.local",
                "client|headless|peers|pod|far",
            ),
            (
                "/partner",
                "partner.shop.svc.cluster.local",
                "client|external_name|partner|name|",
            ),
        ] {
            let answer = dns.dig(&place, &[name, "A"])?;
            let address = answer.answers.last().cloned().unwrap_or_default();
            ask(&place, &format!("{address}:{PORT}{path}"), 3)?;
            expect(&agents[0], "client", path, &DIALLED, &[(line, 3)])?;
        }
    }
    for agent in agents {
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

//! The harness' nodes are what a cluster's are: networks, services, masquerading, cgroups; without
//! an observer.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    cgroup,
    node::{Backend, Cluster, Layout, Pod, PodSpec, Quality, Service},
    place::Place,
    process,
    requirement::{Need, lacking},
    server::Server,
};

const PORT: u16 = 8080;
const VIRTUAL: &str = "10.96.0.10";
const VIRTUAL6: &str = "fd96::10";

fn cannot_run() -> Result<bool> {
    lacking(&["ip", "nft", "nginx", "curl"].map(Need::Tool))
}

/// A server in a pod that tells the pod's name and who asked, on both of its addresses.
fn serve(pod: &Pod<'_>) -> Result<Server> {
    serve_at(&pod.container("app")?, pod.name())
}

fn serve_at(place: &Place<'_>, name: &str) -> Result<Server> {
    let any = SocketAddr::new("::".parse()?, PORT);
    let answer = format!("location = /who {{ return 200 \"{name} $remote_addr\"; }}");
    Server::nginx_at(place, any, "ipv6only=off", &answer)
}

/// Who answers at `address`, and as who it sees the caller.
fn ask(place: &Place<'_>, address: SocketAddr) -> Result<(String, IpAddr)> {
    let url = format!("http://{address}/who");
    let options = [
        "--silent",
        "--show-error",
        "--connect-timeout",
        "3",
        "--max-time",
        "10",
    ];
    let body = process::check(
        place
            .command("curl")?
            .args(options)
            .args(["--globoff", &url]),
    )?;
    let body = body.trim().trim_start_matches("::ffff:").to_owned();
    let (name, peer) = body.split_once(' ').context("an answer of nobody")?;
    let peer: IpAddr = peer.parse()?;
    Ok((name.to_owned(), peer.to_canonical()))
}

fn service<'a>(
    pods: &[&'a Pod<'a>],
    node_port: Option<u16>,
    local_only: bool,
) -> Result<Service<'a>> {
    Ok(Service {
        addresses: vec![VIRTUAL.parse()?, VIRTUAL6.parse()?],
        port: 80,
        node_port,
        local_only,
        backends: (pods.iter())
            .map(|pod| Backend { pod, port: PORT })
            .collect(),
    })
}

#[test]
fn pods_reach_pods_nodes_and_the_outside() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let cluster = Cluster::create("pods", &[Layout::Containerd, Layout::Cgroupfs])?;
    let (one, two) = (cluster.node(1), cluster.node(2));
    let client = one.pod(PodSpec::new("default", "client"))?;
    let near = one.pod(PodSpec::new("default", "near"))?;
    let far = two.pod(PodSpec::new("default", "far"))?;
    let host = two.pod(PodSpec {
        host_network: true,
        ..PodSpec::new("kube-system", "host")
    })?;
    let _servers = [serve(&near)?, serve(&far)?, serve(&host)?];
    let _outside = serve_at(&cluster.outside(), "outside")?;
    let place = client.container("app")?;
    for family in [0, 1] {
        let own = client.addresses()[family];
        for pod in [&near, &far] {
            let answer = ask(&place, SocketAddr::new(pod.addresses()[family], PORT))?;
            ensure!(answer == (pod.name().to_owned(), own), "{answer:?}");
        }
        // What leaves the pods' network has the node's address.
        let masqueraded = one.addresses()[family];
        let answer = ask(&place, SocketAddr::new(host.addresses()[family], PORT))?;
        ensure!(answer == ("host".to_owned(), masqueraded), "{answer:?}");
        let outside: IpAddr = ["192.0.2.2", "2001:db8::2"][family].parse()?;
        let answer = ask(&place, SocketAddr::new(outside, PORT))?;
        ensure!(answer == ("outside".to_owned(), masqueraded), "{answer:?}");
        // A node calls its pod with the address of its end of the link.
        let (name, peer) = ask(
            &one.place(),
            SocketAddr::new(near.addresses()[family], PORT),
        )?;
        ensure!(
            name == "near" && !client.addresses().contains(&peer),
            "{peer}"
        );
    }
    // An address is free as soon as its pod is gone.
    let octet = match near.addresses()[0] {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    };
    drop(near);
    let next = one.pod(PodSpec {
        octet: Some(octet),
        ..PodSpec::new("default", "next")
    })?;
    let _server = serve(&next)?;
    ensure!(ask(&place, next.at(PORT))?.0 == "next");
    Ok(())
}

#[test]
fn services_spread_calls_and_translate_addresses() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let cluster = Cluster::create("services", &[Layout::Containerd, Layout::Crio])?;
    let (one, two) = (cluster.node(1), cluster.node(2));
    let client = one.pod(PodSpec::new("default", "client"))?;
    let near = one.pod(PodSpec::new("default", "near"))?;
    let far = two.pod(PodSpec::new("default", "far"))?;
    let host = one.pod(PodSpec {
        host_network: true,
        ..PodSpec::new("kube-system", "host")
    })?;
    let _servers = [serve(&near)?, serve(&far)?];
    cluster.serve(&[service(&[&near, &far], Some(30080), false)?])?;

    let place = client.container("app")?;
    for (family, address) in [VIRTUAL, VIRTUAL6].into_iter().enumerate() {
        let dialled = SocketAddr::new(address.parse()?, 80);
        let mut answers = BTreeMap::new();
        for _ in 0..40 {
            let (name, peer) = ask(&place, dialled)?;
            ensure!(peer == client.addresses()[family], "{name} sees {peer}");
            *answers.entry(name).or_insert(0) += 1;
        }
        // With two as likely, fewer than 3 of 40 come once in a thousand million runs.
        ensure!(
            answers.len() == 2 && answers.values().all(|count| *count >= 3),
            "{answers:?}"
        );
    }
    let virtual_address = SocketAddr::new(VIRTUAL.parse()?, 80);
    // A pod that calls itself by its service is masqueraded, and answered.
    cluster.serve(&[service(&[&near], Some(30080), false)?])?;
    let (name, peer) = ask(&near.container("app")?, virtual_address)?;
    ensure!(name == "near" && peer != near.addresses()[0], "{peer}");
    // So is a caller on the network of the node.
    cluster.serve(&[service(&[&far], Some(30080), false)?])?;
    let (name, peer) = ask(&host.container("app")?, virtual_address)?;
    ensure!(
        (name.as_str(), peer) == ("far", one.addresses()[0]),
        "{peer}"
    );
    // And a caller from outside, by a port of any node.
    let port_of = |number| SocketAddr::new(cluster.node(number).addresses()[0], 30080);
    for number in [1, 2] {
        let (name, peer) = ask(&cluster.outside(), port_of(number))?;
        ensure!(name == "far", "{name} answers");
        let seen = match number {
            1 => one.addresses()[0],
            // By the node's end of the pod's link.
            _ => "10.244.2.1".parse()?,
        };
        ensure!(peer == seen, "{peer} is seen behind node {number}");
    }
    // But for a service that keeps the addresses of callers.
    cluster.serve(&[service(&[&far], Some(30080), true)?])?;
    let (name, peer) = ask(&cluster.outside(), port_of(2))?;
    ensure!(
        (name.as_str(), peer) == ("far", "192.0.2.2".parse()?),
        "{name} sees {peer}"
    );
    ensure!(
        ask(&cluster.outside(), port_of(1)).is_err(),
        "a node without a pod of the service answers"
    );
    Ok(())
}

#[test]
fn cgroups_are_where_kubelets_make_them() -> Result<()> {
    if lacking(&[Need::Tool("ip"), Need::Tool("nft")])? {
        return Ok(());
    }
    for layout in Layout::ALL {
        let cluster = Cluster::create("layout", &[layout])?;
        let node = cluster.node(1);
        let qualities = [Quality::Guaranteed, Quality::Burstable, Quality::BestEffort];
        for quality in qualities {
            let mut pod = node.pod(PodSpec {
                containers: &["app", "sidecar"],
                quality,
                is_static: quality == Quality::Guaranteed,
                ..PodSpec::new("default", "web")
            })?;
            let first = pod.containers()[1].id().to_owned();
            let mut sleeper =
                process::Process::spawn(pod.container("sidecar")?.command("sleep")?.arg("60"))?;
            pod.restart("sidecar")?;
            sleeper.wait(std::time::Duration::from_secs(2))?;
            for (container, other) in [(0, 1), (1, 0)] {
                let container_ids = [container, other].map(|place| pod.containers()[place].id());
                let name = pod.containers()[container].name();
                let path = pod.container(name)?.command("cat")?;
                let mut command = path;
                let own = process::check(command.arg("/proc/self/cgroup"))?;
                let own = own.lines().find_map(|line| line.strip_prefix("0::"));
                let own = own.context("no cgroup v2")?;
                let start = node.cgroup().relative()?;
                ensure!(own.starts_with(&start), "{own}");
                ensure!(own.contains(container_ids[0]), "{own}");
                ensure!(
                    !own.contains(container_ids[1]) && !own.contains(&first),
                    "{own}"
                );
                let uid = pod.uid().to_owned();
                ensure!(
                    own.contains(&uid) || own.contains(&uid.replace('-', "_")),
                    "{own}"
                );
                ensure!(pod.is_host_network() || pod.addresses() != node.addresses());
            }
        }
        let on_node = process::check(node.place().command("cat")?.arg("/proc/self/cgroup"))?;
        ensure!(on_node.contains("kubelet.service"), "{on_node}");
    }
    Ok(())
}

#[test]
fn nothing_stays_of_a_cluster() -> Result<()> {
    if lacking(&[Need::Tool("ip"), Need::Tool("nft")])? {
        return Ok(());
    }
    let mut names = Vec::new();
    let mut fail = || -> Result<()> {
        let cluster = Cluster::create("leftovers", &[Layout::Containerd, Layout::Kind])?;
        let pod = cluster.node(2).pod(PodSpec::new("default", "left"))?;
        process::Process::spawn(pod.container("app")?.command("sleep")?.arg("60"))?;
        let namespaces = [1, 2].map(|number| cluster.node(number).namespace());
        names.extend(namespaces.map(|namespace| namespace.name().to_owned()));
        anyhow::bail!("a test that fails")
    };
    let error = fail().err().context("it did not fail")?;
    ensure!(error.to_string() == "a test that fails", "{error:?}");
    // Others may run beside this one: only what bears our process' id and the label is looked for.
    let own = format!("observer-test-{}-", std::process::id());
    for entry in std::fs::read_dir(cgroup::root()?)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(
            !(name.starts_with(&own) && name.ends_with("-leftovers")),
            "{name} stays"
        );
    }
    let left = process::check(Command::new("ip").arg("netns"))?;
    ensure!(
        names.len() == 2 && !names.iter().any(|name| left.contains(name)),
        "{left}"
    );
    Ok(())
}

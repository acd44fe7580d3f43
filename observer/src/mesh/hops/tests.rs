//! Links as the agents of meshes make them, and what their sockets are.

use std::{net::SocketAddr, sync::Arc};

use super::*;
use crate::model::{
    connection::{Connection, ConnectionId, Owner},
    kubernetes::Container,
    policy::Traits,
    security::Security,
    time::Monotonic,
};

fn pod(name: &str, containers: &[&str], labels: &[(&str, &str)]) -> Arc<Pod> {
    let mut labels: Vec<(Box<str>, Box<str>)> = labels
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    labels.sort();
    Arc::new(Pod {
        uid: name.into(),
        name: name.into(),
        traits: Arc::new(Traits {
            containers: containers.iter().map(|name| (*name).into()).collect(),
            labels: labels.into(),
            ..Traits::default()
        }),
        ..Pod::default()
    })
}

fn container(pod: &Arc<Pod>, name: &str, executable: &str) -> Arc<Workload> {
    Arc::new(Workload {
        pod_uid: pod.uid.clone(),
        executable: executable.into(),
        container: Some(Container {
            pod: pod.clone(),
            name: name.into(),
        }),
        ..Workload::default()
    })
}

fn link(
    workload: &Arc<Workload>,
    peer: Peer,
    role: Role,
    (local, remote): (&str, &str),
    wire: Option<&str>,
) -> Link {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    Link {
        connection: Connection {
            id: ConnectionId(1),
            role,
            local: address(local),
            remote: address(remote),
            wire: wire.map(|wire| (address(local), address(wire))),
            owner: Owner::default(),
            started: Monotonic(1),
            established: Some(Monotonic(1)),
            sequences: None,
            pre_existing: false,
        },
        workload: workload.clone(),
        peer,
        dialled: None,
        security: Security::Unknown,
        opening: None,
        mesh: None,
        hop: Hop::Direct,
        far: None,
    }
}

const ISTIO: &[&str] = &["app", "istio-proxy"];

#[test]
fn proxies_are_known_by_container_pod_and_executable() {
    let sidecar = pod("a", ISTIO, &[]);
    let gateway = pod("b", &["istio-proxy"], &[("istio", "ingressgateway")]);
    let class = "gateway.networking.k8s.io/gateway-class-name";
    let waypoint = pod("c", &["istio-proxy"], &[(class, "istio-waypoint")]);
    // One of a version that gave it no class, and a gateway by the same means.
    let managed = "gateway.istio.io/managed";
    let old_waypoint = pod(
        "f",
        &["istio-proxy"],
        &[(managed, "istio.io-mesh-controller")],
    );
    let old_gateway = pod(
        "g",
        &["istio-proxy"],
        &[(managed, "istio.io-gateway-controller")],
    );
    let ztunnel = pod("d", &["istio-proxy"], &[("app", "ztunnel")]);
    let linkerd = pod("e", &["linkerd-proxy", "app"], &[]);
    let mut nameless = Workload::clone(&container(&sidecar, "", "/usr/local/bin/envoy"));
    let known = Arc::new(nameless.clone());
    nameless.container = None;
    for (workload, expected) in [
        (
            container(&sidecar, "istio-proxy", "/usr/local/bin/envoy"),
            Some(ProxyKind::Sidecar),
        ),
        (container(&sidecar, "app", "/usr/local/bin/envoy"), None),
        (
            container(&gateway, "istio-proxy", "/usr/local/bin/envoy"),
            Some(ProxyKind::Gateway),
        ),
        (
            container(&waypoint, "istio-proxy", "envoy"),
            Some(ProxyKind::Waypoint),
        ),
        (
            container(&old_waypoint, "istio-proxy", "envoy"),
            Some(ProxyKind::Waypoint),
        ),
        (
            container(&old_gateway, "istio-proxy", "envoy"),
            Some(ProxyKind::Gateway),
        ),
        (
            container(&ztunnel, "istio-proxy", "/usr/local/bin/ztunnel"),
            Some(ProxyKind::Node),
        ),
        (
            container(&linkerd, "linkerd-proxy", "/usr/lib/linkerd/linkerd2-proxy"),
            Some(ProxyKind::Sidecar),
        ),
        (known, Some(ProxyKind::Sidecar)),
        (Arc::new(nameless.clone()), Some(ProxyKind::Sidecar)),
        (
            Arc::new(Workload {
                pod_uid: "".into(),
                ..nameless
            }),
            None,
        ),
    ] {
        assert_eq!(proxy(&workload), expected, "{workload:?}");
    }
}

#[test]
fn hops_of_sidecars() {
    let (near, far) = (pod("a", ISTIO, &[]), pod("b", ISTIO, &[]));
    let app = container(&near, "app", "/app");
    let envoy = container(&near, "istio-proxy", "/usr/local/bin/envoy");
    let agent = container(&near, "istio-proxy", "/usr/local/bin/pilot-agent");
    let other = container(&far, "istio-proxy", "/usr/local/bin/envoy");
    let local = |workload: &Arc<Workload>| Peer::Local(workload.clone());
    let dialled = ("10.0.0.1:40000", "10.96.0.10:80");
    let inside = ("10.0.0.1:8080", "127.0.0.6:40001");
    let (client, server) = (Role::Client, Role::Server);
    let (outbound, nobody) = (
        Some("127.0.0.1:15001"),
        Peer::Address([10, 96, 0, 10].into()),
    );
    for (link, expected) in [
        // To the sidecar, its end seen and not seen.
        (
            link(&app, local(&envoy), client, dialled, outbound),
            Hop::ToProxy,
        ),
        (
            link(&app, nobody.clone(), client, dialled, outbound),
            Hop::ToProxy,
        ),
        // Not redirected: to another place, and to the sidecar's own interface.
        (
            link(&app, nobody.clone(), client, dialled, None),
            Hop::Direct,
        ),
        (
            link(
                &app,
                local(&envoy),
                client,
                ("127.0.0.1:4000", "127.0.0.1:15020"),
                None,
            ),
            Hop::Meta,
        ),
        // From the sidecar.
        (
            link(&app, local(&envoy), server, inside, None),
            Hop::FromProxy,
        ),
        (
            link(&app, nobody.clone(), server, inside, None),
            Hop::FromProxy,
        ),
        (link(&app, local(&agent), server, inside, None), Hop::Meta),
        // From somebody else, around the sidecar.
        (
            link(
                &app,
                Peer::Pod(far.clone()),
                server,
                ("10.0.0.1:8080", "10.0.0.2:40001"),
                None,
            ),
            Hop::Direct,
        ),
        // The sidecar's own.
        (
            link(
                &envoy,
                local(&app),
                server,
                ("127.0.0.1:15001", "10.0.0.1:40000"),
                None,
            ),
            Hop::Proxy(ProxyKind::Sidecar),
        ),
        // A client without one, which another pod's sidecar serves.
        (
            link(
                &app,
                local(&other),
                client,
                ("10.0.0.1:40000", "10.0.0.2:8080"),
                None,
            ),
            Hop::Direct,
        ),
        // Somebody who reads metrics of a sidecar.
        (
            link(
                &app,
                local(&other),
                client,
                ("10.0.0.1:40000", "10.0.0.2:15020"),
                None,
            ),
            Hop::Meta,
        ),
        (
            link(
                &app,
                Peer::Pod(far.clone()),
                client,
                ("10.0.0.1:40000", "10.0.0.2:15090"),
                None,
            ),
            Hop::Meta,
        ),
        (
            link(
                &app,
                Peer::Pod(pod("c", &["app"], &[])),
                client,
                ("10.0.0.1:40000", "10.0.0.2:15090"),
                None,
            ),
            Hop::Direct,
        ),
    ] {
        assert_eq!(
            hop(&link),
            expected,
            "{:?} {:?}",
            link.connection,
            link.peer
        );
    }
}

#[test]
fn hops_of_other_planes() {
    let linkerd = pod("a", &["app", "linkerd-proxy"], &[]);
    let app = container(&linkerd, "app", "/app");
    let nobody = Peer::Address([10, 0, 0, 1].into());
    let own = link(
        &app,
        nobody.clone(),
        Role::Server,
        ("10.0.0.1:8080", "10.0.0.1:40000"),
        None,
    );
    assert_eq!(
        hop(&own),
        Hop::FromProxy,
        "Linkerd calls from the pod's own address"
    );
    let mut ambient = Pod::clone(&pod("b", &["app"], &[]));
    ambient.traits = Arc::new(Traits {
        annotations: [("ambient.istio.io/redirection".into(), "enabled".into())].into(),
        ..Traits::default()
    });
    let app = container(&Arc::new(ambient), "app", "/app");
    let bare = container(&pod("c", &["app"], &[]), "app", "/app");
    let ztunnel = container(
        &pod("z", &["istio-proxy"], &[("app", "ztunnel")]),
        "istio-proxy",
        "/ztunnel",
    );
    let peer = || Peer::Local(ztunnel.clone());
    // ztunnel keeps the address of who called.
    let from = link(
        &app,
        peer(),
        Role::Server,
        ("10.0.0.1:8080", "10.0.0.9:40000"),
        None,
    );
    assert_eq!(hop(&from), Hop::FromProxy);
    let to = link(
        &app,
        peer(),
        Role::Client,
        ("10.0.0.1:40000", "10.96.0.1:80"),
        Some("127.0.0.1:15001"),
    );
    assert_eq!(hop(&to), Hop::ToProxy);
    // The one at the other end stands for another pod: nothing was redirected on the way out, or elsewhere.
    for wire in [None, Some("10.0.0.9:8080")] {
        let addresses = ("10.0.0.1:40000", "10.96.0.1:80");
        let past = link(&app, peer(), Role::Client, addresses, wire);
        assert_eq!(hop(&past), Hop::Direct, "{wire:?}");
    }
    let addresses = ("10.0.0.1:8080", "10.0.0.9:40000");
    let called = link(&bare, peer(), Role::Server, addresses, None);
    assert_eq!(hop(&called), Hop::Direct, "no proxy is before it");
    for remote in ["127.0.0.1:15000", "10.0.0.9:15020"] {
        let addresses = ("10.0.0.1:40000", remote);
        let asked = link(&app, peer(), Role::Client, addresses, None);
        assert_eq!(hop(&asked), Hop::Meta, "{remote}");
    }
    let plain = link(
        &app,
        nobody,
        Role::Server,
        ("10.0.0.1:8080", "10.0.0.1:40000"),
        None,
    );
    assert_eq!(
        hop(&plain),
        Hop::Direct,
        "a pod without a proxy that calls itself"
    );
}

#[test]
fn the_network_side_of_a_proxy_is_told_from_the_applications() {
    let near = pod("a", ISTIO, &[]);
    let envoy = container(&near, "istio-proxy", "envoy");
    let peer = || Peer::Address([10, 0, 0, 2].into());
    for (role, addresses, expected) in [
        (Role::Client, ("10.0.0.1:40000", "10.0.0.2:8080"), true),
        (Role::Client, ("127.0.0.6:40000", "10.0.0.1:8080"), false),
        (Role::Client, ("10.0.0.1:40000", "10.0.0.1:8080"), false),
        (Role::Client, ("127.0.0.1:40000", "127.0.0.1:8080"), false),
        (Role::Server, ("10.0.0.1:15006", "10.0.0.2:40000"), true),
        (Role::Server, ("127.0.0.1:15001", "10.0.0.1:40000"), false),
        (Role::Server, ("10.0.0.1:15001", "10.0.0.1:40000"), false),
    ] {
        let link = link(&envoy, peer(), role, addresses, None);
        assert_eq!(is_on_wire(&link), expected, "{role:?} {addresses:?}");
    }
}

#[test]
fn probes_are_known_by_what_the_kubelet_says() {
    let node = || Peer::Node(Arc::default());
    let remote = "10.0.0.254".parse().unwrap();
    assert!(is_probe(remote, &node(), "kube-probe/1.31"));
    assert!(!is_probe(remote, &node(), "curl/8"));
    assert!(
        !is_probe(remote, &Peer::Pod(pod("a", &[], &[])), "kube-probe/1.31"),
        "a pod that says so"
    );
    assert!(is_probe("169.254.7.127".parse().unwrap(), &node(), ""));
}

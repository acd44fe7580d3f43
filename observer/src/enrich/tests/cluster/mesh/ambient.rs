//! Proxies of nodes, and waypoints between them.

use super::*;

/// A waypoint is between the proxies: what they have open with it is how the way is secured.
#[test]
fn a_waypoint_is_on_the_way_of_calls_between_pods_of_ambient_mode() {
    for (redirected, passes, expected) in [
        (true, "10.244.2.20:15008", Security::Hbone),
        // It may have been for any other Service.
        (false, "10.244.2.20:15008", Security::Unknown),
        // No waypoint.
        (true, "10.244.2.21:15008", Security::Unknown),
    ] {
        let mut meshed = Meshed::new();
        let mut traits = |uid: &str, name: &str, address: &str, change: fn(&mut Traits)| {
            let Object::Pod(mut pod) = object(uid, name, address, name, &[]) else {
                unreachable!()
            };
            let mut traits = Traits::default();
            change(&mut traits);
            pod.traits = Arc::new(traits);
            meshed.node.set(Object::Pod(pod), 0);
        };
        if redirected {
            traits(OTHER, "orders-y", REMOTE, |traits| {
                let redirection = ("ambient.istio.io/redirection".into(), "enabled".into());
                traits.annotations = [redirection].into();
            });
        }
        let third = "7d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a";
        traits(third, "waypoint-z", "10.244.2.20", |traits| {
            let class = "gateway.networking.k8s.io/gateway-class-name";
            traits.labels = [(class.into(), "istio-waypoint".into())].into();
        });
        let fourth = "8d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a";
        traits(fourth, "any-z", "10.244.2.21", |_| ());
        let tunnel = || Opening {
            protocol: Some("tls"),
            tls: Some(Arc::new(Handshake {
                alpn_offered: ["h2".into()].into(),
                ..Handshake::default()
            })),
            ..Opening::default()
        };
        meshed.dial();
        meshed.wire(20, Role::Client, passes, tunnel());
        let call = meshed.call(10, Role::Client, None);
        let case = format!("{redirected} {passes}");
        assert_eq!(
            (name(call.peer()).as_str(), call.secured()),
            ("pod orders", expected),
            "{case}"
        );
        // Whatever else goes by the waypoint: this client's proxy goes on directly.
        meshed.wire(30, Role::Client, "10.244.2.9:8080", plain());
        let call = meshed.call(10, Role::Client, None);
        assert_eq!(call.secured(), Security::Plaintext, "{case}");

        // As the server: the proxy keeps the client's address.
        let waypoint = format!("{}:50000", passes.split(':').next().unwrap());
        let addresses = ("10.244.1.7:15008", waypoint.as_str());
        meshed.open(50, true, Role::Server, addresses, None);
        let event = ConnectionEvent::Recognised {
            id: ConnectionId(50),
            opening: Arc::new(tunnel()),
        };
        meshed.node.bench.event(event, 1);
        let call = call_from(&mut meshed, "10.244.2.9:40000");
        assert_eq!(
            (name(call.peer()).as_str(), call.secured()),
            ("pod orders", expected),
            "{case}, as the server"
        );
    }
}

/// The proxy of a node has a socket in the network of each pod that it stands for, and is none of them.
#[test]
fn the_proxy_of_a_node_stands_for_the_pod_whose_address_it_answers_at() {
    let mut meshed = Meshed::new();
    let (uid, id) = (UID.replace("5d3f", "9d3f"), ID.replace("8f3c", "af3c"));
    let root = meshed.node.bench._folder.path().join("cgroup");
    let path = root.join(format!("kubepods/burstable/pod{uid}/{id}"));
    std::fs::create_dir_all(&path).unwrap();
    let ids = [("istio-proxy", id.as_str())];
    let Object::Pod(mut proxy) = object(&uid, "ztunnel-z", "10.244.1.9", "ztunnel", &ids) else {
        unreachable!()
    };
    proxy.traits = Arc::new(Traits {
        containers: ["istio-proxy".into()].into(),
        labels: [("app".into(), "ztunnel".into())].into(),
        ..Traits::default()
    });
    meshed.node.set(Object::Pod(proxy), 0);
    let cgroup = std::fs::metadata(&path).unwrap().ino();
    // Two ends of each connection, of which the second is the proxy's, for the pod of the Service.
    let mut both = |id: u32, role, own: (&str, &str), proxys: (&str, &str), by_proxy: bool| {
        let other = match role {
            Role::Client => Role::Server,
            _ => Role::Client,
        };
        for (end, role, (local, remote), by_proxy) in
            [(0, role, own, by_proxy), (1, other, proxys, true)]
        {
            let mut connection = meshed.node.client(u64::from(id + end), remote);
            (connection.local, connection.role) = (local.parse().unwrap(), role);
            connection.sequences = Some((id + end, id + 1 - end));
            if by_proxy {
                connection.owner.cgroup = cgroup;
            }
            meshed.node.open(&connection, 1).expect("all is known");
        }
        let event = ConnectionEvent::Recognised {
            id: ConnectionId(u64::from(id)),
            opening: Arc::new(plain()),
        };
        match meshed.node.bench.event(event, 1) {
            Some(LinkEvent::Recognised { link, .. }) => link,
            other => panic!("{other:?}"),
        }
    };
    let (client, server) = ("10.244.1.7:40000", "10.244.2.9:15006");
    for (what, link, hop) in [
        (
            "an application that calls a Service, which is translated out of its sight",
            both(
                100,
                Role::Client,
                (client, SERVICE),
                (server, client),
                false,
            ),
            Hop::Direct,
        ),
        (
            "an application that no proxy is before",
            both(
                200,
                Role::Server,
                ("10.244.1.7:8080", "10.244.2.9:40000"),
                ("10.244.2.9:40000", "10.244.1.7:8080"),
                false,
            ),
            Hop::Direct,
        ),
        (
            "its own end in the network of another pod",
            both(
                300,
                Role::Client,
                ("10.244.1.7:41000", server),
                (server, client),
                true,
            ),
            Hop::Proxy(crate::model::mesh::ProxyKind::Node),
        ),
    ] {
        assert_eq!(link.hop, hop, "{what}");
        assert_eq!(
            (name(link.peer()).as_str(), link.secured()),
            ("pod orders", Security::Plaintext),
            "{what}"
        );
        assert!(link.peer.is_local(), "{what}");
    }
}

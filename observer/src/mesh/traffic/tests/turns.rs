//! Proxies that lead requests to where a rule led before it was changed.

use serde_json::json;

use super::{others::recognised, *};
use crate::model::{mesh::ProxyKind, security::MeshSigns};

const FIRST: &str = "v1";
const SECOND: &str = "v2";

/// A pod of `web`.
fn web(number: u32) -> Arc<Pod> {
    let pod = client();
    Arc::new(Pod {
        uid: format!("{}-{number}", pod.uid).into(),
        name: format!("web-{number}").into(),
        ..(*pod).clone()
    })
}

fn declare(world: &mut World, version: &str, weights: &[(&str, u32)]) {
    let route: Vec<Value> = weights
        .iter()
        .map(|(name, weight)| to(name, *weight))
        .collect();
    let spec = routes(json!([{ "route": route }]));
    world.declare(fixture::versioned(
        PolicyKind::VirtualService,
        "shop",
        "cart",
        &spec,
        version,
    ));
}

/// So many requests of a client, as a server gets them.
fn served(world: &mut World, times: u64, client: &Arc<Pod>, version: &str) {
    let link = Arc::new(world.server_socket(&server(version), client));
    for _ in 0..times {
        world.call(&link, get("/"), attempt(1));
    }
}

/// A connection of a client's proxy to a subset.
fn proxied(world: &mut World, client: &Arc<Pod>, version: &str) -> Link {
    let peer = Peer::Pod(server(version));
    let hop = Hop::Proxy(ProxyKind::Sidecar);
    let mut link = fixture::link(world.number(), client, Role::Client, hop, peer);
    link.connection.started = world.now;
    link.mesh = Some(Arc::new(MeshSigns {
        subset: Some(version.into()),
        port: Some(80),
        host: Some("cart.shop.svc.cluster.local".into()),
        server_identity: None,
    }));
    link
}

/// So many of them.
fn connected(world: &mut World, times: u64, client: &Arc<Pod>, version: &str) {
    for _ in 0..times {
        let link = proxied(world, client, version);
        recognised(world, 1, link, "tls");
    }
}

fn stale(world: &mut World) -> Vec<(String, String, u64)> {
    let found = world.findings().into_iter().filter(|it| it.id == "M33");
    found
        .map(|it| {
            let pod = it.summary.split(' ').nth(4).expect("a pod").to_owned();
            (it.workload.name, pod, it.count)
        })
        .collect()
}

/// What the weights were and are, where each of two proxies goes, and whether it is found.
type Case = (
    &'static str,
    &'static [(&'static str, u32)],
    &'static [(&'static str, u32)],
    [&'static str; 2],
    bool,
);

/// How requests, or connections, go their way.
type Way = fn(&mut World, u64, &Arc<Pod>, &str);

#[test]
fn who_goes_on_is_found_where_others_follow() {
    let one = || ("web".to_owned(), "web-1".to_owned(), 30);
    let cases: &[Case] = &[
        (
            "to another",
            &[(FIRST, 1)],
            &[(SECOND, 1)],
            [FIRST, SECOND],
            true,
        ),
        (
            "both go on",
            &[(FIRST, 1)],
            &[(SECOND, 1)],
            [FIRST, FIRST],
            false,
        ),
        (
            "both follow",
            &[(FIRST, 1)],
            &[(SECOND, 1)],
            [SECOND, SECOND],
            false,
        ),
        (
            "one is left",
            &[(FIRST, 1), (SECOND, 1)],
            &[(SECOND, 1)],
            [FIRST, SECOND],
            true,
        ),
        (
            "by a share of nothing",
            &[(FIRST, 1), (SECOND, 1)],
            &[(FIRST, 0), (SECOND, 1)],
            [FIRST, SECOND],
            true,
        ),
        (
            "shares alone",
            &[(FIRST, 1), (SECOND, 9)],
            &[(FIRST, 9), (SECOND, 1)],
            [SECOND, FIRST],
            false,
        ),
        (
            "nothing was changed",
            &[(FIRST, 1)],
            &[(FIRST, 1)],
            [SECOND, FIRST],
            false,
        ),
    ];
    let ways: [(&str, Way); 2] = [("requests", served), ("connections", connected)];
    for (name, before, after, reached, expected) in cases {
        for (what, way) in ways {
            let mut world = World::new();
            declare(&mut world, "1", before);
            world.settle();
            // What the subsets are is known from requests.
            world.sent(1, get("/"), None);
            declare(&mut world, "2", after);
            world.settle();
            for (number, version) in (1..).zip(reached) {
                way(&mut world, 30, &web(number), version);
            }
            let expected: Vec<_> = expected.then(one).into_iter().collect();
            assert_eq!(stale(&mut world), expected, "{name}, {what}");
        }
    }
}

#[test]
fn what_is_not_settled_does_not_count() {
    let ways: [(&str, Way); 2] = [("requests", served), ("connections", connected)];
    for (what, way) in ways {
        // Before the change, within a minute of it, or too few.
        for (wait, times) in [(0, 30), (61, 2)] {
            let mut world = World::new();
            declare(&mut world, "1", &[(FIRST, 1)]);
            world.settle();
            world.sent(1, get("/"), None);
            way(&mut world, 30, &web(1), FIRST);
            declare(&mut world, "2", &[(SECOND, 1)]);
            world.pass(Duration::from_secs(wait));
            way(&mut world, times, &web(1), FIRST);
            world.settle();
            way(&mut world, 30, &web(2), SECOND);
            assert_eq!(stale(&mut world), [], "{what} {wait} {times}");
        }
    }
}

#[test]
fn connections_of_before_do_not_count() {
    let mut world = World::new();
    declare(&mut world, "1", &[(FIRST, 1)]);
    world.settle();
    world.sent(1, get("/"), None);
    let before = world.now;
    declare(&mut world, "2", &[(SECOND, 1)]);
    world.settle();
    connected(&mut world, 30, &web(2), SECOND);
    // They are recognised late.
    for _ in 0..30 {
        let mut link = proxied(&mut world, &web(1), FIRST);
        link.connection.started = before;
        recognised(&mut world, 1, link, "tls");
    }
    assert_eq!(stale(&mut world), []);
    connected(&mut world, 3, &web(1), FIRST);
    assert_eq!(stale(&mut world).len(), 1);
}

#[test]
fn who_follows_late_is_told_no_more() {
    let cases: &[&[(&str, u32)]] = &[&[(FIRST, 1)], &[(FIRST, 1), (SECOND, 1)]];
    for before in cases {
        let mut world = World::new();
        declare(&mut world, "1", before);
        world.settle();
        world.sent(1, get("/"), None);
        declare(&mut world, "2", &[(SECOND, 1)]);
        world.settle();
        served(&mut world, 30, &web(1), FIRST);
        served(&mut world, 30, &web(2), SECOND);
        assert_eq!(stale(&mut world).len(), 1);
        // A version with the same backends is no other change.
        declare(&mut world, "3", &[(SECOND, 2)]);
        world.settle();
        assert_eq!(stale(&mut world).len(), 1);
        world.pass(Duration::from_secs(901));
        served(&mut world, 20, &web(1), SECOND);
        assert_eq!(stale(&mut world), []);
    }
}

#[test]
fn waypoints_route_for_pods_of_the_ambient_mesh() {
    let mut world = World::new();
    declare(&mut world, "1", &[(FIRST, 1)]);
    world.settle();
    world.sent(1, get("/"), None);
    declare(&mut world, "2", &[(SECOND, 1)]);
    world.settle();
    for (number, version) in [(1, FIRST), (2, SECOND)] {
        let web = web(number);
        let mut traits = (*web.traits).clone();
        traits.containers = ["app".into()].into();
        traits.annotations = [("ambient.istio.io/redirection".into(), "enabled".into())].into();
        let web = Arc::new(Pod {
            traits: Arc::new(traits),
            ..(*web).clone()
        });
        served(&mut world, 30, &web, version);
    }
    assert_eq!(stale(&mut world), []);
}

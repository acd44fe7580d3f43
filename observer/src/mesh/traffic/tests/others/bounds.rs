//! What is bounded, and forgotten.

use super::*;

#[test]
fn everything_is_bounded() {
    let mut world = World::new();
    world.traffic.reconfigure(Config {
        entries: 4,
        answers: 8,
        connections: 4,
        ..Config::default()
    });
    world.object(
        PolicyKind::VirtualService,
        "cart",
        routes(json!([{"route": [to("v1", 100)]}])),
    );
    only_declared(&mut world);
    world.settle();
    for number in 0..40 {
        let name = format!("web-{number}");
        let pod = fixture::pod("shop", &name, &[("app", &name)], &[SIDECAR]);
        let link = Arc::new(world.client_socket(&pod, None));
        let path = format!("/{number}");
        world.call(&link, get(&path), None);
        let link = Arc::new(world.server_socket(&server("v1"), &pod));
        world.call(&link, get(&path), None);
    }
    for table in world.traffic.tables() {
        assert!(table.entries <= table.limit, "{table:?}");
    }
    let losses = world.traffic.losses();
    let lost = |reason| losses.iter().any(|it| it.reason == reason && it.count > 0);
    assert!(lost("mesh_parties_full") && lost("mesh_sockets_full"));
}

#[test]
fn what_is_idle_is_forgotten() {
    let mut world = World::new();
    world.object(
        PolicyKind::VirtualService,
        "cart",
        routes(json!([{"route": [to("v1", 100)]}])),
    );
    world.settle();
    world.sent(3, get("/"), None);
    world.arrived(3, &server("v1"), get("/"), None);
    world.pass(Duration::from_secs(8 * 24 * 3_600));
    let full: Vec<Table> = world
        .traffic
        .tables()
        .into_iter()
        .filter(|table| table.entries > 0)
        .collect();
    // What is declared stays, and answers are let go by others.
    for table in full {
        let stays = [
            "mesh_rules",
            "mesh_uses",
            "mesh_routed",
            "mesh_unrouted",
            "mesh_unpoliced",
            "mesh_authorized",
            "mesh_parties",
        ];
        assert!(stays.contains(&table.name), "{table:?}");
    }
    // It goes on after that.
    world.sent(3, get("/"), None);
    assert_eq!(world.report().routes[0].requests, 6);
}

//! Whether servers could take mutual TLS only.

use super::*;

fn readiness(world: &World, window: u64) -> Readiness {
    let window = Duration::from_secs(window);
    let report = world
        .ledger
        .report(Some(window), world.now, WallOffset::default());
    let of_cart = report
        .readiness
        .into_iter()
        .find(|it| it.workload.name == "cart");
    of_cart.expect("the server is in the mesh")
}

#[test]
fn readiness_takes_a_whole_window_of_mutual_tls() {
    let mut world = World::shop(&[], permissive);
    let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
    let mutual = Wire::sidecar(&web, &cart, MUTUAL);
    world.connect(10, &mutual);
    let early = readiness(&world, 3600);
    assert_eq!((early.state, early.connections), ("INSUFFICIENT", 10));

    for _ in 0..48 {
        world.pass(3600);
        world.connect(10, &mutual);
    }
    let ready = readiness(&world, DAY);
    assert_eq!((ready.state, ready.declared), ("READY", "permissive"));
    assert!(ready.plaintext.is_empty());
    assert_eq!(readiness(&world, 7 * DAY).state, "INSUFFICIENT");

    // A job that runs once a day.
    let job = pod("job", Mesh::None, same);
    world.connect(1, &Wire::direct(&job, &cart));
    let late = readiness(&world, DAY);
    assert_eq!(late.state, "NOT READY");
    let [client] = late.plaintext.as_slice() else {
        panic!("{late:?}");
    };
    assert_eq!(client.client.describe(), "Deployment shop/job");
    assert_eq!((client.port, client.connections), (8080, 1));

    for _ in 0..30 {
        world.pass(3600);
        world.connect(10, &mutual);
    }
    assert_eq!(readiness(&world, DAY).state, "READY");
    assert_eq!(readiness(&world, 2 * DAY).state, "NOT READY");
}

#[test]
fn readiness_is_not_told_of_what_is_not_known() {
    let mut world = World::shop(&[], permissive);
    let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
    for _ in 0..30 {
        world.pass(3600);
        world.connect(10, &Wire::sidecar(&web, &cart, MUTUAL));
    }
    assert_eq!(readiness(&world, DAY).state, "READY");
    let wire = Wire::direct(&pod("job", Mesh::None, same), &cart);
    world.connect(1, &wire.secured(Security::Unknown));
    let unknown = readiness(&world, DAY);
    assert_eq!(unknown.state, "INSUFFICIENT");
    assert!(unknown.why.contains("not known"), "{}", unknown.why);
}

#[test]
fn readiness_is_a_finding_of_servers_that_take_both() {
    let found = |world: &World| {
        let report = world.report();
        let of_cart = report
            .findings
            .iter()
            .filter(|it| it.id == "M03" && it.workload.name == "cart");
        of_cart.map(|it| it.summary.clone()).collect::<Vec<_>>()
    };
    let mut world = World::shop(&[], permissive);
    let (web, cart) = (web(Mesh::None), cart(Mesh::Sidecar));
    world.connect(30, &Wire::direct(&web, &cart));
    world.pass(120);
    let [summary] = &*found(&world) else {
        panic!("it is found");
    };
    assert!(
        summary.contains("cannot take mutual TLS only yet"),
        "{summary}"
    );
    world.mode("STRICT");
    world.pass(120);
    assert!(found(&world).is_empty());

    // It is told as soon as what changed may be judged.
    for (settle, count) in [(0, 1), (40, 0)] {
        let mut world = World::shop(&[], permissive);
        world.ledger.reconfigure(Config {
            settle: Duration::from_secs(settle),
            ..Config::default()
        });
        world.connect(30, &Wire::direct(&web, &cart));
        world.pass(1);
        assert_eq!(found(&world).len(), count, "{settle}");
    }
}

//! What is always so.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A request: at the client or the server, its path, the server's version, attempt and status.
type Step = (bool, u8, bool, u16, u16);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<bool>(), 0_u8..4, any::<bool>(), 1_u16..4, 0_u16..3);
    prop::collection::vec(step, 0..300)
}

fn played(unrelated: bool, first: u32, steps: &[Step]) -> Report {
    let mut world = World::new();
    let rules = json!([
        {"match": [{"uri": {"prefix": "/api"}}], "route": [to("v1", first), to("v2", 100 - first)]},
        {"match": [{"uri": {"prefix": "/"}}, {"method": {"exact": "PUT"}}], "route": [to("v1", 100)]},
    ]);
    world.object(PolicyKind::VirtualService, "cart", routes(rules));
    let deny = json!({"selector": {"matchLabels": {"app": "cart"}}, "action": "DENY",
        "rules": [{"to": [{"operation": {"paths": ["/api/secret"]}}]}]});
    world.object(PolicyKind::IstioAuthorizationPolicy, "cart", deny);
    if unrelated {
        let namespace = "elsewhere";
        let spec = json!({"hosts": ["cart"], "exportTo": ["."], "http": [{"fault": {"abort":
            {"httpStatus": 500, "percentage": {"value": 100}}}, "route": [to("v2", 100)]}]});
        let kind = PolicyKind::VirtualService;
        world.declare(fixture::object(kind, namespace, "cart", &spec));
        let kind = PolicyKind::IstioAuthorizationPolicy;
        world.declare(fixture::object(kind, namespace, "cart", &json!({})));
        let kind = PolicyKind::PeerAuthentication;
        let strict = json!({"mtls": {"mode": "STRICT"}});
        world.declare(fixture::object(kind, namespace, "default", &strict));
    }
    world.settle();
    let sent = Arc::new(world.client_socket(&client(), None));
    let served = ["v1", "v2"].map(|version| {
        let link = world.server_socket(&server(version), &client());
        Arc::new(link)
    });
    for (at_client, path, second, number, status) in steps {
        let paths = ["/api/1", "/", "/api/secret", "/other"];
        let asked = Asked {
            path: paths[usize::from(*path)],
            status: [Some(200), Some(503), None][usize::from(*status)],
            ..get("/")
        };
        match at_client {
            true => world.call(&sent, asked, None),
            false => world.call(&served[usize::from(*second)], asked, attempt(*number)),
        };
    }
    world.report()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_has_nothing_to_do_with_it_changes_nothing(first in 0_u32..100, steps in steps()) {
        let alone = played(false, first, &steps);
        let mut with = played(true, first, &steps);
        let own = |object: &crate::mesh::report::Object| object.namespace == "shop";
        with.routes.retain(|route| own(&route.object));
        with.splits.retain(|split| own(&split.object));
        prop_assert_eq!(&alone.routes, &with.routes);
        prop_assert_eq!(&alone.splits, &with.splits);
        prop_assert_eq!(&alone.authorizations, &with.authorizations);
        let ids = |report: &Report| {
            let mut ids: Vec<(&str, String, u64)> = report.findings.iter()
                .map(|it| (it.id, it.summary.clone(), it.count)).collect();
            ids.sort();
            ids
        };
        prop_assert_eq!(ids(&alone), ids(&with));
    }

    #[test]
    fn what_is_counted_adds_up(first in 0_u32..100, steps in steps()) {
        let report = played(false, first, &steps);
        for split in &report.splits {
            let declared: f64 = split.backends.iter().map(|it| it.declared).sum();
            prop_assert!((declared - 1.0).abs() < 1e-9);
            let requests: u64 = split.backends.iter().map(|it| it.requests).sum();
            prop_assert_eq!(requests, split.requests);
            if requests > 0 {
                let shares: f64 = split.backends.iter().filter_map(|it| it.observed).sum();
                prop_assert!((shares - 1.0).abs() < 1e-9);
            }
        }
        let at_client = steps.iter().filter(|step| step.0).count() as u64;
        let matched: u64 = report.routes.iter().map(|it| it.requests).sum();
        prop_assert_eq!(matched, at_client);
        let judged: u64 = report.authorizations.iter()
            .map(|it| it.allowed + it.denied + it.unknown).sum();
        prop_assert_eq!(judged, steps.len() as u64 - at_client);
        let secret = steps.iter().filter(|step| !step.0 && step.1 == 2).count() as u64;
        let drift: u64 = report.findings.iter().filter(|it| it.id == "M25").map(|it| it.count).sum();
        prop_assert_eq!(drift, secret);
    }
}

//! Whose waypoint counts, in cases.

use crate::{
    mesh::{
        decision::Certainty,
        istio::tests::{ambient, namespace, pairs, service},
        policy::Policies,
    },
    model::policy::ServiceFacts,
};

#[test]
fn the_nearest_label_counts() {
    const USE: &str = "istio.io/use-waypoint";
    const WHERE: &str = "istio.io/use-waypoint-namespace";
    for (of_namespace, of_service, of_pod, by_service, by_pod) in [
        (&[][..], &[][..], &[][..], None, None),
        (&[(USE, "w")], &[], &[], Some("shop/w"), Some("shop/w")),
        (
            &[(USE, "w")],
            &[(USE, "s")],
            &[],
            Some("shop/s"),
            Some("shop/w"),
        ),
        (&[(USE, "w")], &[(USE, "none")], &[], None, Some("shop/w")),
        (
            &[(USE, "w")],
            &[],
            &[(USE, "p")],
            Some("shop/w"),
            Some("shop/p"),
        ),
        (&[(USE, "w")], &[], &[(USE, "none")], Some("shop/w"), None),
        (
            &[(USE, "w"), (WHERE, "infra")],
            &[],
            &[],
            Some("infra/w"),
            Some("infra/w"),
        ),
        (
            &[(WHERE, "infra")],
            &[(USE, "s")],
            &[],
            Some("shop/s"),
            None,
        ),
    ] {
        let mut policies = Policies::default();
        namespace(&mut policies, "shop", of_namespace);
        let label = |facts: &mut ServiceFacts| facts.labels = pairs(of_service);
        service(&mut policies, "shop/cart", label);
        let pod = ambient("shop", of_pod);
        let ask = |service| {
            let found = policies
                .istio()
                .waypoint(policies.context(), &pod, service)?;
            let certain = found.certainty == Certainty::Yes;
            assert_eq!(certain, service.is_some());
            Some(format!("{}/{}", found.namespace, found.name))
        };
        let text = format!("{of_namespace:?} {of_service:?} {of_pod:?}");
        assert_eq!(ask(Some(("shop", "cart"))).as_deref(), by_service, "{text}");
        assert_eq!(ask(None).as_deref(), by_pod, "{text}");
        assert_eq!(ask(Some(("shop", "unknown"))), None);
    }
}

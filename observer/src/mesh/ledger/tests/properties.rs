//! What must always be so, whatever is declared and seen.

use std::sync::Arc;

use proptest::prelude::*;

use super::{MUTUAL, PLAIN, cart, peer, web, world::*};
use crate::model::{kubernetes::Pod, policy::PolicyKind, security::Security};

/// Traffic of one kind.
fn wires() -> Vec<fn() -> Wire> {
    fn ends(client: Mesh, server: Mesh) -> (Arc<Pod>, Arc<Pod>) {
        (web(client), cart(server))
    }
    vec![
        || {
            let (web, cart) = ends(Mesh::None, Mesh::Sidecar);
            Wire::direct(&web, &cart)
        },
        || {
            let (web, cart) = ends(Mesh::Sidecar, Mesh::Sidecar);
            Wire::sidecar(&web, &cart, MUTUAL)
        },
        || {
            let (web, cart) = ends(Mesh::Sidecar, Mesh::Sidecar);
            Wire {
                dialled: Some(cart_service()),
                ..Wire::sidecar(&web, &cart, PLAIN)
            }
        },
        || {
            let (web, cart) = ends(Mesh::Sidecar, Mesh::Sidecar);
            Wire::into_sidecar(&cart, peer(&web), MUTUAL)
        },
        || {
            let (web, cart) = ends(Mesh::Sidecar, Mesh::Sidecar);
            Wire::from_proxy(&cart, peer(&web), MUTUAL)
        },
        || {
            let (web, cart) = ends(Mesh::Ambient, Mesh::Ambient);
            Wire::direct(&web, &cart)
        },
        || {
            let (web, cart) = ends(Mesh::Sidecar, Mesh::None);
            Wire::direct(&web, &cart)
        },
        || {
            let (web, cart) = ends(Mesh::None, Mesh::Sidecar);
            Wire::direct(&web, &cart).secured(Security::Tls)
        },
    ]
}

fn declared(world: &mut World, mode: usize) {
    match mode {
        0 => world.mode("STRICT"),
        1 => world.mode("PERMISSIVE"),
        _ => world.mode("DISABLE"),
    }
}

/// An object that has nothing to do with the namespace of the traffic.
fn unrelated(world: &mut World, which: usize) {
    match which % 5 {
        0 => world.object(
            PolicyKind::PeerAuthentication,
            "other/default",
            r#"{"spec":{"mtls":{"mode":"STRICT"}}}"#,
        ),
        1 => world.object(
            PolicyKind::DestinationRule,
            "other/cart",
            r#"{"spec":{"host":"cart.other.svc.cluster.local",
                "trafficPolicy":{"tls":{"mode":"DISABLE"}}}}"#,
        ),
        2 => world.object(
            PolicyKind::IstioAuthorizationPolicy,
            "other/deny",
            r#"{"spec":{"action":"DENY","rules":[{"from":[{"source":{"principals":["*"]}}]}]}}"#,
        ),
        3 => world.object(
            PolicyKind::NetworkPolicy,
            "other/all",
            r#"{"spec":{"podSelector":{},"ingress":[{"ports":[{"port":15008}]}]}}"#,
        ),
        _ => world.object(
            PolicyKind::PeerAuthentication,
            "shop/other",
            r#"{"spec":{"selector":{"matchLabels":{"app":"other"}},"mtls":{"mode":"DISABLE"}}}"#,
        ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// An object that has nothing to do with the traffic changes no finding and no verdict.
    #[test]
    fn what_is_unrelated_changes_nothing(
        mode in 0_usize..3,
        traffic in prop::collection::vec((0_usize..8, 1_usize..40), 1..8),
        which in 0_usize..5,
        at in 0_usize..8,
    ) {
        let run = |with: bool| {
            let mut world = World::shop(&[], |world| declared(world, mode));
            for (index, (kind, count)) in traffic.iter().enumerate() {
                if with && index == at {
                    unrelated(&mut world, which);
                    world.pass(61);
                }
                if !with && index == at {
                    world.pass(61);
                }
                world.connect(*count, &wires()[*kind]());
            }
            // What is declared is read anew at most every ten seconds.
            world.pass(11);
            let verdicts: Vec<_> = world
                .report()
                .edges
                .iter()
                .map(|edge| (edge.client_plane, edge.server_plane, edge.declared, edge.verdict))
                .collect();
            (world.found(), verdicts)
        };
        prop_assert_eq!(run(false), run(true));
    }

    /// More traffic never takes back what was found, nor a verdict of a violation.
    #[test]
    fn more_traffic_never_unsees(
        mode in 0_usize..3,
        traffic in prop::collection::vec((0_usize..8, 1_usize..40), 1..12),
    ) {
        let mut world = World::shop(&[], |world| declared(world, mode));
        let mut before = (Vec::new(), 0);
        for (kind, count) in traffic {
            world.connect(count, &wires()[kind]());
            let found = world.found();
            let edges = world.report().edges;
            let violated = edges.iter().filter(|edge| edge.verdict == "violated").count();
            for id in &before.0 {
                prop_assert!(found.contains(id), "{} of {:?}", id, before);
            }
            prop_assert!(violated >= before.1);
            before = (found, violated);
        }
    }

    /// What is counted is what was there.
    #[test]
    fn connections_are_counted_once(
        counts in prop::collection::vec(1_usize..20, 8),
    ) {
        let mut world = World::shop(&[], |world| declared(world, 1));
        for (kind, count) in counts.iter().enumerate() {
            world.connect(*count, &wires()[kind]());
        }
        let edges = world.report().edges;
        let total: u64 = edges
            .iter()
            .flat_map(|edge| &edge.observed)
            .map(|observed| observed.connections)
            .sum();
        // Both ends of the wire between both sidecars count the same; the hop behind counts none.
        let client = counts[1] as u64 + counts[2] as u64;
        let most = client + counts[3] as u64;
        let others = [0, 5, 6, 7].map(|kind: usize| counts[kind] as u64);
        let others: u64 = others.iter().sum();
        prop_assert!((client + others..=most + others).contains(&total), "{total} {counts:?}");
    }
}

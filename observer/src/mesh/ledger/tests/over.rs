//! Findings end when nothing shows them any more, though nobody says so.

use super::{MUTUAL, PLAIN, cart, nothing, strict, web, world::*};
use crate::model::policy::PolicyKind;

fn plain(world: &mut World, count: usize) {
    world.connect(count, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
}

fn mutual(world: &mut World, count: usize) {
    let wire = Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), MUTUAL);
    world.connect(count, &wire);
}

/// A proxy that sends plaintext where it is to send mutual TLS.
fn fallback(world: &mut World, count: usize) {
    let wire = Wire {
        dialled: Some(cart_service()),
        ..Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), PLAIN)
    };
    world.connect(count, &wire);
}

fn encrypted(world: &mut World, count: usize) {
    let wire = Wire {
        dialled: Some(cart_service()),
        ..Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), MUTUAL)
    };
    world.connect(count, &wire);
}

struct Case {
    name: &'static str,
    traffic: fn(&mut World),
    expected: &'static [&'static str],
}

#[test]
fn a_client_that_got_a_proxy() {
    let cases = [
        Case {
            name: "enough without, for long enough",
            traffic: |world| {
                plain(world, 30);
                mutual(world, 1);
                world.pass(901);
                mutual(world, 20);
            },
            expected: &[],
        },
        Case {
            name: "too few",
            traffic: |world| {
                plain(world, 30);
                mutual(world, 1);
                world.pass(901);
                mutual(world, 19);
            },
            expected: &["M01"],
        },
        Case {
            name: "too soon: a connection that lasts would not be told again yet",
            traffic: |world| {
                plain(world, 30);
                mutual(world, 1);
                world.pass(600);
                mutual(world, 100);
            },
            expected: &["M01"],
        },
        Case {
            name: "once more in between",
            traffic: |world| {
                plain(world, 30);
                mutual(world, 30);
                world.pass(800);
                plain(world, 1);
                mutual(world, 30);
                world.pass(800);
                mutual(world, 30);
            },
            expected: &["M01"],
        },
        Case {
            name: "once an hour, and an hour is not over",
            traffic: |world| {
                for _ in 0..20 {
                    plain(world, 1);
                    world.pass(3600);
                }
                plain(world, 1);
                mutual(world, 30);
                world.pass(3600);
                mutual(world, 30);
            },
            expected: &["M01"],
        },
        Case {
            name: "no traffic tells nothing",
            traffic: |world| {
                plain(world, 30);
                world.pass(7200);
            },
            expected: &["M01"],
        },
    ];
    for case in cases {
        let mut world = World::shop(&[], strict);
        (case.traffic)(&mut world);
        world.pass(1);
        assert_eq!(world.found(), case.expected, "{}", case.name);
    }
}

#[test]
fn a_proxy_that_came_to_itself() {
    for (shown, of, since, found, verdict) in [
        (30, 30, 20, &[][..], "satisfied"),
        (30, 30, 19, &["M06"], "violated"),
        // One of ten.
        (10, 100, 69, &["M06"], "violated"),
        (10, 100, 70, &[], "satisfied"),
    ] {
        let mut world = World::shop(&[], |world| world.mode("PERMISSIVE"));
        encrypted(&mut world, of - shown);
        fallback(&mut world, shown);
        world.pass(1);
        assert_eq!(world.found(), ["M06"]);
        world.pass(901);
        encrypted(&mut world, since);
        world.pass(1);
        let name = format!("{shown} of {of}, {since} since");
        assert_eq!(world.found(), found, "{name}");
        let report = world.report();
        let verdicts: Vec<&str> = report.edges.iter().map(|edge| edge.verdict).collect();
        assert_eq!(verdicts, [verdict], "{name}");
        // It may begin again.
        fallback(&mut world, 1);
        assert_eq!(world.found(), ["M06"], "{name}");
    }
}

#[test]
fn what_is_declared_no_more() {
    let mut world = World::shop(&[], |world| {
        world.object(
            PolicyKind::NetworkPolicy,
            "shop/cart",
            r#"{"spec":{"podSelector":{},"policyTypes":["Ingress"],"ingress":[{"ports":[{"port":15008}]}]}}"#,
        );
        nothing(world);
    });
    let (web, cart) = (web(Mesh::Ambient), cart(Mesh::Ambient));
    super::ambient_client(&mut world, &web, &cart);
    world.connect(30, &super::tunnelled(&web, &cart));
    assert_eq!(world.found(), ["M30"]);
    // Something else does not end it.
    world.object(PolicyKind::NetworkPolicy, "other/cart", r#"{"spec":{}}"#);
    world.pass(11);
    assert_eq!(world.found(), ["M30"]);
    world.remove(PolicyKind::NetworkPolicy, "shop/cart");
    world.pass(11);
    assert_eq!(world.found(), [""; 0]);
}

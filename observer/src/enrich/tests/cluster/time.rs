//! How long things wait, how many, and what is told when they have waited for long enough.

use super::*;

#[test]
fn what_waits_is_bounded_and_told_in_order() {
    let mut node = Node::new();
    node.open(&node.client(1, OUTSIDE), 1);
    node.open(&node.client(2, OUTSIDE), 2);
    for _ in 0..Waiting::LIMIT {
        assert!(node.call(1, 2).is_none() && node.call(2, 2).is_none());
        if node.bench.enricher.waiting().len() > Waiting::LIMIT {
            break;
        }
    }
    let told = node.settle(2);
    assert!(matches!(told[0], Told::Link(LinkEvent::Opened(_))));
    let first = |told: &Told| match told {
        Told::Call(call) => call.link.connection.id == ConnectionId(1),
        _ => true,
    };
    let other = told.iter().position(|one| !first(one));
    assert_eq!(other, None, "of {}: the one that waits longest", told.len());
    assert_eq!(node.bench.lost("waiting_full"), 1);
    // At the end nothing stays behind.
    let Bench { host, enricher, .. } = &mut node.bench;
    let mut rest = Vec::new();
    enricher.settle(host, at(2), true, &mut rest);
    assert!(rest.len() > 1000 && enricher.waiting().is_empty());
}

#[test]
fn nothing_is_given_up_before_the_first_lists_are_complete() {
    let mut node = Node::new();
    let config = node.bench.enricher.config.clone();
    node.bench.enricher = Enricher::new(config);
    assert_eq!(node.open(&node.client(1, OUTSIDE), 1), None);
    assert_eq!(node.settle(HOLD + 2), []);
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 10);
    assert_eq!(node.settle(10).len(), 1);
    assert_eq!(identify::HOLD_AT_START, Duration::from_secs(20));
}

#[test]
fn an_address_that_is_about_to_be_free_is_settled_late() {
    let Object::Pod(ending) = pod(OTHER, "pay-y", "10.244.2.8", &[]) else {
        unreachable!();
    };
    let ending = PodObject {
        terminating: true,
        ..ending
    };
    for (waited, expected) in [(2, None), (HOLD, Some("pay-y"))] {
        let mut node = Node::new();
        node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
        node.set(pod(OTHER, "pay-y", "10.244.2.8", &[]), 0);
        node.set(Object::Pod(ending.clone()), 5);
        let connection = Connection {
            started: at(6),
            ..node.client(1, "10.244.2.8:80")
        };
        assert_eq!(node.open(&connection, 6), None);
        let Bench { host, enricher, .. } = &mut node.bench;
        let mut told = Vec::new();
        enricher.settle(host, at(6 + waited), true, &mut told);
        let link = told[0].link_mut().unwrap();
        let pod = link.peer.pod().map(|pod| &*pod.name);
        assert_eq!(pod, expected, "after {waited} seconds");
    }
}

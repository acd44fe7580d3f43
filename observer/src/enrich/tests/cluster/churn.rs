//! Calls of pods that are young, that end, and whose addresses had others.

use super::*;

#[test]
fn where_nobody_answered_somebody_who_does_is_waited_for() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    let failed = |id| ConnectionEvent::Failed {
        connection: node.client(id, "10.244.2.9:80"),
        at: at(1),
        failure: ConnectFailure::Refused,
    };
    let (first, second) = (failed(1), failed(2));
    assert!(node.bench.event(first, 1).is_none());
    assert_eq!(node.settle(HOLD + 1).len(), 1);
    assert!(node.bench.event(second, 5).is_some(), "nobody is there");
    let answered = Connection {
        established: Some(at(6)),
        ..node.client(3, "10.244.2.9:80")
    };
    assert!(node.open(&answered, 6).is_none());
    node.set(pod(OTHER, "pay-y", "10.244.2.9", &[]), 7);
    let mut told = node.settle(7);
    assert_eq!(told.len(), 1);
    let link = told[0].link_mut().unwrap();
    assert_eq!(&*link.peer.pod().unwrap().name, "pay-y");
}

#[test]
fn a_stranger_that_became_a_pod_is_none_any_more() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    let client = |node: &Node, id, second| Connection {
        started: at(second),
        established: Some(at(second)),
        ..node.client(id, "10.244.2.9:80")
    };
    let first = client(&node, 1, 1);
    assert_eq!(node.open(&first, 1), None);
    assert_eq!(node.settle(HOLD + 1).len(), 1, "waited for in vain");
    node.set(pod(OTHER, "pay-y", "10.244.2.9", &[]), 10);
    let second = client(&node, 2, 12);
    let link = node.open(&second, 12).unwrap();
    assert_eq!(&*link.peer.pod().unwrap().name, "pay-y");
    // Gone; the next one with its address is not known yet.
    node.learn(Change::Remove(Kind::Pod, OTHER.into()), 20);
    let third = client(&node, 3, 21);
    assert_eq!(node.open(&third, 21), None);
}

#[test]
fn an_address_of_pods_is_waited_for_again() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    node.set(pod(OTHER, "pay-y", "10.244.2.8", &[]), 40);
    node.learn(Change::Remove(Kind::Pod, OTHER.into()), 50);
    // The next that has it is told of too late, and the one after that is not.
    let open = |node: &Node, id, now| Connection {
        established: Some(at(now)),
        ..node.client(id, "10.244.2.8:80")
    };
    let first = open(&node, 1, 90);
    assert!(node.open(&first, 90).is_none());
    assert_eq!(node.settle(90 + HOLD).len(), 1);
    assert_eq!(node.bench.lost("peer_unknown"), 2, "the link and its event");
    let second = open(&node, 2, 95);
    assert!(node.open(&second, 95).is_none());
}

#[test]
fn an_end_that_ends_has_its_time_also_if_it_is_younger_than_the_clock() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    node.set(pod(OTHER, "pay-y", "10.244.2.8", &[]), 0);
    let Object::Pod(ending) = pod(OTHER, "pay-y", "10.244.2.8", &[]) else {
        panic!("no pod");
    };
    let terminating = true;
    node.set(
        Object::Pod(PodObject {
            terminating,
            ..ending
        }),
        40,
    );
    let connection = Connection {
        established: Some(at(42)),
        ..node.client(1, "10.244.2.8:80")
    };
    // It is read with the clock of a moment before.
    assert!(node.open(&connection, 41).is_none());
    assert_eq!(node.settle(41 + HOLD), []);
    let mut told = node.settle(42 + HOLD);
    let link = told[0].link_mut().unwrap();
    assert_eq!(&*link.peer.pod().unwrap().name, "pay-y");
}

#[test]
fn what_waits_learns_of_the_other_end_on_this_host() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    let client = Connection {
        sequences: Some((7, 9)),
        ..node.client(1, "10.244.1.8:80")
    };
    let server = Connection {
        id: ConnectionId(2),
        role: Role::Server,
        local: client.remote,
        remote: client.local,
        sequences: Some((9, 7)),
        ..client.clone()
    };
    assert!(node.open(&client, 1).is_none(), "nobody has its address");
    assert!(node.call(1, 1).is_none());
    node.open(&server, 1).unwrap();
    let mut told = node.settle(1 + HOLD);
    assert_eq!(told.len(), 2);
    for one in &mut told {
        assert!(one.link_mut().unwrap().peer.is_local());
    }
    assert_eq!(node.bench.lost("peer_unknown"), 0);
}

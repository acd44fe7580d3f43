//! Tests of the store: what becomes a delta, what does not, and that snapshots and deltas agree.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    cluster::stream::message::decode_change,
    cluster::{
        object::{ContainerObject, NodeObject, Object, PodObject},
        stream::codec::Decoder,
    },
    model::policy::{PolicyObject, Traits},
};

fn pod(uid: &str, node: &str) -> Change {
    Change::Set(Object::Pod(PodObject {
        uid: uid.into(),
        namespace: "shop".into(),
        name: format!("web-{uid}").into(),
        node: node.into(),
        ..PodObject::default()
    }))
}

fn node(uid: &str) -> Change {
    Change::Set(Object::Node(NodeObject {
        uid: uid.into(),
        name: uid.into(),
        ..NodeObject::default()
    }))
}

fn apply(store: &mut Store, changes: impl IntoIterator<Item = Change>) {
    for change in changes {
        store.apply(change);
    }
}

fn synced(limits: Limits) -> Store {
    let mut store = Store::new(7, limits);
    for kind in Kind::ALL {
        apply(&mut store, [Change::Begin(kind), Change::Complete(kind)]);
    }
    store
}

/// What an agent makes of frames: the objects it knows, and the revision.
#[derive(Default)]
struct Agent {
    objects: BTreeMap<(Kind, Box<str>), Object>,
    untold: BTreeMap<(Kind, Box<str>), ()>,
    policies: BTreeMap<(PolicyKind, Box<str>), Box<str>>,
    told: BTreeMap<PolicyKind, Vec<Box<str>>>,
    revision: u64,
}

impl Agent {
    fn take(&mut self, frames: &[Bytes]) -> Vec<Change> {
        let mut decoder = Decoder::default();
        let mut told = Vec::new();
        for frame in frames {
            decoder.push(frame);
            let Some(Content::Batch(batch)) = decoder.next_frame().unwrap().unwrap().content else {
                panic!("not a batch");
            };
            for change in batch.changes {
                let change = decode_change(change).unwrap();
                told.push(change.clone());
                match change {
                    Change::Begin(kind) => {
                        let of_kind = self.objects.keys().filter(|key| key.0 == kind);
                        self.untold = of_kind.map(|key| (key.clone(), ())).collect();
                    }
                    Change::Set(object) => {
                        let key = (object.kind(), object.uid().into());
                        self.untold.remove(&key);
                        self.objects.insert(key, object);
                    }
                    Change::Remove(kind, uid) => {
                        self.objects.remove(&(kind, uid));
                    }
                    Change::Declared(change) => self.declare(change),
                    Change::Complete(_) => {
                        for key in mem::take(&mut self.untold).into_keys() {
                            self.objects.remove(&key);
                        }
                    }
                }
            }
            if batch.revision != 0 {
                self.revision = batch.revision;
            }
        }
        told
    }

    fn declare(&mut self, change: PolicyChange) {
        match change {
            PolicyChange::Begin(kind) => {
                self.told.insert(kind, Vec::new());
            }
            PolicyChange::Set(object) => {
                if let Some(told) = self.told.get_mut(&object.kind) {
                    told.push(object.uid.clone());
                }
                let key = (object.kind, object.uid.clone());
                self.policies.insert(key, object.version.clone());
            }
            PolicyChange::Remove(kind, uid) => {
                self.policies.remove(&(kind, uid));
            }
            PolicyChange::Complete(kind) => {
                let told = self.told.remove(&kind).expect("a list that began");
                self.policies
                    .retain(|(other, uid), _| *other != kind || told.contains(uid));
            }
            PolicyChange::Absent(kind) => self.policies.retain(|(other, _), _| *other != kind),
            other => panic!("{other:?} is not sent"),
        }
    }

    fn follow(&mut self, store: &Store) -> Vec<Change> {
        let mut told = Vec::new();
        loop {
            match store.after(self.revision, 2) {
                Next::Deltas(frames, revision) => {
                    told.extend(self.take(&frames));
                    assert_eq!(self.revision, revision);
                }
                Next::UpToDate => return told,
                Next::Gone => panic!("nothing follows {}", self.revision),
            }
        }
    }

    fn snapshot(store: &Store) -> Self {
        let mut agent = Self::default();
        let snapshot = store.collect().encode().unwrap();
        agent.take(&snapshot.frames);
        assert_eq!(agent.revision, snapshot.revision);
        agent
    }
}

#[test]
fn nobody_is_told_anything_before_all_kinds_are_complete() {
    let mut store = Store::new(7, Limits::default());
    apply(&mut store, [Change::Begin(Kind::Pod), pod("a", "n")]);
    for kind in Kind::ALL {
        assert!(!store.is_synced());
        assert!(store.unsynced().contains(&kind));
        apply(&mut store, [Change::Complete(kind)]);
    }
    assert!(store.is_synced());
    assert!(store.unsynced().is_empty());
    assert!(!store.seal(), "the snapshot has it");
    assert_eq!(Agent::snapshot(&store).objects.len(), 1);
}

#[test]
fn changes_become_deltas_once_and_in_order() {
    let mut store = synced(Limits::default());
    let mut agent = Agent::snapshot(&store);
    apply(
        &mut store,
        [node("n"), pod("a", ""), pod("b", "n"), pod("a", "n")],
    );
    assert!(store.seal());
    assert_eq!(
        agent.follow(&store),
        [node("n"), pod("a", "n"), pod("b", "n")]
    );
    apply(&mut store, [Change::Remove(Kind::Pod, "a".into())]);
    assert!(store.seal());
    assert_eq!(
        agent.follow(&store),
        [Change::Remove(Kind::Pod, "a".into())]
    );
    assert!(!store.seal());
    assert_eq!(store.kind(Kind::Pod), (true, 1));
}

#[test]
fn what_makes_no_difference_to_agents_costs_nothing() {
    let mut store = synced(Limits::default());
    apply(&mut store, [pod("a", "n")]);
    assert!(store.seal());
    let written = store.written();
    // The status of its containers changed.
    let restarted = Change::Set(Object::Pod(PodObject {
        uid: "a".into(),
        namespace: "shop".into(),
        name: "web-a".into(),
        node: "n".into(),
        containers: vec![ContainerObject {
            ids: vec!["1".into()],
            ..ContainerObject::default()
        }],
        ..PodObject::default()
    }));
    apply(&mut store, [pod("a", "n"), restarted]);
    assert!(!store.seal());
    assert_eq!(store.written(), written);
    assert_eq!(store.changes(), (1, 2));
}

#[test]
fn a_list_that_is_told_anew_becomes_its_differences() {
    let mut store = synced(Limits::default());
    apply(&mut store, [pod("a", "n"), pod("b", "n"), node("n")]);
    store.seal();
    let mut agent = Agent::snapshot(&store);
    apply(
        &mut store,
        [Change::Begin(Kind::Pod), pod("b", "n"), pod("c", "n")],
    );
    store.seal();
    assert_eq!(
        agent.follow(&store),
        [pod("c", "n")],
        "not complete: nothing is gone"
    );
    apply(&mut store, [Change::Complete(Kind::Pod)]);
    store.seal();
    assert_eq!(
        agent.follow(&store),
        [Change::Remove(Kind::Pod, "a".into())]
    );
    assert_eq!(agent.objects.len(), 3, "the node stays");
}

#[test]
fn an_agent_resumes_while_the_log_has_what_it_missed() {
    let limits = Limits {
        log_entries: 3,
        ..Limits::default()
    };
    let mut store = synced(limits);
    let start = store.revision();
    assert!(store.can_resume(7, start));
    assert!(!store.can_resume(8, start), "another run");
    assert!(!store.can_resume(7, start + 1), "what nobody told");
    assert!(!store.can_resume(7, 0), "what knows nothing");
    for number in 0..3 {
        apply(&mut store, [pod(&number.to_string(), "n")]);
        store.seal();
    }
    assert!(store.can_resume(7, start));
    apply(&mut store, [pod("3", "n")]);
    store.seal();
    assert!(!store.can_resume(7, start), "the oldest delta is gone");
    assert!(store.can_resume(7, start + 1));
    assert_eq!(store.tables()[1].entries, 3);
}

#[test]
fn the_log_is_bounded_in_bytes() {
    let limits = Limits {
        log_bytes: 200,
        ..Limits::default()
    };
    let mut store = synced(limits);
    for number in 0..100 {
        apply(&mut store, [pod(&number.to_string(), "n")]);
        store.seal();
        assert!(store.log_bytes() <= 200);
    }
    assert!(store.tables()[1].entries > 1);
}

#[test]
fn many_changes_at_once_become_several_deltas() {
    let limits = Limits {
        delta_changes: 10,
        ..Limits::default()
    };
    let mut store = synced(limits);
    let mut agent = Agent::snapshot(&store);
    let start = store.revision();
    apply(
        &mut store,
        (0..25).map(|number| pod(&number.to_string(), "n")),
    );
    store.seal();
    assert_eq!(store.revision(), start + 3);
    assert_eq!(agent.follow(&store).len(), 25);
}

#[test]
fn what_does_not_fit_is_counted_and_not_known() {
    let limits = Limits {
        objects: 2,
        object_bytes: 100,
        ..Limits::default()
    };
    let mut store = synced(limits);
    apply(&mut store, [pod("a", "n"), pod("b", "n"), pod("c", "n")]);
    let large = "n".repeat(100);
    apply(
        &mut store,
        [pod("b", &large), pod("", "n"), pod(&"u".repeat(257), "n")],
    );
    let lost = store.losses().map(|loss| (loss.reason, loss.count));
    assert_eq!(
        lost,
        [
            ("too_many_objects", 1),
            ("object_too_large", 1),
            ("object_malformed", 2)
        ]
    );
    assert_eq!(
        store.kind(Kind::Pod),
        (true, 1),
        "what b was is no longer true"
    );
    apply(&mut store, [pod("c", "n")]);
    assert_eq!(store.kind(Kind::Pod), (true, 2), "there is room again");
}

#[test]
fn bytes_of_objects_are_counted() {
    let mut store = synced(Limits::default());
    assert_eq!(store.object_bytes(), 0);
    apply(&mut store, [pod("a", "n"), pod("a", "longer"), node("n")]);
    assert!(store.object_bytes() > 0);
    apply(
        &mut store,
        [
            Change::Remove(Kind::Pod, "a".into()),
            Change::Remove(Kind::Node, "n".into()),
        ],
    );
    assert_eq!(store.object_bytes(), 0);
}

#[test]
fn a_large_snapshot_is_cut_into_frames() {
    let mut store = synced(Limits::default());
    apply(
        &mut store,
        (0..20_000).map(|number| pod(&format!("{number:040}"), "node")),
    );
    let snapshot = store.collect().encode().unwrap();
    assert!(snapshot.frames.len() > 4, "{}", snapshot.frames.len());
    assert_eq!(Agent::snapshot(&store).objects.len(), 20_000);
}

fn any_change() -> impl Strategy<Value = Change> {
    let uid = (0..6_u8).prop_map(|uid| uid.to_string());
    let node_name = (0..3_u8).prop_map(|node| node.to_string());
    prop_oneof![
        4 => (uid.clone(), node_name).prop_map(|(uid, node)| pod(&uid, &node)),
        2 => uid.clone().prop_map(|uid| node(&uid)),
        2 => uid.prop_map(|uid| Change::Remove(Kind::Pod, uid.into())),
        1 => Just(Change::Begin(Kind::Pod)),
        1 => Just(Change::Complete(Kind::Pod)),
    ]
}

proptest! {
    /// Whoever follows from anywhere ends where a new snapshot begins.
    #[test]
    fn snapshot_and_deltas_lead_to_the_same(
        rounds in vec(vec(any_change(), 0..12), 1..10),
        join in 0..10_usize,
    ) {
        let mut store = synced(Limits::default());
        let mut first = Agent::snapshot(&store);
        let mut second = None;
        for (number, round) in rounds.into_iter().enumerate() {
            if number == join {
                second = Some(Agent::snapshot(&store));
            }
            apply(&mut store, round);
            store.seal();
            first.follow(&store);
        }
        let last = Agent::snapshot(&store);
        prop_assert_eq!(&first.objects, &last.objects);
        if let Some(mut second) = second {
            second.follow(&store);
            prop_assert_eq!(&second.objects, &last.objects);
        }
    }
}

fn policy(kind: PolicyKind, uid: &str, version: u32) -> Change {
    Change::Declared(PolicyChange::Set(std::sync::Arc::new(PolicyObject {
        kind,
        uid: uid.into(),
        namespace: "shop".into(),
        name: uid.into(),
        version: version.to_string().into(),
        created: 0,
        labels: Box::default(),
        annotations: Box::default(),
        content: "{}".into(),
    })))
}

/// What an agent knows to be declared: uids and versions.
fn declared(agent: &Agent) -> Vec<String> {
    let objects = agent.policies.iter();
    objects
        .map(|((_, uid), version)| format!("{uid} {version}"))
        .collect()
}

#[test]
fn what_is_declared_is_told_once_all_of_its_kind_is_known() {
    use PolicyChange::{Absent, Begin, Complete, Remove};
    let (routes, gateways) = (PolicyKind::HttpRoute, PolicyKind::Gateway);
    let mut store = synced(Limits::default());
    let mut agent = Agent::snapshot(&store);
    apply(
        &mut store,
        [Change::Declared(Begin(routes)), policy(routes, "a", 1)],
    );
    assert!(!store.seal(), "not all of it is known");
    assert_eq!(store.policies(routes), None);
    assert!(declared(&Agent::snapshot(&store)).is_empty());
    apply(&mut store, [Change::Declared(Complete(routes))]);
    assert!(store.seal());
    agent.follow(&store);
    assert_eq!(declared(&agent), ["a 1"]);

    // From now on what changes is told, and nothing else.
    apply(
        &mut store,
        [
            Change::Declared(Begin(routes)),
            policy(routes, "a", 1),
            policy(routes, "b", 1),
            Change::Declared(Complete(routes)),
            policy(routes, "b", 2),
            Change::Declared(Absent(gateways)),
        ],
    );
    store.seal();
    let told = agent.follow(&store);
    assert_eq!(
        told,
        [policy(routes, "b", 2), Change::Declared(Absent(gateways))]
    );
    assert_eq!(store.policies(routes), Some(2));
    assert_eq!(store.policies(gateways), None);
    apply(&mut store, [Change::Declared(Remove(routes, "a".into()))]);
    store.seal();
    agent.follow(&store);
    assert_eq!(declared(&agent), ["b 2"]);

    // The definition goes, and comes back.
    apply(&mut store, [Change::Declared(Absent(routes))]);
    store.seal();
    agent.follow(&store);
    assert!(declared(&agent).is_empty());
    apply(
        &mut store,
        [Change::Declared(Begin(routes)), policy(routes, "c", 1)],
    );
    assert!(!store.seal());
    apply(&mut store, [Change::Declared(Complete(routes))]);
    store.seal();
    agent.follow(&store);
    assert_eq!(declared(&agent), ["c 1"]);
    assert_eq!(declared(&Agent::snapshot(&store)), ["c 1"]);
    let (objects, bytes) = (store.objects, store.object_bytes());
    assert!(objects == 1 && bytes > 0, "{objects} {bytes}");
}

/// A snapshot of pods of workloads of ten each, and what they take in the store; bytes.
fn sizes(with_traits: bool) -> (usize, usize) {
    let mut store = synced(Limits::default());
    for number in 0..5_000_u32 {
        let (workload, hash) = (number / 10, number.wrapping_mul(0x9e37_79b9));
        let traits = Traits {
            service_account: format!("checkout-{workload}").into(),
            labels: Box::new([
                ("app".into(), format!("checkout-{workload}").into()),
                ("app.kubernetes.io/managed-by".into(), "Helm".into()),
                (
                    "pod-template-hash".into(),
                    format!("5d8f{workload:06x}").into(),
                ),
                ("security.istio.io/tlsMode".into(), "istio".into()),
                (
                    "service.istio.io/canonical-name".into(),
                    format!("checkout-{workload}").into(),
                ),
                ("service.istio.io/canonical-revision".into(), "v1".into()),
            ]),
            annotations: Box::new([(
                "sidecar.istio.io/status".into(),
                "{\"initContainers\":[\"istio-init\"],\"containers\":[\"istio-proxy\"]}".into(),
            )]),
            containers: Box::new(["app".into(), "istio-proxy".into()]),
            ports: Box::new([("http".into(), 8080), ("http-envoy-prom".into(), 15090)]),
            host_network: false,
        };
        apply(
            &mut store,
            [Change::Set(Object::Pod(PodObject {
                uid: format!("{hash:08x}-1111-2222-3333-{number:012x}").into(),
                namespace: format!("team-{}", workload % 50).into(),
                name: format!("checkout-{workload}-5d8f{workload:06x}-{hash:05x}").into(),
                node: format!("node-{}.example.internal", hash % 200).into(),
                addresses: vec![std::net::Ipv4Addr::from(0x0a00_0000 + number).into()],
                traits: if with_traits {
                    std::sync::Arc::new(traits)
                } else {
                    std::sync::Arc::default()
                },
                ..PodObject::default()
            }))],
        );
    }
    (
        store.collect().encode().unwrap().bytes,
        store.object_bytes(),
    )
}

#[test]
fn traits_of_alike_pods_take_little_of_a_snapshot() {
    let ((without, bare), (with, full)) = (sizes(false), sizes(true));
    println!("5000 pods: {without} bytes, with traits {with}; in the store {bare}, {full}");
    assert!(full > bare + 5_000 * 300, "{bare} {full}: there are none");
    assert!(with < without + 5_000 * 40, "{without} {with}");
}

proptest! {
    #[test]
    fn deltas_and_a_snapshot_of_what_is_declared_agree(
        acts in vec((0..2_usize, 0..6_u8, 0..4_u32), 1..60),
        seal_every in 1..5_usize,
    ) {
        let kinds = [PolicyKind::HttpRoute, PolicyKind::MeshConfig];
        let mut store = synced(Limits { delta_changes: 2, ..Limits::default() });
        let mut agent = Agent::snapshot(&store);
        for (number, (kind, act, uid)) in acts.into_iter().enumerate() {
            let kind = kinds[kind];
            let uid = format!("{}-{uid}", kind.index());
            store.apply(match act {
                0 => Change::Declared(PolicyChange::Begin(kind)),
                1 => Change::Declared(PolicyChange::Complete(kind)),
                2 => Change::Declared(PolicyChange::Absent(kind)),
                3 => Change::Declared(PolicyChange::Remove(kind, uid.into())),
                _ => policy(kind, &uid, act.into()),
            });
            if number % seal_every == 0 {
                store.seal();
            }
        }
        store.seal();
        agent.follow(&store);
        prop_assert_eq!(declared(&agent), declared(&Agent::snapshot(&store)));
        prop_assert_eq!(
            store.objects,
            store.kinds.iter().map(|kind| kind.by_uid.len()).sum::<usize>()
        );
    }
}

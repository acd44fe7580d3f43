//! Tests of the messages: what comes back is what was sent, and what is later's is skipped.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;

use super::*;
use crate::{
    cluster::object::{
        self, ContainerObject, Endpoint, EndpointsObject, Kind, NodeObject, Object, PodObject,
        ServiceObject, ServicePort, Subject,
    },
    model::{
        kubernetes::{Owner, ServiceName},
        policy::{PolicyChange, PolicyKind, PolicyObject, PortFacts, ServiceFacts, Traits},
    },
};

fn text() -> impl Strategy<Value = Box<str>> {
    prop_oneof!["[a-z0-9.-]{0,12}", any::<String>()].prop_map(String::into_boxed_str)
}

fn uid() -> impl Strategy<Value = Box<str>> {
    prop_oneof![
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        // Almost one.
        "[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}[0-9a-f-][0-9a-f]{11,13}",
        "[^\0]{1,20}",
    ]
    .prop_map(String::into_boxed_str)
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
    ]
}

fn pairs() -> impl Strategy<Value = Vec<(Box<str>, Box<str>)>> {
    vec((text(), text()), 0..3)
}

fn owners() -> impl Strategy<Value = Vec<Owner>> {
    vec(
        (text(), text()).prop_map(|(kind, name)| Owner { kind, name }),
        0..3,
    )
}

fn service_name() -> impl Strategy<Value = ServiceName> {
    (text(), text(), text()).prop_map(|(name, namespace, version)| ServiceName {
        name,
        namespace,
        version,
    })
}

fn pod() -> impl Strategy<Value = Object> {
    let names = (uid(), text(), text(), text());
    let more = (owners(), service_name(), pairs(), pairs());
    let times = (any::<u64>(), any::<u64>());
    let flags = any::<[bool; 4]>();
    let addresses = (vec(address(), 0..3), option::of(traits()));
    (names, addresses, more, times, flags).prop_map(
        |(
            (uid, namespace, name, node),
            (addresses, traits),
            (owners, service, labels, annotations),
            (started, ended),
            [host_network, terminating, finished, same],
        )| {
            let service = match same {
                true => ServiceName {
                    namespace: namespace.clone(),
                    ..service
                },
                false => service,
            };
            Object::Pod(PodObject {
                uid,
                cgroup_uid: Box::default(),
                namespace,
                name,
                node,
                addresses,
                host_network,
                owners,
                service,
                containers: Vec::new(),
                labels,
                annotations,
                started,
                ended,
                terminating,
                finished,
                traits: traits.map_or_else(Arc::default, |traits| {
                    Arc::new(Traits {
                        host_network,
                        ..traits
                    })
                }),
            })
        },
    )
}

fn service() -> impl Strategy<Value = Object> {
    let names = (uid(), text(), text(), text(), vec(text(), 0..3));
    let addresses = (
        vec(address(), 0..3),
        vec(address(), 0..3),
        vec(address(), 0..3),
    );
    let port = any::<(u8, u16, u16)>().prop_map(|(protocol, port, node_port)| ServicePort {
        protocol,
        port,
        node_port,
    });
    let ports = (vec(port, 0..4), option::of(facts()));
    (names, addresses, ports, any::<bool>()).prop_map(
        |(
            (uid, namespace, name, external_name, balancer_names),
            (cluster_ips, external_ips, balancer_ips),
            (ports, facts),
            headless,
        )| {
            let facts = facts.map_or_else(Arc::default, |facts| {
                Arc::new(ServiceFacts {
                    uid: uid.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                    headless,
                    external_name: external_name.clone(),
                    ..facts
                })
            });
            Object::Service(ServiceObject {
                uid,
                namespace,
                name,
                cluster_ips,
                external_ips,
                balancer_ips,
                balancer_names,
                external_name,
                headless,
                ports,
                facts,
            })
        },
    )
}

fn sorted() -> impl Strategy<Value = Box<[(Box<str>, Box<str>)]>> {
    vec((text(), text()), 0..4).prop_map(|mut pairs| {
        pairs.sort_unstable();
        pairs.into()
    })
}

/// Never none at all: those are not told.
fn traits() -> impl Strategy<Value = Traits> {
    let ports = vec((text(), any::<u16>()), 0..3);
    (sorted(), sorted(), vec(text(), 0..3), ports).prop_map(
        |(labels, annotations, containers, ports)| Traits {
            service_account: "default".into(),
            labels,
            annotations,
            containers: containers.into(),
            ports: ports.into(),
            host_network: false,
        },
    )
}

fn facts() -> impl Strategy<Value = ServiceFacts> {
    let port = (text(), text(), any::<(u16, u16)>(), text());
    let port = port.prop_map(
        |(name, app_protocol, (port, target), target_name)| PortFacts {
            name,
            app_protocol,
            port,
            target,
            target_name,
        },
    );
    (sorted(), sorted(), sorted(), vec(port, 0..3)).prop_map(
        |(selector, labels, annotations, ports)| ServiceFacts {
            selector,
            labels,
            annotations,
            ports: ports.into(),
            ..ServiceFacts::default()
        },
    )
}

fn policy() -> impl Strategy<Value = PolicyObject> {
    let names = (uid(), text(), text(), text(), text());
    let kind = (0..PolicyKind::ALL.len(), any::<u64>());
    (names, sorted(), sorted(), kind).prop_map(
        |((uid, namespace, name, version, content), labels, annotations, (kind, created))| {
            PolicyObject {
                kind: PolicyKind::ALL[kind],
                uid,
                namespace,
                name,
                version,
                created,
                labels,
                annotations,
                content,
            }
        },
    )
}

fn endpoints() -> impl Strategy<Value = Object> {
    let endpoint = (address(), option::of(uid())).prop_map(|(address, pod)| Endpoint {
        address,
        pod_uid: pod.unwrap_or_default(),
    });
    let ports = vec(any::<(u8, u16)>(), 0..3);
    (uid(), text(), text(), ports, vec(endpoint, 0..4)).prop_map(
        |(uid, namespace, service, ports, endpoints)| {
            Object::Endpoints(EndpointsObject {
                uid,
                namespace,
                service,
                ports,
                endpoints,
            })
        },
    )
}

fn node() -> impl Strategy<Value = Object> {
    let network = (address(), 0..=32_u8);
    let names = (uid(), text(), text(), text());
    (names, vec(address(), 0..3), vec(network, 0..3)).prop_map(
        |((uid, name, zone, region), addresses, pod_networks)| {
            Object::Node(NodeObject {
                uid,
                name,
                addresses,
                pod_networks,
                zone,
                region,
            })
        },
    )
}

pub(crate) fn any_object() -> impl Strategy<Value = Object> {
    prop_oneof![pod(), service(), endpoints(), node()]
}

proptest! {
    #[test]
    fn objects_come_back_as_they_were(object in any_object()) {
        let decoded = decode_change(encode_object(&object)).unwrap();
        prop_assert_eq!(decoded, object::Change::Set(object));
    }

    #[test]
    fn removals_come_back_as_they_were(uid in uid(), kind in 0..Subject::COUNT) {
        let subject = Subject::all().nth(kind).unwrap();
        let decoded = decode_change(encode_removal(subject, &uid)).unwrap();
        let expected = match subject {
            Subject::Kind(kind) => object::Change::Remove(kind, uid),
            Subject::Policy(kind) => object::Change::Declared(PolicyChange::Remove(kind, uid)),
        };
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn what_is_declared_comes_back_as_it_was(object in policy()) {
        let decoded = decode_change(encode_policy(&object)).unwrap();
        let expected = PolicyChange::Set(Arc::new(object));
        prop_assert_eq!(decoded, object::Change::Declared(expected));
    }

    #[test]
    fn any_bytes_are_a_change_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode_change(bytes.into());
    }
}

#[test]
fn a_pod_is_sent_without_what_only_its_node_needs() {
    let plain = PodObject {
        uid: "11111111-2222-3333-4444-555555555555".into(),
        name: "web".into(),
        ..PodObject::default()
    };
    let full = PodObject {
        cgroup_uid: "hash".into(),
        containers: vec![ContainerObject {
            name: "main".into(),
            ids: vec!["a".repeat(64).into()],
            ..ContainerObject::default()
        }],
        ..plain.clone()
    };
    assert_eq!(
        encode_object(&Object::Pod(full)),
        encode_object(&Object::Pod(plain))
    );
}

#[test]
fn begin_and_complete_name_their_kind() {
    for kind in Kind::ALL {
        assert_eq!(
            decode_change(encode_begin(Subject::Kind(kind))),
            Ok(object::Change::Begin(kind))
        );
        assert_eq!(
            decode_change(encode_complete(Subject::Kind(kind))),
            Ok(object::Change::Complete(kind))
        );
    }
    for kind in PolicyKind::ALL {
        let subject = Subject::Policy(kind);
        for (encoded, change) in [
            (encode_begin(subject), PolicyChange::Begin(kind)),
            (encode_complete(subject), PolicyChange::Complete(kind)),
            (encode_absent(kind), PolicyChange::Absent(kind)),
        ] {
            assert_eq!(decode_change(encoded), Ok(object::Change::Declared(change)));
        }
    }
    let mut numbers: Vec<u32> = Subject::all().map(number_of).collect();
    // As agents and hubs of all versions know them.
    assert_eq!(numbers[..5], [1, 2, 3, 4, 101]);
    for (subject, number) in Subject::all().zip(&numbers) {
        assert_eq!(subject_of(*number), Ok(subject));
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), Subject::COUNT);
    assert_eq!(subject_of(100), Err(Unusable::Unknown));
}

/// A pod as a later version may send it: with fields that nobody knows here.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterChange {
    #[prost(message, optional, tag = "4")]
    pod: Option<LaterPod>,
    #[prost(message, optional, tag = "90")]
    gateway: Option<LaterPod>,
    #[prost(string, tag = "91")]
    why: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LaterPod {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, optional, tag = "16")]
    uid: Option<Uid>,
    #[prost(bytes = "vec", tag = "200")]
    unknown: Vec<u8>,
}

#[test]
fn fields_of_a_later_version_are_ignored_and_its_kinds_are_told_apart() {
    let pod = LaterPod {
        name: "web".to_owned(),
        uid: Some(Uid {
            text: "u".to_owned(),
            ..Uid::default()
        }),
        unknown: vec![1, 2, 3],
    };
    let change = LaterChange {
        pod: Some(pod.clone()),
        gateway: None,
        why: "news".to_owned(),
    };
    let expected = PodObject {
        uid: "u".into(),
        name: "web".into(),
        ..PodObject::default()
    };
    assert_eq!(
        decode_change(change.encode_to_vec().into()),
        Ok(object::Change::Set(Object::Pod(expected)))
    );
    let change = LaterChange {
        pod: None,
        gateway: Some(pod),
        why: String::new(),
    };
    assert_eq!(
        decode_change(change.encode_to_vec().into()),
        Err(Unusable::Unknown)
    );
    let kind = Change {
        changed: Some(Changed::Begin(77)),
    };
    assert_eq!(
        decode_change(kind.encode_to_vec().into()),
        Err(Unusable::Unknown)
    );
}

#[test]
fn what_cannot_be_meant_is_an_error() {
    let check = |changed: Changed, what| {
        let change = Change {
            changed: Some(changed),
        };
        assert_eq!(
            decode_change(change.encode_to_vec().into()),
            Err(Unusable::Bad(what))
        );
    };
    let uid = Some(Uid {
        text: "u".to_owned(),
        ..Uid::default()
    });
    check(Changed::Pod(Pod::default()), "uid");
    check(
        Changed::Pod(Pod {
            addresses: vec![vec![1, 2, 3].into()],
            uid: uid.clone(),
            ..Pod::default()
        }),
        "address",
    );
    check(
        Changed::Removed(Removed {
            kind: 1,
            uid: Some(Uid {
                binary: vec![0; 15].into(),
                text: String::new(),
            }),
        }),
        "uid",
    );
    let network = Prefix {
        address: vec![10, 0, 0, 0].into(),
        length: 33,
    };
    check(
        Changed::Node(Node {
            pod_networks: vec![network],
            uid: uid.clone(),
            ..Node::default()
        }),
        "network",
    );
    let port = Port {
        protocol: 6,
        port: 65_536,
        node_port: 0,
    };
    check(
        Changed::Service(Service {
            ports: vec![port],
            uid,
            ..Service::default()
        }),
        "port",
    );
}

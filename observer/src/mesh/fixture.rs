//! Pods, objects, connections and calls for the tests of meshes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;

use crate::model::{
    call::{Call, Link},
    connection::{Connection, ConnectionId, Owner as SocketOwner, Role},
    exchange::{Exchange, HttpVersion, Outcome, RequestHead, Side},
    kubernetes::{Container, Dialled, Owner, Pod, Service, ServiceName},
    mesh::{Far, FarSource, Forwarded, Hop, Identity},
    policy::{PolicyChange, PolicyKind, PolicyObject, PortFacts, ServiceFacts, Traits},
    security::Security,
    time::Monotonic,
    workload::{NameSource, Peer, Workload},
};

/// A pair of texts of a list that is sorted by name.
pub(super) type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Container of Istio's sidecar.
pub(super) const SIDECAR: &str = "istio-proxy";

fn pairs(list: Pairs<'_>) -> Box<[(Box<str>, Box<str>)]> {
    let mut pairs: Vec<(Box<str>, Box<str>)> = list
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    pairs.sort();
    pairs.into()
}

/// A pod of Deployment `name` with these labels, and beside `app` these containers. Its service
/// account is `name`.
pub(super) fn pod(namespace: &str, name: &str, labels: Pairs<'_>, containers: &[&str]) -> Arc<Pod> {
    let containers = std::iter::once(&"app").chain(containers);
    Arc::new(Pod {
        uid: format!("{namespace}-{name}-{labels:?}").into(),
        namespace: namespace.into(),
        name: format!("{name}-5d9c-{}", labels.len()).into(),
        owners: [
            ("ReplicaSet", format!("{name}-5d9c")),
            ("Deployment", name.to_owned()),
        ]
        .map(|(kind, name)| Owner {
            kind: kind.into(),
            name: name.into(),
        })
        .into(),
        service: Arc::new(ServiceName {
            name: name.into(),
            namespace: namespace.into(),
            version: "".into(),
        }),
        traits: Arc::new(Traits {
            service_account: name.into(),
            labels: pairs(labels),
            containers: containers.map(|name| Box::from(*name)).collect(),
            ..Traits::default()
        }),
        ..Pod::default()
    })
}

/// The application of a pod.
pub(super) fn workload(pod: &Arc<Pod>) -> Arc<Workload> {
    Arc::new(Workload {
        service: pod.service.name.clone(),
        namespace: (*pod.namespace).into(),
        source: NameSource::Kubernetes,
        pod_uid: pod.uid.clone(),
        container: Some(Container {
            pod: pod.clone(),
            name: "app".into(),
        }),
        ..Workload::default()
    })
}

/// The identity of a pod, as Istio proves it.
pub(super) fn identity(pod: &Pod) -> Arc<Identity> {
    let (namespace, account) = (&pod.namespace, &pod.traits.service_account);
    Arc::new(Identity {
        text: format!("spiffe://cluster.local/ns/{namespace}/sa/{account}").into(),
        trust_domain: "cluster.local".into(),
        namespace: (**namespace).into(),
        service_account: account.clone(),
    })
}

/// An object with this `spec`, at version 1.
pub(super) fn object(kind: PolicyKind, namespace: &str, name: &str, spec: &Value) -> PolicyChange {
    versioned(kind, namespace, name, spec, "1")
}

/// An object with this `spec`, at a version.
pub(super) fn versioned(
    kind: PolicyKind,
    namespace: &str,
    name: &str,
    spec: &Value,
    version: &str,
) -> PolicyChange {
    PolicyChange::Set(Arc::new(PolicyObject {
        kind,
        uid: format!("{kind:?}-{namespace}-{name}").into(),
        namespace: namespace.into(),
        name: name.into(),
        version: version.into(),
        created: 1,
        labels: Box::default(),
        annotations: Box::default(),
        content: serde_json::json!({ "spec": spec }).to_string().into(),
    }))
}

/// A Service of pods with these labels, and its ports: name, port and the pods' port.
pub(super) fn service(
    namespace: &str,
    name: &str,
    selector: Pairs<'_>,
    ports: &[(&str, u16, u16)],
) -> PolicyChange {
    PolicyChange::SetService(Arc::new(ServiceFacts {
        uid: format!("{namespace}-{name}").into(),
        namespace: namespace.into(),
        name: name.into(),
        selector: pairs(selector),
        ports: ports
            .iter()
            .map(|(name, port, target)| PortFacts {
                name: (*name).into(),
                port: *port,
                target: *target,
                ..PortFacts::default()
            })
            .collect(),
        ..ServiceFacts::default()
    }))
}

/// A Service as it is dialled.
pub(super) fn dialled(namespace: &str, name: &str) -> Option<Arc<Service>> {
    Some(Arc::new(Service {
        namespace: namespace.into(),
        name: name.into(),
        dialled: Dialled::ClusterIp,
    }))
}

/// An address; panics when it is none.
pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A socket of a pod.
pub(super) fn link(number: u64, pod: &Arc<Pod>, role: Role, hop: Hop, peer: Peer) -> Link {
    let (local, remote) = match role {
        Role::Server => ("10.0.0.2:8080", "10.0.0.1:40000"),
        Role::Client | Role::Unknown => ("10.0.0.1:40000", "10.96.0.1:80"),
    };
    Link {
        connection: Connection {
            id: ConnectionId(number),
            role,
            local: address(local),
            remote: address(remote),
            wire: None,
            owner: SocketOwner::default(),
            started: Monotonic(0),
            established: Some(Monotonic(1)),
            sequences: None,
            pre_existing: false,
        },
        workload: workload(pod),
        peer,
        dialled: None,
        security: Security::Plaintext,
        opening: None,
        mesh: None,
        hop,
        far: None,
    }
}

/// Whom a socket next to a proxy is connected with.
pub(super) fn far(
    proxy: &Arc<Pod>,
    peer: Peer,
    security: Security,
    identity: Option<Arc<Identity>>,
) -> Option<Arc<Far>> {
    Some(Arc::new(Far {
        peer,
        source: FarSource::Identity,
        security,
        identity,
        proxy: workload(proxy),
    }))
}

/// A call that ended at a time and took so long.
pub(super) fn call(
    link: &Arc<Link>,
    (method, path, authority): (&str, &str, &str),
    status: Option<u16>,
    at: Monotonic,
    took: Duration,
) -> Call {
    let first = Monotonic(at.0.saturating_sub(u64::try_from(took.as_nanos()).expect("it fits")));
    Call {
        link: link.clone(),
        exchange: Exchange {
            connection: link.connection.id,
            role: link.connection.role,
            ordinal: 0,
            request: Arc::new(RequestHead {
                method: method.into(),
                path: path.into(),
                has_query: false,
                scheme: None,
                authority: authority.into(),
                user_agent: "".into(),
                version: HttpVersion::Http11,
                truncated: false,
            }),
            sent: Side {
                first,
                last: first,
                head_bytes: 100,
                body_bytes: 0,
            },
            status,
            response_version: status.map(|_| HttpVersion::Http11),
            received: status.map(|_| Side {
                first: at,
                last: at,
                head_bytes: 100,
                body_bytes: 10,
            }),
            stream: None,
            pushed: false,
            reset: None,
            rpc: None,
            outcome: match status {
                Some(_) => Outcome::Complete,
                None => Outcome::ClientAborted,
            },
            ended: at,
            hop: (0, 0),
            context: None,
            cause: None,
            forwarded: None,
        },
        route: path.into(),
        error: None,
        http_error: None,
        far: None,
    }
}

/// What Envoy tells of a response that it made by itself, or that the server made.
pub(super) fn by_envoy(own: bool) -> Forwarded {
    Forwarded {
        by_envoy: true,
        upstream: (!own).then_some(Duration::from_millis(1)),
        ..Forwarded::default()
    }
}

//! Who is told of under the names of Istio's proxies, and how.
//!
//! A label that a proxy could not fill is `unknown` there, and so it is here: tools leave out series
//! that miss one.

use super::Answer;
use crate::{
    aggregate::series::Labels,
    config::IstioSeries,
    mesh::canonical,
    model::{
        call::{Call, Link},
        connection::Role,
        kubernetes::Pod,
        mesh::{Far, Hop},
        security::Security,
        workload::Peer,
    },
};

/// What is not known.
const UNKNOWN: &str = "unknown";

/// Name of a cluster that has none.
const CLUSTER: &str = "Kubernetes";

/// Where what is in no registry goes, to its proxies.
const PASSTHROUGH: &str = "PassthroughCluster";

/// One end of a call.
struct End<'a> {
    pod: Option<&'a Pod>,
    principal: Option<String>,
}

/// Name, namespace and full name of what was called.
struct Called {
    host: String,
    name: String,
    namespace: String,
}

/// Labels of a call, but for what came of it.
pub(super) fn http(which: IstioSeries, call: &Call, cluster: &str) -> Option<Labels> {
    let far = call.far().map(|far| &**far);
    let link = &*call.link;
    let forwarded = call.exchange.forwarded.as_deref();
    let by_proxy = forwarded.is_some_and(|forwarded| forwarded.by_envoy);
    if !is_told(which, link, Some(by_proxy)) {
        return None;
    }
    let authority = &call.exchange.request.authority;
    labels(link, call.exchange.role, far, authority, cluster)
}

/// Labels of a connection that carries no requests.
pub(super) fn tcp(which: IstioSeries, link: &Link, calls: bool, cluster: &str) -> Option<Labels> {
    if calls || !is_told(which, link, None) {
        return None;
    }
    let far = link.far.as_deref();
    let labels = labels(link, link.connection.role, far, "", cluster)?;
    let more = [("request_protocol", "tcp"), ("response_flags", "-")];
    Some(with(&labels, more))
}

/// Adds what came of a request.
pub(super) fn answered(ends: &Labels, result: Answer) -> Labels {
    let status = result.status.to_string();
    let grpc = result.grpc.map(|code| code.to_string());
    let flags = match result.aborted_by {
        Some(Role::Client) => "DC",
        Some(_) => "UC",
        None => "-",
    };
    let more = [
        ("request_protocol", if result.rpc { "grpc" } else { "http" }),
        ("response_code", status.as_str()),
        ("grpc_response_status", grpc.as_deref().unwrap_or_default()),
        ("response_flags", flags),
    ];
    with(ends, more)
}

fn with<'a>(labels: &'a Labels, more: impl IntoIterator<Item = (&'static str, &'a str)>) -> Labels {
    let own = labels.iter().map(|(name, value)| (*name, &**value));
    crate::aggregate::series::labels(own.chain(more))
}

/// Whether a socket is told of. `by_proxy` is there for requests: a proxy that reads them answered.
fn is_told(which: IstioSeries, link: &Link, by_proxy: Option<bool>) -> bool {
    let Some(pod) = link.workload.pod() else {
        return false;
    };
    if !link.hop.is_counted() {
        return false;
    }
    match (which, link.hop) {
        (IstioSeries::Off, _) | (IstioSeries::Gaps, Hop::Proxy(_) | Hop::Meta) => false,
        (IstioSeries::All, _) | (IstioSeries::Gaps, Hop::Direct) => true,
        // The proxy of the node does not read requests, and what does says so in its responses.
        (IstioSeries::Gaps, Hop::ToProxy | Hop::FromProxy) => {
            if canonical::has_istio_sidecar(pod) {
                false
            } else if canonical::is_redirected(pod) {
                by_proxy == Some(false)
            } else {
                // The proxy is another mesh's.
                true
            }
        }
    }
}

fn labels(
    link: &Link,
    role: Role,
    far: Option<&Far>,
    authority: &str,
    cluster: &str,
) -> Option<Labels> {
    let reporter = match role {
        Role::Client => "source",
        Role::Server => "destination",
        Role::Unknown => return None,
    };
    let peer = far.map_or(&link.peer, |far| &far.peer);
    let security = far.map_or(link.security, |far| far.security);
    let mutual = is_mutual(security);
    let identity = far.and_then(|far| far.identity.as_deref());
    let domain = identity.map_or("", |identity| &identity.trust_domain);
    let own = link.workload.pod().map(|pod| &**pod);
    let own = End {
        pod: own,
        principal: own
            .filter(|_| mutual)
            .and_then(|pod| canonical::principal(pod, domain)),
    };
    let other = End {
        pod: peer.pod().map(|pod| &**pod),
        principal: identity.and_then(canonical::spiffe).map(str::to_owned),
    };
    let (source, destination) = match role {
        Role::Client => (&own, &other),
        _ => (&other, &own),
    };
    let called = Called::of(link, role, peer, source, destination, authority);
    let policy = match (mutual, role, security) {
        (true, ..) => "mutual_tls",
        (false, Role::Server, Security::Plaintext | Security::Tls) => "none",
        (false, ..) => UNKNOWN,
    };
    let cluster = if cluster.is_empty() { CLUSTER } else { cluster };
    let [source_cluster, destination_cluster] =
        [source, destination].map(|end| end.pod.map_or(UNKNOWN, |_| cluster));
    let principal = |end: &'_ End<'_>| end.principal.clone().unwrap_or(UNKNOWN.to_owned());
    let (source_principal, destination_principal) = (principal(source), principal(destination));
    Some(crate::aggregate::series::labels([
        ("reporter", reporter),
        ("source_workload", source.workload()),
        ("source_workload_namespace", source.namespace()),
        ("source_principal", &source_principal),
        ("source_app", source.label(canonical::app)),
        ("source_version", source.label(canonical::version)),
        ("source_canonical_service", source.canonical()),
        ("source_canonical_revision", source.revision()),
        ("source_cluster", source_cluster),
        ("destination_workload", destination.workload()),
        ("destination_workload_namespace", destination.namespace()),
        ("destination_principal", &destination_principal),
        ("destination_app", destination.label(canonical::app)),
        ("destination_version", destination.label(canonical::version)),
        ("destination_service", &called.host),
        ("destination_service_name", &called.name),
        ("destination_service_namespace", &called.namespace),
        ("destination_canonical_service", destination.canonical()),
        ("destination_canonical_revision", destination.revision()),
        ("destination_cluster", destination_cluster),
        ("connection_security_policy", policy),
    ]))
}

fn is_mutual(security: Security) -> bool {
    matches!(
        security,
        Security::IstioMutualTls | Security::Hbone | Security::LinkerdMutualTls
    )
}

// === impl End ===

impl<'a> End<'a> {
    fn workload(&self) -> &'a str {
        self.pod.map_or(UNKNOWN, |pod| pod.workload().1)
    }

    fn namespace(&self) -> &'a str {
        self.pod.map_or(UNKNOWN, |pod| &pod.namespace)
    }

    fn label(&self, label: fn(&Pod) -> Option<&str>) -> &'a str {
        self.pod.and_then(label).unwrap_or(UNKNOWN)
    }

    fn canonical(&self) -> &'a str {
        self.pod.map_or(UNKNOWN, canonical::service)
    }

    fn revision(&self) -> &'a str {
        self.pod.map_or(UNKNOWN, canonical::revision)
    }
}

// === impl Called ===

impl Called {
    fn of(
        link: &Link,
        role: Role,
        peer: &Peer,
        source: &End<'_>,
        destination: &End<'_>,
        authority: &str,
    ) -> Self {
        if let Some(service) = &link.dialled {
            return Self::service(&service.name, &service.namespace);
        }
        if let (Role::Client, Peer::Service(service)) = (role, peer) {
            return Self::service(&service.name, &service.namespace);
        }
        if let Some(pod) = destination.pod {
            // A name without a namespace is one of the client's.
            let namespace = source.pod.map_or(&*pod.namespace, |pod| &*pod.namespace);
            let named = canonical::service_of_authority(authority, namespace);
            // Who calls may write anything: it is believed as far as it names what is here.
            return match named.filter(|(_, namespace)| **namespace == *pod.namespace) {
                Some((name, namespace)) => Self::service(name, namespace),
                None => Self::service(canonical::service(pod), &pod.namespace),
            };
        }
        let host = match peer {
            Peer::Address(address) => address.to_string(),
            named => named.name().unwrap_or(UNKNOWN).to_owned(),
        };
        Self {
            host,
            name: PASSTHROUGH.to_owned(),
            namespace: UNKNOWN.to_owned(),
        }
    }

    fn service(name: &str, namespace: &str) -> Self {
        Self {
            host: canonical::full_name(name, namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        }
    }
}

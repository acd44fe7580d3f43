//! The proxy of a node, as of Istio's ambient mode: its sockets are in the networks of the pods, and
//! its process in its own pod; connections between pods are tunnels in HTTP/2 and TLS.
//!
//! It is one Envoy for each pod, all of them in the container of one `ztunnel`.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Member, Mesh, Protocol, Spec, Target, envoy};
use crate::{
    kubernetes::{Control, Known, NAMESPACE, Site},
    namespace::Namespace,
    node::PodSpec,
    place::Place,
    server::Server,
};

/// Where it takes what an application sends.
pub const OUTBOUND: u16 = 15001;
/// Where it takes what comes in no tunnel.
pub const INBOUND: u16 = 15006;
/// Where it takes tunnels.
pub const TUNNEL: u16 = 15008;
/// Mark of its sockets.
const MARK: u32 = 0x539;
/// Mark of connections that have the address of another as their source.
const CONNECTION: u32 = 0x111;

/// The proxy of a node.
#[derive(Debug)]
pub struct Ztunnel<'a> {
    /// Its own pod.
    pub known: Known<'a>,
}

/// What the node's agent of the network does in a pod.
pub(super) fn rules(spec: &Spec<'_>) -> String {
    let except = |ports: &[u16]| {
        let lines = ports
            .iter()
            .map(|port| format!("tcp dport {port} return; "));
        lines.collect::<String>()
    };
    let (inbound, outbound) = (except(spec.open_inbound), except(spec.open_outbound));
    format!(
        "table ip istio {{ \
         chain marked {{ type filter hook prerouting priority mangle; \
         meta mark & 0xfff == {MARK} ct mark set {CONNECTION}; }}; \
         chain answers {{ type route hook output priority mangle; \
         ct mark & 0xfff == {CONNECTION} meta mark set {CONNECTION}; }}; \
         chain prerouting {{ type nat hook prerouting priority -100; \
         tcp dport {TUNNEL} return; meta mark & 0xfff == {MARK} return; {inbound}\
         iifname != \"lo\" meta l4proto tcp redirect to :{INBOUND}; }}; \
         chain output {{ type nat hook output priority -100; \
         ct mark & 0xfff == {CONNECTION} return; meta mark & 0xfff == {MARK} return; \
         oifname \"lo\" return; ip daddr 127.0.0.1 return; {outbound}\
         meta l4proto tcp redirect to :{OUTBOUND}; }}; }}"
    )
}

/// Answers to an address of another stay in the pod.
pub(super) fn route(namespace: &Namespace) -> Result<()> {
    let mark = format!("{CONNECTION:#x}/0xfff");
    let rule = ["rule", "add", "fwmark", &mark, "lookup", "100"];
    namespace.run("ip", &rule)?;
    let all = [
        "route",
        "add",
        "local",
        "0.0.0.0/0",
        "dev",
        "lo",
        "table",
        "100",
    ];
    namespace.run("ip", &all)?;
    Ok(())
}

// === impl Ztunnel ===

impl<'a> Ztunnel<'a> {
    /// Runs its pod on node `number`.
    pub fn start(site: &Site<'a>, number: usize) -> Result<Self> {
        let name = format!("ztunnel-{number}");
        let spec = PodSpec {
            containers: &["istio-proxy"],
            ..PodSpec::new(NAMESPACE, &name)
        };
        let control = Control::Direct("apps/v1", "DaemonSet", "ztunnel");
        let known = site.run(number, spec, control, |object| {
            object["metadata"]["labels"]["app"] = json!("ztunnel");
        })?;
        Ok(Self { known })
    }
}

impl Mesh<'_> {
    /// Lets `ztunnel` carry the traffic of `member`.
    pub fn ambient(
        &self,
        ztunnel: &Ztunnel<'_>,
        member: &Member<'_>,
        targets: &[&Target],
    ) -> Result<Server> {
        let certificates = self.spiffe(&member.account)?;
        let mut clusters = vec![envoy::original(envoy::marked(MARK)), envoy::nobody()];
        let mut chains = Vec::new();
        for target in targets {
            let address = target.dialled()?;
            let subset = target.subsets.first().context("nobody answers")?;
            for (place, (server, secured)) in subset.endpoints.iter().enumerate() {
                let name = format!("{} {place}", target.host());
                let (next, secured) = match target.waypoint {
                    Some(waypoint) => (waypoint, true),
                    None => (*server, *secured),
                };
                clusters.push(tunnel(&name, next, secured, Some(MARK), &certificates));
            }
            // One of them by the weight of each: a filter has one tunnel's target.
            let (server, secured) = subset.endpoints.first().context("nobody answers")?;
            let to = match (target.waypoint, secured) {
                (Some(_), _) => Some(address),
                (None, true) => Some(*server),
                (None, false) => None,
            };
            let more = match to {
                Some(to) => json!({"tunneling_config": {"hostname": to.to_string()}}),
                None => json!({}),
            };
            chains.push(json!({
                "filter_chain_match": {
                    "destination_port": address.port(),
                    "prefix_ranges": [{"address_prefix": address.ip(), "prefix_len": 32}],
                },
                "filters": [envoy::tcp_with(&format!("{} 0", target.host()), more)],
            }));
        }
        let passed = envoy::original_source_listener(MARK);
        let listeners = [
            envoy::listener(OUTBOUND, false, &[], &chains, envoy::tcp(envoy::ORIGINAL)),
            envoy::listener(INBOUND, false, &[passed], &[], envoy::tcp(envoy::ORIGINAL)),
            inbound(&certificates),
        ];
        clusters.push(application(member));
        let configuration = envoy::configuration(&listeners, &clusters);
        let own = ztunnel.known.pod.containers().first();
        let own = own.context("no container")?.cgroup();
        let place = member.app()?;
        let network = place.namespace().context("no network of its own")?;
        let place = Place::inside(own, network);
        self.envoy(&place, None, TUNNEL, &configuration)
    }
}

/// The cluster of what takes tunnels, or bytes as they are, by sockets with this mark.
pub(super) fn tunnel(
    name: &str,
    server: SocketAddr,
    secured: bool,
    mark: Option<u32>,
    certificates: &Value,
) -> Value {
    let port = if secured { TUNNEL } else { server.port() };
    let mut context = certificates.clone();
    context["alpn_protocols"] = json!(["h2"]);
    context["tls_params"] = json!({
        "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
    });
    envoy::Upstream {
        name: name.to_owned(),
        endpoints: vec![(SocketAddr::new(server.ip(), port), secured)],
        protocol: if secured {
            Protocol::Http2
        } else {
            Protocol::Tcp
        },
        tls: secured.then(|| json!({"common_tls_context": context})),
        mark,
    }
    .build()
}

/// The cluster of the application itself.
fn application(member: &Member<'_>) -> Value {
    envoy::Upstream {
        name: "application".to_owned(),
        endpoints: vec![(member.known.pod.at(crate::kubernetes::PORT), false)],
        protocol: Protocol::Tcp,
        ..envoy::Upstream::default()
    }
    .build()
}

/// Routes of tunnels: what is in them goes to `cluster`.
pub(super) fn tunnelled(cluster: &str) -> Value {
    json!([{
        "match": {"connect_matcher": {}},
        "route": {
            "cluster": cluster, "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        },
    }])
}

/// A listener for tunnels, whose targets are these virtual hosts.
pub(super) fn takes_tunnels(certificates: &Value, hosts: &Value, filters: &[Value]) -> Value {
    let mut context = certificates.clone();
    context["alpn_protocols"] = json!(["h2"]);
    let more = json!({
        "http2_protocol_options": {"allow_connect": true},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
    });
    let mut filter = envoy::http(&json!([]), filters, more);
    filter["typed_config"]["route_config"]["virtual_hosts"] = hosts.clone();
    let mut listener = envoy::listener(TUNNEL, false, &[], &[], Value::Null);
    listener["filter_chains"] = json!([{
        "transport_socket": envoy::downstream_tls(json!({
            "require_client_certificate": true, "common_tls_context": context,
        })),
        "filters": [filter],
    }]);
    listener
}

/// What is done with tunnels to an application. A waypoint says whose they are.
fn inbound(certificates: &Value) -> Value {
    let all = json!([{"name": "all", "domains": ["*"], "routes": tunnelled("application")}]);
    takes_tunnels(certificates, &all, &[envoy::original_source(MARK)])
}

//! Which flows somebody wants to see.

use std::{net::SocketAddr, time::Duration};

use crate::{
    aggregate::history::{Flow, FlowEvent},
    model::{
        call::{Call, Link, LinkEvent},
        connection::Connection,
        datagram::{Conversation, DatagramProtocol},
        kubernetes::Service,
        lookup::Resolution,
        mesh::{Far, Verdict},
        security::Security,
        trace::TraceId,
        workload::{Peer, Workload},
    },
};

mod text;

pub(super) use text::parse_duration;
use text::{glob, parse_security, parse_status, parse_trace, path};

/// All conditions that a flow must meet. Each is a list of alternatives; an empty list is none.
///
/// Method, path, status and trace are of calls only: with one of them nothing else matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Service whose socket it is; `*` stands for any characters.
    service: Vec<String>,
    /// Service or address of the other end; `*` stands for any characters.
    peer: Vec<String>,
    /// Port at either end, dialled or on the wire.
    port: Vec<u16>,
    /// Calls, some of them, connections, lookups, datagrams.
    protocol: Vec<Protocol>,
    /// Method, in any case.
    method: Vec<String>,
    /// Start of the path, or the whole path if it has a `*`.
    path: Vec<String>,
    /// Statuses.
    status: Vec<Status>,
    /// Security of the connection.
    security: Vec<Secured>,
    /// Namespace of the pod of either end.
    namespace: Vec<String>,
    /// Pod of either end, alone or as `namespace/pod`.
    pod: Vec<String>,
    /// Workload of the pod of either end, alone, as `kind/name` or `namespace/kind/name`.
    workload: Vec<String>,
    /// Node of either end.
    node: Vec<String>,
    /// Service that the client dialled, alone or as `namespace/service`.
    dialled: Vec<String>,
    /// Traces that the fields of the request name.
    trace: Vec<TraceId>,
    /// What the socket is on the way of a call through a mesh.
    hop: Vec<&'static str>,
    /// Identity of either end that a proxy proved; `*` stands for any characters.
    identity: Vec<String>,
    /// Whether what was seen is what is declared.
    verdict: Vec<Verdict>,
    /// Shortest duration; connections have one when they are closed.
    min_duration: Option<Duration>,
}

/// A parameter that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}={value}: expected {expected}")]
pub struct InvalidFilter {
    /// The parameter.
    pub key: &'static str,
    /// What was given.
    pub value: String,
    /// What is accepted.
    pub expected: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Calls of any kind.
    Http,
    /// Remote procedure calls.
    Grpc,
    /// Connections.
    Tcp,
    Dns,
    Quic,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// From the lowest to the highest, of HTTP.
    Range(u16, u16),
    /// Name of a status of gRPC.
    Named(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secured {
    /// By anybody.
    Encrypted,
    Is(Security),
}

/// What a socket can be in a mesh.
const HOPS: [&str; 5] = ["direct", "to_proxy", "from_proxy", "proxy", "meta"];

const VERDICTS: [Verdict; 3] = [Verdict::Satisfied, Verdict::Violated, Verdict::Unknown];

/// Most bytes of a parameter.
const LONGEST: usize = 1_024;

// === impl FlowFilter ===

impl FlowFilter {
    /// Names of all parameters.
    pub const KEYS: [&str; 18] = [
        "service",
        "peer",
        "port",
        "protocol",
        "method",
        "path",
        "status",
        "security",
        "namespace",
        "pod",
        "workload",
        "node",
        "dialled",
        "trace",
        "hop",
        "identity",
        "verdict",
        "min_duration",
    ];

    /// Adds the condition `key`, if there is such a one; a comma separates alternatives.
    pub fn parse(&mut self, key: &str, value: &str) -> Result<bool, InvalidFilter> {
        let Some(key) = Self::KEYS.into_iter().find(|known| *known == key) else {
            return Ok(false);
        };
        let invalid = |value: &str, expected| InvalidFilter {
            key,
            value: value.to_owned(),
            expected,
        };
        if value.len() > LONGEST {
            return Err(invalid("(too long)", "at most 1024 bytes"));
        }
        for part in value.split(',').map(str::trim) {
            if part.is_empty() {
                return Err(invalid(value, "a value, or several separated by commas"));
            }
            match key {
                "service" => self.service.push(part.to_owned()),
                "peer" => self.peer.push(part.to_owned()),
                "method" => self.method.push(part.to_ascii_uppercase()),
                "path" => self.path.push(part.to_owned()),
                "namespace" => self.namespace.push(part.to_owned()),
                "pod" => self.pod.push(part.to_owned()),
                "workload" => self.workload.push(part.to_owned()),
                "node" => self.node.push(part.to_owned()),
                "dialled" => self.dialled.push(part.to_owned()),
                "trace" => self.trace.push(
                    parse_trace(part).ok_or_else(|| invalid(part, "32 hexadecimal digits"))?,
                ),
                "hop" => self.hop.push(
                    HOPS.into_iter()
                        .find(|hop| *hop == part)
                        .ok_or_else(|| invalid(part, "direct, to_proxy, from_proxy, proxy or meta"))?,
                ),
                "identity" => self.identity.push(part.to_owned()),
                "verdict" => self.verdict.push(
                    VERDICTS
                        .into_iter()
                        .find(|verdict| verdict.as_str() == part)
                        .ok_or_else(|| invalid(part, "satisfied, violated or unknown"))?,
                ),
                "port" => match part.parse() {
                    Ok(port) if port > 0 => self.port.push(port),
                    _ => return Err(invalid(part, "a port from 1 to 65535")),
                },
                "protocol" => self.protocol.push(match part {
                    "http" => Protocol::Http,
                    "grpc" => Protocol::Grpc,
                    "tcp" => Protocol::Tcp,
                    "dns" => Protocol::Dns,
                    "quic" => Protocol::Quic,
                    "udp" => Protocol::Udp,
                    _ => {
                        let expected = "http (calls), grpc (remote procedure calls), tcp (connections), dns (lookups), \
                                        quic or udp (datagrams)";
                        return Err(invalid(part, expected));
                    }
                }),
                "status" => self.status.push(parse_status(part).ok_or_else(|| {
                    invalid(
                        part,
                        "a status as 404, a class as 5xx, a range as 400-499, or one of gRPC as NOT_FOUND",
                    )
                })?),
                "security" => self.security.push(parse_security(part).ok_or_else(|| {
                    invalid(
                        part,
                        "unknown, plaintext, tls, istio_mtls, hbone, linkerd_mtls, or encrypted for the last four",
                    )
                })?),
                _ => {
                    self.min_duration = Some(parse_duration(part).ok_or_else(|| {
                        invalid(part, "a number with its unit: us, ms, s or m, as 250ms")
                    })?);
                }
            }
        }
        Ok(true)
    }

    /// `flow` meets all conditions.
    pub fn matches(&self, flow: &Flow) -> bool {
        let judged = flow.judgement.as_ref().map(|judgement| judgement.verdict);
        if !any(&self.verdict, |verdict| judged == Some(*verdict)) {
            return false;
        }
        match &flow.event {
            FlowEvent::Call(call) => self.call(call),
            FlowEvent::Link(event) => self.event(event),
            FlowEvent::Lookup(Resolution {
                lookup,
                workload,
                peer,
                dialled,
            }) => {
                self.is_of_no_connection()
                    && self.is_other(Protocol::Dns, Some(lookup.duration()))
                    && self.ends(&[lookup.local, lookup.remote], workload)
                    && self.peer(lookup.remote, peer)
                    && self.cluster(workload, peer, dialled.as_deref())
            }
            FlowEvent::Datagrams(Conversation {
                datagrams,
                workload,
                peer,
                dialled,
            }) => {
                let protocol = match datagrams.protocol {
                    DatagramProtocol::Dns => Protocol::Dns,
                    DatagramProtocol::Quic => Protocol::Quic,
                    DatagramProtocol::Other => Protocol::Udp,
                };
                self.is_of_no_connection()
                    && self.is_other(protocol, Some(datagrams.duration()))
                    && self.ends(&[datagrams.local, datagrams.remote], workload)
                    && self.peer(datagrams.remote, peer)
                    && self.cluster(workload, peer, dialled.as_deref())
            }
        }
    }

    /// There are no conditions that only connections and their calls can meet.
    fn is_of_no_connection(&self) -> bool {
        self.security.is_empty() && self.hop.is_empty() && self.identity.is_empty()
    }

    /// What is no call meets the conditions that are about all flows.
    fn is_other(&self, own: Protocol, duration: Option<Duration>) -> bool {
        let only_calls = !(self.method.is_empty()
            && self.path.is_empty()
            && self.status.is_empty()
            && self.trace.is_empty());
        !only_calls
            && any(&self.protocol, |protocol| *protocol == own)
            && self
                .min_duration
                .is_none_or(|least| duration.is_some_and(|own| own >= least))
    }

    fn call(&self, call: &Call) -> bool {
        let exchange = &call.exchange;
        let head = &exchange.request;
        let rpc = exchange.rpc.as_deref();
        any(&self.protocol, |protocol| match protocol {
            Protocol::Http => true,
            Protocol::Grpc => rpc.is_some(),
            Protocol::Tcp | Protocol::Dns | Protocol::Quic | Protocol::Udp => false,
        }) && any(&self.status, |status| match status {
            Status::Range(lowest, highest) => exchange
                .status
                .is_some_and(|status| (*lowest..=*highest).contains(&status)),
            Status::Named(name) => rpc.and_then(|rpc| rpc.end.status_name()) == Some(*name),
        }) && any(&self.method, |method| {
            head.method.eq_ignore_ascii_case(method)
        }) && self
            .min_duration
            .is_none_or(|least| exchange.duration() >= least)
            && any(&self.path, |path| match path.contains('*') {
                true => glob(path, &head.path),
                false => head.path.starts_with(path.as_str()),
            })
            && any(&self.trace, |trace| {
                exchange
                    .context
                    .as_ref()
                    .is_some_and(|context| context.trace == *trace)
            })
            && self.link(&call.link, call.far().map(|far| &**far))
    }

    fn event(&self, event: &LinkEvent) -> bool {
        let (link, end) = match event {
            LinkEvent::Opened(link) | LinkEvent::Recognised { link, .. } => (link, None),
            LinkEvent::Progress { .. } => return false,
            LinkEvent::Closed { link, at, .. } | LinkEvent::Failed { link, at, .. } => {
                (link, Some(*at))
            }
        };
        let duration = end.map(|end| {
            end.since(
                link.connection
                    .established
                    .unwrap_or(link.connection.started),
            )
        });
        self.is_other(Protocol::Tcp, duration) && self.link(link, link.far.as_deref())
    }

    fn link(&self, link: &Link, far: Option<&Far>) -> bool {
        let security = |wanted: &Secured| match wanted {
            Secured::Encrypted => link.security.is_encrypted(),
            Secured::Is(security) => link.security == *security,
        };
        let Connection {
            local,
            remote,
            wire,
            ..
        } = link.connection;
        let (wire_local, wire_remote) = wire.unwrap_or((local, remote));
        self.ends(&[local, remote, wire_local, wire_remote], &link.workload)
            && (self.peer(remote, &link.peer)
                || far.is_some_and(|far| self.peer(remote, &far.peer)))
            && any(&self.security, security)
            && any(&self.hop, |hop| link.hop.as_str() == *hop)
            && any(&self.identity, |pattern| {
                let proved = far.and_then(|far| far.identity.as_deref());
                proved.is_some_and(|identity| glob(pattern, &identity.text))
            })
            && self.cluster_of(
                &link.workload,
                [Some(&link.peer), far.map(|far| &far.peer)],
                link.dialled.as_deref(),
            )
    }

    fn cluster(&self, workload: &Workload, peer: &Peer, dialled: Option<&Service>) -> bool {
        self.cluster_of(workload, [Some(peer), None], dialled)
    }

    /// Where the ends are on Kubernetes, proxies and who they speak for, and what was dialled of it.
    fn cluster_of(
        &self,
        workload: &Workload,
        peers: [Option<&Peer>; 2],
        dialled: Option<&Service>,
    ) -> bool {
        let Self {
            namespace,
            pod,
            workload: owner,
            node,
            dialled: service,
            ..
        } = self;
        if [namespace, pod, owner, node, service]
            .iter()
            .all(|it| it.is_empty())
        {
            return true;
        }
        let peers = || peers.into_iter().flatten();
        let pods = || {
            workload
                .pod()
                .into_iter()
                .chain(peers().filter_map(Peer::pod))
        };
        let of_node = |pattern: &str| {
            peers().any(|peer| match peer {
                Peer::Node(node) => glob(pattern, &node.name),
                _ => false,
            })
        };
        any(namespace, |pattern| {
            pods().any(|pod| glob(pattern, &pod.namespace))
        }) && any(pod, |pattern| {
            pods().any(|pod| path(pattern, &[&pod.namespace, &pod.name]))
        }) && any(owner, |pattern| {
            pods().any(|pod| {
                let (kind, name) = pod.workload();
                path(pattern, &[&pod.namespace, kind, name])
            })
        }) && any(node, |pattern| {
            of_node(pattern) || pods().any(|pod| glob(pattern, pod.node_name()))
        }) && any(service, |pattern| {
            dialled.is_some_and(|service| path(pattern, &[&service.namespace, &service.name]))
        })
    }

    /// One of the ports, and the service.
    fn ends(&self, addresses: &[SocketAddr], workload: &Workload) -> bool {
        any(&self.port, |port| {
            addresses.iter().any(|address| address.port() == *port)
        }) && any(&self.service, |service| glob(service, &workload.service))
    }

    fn peer(&self, address: SocketAddr, peer: &Peer) -> bool {
        if self.peer.is_empty() {
            return true;
        }
        let (ip, address) = (address.ip().to_string(), address.to_string());
        let name = peer.name();
        let matches = |pattern: &String| {
            glob(pattern, &ip)
                || glob(pattern, &address)
                || name.is_some_and(|name| glob(pattern, name))
        };
        self.peer.iter().any(matches)
    }
}

fn any<T>(alternatives: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    alternatives.is_empty() || alternatives.iter().any(matches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{fixture, history::Judgement};
    use crate::model::rpc::RpcEnd;
    use crate::model::trace::{Propagation, TraceContext};

    fn filter(query: &str) -> Result<FlowFilter, InvalidFilter> {
        let mut filter = FlowFilter::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap();
            assert!(filter.parse(key, value)?, "{key}");
        }
        Ok(filter)
    }

    fn flow(event: FlowEvent) -> Flow {
        Flow {
            sequence: 1,
            event,
            judgement: None,
        }
    }

    #[test]
    fn calls() {
        // GET /orders/7, 404, 10 ms, service web at 10.0.0.1:8080, peer 192.0.2.7:40000.
        let call = flow(FlowEvent::Call(fixture::call("web", "/orders/7", 404)));
        let check = |query: &str, expected: bool| {
            assert_eq!(filter(query).unwrap().matches(&call), expected, "{query}");
        };
        let mut traced = fixture::call("web", "/orders/7", 404);
        traced.exchange.context = Some(std::sync::Arc::new(TraceContext {
            propagation: Propagation::B3,
            trace: TraceId([10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            parent: None,
            sampled: None,
            state: "".into(),
        }));
        let traced = flow(FlowEvent::Call(traced));
        let by_trace = filter("trace=0A0b0c0d0e0f00010203040506070809").unwrap();
        assert!(by_trace.matches(&traced) && !by_trace.matches(&call));
        check("", true);
        check("service=web", true);
        check("service=we", false);
        check("service=w*,api", true);
        check("peer=192.0.2.7", true);
        check("peer=192.0.2.*", true);
        check("peer=192.0.2.7:40000", true);
        check("peer=web", false);
        check("port=8080", true);
        check("port=40000", true);
        check("port=80", false);
        check("protocol=http", true);
        check("protocol=tcp", false);
        check("method=get", true);
        check("method=POST,PUT", false);
        check("path=/orders", true);
        check("path=/orders/*", true);
        check("path=/*/8", false);
        check("path=orders", false);
        check("status=404", true);
        check("status=4xx", true);
        check("status=500-599,200", false);
        check("min_duration=10ms", true);
        check("min_duration=10.5ms", false);
        check("trace=000102030405060708090a0b0c0d0e0f", false);
        check("min_duration=9000us&status=404&method=GET", true);
        check("min_duration=9000us&status=200&method=GET", false);
    }

    #[test]
    fn procedures() {
        let link = fixture::link(1, "web");
        let call = flow(FlowEvent::Call(fixture::rpc_on(
            &link,
            "/a.B/C",
            RpcEnd::Status(5),
        )));
        let plain = flow(FlowEvent::Call(fixture::call("web", "/", 200)));
        for (query, of_procedure, of_plain) in [
            ("protocol=grpc", true, false),
            ("protocol=http", true, true),
            ("status=not_found", true, false),
            ("status=2xx", true, true),
            ("status=OK", false, false),
            ("status=INTERNAL,404,NOT_FOUND", true, false),
        ] {
            let filter = filter(query).unwrap();
            let found = (filter.matches(&call), filter.matches(&plain));
            assert_eq!(found, (of_procedure, of_plain), "{query}");
        }
    }

    #[test]
    fn security() {
        let mut link = Link::clone(&fixture::link(1, "web"));
        link.security = Security::IstioMutualTls;
        let link = std::sync::Arc::new(link);
        let recognised = flow(FlowEvent::Link(LinkEvent::Recognised {
            link: link.clone(),
            at: crate::model::time::Monotonic(1),
        }));
        let call = flow(FlowEvent::Call(fixture::call_on(&link, "/", 200)));
        for (query, expected) in [
            ("security=istio_mtls", true),
            ("security=encrypted", true),
            ("security=tls,plaintext", false),
            ("security=tls,istio_mtls", true),
            ("security=unknown", false),
        ] {
            let filter = filter(query).unwrap();
            assert_eq!(filter.matches(&recognised), expected, "{query}");
            assert_eq!(filter.matches(&call), expected, "{query}");
        }
        let long = filter("security=encrypted&min_duration=1us").unwrap();
        assert!(!long.matches(&recognised), "it has no duration yet");
    }

    #[test]
    fn meshes() {
        let call = fixture::call_through_proxies();
        let mut judged = flow(FlowEvent::Call(call));
        judged.judgement = Some(Judgement {
            verdict: Verdict::Violated,
            ..Judgement::default()
        });
        let plain = flow(FlowEvent::Call(fixture::call("web", "/", 200)));
        let closed = fixture::closed(&fixture::link(1, "web"), 10);
        let closed = flow(FlowEvent::Link(closed));
        let role = crate::model::connection::Role::Client;
        let outcome = crate::model::lookup::LookupOutcome::Answered;
        let lookup = flow(FlowEvent::Lookup(fixture::resolution(role, outcome, None)));
        for (query, of_judged, of_others) in [
            ("hop=from_proxy", true, false),
            ("hop=direct,from_proxy", true, true),
            ("hop=to_proxy,proxy", false, false),
            ("identity=spiffe://*/sa/cart", true, false),
            ("identity=*/sa/web", false, false),
            ("verdict=violated,satisfied", true, false),
            ("verdict=unknown", false, false),
            // Who the proxy speaks for.
            ("peer=cart", true, false),
            ("workload=Deployment/cart", true, false),
            ("pod=shop/cart-5d4f-k", true, false),
        ] {
            let filter = filter(query).unwrap();
            assert_eq!(filter.matches(&judged), of_judged, "{query}");
            assert_eq!(filter.matches(&plain), of_others, "{query}");
            assert_eq!(filter.matches(&closed), of_others, "{query}");
            assert!(!filter.matches(&lookup), "{query}");
        }
    }

    #[test]
    fn kubernetes() {
        let peer = Peer::Pod(fixture::pod("cart", "k"));
        let role = crate::model::connection::Role::Client;
        let link = fixture::link_in(1, ("web", "a"), role, peer, Some("basket"));
        let call = flow(FlowEvent::Call(fixture::call_on(&link, "/", 200)));
        let plain = flow(FlowEvent::Call(fixture::call("web", "/", 200)));
        let outcome = crate::model::lookup::LookupOutcome::Answered;
        let mut lookup = fixture::resolution(role, outcome, Some(0));
        lookup.peer = Peer::Node(fixture::node("node-1"));
        let lookup = flow(FlowEvent::Lookup(lookup));
        for (query, of_call, of_lookup) in [
            ("namespace=shop", true, false),
            ("namespace=other,sh*", true, false),
            ("namespace=other", false, false),
            ("pod=web-*", true, false),
            ("pod=cart-5d4f-k", true, false),
            ("pod=shop/cart-5d4f-k", true, false),
            ("pod=other/*", false, false),
            ("pod=cart", false, false),
            ("workload=cart", true, false),
            ("workload=Deployment/web", true, false),
            ("workload=shop/Deployment/w*", true, false),
            ("workload=StatefulSet/web", false, false),
            ("workload=a/shop/Deployment/web", false, false),
            ("node=node-1", true, true),
            ("node=node-2", false, false),
            ("dialled=basket", true, false),
            ("dialled=shop/b*", true, false),
            ("dialled=cart", false, false),
            (
                "namespace=shop&dialled=basket&min_duration=1ms",
                true,
                false,
            ),
            ("namespace=shop&dialled=cart", false, false),
        ] {
            let filter = filter(query).unwrap();
            assert_eq!(filter.matches(&call), of_call, "{query}");
            assert_eq!(filter.matches(&lookup), of_lookup, "{query}");
            assert!(!filter.matches(&plain), "{query}");
        }
    }

    #[test]
    fn connections() {
        // Open for 3.998 seconds.
        let closed = flow(FlowEvent::Link(fixture::closed(
            &fixture::link(1, "web"),
            10,
        )));
        let check = |query: &str, expected: bool| {
            assert_eq!(filter(query).unwrap().matches(&closed), expected, "{query}");
        };
        check("", true);
        check("protocol=tcp", true);
        check("protocol=http", false);
        check("status=404", false);
        check("method=GET", false);
        check("path=/", false);
        check("min_duration=3s", true);
        check("min_duration=0.1m", false);
        check("service=web&port=8080", true);
    }

    #[test]
    fn errors_name_the_key_and_the_accepted_form() {
        for query in [
            "port=0",
            "port=http",
            "port=65536",
            "security=ssl",
            "status=NOT_A_STATUS",
            "status=99",
            "status=6xx",
            "status=+40",
            "status=500-400",
            "status=",
            "min_duration=5",
            "trace=0102",
            "trace=+00102030405060708090a0b0c0d0e0f",
            "trace=00000000000000000000000000000000",
            "min_duration=ms",
            "min_duration=1.2.3s",
            "hop=sidecar",
            "verdict=ok",
            "service=a,,b",
        ] {
            let error = filter(query).unwrap_err();
            let (key, _) = query.split_once('=').unwrap();
            assert_eq!(error.key, key);
            assert!(error.to_string().starts_with(&format!("{key}=")), "{error}");
            assert!(error.to_string().contains("expected"), "{error}");
        }
        assert!(filter(&format!("path={}", "x".repeat(2_000))).is_err());
        assert_eq!(FlowFilter::default().parse("colour", "red"), Ok(false));
    }

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*", "a", true),
            ("a*a", "a", false),
            ("*b*", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("*ab", "aab", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}

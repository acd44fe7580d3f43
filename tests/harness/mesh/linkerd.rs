//! A sidecar as of Linkerd: user 2102, everything to one port of the server's pod in TLS 1.3 with
//! the name of its identity, and the client's in a field of each request.
//!
//! It is Envoy with the handshake, the ports and the fields of Linkerd.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Member, Mesh, Protocol, Spec, TRUST_DOMAIN, Target, envoy};
use crate::{
    kubernetes::{self, NAMESPACE},
    server::Server,
};

/// Name of its container.
pub const CONTAINER: &str = "linkerd-proxy";
/// Where it takes what the application sends.
pub const OUTBOUND: u16 = 4140;
/// Where it takes what the application is to get.
pub const INBOUND: u16 = 4143;
/// The user that it runs as.
pub const USER: u32 = 2102;

/// What a sidecar is to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sidecar<'a> {
    /// What its application speaks.
    pub serves: Protocol,
    /// Where its application sends to; anything else goes on as it is.
    pub targets: &'a [&'a Target],
    /// It lets so many requests pass, and refuses all others.
    pub limit: Option<u32>,
}

/// The identity of an account.
pub fn identity(account: &str) -> String {
    format!("{account}.{NAMESPACE}.serviceaccount.identity.linkerd.{TRUST_DOMAIN}")
}

/// What the init container of a sidecar does.
pub(super) fn rules(spec: &Spec<'_>) -> String {
    let except = |ports: &[u16]| {
        let lines = ports
            .iter()
            .map(|port| format!("tcp dport {port} return; "));
        lines.collect::<String>()
    };
    let (inbound, outbound) = (except(spec.open_inbound), except(spec.open_outbound));
    format!(
        "table ip linkerd {{ \
         chain prerouting {{ type nat hook prerouting priority -100; \
         tcp dport {{ 4190, 4191 }} return; {inbound}\
         meta l4proto tcp redirect to :{INBOUND}; }}; \
         chain output {{ type nat hook output priority -100; \
         meta skuid {USER} return; oifname \"lo\" return; {outbound}\
         meta l4proto tcp redirect to :{OUTBOUND}; }}; }}"
    )
}

impl Mesh<'_> {
    /// Starts the sidecar of `member`.
    pub fn linkerd(&self, member: &Member<'_>, sidecar: &Sidecar<'_>) -> Result<Server> {
        let name = format!("DNS:{}", identity(&member.account));
        let certificates = self.credentials(&member.account, &[&name])?;
        let application = member.known.pod.at(kubernetes::PORT);
        let local = envoy::Upstream {
            name: "application".to_owned(),
            endpoints: vec![(application, false)],
            protocol: sidecar.serves,
            ..envoy::Upstream::default()
        };
        let mut clusters = vec![envoy::original(json!(null)), envoy::nobody(), local.build()];
        let mut chains = Vec::new();
        for target in sidecar.targets {
            let address = target.dialled()?;
            let subset = target.subsets.first().context("nobody answers")?;
            let mut upstream = envoy::Upstream {
                name: target.host(),
                endpoints: subset.endpoints.iter().map(in_mesh).collect(),
                protocol: target.protocol,
                ..envoy::Upstream::default()
            };
            if subset.endpoints.iter().any(|(_, secured)| *secured) {
                // Requests of any version are carried by HTTP/2 between proxies.
                if target.protocol == Protocol::Http1 {
                    upstream.protocol = Protocol::Http2;
                }
                upstream.tls = Some(client(&subset.account, &certificates));
            }
            clusters.push(upstream.build());
            let filter = match target.protocol {
                Protocol::Tcp => envoy::tcp(&upstream.name),
                Protocol::Http1 | Protocol::Http2 => {
                    let route = json!({"cluster": upstream.name, "timeout": "0s"});
                    let routes = json!([{"match": {"prefix": "/"}, "route": route}]);
                    envoy::http(&routes, &[], silent())
                }
            };
            chains.push(json!({
                "filter_chain_match": {
                    "destination_port": address.port(),
                    "prefix_ranges": [{"address_prefix": address.ip(), "prefix_len": 32}],
                },
                "filters": [filter],
            }));
        }
        let others = envoy::tcp(envoy::ORIGINAL);
        let listeners = [
            envoy::listener(OUTBOUND, false, &[], &chains, others),
            inbound(sidecar, &certificates),
        ];
        let configuration = envoy::configuration(&listeners, &clusters);
        self.envoy(&member.proxy()?, Some(USER), INBOUND, &configuration)
    }
}

/// Where a client's proxy goes: to the proxy of a pod that has one.
fn in_mesh((address, secured): &(SocketAddr, bool)) -> (SocketAddr, bool) {
    let port = if *secured { INBOUND } else { address.port() };
    (SocketAddr::new(address.ip(), port), *secured)
}

/// What a client says in its handshake.
fn client(account: &str, certificates: &Value) -> Value {
    let mut context = certificates.clone();
    context["alpn_protocols"] = json!(["transport.l5d.io/v1"]);
    context["tls_params"] = json!({
        "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
    });
    json!({"sni": identity(account), "common_tls_context": context})
}

/// Without the fields that only Envoy has.
fn silent() -> Value {
    json!({"generate_request_id": false, "server_header_transformation": "PASS_THROUGH"})
}

/// What is done with connections to the application.
fn inbound(sidecar: &Sidecar<'_>, certificates: &Value) -> Value {
    let route = |secured: bool| {
        let mut route = json!({
            "match": {"prefix": "/"}, "route": {"cluster": "application", "timeout": "0s"},
            "request_headers_to_remove": [
                "x-envoy-attempt-count", "x-envoy-expected-rq-timeout-ms", "x-request-id",
            ],
        });
        if secured {
            route["request_headers_to_add"] = json!([{
                "header": {"key": "l5d-client-id", "value": "%DOWNSTREAM_PEER_DNS_SAN%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }]);
        }
        json!([route])
    };
    let filter = |secured: bool| match sidecar.serves {
        Protocol::Tcp => envoy::tcp("application"),
        Protocol::Http1 | Protocol::Http2 => {
            let mut more = silent();
            if secured {
                // Envoy takes the name of another protocol for HTTP/1.1.
                more["codec_type"] = json!("HTTP2");
            }
            // As that of the proxy itself, rather than of the application.
            let refused = ("l5d-proxy-error", "rate limit exceeded");
            let limit = sidecar.limit.map(|most| envoy::rate_limit(most, refused));
            let filters: Vec<Value> = limit.into_iter().collect();
            envoy::http(&route(secured), &filters, more)
        }
    };
    let mut context = certificates.clone();
    context["alpn_protocols"] = json!(["transport.l5d.io/v1"]);
    let secured = json!({
        "filter_chain_match": {
            "transport_protocol": "tls", "application_protocols": ["transport.l5d.io/v1"],
        },
        "transport_socket": envoy::downstream_tls(json!({
            "require_client_certificate": true, "common_tls_context": context,
        })),
        "filters": [filter(true)],
    });
    // What is addressed to it comes here too, so that nothing may be left for nobody.
    let mut listener = envoy::listener(INBOUND, true, &[], &[], filter(false));
    listener["filter_chains"] = json!([secured]);
    listener
}

//! A sidecar as of Istio: Envoy as user 1337, with its two listeners, names of clusters in the
//! handshake, and the client's identity in a field of each request.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Member, Mesh, Protocol, Spec, Subset, TRUST_DOMAIN, Target, envoy};
use crate::{kubernetes::NAMESPACE, server::Server};

/// Name of its container.
pub const CONTAINER: &str = "istio-proxy";
/// Where it takes what the application sends.
pub const OUTBOUND: u16 = 15001;
/// Where it takes what the application is to get.
pub const INBOUND: u16 = 15006;
/// The user that it runs as.
pub const USER: u32 = 1337;

/// What it accepts for its application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accepts {
    /// Mutual TLS alone: what else comes is closed.
    Strict,
    /// Mutual TLS and anything else.
    #[default]
    Permissive,
    /// Anything, as it is.
    Disabled,
}

/// What a sidecar is to do.
#[derive(Clone, Debug, Default)]
pub struct Sidecar<'a> {
    /// What it accepts.
    pub accepts: Accepts,
    /// What its application speaks.
    pub serves: Protocol,
    /// Paths that begin so are refused.
    pub refuses: Option<&'a str>,
    /// Where its application sends to; anything else goes on as it is.
    pub targets: &'a [&'a Target],
    /// How long requests to its application are kept.
    pub delay: Option<Duration>,
    /// Newest version of TLS as a client, in Envoy's words.
    pub newest: Option<&'a str>,
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
        "table ip istio {{ \
         chain prerouting {{ type nat hook prerouting priority -100; \
         tcp dport {{ 15008, 15020, 15021, 15090 }} return; {inbound}\
         meta l4proto tcp redirect to :{INBOUND}; }}; \
         chain output {{ type nat hook output priority -100; \
         ip saddr 127.0.0.6 oifname \"lo\" return; \
         oifname \"lo\" ip daddr != 127.0.0.1 meta l4proto tcp meta skuid {USER} redirect to :{INBOUND}; \
         oifname \"lo\" meta skuid != {USER} return; \
         meta skuid {USER} return; meta skgid {USER} return; \
         ip daddr 127.0.0.1 return; {outbound}\
         meta l4proto tcp redirect to :{OUTBOUND}; }}; }}"
    )
}

impl Mesh<'_> {
    /// Starts the sidecar of `member`.
    pub fn istio(&self, member: &Member<'_>, sidecar: &Sidecar<'_>) -> Result<Server> {
        let certificates = self.spiffe(&member.account)?;
        let mut clusters = vec![
            envoy::original(json!(null)),
            envoy::nobody(),
            // Back to the application, from an address that is redirected by nothing.
            {
                let bind = json!({"source_address": {"address": "127.0.0.6", "port_value": 0}});
                let mut inbound = envoy::original(bind);
                inbound["name"] = json!("inbound");
                inbound
            },
        ];
        let mut chains = Vec::new();
        for target in sidecar.targets {
            let address = target.dialled()?;
            for subset in &target.subsets {
                clusters.push(upstream(target, subset, &certificates, sidecar.newest)?);
            }
            chains.push(json!({
                "filter_chain_match": {
                    "destination_port": address.port(),
                    "prefix_ranges": [{"address_prefix": address.ip(), "prefix_len": 32}],
                },
                "filters": [outbound(target)?],
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

    /// The certificates of an account, as parts of a `common_tls_context`.
    pub(super) fn spiffe(&self, account: &str) -> Result<Value> {
        let uri = format!("URI:spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{account}");
        self.credentials(account, &[&uri])
    }

    /// As [`Self::spiffe`], with any names.
    pub(super) fn credentials(&self, account: &str, names: &[&str]) -> Result<Value> {
        let pair = self.certificate(account, names)?;
        let read = |path| fs::read_to_string(path).context("read a certificate");
        Ok(json!({
            "tls_certificates": envoy::pair(&read(&pair.certificate)?, &read(&pair.key)?),
            "validation_context": {"trusted_ca": {"inline_string": self.root()?}},
        }))
    }
}

/// The name of a cluster of clients.
fn cluster(target: &Target, subset: &str) -> Result<String> {
    let port = target.dialled()?.port();
    Ok(format!("outbound|{port}|{subset}|{}", target.host()))
}

/// The cluster of those who answer, with the newest version of TLS that a client has.
pub(super) fn upstream(
    target: &Target,
    subset: &Subset,
    certificates: &Value,
    newest: Option<&str>,
) -> Result<Value> {
    let upstream = envoy::Upstream {
        name: cluster(target, &subset.name)?,
        endpoints: subset.endpoints.clone(),
        protocol: target.protocol,
        tls: Some(client(target, &subset.name, certificates, newest)?),
        mark: None,
    };
    let mut upstream = upstream.build();
    if let Some(limit) = target.limit {
        upstream["circuit_breakers"] = envoy::limits(limit);
    }
    if let Some(failures) = target.ejects {
        upstream["outlier_detection"] = envoy::ejection(failures);
    }
    Ok(upstream)
}

/// What a client says in its handshake.
fn client(
    target: &Target,
    subset: &str,
    certificates: &Value,
    newest: Option<&str>,
) -> Result<Value> {
    let mut context = certificates.clone();
    context["alpn_protocols"] = match target.protocol {
        Protocol::Http1 => json!(["istio-http/1.1", "istio", "http/1.1"]),
        Protocol::Http2 => json!(["istio-h2", "istio", "h2"]),
        Protocol::Tcp => json!(["istio-peer-exchange", "istio"]),
    };
    context["tls_params"] = json!({
        "tls_minimum_protocol_version": if newest.is_some() { "TLSv1_0" } else { "TLSv1_2" },
        "tls_maximum_protocol_version": newest.unwrap_or("TLSv1_3"),
    });
    let port = target.dialled()?.port();
    Ok(json!({
        "sni": format!("outbound_.{port}_.{subset}_.{}", target.host()),
        "common_tls_context": context,
    }))
}

/// What is done with requests to a Service.
pub(super) fn routes(target: &Target) -> Result<Value> {
    let mut weighted = Vec::new();
    for subset in target.subsets.iter().filter(|subset| subset.weight > 0) {
        let name = cluster(target, &subset.name)?;
        weighted.push(json!({"name": name, "weight": subset.weight}));
    }
    let mut route = json!({"weighted_clusters": {"clusters": weighted}, "timeout": "0s"});
    if target.retries > 0 {
        route["retry_policy"] = json!({
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "num_retries": target.retries, "retriable_status_codes": [503],
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"},
        });
    }
    if let Some(mirror) = &target.mirror {
        let mut copies = json!({"cluster": cluster(target, mirror)?});
        if let Some(percent) = target.mirrored {
            copies["runtime_fraction"] = envoy::share(percent);
        }
        route["request_mirror_policies"] = json!([copies]);
    }
    let prefix = target.prefix.as_deref().unwrap_or("/");
    Ok(json!([{"match": {"prefix": prefix}, "route": route}]))
}

/// What is done with connections to a Service.
fn outbound(target: &Target) -> Result<Value> {
    if target.protocol == Protocol::Tcp {
        let first = target.subsets.first().context("nobody answers")?;
        return Ok(envoy::tcp(&cluster(target, &first.name)?));
    }
    let fault = (target.fault).map(|(status, percent)| envoy::fault(status, percent));
    let delay = target.delay.map(envoy::delay);
    let filters: Vec<Value> = [delay, fault].into_iter().flatten().collect();
    Ok(envoy::http(&routes(target)?, &filters, json!({})))
}

/// What is done with connections to the application.
fn inbound(sidecar: &Sidecar<'_>, certificates: &Value) -> Value {
    let filters = [
        sidecar.refuses.map(envoy::refuse),
        sidecar.delay.map(envoy::delay),
    ];
    let filters: Vec<Value> = filters.into_iter().flatten().collect();
    let routes =
        json!([{"match": {"prefix": "/"}, "route": {"cluster": "inbound", "timeout": "0s"}}]);
    let mut http = envoy::http(
        &routes,
        &filters,
        json!({
            "forward_client_cert_details": "APPEND_FORWARD",
            "set_current_client_cert_details": {"subject": true, "dns": true, "uri": true},
        }),
    );
    // The server's proxy leaves the count of the client's as it is.
    http["typed_config"]["route_config"]["virtual_hosts"][0]["include_request_attempt_count"] =
        json!(false);
    let tcp = envoy::tcp("inbound");
    let plain = match sidecar.serves {
        Protocol::Tcp => &tcp,
        Protocol::Http1 | Protocol::Http2 => &http,
    };
    let secured = |protocols: Value, own: &[&str], filter: &Value| {
        let mut context = certificates.clone();
        context["alpn_protocols"] = json!(own);
        // What a peer of an old version would still speak is refused by nothing.
        context["tls_params"] = json!({
            "tls_minimum_protocol_version": "TLSv1_0", "tls_maximum_protocol_version": "TLSv1_3",
        });
        json!({
            "filter_chain_match": {
                "transport_protocol": "tls", "application_protocols": protocols,
            },
            "transport_socket": envoy::downstream_tls(json!({
                "require_client_certificate": true, "common_tls_context": context,
            })),
            "filters": [filter],
        })
    };
    let mut chains = Vec::new();
    if sidecar.accepts != Accepts::Disabled {
        // As a server of HTTP understands its clients, and one of anything else.
        let web = json!(["istio-http/1.0", "istio-http/1.1", "istio-h2"]);
        chains.push(secured(web, &["h2", "http/1.1"], &http));
        let other = json!(["istio-peer-exchange", "istio"]);
        chains.push(secured(other, &["istio-peer-exchange", "h2"], &tcp));
    }
    if sidecar.accepts != Accepts::Strict {
        chains.push(json!({
            "filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [plain],
        }));
    }
    let others = match sidecar.accepts {
        // Closed at once.
        Accepts::Strict => json!(null),
        Accepts::Permissive | Accepts::Disabled => tcp.clone(),
    };
    envoy::listener(INBOUND, true, &[], &chains, others)
}

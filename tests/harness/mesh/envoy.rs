//! Parts of Envoy's configuration, and how it is started.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Protocol;
use crate::{peers::Peer, place::Place, server::Server};

/// Name of the cluster that goes to where a connection was going before it was redirected.
pub const ORIGINAL: &str = "original";
/// Name of the cluster that nobody is in.
pub const NOBODY: &str = "nobody";

/// An upstream cluster.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// Name.
    pub name: String,
    /// Who is in it, and whether to use [`Self::tls`] with each.
    pub endpoints: Vec<(SocketAddr, bool)>,
    /// What is spoken with them.
    pub protocol: Protocol,
    /// `UpstreamTlsContext`.
    pub tls: Option<Value>,
    /// Mark of its sockets.
    pub mark: Option<u32>,
}

/// `typed_config` of a type of Envoy.
pub fn typed(name: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/{name}"));
    value
}

fn extension(name: &str, kind: &str, value: Value) -> Value {
    json!({"name": name, "typed_config": typed(kind, value)})
}

/// A certificate and its key in `tls_certificates`.
pub fn pair(certificate: &str, key: &str) -> Value {
    json!([{
        "certificate_chain": {"inline_string": certificate},
        "private_key": {"inline_string": key},
    }])
}

/// `transport_socket` of a client.
pub fn upstream_tls(context: Value) -> Value {
    let kind = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    extension("envoy.transport_sockets.tls", kind, context)
}

/// `transport_socket` of a server.
pub fn downstream_tls(context: Value) -> Value {
    let kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    extension("envoy.transport_sockets.tls", kind, context)
}

/// A filter that carries bytes to `cluster`.
pub fn tcp(cluster: &str) -> Value {
    tcp_with(cluster, json!({}))
}

/// As [`tcp`], with more of its configuration.
pub fn tcp_with(cluster: &str, mut more: Value) -> Value {
    let kind = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    more["stat_prefix"] = json!("tcp");
    more["cluster"] = json!(cluster);
    extension("envoy.filters.network.tcp_proxy", kind, more)
}

/// A filter that carries requests by `routes`, with these filters before the router.
pub fn http(routes: &Value, filters: &[Value], mut more: Value) -> Value {
    let kind = "envoy.extensions.filters.http.router.v3.Router";
    let mut all = filters.to_vec();
    all.push(extension("envoy.filters.http.router", kind, json!({})));
    more["stat_prefix"] = json!("http");
    if more["codec_type"].is_null() {
        more["codec_type"] = json!("AUTO");
    }
    more["server_name"] = json!("istio-envoy");
    more["route_config"] = json!({
        "virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": routes,
            "include_request_attempt_count": true,
        }],
    });
    more["http_filters"] = json!(all);
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    extension("envoy.filters.network.http_connection_manager", kind, more)
}

/// A filter of HTTP that answers this share of requests, in percent, by itself.
pub fn fault(status: u16, percent: u32) -> Value {
    let kind = "envoy.extensions.filters.http.fault.v3.HTTPFault";
    let abort = json!({
        "http_status": status, "percentage": {"numerator": percent, "denominator": "HUNDRED"},
    });
    extension("envoy.filters.http.fault", kind, json!({"abort": abort}))
}

/// A filter of HTTP that hands on every request only after this time.
pub fn delay(time: Duration) -> Value {
    let kind = "envoy.extensions.filters.http.fault.v3.HTTPFault";
    let delay = json!({
        "fixed_delay": format!("{:.3}s", time.as_secs_f64()),
        "percentage": {"numerator": 100, "denominator": "HUNDRED"},
    });
    extension("envoy.filters.http.fault", kind, json!({"delay": delay}))
}

/// A filter of HTTP that refuses paths which begin so.
pub fn refuse(prefix: &str) -> Value {
    let kind = "envoy.extensions.filters.http.rbac.v3.RBAC";
    let rules = json!({"action": "DENY", "policies": {"refused": {
        "permissions": [{"url_path": {"path": {"prefix": prefix}}}],
        "principals": [{"any": true}],
    }}});
    extension("envoy.filters.http.rbac", kind, json!({"rules": rules}))
}

/// A filter of HTTP that lets `most` requests pass, and answers all others with 429 and this field.
pub fn rate_limit(most: u32, (name, value): (&str, &str)) -> Value {
    let kind = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
    let value = json!({
        "stat_prefix": "limited",
        "token_bucket": {"max_tokens": most, "tokens_per_fill": 1, "fill_interval": "600s"},
        "filter_enabled": share(100), "filter_enforced": share(100),
        "response_headers_to_add": [{"header": {"key": name, "value": value}}],
    });
    extension("envoy.filters.http.local_ratelimit", kind, value)
}

/// `circuit_breakers`: most connections, and most requests that wait for one.
pub fn limits(most: u32) -> Value {
    json!({"thresholds": [{"max_connections": most, "max_pending_requests": most}]})
}

/// `outlier_detection`: who fails so often in a row gets nothing, for longer than any test looks.
pub fn ejection(failures: u32) -> Value {
    json!({
        "consecutive_5xx": failures, "interval": "0.5s", "base_ejection_time": "600s",
        "max_ejection_time": "600s", "max_ejection_percent": 50,
    })
}

/// A share of requests, in percent.
pub fn share(percent: u32) -> Value {
    json!({"default_value": {"numerator": percent, "denominator": "HUNDRED"}})
}

/// A filter of HTTP that lets what goes upstream have the client's address, with this mark.
pub fn original_source(mark: u32) -> Value {
    let kind = "envoy.extensions.filters.http.original_src.v3.OriginalSrc";
    let value = json!({"mark": mark});
    extension("envoy.filters.http.original_src", kind, value)
}

/// As [`original_source`], for bytes: a filter of listeners.
pub fn original_source_listener(mark: u32) -> Value {
    let kind = "envoy.extensions.filters.listener.original_src.v3.OriginalSrc";
    let value = json!({"mark": mark, "bind_port": false});
    extension("envoy.filters.listener.original_src", kind, value)
}

/// A listener on all addresses that knows where connections were going, and what their first bytes
/// are if `looks`.
pub fn listener(port: u16, looks: bool, more: &[Value], chains: &[Value], others: Value) -> Value {
    let filter = |name: &str, kind: &str| {
        extension(
            &format!("envoy.filters.listener.{name}"),
            &format!("envoy.extensions.filters.listener.{name}.v3.{kind}"),
            json!({}),
        )
    };
    let mut filters = vec![filter("original_dst", "OriginalDst")];
    if looks {
        filters.push(filter("tls_inspector", "TlsInspector"));
        filters.push(filter("http_inspector", "HttpInspector"));
    }
    filters.extend_from_slice(more);
    // What was not redirected would be sent here again, without an end.
    let mut all = vec![json!({
        "filter_chain_match": {"destination_port": port}, "filters": [tcp(NOBODY)],
    })];
    all.extend_from_slice(chains);
    let mut listener = json!({
        "name": format!("on {port}"),
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "listener_filters": filters, "filter_chains": all,
        // Who speaks first is waited for in vain only so long.
        "listener_filters_timeout": "1s", "continue_on_listener_filters_timeout": true,
    });
    if !others.is_null() {
        listener["default_filter_chain"] = json!({"filters": [others]});
    }
    listener
}

/// The cluster of where connections were going, by sockets with these properties.
pub fn original(bind: Value) -> Value {
    let mut cluster = json!({
        "name": ORIGINAL, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": options(json!({"use_downstream_protocol_config": {
            "http_protocol_options": {}, "http2_protocol_options": {},
        }})),
    });
    if !bind.is_null() {
        cluster["upstream_bind_config"] = bind;
    }
    cluster
}

/// A cluster without anybody.
pub fn nobody() -> Value {
    json!({"name": NOBODY, "type": "STATIC"})
}

fn options(value: Value) -> Value {
    let kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let typed = typed(kind, value);
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed})
}

/// A cluster of listeners inside of the process, by their names; it takes along what was noted of whom
/// the connection is.
pub fn inside(name: &str, listeners: &[&str], protocol: Protocol) -> Value {
    let upstream = Upstream {
        name: name.to_owned(),
        protocol,
        ..Upstream::default()
    };
    let mut cluster = upstream.build();
    let endpoint = |listener: &&str| {
        json!({"endpoint": {"address": {"envoy_internal_address": {
            "server_listener_name": listener, "endpoint_id": listener,
        }}}})
    };
    let endpoints: Vec<Value> = listeners.iter().map(endpoint).collect();
    cluster["load_assignment"]["endpoints"] = json!([{"lb_endpoints": endpoints}]);
    let kind = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let raw = extension("envoy.transport_sockets.raw_buffer", kind, json!({}));
    let kind = "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport";
    let value = json!({"transport_socket": raw});
    cluster["transport_socket"] =
        extension("envoy.transport_sockets.internal_upstream", kind, value);
    cluster
}

/// A listener inside of the process.
pub fn inner(name: &str, filter: &Value) -> Value {
    let kind = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
    json!({
        "name": name, "internal_listener": {},
        "listener_filters": [extension("envoy.filters.listener.original_dst", kind, json!({}))],
        "filter_chains": [{"filters": [filter]}],
    })
}

/// What a configuration with [`inner`] needs.
pub fn inner_listeners() -> Value {
    let kind = "envoy.extensions.bootstrap.internal_listener.v3.InternalListener";
    extension("envoy.bootstrap.internal_listener", kind, json!({}))
}

/// A filter of HTTP that notes something of every request.
pub fn filter_state(values: &[Value]) -> Value {
    let kind = "envoy.extensions.filters.http.set_filter_state.v3.Config";
    let value = json!({"on_request_headers": values});
    extension("envoy.filters.http.set_filter_state", kind, value)
}

/// Property of sockets: a mark (`SO_MARK`).
pub fn marked(mark: u32) -> Value {
    json!({"socket_options": [{
        "level": libc::SOL_SOCKET, "name": libc::SO_MARK, "int_value": mark,
        "state": "STATE_PREBIND",
    }]})
}

/// A whole configuration.
pub fn configuration(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}

/// Starts an Envoy with this configuration at `place`, as the user `id` if there is one, and waits
/// until it listens on `port`.
pub fn start(
    place: &Place<'_>,
    id: Option<u32>,
    port: u16,
    configuration: &Value,
) -> Result<Server> {
    let program = Peer::Envoy.program();
    let mut command = match id {
        Some(id) => {
            let mut command = place.command("setpriv")?;
            let id = id.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
            command.arg(program);
            command
        }
        None => place.command(&program.display().to_string())?,
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Server::at(place, address, &mut command, |command, folder| {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).context("open a folder")?;
        let path = folder.join("envoy.json");
        fs::write(&path, configuration.to_string()).context("write a configuration")?;
        fs::set_permissions(&path, Permissions::from_mode(0o644)).context("open a file")?;
        command.arg("-c").arg(path);
        command.args(["--concurrency", "1", "--disable-hot-restart"]);
        command.args(["-l", "warning"]);
        Ok(())
    })
}

// === impl Upstream ===

impl Upstream {
    /// It as a cluster.
    pub fn build(&self) -> Value {
        let endpoint = |(address, secured): &(SocketAddr, bool)| {
            json!({
                "endpoint": {"address": {"socket_address": {
                    "address": address.ip(), "port_value": address.port(),
                }}},
                "metadata": {"filter_metadata": {"envoy.transport_socket_match": {
                    "tls": if *secured { "mesh" } else { "none" },
                }}},
            })
        };
        let endpoints: Vec<Value> = self.endpoints.iter().map(endpoint).collect();
        let mut cluster = json!({
            "name": self.name, "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": self.name, "endpoints": [{"lb_endpoints": endpoints}],
            },
        });
        let spoken = match self.protocol {
            Protocol::Http1 => Some("http_protocol_options"),
            Protocol::Http2 => Some("http2_protocol_options"),
            Protocol::Tcp => None,
        };
        if let Some(spoken) = spoken {
            let explicit = json!({"explicit_http_config": {spoken: {}}});
            cluster["typed_extension_protocol_options"] = options(explicit);
        }
        if let Some(tls) = &self.tls {
            cluster["transport_socket_matches"] = json!([{
                "name": "mesh", "match": {"tls": "mesh"},
                "transport_socket": upstream_tls(tls.clone()),
            }]);
        }
        if let Some(mark) = self.mark {
            cluster["upstream_bind_config"] = marked(mark);
        }
        cluster
    }
}

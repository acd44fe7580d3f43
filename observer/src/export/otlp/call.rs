//! A call as attributes: the same for its span and its entry in the access log.
//!
//! Names are those of the stable semantic conventions for HTTP, of those for RPC as they are in
//! version 1.42 (`rpc.method` is the full name, `rpc.service` and `rpc.system` are no more), and of
//! the registry. What none of them has a name for begins with `observer.`:
//!
//! | attribute | is |
//! |---|---|
//! | `observer.outcome` | `complete`, `tunnel`, `client_aborted`, `server_aborted`, `aborted`, `lost` (what followed was lost to the observer), `malformed`, `refused` |
//! | `observer.security` | `plaintext`, `tls`, `istio_mtls`, `hbone`, `linkerd_mtls`, `unknown` |
//! | `observer.connection` | cookie of the socket, as in flows |
//! | `observer.time_to_first_byte` | first byte of the request to first of the response, seconds |
//! | `observer.url.has_query` | a query followed the path; its content is not kept |
//! | `observer.peer.*` | what is known of the other end, see [`super::peer`] |
//! | `observer.rpc.*` | messages of a call, and its deadline in seconds |
//! | `observer.http2.*` | stream, server push, and code of the frame that ended it |
//! | `observer.mesh.*`, `observer.proxy.*` | what a mesh and a PROXY header showed |

use opentelemetry_semantic_conventions::attribute as semantic;

use super::{attributes::Attributes, peer};
use crate::{
    aggregate::contract::{METHODS, OTHER_METHOD},
    model::{
        call::{Call, Link},
        connection::Role,
        exchange::{Exchange, HttpVersion, Outcome, RequestHead},
        rpc::{self, Rpc},
        security::{Handshake, Opening},
    },
};

pub(super) const OUTCOME: &str = "observer.outcome";
pub(super) const CONNECTION: &str = "observer.connection";

/// Room for the attributes of most calls.
pub(super) const CAPACITY: usize = 40;

/// Name of a span: `{method} {route}` of HTTP, `{rpc.method}` of a procedure, each with less where
/// less is known. Never a raw path.
pub(super) fn name(call: &Call) -> String {
    if let Some(rpc) = &call.exchange.rpc {
        let method = procedure(&call.route).unwrap_or(rpc.system.as_str());
        return super::attributes::cut(method).to_owned();
    }
    let method = match method(&call.exchange.request) {
        OTHER_METHOD => "HTTP",
        method => method,
    };
    let mut name = String::with_capacity(method.len() + 1 + call.route.len());
    name.push_str(method);
    if !call.route.is_empty() {
        name.push(' ');
        name.push_str(super::attributes::cut(&call.route));
    }
    name
}

/// `http.request.method`.
pub(super) fn method(head: &RequestHead) -> &'static str {
    let known = METHODS.iter().find(|known| **known == &*head.method);
    known.copied().unwrap_or(OTHER_METHOD)
}

/// `package.Service/Method` of a route; `None` for a template, which is no name of a method.
fn procedure(route: &str) -> Option<&str> {
    let name = route.strip_prefix('/')?;
    (rpc::names(route).is_some() && !name.contains(['{', '*'])).then_some(name)
}

/// `url.scheme`: HTTP/1 says it to proxies only, and what can be read of it is not encrypted.
fn scheme(head: &RequestHead) -> Option<&str> {
    match head.scheme.as_deref() {
        None if head.version != HttpVersion::Http2 => Some("http"),
        scheme => scheme,
    }
}

/// Host and port of an authority; addresses of IPv6 without their brackets.
pub(super) fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    let whole = without_brackets(authority);
    match authority.rsplit_once(':') {
        // The colon is one of an address.
        _ if whole != authority => (whole, None),
        Some((host, _)) if host.contains(':') && without_brackets(host) == host => {
            (authority, None)
        }
        Some((host, port)) => (without_brackets(host), port.parse().ok()),
        None => (authority, None),
    }
}

fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(host)
}

/// All that is told of `call`.
pub(super) fn push(out: &mut Attributes, call: &Call) {
    let exchange = &call.exchange;
    match exchange.rpc.as_deref() {
        Some(rpc) => push_rpc(out, call, rpc),
        None => push_http(out, call),
    }
    push_server(out, call);
    out.some(semantic::ERROR_TYPE, call.error);
    out.text(semantic::NETWORK_PROTOCOL_NAME, "http");
    out.text(
        semantic::NETWORK_PROTOCOL_VERSION,
        exchange.request.version.as_str(),
    );
    out.text(semantic::USER_AGENT_ORIGINAL, &exchange.request.user_agent);
    push_measures(out, exchange);
    push_http2(out, exchange);
    push_link(out, &call.link, exchange.role);
}

fn push_http(out: &mut Attributes, call: &Call) {
    let exchange = &call.exchange;
    let head = &*exchange.request;
    let client = exchange.role == Role::Client;
    let method = method(head);
    out.text(semantic::HTTP_REQUEST_METHOD, method);
    if method == OTHER_METHOD {
        out.text(semantic::HTTP_REQUEST_METHOD_ORIGINAL, &head.method);
    }
    let scheme = scheme(head);
    out.some(semantic::URL_SCHEME, scheme);
    // The target of CONNECT is an authority, which `server.address` has.
    if head.path.starts_with(['/', '*']) {
        out.text(semantic::URL_PATH, &head.path);
    }
    if client
        && let Some(scheme) = scheme
        && head.path.starts_with('/')
        && !head.authority.is_empty()
    {
        let full = format!("{scheme}://{}{}", head.authority, head.path);
        out.made(semantic::URL_FULL, full);
    }
    if head.has_query {
        out.flag("observer.url.has_query", true);
    }
    let route = match client {
        true => semantic::URL_TEMPLATE,
        false => semantic::HTTP_ROUTE,
    };
    out.text(route, &call.route);
    if let Some(status) = exchange.status {
        out.integer(semantic::HTTP_RESPONSE_STATUS_CODE, status);
    }
}

fn push_rpc(out: &mut Attributes, call: &Call, rpc: &Rpc) {
    let exchange = &call.exchange;
    let path = &*exchange.request.path;
    out.text(semantic::RPC_SYSTEM_NAME, rpc.system.as_str());
    match procedure(&call.route) {
        Some(method) => out.text(semantic::RPC_METHOD, method),
        None if path.is_empty() => {}
        None => {
            out.text(semantic::RPC_METHOD, OTHER_METHOD);
            let original = path.strip_prefix('/').unwrap_or(path);
            out.text(semantic::RPC_METHOD_ORIGINAL, original);
        }
    }
    out.some(semantic::RPC_RESPONSE_STATUS_CODE, rpc.end.status_name());
    // 200 is what carries every answer of gRPC: anything else came from somewhere else.
    if let Some(status) = exchange.status.filter(|status| *status != 200) {
        out.integer(semantic::HTTP_RESPONSE_STATUS_CODE, status);
    }
    out.integer("observer.rpc.request.messages", rpc.requests.count);
    out.integer("observer.rpc.response.messages", rpc.responses.count);
    if rpc.requests.at_least || rpc.responses.at_least {
        out.flag("observer.rpc.messages.at_least", true);
    }
    if let Some(deadline) = rpc.deadline {
        out.float("observer.rpc.deadline", deadline.as_secs_f64());
    }
}

/// `server.address` and `server.port`: what the request names, else, at a client, what it dialled.
fn push_server(out: &mut Attributes, call: &Call) {
    let exchange = &call.exchange;
    let connection = &call.link.connection;
    let (host, port) = host_and_port(&exchange.request.authority);
    let here = match exchange.role {
        Role::Client => connection.remote.port(),
        Role::Server | Role::Unknown => connection.local.port(),
    };
    if !host.is_empty() {
        out.text(semantic::SERVER_ADDRESS, host);
        out.integer(semantic::SERVER_PORT, port.unwrap_or(here));
        return;
    }
    if exchange.role != Role::Client {
        return;
    }
    let asked = handshake(&call.link).and_then(|tls| tls.server_name.as_deref());
    peer::push_dialled_address(
        out,
        asked,
        (&call.link.peer, connection.remote),
        call.link.dialled.as_deref(),
    );
}

fn push_measures(out: &mut Attributes, exchange: &Exchange) {
    out.text(OUTCOME, exchange.outcome.as_str());
    let answered = exchange.received;
    if let Some(answer) = answered {
        let time = answer.first.since(exchange.sent.first);
        out.float("observer.time_to_first_byte", time.as_secs_f64());
    }
    // The end of a lost exchange was not seen: its sizes would be guesses.
    if exchange.outcome == Outcome::Lost {
        return;
    }
    out.integer(semantic::HTTP_REQUEST_BODY_SIZE, exchange.sent.body_bytes);
    if let Some(answer) = answered {
        out.integer(semantic::HTTP_RESPONSE_BODY_SIZE, answer.body_bytes);
    }
}

fn push_http2(out: &mut Attributes, exchange: &Exchange) {
    if let Some(stream) = exchange.stream {
        out.integer("observer.http2.stream", stream);
    }
    if exchange.pushed {
        out.flag("observer.http2.pushed", true);
    }
    if let Some(code) = exchange.reset {
        out.integer("observer.http2.reset_code", code);
    }
}

fn handshake(link: &Link) -> Option<&Handshake> {
    link.opening.as_deref()?.tls.as_deref()
}

fn push_link(out: &mut Attributes, link: &Link, role: Role) {
    let connection = &link.connection;
    let opening = link.opening.as_deref();
    let proxied = opening.and_then(|opening| opening.proxied.as_deref());
    if role != Role::Client {
        // A PROXY header tells who called before whoever passed the call on.
        let source = proxied.and_then(|proxied| proxied.addresses);
        let client = source.map_or(connection.remote, |(source, _)| source);
        out.made(semantic::CLIENT_ADDRESS, client.ip().to_string());
        out.integer(semantic::CLIENT_PORT, client.port());
    }
    let (local, remote) = connection
        .wire
        .unwrap_or((connection.local, connection.remote));
    out.text(semantic::NETWORK_TRANSPORT, "tcp");
    peer::push_addresses(out, local, remote);
    peer::push(out, &link.peer, role, link.dialled.as_deref());
    if connection.owner.pid > 0 {
        out.integer(semantic::PROCESS_PID, connection.owner.pid);
    }
    out.text("observer.security", link.security.as_str());
    out.made(CONNECTION, format!("{:016x}", connection.id.0));
    if let Some(opening) = opening {
        push_opening(out, opening);
    }
    if let Some(mesh) = link.mesh.as_deref() {
        out.some("observer.mesh.istio.host", mesh.host.as_deref());
        out.some("observer.mesh.istio.subset", mesh.subset.as_deref());
        if let Some(port) = mesh.port {
            out.integer("observer.mesh.istio.port", port);
        }
        let identity = mesh.server_identity.as_deref();
        out.some("observer.mesh.linkerd.server_identity", identity);
    }
}

fn push_opening(out: &mut Attributes, opening: &Opening) {
    if let Some(proxied) = opening.proxied.as_deref() {
        out.some("observer.proxy.authority", proxied.authority.as_deref());
        out.some("observer.proxy.identity", proxied.identity.as_deref());
        if let Some((_, destination)) = proxied.addresses {
            out.made("observer.proxy.destination", destination.to_string());
        }
    }
    let Some(tls) = opening.tls.as_deref() else {
        return;
    };
    if let Some((name, version)) = tls.version.and_then(tls_version) {
        out.text(semantic::TLS_PROTOCOL_NAME, name);
        out.text(semantic::TLS_PROTOCOL_VERSION, version);
    }
    out.flag(semantic::TLS_ESTABLISHED, tls.established);
    out.some(semantic::TLS_NEXT_PROTOCOL, tls.alpn_chosen.as_deref());
    if let Some(resumed) = tls.resumed {
        out.flag(semantic::TLS_RESUMED, resumed);
    }
    for (certificate, key) in [
        (&tls.server_certificate, semantic::TLS_SERVER_SUBJECT),
        (&tls.client_certificate, semantic::TLS_CLIENT_SUBJECT),
    ] {
        if let Some(certificate) = certificate {
            out.text(key, &certificate.subject);
        }
    }
    out.some("observer.tls.server_name", tls.server_name.as_deref());
    out.some("observer.tls.client.ja4", tls.ja4.as_deref());
}

/// `tls.protocol.name` and `tls.protocol.version`.
const fn tls_version(number: u16) -> Option<(&'static str, &'static str)> {
    match number {
        0x0300 => Some(("ssl", "3")),
        0x0301 => Some(("tls", "1.0")),
        0x0302 => Some(("tls", "1.1")),
        0x0303 => Some(("tls", "1.2")),
        0x0304 => Some(("tls", "1.3")),
        _ => None,
    }
}

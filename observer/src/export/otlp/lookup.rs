//! A lookup of DNS as attributes of its span.
//!
//! The semantic conventions have a metric for lookups and no span: its attributes are used here,
//! with `dns.question.type` and `dns.response.code` beside them. The span is named by the type
//! alone, `DNS AAAA`: names that are asked for are without number.

use opentelemetry_semantic_conventions::attribute as semantic;

use super::{attributes::Attributes, call::CONNECTION, call::OUTCOME, peer};
use crate::model::{
    connection::Role,
    lookup::{Resolution, Target, code_name, type_label, type_name},
};

/// Name of the span.
pub(super) fn name(resolution: &Resolution) -> String {
    format!("DNS {}", type_label(resolution.lookup.kind))
}

/// All that is told of `resolution`.
pub(super) fn push(out: &mut Attributes, resolution: &Resolution) {
    let lookup = &resolution.lookup;
    out.text(semantic::DNS_QUESTION_NAME, &lookup.name);
    out.text("dns.question.type", &type_name(lookup.kind));
    out.some("dns.response.code", lookup.code.map(code_name));
    out.texts(
        semantic::DNS_ANSWERS,
        lookup
            .answers
            .iter()
            .filter_map(|answer| match &answer.target {
                Target::Address(address) => Some(address.to_string()),
                Target::Alias(_) => None,
            }),
    );
    out.some(semantic::ERROR_TYPE, lookup.error());
    out.text(OUTCOME, lookup.outcome.as_str());
    if lookup.retries > 0 {
        out.integer("observer.dns.retries", lookup.retries);
    }
    if lookup.role == Role::Client {
        let server = (&resolution.peer, lookup.remote);
        peer::push_dialled_address(out, None, server, resolution.dialled.as_deref());
    } else {
        out.made(semantic::CLIENT_ADDRESS, lookup.remote.ip().to_string());
        out.integer(semantic::CLIENT_PORT, lookup.remote.port());
    }
    out.text(semantic::NETWORK_PROTOCOL_NAME, "dns");
    out.text(semantic::NETWORK_TRANSPORT, lookup.transport.as_str());
    peer::push_addresses(out, lookup.local, lookup.remote);
    let dialled = resolution.dialled.as_deref();
    peer::push(out, &resolution.peer, lookup.role, dialled);
    if lookup.owner.pid > 0 {
        out.integer(semantic::PROCESS_PID, lookup.owner.pid);
    }
    out.made(CONNECTION, format!("{:016x}", lookup.socket.0));
}

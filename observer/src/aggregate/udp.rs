//! Measures of UDP: lookups of DNS, and what passes in datagrams.

use std::{net::SocketAddr, sync::Arc};

use crate::model::{
    connection::Role,
    datagram::{Conversation, DatagramProtocol, Traffic},
    lookup::{LookupOutcome, Resolution, Transport, code_name, type_label},
    time::Monotonic,
    workload::Workload,
};

use super::{
    Aggregator,
    histogram::{Histogram, LOOKUP_SECONDS},
    history::Flow,
    series::{Labels, labels},
};

/// What tells apart the series of lookups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LookupKey {
    service: Box<str>,
    namespace: Box<str>,
    pub(super) role: Role,
    /// The server that was asked, and its name; of those who ask a server neither is told.
    server: Option<SocketAddr>,
    peer: Option<Box<str>>,
    transport: Transport,
    /// Type that was asked for.
    kind: &'static str,
    pub(super) outcome: LookupOutcome,
    code: Option<&'static str>,
    error: Option<&'static str>,
}

/// Measures of lookups that are alike.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    pub(super) count: u64,
    pub(super) retries: u64,
    pub(super) duration: Histogram,
}

/// What tells apart the series of datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DatagramKey {
    service: Box<str>,
    namespace: Box<str>,
    peer: Option<Box<str>>,
    address: Option<SocketAddr>,
    protocol: DatagramProtocol,
}

// === impl LookupKey ===

impl LookupKey {
    fn new(resolution: &Resolution) -> Self {
        let Resolution {
            lookup,
            workload,
            peer,
            ..
        } = resolution;
        let client = lookup.role == Role::Client;
        let (service, namespace) = names(workload);
        Self {
            service,
            namespace,
            role: lookup.role,
            server: client.then_some(lookup.remote),
            peer: peer.name().filter(|_| client).map(Box::from),
            transport: lookup.transport,
            kind: type_label(lookup.kind),
            outcome: lookup.outcome,
            code: lookup.code.map(code_name),
            error: lookup.error(),
        }
    }

    fn labels(&self) -> Labels {
        let (address, port) = text(self.server);
        labels([
            ("service_name", &*self.service),
            ("service_namespace", &*self.namespace),
            ("service_peer_name", self.peer.as_deref().unwrap_or("")),
            ("server_address", address.as_str()),
            ("server_port", port.as_str()),
            ("network_transport", self.transport.as_str()),
            ("dns_question_type", self.kind),
            ("dns_response_code", self.code.unwrap_or_default()),
            ("outcome", self.outcome.as_str()),
            ("error_type", self.error.unwrap_or_default()),
        ])
    }
}

// === impl DatagramKey ===

impl DatagramKey {
    fn new(conversation: &Conversation) -> Self {
        let Conversation {
            datagrams,
            workload,
            peer,
            ..
        } = conversation;
        let (local, remote) = (datagrams.local, datagrams.remote);
        // Of the two ends the one with the lower port is a place, and the other is anybody: a label
        // for everybody who asks a server would have no bound.
        let place = match datagrams.role() {
            Role::Client => true,
            Role::Server => false,
            Role::Unknown => remote.port() <= local.port(),
        };
        let (service, namespace) = names(workload);
        Self {
            service,
            namespace,
            peer: peer.name().filter(|_| place).map(Box::from),
            address: place.then_some(remote),
            protocol: datagrams.protocol,
        }
    }

    fn labels(&self) -> Labels {
        let (address, port) = text(self.address);
        labels([
            ("service_name", &*self.service),
            ("service_namespace", &*self.namespace),
            ("service_peer_name", self.peer.as_deref().unwrap_or("")),
            ("network_peer_address", address.as_str()),
            ("network_peer_port", port.as_str()),
            ("network_protocol_name", self.protocol.as_str()),
        ])
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// Measures a lookup that ended; returns its flow, unless it is left out of the sample.
    pub fn lookup(&mut self, resolution: &Resolution, now: Monotonic) -> Option<&Flow> {
        let key = LookupKey::new(resolution);
        let handle = self
            .lookups
            .resolve(&key, now, || (key.labels(), Lookups::default()));
        if let Some(lookups) = self.lookups.update(handle, now) {
            let lookup = &resolution.lookup;
            lookups.count += 1;
            lookups.retries += u64::from(lookup.retries);
            lookups
                .duration
                .observe_duration(&LOOKUP_SECONDS, lookup.duration());
        }
        self.history.lookup(resolution)
    }

    /// Measures what passed in datagrams; returns a flow when they are over, unless it is left out
    /// of the sample.
    pub fn datagrams(&mut self, conversation: &Conversation, now: Monotonic) -> Option<&Flow> {
        let change = &conversation.datagrams.change;
        if !change.is_empty() {
            let key = DatagramKey::new(conversation);
            let handle = self
                .datagrams
                .resolve(&key, now, || (key.labels(), Traffic::default()));
            if let Some(traffic) = self.datagrams.update(handle, now) {
                traffic.add(change);
            }
        }
        if !conversation.datagrams.ended {
            return None;
        }
        self.history.datagrams(conversation)
    }
}

fn names(workload: &Arc<Workload>) -> (Box<str>, Box<str>) {
    (workload.service.clone(), workload.namespace.clone())
}

/// Address and port as labels.
fn text(address: Option<SocketAddr>) -> (String, String) {
    match address {
        Some(address) => (address.ip().to_string(), address.port().to_string()),
        None => Default::default(),
    }
}

#[cfg(test)]
mod tests;

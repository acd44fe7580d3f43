//! Measures of UDP: lookups of DNS, and what passes in datagrams.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::model::{
    connection::Role,
    datagram::{Conversation, DatagramProtocol, Traffic},
    lookup::{LookupOutcome, Resolution, Transport, code_name, type_label},
    time::Monotonic,
    workload::Peer,
};

use super::{
    Aggregator,
    distribution::Distribution,
    histogram::LOOKUP_SECONDS,
    history::Flow,
    series::{Labels, labels},
    subject::{Labelling, Subject},
};

/// What tells apart the series of lookups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LookupKey {
    subject: Subject,
    pub(super) role: Role,
    /// The server that was asked, and its name; of those who ask a server neither is told.
    server: Place,
    peer: Named,
    transport: Transport,
    /// Type that was asked for.
    kind: &'static str,
    pub(super) outcome: LookupOutcome,
    code: Option<&'static str>,
    error: Option<&'static str>,
}

/// Measures of lookups that are alike.
#[derive(Debug)]
pub(super) struct Lookups {
    pub(super) count: u64,
    pub(super) retries: u64,
    pub(super) duration: Distribution,
}

/// What tells apart the series of datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DatagramKey {
    subject: Subject,
    peer: Named,
    address: Place,
    protocol: DatagramProtocol,
}

/// Name of a peer, and its namespace if it is a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Named {
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
}

/// Address and port of a peer. The address of a pod is none, unless it was a Service's that was
/// dialled: pods come and go with theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Place {
    address: Option<IpAddr>,
    port: Option<u16>,
}

// === impl Lookups ===

impl Lookups {
    /// None yet; durations with exponential buckets or without.
    fn new(exponential: bool) -> Self {
        Self {
            count: 0,
            retries: 0,
            duration: Distribution::new(exponential),
        }
    }
}

// === impl Named ===

impl Named {
    fn new(peer: &Peer) -> Self {
        Self {
            name: peer.name().map(Box::from),
            namespace: peer.pod().map(|pod| pod.service.namespace.clone()),
        }
    }

    fn labels(&self) -> [(&'static str, &str); 2] {
        [
            ("service_peer_name", self.name.as_deref().unwrap_or("")),
            (
                "service_peer_namespace",
                self.namespace.as_deref().unwrap_or(""),
            ),
        ]
    }
}

// === impl Place ===

impl Place {
    fn new(address: SocketAddr, peer: &Peer, is_service: bool) -> Self {
        Self {
            address: (is_service || peer.pod().is_none()).then(|| address.ip()),
            port: Some(address.port()),
        }
    }

    /// As labels.
    fn text(self) -> (String, String) {
        (
            self.address.map(|it| it.to_string()).unwrap_or_default(),
            self.port.map(|it| it.to_string()).unwrap_or_default(),
        )
    }
}

// === impl LookupKey ===

impl LookupKey {
    fn new(resolution: &Resolution, labelling: &Arc<Labelling>) -> Self {
        let Resolution {
            lookup,
            workload,
            peer,
            dialled,
        } = resolution;
        let client = lookup.role == Role::Client;
        let shown = Some(peer).filter(|_| client);
        Self {
            subject: Subject::new(workload, labelling),
            role: lookup.role,
            server: shown
                .map(|peer| Place::new(lookup.remote, peer, dialled.is_some()))
                .unwrap_or_default(),
            peer: shown.map(Named::new).unwrap_or_default(),
            transport: lookup.transport,
            kind: type_label(lookup.kind),
            outcome: lookup.outcome,
            code: lookup.code.map(code_name),
            error: lookup.error(),
        }
    }

    fn labels(&self) -> Labels {
        let (address, port) = self.server.text();
        let more = [
            ("server_address", address.as_str()),
            ("server_port", port.as_str()),
            ("network_transport", self.transport.as_str()),
            ("dns_question_type", self.kind),
            ("dns_response_code", self.code.unwrap_or_default()),
            ("outcome", self.outcome.as_str()),
            ("error_type", self.error.unwrap_or_default()),
        ];
        labels(self.subject.labels().chain(self.peer.labels()).chain(more))
    }
}

// === impl DatagramKey ===

impl DatagramKey {
    fn new(conversation: &Conversation, labelling: &Arc<Labelling>) -> Self {
        let Conversation {
            datagrams,
            workload,
            peer,
            dialled,
        } = conversation;
        let (local, remote) = (datagrams.local, datagrams.remote);
        // Of the two ends the one with the lower port is a place, and the other is anybody: a label
        // for everybody who asks a server would have no bound.
        let place = match datagrams.role() {
            Role::Client => true,
            Role::Server => false,
            Role::Unknown => remote.port() <= local.port(),
        };
        let shown = Some(peer).filter(|_| place);
        Self {
            subject: Subject::new(workload, labelling),
            peer: shown.map(Named::new).unwrap_or_default(),
            address: shown
                .map(|peer| Place::new(remote, peer, dialled.is_some()))
                .unwrap_or_default(),
            protocol: datagrams.protocol,
        }
    }

    fn labels(&self) -> Labels {
        let (address, port) = self.address.text();
        let more = [
            ("network_peer_address", address.as_str()),
            ("network_peer_port", port.as_str()),
            ("network_protocol_name", self.protocol.as_str()),
        ];
        labels(self.subject.labels().chain(self.peer.labels()).chain(more))
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// Measures a lookup that ended; returns its flow, unless it is left out of the sample.
    pub fn lookup(&mut self, resolution: &Resolution, now: Monotonic) -> Option<&Flow> {
        self.see_pod(&resolution.workload, now);
        self.edge_of_lookup(resolution, now);
        let key = LookupKey::new(resolution, &self.identities.labelling);
        let exponential = self.config.histograms.has_native();
        let make = || (key.labels(), Lookups::new(exponential));
        let handle = self.lookups.resolve(&key, now, make);
        if let Some(lookups) = self.lookups.update(handle, now) {
            let lookup = &resolution.lookup;
            lookups.count += 1;
            lookups.retries += u64::from(lookup.retries);
            lookups
                .duration
                .observe_duration(&LOOKUP_SECONDS, lookup.duration(), None, now);
        }
        self.history.lookup(resolution)
    }

    /// Measures what passed in datagrams; returns a flow when they are over, unless it is left out
    /// of the sample.
    pub fn datagrams(&mut self, conversation: &Conversation, now: Monotonic) -> Option<&Flow> {
        let change = &conversation.datagrams.change;
        if !change.is_empty() {
            self.see_pod(&conversation.workload, now);
            self.edge_of_datagrams(conversation, now);
            let key = DatagramKey::new(conversation, &self.identities.labelling);
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

#[cfg(test)]
mod tests;

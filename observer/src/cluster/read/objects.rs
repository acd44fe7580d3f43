//! Services, EndpointSlices, nodes, and the controllers of pods.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use super::{
    ControllerObject, Found, Losses, MAX_NAME, MAX_UID, Options, bounded,
    json::{Many, Part, Text},
    optional, policy, wire,
};
use crate::{
    cluster::object::{Endpoint, EndpointsObject, NodeObject, Object, ServiceObject, ServicePort},
    model::{kubernetes::Owner, policy::ServiceFacts},
};

/// Most addresses of one object of any kind but EndpointSlices.
const MAX_ADDRESSES: usize = 64;
/// Most ports of one object.
const MAX_PORTS: usize = 256;

/// An address as everything here compares them: IPv4 within IPv6 is IPv4.
fn address(text: &str, losses: &mut Losses) -> Option<IpAddr> {
    let parsed = text.parse::<IpAddr>().map(|address| address.to_canonical());
    losses.addresses += u64::from(parsed.is_err());
    parsed.ok()
}

pub(super) fn addresses<'t>(
    texts: impl Iterator<Item = &'t str>,
    losses: &mut Losses,
) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for text in texts {
        if text.is_empty() {
            continue;
        }
        let Some(address) = address(text, losses) else {
            continue;
        };
        if found.contains(&address) {
            continue;
        }
        if found.len() == MAX_ADDRESSES {
            losses.elements += 1;
            continue;
        }
        found.push(address);
    }
    found
}

/// The first address and the length of the prefix of a network.
fn network(text: &str, losses: &mut Losses) -> Option<(IpAddr, u8)> {
    let parsed = text.split_once('/').and_then(|(first, length)| {
        let first = first.parse::<IpAddr>().ok()?;
        let length = length.parse::<u8>().ok()?;
        match first {
            IpAddr::V4(_) if length <= 32 => Some((first, length)),
            IpAddr::V6(_) if length <= 128 => Some(unmapped(first, length)),
            _ => None,
        }
    });
    losses.addresses += u64::from(parsed.is_none());
    parsed
}

/// A network of IPv4 addresses that is written as one of IPv6.
fn unmapped(first: IpAddr, length: u8) -> (IpAddr, u8) {
    const MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
    match (first.to_canonical(), length.checked_sub(96)) {
        (IpAddr::V4(short), Some(length)) if first >= IpAddr::V6(MAPPED) => {
            (IpAddr::V4(short), length)
        }
        _ => (first, length),
    }
}

/// A name of DNS: lower case, without a dot at its end.
fn host(text: &Text<'_>, losses: &mut Losses) -> Box<str> {
    let name = optional(text, MAX_NAME + 1, losses);
    name.trim_end_matches('.').to_ascii_lowercase().into()
}

/// IP protocol number by its name in the API; 0 for one that is not known.
fn protocol(name: &str) -> u8 {
    match name {
        "TCP" | "" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        _ => 0,
    }
}

fn ports<'t, T>(
    ports: &'t Many<Part<wire::Port<'_>>>,
    losses: &mut Losses,
    make: impl Fn(u8, &wire::Port<'_>) -> T + 't,
) -> Vec<T> {
    let known = ports.elements.iter().map(|port| &port.0);
    let known = known.filter(|port| port.port.0 != 0 && protocol(port.protocol.as_str()) != 0);
    let found: Vec<T> = known
        .take(MAX_PORTS)
        .map(|port| make(protocol(port.protocol.as_str()), port))
        .collect();
    losses.elements += ports.cut + (ports.elements.len().saturating_sub(MAX_PORTS)) as u64;
    found
}

/// An object that is kept.
fn kept(object: Object) -> Found {
    Found::Object(Box::new(object))
}

pub(super) fn service(
    object: &wire::Service<'_>,
    options: &Options,
    losses: &mut Losses,
) -> Option<Found> {
    let (metadata, spec) = (&object.metadata.0, &object.spec.0);
    let uid = bounded(&metadata.uid, MAX_UID)?;
    let namespace = bounded(&metadata.namespace, MAX_NAME)?;
    let name = bounded(&metadata.name, MAX_NAME)?;
    let mut texts: Vec<&str> = spec.cluster_ips.elements.iter().map(Text::as_str).collect();
    if texts.is_empty() {
        texts.push(spec.cluster_ip.as_str());
    }
    let headless = texts.contains(&"None");
    texts.retain(|text| *text != "None");
    let ingress = &object.status.0.load_balancer.0.ingress;
    losses.elements += spec.cluster_ips.cut + spec.external_ips.cut + ingress.cut;
    let mut balancer_names = Vec::new();
    for entry in ingress.elements.iter().take(MAX_ADDRESSES) {
        let name = host(&entry.0.hostname, losses);
        if !name.is_empty() {
            balancer_names.push(name);
        }
    }
    let external_name = match spec.kind.as_str() {
        "ExternalName" => host(&spec.external_name, losses),
        _ => Box::default(),
    };
    let facts = if options.traits {
        Arc::new(ServiceFacts {
            uid: uid.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            headless,
            external_name: external_name.clone(),
            ..policy::facts(object, losses)
        })
    } else {
        Arc::default()
    };
    Some(kept(Object::Service(ServiceObject {
        uid,
        namespace,
        name,
        cluster_ips: addresses(texts.into_iter(), losses),
        external_ips: addresses(spec.external_ips.elements.iter().map(Text::as_str), losses),
        balancer_ips: addresses(
            ingress.elements.iter().map(|entry| entry.0.ip.as_str()),
            losses,
        ),
        balancer_names,
        external_name,
        headless,
        ports: ports(&spec.ports, losses, |protocol, port| ServicePort {
            protocol,
            port: port.port.0,
            node_port: port.node_port.0,
        }),
        facts,
    })))
}

pub(super) fn endpoints(object: &wire::EndpointSlice<'_>, losses: &mut Losses) -> Option<Found> {
    let metadata = &object.metadata.0;
    let uid = bounded(&metadata.uid, MAX_UID)?;
    let namespace = bounded(&metadata.namespace, MAX_NAME)?;
    let service = metadata.labels.get("kubernetes.io/service-name");
    let service = service.and_then(|name| bounded(&Text(name.into()), MAX_NAME));
    let Some(service) = service else {
        return Some(Found::Unwanted(uid));
    };
    if object.address_type.as_str() == "FQDN" {
        return Some(Found::Unwanted(uid));
    }
    losses.elements += object.endpoints.cut;
    let mut endpoints = Vec::with_capacity(object.endpoints.elements.len());
    for endpoint in &object.endpoints.elements {
        let target = &endpoint.0.target_ref.0;
        let pod_uid = match target.kind.as_str() {
            "Pod" => optional(&target.uid, MAX_UID, losses),
            _ => Box::default(),
        };
        // Only the first address may be used: what more than one means was never defined.
        let first = endpoint.0.addresses.elements.first();
        if let Some(address) = first.and_then(|text| address(text.as_str(), losses)) {
            endpoints.push(Endpoint { address, pod_uid });
        }
    }
    Some(kept(Object::Endpoints(EndpointsObject {
        uid,
        namespace,
        service,
        ports: ports(&object.ports, losses, |protocol, port| {
            (protocol, port.port.0)
        }),
        endpoints,
    })))
}

pub(super) fn node(object: &wire::Node<'_>, losses: &mut Losses) -> Option<Found> {
    let (metadata, spec) = (&object.metadata.0, &object.spec.0);
    let uid = bounded(&metadata.uid, MAX_UID)?;
    let name = bounded(&metadata.name, MAX_NAME)?;
    let listed = &object.status.0.addresses;
    let texts = listed
        .elements
        .iter()
        .filter(|entry| matches!(entry.0.kind.as_str(), "InternalIP" | "ExternalIP"));
    let mut networks: Vec<&str> = spec.pod_cidrs.elements.iter().map(Text::as_str).collect();
    if networks.is_empty() && !spec.pod_cidr.as_str().is_empty() {
        networks.push(spec.pod_cidr.as_str());
    }
    let mut label = |name| {
        let value = metadata.labels.get(name).unwrap_or_default();
        optional(&Text(value.into()), MAX_NAME, losses)
    };
    let zone = label("topology.kubernetes.io/zone");
    let region = label("topology.kubernetes.io/region");
    Some(kept(Object::Node(NodeObject {
        uid,
        name,
        addresses: addresses(texts.map(|entry| entry.0.address.as_str()), losses),
        pod_networks: networks
            .into_iter()
            .take(MAX_ADDRESSES)
            .filter_map(|text| network(text, losses))
            .collect(),
        zone,
        region,
    })))
}

pub(super) fn controller(object: &wire::Bare<'_>) -> Option<Found> {
    let metadata = &object.metadata.0;
    let uid = bounded(&metadata.uid, MAX_UID)?;
    let above = metadata.owner_references.elements.iter();
    let above = above
        .map(|reference| &reference.0)
        .find(|reference| reference.controller.0);
    let controller = above.and_then(|reference| {
        let owner = Owner {
            kind: bounded(&reference.kind, MAX_NAME)?,
            name: bounded(&reference.name, MAX_NAME)?,
        };
        Some((owner, bounded(&reference.uid, MAX_UID).unwrap_or_default()))
    });
    Some(Found::Controller(ControllerObject { uid, controller }))
}

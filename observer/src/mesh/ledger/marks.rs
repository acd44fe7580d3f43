//! What pods say of themselves about their place in a mesh: ports that are kept from the proxy,
//! whether they are declared to be in it, and ports that are the mesh's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    mesh::policy::Context,
    model::{kubernetes::Pod, mesh::Plane, policy::Traits},
};

/// Ports at which proxies take what other proxies, or clients without one, send. Which port was
/// meant is not to be seen from outside.
const TUNNELS: [u16; 3] = [15_006, 15_008, 4_143];
/// Ports at which proxies take what their own application sends.
const OUTBOUND: [u16; 2] = [15_001, 4_140];
/// Where probes of the node's agent come from in Istio's ambient mode.
const PROBE: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 7, 127));
/// Where Istio's sidecar calls its application from, beside 127.0.0.6.
const PASSTHROUGH: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));
/// Containers that are proxies.
const PROXIES: [&str; 2] = ["istio-proxy", "linkerd-proxy"];

/// Whether a port is the mesh's own: control, health and metrics of its proxies.
pub(super) const fn is_meta(port: u16) -> bool {
    matches!(port, 15_000..=15_021 | 15_053 | 15_090 | 4_190 | 4_191)
}

/// Whether a proxy takes at this port what is meant for another.
pub(super) fn is_tunnel(port: u16) -> bool {
    TUNNELS.contains(&port)
}

/// Whether a proxy takes at this port what its own application sends.
pub(super) fn is_outbound(port: u16) -> bool {
    OUTBOUND.contains(&port)
}

/// Whether nothing of a mesh is between such an address and a pod.
pub(super) fn is_inner(address: IpAddr) -> bool {
    address.is_loopback() || address == PROBE || address == PASSTHROUGH
}

/// Whether a container of a pod is the application's, and runs as long as the pod does.
pub(super) fn is_application(pod: &Pod, container: &str) -> bool {
    // Those that run before the pod is ready are before its proxy, too.
    let lasting = container.is_empty()
        || pod.traits.containers.is_empty()
        || pod.traits.has_container(container);
    lasting && !PROXIES.contains(&container)
}

/// Whether a pod is a proxy in its own right: a gateway or a waypoint.
pub(super) fn is_gateway(pod: &Pod) -> bool {
    let traits = &pod.traits;
    traits
        .label("gateway.networking.k8s.io/gateway-name")
        .is_some()
        || traits
            .label("istio")
            .is_some_and(|name| name.ends_with("gateway"))
        || matches!(&*traits.containers, [only] if PROXIES.contains(&&**only))
}

/// Why a pod's own annotations keep a port from its proxy on the way in, if they do.
pub(super) fn excluded_inbound(traits: &Traits, plane: Plane, port: u16) -> Option<&'static str> {
    match plane {
        Plane::IstioSidecar => {
            const EXCLUDED: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
            const INCLUDED: &str = "traffic.sidecar.istio.io/includeInboundPorts";
            if lists(traits, EXCLUDED, port) {
                return Some(EXCLUDED);
            }
            let included = traits.annotation(INCLUDED)?;
            (included != "*" && !lists(traits, INCLUDED, port)).then_some(INCLUDED)
        }
        Plane::Linkerd => {
            const SKIPPED: &str = "config.linkerd.io/skip-inbound-ports";
            lists(traits, SKIPPED, port).then_some(SKIPPED)
        }
        Plane::IstioAmbient => {
            const BYPASS: &str = "ambient.istio.io/bypass-inbound-capture";
            (traits.annotation(BYPASS) == Some("true")).then_some(BYPASS)
        }
        Plane::None => None,
    }
}

/// Why a pod's own annotations keep a destination from its proxy on the way out, if they do. `ports`
/// are that of the pod, and that which was dialled.
pub(super) fn excluded_outbound(
    traits: &Traits,
    plane: Plane,
    ports: [u16; 2],
    address: Option<IpAddr>,
) -> Option<&'static str> {
    let listed = |name| {
        ports
            .into_iter()
            .any(|port| port != 0 && lists(traits, name, port))
    };
    let within = |name| {
        traits
            .annotation(name)
            .zip(address)
            .is_some_and(|(ranges, address)| {
                ranges.split(',').any(|range| contains(range.trim(), address))
            })
    };
    match plane {
        Plane::IstioSidecar => {
            const PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
            const RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
            const ONLY: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
            if listed(PORTS) {
                return Some(PORTS);
            }
            if within(RANGES) {
                return Some(RANGES);
            }
            let only = traits.annotation(ONLY)?;
            // What was dialled may be within, where the address is that of the pod behind it.
            (only != "*").then_some(ONLY)
        }
        Plane::Linkerd => {
            const PORTS: &str = "config.linkerd.io/skip-outbound-ports";
            const RANGES: &str = "config.linkerd.io/skip-subnets";
            if listed(PORTS) {
                return Some(PORTS);
            }
            within(RANGES).then_some(RANGES)
        }
        Plane::IstioAmbient | Plane::None => None,
    }
}

/// What declares a pod to be in a mesh, where it has not opted out: in words.
pub(super) fn declared_in_mesh(context: &Context, pod: &Pod) -> Option<String> {
    let traits = &pod.traits;
    if traits.host_network || is_gateway(pod) {
        return None;
    }
    let label = |name| traits.label(name);
    let of_namespace = |name| context.namespace_label(&pod.namespace, name);

    // Ambient: the pod's label decides before that of its namespace.
    const MODE: &str = "istio.io/dataplane-mode";
    match label(MODE).or_else(|| of_namespace(MODE)) {
        Some("ambient") => {
            let pending = traits.annotation("ambient.istio.io/redirection") == Some("pending");
            return (!pending).then(|| format!("label {MODE}=ambient"));
        }
        Some("none") => return None,
        _ => {}
    }

    const INJECT: &str = "sidecar.istio.io/inject";
    let inject = label(INJECT).or_else(|| traits.annotation(INJECT));
    match (inject, of_namespace("istio-injection")) {
        (Some("true"), _) => return Some(format!("label {INJECT}=true")),
        (Some("false"), _) | (_, Some("disabled")) => {}
        (_, Some("enabled")) => {
            return Some(format!("label istio-injection=enabled of namespace {}", pod.namespace));
        }
        _ => {
            const REVISION: &str = "istio.io/rev";
            if let Some(revision) = label(REVISION).or_else(|| of_namespace(REVISION)) {
                return Some(format!("label {REVISION}={revision}"));
            }
        }
    }

    const LINKERD: &str = "linkerd.io/inject";
    let of_namespace = context.namespace_annotation(&pod.namespace, LINKERD);
    match traits.annotation(LINKERD).or(of_namespace) {
        Some(value @ ("enabled" | "ingress")) => Some(format!("annotation {LINKERD}={value}")),
        _ => None,
    }
}

/// Which proxies carry the traffic of a pod, where there are two; in words.
pub(super) fn conflict(pod: &Pod) -> Option<&'static str> {
    let traits = &pod.traits;
    if is_gateway(pod) {
        return None;
    }
    let ambient = traits.annotation("ambient.istio.io/redirection") == Some("enabled");
    // A container by this name may be a proxy of another's; the injector leaves its mark.
    let sidecar = traits.has_container("istio-proxy")
        && traits.annotation("sidecar.istio.io/status").is_some();
    let linkerd = traits.has_container("linkerd-proxy");
    match (sidecar, ambient, linkerd) {
        (true, true, _) => Some("a sidecar of Istio, and the redirection of its ambient mode"),
        (true, _, true) => Some("a sidecar of Istio, and one of Linkerd"),
        (_, true, true) => Some("the redirection of Istio's ambient mode, and a sidecar of Linkerd"),
        _ => None,
    }
}

/// Whether a list of ports and ranges of ports, `25,587,1000-2000`, or `*`, has this one.
fn lists(traits: &Traits, annotation: &str, port: u16) -> bool {
    let Some(list) = traits.annotation(annotation) else {
        return false;
    };
    port != 0
        && list.split(',').map(str::trim).any(|item| {
            item == "*"
                || item.parse() == Ok(port)
                || item.split_once('-').is_some_and(|(low, high)| {
                    let bounds = low.trim().parse::<u16>().ok().zip(high.trim().parse().ok());
                    bounds.is_some_and(|(low, high)| (low..=high).contains(&port))
                })
        })
}

/// Whether a network, `10.0.0.0/8`, or an address, contains this one.
fn contains(network: &str, address: IpAddr) -> bool {
    if network == "*" {
        return true;
    }
    let (base, length) = match network.split_once('/') {
        Some((base, length)) => (base, length.parse::<u32>().ok()),
        None => (network, Some(128)),
    };
    let (Ok(base), Some(length)) = (base.parse::<IpAddr>(), length) else {
        return false;
    };
    let same = |one: u128, other: u128, bits: u32| {
        let length = length.min(bits);
        length == 0 || (one ^ other) >> (bits - length) == 0
    };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            same(base.to_bits().into(), address.to_bits().into(), 32)
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => same(base.to_bits(), address.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(name: &str, value: &str) -> Traits {
        Traits {
            annotations: [(name.into(), value.into())].into(),
            ..Traits::default()
        }
    }

    #[test]
    fn ports_are_excluded_by_number_range_and_star() {
        for (list, port, expected) in [
            ("8080", 8080, true),
            (" 25, 8080 ", 8080, true),
            ("8000-9000", 8080, true),
            ("*", 8080, true),
            ("80", 8080, false),
            ("8081-9000", 8080, false),
            ("", 8080, false),
            ("x,-,1-", 1, false),
            ("*", 0, false),
        ] {
            let traits = annotated("traffic.sidecar.istio.io/excludeInboundPorts", list);
            let excluded = excluded_inbound(&traits, Plane::IstioSidecar, port).is_some();
            assert_eq!(excluded, expected, "{list} {port}");
            assert_eq!(excluded_inbound(&traits, Plane::Linkerd, port), None);
        }
    }

    #[test]
    fn networks_are_excluded() {
        let address: IpAddr = "10.1.2.3".parse().expect("an address");
        for (ranges, expected) in [
            ("10.0.0.0/8", true),
            ("192.168.0.0/16, 10.1.2.0/24", true),
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("0.0.0.0/0", true),
            ("fd00::/8", false),
            ("10.0.0.0/x", false),
        ] {
            let traits = annotated("config.linkerd.io/skip-subnets", ranges);
            let excluded = excluded_outbound(&traits, Plane::Linkerd, [80, 0], Some(address));
            assert_eq!(excluded.is_some(), expected, "{ranges}");
        }
    }
}

//! What pods say of themselves about their place in a mesh: ports that are kept from the proxy,
//! whether they are declared to be in it, and ports that are the mesh's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    mesh::{block::Block, decision::Reason, policy::Policies},
    model::{kubernetes::Pod, mesh::Plane, policy::Traits},
};

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

/// Whether a pod's own annotations keep a port from its proxy on the way in.
pub(super) fn is_excluded_inbound(policies: &Policies, pod: &Pod, plane: Plane, port: u16) -> bool {
    // Which port it is may not be known: then it may be one that they name.
    let names = |annotation| port == 0 && pod.traits.annotation(annotation).is_some();
    match plane {
        Plane::IstioSidecar
            if names("traffic.sidecar.istio.io/excludeInboundPorts")
                || names("traffic.sidecar.istio.io/includeInboundPorts") =>
        {
            true
        }
        Plane::IstioSidecar | Plane::IstioAmbient => {
            !policies.istio().captures_inbound(pod, port).value
        }
        Plane::Linkerd => {
            const SKIP: &str = "config.linkerd.io/skip-inbound-ports";
            names(SKIP) || lists(&pod.traits, SKIP, port)
        }
        Plane::None => false,
    }
}

/// Whether a pod's own annotations keep a destination from its proxy on the way out. `ports` are that
/// of the pod, and that which was dialled; `address` is that of the pod.
pub(super) fn is_excluded_outbound(
    policies: &Policies,
    pod: &Pod,
    plane: Plane,
    ports: [u16; 2],
    address: Option<IpAddr>,
) -> bool {
    let traits = &pod.traits;
    let mut ports = ports.into_iter().filter(|port| *port != 0);
    match plane {
        Plane::IstioSidecar => {
            // What was dialled may be within a range, where the address is that of the pod behind.
            const ONLY: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
            let only = traits.annotation(ONLY).is_some_and(|ranges| ranges != "*");
            let istio = policies.istio();
            only || ports.any(|port| !istio.captures_outbound(pod, address, port).value)
        }
        Plane::Linkerd => {
            let within = |ranges: &str| {
                let mut blocks = ranges
                    .split(',')
                    .filter_map(|range| Block::parse(range.trim()));
                address.is_some_and(|address| blocks.any(|block| block.contains(address)))
            };
            ports.any(|port| lists(traits, "config.linkerd.io/skip-outbound-ports", port))
                || traits
                    .annotation("config.linkerd.io/skip-subnets")
                    .is_some_and(within)
        }
        Plane::IstioAmbient | Plane::None => false,
    }
}

/// What declares a pod to be in a mesh, where it has not opted out.
pub(super) fn declared_in_mesh(policies: &Policies, pod: &Pod) -> Option<Vec<Reason>> {
    if pod.traits.host_network || is_gateway(pod) || policies.istio().is_pending(pod) {
        return None;
    }
    let istio = policies.istio().declared_plane(policies.context(), pod);
    if istio.value != Plane::None {
        return Some(istio.because);
    }
    const INJECT: &str = "linkerd.io/inject";
    let of_namespace = policies
        .context()
        .namespace_annotation(&pod.namespace, INJECT);
    match pod.traits.annotation(INJECT).or(of_namespace) {
        Some(value @ ("enabled" | "ingress")) => {
            Some(vec![Reason::plain(format!("annotation {INJECT}={value}"))])
        }
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
        (_, true, true) => {
            Some("the redirection of Istio's ambient mode, and a sidecar of Linkerd")
        }
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
            let traits = annotated("config.linkerd.io/skip-inbound-ports", list);
            let listed = lists(&traits, "config.linkerd.io/skip-inbound-ports", port);
            assert_eq!(listed, expected, "{list} {port}");
        }
    }
}

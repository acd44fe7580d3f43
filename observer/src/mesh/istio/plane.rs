//! Whether a pod is in the mesh, whether it was meant to be, and which of its ports its proxy leaves
//! alone.

use std::{borrow::Cow, net::IpAddr};

use super::Istio;
use crate::{
    mesh::{
        block::Block,
        decision::{Decision, Reason},
        policy::Context,
    },
    model::{kubernetes::Pod, mesh::Plane, policy::ObjectRef},
};

/// Container of Istio's proxies.
const PROXY: &str = "istio-proxy";
/// Annotation of pods that the node's proxy captured: `enabled`, or `pending`.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// Label of namespaces and pods that ask for ambient mode.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// Label, in the past annotation, of pods that ask for a sidecar or want none.
const INJECT: &str = "sidecar.istio.io/inject";
/// Label of namespaces that ask for sidecars or want none.
const INJECTION: &str = "istio-injection";
/// Label of namespaces and pods that ask for sidecars of a revision.
const REVISION: &str = "istio.io/rev";
/// Label of the pods of gateways and waypoints.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";
/// Label of pods that take mutual TLS.
pub(super) const TLS_MODE: &str = "security.istio.io/tlsMode";
/// Label of pods that take HBONE themselves.
pub(super) const TUNNEL: &str = "networking.istio.io/tunnel";
/// Ports of the proxy itself, which it never captures.
const OWN_PORTS: [u16; 3] = [15020, 15021, 15090];

/// Whether a sidecar is in a pod, or the pod is a gateway's.
pub(super) fn has_sidecar(pod: &Pod) -> bool {
    let traits = &pod.traits;
    // The node's proxy runs in a container of the same name.
    if traits.label("app") == Some("ztunnel") {
        return false;
    }
    traits.has_container(PROXY)
        || traits.annotation("sidecar.istio.io/status").is_some()
        || traits.label(TLS_MODE) == Some("istio")
}

/// Whether the node's proxy captured a pod.
pub(super) fn is_redirected(pod: &Pod) -> bool {
    pod.traits.annotation(REDIRECTION) == Some("enabled")
}

/// Who carries the traffic of a pod. Of a pod with a sidecar that is captured too, the sidecar: it
/// is next to the application.
pub(super) fn plane(pod: &Pod) -> Plane {
    if has_sidecar(pod) {
        Plane::IstioSidecar
    } else if is_redirected(pod) {
        Plane::IstioAmbient
    } else {
        Plane::None
    }
}

/// Name of the gateway or waypoint that a pod runs.
pub fn gateway_of(pod: &Pod) -> Option<&str> {
    pod.traits.label(GATEWAY)
}

/// Ports in a list such as `80, 8080`; `*` stands for all.
fn lists(list: &str, port: u16) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|item| item == "*" || item.parse() == Ok(port))
}

/// Whether an address is in one of the networks of a list such as `10.0.0.0/8,192.168.0.1`.
fn networks_list(list: &str, address: IpAddr) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|item| item == "*" || contains(item, address))
}

/// Whether a network, `10.0.0.0/8`, or address has an address; what is neither has none.
pub(super) fn contains(network: &str, address: IpAddr) -> bool {
    Block::parse(network.trim()).is_some_and(|block| block.contains(address))
}

// === impl Istio ===

impl Istio {
    /// Who carries the traffic of a pod that is not Linkerd's: what is so, not what is meant.
    pub fn plane(&self, pod: &Pod) -> Plane {
        plane(pod)
    }

    /// Whether the node's proxy is about to capture a pod, and has not yet.
    pub fn is_pending(&self, pod: &Pod) -> bool {
        pod.traits.annotation(REDIRECTION) == Some("pending")
    }

    /// Who is meant to carry the traffic of a pod, by the labels of its namespace and its own.
    /// [`Self::plane`] says who does; a pod that is older than the label is not captured.
    pub fn declared_plane(&self, context: &Context, pod: &Pod) -> Decision<Plane> {
        let none = |text: &'static str| Decision::by(Plane::None, Reason::plain(text));
        if pod.traits.host_network {
            return none("the pod is on the network of its node");
        }
        if gateway_of(pod).is_some() {
            return none("the pod is a gateway's: it is a proxy itself");
        }
        if !self.mesh_config().discovers(context, &pod.namespace) {
            return Decision::by(
                Plane::None,
                self.mesh_config()
                    .reason("discoverySelectors leave out its namespace"),
            );
        }
        let sidecar = sidecar_declared(context, pod);
        if sidecar.value {
            return Decision {
                value: Plane::IstioSidecar,
                because: sidecar.because,
            };
        }
        let ambient = ambient_declared(context, pod);
        if ambient.value {
            return Decision {
                value: Plane::IstioAmbient,
                because: ambient.because,
            };
        }
        let mut because = sidecar.because;
        because.extend(ambient.because);
        Decision {
            value: Plane::None,
            because,
        }
    }

    /// What of a pod's place in meshes contradicts itself, each with why; empty when nothing does.
    pub fn conflicts(&self, context: &Context, pod: &Pod) -> Vec<Reason> {
        let mut found = Vec::new();
        let namespace = &*pod.namespace;
        let sidecar = has_sidecar(pod);
        if sidecar && is_redirected(pod) {
            found.push(Reason::plain(
                "the pod has a sidecar, and the proxy of its node captures it too",
            ));
        } else if sidecar
            && pod.traits.label(DATAPLANE_MODE) != Some("none")
            && context.namespace_label(namespace, DATAPLANE_MODE) == Some("ambient")
        {
            found.push(of_namespace(
                context,
                namespace,
                "the namespace is in ambient mode, and the pod has a sidecar",
            ));
        }
        if plane(pod) != Plane::None && pod.traits.has_container("linkerd-proxy") {
            found.push(Reason::plain("the pod has proxies of two meshes"));
        }
        let injection = context.namespace_label(namespace, INJECTION);
        if injection.is_some() && context.namespace_label(namespace, REVISION).is_some() {
            found.push(of_namespace(
                context,
                namespace,
                "istio-injection goes before istio.io/rev, which is ignored",
            ));
        }
        if injection == Some("enabled")
            && context.namespace_label(namespace, DATAPLANE_MODE) == Some("ambient")
        {
            found.push(of_namespace(
                context,
                namespace,
                "the namespace asks for sidecars and for ambient mode",
            ));
        }
        found
    }

    /// Whether the proxy of a pod takes what comes to one of its ports: annotations can leave it out.
    pub fn captures_inbound(&self, pod: &Pod, port: u16) -> Decision<bool> {
        let say = |value, text: Cow<'static, str>| Decision::by(value, Reason::plain(text));
        match plane(pod) {
            Plane::IstioSidecar => {
                const EXCLUDE: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
                const INCLUDE: &str = "traffic.sidecar.istio.io/includeInboundPorts";
                let exclude = pod.traits.annotation(EXCLUDE);
                if exclude.is_some_and(|list| lists(list, port)) {
                    return say(
                        false,
                        format!("annotation {EXCLUDE} has port {port}").into(),
                    );
                }
                let include = pod.traits.annotation(INCLUDE);
                if include.is_some_and(|list| !lists(list, port)) {
                    return say(
                        false,
                        format!("annotation {INCLUDE} has not port {port}").into(),
                    );
                }
                if OWN_PORTS.contains(&port) {
                    return say(false, "the port is the proxy's own".into());
                }
                say(
                    true,
                    "the sidecar takes all ports but those excluded".into(),
                )
            }
            Plane::IstioAmbient => {
                const BYPASS: &str = "ambient.istio.io/bypass-inbound-capture";
                if pod.traits.annotation(BYPASS) == Some("true") {
                    return say(false, format!("annotation {BYPASS}").into());
                }
                say(true, "the proxy of its node takes all ports".into())
            }
            Plane::None | Plane::Linkerd => say(false, "the pod has no proxy of Istio".into()),
        }
    }

    /// Whether the proxy of a pod takes its connections to an address and port: annotations can
    /// leave them out. Without an address only the port is judged.
    pub fn captures_outbound(
        &self,
        pod: &Pod,
        address: Option<IpAddr>,
        port: u16,
    ) -> Decision<bool> {
        let say = |value, text: Cow<'static, str>| Decision::by(value, Reason::plain(text));
        match plane(pod) {
            Plane::IstioSidecar => {
                const PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
                const RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
                const INCLUDE_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
                const INCLUDE_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
                let annotation = |name| pod.traits.annotation(name);
                if annotation(PORTS).is_some_and(|list| lists(list, port)) {
                    return say(false, format!("annotation {PORTS} has port {port}").into());
                }
                let excludes = |address: &IpAddr| {
                    annotation(RANGES).is_some_and(|list| networks_list(list, *address))
                };
                if let Some(address) = address.filter(excludes) {
                    return say(false, format!("annotation {RANGES} has {address}").into());
                }
                // Ports that are included are taken to any address.
                if annotation(INCLUDE_PORTS).is_some_and(|list| lists(list, port)) {
                    return say(true, format!("annotation {INCLUDE_PORTS}").into());
                }
                let leaves_out = |address: &IpAddr| {
                    annotation(INCLUDE_RANGES).is_some_and(|list| !networks_list(list, *address))
                };
                if let Some(address) = address.filter(leaves_out) {
                    return say(
                        false,
                        format!("annotation {INCLUDE_RANGES} has not {address}").into(),
                    );
                }
                say(true, "the sidecar takes all but what is excluded".into())
            }
            Plane::IstioAmbient => say(true, "the proxy of its node takes everything".into()),
            Plane::None | Plane::Linkerd => say(false, "the pod has no proxy of Istio".into()),
        }
    }
}

/// A reason that a label of a namespace gives.
pub(super) fn of_namespace(
    context: &Context,
    namespace: &str,
    text: impl Into<Cow<'static, str>>,
) -> Reason {
    let known = context.namespaces.get(namespace);
    Reason::of(
        known.map_or_else(
            || ObjectRef {
                kind: "Namespace".into(),
                name: namespace.into(),
                ..ObjectRef::default()
            },
            |namespace| namespace.reference(),
        ),
        text,
    )
}

/// Namespaces whose pods never get a sidecar.
const NEVER_INJECTED: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// By the rules of the webhook that injects.
fn sidecar_declared(context: &Context, pod: &Pod) -> Decision<bool> {
    let namespace = &*pod.namespace;
    if NEVER_INJECTED.contains(&namespace) {
        let text = "pods of the namespace never get a sidecar";
        return Decision::by(false, of_namespace(context, namespace, text));
    }
    let own = pod.traits.label(INJECT).or(pod.traits.annotation(INJECT));
    match (own, context.namespace_label(namespace, INJECTION)) {
        (Some("false"), _) => {
            Decision::by(false, Reason::plain(format!("the pod has {INJECT}: false")))
        }
        (_, Some("disabled")) => Decision::by(
            false,
            of_namespace(context, namespace, format!("label {INJECTION}: disabled")),
        ),
        (_, Some("enabled")) => Decision::by(
            true,
            of_namespace(context, namespace, format!("label {INJECTION}: enabled")),
        ),
        // Any other value is none.
        (own, _) => {
            if own == Some("true") {
                return Decision::by(true, Reason::plain(format!("the pod has {INJECT}: true")));
            }
            if let Some(revision) = pod.traits.label(REVISION)
                && pod.traits.label(DATAPLANE_MODE).is_none()
            {
                let text = format!("the pod has {REVISION}: {revision}");
                return Decision::by(true, Reason::plain(text));
            }
            match context.namespace_label(namespace, REVISION) {
                // In ambient mode it only tells whose the namespace is.
                Some(revision)
                    if context.namespace_label(namespace, DATAPLANE_MODE) != Some("ambient") =>
                {
                    let text = format!("label {REVISION}: {revision}");
                    Decision::by(true, of_namespace(context, namespace, text))
                }
                _ => Decision {
                    value: false,
                    because: Vec::new(),
                },
            }
        }
    }
}

fn ambient_declared(context: &Context, pod: &Pod) -> Decision<bool> {
    let namespace = &*pod.namespace;
    match (
        pod.traits.label(DATAPLANE_MODE),
        context.namespace_label(namespace, DATAPLANE_MODE),
    ) {
        (Some(own), _) => Decision::by(
            own == "ambient",
            Reason::plain(format!("the pod has {DATAPLANE_MODE}: {own}")),
        ),
        (None, Some(mode)) => Decision::by(
            mode == "ambient",
            of_namespace(
                context,
                namespace,
                format!("label {DATAPLANE_MODE}: {mode}"),
            ),
        ),
        (None, None) => Decision::by(
            false,
            Reason::plain("neither the pod nor its namespace asks for it"),
        ),
    }
}

#[cfg(test)]
mod tests;

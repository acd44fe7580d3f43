//! Places of pods in the mesh, in cases.

use std::sync::Arc;

use super::*;
use crate::mesh::{
    istio::tests::{ambient, annotated, mesh, namespace, plain, sidecar},
    policy::Policies,
};

#[test]
fn what_is_so_is_told_by_the_pod_alone() {
    let ztunnel = {
        let mut pod = plain("istio-system", &[("app", "ztunnel")]);
        Arc::make_mut(&mut pod.traits).containers = Box::new(["istio-proxy".into()]);
        pod
    };
    let status = annotated(plain("shop", &[]), &[("sidecar.istio.io/status", "{}")]);
    let pending = annotated(plain("shop", &[]), &[(REDIRECTION, "pending")]);
    let both = annotated(sidecar("shop", &[]), &[(REDIRECTION, "enabled")]);
    for (pod, expected) in [
        (plain("shop", &[]), Plane::None),
        (sidecar("shop", &[]), Plane::IstioSidecar),
        (status, Plane::IstioSidecar),
        (plain("shop", &[(TLS_MODE, "istio")]), Plane::IstioSidecar),
        (plain("shop", &[(TLS_MODE, "disabled")]), Plane::None),
        (ambient("shop", &[]), Plane::IstioAmbient),
        (pending.clone(), Plane::None),
        (both, Plane::IstioSidecar),
        (ztunnel, Plane::None),
    ] {
        assert_eq!(plane(&pod), expected, "{pod:?}");
    }
    assert!(Istio::default().is_pending(&pending));
}

#[test]
fn what_is_meant_is_told_by_labels() {
    let mut policies = Policies::default();
    for (name, labels) in [
        ("injected", &[("istio-injection", "enabled")][..]),
        ("disabled", &[("istio-injection", "disabled")]),
        ("revision", &[("istio.io/rev", "canary")]),
        ("ambient", &[("istio.io/dataplane-mode", "ambient")]),
        (
            "revised",
            &[
                ("istio.io/dataplane-mode", "ambient"),
                ("istio.io/rev", "canary"),
            ],
        ),
        ("kube-system", &[("istio-injection", "enabled")]),
        ("plain", &[]),
    ] {
        namespace(&mut policies, name, labels);
    }
    for (name, labels, expected) in [
        ("injected", &[][..], Plane::IstioSidecar),
        (
            "injected",
            &[("sidecar.istio.io/inject", "false")],
            Plane::None,
        ),
        (
            "disabled",
            &[("sidecar.istio.io/inject", "true")],
            Plane::None,
        ),
        ("revision", &[], Plane::IstioSidecar),
        ("plain", &[], Plane::None),
        (
            "plain",
            &[("sidecar.istio.io/inject", "true")],
            Plane::IstioSidecar,
        ),
        ("plain", &[("istio.io/rev", "canary")], Plane::IstioSidecar),
        (
            "plain",
            &[("istio.io/dataplane-mode", "ambient")],
            Plane::IstioAmbient,
        ),
        ("ambient", &[], Plane::IstioAmbient),
        (
            "ambient",
            &[("istio.io/dataplane-mode", "none")],
            Plane::None,
        ),
        (
            "ambient",
            &[("sidecar.istio.io/inject", "true")],
            Plane::IstioSidecar,
        ),
        ("revised", &[], Plane::IstioAmbient),
        ("kube-system", &[], Plane::None),
        ("unknown", &[], Plane::None),
        (
            "injected",
            &[("gateway.networking.k8s.io/gateway-name", "g")],
            Plane::None,
        ),
    ] {
        let pod = plain(name, labels);
        let decision = policies.istio().declared_plane(policies.context(), &pod);
        assert_eq!(decision.value, expected, "{name} {labels:?}");
        assert!(!decision.because.is_empty(), "{name} {labels:?}");
    }
    let mut host = plain("injected", &[]);
    Arc::make_mut(&mut host.traits).host_network = true;
    let decision = policies.istio().declared_plane(policies.context(), &host);
    assert_eq!(decision.value, Plane::None);

    mesh(
        &mut policies,
        "discoverySelectors:\n- matchLabels:\n    mesh: \"on\"\n",
    );
    let pod = plain("injected", &[]);
    let decision = policies.istio().declared_plane(policies.context(), &pod);
    assert_eq!(decision.value, Plane::None);
}

#[test]
fn contradictions_are_found() {
    let mut policies = Policies::default();
    namespace(&mut policies, "shop", &[]);
    namespace(&mut policies, "ambient", &[(DATAPLANE_MODE, "ambient")]);
    namespace(
        &mut policies,
        "both",
        &[
            (INJECTION, "enabled"),
            (REVISION, "canary"),
            (DATAPLANE_MODE, "ambient"),
        ],
    );
    let linkerd = {
        let mut pod = sidecar("shop", &[]);
        Arc::make_mut(&mut pod.traits).containers =
            Box::new(["istio-proxy".into(), "linkerd-proxy".into()]);
        pod
    };
    for (pod, expected) in [
        (sidecar("shop", &[]), 0),
        (ambient("ambient", &[]), 0),
        (sidecar("ambient", &[]), 1),
        (sidecar("ambient", &[(DATAPLANE_MODE, "none")]), 0),
        (
            annotated(sidecar("shop", &[]), &[(REDIRECTION, "enabled")]),
            1,
        ),
        (linkerd, 1),
        (plain("both", &[]), 2),
    ] {
        let found = policies.istio().conflicts(policies.context(), &pod);
        assert_eq!(found.len(), expected, "{pod:?}: {found:?}");
    }
}

#[test]
fn annotations_leave_connections_out() {
    const PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
    const RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
    const INCLUDE_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
    const INCLUDE_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
    let istio = Istio::default();
    for (annotations, address, port, expected) in [
        (&[][..], "192.0.2.1", 80, true),
        (&[(PORTS, "443,80")], "192.0.2.1", 80, false),
        (&[(PORTS, "443")], "192.0.2.1", 80, true),
        (&[(RANGES, "192.0.2.0/24")], "192.0.2.1", 80, false),
        (&[(RANGES, "192.0.2.0/24")], "192.0.3.1", 80, true),
        (&[(INCLUDE_RANGES, "10.0.0.0/8")], "192.0.2.1", 80, false),
        (&[(INCLUDE_RANGES, "*")], "192.0.2.1", 80, true),
        (
            &[(INCLUDE_PORTS, "80"), (INCLUDE_RANGES, "10.0.0.0/8")],
            "192.0.2.1",
            80,
            true,
        ),
    ] {
        let pod = annotated(sidecar("shop", &[]), annotations);
        let captured = istio.captures_outbound(&pod, address.parse().ok(), port);
        assert_eq!(captured.value, expected, "{annotations:?} {address}");
    }
    let pod = annotated(sidecar("shop", &[]), &[(RANGES, "0.0.0.0/0")]);
    assert!(istio.captures_outbound(&pod, None, 80).value);
}

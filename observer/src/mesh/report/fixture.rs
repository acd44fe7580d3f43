//! A report with something of everything, for tests of who shows it.

use super::*;

pub(crate) fn workload(namespace: &str, name: &str) -> Party {
    Party {
        kind: "workload",
        namespace: namespace.to_owned(),
        workload_kind: "Deployment".to_owned(),
        name: name.to_owned(),
    }
}

pub(crate) fn outside() -> Party {
    Party {
        kind: "outside",
        ..Party::default()
    }
}

pub(crate) fn object(kind: &str, group: &str, namespace: &str, name: &str) -> Object {
    Object {
        kind: kind.to_owned(),
        group: group.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        resource_version: "7".to_owned(),
    }
}

/// Two edges to `shop/cart`: one from `shop/web`, encrypted, and one from `old/batch`, of which a
/// fourth is.
pub(crate) fn report() -> Report {
    let web = workload("shop", "web");
    let batch = workload("old", "batch");
    let cart = workload("shop", "cart");
    let strict = Reason {
        object: Some(object(
            "PeerAuthentication",
            "security.istio.io",
            "shop",
            "default",
        )),
        text: "mode STRICT for the namespace".to_owned(),
    };
    let seen = Reason {
        object: None,
        text: "150 of 200 connections are plaintext".to_owned(),
    };
    let observed = |security, connections, requests| Observed {
        security,
        connections,
        requests,
    };
    let measured = |at, count: u64, milliseconds: u64| Measured {
        at,
        count,
        nanoseconds: count * milliseconds * 1_000_000,
    };
    Report {
        observed_seconds: 7_200.0,
        edges: vec![
            Edge {
                client: web.clone(),
                server: cart.clone(),
                service: Some("cart.shop".to_owned()),
                port: 8_080,
                client_plane: "istio_sidecar",
                server_plane: "istio_sidecar",
                declared: "strict",
                observed: vec![observed("istio_mtls", 10, 1_000)],
                at_client: vec![observed("istio_mtls", 10, 1_000)],
                at_server: vec![observed("istio_mtls", 9, 990)],
                encrypted_share: Some(1.0),
                verdict: "satisfied",
                because: vec![strict.clone()],
                first_seen: 1_000.0,
                last_seen: 8_000.0,
                retry_ratio: Some(0.02),
                first_attempts: 1_000,
                other_attempts: 20,
                latency: Latency {
                    client: Some(0.012),
                    client_proxy: Some(0.001),
                    wire_client: Some(0.011),
                    wire_server: Some(0.009),
                    network: Some(0.002),
                    server_proxy: Some(0.001),
                    server: Some(0.008),
                    proxied: true,
                    measured: vec![measured("client", 1_000, 12), measured("server", 990, 8)],
                },
            },
            Edge {
                client: batch.clone(),
                server: cart.clone(),
                port: 8_080,
                client_plane: "none",
                server_plane: "istio_sidecar",
                declared: "strict",
                observed: vec![
                    observed("istio_mtls", 50, 50),
                    observed("plaintext", 150, 150),
                ],
                at_server: vec![
                    observed("istio_mtls", 50, 50),
                    observed("plaintext", 150, 150),
                ],
                encrypted_share: Some(0.25),
                verdict: "violated",
                because: vec![strict.clone(), seen.clone()],
                first_seen: 1_500.0,
                last_seen: 8_100.0,
                ..Edge::default()
            },
        ],
        findings: vec![
            Finding {
                id: "M01",
                name: "plaintext_accepted_under_strict",
                severity: "critical",
                workload: cart.clone(),
                peer: Some(batch.clone()),
                port: 8_080,
                about: String::new(),
                summary: "plaintext is accepted although only mutual TLS is declared".to_owned(),
                advice: "Look for ports that are left out of the mesh.",
                because: vec![strict, seen],
                count: 150,
                first_seen: 1_500.0,
                last_seen: 8_100.0,
                samples: vec![Sample {
                    at: 8_100.0,
                    client: "10.0.0.9:40000".to_owned(),
                    server: "10.0.0.7:8080".to_owned(),
                    security: "plaintext",
                    request: "GET /cart".to_owned(),
                    status: Some(200),
                }],
                see: &["KIA0505"],
            },
            Finding {
                id: "M15",
                name: "dead_rule",
                severity: "low",
                workload: workload("pay", "bill"),
                summary: "a rule never matched".to_owned(),
                advice: "Remove it.",
                count: 1,
                first_seen: 2_000.0,
                last_seen: 2_000.0,
                ..Finding::default()
            },
        ],
        readiness: vec![Readiness {
            workload: cart.clone(),
            state: "NOT READY",
            why: "1 client still sends plaintext".to_owned(),
            declared: "permissive",
            window_seconds: 604_800.0,
            observed_seconds: 7_200.0,
            minimum: 20,
            connections: 210,
            at_client: Connections {
                mutual: 57,
                ..Connections::default()
            },
            at_server: Connections {
                mutual: 57,
                plaintext: 153,
                ..Connections::default()
            },
            plaintext: vec![
                PlaintextClient {
                    client: batch.clone(),
                    port: 8_080,
                    connections: 150,
                    at_client: 0,
                    at_server: 150,
                    last_seen: 8_100.0,
                    address: None,
                },
                PlaintextClient {
                    client: outside(),
                    port: 8_080,
                    connections: 3,
                    at_client: 0,
                    at_server: 3,
                    last_seen: 7_000.0,
                    address: Some("192.0.2.7".to_owned()),
                },
            ],
        }],
        splits: vec![Split {
            object: object("VirtualService", "networking.istio.io", "shop", "cart"),
            rule: "0".to_owned(),
            host: "cart.shop.svc.cluster.local".to_owned(),
            backends: vec![
                SplitBackend {
                    host: "cart.shop.svc.cluster.local".to_owned(),
                    subset: "v1".to_owned(),
                    declared: 0.9,
                    observed: Some(0.7),
                    requests: 700,
                    served: 700,
                },
                SplitBackend {
                    host: "cart.shop.svc.cluster.local".to_owned(),
                    subset: "v2".to_owned(),
                    declared: 0.1,
                    observed: Some(0.3),
                    requests: 300,
                    served: 300,
                },
            ],
            requests: 1_000,
            sent: 1_000,
            strays: 0,
            unclear: None,
            p_value: Some(0.000_01),
            verdict: "violated",
            why: "v2 gets 30% instead of 10%".to_owned(),
        }],
        routes: vec![Route {
            object: object("HTTPRoute", "gateway.networking.k8s.io", "shop", "cart"),
            rule: "checkout".to_owned(),
            host: "cart".to_owned(),
            requests: 0,
            possible_requests: 0,
            host_requests: 5_000,
            minimum: 20,
            shadowed_by: None,
            last_seen: None,
            timeout_seconds: Some(2.0),
            retries: Some(3),
            longest_seconds: None,
            state: "unused",
            why: "none of 5000 requests matched".to_owned(),
        }],
        authorizations: vec![Authorization {
            client: batch,
            identity: Some("spiffe://cluster.local/ns/old/sa/batch".to_owned()),
            server: cart,
            port: 8_080,
            allowed: 10,
            denied: 5,
            unknown: 1,
            refused: 2,
            verdict: "violated",
            because: vec![Reason {
                object: Some(object(
                    "AuthorizationPolicy",
                    "security.istio.io",
                    "shop",
                    "cart",
                )),
                text: "no rule allows it".to_owned(),
            }],
        }],
        grants: vec![Usage {
            object: object("AuthorizationPolicy", "security.istio.io", "shop", "cart"),
            what: "identity cluster.local/ns/old/sa/batch".to_owned(),
            used: true,
            requests: 10,
        }],
        uses: vec![Usage {
            object: object("DestinationRule", "networking.istio.io", "shop", "cart"),
            what: "subset v3 of cart.shop".to_owned(),
            used: false,
            requests: 1_000,
        }],
        misunderstood: vec![Misunderstood {
            object: object("VirtualService", "networking.istio.io", "pay", "odd"),
            problem: "http[0].match[0].uri: no such kind of match".to_owned(),
        }],
        ignored: vec![Ignored {
            object: object("HTTPRoute", "gateway.networking.k8s.io", "pay", "new"),
            reason: "Service pay/bill: no controller has accepted it yet".to_owned(),
        }],
    }
}

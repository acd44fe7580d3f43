//! The service mesh: what is wrong with it, and what is declared of it against what was seen.

use super::{BACKEND, EDGE_LEGEND, RULE};
use crate::dashboards::{
    contract::{self, Family},
    panel::{Board, Panel, Row, Variable},
    query::{Query, Series, WINDOW, of},
};

/// Variables of what has a server.
const SERVERS: &[(&str, &str)] = &[
    ("k8s_cluster_name", "cluster"),
    ("destination_namespace", "namespace"),
];

/// Variables of what is about a workload.
const WORKLOADS: &[(&str, &str)] = &[("k8s_cluster_name", "cluster"), ("namespace", "namespace")];

/// Variables of what is about an object.
const OBJECTS: &[(&str, &str)] = &[
    ("k8s_cluster_name", "cluster"),
    ("object_namespace", "namespace"),
];

const SERVER: &[&str] = &["namespace", "workload"];

const FINDING: &[&str] = &["severity", "id", "namespace", "workload", "peer"];

/// What tells edges apart, whoever sees them.
const EDGE: &[&str] = &[
    "source_namespace",
    "source_name",
    "source_kind",
    "destination_namespace",
    "destination_name",
    "destination_kind",
    "server_port",
];

const DECLARED_EDGE: &[&str] = &[
    "source_namespace",
    "source_name",
    "source_kind",
    "destination_namespace",
    "destination_name",
    "destination_kind",
    "server_port",
    "declared",
];

/// What is so now, of all agents that see it.
fn findings() -> Query {
    of(&contract::MESH_FINDING)
        .chosen(WORKLOADS)
        .now()
        .max(FINDING)
        .above("0")
}

fn edges(family: &'static Family) -> Series {
    of(family).chosen(SERVERS)
}

/// The least of what several agents saw of an edge.
fn encrypted() -> Query {
    edges(&contract::MESH_ENCRYPTED).now().min(DECLARED_EDGE)
}

fn states(by: &[&'static str]) -> Query {
    of(&contract::MESH_READINESS)
        .chosen(WORKLOADS)
        .now()
        .max(by)
}

/// Servers in a state, by what any agent saw of them.
fn servers(state: &str) -> Query {
    of(&contract::MESH_READINESS)
        .chosen(WORKLOADS)
        .like("state", state)
        .now()
        .max(SERVER)
}

/// How many servers are in a state, but for those that another agent saw in one of `others`.
fn servers_but(state: &str, others: &str) -> Query {
    servers(state).unless(SERVER, servers(others)).number(&[])
}

fn declared_split() -> Query {
    of(&contract::MESH_SPLIT_DECLARED)
        .chosen(OBJECTS)
        .now()
        .max(BACKEND)
}

/// Shares of what all agents saw: each sees the servers of its node alone.
fn observed_split() -> Query {
    let served = |by| {
        of(&contract::MESH_SPLIT_SERVED)
            .chosen(OBJECTS)
            .rate(WINDOW)
            .sum(by)
    };
    served(BACKEND).by(served(RULE).above("0"))
}

fn decisions(by: &[&'static str], decision: &str) -> Query {
    edges(&contract::MESH_AUTHORIZATION)
        .like("decision", decision)
        .rate(WINDOW)
        .sum(by)
}

pub(super) fn board() -> Board {
    let violated = || {
        edges(&contract::MESH_VIOLATED)
            .now()
            .max(DECLARED_EDGE)
            .above("0")
    };
    let parts = |by: &[&'static str]| edges(&contract::MESH_LATENCY).now().mean(by);
    Board {
        uid: "observer-mesh",
        title: "Observer / Service mesh",
        description: "What was seen of a service mesh against what is declared of it. Each agent tells of the pods of its node and whom they talk with.",
        variables: vec![
            Variable::prometheus(),
            Variable::values(
                "cluster",
                "Cluster",
                of(&contract::MESH_ENCRYPTED),
                "k8s_cluster_name",
            ),
            Variable::values(
                "namespace",
                "Namespace of the server",
                of(&contract::MESH_ENCRYPTED).like("k8s_cluster_name", "$cluster"),
                "destination_namespace",
            ),
        ],
        rows: vec![
            Row {
                title: "All",
                panels: vec![
                    Panel::number("Critical and high findings", "short")
                        .query(
                            "",
                            of(&contract::MESH_FINDING)
                                .chosen(WORKLOADS)
                                .like("severity", "critical|high")
                                .now()
                                .max(FINDING)
                                .sum(&[]),
                        )
                        .worse_above(1.0, 5.0),
                    Panel::number("Edges that are encrypted", "percentunit")
                        .query(
                            "",
                            encrypted()
                                .equal("1")
                                .number(&[])
                                .by(encrypted().number(&[])),
                        )
                        .better_above(0.5, 0.95),
                    Panel::number("Edges not as declared", "short")
                        .query("", violated().number(&[]))
                        .worse_above(1.0, 5.0),
                    Panel::number("Servers ready for mutual TLS only", "short")
                        .query(
                            "",
                            servers_but("ready", "not_ready"),
                        ),
                    Panel::number("Declared objects", "short").query(
                        "",
                        of(&contract::MESH_OBJECTS)
                            .like("k8s_cluster_name", "$cluster")
                            .now()
                            .max(&["kind", "group"])
                            .sum(&[]),
                    ),
                    Panel::number("Not understood", "short")
                        .query(
                            "",
                            of(&contract::MESH_MISUNDERSTOOD)
                                .like("k8s_cluster_name", "$cluster")
                                .now()
                                .max(&[]),
                        )
                        .worse_above(1.0, 10.0),
                ],
            },
            Row {
                title: "Findings",
                panels: vec![
                    Panel::table("What is wrong, or may be", "short")
                        .about("observer findings -o wide says why, and what to do.")
                        .query("", findings())
                        .wide(16),
                    Panel::stack("By severity", "short")
                        .query("{{severity}}", findings().number(&["severity"])),
                ],
            },
            Row {
                title: "Encryption",
                panels: vec![
                    Panel::table("Share encrypted by edge", "percentunit")
                        .query("", encrypted()),
                    Panel::table("Not as declared", "short").query("", violated()),
                    Panel::lines("Least encrypted", "percentunit")
                        .query(EDGE_LEGEND, encrypted().below("1"))
                        .wide(24),
                ],
            },
            Row {
                title: "Readiness for mutual TLS only",
                panels: vec![
                    Panel::table("Servers", "short").query(
                        "",
                        states(&["namespace", "workload", "declared", "state"]),
                    ),
                    Panel::table("Clients that still send plaintext", "short").query(
                        "",
                        of(&contract::MESH_PLAINTEXT_CLIENTS)
                            .chosen(WORKLOADS)
                            .now()
                            .max(&["namespace", "workload"])
                            .above("0"),
                    ),
                    Panel::stack("Servers by state", "short")
                        .query("not ready", servers("not_ready").number(&[]))
                        .query("ready", servers_but("ready", "not_ready"))
                        .query("insufficient", servers_but("insufficient", "ready|not_ready"))
                        .wide(24),
                ],
            },
            Row {
                title: "Splits",
                panels: vec![
                    Panel::lines("Declared and observed shares", "percentunit")
                        .query(
                            "{{object_name}} {{rule}} {{backend}} {{subset}} declared",
                            declared_split(),
                        )
                        .query(
                            "{{object_name}} {{rule}} {{backend}} {{subset}}",
                            observed_split(),
                        )
                        .wide(12),
                    Panel::table("Distance of observed from declared", "percentunit").query(
                        "",
                        observed_split().distance(declared_split()),
                    ),
                ],
            },
            Row {
                title: "Time and retries",
                panels: vec![
                    Panel::stack("Where the time of requests goes", "s")
                        .about("Means over edges: in the proxy of the client, on the network, in the proxy of the server, in the application.")
                        .query("{{part}}", parts(&["part"])),
                    Panel::table("Time by edge", "s")
                        .query(
                            "",
                            parts(&[
                                "source_namespace",
                                "source_name",
                                "destination_namespace",
                                "destination_name",
                                "part",
                            ]),
                        )
                        .wide(16),
                    Panel::lines("Requests that needed another attempt", "percentunit")
                        .query(
                            EDGE_LEGEND,
                            edges(&contract::MESH_RETRIES).now().max(EDGE).top(20),
                        )
                        .wide(24),
                ],
            },
            Row {
                title: "Authorization",
                panels: vec![
                    Panel::stack("Requests by what policy says", "reqps").query(
                        "{{decision}}",
                        decisions(&["decision"], "allowed|denied|unknown"),
                    ),
                    Panel::lines("Refused requests", "reqps").query(
                        EDGE_LEGEND,
                        decisions(&["source_name", "destination_name"], "refused"),
                    ),
                    Panel::table("Denied or refused", "reqps")
                        .query(
                            "",
                            decisions(
                                &[
                                    "source_namespace",
                                    "source_name",
                                    "client_identity",
                                    "destination_namespace",
                                    "destination_name",
                                    "decision",
                                ],
                                "denied|refused",
                            )
                            .above("0"),
                        )
                        .wide(24),
                ],
            },
        ],
    }
}

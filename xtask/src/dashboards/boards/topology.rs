//! Topology: the graph of services, by an agent's own answer, by Tempo's metrics, and as a table.

use serde_json::{Value, json};

use super::{EDGE, edge_rate, edge_variables};
use crate::dashboards::{
    contract::{self, Family},
    panel::{Board, INFINITY, Panel, Row, TEMPO, Variable},
    query::{WINDOW, buckets, of, quantile},
};

/// What tells edges of Tempo's service graph apart.
const NAMES: &[&str] = &[
    "client_service_namespace",
    "client",
    "server_service_namespace",
    "server",
];

/// What the agent is asked; names of the dashboard's variables where a parameter is chosen.
const URL: &str = "/api/v1/node-graph?window=${window}&group=${group}&focus=${focus}&depth=${depth}\
                   &namespace=${graph_namespace}&security=${security}&errors=${errors}&min_rate=${min_rate}";

fn table(format: &str, root: &str) -> Value {
    json!({
        "type": "json", "source": "url", "parser": "backend", "format": format, "url": URL,
        "url_options": {"method": "GET", "data": ""}, "root_selector": root, "columns": [],
        "filters": [], "global_query_id": ""
    })
}

pub(super) fn board() -> Board {
    let mut variables = vec![
        Variable::infinity(),
        Variable::tempo(),
        Variable::choice("window", "Window", &["1m", "5m", "15m", "1h"]),
        Variable::choice(
            "group",
            "Group by",
            &["workload", "namespace", "service", "zone"],
        ),
        Variable::text("focus", "Focus", ""),
        Variable::choice("depth", "Depth", &["1", "2", "3", "4"]),
        Variable::text("graph_namespace", "Namespaces of the graph", ""),
        Variable::text("security", "Security", ""),
        Variable::choice("errors", "Only errors", &["false", "true"]),
        Variable::text("min_rate", "Least requests per second", "0"),
    ];
    variables.splice(0..0, edge_variables());
    let rate = |family: &'static Family, by| {
        let series = || of(family).like("k8s_cluster_name", "$cluster");
        edge_rate(series, WINDOW, by)
    };
    let calls = |family: &'static Family| {
        let series = of(family).like("k8s_cluster_name", "$cluster");
        series.rate(WINDOW).sum(NAMES)
    };
    Board {
        uid: "observer-topology",
        title: "Observer / Topology",
        description: "Who calls whom.",
        variables,
        rows: vec![
            Row {
                title: "By the agent",
                panels: vec![
                    Panel::nodes("Graph of one agent")
                        .other(INFINITY, table("node-graph-nodes", "nodes"))
                        .other(INFINITY, table("node-graph-edges", "edges"))
                        .about("What the agent that the data source points at sees: the connections of its host. Edges: red and orange fail, green is encrypted, yellow and dashed is in the clear, grey and dotted is not known. The focus is a name, NAMESPACE/NAME or an id."),
                ],
            },
            Row {
                title: "By Tempo's metrics",
                panels: vec![
                    Panel::lines("Calls", "reqps")
                        .query("{{client}} to {{server}}", calls(&contract::GRAPH_REQUESTS).top(20))
                        .about("As Tempo names them: traces_service_graph_request_total. They are there if the setting metrics.service_graph is."),
                    Panel::lines("Failed calls", "reqps")
                        .query("{{client}} to {{server}}", calls(&contract::GRAPH_FAILED).top(20)),
                    Panel::lines("p95 at servers", "s").query_with_traces(
                        "{{client}} to {{server}}",
                        quantile(0.95, buckets(&contract::GRAPH_SERVER_SECONDS).like("k8s_cluster_name", "$cluster"), WINDOW, NAMES).top(20),
                    ),
                    Panel::nodes("Service graph")
                        .other(TEMPO, json!({"queryType": "serviceMap", "limit": 20, "serviceMapQuery": ""}))
                        .about("All agents that Prometheus scrapes, from traces_service_graph_* in the Prometheus that the data source Tempo names as serviceMap."),
                ],
            },
            Row {
                title: "As tables",
                panels: vec![
                    Panel::table("Requests", "reqps")
                        .query("", rate(&contract::EDGE_REQUESTS, EDGE))
                        .link("Edge", "observer-edge"),
                    Panel::table("Connections opened", "cps")
                        .query("", rate(&contract::EDGE_OPENED, EDGE))
                        .link("Edge", "observer-edge"),
                ],
            },
        ],
    }
}

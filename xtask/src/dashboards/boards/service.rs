//! Service: rate, errors and duration by route, status, remote procedure call, and of what it calls.

use super::{SERVICES, requests, service_variables};
use crate::dashboards::{
    contract,
    panel::{Board, Panel, Row},
    query::{Query, WINDOW, buckets, count, of, quantile},
};

const ROUTE: &[&str] = &["http_request_method", "http_route"];
const ROUTE_LEGEND: &str = "{{http_request_method}} {{http_route}}";
const METHOD: &[&str] = &["rpc_system_name", "rpc_method"];
const PEER: &[&str] = &[
    "service_peer_namespace",
    "service_peer_name",
    "server_address",
];

fn duration(part: f64, by: &[&'static str]) -> Query {
    let durations = buckets(&contract::HTTP_SERVER_DURATION).chosen(SERVICES);
    quantile(part, durations, WINDOW, by)
}

fn rpc(part: f64) -> Query {
    let durations = buckets(&contract::RPC_SERVER_DURATION).chosen(SERVICES);
    quantile(part, durations, WINDOW, METHOD)
}

pub(super) fn board() -> Board {
    let errors = |by: &[&'static str]| requests().not("error_type", "").rate(WINDOW).sum(by);
    let rate = |by: &[&'static str]| requests().rate(WINDOW).sum(by);
    let calls = || count(&contract::RPC_SERVER_DURATION).chosen(SERVICES);
    let made = || count(&contract::HTTP_CLIENT_DURATION).chosen(SERVICES);
    let bodies = |family| quantile(0.95, buckets(family).chosen(SERVICES), WINDOW, &[]);
    Board {
        uid: "observer-service",
        title: "Observer / Service",
        description: "What services answer, by route and status, and what they call.",
        variables: service_variables(|| count(&contract::HTTP_SERVER_DURATION)),
        rows: vec![
            Row {
                title: "Requests",
                panels: vec![
                    Panel::lines("Requests by route", "reqps")
                        .query(ROUTE_LEGEND, rate(ROUTE).top(20))
                        .about("Without a route where none is known or configured."),
                    Panel::stack("Requests by status", "reqps").query(
                        "{{http_response_status_code}}",
                        rate(&["http_response_status_code"]),
                    ),
                    Panel::stack("Errors by type", "reqps")
                        .query("{{error_type}}", errors(&["error_type"])),
                    Panel::lines("Duration", "s")
                        .query_with_traces("p50", duration(0.5, &[]))
                        .query_with_traces("p95", duration(0.95, &[]))
                        .query_with_traces("p99", duration(0.99, &[]))
                        .about("Points are single calls with a trace, where exemplars are on."),
                    Panel::lines("p95 by route", "s")
                        .query(ROUTE_LEGEND, duration(0.95, ROUTE).top(20)),
                    Panel::lines("Share of errors by route", "percentunit").query(
                        ROUTE_LEGEND,
                        errors(ROUTE)
                            .or_zero_of(&rate(ROUTE))
                            .by(rate(ROUTE).above("0")),
                    ),
                ],
            },
            Row {
                title: "In flight and bodies",
                panels: vec![
                    Panel::lines("Requests in flight", "short").query(
                        "{{service_name}}",
                        of(&contract::HTTP_SERVER_ACTIVE)
                            .chosen(SERVICES)
                            .now()
                            .sum(&["service_name"]),
                    ),
                    Panel::lines("Oldest request in flight", "s").query(
                        "{{service_name}} {{role}}",
                        of(&contract::HTTP_OLDEST)
                            .chosen(SERVICES)
                            .now()
                            .max(&["service_name", "role"]),
                    ),
                    Panel::lines("p95 of bodies", "bytes")
                        .query("request", bodies(&contract::HTTP_SERVER_REQUEST_BODY))
                        .query("response", bodies(&contract::HTTP_SERVER_RESPONSE_BODY)),
                ],
            },
            Row {
                title: "Remote procedure calls",
                panels: vec![
                    Panel::lines("Calls", "reqps")
                        .query("{{rpc_method}}", calls().rate(WINDOW).sum(METHOD).top(20)),
                    Panel::stack("Calls by status", "reqps").query(
                        "{{rpc_response_status_code}}",
                        calls().rate(WINDOW).sum(&["rpc_response_status_code"]),
                    ),
                    Panel::lines("p95", "s").query_with_traces("{{rpc_method}}", rpc(0.95).top(20)),
                ],
            },
            Row {
                title: "What it calls",
                panels: vec![
                    Panel::lines("Requests made", "reqps").query(
                        "{{service_peer_name}} {{server_address}}",
                        made().rate(WINDOW).sum(PEER).top(20),
                    ),
                    Panel::lines("Errors of requests made", "reqps").query(
                        "{{service_peer_name}} {{server_address}}",
                        made().not("error_type", "").rate(WINDOW).sum(PEER).top(20),
                    ),
                    Panel::lines("p95 of requests made", "s").query(
                        "{{service_peer_name}} {{server_address}}",
                        quantile(
                            0.95,
                            buckets(&contract::HTTP_CLIENT_DURATION).chosen(SERVICES),
                            WINDOW,
                            PEER,
                        )
                        .top(20),
                    ),
                ],
            },
        ],
    }
}

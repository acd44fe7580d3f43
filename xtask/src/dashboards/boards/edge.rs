//! Edge: everything of the connections from a source to a destination.

use super::{EDGE, EDGE_LEGEND, EDGES, edge_quantile, edge_rate, edge_variables, once};
use crate::dashboards::{
    contract::{self, Family},
    panel::{Board, Panel, Row},
    query::{Query, WINDOW, buckets, of},
};

const PROTOCOL: &[&str] = &["protocol"];
const SECURITY: &[&str] = &["security"];
const ZONES: &[&str] = &["source_zone", "destination_zone"];

fn rate(family: &'static Family, by: &'static [&'static str]) -> Query {
    edge_rate(|| of(family).chosen(EDGES), WINDOW, by)
}

fn duration(part: f64) -> Query {
    let durations = || buckets(&contract::EDGE_DURATION).chosen(EDGES);
    edge_quantile(part, durations, WINDOW, &[])
}

fn round_trip(part: f64) -> Query {
    let times = || buckets(&contract::EDGE_RTT).chosen(EDGES);
    edge_quantile(part, times, WINDOW, EDGE)
}

pub(super) fn board() -> Board {
    let requests = |by| rate(&contract::EDGE_REQUESTS, by);
    let errors = |by| rate(&contract::EDGE_ERRORS, by).or_zero_of(&requests(by));
    let open = once(EDGE, |reporter, labels| {
        of(&contract::EDGE_OPEN)
            .chosen(EDGES)
            .is("reporter", reporter)
            .now()
            .sum(labels)
    });
    Board {
        uid: "observer-edge",
        title: "Observer / Edge",
        description: "Who calls whom: calls, connections and bytes from a source to a destination, each counted once, at the client where it is observed.",
        variables: edge_variables(),
        rows: vec![
            Row {
                title: "Calls",
                panels: vec![
                    Panel::lines("Requests", "reqps").query(EDGE_LEGEND, requests(EDGE).top(20)),
                    Panel::lines("Share of errors", "percentunit").query(
                        EDGE_LEGEND,
                        errors(EDGE).by(requests(EDGE).above("0")).top(20),
                    ),
                    Panel::lines("Duration", "s")
                        .query("p50", duration(0.5))
                        .query("p95", duration(0.95))
                        .query("p99", duration(0.99)),
                    Panel::stack("Requests by protocol", "reqps")
                        .query("{{protocol}}", requests(PROTOCOL)),
                    Panel::stack("Requests by security", "reqps")
                        .query("{{security}}", requests(SECURITY)),
                    Panel::stack("Requests by zone", "reqps")
                        .query("{{source_zone}} to {{destination_zone}}", requests(ZONES))
                        .about("What crosses zones is slower, and often paid for."),
                ],
            },
            Row {
                title: "Connections",
                panels: vec![
                    Panel::lines("Bytes", "Bps")
                        .query("sent", rate(&contract::EDGE_SENT_BYTES, &[]))
                        .query("received", rate(&contract::EDGE_RECEIVED_BYTES, &[])),
                    Panel::lines("Connections opened", "cps")
                        .query(EDGE_LEGEND, rate(&contract::EDGE_OPENED, EDGE).top(20)),
                    Panel::stack("Connections never established", "cps")
                        .query("{{reason}}", rate(&contract::EDGE_FAILURES, &["reason"])),
                    Panel::lines("Retransmits", "pps")
                        .query(EDGE_LEGEND, rate(&contract::EDGE_RETRANSMITS, EDGE).top(20)),
                    Panel::lines("p95 of round-trip times", "s")
                        .query(EDGE_LEGEND, round_trip(0.95).top(20)),
                    Panel::lines("Open connections", "short").query(EDGE_LEGEND, open.top(20)),
                ],
            },
        ],
    }
}

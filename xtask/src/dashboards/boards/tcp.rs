//! TCP health: connections that fail, segments that are sent again, round trips.

use super::{SERVICE, SERVICE_LEGEND, SERVICES, service_variables};
use crate::dashboards::{
    contract::{self, Family},
    panel::{Board, Panel, Row},
    query::{Query, WINDOW, buckets, of, quantile},
};

fn rate(family: &'static Family, by: &[&'static str]) -> Query {
    of(family).chosen(SERVICES).rate(WINDOW).sum(by)
}

fn times(part: f64, family: &'static Family, by: &[&'static str]) -> Query {
    quantile(part, buckets(family).chosen(SERVICES), WINDOW, by)
}

pub(super) fn board() -> Board {
    let again = |by: &[&'static str]| {
        rate(&contract::TCP_RETRANSMITS, by).by(rate(&contract::TCP_SENT_SEGMENTS, by).above("0"))
    };
    let peers = &[
        "service_namespace",
        "service_name",
        "service_peer_namespace",
        "service_peer_name",
        "server_address",
        "server_port",
    ];
    Board {
        uid: "observer-tcp",
        title: "Observer / TCP health",
        description: "Connections that were not made, reset or slow, and segments that had to be sent again.",
        variables: service_variables(|| of(&contract::TCP_SENT_SEGMENTS)),
        rows: vec![
            Row {
                title: "Connections",
                panels: vec![
                    Panel::lines("Established", "cps").query(
                        "{{service_namespace}}/{{service_name}} {{role}}",
                        rate(
                            &contract::TCP_OPENED,
                            &["service_namespace", "service_name", "role"],
                        )
                        .top(20),
                    ),
                    Panel::stack("Never established", "cps")
                        .query("{{reason}}", rate(&contract::TCP_FAILURES, &["reason"])),
                    Panel::stack("Ended", "cps").query(
                        "by {{closed_by}}, reset {{reset}}",
                        rate(&contract::TCP_CLOSED_TOTAL, &["closed_by", "reset"]),
                    ),
                    Panel::lines("Time to connect", "s")
                        .query("p50", times(0.5, &contract::TCP_CONNECT, &[]))
                        .query("p95", times(0.95, &contract::TCP_CONNECT, &[]))
                        .query("p99", times(0.99, &contract::TCP_CONNECT, &[])),
                    Panel::lines("Life of connections", "s")
                        .query("p50", times(0.5, &contract::TCP_DURATION, &[]))
                        .query("p95", times(0.95, &contract::TCP_DURATION, &[])),
                    Panel::lines("Open", "short").query(
                        SERVICE_LEGEND,
                        of(&contract::TCP_OPEN)
                            .chosen(SERVICES)
                            .now()
                            .sum(SERVICE)
                            .top(20),
                    ),
                ],
            },
            Row {
                title: "Segments",
                panels: vec![
                    Panel::lines("Share sent again", "percentunit")
                        .query(SERVICE_LEGEND, again(SERVICE).top(20))
                        .worse_above(0.01, 0.05),
                    Panel::lines("Round-trip time", "s")
                        .query("p50", times(0.5, &contract::TCP_RTT, &[]))
                        .query("p95", times(0.95, &contract::TCP_RTT, &[]))
                        .query("p99", times(0.99, &contract::TCP_RTT, &[])),
                    Panel::lines("Lowest round-trip time", "s").query(
                        SERVICE_LEGEND,
                        of(&contract::TCP_MINIMUM_RTT)
                            .chosen(SERVICES)
                            .now()
                            .min(SERVICE)
                            .top(20),
                    ),
                    Panel::lines("Bytes", "Bps")
                        .query("sent", rate(&contract::TCP_SENT_BYTES, &[]))
                        .query("received", rate(&contract::TCP_RECEIVED_BYTES, &[])),
                    Panel::lines("Segments", "pps")
                        .query("sent", rate(&contract::TCP_SENT_SEGMENTS, &[]))
                        .query("received", rate(&contract::TCP_RECEIVED_SEGMENTS, &[])),
                ],
            },
            Row {
                title: "Worst",
                panels: vec![
                    Panel::table("Connections never established", "cps")
                        .query("", rate(&contract::TCP_FAILURES, peers).top(20)),
                    Panel::table("Segments sent again", "percentunit")
                        .query("", again(peers).top(20)),
                ],
            },
        ],
    }
}

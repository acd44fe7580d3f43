//! Overview: how all services are, and which are worst.

use super::{SERVICE, SERVICE_LEGEND, SERVICES, requests, service_variables};
use crate::dashboards::{
    contract,
    panel::{Board, Panel, Row},
    query::{Query, WINDOW, buckets, count, of, quantile},
};

fn rate(by: &[&'static str]) -> Query {
    requests().rate(WINDOW).sum(by)
}

fn errors(by: &[&'static str]) -> Query {
    let errors = requests().not("error_type", "").rate(WINDOW).sum(by);
    errors.or_zero_of(&rate(by))
}

fn ratio(by: &[&'static str]) -> Query {
    errors(by).by(rate(by).above("0"))
}

fn p95(by: &[&'static str]) -> Query {
    let durations = buckets(&contract::HTTP_SERVER_DURATION).chosen(SERVICES);
    quantile(0.95, durations, WINDOW, by)
}

pub(super) fn board() -> Board {
    let open = of(&contract::TCP_OPEN).chosen(SERVICES).now();
    let moved = |family| of(family).chosen(SERVICES).rate(WINDOW).sum(&[]);
    Board {
        uid: "observer-overview",
        title: "Observer / Overview",
        description: "Requests, errors and durations of all services, as their servers' sockets saw them.",
        variables: service_variables(|| count(&contract::HTTP_SERVER_DURATION)),
        rows: vec![
            Row {
                title: "All services",
                panels: vec![
                    Panel::number("Requests", "reqps").query("", rate(&[])),
                    Panel::number("Errors", "percentunit")
                        .query("", ratio(&[]))
                        .worse_above(0.001, 0.01),
                    Panel::number("p95", "s")
                        .query("", p95(&[]))
                        .worse_above(0.5, 2.0),
                    Panel::number("Services", "short").query("", rate(SERVICE).number(&[])),
                    Panel::number("Open connections", "short").query("", open.sum(&[])),
                    Panel::number("Bytes", "Bps").query(
                        "",
                        moved(&contract::TCP_SENT_BYTES).plus(moved(&contract::TCP_RECEIVED_BYTES)),
                    ),
                ],
            },
            Row {
                title: "By service",
                panels: vec![
                    Panel::lines("Requests", "reqps").query(SERVICE_LEGEND, rate(SERVICE).top(20)),
                    Panel::lines("Share of errors", "percentunit")
                        .query(SERVICE_LEGEND, ratio(SERVICE).top(20)),
                    Panel::lines("p95", "s").query(SERVICE_LEGEND, p95(SERVICE).top(20)),
                ],
            },
            Row {
                title: "Worst",
                panels: vec![
                    Panel::table("Most errors", "percentunit")
                        .query("", ratio(SERVICE).above("0").top(20))
                        .link("Service", "observer-service")
                        .about("Share of requests that failed: 5xx, or no complete answer."),
                    Panel::table("Slowest", "s")
                        .query("", p95(SERVICE).top(20))
                        .link("Service", "observer-service"),
                ],
            },
        ],
    }
}

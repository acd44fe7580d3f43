//! What is recorded of edges and services, so that dashboards and alerts need not add it up each time.

use super::{Group, Record, Rule};
use crate::dashboards::{
    boards::{EDGE, SERVICE, edge_quantile, edge_rate},
    contract::{self, Family},
    query::{Query, buckets, count, of, quantile},
};

const WINDOW: &str = "5m";

pub(super) fn edges() -> Group {
    let rate = |family: &'static Family| edge_rate(|| of(family), WINDOW, EDGE);
    let requests = Record::new(
        "edge:observer_edge_requests:rate5m",
        rate(&contract::EDGE_REQUESTS),
    );
    let errors = rate(&contract::EDGE_ERRORS).or_zero_of(&requests.now());
    let errors = Record::new("edge:observer_edge_errors:rate5m", errors);
    let ratio = errors.now().by(requests.now().above("0"));
    let duration = |part| edge_quantile(part, || buckets(&contract::EDGE_DURATION), WINDOW, EDGE);
    let bytes = rate(&contract::EDGE_SENT_BYTES).plus(rate(&contract::EDGE_RECEIVED_BYTES));
    let opened = Record::new(
        "edge:observer_edge_connections_opened:rate5m",
        rate(&contract::EDGE_OPENED),
    );
    let failures = rate(&contract::EDGE_FAILURES).or_zero_of(&opened.now());
    let records = vec![
        requests,
        errors,
        Record::new("edge:observer_edge_errors:ratio_rate5m", ratio),
        Record::new(
            "edge:observer_edge_request_duration_seconds:p50_rate5m",
            duration(0.5),
        ),
        Record::new(
            "edge:observer_edge_request_duration_seconds:p95_rate5m",
            duration(0.95),
        ),
        Record::new(
            "edge:observer_edge_request_duration_seconds:p99_rate5m",
            duration(0.99),
        ),
        Record::new("edge:observer_edge_bytes:rate5m", bytes),
        opened,
        Record::new("edge:observer_edge_connect_failures:rate5m", failures),
        Record::new(
            "edge:observer_edge_retransmits:rate5m",
            rate(&contract::EDGE_RETRANSMITS),
        ),
    ];
    group("observer-edges", records)
}

pub(super) fn services() -> Group {
    let requests = requests();
    let errors = count(&contract::HTTP_SERVER_DURATION)
        .not("error_type", "")
        .rate(WINDOW)
        .sum(SERVICE)
        .or_zero_of(&requests.now());
    let errors = Record::new("service:http_server_errors:rate5m", errors);
    let ratio = errors.now().by(requests.now().above("0"));
    let duration = |part| {
        quantile(
            part,
            buckets(&contract::HTTP_SERVER_DURATION),
            WINDOW,
            SERVICE,
        )
    };
    let rate = |family: &'static Family| of(family).rate(WINDOW).sum(SERVICE);
    let coverage = rate(&contract::UNDERSTOOD_BYTES).by(rate(&contract::MOVED_BYTES).above("0"));
    let again = rate(&contract::TCP_RETRANSMITS).by(rate(&contract::TCP_SENT_SEGMENTS).above("0"));
    let records = vec![
        requests,
        errors,
        Record::new("service:http_server_errors:ratio_rate5m", ratio),
        Record::new(
            "service:http_server_request_duration_seconds:p50_rate5m",
            duration(0.5),
        ),
        Record::new(
            "service:http_server_request_duration_seconds:p95_rate5m",
            duration(0.95),
        ),
        Record::new(
            "service:http_server_request_duration_seconds:p99_rate5m",
            duration(0.99),
        ),
        Record::new("service:observer_tcp_retransmits:ratio_rate5m", again),
        Record::new(
            "service:observer_moved_bytes:rate5m",
            rate(&contract::MOVED_BYTES),
        ),
        Record::new("service:observer_coverage:ratio_rate5m", coverage),
    ];
    group("observer-services", records)
}

/// Requests that servers answered.
pub(super) fn requests() -> Record {
    let rate: Query = count(&contract::HTTP_SERVER_DURATION)
        .rate(WINDOW)
        .sum(SERVICE);
    Record::new("service:http_server_requests:rate5m", rate)
}

fn group(name: &'static str, records: Vec<Record>) -> Group {
    Group {
        name,
        interval: "30s",
        rules: records.into_iter().map(Rule::Record).collect(),
    }
}

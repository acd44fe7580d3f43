//! Series of the graph of services.

use super::{Builder, Series, Value};
use crate::aggregate::{
    Aggregator, contract,
    distribution::Distribution,
    graph::Edge,
    histogram::{Buckets, REQUEST_SECONDS, ROUND_TRIP_SECONDS},
    links::FAILURES,
};

// === impl Builder ===

impl Builder {
    pub(super) fn graph(&mut self, aggregator: &Aggregator) {
        let edges = || aggregator.edges.store.iter();
        let series = |pick: fn(&Edge) -> u64| {
            edges().map(move |(_, labels, edge)| Series::new(labels, Value::Integer(pick(edge))))
        };
        let observed = |buckets: &'static Buckets, pick: fn(&Edge) -> &Distribution| {
            let series = edges().map(move |(_, labels, edge)| (labels, pick(edge)));
            // Most edges have no requests, or no round-trip time.
            let series = series.filter(|(_, histogram)| histogram.count() > 0);
            series.map(move |(labels, histogram)| {
                Series::new(
                    labels,
                    Value::Histogram(buckets, Box::new(histogram.clone())),
                )
            })
        };
        self.add(&contract::EDGE_REQUESTS, series(|edge| edge.requests));
        self.add(&contract::EDGE_ERRORS, series(|edge| edge.errors));
        let durations = observed(&REQUEST_SECONDS, |edge| &edge.duration);
        self.add(&contract::EDGE_DURATION, durations);
        self.add(&contract::EDGE_SENT_BYTES, series(|edge| edge.sent_bytes));
        let received = series(|edge| edge.received_bytes);
        self.add(&contract::EDGE_RECEIVED_BYTES, received);
        self.add(&contract::EDGE_OPENED, series(|edge| edge.opened));
        let failures = edges().flat_map(|(_, labels, edge)| {
            let counts = FAILURES
                .iter()
                .zip(edge.failures)
                .filter(|(_, count)| *count > 0);
            counts.map(|(failure, count)| Series {
                labels: labels.clone(),
                more: Box::new([("reason", failure.as_str())]),
                value: Value::Integer(count),
            })
        });
        self.add(&contract::EDGE_FAILURES, failures);
        self.add(&contract::EDGE_OPEN, series(|edge| edge.open));
        self.add(&contract::EDGE_RETRANSMITS, series(|edge| edge.retransmits));
        let times = observed(&ROUND_TRIP_SECONDS, |edge| &edge.rtt);
        self.add(&contract::EDGE_RTT, times);
    }

    pub(super) fn pods(&mut self, aggregator: &Aggregator) {
        let cluster = &aggregator.edges.cluster;
        let pods = aggregator.pods.iter().filter_map(|(key, _, info)| {
            // The overflow series tells of nobody.
            key?;
            Some(Series::new(&info.labels(cluster), Value::Integer(1)))
        });
        self.add(&contract::POD_INFO, pods);
    }
}

//! Series by the names of Tempo.

use std::collections::BTreeSet;

use super::{Builder, Series, Value};
use crate::aggregate::{
    Aggregator, contract,
    derived::{OnGraph, Spans, span_kind},
    distribution::Distribution,
    histogram::REQUEST_SECONDS,
    series::{Labels, OVERFLOW_LABEL, labels},
};

// === impl Builder ===

impl Builder {
    pub(super) fn service_graph(&mut self, aggregator: &Aggregator) {
        if !aggregator.config.service_graph {
            return;
        }
        let cluster = &aggregator.edges.cluster;
        let edges: Vec<(Labels, OnGraph)> = aggregator
            .service_graph()
            .into_iter()
            .map(|(key, edge)| (key.labels(cluster), edge))
            .chain(
                aggregator
                    .service_graph_overflow()
                    .map(|edge| (labels([(OVERFLOW_LABEL, "true")]), edge)),
            )
            .collect();
        // Where nobody observes the server's end yet, only its client's time is known.
        let counted = || edges.iter().filter(|(_, edge)| edge.server.is_some());
        let integers = |pick: fn(&OnGraph) -> u64| {
            counted().map(move |(labels, edge)| Series::new(labels, Value::Integer(pick(edge))))
        };
        self.add(&contract::GRAPH_REQUESTS, integers(|edge| edge.requests));
        self.add(&contract::GRAPH_FAILED, integers(|edge| edge.failed));
        let times = |pick: fn(&OnGraph) -> &Option<Distribution>| {
            edges.iter().filter_map(move |(labels, edge)| {
                let observed = Box::new(pick(edge).clone()?);
                Some(Series::new(
                    labels,
                    Value::Histogram(&REQUEST_SECONDS, observed),
                ))
            })
        };
        self.add(&contract::GRAPH_SERVER_SECONDS, times(|edge| &edge.server));
        self.add(&contract::GRAPH_CLIENT_SECONDS, times(|edge| &edge.client));
    }

    pub(super) fn span_metrics(&mut self, aggregator: &Aggregator) {
        if !aggregator.config.span_metrics {
            return;
        }
        let cluster = &aggregator.edges.cluster;
        let spans = aggregator.spans_by_name().into_iter();
        let mut spans: Vec<(Labels, Spans)> = spans
            .map(|(key, spans)| (key.labels(cluster), spans))
            .collect();
        for (store, client) in [(&aggregator.server, false), (&aggregator.client, true)] {
            let beyond = store.iter().filter(|(key, ..)| key.is_none());
            spans.extend(beyond.map(|(_, _, calls)| {
                let own = [(OVERFLOW_LABEL, "true"), ("span_kind", span_kind(client))];
                (labels(own), Spans::of_calls(calls))
            }));
        }
        let integers = |pick: fn(&Spans) -> u64| {
            let series = spans.iter();
            series.map(move |(labels, spans)| Series::new(labels, Value::Integer(pick(spans))))
        };
        let calls = integers(|spans| spans.latency.count());
        self.add(&contract::SPAN_CALLS, calls);
        let bytes = integers(|spans| spans.bytes);
        self.add(&contract::SPAN_SIZE, bytes);
        let latency = spans.iter().map(|(labels, spans)| {
            let observed = Box::new(spans.latency.clone());
            Series::new(labels, Value::Histogram(&REQUEST_SECONDS, observed))
        });
        self.add(&contract::SPAN_LATENCY, latency);
        // A service can have a row at each end.
        let services: BTreeSet<Labels> = aggregator
            .services
            .iter()
            .filter_map(|(key, ..)| {
                let own = key?.subject.labels();
                Some(labels(own.map(|(name, value)| match name {
                    "service_name" => ("service", value),
                    name => (name, value),
                })))
            })
            .collect();
        let info = services.iter();
        self.add(
            &contract::SPAN_TARGET,
            info.map(|labels| Series::new(labels, Value::Integer(1))),
        );
    }
}

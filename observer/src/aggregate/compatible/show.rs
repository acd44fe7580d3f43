//! Series of a dialect, for a snapshot.

use std::collections::BTreeMap;

use super::{Dialect, Http, Tcp};
use crate::aggregate::{
    contract::{self, Family},
    distribution::Distribution,
    histogram::{BODY_BYTES, Buckets, Histogram, REQUEST_MILLISECONDS},
    series::Labels,
    snapshot::{Samples, Series, Value},
};

pub(super) fn istio(dialect: &Dialect, out: &mut Vec<Samples>) {
    http(dialect, out, &contract::ISTIO_REQUESTS, |http| {
        http.requests
    });
    milliseconds(dialect, out, &contract::ISTIO_DURATION);
    sizes(dialect, out, &contract::ISTIO_REQUEST_BYTES, |http| {
        http.request_bytes
    });
    sizes(dialect, out, &contract::ISTIO_RESPONSE_BYTES, |http| {
        http.response_bytes
    });
    http(dialect, out, &contract::ISTIO_REQUEST_MESSAGES, |http| {
        http.request_messages
    });
    http(dialect, out, &contract::ISTIO_RESPONSE_MESSAGES, |http| {
        http.response_messages
    });
    // What the server sent is what was sent: istio/istio#32399.
    tcp(dialect, out, &contract::ISTIO_TCP_SENT, |tcp| tcp.to_client);
    tcp(dialect, out, &contract::ISTIO_TCP_RECEIVED, |tcp| {
        tcp.from_client
    });
    tcp(dialect, out, &contract::ISTIO_TCP_OPENED, |tcp| tcp.opened);
    tcp(dialect, out, &contract::ISTIO_TCP_CLOSED, |tcp| tcp.closed);
}

pub(super) fn linkerd(dialect: &Dialect, out: &mut Vec<Samples>) {
    requests(dialect, out);
    http(dialect, out, &contract::LINKERD_RESPONSES, |http| {
        http.requests
    });
    milliseconds(dialect, out, &contract::LINKERD_LATENCY);
    tcp(dialect, out, &contract::LINKERD_TCP_OPEN, |tcp| tcp.open);
    // Of a connection to a server, what the client is sent is read from the peer.
    let towards = |read: bool| {
        dialect.tcp.iter().map(move |(_, labels, tcp)| {
            let peer = labels.iter().find(|(name, _)| *name == "peer");
            let of_client = peer.is_none_or(|(_, peer)| &**peer == "src");
            let bytes = match of_client == read {
                true => tcp.from_client,
                false => tcp.to_client,
            };
            Series::new(labels, Value::Integer(bytes))
        })
    };
    add(out, &contract::LINKERD_TCP_READ, towards(true).collect());
    add(out, &contract::LINKERD_TCP_WRITE, towards(false).collect());
}

/// Requests, whatever came of them: sums of series that differ in that.
fn requests(dialect: &Dialect, out: &mut Vec<Samples>) {
    let mut sums: BTreeMap<Labels, u64> = BTreeMap::new();
    for (key, labels, http) in dialect.http.iter() {
        let ends = key.map_or(labels, |key| &key.ends.0);
        *sums.entry(ends.clone()).or_default() += http.requests;
    }
    let series = sums
        .iter()
        .map(|(labels, count)| Series::new(labels, Value::Integer(*count)));
    add(out, &contract::LINKERD_REQUESTS, series.collect());
}

fn add(out: &mut Vec<Samples>, family: &'static Family, series: Vec<Series>) {
    if !series.is_empty() {
        out.push(Samples { family, series });
    }
}

fn http(
    dialect: &Dialect,
    out: &mut Vec<Samples>,
    family: &'static Family,
    pick: fn(&Http) -> u64,
) {
    let series = dialect.http.iter();
    let series = series.map(|(_, labels, http)| Series::new(labels, Value::Integer(pick(http))));
    add(out, family, series.collect());
}

fn milliseconds(dialect: &Dialect, out: &mut Vec<Samples>, family: &'static Family) {
    let series = dialect.http.iter().map(|(_, labels, http)| {
        let observed = Box::new(http.milliseconds.clone());
        Series::new(labels, Value::Histogram(&REQUEST_MILLISECONDS, observed))
    });
    add(out, family, series.collect());
}

fn sizes(
    dialect: &Dialect,
    out: &mut Vec<Samples>,
    family: &'static Family,
    pick: fn(&Http) -> Histogram,
) {
    const BUCKETS: &Buckets = &BODY_BYTES;
    let series = dialect.http.iter().map(|(_, labels, http)| {
        let observed = Box::new(Distribution::from(pick(http)));
        Series::new(labels, Value::Histogram(BUCKETS, observed))
    });
    add(out, family, series.collect());
}

fn tcp(dialect: &Dialect, out: &mut Vec<Samples>, family: &'static Family, pick: fn(&Tcp) -> u64) {
    let series = dialect.tcp.iter();
    let series = series.map(|(_, labels, tcp)| Series::new(labels, Value::Integer(pick(tcp))));
    add(out, family, series.collect());
}

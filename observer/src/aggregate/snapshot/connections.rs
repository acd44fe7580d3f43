//! Series of connections.

use crate::{
    aggregate::{
        Aggregator, contract,
        distribution::Distribution,
        histogram::{Buckets, CONNECTION_SECONDS, ROUND_TRIP_SECONDS},
        identity::Interned,
        links::{CLOSERS, FAILURES, Secured, Tcp},
        series::{Labels, Store},
    },
    model::security::Security,
};

use super::{Builder, Series, Value};

/// What depends on security, for each that connections had.
fn secured(store: &Store<Interned, Tcp>) -> impl Iterator<Item = (&Labels, Security, &Secured)> {
    store.iter().flat_map(|(_, labels, tcp)| {
        let used = Security::ALL.into_iter().zip(&tcp.secured);
        used.filter(|(_, secured)| secured.used)
            .map(move |(security, secured)| (labels, security, secured))
    })
}

// === impl Builder ===

impl Builder {
    pub(super) fn tcp(&mut self, store: &Store<Interned, Tcp>) {
        let mut integers = |family, pick: fn(&Tcp) -> u64| {
            let series = store
                .iter()
                .map(|(_, labels, tcp)| Series::new(labels, Value::Integer(pick(tcp))));
            self.add(family, series);
        };
        integers(&contract::TCP_OPENED, |tcp| tcp.opened);
        let failures = store.iter().flat_map(|(_, labels, tcp)| {
            let counts = FAILURES
                .iter()
                .zip(tcp.failures)
                .filter(|(_, count)| *count > 0);
            counts.map(|(failure, count)| Series {
                labels: labels.clone(),
                more: Box::new([("reason", failure.as_str())]),
                value: Value::Integer(count),
            })
        });
        self.add(&contract::TCP_FAILURES, failures);
        let closed = secured(store).flat_map(|(labels, security, secured)| {
            let counts = CLOSERS
                .iter()
                .zip(secured.closed)
                .flat_map(|(by, [orderly, reset])| [(by, "false", orderly), (by, "true", reset)]);
            counts
                .filter(|(_, _, count)| *count > 0)
                .map(move |(by, reset, count)| Series {
                    labels: labels.clone(),
                    more: Box::new([
                        ("closed_by", by.as_str()),
                        ("reset", reset),
                        ("security", security.as_str()),
                    ]),
                    value: Value::Integer(count),
                })
        });
        self.add(&contract::TCP_CLOSED_TOTAL, closed);
        let mut by_security = |family, pick: fn(&Secured) -> u64| {
            let series = secured(store).map(|(labels, security, secured)| Series {
                labels: labels.clone(),
                more: Box::new([("security", security.as_str())]),
                value: Value::Integer(pick(secured)),
            });
            self.add(family, series);
        };
        by_security(&contract::TCP_OPEN, |secured| secured.open);
        by_security(&contract::TCP_SENT_BYTES, |secured| secured.sent_bytes);
        by_security(&contract::TCP_RECEIVED_BYTES, |secured| {
            secured.received_bytes
        });
        let mut integers = |family, pick: fn(&Tcp) -> u64| {
            let series = store
                .iter()
                .map(|(_, labels, tcp)| Series::new(labels, Value::Integer(pick(tcp))));
            self.add(family, series);
        };
        integers(&contract::TCP_SENT_SEGMENTS, |tcp| tcp.sent_segments);
        integers(&contract::TCP_RECEIVED_SEGMENTS, |tcp| {
            tcp.received_segments
        });
        integers(&contract::TCP_RETRANSMITS, |tcp| tcp.retransmits);
        let times = store.iter().map(|(_, labels, tcp)| {
            let value = Value::Histogram(&ROUND_TRIP_SECONDS, Box::new(tcp.rtt.clone()));
            Series::new(labels, value)
        });
        self.add(&contract::TCP_RTT, times);
        let minimum = store.iter().filter_map(|(_, labels, tcp)| {
            let seconds = f64::from(tcp.minimum_rtt_us?) / 1e6;
            Some(Series::new(labels, Value::Float(seconds)))
        });
        self.add(&contract::TCP_MINIMUM_RTT, minimum);
        let mut histograms = |family, buckets: &'static Buckets, pick: fn(&Tcp) -> Distribution| {
            let series = store.iter().map(|(_, labels, tcp)| (labels, pick(tcp)));
            // A series that never can have one, as connect times of servers, says nothing.
            let series = series.filter(|(_, histogram)| histogram.count() > 0);
            self.add(
                family,
                series.map(|(labels, histogram)| {
                    Series::new(labels, Value::Histogram(buckets, Box::new(histogram)))
                }),
            );
        };
        histograms(&contract::TCP_CONNECT, &ROUND_TRIP_SECONDS, |tcp| {
            tcp.connect.clone()
        });
        histograms(&contract::TCP_DURATION, &CONNECTION_SECONDS, |tcp| {
            tcp.duration.into()
        });
    }

    pub(super) fn security(&mut self, aggregator: &Aggregator) {
        let series = aggregator.services.iter().flat_map(|(_, labels, service)| {
            let counts = Security::ALL
                .iter()
                .zip(service.security)
                .filter(|(_, count)| *count > 0);
            counts.map(|(security, count)| Series {
                labels: labels.clone(),
                more: Box::new([("security", security.as_str())]),
                value: Value::Integer(count),
            })
        });
        self.add(&contract::CONNECTIONS_SECURITY, series);
    }
}

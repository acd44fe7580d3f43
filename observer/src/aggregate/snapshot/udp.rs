//! Measures of UDP as plain values.

use super::{Builder, Series, Value};
use crate::{
    aggregate::{
        Aggregator,
        contract::{self, Family},
        histogram::LOOKUP_SECONDS,
        udp::{LookupKey, Lookups},
    },
    model::{connection::Role, datagram::Traffic, lookup::LookupOutcome},
};

impl Builder {
    pub(super) fn udp(&mut self, aggregator: &Aggregator) {
        let lookups = &aggregator.lookups;
        // A lookup that was not heard out has no duration. The overflow series has no key, and has
        // all that came to it.
        let measured = |key: Option<&LookupKey>| {
            key.is_none_or(|key| {
                let waited = matches!(
                    key.outcome,
                    LookupOutcome::Answered | LookupOutcome::Truncated | LookupOutcome::Timeout
                );
                key.role == Role::Client && waited
            })
        };
        let durations = lookups.iter().filter(|(key, ..)| measured(*key));
        self.add(
            &contract::DNS_LOOKUP_DURATION,
            durations.map(|(_, labels, lookups)| {
                let value = Value::Histogram(&LOOKUP_SECONDS, Box::new(lookups.duration.clone()));
                Series::new(labels, value)
            }),
        );
        let mut counts = |family: &'static Family, pick: fn(&Lookups) -> u64| {
            let series = lookups.iter().map(|(key, labels, lookups)| Series {
                labels: labels.clone(),
                more: key
                    .map(|key| ("role", key.role.as_str()))
                    .into_iter()
                    .collect(),
                value: Value::Integer(pick(lookups)),
            });
            self.add(family, series);
        };
        counts(&contract::DNS_LOOKUPS, |lookups| lookups.count);
        counts(&contract::DNS_RETRIES, |lookups| lookups.retries);
        let mut traffic = |family: &'static Family, pick: fn(&Traffic) -> u64| {
            let series = aggregator
                .datagrams
                .iter()
                .map(|(_, labels, traffic)| Series::new(labels, Value::Integer(pick(traffic))));
            self.add(family, series);
        };
        traffic(&contract::UDP_SENT_BYTES, |traffic| traffic.sent_bytes);
        traffic(&contract::UDP_RECEIVED_BYTES, |traffic| {
            traffic.received_bytes
        });
        traffic(&contract::UDP_SENT_PACKETS, |traffic| traffic.sent_packets);
        traffic(&contract::UDP_RECEIVED_PACKETS, |traffic| {
            traffic.received_packets
        });
    }
}

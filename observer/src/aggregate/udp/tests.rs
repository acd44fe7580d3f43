//! Tests of the measures of lookups and datagrams.

use std::time::Duration;

use super::*;
use crate::{
    aggregate::{
        Budgets, Config, contract,
        fixture::{conversation, resolution},
        snapshot::Value,
    },
    telemetry::health::Health,
};

const NOW: Monotonic = Monotonic(1_000_000_000);

/// All series of a family, labels and number.
fn series(aggregator: &mut Aggregator, family: &'static contract::Family) -> Vec<(String, u64)> {
    let snapshot = aggregator.snapshot(Health::default(), NOW);
    let samples = snapshot
        .families
        .iter()
        .filter(|samples| std::ptr::eq(samples.family, family));
    let mut found: Vec<_> = samples
        .flat_map(|samples| &samples.series)
        .map(|series| {
            let labels: Vec<_> = series
                .labels()
                .map(|(name, value)| {
                    assert!(family.labels.contains(&name), "{name}");
                    format!("{name}={value}")
                })
                .collect();
            let value = match &series.value {
                Value::Integer(value) => *value,
                Value::Histogram(_, histogram) => histogram.count(),
                Value::Float(_) => panic!("no float here"),
            };
            (labels.join(" "), value)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn lookups_are_counted_at_both_ends_and_measured_at_the_client() {
    let mut aggregator = Aggregator::new(Config::default());
    for _ in 0..3 {
        let found = resolution(Role::Client, LookupOutcome::Answered, Some(3));
        aggregator.lookup(&found, NOW);
    }
    aggregator.lookup(
        &resolution(Role::Server, LookupOutcome::Answered, Some(3)),
        NOW,
    );
    aggregator.lookup(&resolution(Role::Client, LookupOutcome::Timeout, None), NOW);
    aggregator.lookup(
        &resolution(Role::Client, LookupOutcome::Superseded, None),
        NOW,
    );
    let who = "service_name=web service_namespace=shop";
    let server = "server_address=10.96.0.10 server_port=53";
    let client = format!("{who} {server} network_transport=udp dns_question_type=AAAA");
    let failed = "dns_response_code=NXDOMAIN outcome=answered error_type=NXDOMAIN";
    let expected = [
        (format!("{client} {failed}"), 3),
        (format!("{client} outcome=timeout error_type=timeout"), 1),
    ];
    assert_eq!(
        series(&mut aggregator, &contract::DNS_LOOKUP_DURATION),
        expected
    );
    let expected = [
        (
            format!("{who} network_transport=udp dns_question_type=AAAA {failed} role=server"),
            1,
        ),
        (format!("{client} {failed} role=client"), 3),
        (format!("{client} outcome=superseded role=client"), 1),
        (
            format!("{client} outcome=timeout error_type=timeout role=client"),
            1,
        ),
    ];
    assert_eq!(series(&mut aggregator, &contract::DNS_LOOKUPS), expected);
    let retries: u64 = series(&mut aggregator, &contract::DNS_RETRIES)
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(retries, 6);
}

#[test]
fn only_places_are_labels_of_datagrams() {
    let mut aggregator = Aggregator::new(Config::default());
    let who = "service_name=web service_namespace=shop";
    let check = |aggregator: &mut Aggregator, conversation: &Conversation, expected: &str| {
        aggregator.datagrams(conversation, NOW);
        let found = series(aggregator, &contract::UDP_RECEIVED_BYTES);
        let expected = (format!("{who} {expected}"), 200);
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    };
    check(
        &mut aggregator,
        &conversation("192.0.2.1:123", "10.0.0.1:40000", None),
        "service_peer_name=cdn.example network_peer_address=192.0.2.1 network_peer_port=123 \
         network_protocol_name=udp",
    );
    check(
        &mut aggregator,
        &conversation("192.0.2.1:40000", "10.0.0.1:123", None),
        "network_protocol_name=udp",
    );
    check(
        &mut aggregator,
        &conversation("192.0.2.1:50443", "10.0.0.1:40000", Some(Role::Client)),
        "service_peer_name=cdn.example network_peer_address=192.0.2.1 network_peer_port=50443 \
         network_protocol_name=quic",
    );
    check(
        &mut aggregator,
        &conversation("192.0.2.1:443", "10.0.0.1:50443", Some(Role::Server)),
        "network_protocol_name=quic",
    );
    for (family, each) in [
        (&contract::UDP_SENT_BYTES, 100),
        (&contract::UDP_SENT_PACKETS, 1),
        (&contract::UDP_RECEIVED_PACKETS, 2),
    ] {
        let found = series(&mut aggregator, family);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|(_, value)| *value == each));
    }
}

#[test]
fn a_flow_is_kept_when_it_is_over() {
    let mut aggregator = Aggregator::new(Config::default());
    let mut over = conversation("192.0.2.1:123", "10.0.0.1:40000", None);
    assert_eq!(aggregator.datagrams(&over, NOW), None);
    over.datagrams.ended = true;
    over.datagrams.change = Traffic::default();
    assert!(aggregator.datagrams(&over, NOW).is_some());
    let found = resolution(Role::Client, LookupOutcome::Answered, Some(0));
    assert!(aggregator.lookup(&found, NOW).is_some());
    aggregator.reconfigure(Config {
        flow_ratio: 0.0,
        ..Config::default()
    });
    assert_eq!(aggregator.lookup(&found, NOW), None);
    let failed = resolution(Role::Client, LookupOutcome::Timeout, None);
    assert!(aggregator.lookup(&failed, NOW).is_some());
}

#[test]
fn series_are_bounded_and_forgotten() {
    let mut aggregator = Aggregator::new(Config {
        budgets: Budgets::all(2),
        ..Config::default()
    });
    for port in 1..=10 {
        let remote = format!("192.0.2.1:{port}");
        aggregator.datagrams(&conversation(&remote, "10.0.0.1:40000", None), NOW);
        let mut found = resolution(Role::Client, LookupOutcome::Answered, Some(0));
        found.lookup.remote = remote.parse().unwrap();
        aggregator.lookup(&found, NOW);
    }
    for (family, count) in [
        (&contract::UDP_SENT_PACKETS, 8),
        (&contract::DNS_LOOKUPS, 8),
        (&contract::DNS_LOOKUP_DURATION, 8),
    ] {
        let found = series(&mut aggregator, family);
        assert_eq!(found.len(), 3, "{}", family.name);
        let rest = ("otel_metric_overflow=true".to_owned(), count);
        assert!(found.contains(&rest), "{found:?}");
    }
    let later = NOW.plus(Duration::from_secs(3600));
    aggregator.expire(later);
    assert_eq!(
        series(&mut aggregator, &contract::UDP_SENT_PACKETS).len(),
        1
    );
    assert_eq!(series(&mut aggregator, &contract::DNS_LOOKUPS).len(), 1);
}

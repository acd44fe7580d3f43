//! Metrics, decoded and compared.

use std::{collections::BTreeSet, time::Duration};

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets as GrownMessage;
use prost::Message as _;

use super::{
    super::fixture::{EPOCH, about, assert_attributes, by_key},
    *,
};
use crate::{
    aggregate::{
        contract::{self, FAMILIES, Family},
        distribution::Distribution,
        fixture::SECOND,
        histogram::REQUEST_SECONDS,
        series::Labels,
    },
    config::Histograms,
    model::trace::{SpanId, TraceId},
};

const STARTED: u64 = EPOCH + SECOND;

fn encoder(temporality: Temporality, exponential: bool) -> Encoder {
    let settings = Settings {
        temporality,
        exponential,
    };
    Encoder::new(settings, STARTED)
}

fn labels(pairs: &[(&'static str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(name, value)| (*name, Box::from(*value)))
        .collect()
}

fn series(pairs: &[(&'static str, &str)], value: Value) -> Series {
    Series {
        labels: labels(pairs),
        more: Box::default(),
        value,
    }
}

fn snapshot(seconds: u64, families: Vec<(&'static Family, Vec<Series>)>) -> Snapshot {
    Snapshot {
        at: Monotonic(seconds * SECOND),
        families: families
            .into_iter()
            .map(|(family, series)| Samples { family, series })
            .collect(),
        services: Vec::new(),
        cluster: Vec::new(),
        histograms: Histograms::Both,
        export: Vec::new(),
    }
}

/// What a receiver reads.
fn sent(encoder: &mut Encoder, snapshot: &Snapshot) -> Vec<ResourceMetrics> {
    let requests = encoder.encode(snapshot, &about());
    let requests = requests.into_iter().map(|request| {
        let bytes = request.encode_to_vec();
        ExportMetricsServiceRequest::decode(&*bytes).unwrap()
    });
    requests
        .flat_map(|request| request.resource_metrics)
        .collect()
}

fn metrics(groups: &[ResourceMetrics]) -> Vec<Metric> {
    let scopes = groups.iter().flat_map(|group| &group.scope_metrics);
    scopes.flat_map(|scope| scope.metrics.clone()).collect()
}

/// The one number that was told, with its start and its time.
fn number(groups: &[ResourceMetrics]) -> Option<(u64, u64, number_data_point::Value)> {
    let point = match metrics(groups).pop()?.data.unwrap() {
        Data::Sum(mut sum) => sum.data_points.pop(),
        Data::Gauge(mut gauge) => gauge.data_points.pop(),
        other => panic!("{other:?}"),
    }?;
    let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
    Some((start, time, point.value.unwrap()))
}

fn at(seconds: u64) -> u64 {
    EPOCH + seconds * SECOND
}

fn counted(seconds: u64, value: u64) -> Snapshot {
    let count = series(&[("stage", "kernel")], Value::Integer(value));
    snapshot(seconds, vec![(&contract::LOSS, vec![count])])
}

fn int(value: i64) -> number_data_point::Value {
    number_data_point::Value::AsInt(value)
}

#[test]
fn a_counter_is_a_monotonic_sum_since_its_start() {
    let mut encoder = encoder(Temporality::Cumulative, false);
    let first = sent(&mut encoder, &counted(10, 5));
    let metric = metrics(&first).remove(0);
    assert_eq!(metric.name, "observer.loss");
    assert_eq!(metric.unit, "{loss}");
    assert_eq!(metric.description, contract::LOSS.help);
    let Some(Data::Sum(sum)) = metric.data else {
        panic!("{metric:?}")
    };
    assert!(sum.is_monotonic);
    assert_eq!(
        sum.aggregation_temporality(),
        AggregationTemporality::Cumulative
    );
    assert_attributes(&sum.data_points[0].attributes, "stage=kernel");
    assert_eq!(number(&first), Some((STARTED, at(10), int(5))));
    let second = sent(&mut encoder, &counted(20, 5));
    assert_eq!(number(&second), Some((STARTED, at(20), int(5))));
    // It went down: it counts anew, since the snapshot before at the earliest.
    let third = sent(&mut encoder, &counted(30, 1));
    assert_eq!(number(&third), Some((at(20), at(30), int(1))));
    let fourth = sent(&mut encoder, &counted(40, 7));
    assert_eq!(number(&fourth), Some((at(20), at(40), int(7))));
}

#[test]
fn a_series_that_went_away_starts_anew() {
    let mut encoder = encoder(Temporality::Cumulative, false);
    sent(&mut encoder, &counted(10, 5));
    assert_eq!(sent(&mut encoder, &snapshot(20, Vec::new())), []);
    let again = sent(&mut encoder, &counted(30, 9));
    assert_eq!(number(&again), Some((at(20), at(30), int(9))));
}

#[test]
fn a_delta_is_what_was_added() {
    let mut encoder = encoder(Temporality::Delta, false);
    let first = sent(&mut encoder, &counted(10, 5));
    let Some(Data::Sum(sum)) = metrics(&first).remove(0).data else {
        panic!()
    };
    assert!(sum.is_monotonic);
    assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Delta);
    assert_eq!(number(&first), Some((STARTED, at(10), int(5))));
    let second = sent(&mut encoder, &counted(20, 8));
    assert_eq!(number(&second), Some((at(10), at(20), int(3))));
    assert_eq!(sent(&mut encoder, &counted(30, 8)), []);
    let fourth = sent(&mut encoder, &counted(40, 9));
    assert_eq!(number(&fourth), Some((at(30), at(40), int(1))));
    let restarted = sent(&mut encoder, &counted(50, 2));
    assert_eq!(number(&restarted), Some((at(40), at(50), int(2))));
}

#[test]
fn a_count_of_seconds_is_a_float() {
    let mut encoder = encoder(Temporality::Delta, false);
    let cpu = |seconds, value| {
        let cpu = series(&[], Value::Float(value));
        snapshot(seconds, vec![(&contract::PROCESS_CPU, vec![cpu])])
    };
    sent(&mut encoder, &cpu(10, 1.5));
    let second = sent(&mut encoder, &cpu(20, 1.75));
    assert_eq!(metrics(&second)[0].name, "process.cpu");
    assert_eq!(metrics(&second)[0].unit, "s");
    let value = number_data_point::Value::AsDouble(0.25);
    assert_eq!(number(&second), Some((at(10), at(20), value)));
}

#[test]
fn a_gauge_has_no_start_and_an_up_down_counter_is_a_sum() {
    let mut encoder = encoder(Temporality::Delta, false);
    let gauge = snapshot(
        10,
        vec![(
            &contract::RING_SIZE,
            vec![series(&[], Value::Integer(8 << 20))],
        )],
    );
    for _ in 0..2 {
        let told = sent(&mut encoder, &gauge);
        assert!(matches!(metrics(&told)[0].data, Some(Data::Gauge(_))));
        assert_eq!(metrics(&told)[0].unit, "By");
        assert_eq!(number(&told), Some((0, at(10), int(8 << 20))));
    }
    let active = series(&[("service_name", "web")], Value::Integer(3));
    let active = snapshot(20, vec![(&contract::HTTP_SERVER_ACTIVE, vec![active])]);
    for _ in 0..2 {
        let told = sent(&mut encoder, &active);
        let metric = metrics(&told).remove(0);
        assert_eq!(metric.name, "http.server.active_requests");
        assert_eq!(metric.unit, "{request}");
        let Some(Data::Sum(sum)) = metric.data else {
            panic!()
        };
        assert!(!sum.is_monotonic);
        assert_eq!(
            sum.aggregation_temporality(),
            AggregationTemporality::Cumulative
        );
        assert_eq!(number(&told), Some((STARTED, at(20), int(3))));
    }
}

fn durations(milliseconds: &[u64], exponential: bool) -> Distribution {
    let mut distribution = Distribution::new(exponential);
    for (index, milliseconds) in (1_u8..).zip(milliseconds) {
        let span = Some((TraceId([index; 16]), SpanId([index; 8])));
        let value = Duration::from_millis(*milliseconds);
        distribution.observe_duration(
            &REQUEST_SECONDS,
            value,
            span,
            Monotonic(u64::from(index) * SECOND),
        );
    }
    distribution
}

fn observed(seconds: u64, distribution: Distribution) -> Snapshot {
    let value = Value::Histogram(&REQUEST_SECONDS, Box::new(distribution));
    let pairs = [
        ("service_name", "web"),
        ("http_response_status_code", "200"),
    ];
    let duration = series(&pairs, value);
    snapshot(
        seconds,
        vec![(&contract::HTTP_SERVER_DURATION, vec![duration])],
    )
}

fn fixed(groups: &[ResourceMetrics]) -> HistogramDataPoint {
    match metrics(groups).remove(0).data {
        Some(Data::Histogram(histogram)) => histogram.data_points[0].clone(),
        other => panic!("{other:?}"),
    }
}

fn grown(groups: &[ResourceMetrics]) -> ExponentialHistogramDataPoint {
    match metrics(groups).remove(0).data {
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_histogram_has_bounds_counts_sum_and_exemplars() {
    let mut encoder = encoder(Temporality::Cumulative, false);
    let told = sent(
        &mut encoder,
        &observed(10, durations(&[3, 80, 20_000], true)),
    );
    let metric = metrics(&told).remove(0);
    assert_eq!(metric.name, "http.server.request.duration");
    assert_eq!(metric.unit, "s");
    let point = fixed(&told);
    assert_eq!(
        (point.start_time_unix_nano, point.time_unix_nano),
        (STARTED, at(10))
    );
    assert_eq!(point.count, 3);
    assert_eq!(point.sum, Some(20.083));
    assert_eq!(point.explicit_bounds.len(), 14);
    assert_eq!(point.explicit_bounds[..2], [0.005, 0.01]);
    assert_eq!(
        point.bucket_counts,
        [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    );
    assert_attributes(&point.attributes, "http.response.status_code=200");
    let mut exemplars = point.exemplars;
    exemplars.sort_by_key(|exemplar| exemplar.time_unix_nano);
    assert_eq!(exemplars.len(), 3);
    let first = &exemplars[0];
    assert_eq!(first.trace_id, [1; 16]);
    assert_eq!(first.span_id, [1; 8]);
    assert_eq!(first.time_unix_nano, at(1));
    assert_eq!(first.value, Some(exemplar::Value::AsDouble(0.003)));
    // They were told.
    let again = sent(
        &mut encoder,
        &observed(20, durations(&[3, 80, 20_000], true)),
    );
    assert_eq!(fixed(&again).exemplars, []);
}

#[test]
fn an_exponential_histogram_has_the_same_observations() {
    let mut encoder = encoder(Temporality::Cumulative, true);
    let told = sent(
        &mut encoder,
        &observed(10, durations(&[0, 1_000, 1_000], true)),
    );
    let point = grown(&told);
    assert_eq!((point.count, point.zero_count), (3, 1));
    assert_eq!(point.sum, Some(2.0));
    assert_eq!(point.scale, 4);
    // One second is the upper bound of the bucket that ends at 2^0.
    let buckets = GrownMessage {
        offset: -1,
        bucket_counts: vec![2],
    };
    assert_eq!(point.positive, Some(buckets));
    assert_eq!(point.exemplars.len(), 2);
    // What has none is told with fixed buckets.
    let told = sent(&mut encoder, &observed(20, durations(&[1], false)));
    assert_eq!(fixed(&told).count, 1);
}

#[test]
fn histograms_tell_what_was_added() {
    for exponential in [false, true] {
        let mut encoder = encoder(Temporality::Delta, exponential);
        let mut values = vec![3, 80];
        sent(&mut encoder, &observed(10, durations(&values, true)));
        values.extend([90, 20_000]);
        let told = sent(&mut encoder, &observed(20, durations(&values, true)));
        let (start, count, sum) = if exponential {
            let point = grown(&told);
            assert_eq!(point.positive.unwrap().bucket_counts.iter().sum::<u64>(), 2);
            (point.start_time_unix_nano, point.count, point.sum)
        } else {
            let point = fixed(&told);
            assert_eq!(point.bucket_counts.iter().sum::<u64>(), 2);
            (point.start_time_unix_nano, point.count, point.sum)
        };
        assert_eq!((start, count, sum), (at(10), 2, Some(20.09)));
        assert_eq!(
            sent(&mut encoder, &observed(30, durations(&values, true))),
            []
        );
        // Fewer than before: all of it is new.
        let told = sent(&mut encoder, &observed(40, durations(&[5_000], true)));
        let count = match exponential {
            true => grown(&told).count,
            false => fixed(&told).count,
        };
        assert_eq!(count, 1);
    }
}

#[test]
fn a_service_has_a_resource_and_the_observer_another() {
    let mut encoder = encoder(Temporality::Cumulative, false);
    let pairs = [
        ("service_name", "cart"),
        ("service_namespace", "shop"),
        ("k8s_cluster_name", "west"),
        ("k8s_namespace_name", "shop"),
        ("k8s_workload_kind", "Deployment"),
        ("k8s_workload_name", "cart"),
        ("k8s_container_name", "main"),
        ("server_port", "8080"),
        ("error_type", "503"),
        ("security", "plaintext"),
    ];
    let other = [("service_name", "web")];
    let overflow = [("otel_metric_overflow", "true")];
    let count = |pairs: &[(&'static str, &str)]| series(pairs, Value::Integer(1));
    let all = vec![
        (
            &contract::TCP_OPENED,
            vec![count(&pairs), count(&other), count(&overflow)],
        ),
        (&contract::TCP_RETRANSMITS, vec![count(&pairs)]),
        (&contract::LOSS, vec![count(&[("reason", "x")])]),
    ];
    let told = sent(&mut encoder, &snapshot(10, all));
    assert_eq!(told.len(), 3);
    let resource = |index: usize| {
        let group = &told[index];
        assert_eq!(group.schema_url, SCHEMA_URL);
        assert_eq!(
            group.scope_metrics[0].scope.as_ref().unwrap().name,
            "observer"
        );
        &group.resource.as_ref().unwrap().attributes
    };
    assert_attributes(
        resource(0),
        "host.id=0123456789abcdef0123456789abcdef
        host.name=node-1
        k8s.cluster.name=west
        k8s.container.name=main
        k8s.deployment.name=cart
        k8s.namespace.name=shop
        k8s.node.name=node-1
        k8s.workload.kind=Deployment
        k8s.workload.name=cart
        service.instance.id=node-1.shop.Deployment.cart.main
        service.name=cart
        service.namespace=shop
        telemetry.distro.name=observer
        telemetry.distro.version=1.2.3",
    );
    let names = |index: usize| -> Vec<String> {
        let metrics = &told[index].scope_metrics[0].metrics;
        metrics.iter().map(|metric| metric.name.clone()).collect()
    };
    assert_eq!(
        names(0),
        [
            "observer.tcp.connections.opened",
            "observer.tcp.retransmits"
        ]
    );
    assert_eq!(names(1), ["observer.tcp.connections.opened"]);
    assert_eq!(by_key(resource(1))["service.instance.id"], "node-1");
    assert_eq!(
        names(2),
        ["observer.tcp.connections.opened", "observer.loss"]
    );
    assert_eq!(by_key(resource(2))["service.name"], "observer");
    let Some(Data::Sum(sum)) = &told[0].scope_metrics[0].metrics[0].data else {
        panic!()
    };
    assert_attributes(
        &sum.data_points[0].attributes,
        "error.type=503
        security=plaintext
        server.port=8080",
    );
    let Some(Data::Sum(sum)) = &told[2].scope_metrics[0].metrics[0].data else {
        panic!()
    };
    assert_attributes(&sum.data_points[0].attributes, "otel.metric.overflow=true");
}

#[test]
fn the_observer_is_told_by_its_resource_alone() {
    let target = series(&[("service_name", "observer")], Value::Integer(1));
    let told = sent(
        &mut encoder(Temporality::Cumulative, false),
        &snapshot(10, vec![(&contract::TARGET, vec![target])]),
    );
    assert_eq!(told, []);
}

#[test]
fn many_points_are_several_requests() {
    let mut encoder = encoder(Temporality::Cumulative, false);
    let all = (0..MAX_POINTS + 5).map(|number| {
        let name = number.to_string();
        series(
            &[("service_name", "web"), ("server_address", &name)],
            Value::Integer(1),
        )
    });
    let all = snapshot(10, vec![(&contract::TCP_OPENED, all.collect())]);
    let requests = encoder.encode(&all, &about());
    let points: Vec<usize> = requests
        .iter()
        .map(|request| {
            let metrics = metrics(&request.resource_metrics);
            assert_eq!(metrics.len(), 1);
            match &metrics[0].data {
                Some(Data::Sum(sum)) => sum.data_points.len(),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(points, [MAX_POINTS, 5]);
    assert!(requests[0].encoded_len() < 4 << 20);
}

#[test]
fn a_clock_that_is_set_moves_no_start() {
    let mut encoder = encoder(Temporality::Cumulative, false);
    let mut about = about();
    encoder.encode(&counted(10, 1), &about);
    about.offset.nanoseconds -= 3_600 * SECOND;
    let told = encoder.encode(&counted(20, 2), &about);
    let (start, time, _) = number(&told[0].resource_metrics).unwrap();
    assert_eq!(start, STARTED);
    assert!(time >= start);
}

/// What Prometheus makes of a name (`UnderscoreEscapingWithSuffixes`).
fn translated(name: &str, unit: &str, family: &Family) -> String {
    let mut tokens: Vec<&str> = name
        .split(|character: char| !character.is_ascii_alphanumeric())
        .collect();
    let suffix = match unit {
        "s" => Some("seconds"),
        "By" => Some("bytes"),
        _ => None,
    };
    if let Some(suffix) = suffix.filter(|suffix| !tokens.contains(suffix)) {
        tokens.push(suffix);
    }
    if family.kind == Kind::Counter {
        tokens.retain(|token| *token != "total");
        tokens.push("total");
    }
    if unit == "1" && family.kind == Kind::Gauge {
        tokens.retain(|token| *token != "ratio");
        tokens.push("ratio");
    }
    tokens.join("_")
}

#[test]
fn names_are_valid_unique_and_those_of_the_contract_once_translated() {
    let known = Names::new();
    let mut names = BTreeSet::new();
    for family in FAMILIES {
        let (name, unit) = (known.metric(family), name::unit(family));
        assert_eq!(
            translated(&name, unit, family),
            family.name,
            "{name} {unit}"
        );
        // Instrument names of the metrics API: a letter, then at most 254 of these.
        assert!(name.starts_with(|first: char| first.is_ascii_alphabetic()));
        let valid =
            |character: char| character.is_ascii_alphanumeric() || "_.-/".contains(character);
        assert!(name.len() <= 255 && name.chars().all(valid), "{name}");
        let annotation = unit.starts_with('{') && unit.ends_with('}');
        assert!(
            annotation || ["s", "By", "1", ""].contains(&unit),
            "{name} {unit}"
        );
        assert!(names.insert(name.to_ascii_lowercase()), "{name} twice");
    }
}

#[test]
fn attributes_are_unique_and_the_labels_of_the_contract_once_translated() {
    let names = Names::new();
    for family in FAMILIES {
        let mut keys = BTreeSet::new();
        for label in family.labels {
            let key = names.key(label);
            assert_eq!(key.replace('.', "_"), *label);
            assert!(keys.insert(key), "{} {key} twice", family.name);
        }
    }
}

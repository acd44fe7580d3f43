//! Snapshot to the protobuf format of Prometheus, the one that has native histograms.
//!
//! The messages are those of `io/prometheus/client/metrics.proto` (prometheus/client_model), with
//! the fields that are used here. The file is of syntax `proto2`: repeated numbers are not packed.

use prost::Message;

use crate::{
    aggregate::{
        contract::Kind,
        distribution::{Distribution, Exemplar},
        exponential::{Exponential, MAX_SCALE},
        histogram::Buckets,
        snapshot::{Samples, Series, Snapshot, Value},
    },
    config::Histograms,
    model::time::WallOffset,
};

/// `io.prometheus.client.MetricFamily`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FamilyMessage {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub(super) kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<MetricMessage>,
    #[prost(string, optional, tag = "5")]
    pub(super) unit: Option<String>,
}

/// `io.prometheus.client.Metric`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelMessage>,
    #[prost(message, optional, tag = "2")]
    pub(super) gauge: Option<NumberMessage>,
    #[prost(message, optional, tag = "3")]
    pub(super) counter: Option<NumberMessage>,
    #[prost(message, optional, boxed, tag = "7")]
    pub(super) histogram: Option<Box<HistogramMessage>>,
}

/// `io.prometheus.client.LabelPair`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelMessage {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// `io.prometheus.client.Gauge` and `Counter`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NumberMessage {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

/// `io.prometheus.client.Histogram`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HistogramMessage {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<BucketMessage>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<SpanMessage>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub(super) positive_delta: Vec<i64>,
    #[prost(message, repeated, tag = "16")]
    pub(super) exemplars: Vec<ExemplarMessage>,
}

/// `io.prometheus.client.Bucket`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BucketMessage {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) exemplar: Option<ExemplarMessage>,
}

/// `io.prometheus.client.BucketSpan`: buckets without a gap.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct SpanMessage {
    /// Index of the first bucket in the first span; in others the width of the gap before it.
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}

/// `io.prometheus.client.Exemplar`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExemplarMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelMessage>,
    #[prost(double, optional, tag = "2")]
    pub(super) value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) timestamp: Option<TimestampMessage>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct TimestampMessage {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// Values up to here count as 0 in a native histogram: 2^-128, as Prometheus' own libraries have
/// it. It also marks a histogram as native that has no buckets yet.
const ZERO_THRESHOLD: f64 = f64::from_bits((1_023 - 128) << 52);

/// Empty buckets that cost less than a new span.
const SMALL_GAP: i32 = 2;

/// Renders all families, each after its length.
pub(super) fn render(snapshot: &Snapshot, offset: WallOffset) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 * 1024);
    for samples in &snapshot.families {
        let family = family(samples, snapshot.histograms, offset);
        out.reserve(family.encoded_len() + 10);
        // A vector has room for as much as there is memory.
        let _ = family.encode_length_delimited(&mut out);
    }
    out
}

fn family(samples: &Samples, shown: Histograms, offset: WallOffset) -> FamilyMessage {
    let family = samples.family;
    let series = samples.series.iter();
    FamilyMessage {
        name: Some(family.name.to_owned()),
        help: Some(family.help.to_owned()),
        kind: Some(match family.kind {
            Kind::Counter => 0,
            // This format has no info.
            Kind::Gauge | Kind::Info => 1,
            Kind::Histogram => 4,
        }),
        metric: series
            .map(|series| metric(family.kind, series, shown, offset))
            .collect(),
        unit: family.unit.map(str::to_owned),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the format has floats only")]
fn metric(kind: Kind, series: &Series, shown: Histograms, offset: WallOffset) -> MetricMessage {
    let mut message = MetricMessage {
        label: series
            .labels()
            .map(|(name, value)| label(name, value.to_owned()))
            .collect(),
        ..MetricMessage::default()
    };
    let number = match &series.value {
        Value::Integer(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Histogram(buckets, observed) => {
            let histogram = histogram(buckets, observed, shown, offset);
            message.histogram = Some(Box::new(histogram));
            return message;
        }
    };
    let number = Some(NumberMessage {
        value: Some(number),
    });
    if kind == Kind::Counter {
        message.counter = number;
    } else {
        message.gauge = number;
    }
    message
}

fn label(name: &str, value: String) -> LabelMessage {
    LabelMessage {
        name: Some(name.to_owned()),
        value: Some(value),
    }
}

pub(super) fn histogram(
    buckets: &Buckets,
    observed: &Distribution,
    shown: Histograms,
    offset: WallOffset,
) -> HistogramMessage {
    let mut message = HistogramMessage {
        sample_count: Some(observed.count()),
        sample_sum: Some(buckets.present(observed.sum())),
        ..HistogramMessage::default()
    };
    let native = observed.keeps_exponential() && shown.has_native();
    if !native || shown == Histograms::Both {
        message.bucket = classic(buckets, observed, offset);
    }
    if native {
        let (scale, zero_count) = match &observed.exponential {
            Some(exponential) => (exponential.scale(), exponential.zero_count()),
            None => (MAX_SCALE, 0),
        };
        message.schema = Some(scale.into());
        message.zero_threshold = Some(ZERO_THRESHOLD);
        message.zero_count = Some(zero_count);
        if let Some(exponential) = &observed.exponential {
            (message.positive_span, message.positive_delta) = spans(exponential);
        }
        let mut newest: Vec<&Exemplar> = observed.exemplars.iter().collect();
        newest.sort_by_key(|exemplar| exemplar.at);
        let newest = newest.into_iter();
        message.exemplars = newest.map(|it| exemplar(buckets, it, offset)).collect();
    }
    message
}

fn classic(buckets: &Buckets, observed: &Distribution, offset: WallOffset) -> Vec<BucketMessage> {
    let mut cumulative = 0;
    let bounds = buckets.upper_bounds().chain([f64::INFINITY]);
    let counts = observed.classic.counts.iter();
    bounds
        .zip(counts)
        .enumerate()
        .map(|(bucket, (upper, count))| {
            cumulative += count;
            let kept = observed.exemplars.of_bucket(bucket);
            BucketMessage {
                cumulative_count: Some(cumulative),
                upper_bound: Some(upper),
                exemplar: kept.map(|kept| exemplar(buckets, kept, offset)),
            }
        })
        .collect()
}

/// Runs of buckets, and the difference of each count to the one before it.
fn spans(exponential: &Exponential) -> (Vec<SpanMessage>, Vec<i64>) {
    let mut spans: Vec<SpanMessage> = Vec::new();
    let mut deltas = Vec::new();
    let mut before = 0_i64;
    let mut add = |deltas: &mut Vec<i64>, count: i64| {
        deltas.push(count - before);
        before = count;
    };
    // Where the next bucket is if there is no gap. An index here is of the upper bound.
    let mut next = 0_i32;
    for (index, count) in (exponential.offset() + 1..).zip(exponential.counts()) {
        if count == 0 {
            continue;
        }
        let gap = index - next;
        next = index + 1;
        match spans.last_mut() {
            Some(span) if gap <= SMALL_GAP => {
                (0..gap).for_each(|_| add(&mut deltas, 0));
                let more = u32::try_from(gap).unwrap_or_default() + 1;
                span.length = span.length.map(|length| length + more);
            }
            _ => spans.push(SpanMessage {
                offset: Some(gap),
                length: Some(1),
            }),
        }
        add(&mut deltas, i64::try_from(count).unwrap_or(i64::MAX));
    }
    (spans, deltas)
}

fn exemplar(buckets: &Buckets, exemplar: &Exemplar, offset: WallOffset) -> ExemplarMessage {
    const SECOND: u64 = 1_000_000_000;
    let at = offset.unix_nanoseconds(exemplar.at);
    ExemplarMessage {
        label: vec![
            label("trace_id", exemplar.trace.to_string()),
            label("span_id", exemplar.span.to_string()),
        ],
        value: Some(buckets.present(exemplar.value)),
        timestamp: Some(TimestampMessage {
            seconds: i64::try_from(at / SECOND).unwrap_or(i64::MAX),
            nanos: i32::try_from(at % SECOND).unwrap_or_default(),
        }),
    }
}

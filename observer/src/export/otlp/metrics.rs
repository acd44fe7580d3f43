//! Metrics as OTLP: every family of the contract, each service under its own resource.
//!
//! Labels that tell whose sockets they are become the resource (see [`mod@self::place`]), all others
//! attributes; names and units are those of [`mod@self::name`]. What is about no single service
//! (edges, losses, the observer's process, overflow series) is under the observer's own resource.
//! Gauges that the semantic conventions have as up-down counters are sums that are not monotonic,
//! as they are there, always cumulative.
//!
//! A series starts when it was first told: at the start of the observer for those of the first
//! snapshot, at the snapshot before for later ones, and anew when it went down. Exemplars are told
//! once.

mod grown;
mod name;
mod place;
mod stream;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        AggregationTemporality, Exemplar as ExemplarMessage, ExponentialHistogram,
        ExponentialHistogramDataPoint, Gauge, Histogram as HistogramMessage, HistogramDataPoint,
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar,
        exponential_histogram_data_point::Buckets as GrownBuckets, metric::Data, number_data_point,
    },
};

use self::{
    name::Names,
    place::Place,
    stream::{Amount, Streams, Told},
};
use super::resource::{SCHEMA_URL, scope};
use crate::{
    aggregate::{
        contract::{self, Kind},
        distribution::Exemplars,
        histogram::Buckets,
        snapshot::{Samples, Series, Snapshot, Value},
    },
    config::Temporality,
    export::about::About,
    model::time::Monotonic,
};

/// How metrics are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of counters and histograms.
    pub temporality: Temporality,
    /// Families that have exponential buckets are told with those, others with fixed ones: a
    /// metric of OTLP cannot have both.
    pub exponential: bool,
}

/// Makes requests of snapshots, and remembers what it told.
#[derive(Debug)]
pub struct Encoder {
    exponential: bool,
    temporality: Temporality,
    names: Names,
    streams: Streams,
    /// When the last snapshot was taken: exemplars that are older were told.
    told: Option<Monotonic>,
}

/// Most data points in one request: with 750 bytes each, as a histogram of calls has, it stays far
/// below the 4 MiB that collectors take by default.
pub const MAX_POINTS: usize = 2_000;

/// Requests that are made.
struct Requests<'a> {
    about: &'a About,
    done: Vec<ExportMetricsServiceRequest>,
    current: Vec<Group<'a>>,
    places: HashMap<Place<'a>, usize, RandomState>,
    points: usize,
}

/// The metrics of one resource.
struct Group<'a> {
    place: Place<'a>,
    /// Family of the last one.
    family: &'static str,
    metrics: Vec<Metric>,
}

/// One data point, whatever its kind.
enum Point {
    Number(NumberDataPoint),
    Fixed(HistogramDataPoint),
    Grown(ExponentialHistogramDataPoint),
}

// === impl Encoder ===

impl Encoder {
    /// Has told nothing yet; `started` is when counting began, nanoseconds since the Unix epoch.
    pub fn new(settings: Settings, started: u64) -> Self {
        let Settings {
            temporality,
            exponential,
        } = settings;
        Self {
            exponential,
            temporality,
            names: Names::new(),
            streams: Streams::new(temporality == Temporality::Delta, started),
            told: None,
        }
    }

    /// Times that a series was told without its past, or not told, because too many are
    /// remembered.
    pub const fn untracked(&self) -> u64 {
        self.streams.untracked()
    }

    /// All of `snapshot`, in as many requests as its size needs; none when nothing is to be told.
    pub fn encode(
        &mut self,
        snapshot: &Snapshot,
        about: &About,
    ) -> Vec<ExportMetricsServiceRequest> {
        let now = about.offset.unix_nanoseconds(snapshot.at);
        let mut requests = Requests::new(about);
        self.streams.begin(now);
        for samples in &snapshot.families {
            // What that tells is the resource, which Prometheus makes the same series of.
            if !std::ptr::eq(samples.family, &raw const contract::TARGET) {
                self.family(&mut requests, samples);
            }
        }
        self.streams.end();
        self.told = Some(snapshot.at);
        requests.finish()
    }

    fn family<'a>(&mut self, requests: &mut Requests<'a>, samples: &'a Samples) {
        let family = samples.family;
        let grown = self.exponential && samples.series.iter().all(has_grown);
        let of_service = place::is_of_service(family);
        for series in &samples.series {
            let Some(told) = self.streams.advance(family, series, grown) else {
                continue;
            };
            let place = Place::of(series, of_service);
            let point = self.point(series, told, &place, requests.about);
            let make = || self.metric(samples, grown);
            requests.add(place, family.name, make, point);
        }
    }

    /// A metric without points.
    fn metric(&self, samples: &Samples, grown: bool) -> Metric {
        let family = samples.family;
        let temporality = match self.temporality {
            Temporality::Cumulative => AggregationTemporality::Cumulative,
            Temporality::Delta => AggregationTemporality::Delta,
        };
        let temporality = temporality.into();
        let is_histogram = family.kind == Kind::Histogram;
        let data = match family.kind {
            Kind::Histogram if grown => Data::ExponentialHistogram(ExponentialHistogram {
                aggregation_temporality: temporality,
                ..ExponentialHistogram::default()
            }),
            _ if is_histogram => Data::Histogram(HistogramMessage {
                aggregation_temporality: temporality,
                ..HistogramMessage::default()
            }),
            Kind::Counter => Data::Sum(Sum {
                aggregation_temporality: temporality,
                is_monotonic: true,
                ..Sum::default()
            }),
            _ if stream::is_up_down(family) => Data::Sum(Sum {
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                ..Sum::default()
            }),
            _ => Data::Gauge(Gauge::default()),
        };
        Metric {
            name: self.names.metric(family),
            description: family.help.to_owned(),
            unit: name::unit(family).to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn point(&self, series: &Series, told: Told, place: &Place<'_>, about: &About) -> Point {
        let Told {
            start,
            time,
            amount,
        } = told;
        let attributes = self.names.attributes(place.rest(series));
        let number = |value| NumberDataPoint {
            attributes: Vec::new(),
            start_time_unix_nano: start,
            time_unix_nano: time,
            value: Some(value),
            ..NumberDataPoint::default()
        };
        match amount {
            Amount::Integer(value) => Point::Number(NumberDataPoint {
                attributes,
                ..number(number_data_point::Value::AsInt(
                    i64::try_from(value).unwrap_or(i64::MAX),
                ))
            }),
            Amount::Float(value) => Point::Number(NumberDataPoint {
                attributes,
                ..number(number_data_point::Value::AsDouble(value))
            }),
            Amount::Fixed(buckets, histogram) => {
                let used = buckets.bounds.len() + 1;
                Point::Fixed(HistogramDataPoint {
                    attributes,
                    start_time_unix_nano: start,
                    time_unix_nano: time,
                    count: histogram.count(),
                    sum: Some(buckets.present(histogram.sum)),
                    bucket_counts: histogram.counts.iter().take(used).copied().collect(),
                    explicit_bounds: buckets.upper_bounds().collect(),
                    exemplars: self.exemplars(series, buckets, about),
                    ..HistogramDataPoint::default()
                })
            }
            Amount::Grown(buckets, grown, sum) => Point::Grown(ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count: grown.count(),
                sum: Some(buckets.present(sum)),
                scale: grown.scale,
                zero_count: grown.zero,
                positive: Some(GrownBuckets {
                    offset: grown.offset,
                    bucket_counts: grown.counts,
                }),
                exemplars: self.exemplars(series, buckets, about),
                ..ExponentialHistogramDataPoint::default()
            }),
        }
    }

    /// Those that were not told yet.
    fn exemplars(&self, series: &Series, buckets: &Buckets, about: &About) -> Vec<ExemplarMessage> {
        let Value::Histogram(_, distribution) = &series.value else {
            return Vec::new();
        };
        let exemplars: &Exemplars = &distribution.exemplars;
        exemplars
            .iter()
            .filter(|exemplar| self.told.is_none_or(|told| exemplar.at > told))
            .map(|exemplar| ExemplarMessage {
                time_unix_nano: about.offset.unix_nanoseconds(exemplar.at),
                span_id: exemplar.span.0.to_vec(),
                trace_id: exemplar.trace.0.to_vec(),
                value: Some(exemplar::Value::AsDouble(buckets.present(exemplar.value))),
                ..ExemplarMessage::default()
            })
            .collect()
    }
}

fn has_grown(series: &Series) -> bool {
    match &series.value {
        Value::Histogram(_, distribution) => distribution.keeps_exponential(),
        Value::Integer(_) | Value::Float(_) => false,
    }
}

fn push(metric: &mut Metric, point: Point) {
    match (&mut metric.data, point) {
        (Some(Data::Gauge(gauge)), Point::Number(point)) => gauge.data_points.push(point),
        (Some(Data::Sum(sum)), Point::Number(point)) => sum.data_points.push(point),
        (Some(Data::Histogram(histogram)), Point::Fixed(point)) => {
            histogram.data_points.push(point);
        }
        (Some(Data::ExponentialHistogram(histogram)), Point::Grown(point)) => {
            histogram.data_points.push(point);
        }
        // A series has a value of the kind of its family.
        _ => {}
    }
}

// === impl Requests ===

impl<'a> Requests<'a> {
    fn new(about: &'a About) -> Self {
        Self {
            about,
            done: Vec::new(),
            current: Vec::new(),
            places: HashMap::default(),
            points: 0,
        }
    }

    /// Adds a point to the metric of `family` at `place`, which `make` makes.
    fn add(
        &mut self,
        place: Place<'a>,
        family: &'static str,
        make: impl FnOnce() -> Metric,
        point: Point,
    ) {
        if self.points >= MAX_POINTS {
            self.close();
        }
        self.points += 1;
        let current = &mut self.current;
        let index = *self.places.entry(place).or_insert_with_key(|place| {
            current.push(Group {
                place: *place,
                family: "",
                metrics: Vec::new(),
            });
            current.len() - 1
        });
        let Some(group) = self.current.get_mut(index) else {
            return;
        };
        // Families come one after the other.
        if group.family != family {
            group.family = family;
            group.metrics.push(make());
        }
        if let Some(metric) = group.metrics.last_mut() {
            push(metric, point);
        }
    }

    fn close(&mut self) {
        if !self.current.is_empty() {
            let groups = std::mem::take(&mut self.current);
            let about = self.about;
            self.done.push(ExportMetricsServiceRequest {
                resource_metrics: groups
                    .into_iter()
                    .map(|group| group.message(about))
                    .collect(),
            });
        }
        self.places.clear();
        self.points = 0;
    }

    fn finish(mut self) -> Vec<ExportMetricsServiceRequest> {
        self.close();
        self.done
    }
}

// === impl Group ===

impl Group<'_> {
    fn message(self, about: &About) -> ResourceMetrics {
        ResourceMetrics {
            resource: Some(self.place.resource(about)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope(about)),
                metrics: self.metrics,
                schema_url: SCHEMA_URL.to_owned(),
            }],
            schema_url: SCHEMA_URL.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;

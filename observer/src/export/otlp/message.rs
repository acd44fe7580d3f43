//! Messages as the sender sees them: something with items, which can be split, and an answer.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics, metric::Data},
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};

/// A request to export.
pub trait Message: prost::Message + Default + Send + Sized + 'static {
    /// Spans, log records or data points in it.
    fn items(&self) -> usize;

    /// Its first items and the others, about as many; `None` where it has less than two.
    fn halves(self) -> Option<(Self, Self)>;
}

/// The answer to a request: `Export{Trace,Metrics,Logs}ServiceResponse` are alike.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// What was not taken, where something was not, or where there is something to say.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// `Export{Trace,Metrics,Logs}PartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialSuccess {
    /// Items that were not taken.
    #[prost(int64, tag = "1")]
    pub rejected: i64,
    /// Why; or, with none rejected, what to know.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Something that is made of parts.
trait Parts: Sized {
    /// Items in it.
    fn size(&self) -> usize;

    /// The first `count` items, and the others: `count` is more than none and less than all.
    fn split(self, count: usize) -> (Self, Self);
}

/// The first `count` items of a list, and the others.
fn split_list<P: Parts>(list: Vec<P>, count: usize) -> (Vec<P>, Vec<P>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut wanted = count;
    for part in list {
        let size = part.size();
        if size <= wanted {
            wanted -= size;
            first.push(part);
        } else if wanted == 0 {
            second.push(part);
        } else {
            let (head, tail) = part.split(wanted);
            wanted = 0;
            first.push(head);
            second.push(tail);
        }
    }
    (first, second)
}

fn sizes<P: Parts>(list: &[P]) -> usize {
    list.iter().map(Parts::size).sum()
}

/// What has one list of parts, and what the halves have in common.
macro_rules! made_of {
    ($($name:ident . $list:ident)*) => {
        $(impl Parts for $name {
            fn size(&self) -> usize {
                sizes(&self.$list)
            }

            fn split(mut self, count: usize) -> (Self, Self) {
                let list = std::mem::take(&mut self.$list);
                let (first, second) = split_list(list, count);
                let other = Self { $list: second, ..self.clone() };
                self.$list = first;
                (self, other)
            }
        })*
    };
}

macro_rules! indivisible {
    ($($name:ty)*) => {
        $(impl Parts for $name {
            fn size(&self) -> usize {
                1
            }

            fn split(self, _: usize) -> (Self, Self) {
                // Nobody wants more than none and less than all of one.
                (self, Self::default())
            }
        })*
    };
}

macro_rules! message {
    ($($name:ident . $list:ident)*) => {
        $(impl Message for $name {
            fn items(&self) -> usize {
                sizes(&self.$list)
            }

            fn halves(self) -> Option<(Self, Self)> {
                let items = self.items();
                if items < 2 {
                    return None;
                }
                let (first, second) = split_list(self.$list, items / 2);
                Some((Self { $list: first }, Self { $list: second }))
            }
        })*
    };
}

message! {
    ExportTraceServiceRequest.resource_spans
    ExportMetricsServiceRequest.resource_metrics
    ExportLogsServiceRequest.resource_logs
}

made_of! {
    ResourceSpans.scope_spans
    ScopeSpans.spans
    ResourceMetrics.scope_metrics
    ScopeMetrics.metrics
    ResourceLogs.scope_logs
    ScopeLogs.log_records
}

indivisible! { Span LogRecord }

/// What is done with the points of a metric, whatever their kind.
macro_rules! points {
    ($data:expr, $points:ident => $what:expr) => {
        match $data {
            Data::Gauge(data) => {
                let $points = &mut data.data_points;
                $what
            }
            Data::Sum(data) => {
                let $points = &mut data.data_points;
                $what
            }
            Data::Histogram(data) => {
                let $points = &mut data.data_points;
                $what
            }
            Data::ExponentialHistogram(data) => {
                let $points = &mut data.data_points;
                $what
            }
            Data::Summary(data) => {
                let $points = &mut data.data_points;
                $what
            }
        }
    };
}

// === impl Metric ===

impl Parts for Metric {
    fn size(&self) -> usize {
        match &self.data {
            None => 0,
            Some(Data::Gauge(data)) => data.data_points.len(),
            Some(Data::Sum(data)) => data.data_points.len(),
            Some(Data::Histogram(data)) => data.data_points.len(),
            Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
            Some(Data::Summary(data)) => data.data_points.len(),
        }
    }

    fn split(mut self, count: usize) -> (Self, Self) {
        let mut other = self.clone();
        if let Some(data) = &mut self.data {
            points!(data, points => points.truncate(count));
        }
        if let Some(data) = &mut other.data {
            points!(data, points => drop(points.drain(..count.min(points.len()))));
        }
        (self, other)
    }
}

#[cfg(test)]
mod tests;

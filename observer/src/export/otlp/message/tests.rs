//! Tests of splitting requests, and of reading answers.

use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, Sum};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn traces(shape: &[Vec<usize>]) -> ExportTraceServiceRequest {
    let mut name = 0;
    let mut span = || {
        name += 1;
        Span {
            name: name.to_string(),
            ..Span::default()
        }
    };
    ExportTraceServiceRequest {
        resource_spans: shape
            .iter()
            .map(|scopes| ResourceSpans {
                schema_url: "kept".to_owned(),
                scope_spans: scopes
                    .iter()
                    .map(|spans| ScopeSpans {
                        spans: (0..*spans).map(|_| span()).collect(),
                        ..ScopeSpans::default()
                    })
                    .collect(),
                ..ResourceSpans::default()
            })
            .collect(),
    }
}

fn names(request: &ExportTraceServiceRequest) -> Vec<String> {
    let resources = request.resource_spans.iter();
    resources
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .map(|span| span.name.clone())
        .collect()
}

proptest! {
    #[test]
    fn halves_have_all_spans_in_order(
        shape in prop::collection::vec(prop::collection::vec(0_usize..5, 0..4), 0..5)
    ) {
        let whole = traces(&shape);
        let (items, expected) = (whole.items(), names(&whole));
        match whole.halves() {
            None => prop_assert!(items < 2),
            Some((first, second)) => {
                prop_assert_eq!(first.items(), items / 2);
                prop_assert_eq!(second.items(), items - items / 2);
                let mut all = names(&first);
                all.extend(names(&second));
                prop_assert_eq!(all, expected);
                let kept = first.resource_spans.iter().chain(&second.resource_spans);
                prop_assert!(kept.into_iter().all(|resource| resource.schema_url == "kept"));
            }
        }
    }
}

#[test]
fn points_of_one_metric_are_split_too() {
    let point = |start_time_unix_nano| NumberDataPoint {
        start_time_unix_nano,
        ..NumberDataPoint::default()
    };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![Metric {
                    name: "m".to_owned(),
                    data: Some(Data::Sum(Sum {
                        data_points: (0..5).map(point).collect(),
                        ..Sum::default()
                    })),
                    ..Metric::default()
                }],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    let (first, second) = request.halves().unwrap();
    assert_eq!((first.items(), second.items()), (2, 3));
    let metric = &second.resource_metrics[0].scope_metrics[0].metrics[0];
    assert_eq!(metric.name, "m");
    let Some(Data::Sum(sum)) = &metric.data else {
        panic!("{metric:?}")
    };
    assert_eq!(sum.data_points[0].start_time_unix_nano, 2);
}

#[test]
fn answers_of_all_signals_are_read() {
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceResponse,
    };
    let response = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 3,
            error_message: "why".to_owned(),
        }),
    };
    let answer = Answer::decode(&*response.encode_to_vec()).unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!((partial.rejected, &*partial.message), (3, "why"));
}

//! Log records, decoded and compared.

use proptest::prelude::*;
use prost::Message as _;

use super::{
    super::fixture::{EPOCH, about, by_key, calls, context, shown},
    *,
};
use crate::{
    aggregate::fixture::{SECOND, call, link_with, rpc_on},
    model::{connection::Role, exchange::Outcome, workload::Peer},
};

fn sent(entries: &[Access]) -> ExportLogsServiceRequest {
    let bytes = Encoder::default().encode(entries, &about()).encode_to_vec();
    ExportLogsServiceRequest::decode(&*bytes).unwrap()
}

fn only(call: Call, span: Option<(TraceId, SpanId)>) -> LogRecord {
    let call = Box::new(call);
    let request = sent(&[Access { call, span }]);
    request.resource_logs[0].scope_logs[0].log_records[0].clone()
}

#[test]
fn an_entry_has_every_field() {
    let span = (TraceId([1; 16]), SpanId([2; 8]));
    let record = only(call("web", "/cart/42", 200), Some(span));
    let ended = EPOCH + 2 * SECOND + 10_000_000;
    assert_eq!(record.time_unix_nano, ended);
    assert_eq!(record.observed_time_unix_nano, ended);
    assert_eq!(record.severity_number, SeverityNumber::Info as i32);
    assert_eq!(record.severity_text, "INFO");
    assert_eq!(
        shown(record.body.as_ref().unwrap()),
        "GET /cart/42 200 10.000ms"
    );
    assert_eq!(record.trace_id, [1; 16]);
    assert_eq!(record.span_id, [2; 8]);
    assert_eq!(record.flags, 1);
    assert_eq!(record.event_name, "observer.access");
    let found = by_key(&record.attributes);
    assert_eq!(found["observer.duration"], "0.01");
    assert_eq!(found["http.request.method"], "GET");
    assert_eq!(found["http.response.status_code"], "200");
    assert_eq!(found["url.path"], "/cart/42");
    assert!(!found.contains_key("observer.sampling.reason"));
}

#[test]
fn severities_say_whose_fault_it_is() {
    let severity = |status: Option<u16>, outcome, error| {
        let mut call = call("web", "/", 200);
        call.exchange.status = status;
        call.exchange.outcome = outcome;
        call.error = error;
        only(call, None).severity_text
    };
    assert_eq!(severity(Some(302), Outcome::Complete, None), "INFO");
    assert_eq!(severity(Some(404), Outcome::Complete, None), "WARN");
    assert_eq!(severity(Some(404), Outcome::Complete, Some("404")), "WARN");
    assert_eq!(severity(Some(503), Outcome::Complete, Some("503")), "ERROR");
    assert_eq!(severity(None, Outcome::Aborted, Some("aborted")), "ERROR");
    assert_eq!(severity(None, Outcome::Lost, None), "INFO");
}

#[test]
fn procedures_say_their_status() {
    let link = link_with(1, "web", Role::Server, Peer::Address([192, 0, 2, 1].into()));
    let entry = |status, error| {
        let mut call = rpc_on(&link, "/a.B/C", crate::model::rpc::RpcEnd::Status(status));
        call.error = error;
        let record = only(call, None);
        let line = shown(record.body.as_ref().unwrap());
        (record.severity_text, line)
    };
    assert_eq!(
        entry(0, None),
        ("INFO".into(), "POST /a.B/C OK 10.000ms".into())
    );
    assert_eq!(entry(5, None).0, "WARN");
    assert_eq!(entry(13, Some("INTERNAL")).0, "ERROR");
}

#[test]
fn what_was_not_seen_has_a_dash() {
    let mut call = call("web", "", 200);
    call.exchange.request = crate::aggregate::fixture::head("", "");
    call.exchange.status = None;
    call.exchange.outcome = Outcome::Lost;
    let record = only(call, None);
    assert_eq!(shown(record.body.as_ref().unwrap()), "- - lost 10.000ms");
}

#[test]
fn a_call_without_a_span_has_the_trace_of_its_caller() {
    let mut call = call("web", "/", 200);
    call.exchange.context = Some(context(Some(true)));
    let record = only(call.clone(), None);
    assert_eq!(record.trace_id, [0x11; 16]);
    assert!(record.span_id.is_empty());
    assert_eq!(record.flags, 1);
    call.exchange.context = None;
    let record = only(call, None);
    assert!(record.trace_id.is_empty() && record.span_id.is_empty());
    assert_eq!(record.flags, 0);
}

#[test]
fn there_is_one_resource_for_each_service() {
    let entry = |call: &Call| Access {
        call: Box::new(call.clone()),
        span: None,
    };
    let (web, db) = (call("web", "/", 200), call("db", "/", 200));
    let request = sent(&[entry(&web), entry(&db), entry(&web)]);
    let counts: Vec<usize> = request
        .resource_logs
        .iter()
        .map(|group| group.scope_logs[0].log_records.len())
        .collect();
    assert_eq!(counts, [2, 1]);
}

proptest! {
    #[test]
    fn records_are_valid(call in calls(), ids in prop::option::of(any::<([u8; 16], [u8; 8])>())) {
        let span = ids.map(|(trace, span)| (TraceId(trace), SpanId(span)));
        let record = only(call, span);
        prop_assert!([0, 16].contains(&record.trace_id.len()));
        prop_assert!([0, 8].contains(&record.span_id.len()));
        prop_assert!(record.span_id.is_empty() || !record.trace_id.is_empty());
        prop_assert!(shown(record.body.as_ref().unwrap()).len() <= super::super::attributes::MAX_TEXT);
        by_key(&record.attributes);
    }
}

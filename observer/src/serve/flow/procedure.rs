//! Remote procedure calls in flows.

use serde::Serialize;

use crate::model::{
    exchange::Exchange,
    rpc::{self, Messages, Rpc},
    time::Monotonic,
};

/// What a call is as a remote procedure call; part of [`super::CallLine`], all `null` when it is
/// none.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Procedure<'a> {
    /// `grpc` or `grpc-web`.
    pub rpc_system: Option<&'static str>,
    /// `package.Service`; `null` when the path is none of a procedure.
    pub rpc_service: Option<&'a str>,
    /// Name of the method alone.
    pub rpc_method: Option<&'a str>,
    /// Name of the status, as `OK`; `CANCELLED` and `DEADLINE_EXCEEDED` also where the client reset
    /// the stream. `null` when it was not seen.
    pub rpc_status: Option<&'static str>,
    /// Deadline that the client gave, from the start of the request.
    pub rpc_deadline_seconds: Option<f64>,
    /// Messages from the client.
    pub rpc_request_messages: Option<u64>,
    /// There may have been more messages from the client.
    pub rpc_request_messages_at_least: Option<bool>,
    /// First byte of the request to first byte of its first message.
    pub rpc_first_request_seconds: Option<f64>,
    /// First byte of the request to last byte of its last message.
    pub rpc_last_request_seconds: Option<f64>,
    /// Messages from the server.
    pub rpc_response_messages: Option<u64>,
    /// There may have been more messages from the server.
    pub rpc_response_messages_at_least: Option<bool>,
    /// First byte of the request to first byte of the first response message.
    pub rpc_first_response_seconds: Option<f64>,
    /// First byte of the request to last byte of the last response message.
    pub rpc_last_response_seconds: Option<f64>,
}

// === impl Procedure ===

impl<'a> Procedure<'a> {
    /// What `exchange` carried.
    pub(super) fn of(exchange: &'a Exchange) -> Self {
        let Some(rpc) = exchange.rpc.as_deref() else {
            return Self::default();
        };
        let Rpc {
            system,
            end,
            deadline,
            requests,
            responses,
        } = rpc;
        let names = rpc::names(&exchange.request.path);
        let start = exchange.sent.first;
        let seconds = |at: Option<Monotonic>| Some(at?.since(start).as_secs_f64());
        let Messages {
            count,
            at_least,
            first,
            last,
        } = *requests;
        Self {
            rpc_system: Some(system.as_str()),
            rpc_service: names.map(|(service, _)| service),
            rpc_method: names.map(|(_, method)| method),
            rpc_status: end.status_name(),
            rpc_deadline_seconds: deadline.map(|deadline| deadline.as_secs_f64()),
            rpc_request_messages: Some(count),
            rpc_request_messages_at_least: Some(at_least),
            rpc_first_request_seconds: seconds(first),
            rpc_last_request_seconds: seconds(last),
            rpc_response_messages: Some(responses.count),
            rpc_response_messages_at_least: Some(responses.at_least),
            rpc_first_response_seconds: seconds(responses.first),
            rpc_last_response_seconds: seconds(responses.last),
        }
    }
}

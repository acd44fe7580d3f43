//! OTLP (OpenTelemetry Protocol 1.x): from our values to messages, and from messages to a collector.

pub mod compression;
pub mod logs;
pub mod message;
pub mod metrics;
pub mod outcome;
pub mod resource;
pub mod sender;
pub mod traces;

mod attributes;
mod call;
mod connection;
#[cfg(test)]
pub(super) mod fixture;
mod grpc;
mod http;
mod lookup;
mod peer;
pub(super) mod retry;
mod tls;

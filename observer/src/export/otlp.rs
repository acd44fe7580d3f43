//! OTLP (OpenTelemetry Protocol 1.x): from our values to messages, and from messages to a collector.

mod attributes;
mod call;
pub mod compression;
#[cfg(test)]
mod fixture;
pub mod logs;
mod lookup;
pub mod message;
pub mod metrics;
pub mod outcome;
mod peer;
pub mod resource;
pub mod sender;
pub mod traces;

mod connection;
mod grpc;
mod http;
pub(super) mod retry;
mod tls;

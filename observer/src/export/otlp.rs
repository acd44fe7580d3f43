//! OTLP (OpenTelemetry Protocol 1.x): from our values to messages, and from messages to a collector.

pub mod compression;
pub mod message;
pub mod outcome;
pub mod sender;

mod connection;
mod grpc;
mod http;
pub(super) mod retry;
mod tls;

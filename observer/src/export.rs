//! Telemetry out: spans, metrics and the access log, sent over OTLP to a collector.

pub mod about;
pub mod access;
pub mod otlp;

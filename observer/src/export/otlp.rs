//! OTLP (OpenTelemetry Protocol 1.x): from our values to messages, and from messages to a collector.

pub mod compression;

//! Configuration files for the observer, in the one place that knows their keys.

/// A configuration that leaves out connections of one of these ports at either end.
pub fn ignoring_ports(ports: &[u16]) -> String {
    format!("ignore:\n  ports: {ports:?}\n")
}

/// A configuration that keeps every flow of a test.
pub fn long_history() -> String {
    "flows:\n  history: 200000\n".to_owned()
}

/// A configuration with every family of metrics.
pub fn all_metrics() -> String {
    "metrics:\n  histograms: both\n  service_graph: true\n  span_metrics: true\n".to_owned()
}

/// A configuration that keeps every span and sends spans to `endpoint`; `more`: lines of its part
/// `traces`.
pub fn tracing(endpoint: &str, more: &[&str]) -> String {
    let mut text = format!(
        "otlp:\n  endpoint: {endpoint}\n  protocol: grpc\n  metrics:\n    enabled: false\n  \
         logs:\n    enabled: false\n  batch:\n    delay: 50ms\n\
         traces:\n  sampler: always\n  dns: false\n"
    );
    for line in more {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

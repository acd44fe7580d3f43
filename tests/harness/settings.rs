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

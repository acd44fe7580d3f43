//! Configuration files for the observer, in the one place that knows their keys.

/// A configuration that leaves out connections of these server ports.
pub fn ignoring_ports(ports: &[u16]) -> String {
    format!("filters:\n  ignore_ports: {ports:?}\n")
}

//! The metric contract of the daemon, by its own source: what is not in it cannot be named here.

/// Metrics that Prometheus makes of a scrape itself.
pub(super) static UP: Family = Family {
    name: "up",
    kind: Kind::Gauge,
    unit: None,
    help: "1 while the target answers.",
    labels: &[],
    convention: None,
};

/// Labels that Prometheus adds to everything that it scrapes.
pub(super) const SCRAPED: [&str; 2] = ["instance", "job"];

#[path = "../../../observer/src/aggregate"]
mod aggregate {
    #[allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "not every family is in a dashboard, and it is a module of another crate"
    )]
    pub(in crate::dashboards) mod contract;
}

pub(super) use aggregate::contract::*;

//! Telemetry reaches collectors that others made, as it happened: nothing is missing, nothing is
//! made up, and no collector can harm what is observed.

#[path = "otlp/fields.rs"]
mod fields;
#[path = "otlp/metrics.rs"]
mod metrics;
#[path = "otlp/trouble.rs"]
mod trouble;
#[path = "otlp/ways.rs"]
mod ways;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
};

/// What clients say that nobody may be told.
const SECRETS: [&str; 3] = ["secret-query", "secret-authorization", "secret-cookie"];

/// Options of curl that say these.
const SAYING_SECRETS: [&str; 4] = [
    "--header",
    "Authorization: Bearer secret-authorization",
    "--header",
    "Cookie: id=secret-cookie",
];

/// An agent with this configuration.
fn observe(cgroup: &Cgroup, configuration: &str) -> Result<Agent> {
    let options = Options {
        configuration: Some(configuration.to_owned()),
        ..Options::default()
    };
    Agent::start_with(cgroup, &options)
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

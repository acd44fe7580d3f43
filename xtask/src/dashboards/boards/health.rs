//! The observer's own health: what it loses, what it costs, how old its knowledge is.

use super::SERVICE;
use crate::dashboards::{
    contract::{self, Family},
    panel::{Board, Panel, Row, Variable},
    query::{Query, Series, WINDOW, of},
};

const AGENT: &[(&str, &str)] = &[("instance", "instance")];
const INSTANCE: &[&str] = &["instance"];
const SIGNAL: &[&str] = &["instance", "signal"];

fn own(family: &'static Family) -> Series {
    of(family).chosen(AGENT)
}

fn now(family: &'static Family, by: &[&'static str]) -> Query {
    own(family).now().max(by)
}

fn rate(family: &'static Family, by: &[&'static str]) -> Query {
    own(family).rate(WINDOW).sum(by)
}

pub(super) fn board() -> Board {
    let understood = rate(&contract::UNDERSTOOD_BYTES, SERVICE);
    let filled =
        |used, limit, by: &'static [&'static str]| now(used, by).by(now(limit, by).above("0"));
    Board {
        uid: "observer-health",
        title: "Observer / Own health",
        description: "Agents and hubs themselves: what was not seen or not kept, and what observing costs.",
        variables: vec![
            Variable::prometheus(),
            Variable::values("instance", "Instance", of(&contract::BUILD), "instance"),
        ],
        rows: vec![
            Row {
                title: "What is observed",
                panels: vec![
                    Panel::number("Observers", "short").query("", own(&contract::BUILD).now().number(&[])),
                    Panel::number("Versions", "short")
                        .query("", own(&contract::BUILD).now().number(&["version"]).number(&[])),
                    Panel::number("Lost", "cps")
                        .query("", rate(&contract::LOSS, &[]))
                        .worse_above(0.1, 10.0),
                    Panel::number("Coverage", "percentunit")
                        .query("", rate(&contract::UNDERSTOOD_BYTES, &[]).by(rate(&contract::MOVED_BYTES, &[]).above("0")))
                        .about("Bytes that were understood as part of an exchange, by all. What is encrypted or speaks another protocol is not understood."),
                    Panel::number("Records", "cps").query("", rate(&contract::RING_RECORDS, &[])),
                    Panel::number("Exchanges", "reqps").query("", rate(&contract::HTTP_EXCHANGES, &[])),
                    Panel::lines("Lost by reason", "cps")
                        .query("{{stage}} {{reason}}", rate(&contract::LOSS, &["stage", "reason"])),
                    Panel::lines("Coverage by service", "percentunit").query(
                        "{{service_namespace}}/{{service_name}}",
                        understood.by(rate(&contract::MOVED_BYTES, SERVICE).above("0")),
                    ),
                    Panel::stack("Exchanges by how they ended", "reqps")
                        .query("{{outcome}}", rate(&contract::HTTP_EXCHANGES, &["outcome"])),
                ],
            },
            Row {
                title: "Room",
                panels: vec![
                    Panel::lines("Ring buffer", "percentunit")
                        .query("{{instance}}", filled(&contract::RING_USED, &contract::RING_SIZE, INSTANCE))
                        .worse_above(0.5, 0.9),
                    Panel::lines("Tables", "percentunit").query(
                        "{{instance}} {{table}}",
                        filled(&contract::TABLE_ENTRIES, &contract::TABLE_LIMIT, &["instance", "table"]).top(20),
                    ),
                    Panel::lines("Series", "percentunit").query(
                        "{{instance}} {{family}}",
                        filled(&contract::SERIES, &contract::SERIES_LIMIT, &["instance", "family"]).top(20),
                    ),
                    Panel::lines("Updates of overflow series", "cps")
                        .query("{{instance}} {{family}}", rate(&contract::SERIES_OVERFLOW, &["instance", "family"])),
                ],
            },
            Row {
                title: "Cost",
                panels: vec![
                    Panel::lines("CPU", "percentunit")
                        .query("{{instance}}", rate(&contract::PROCESS_CPU, INSTANCE))
                        .about("Of one core."),
                    Panel::lines("Memory", "bytes").query("{{instance}}", now(&contract::PROCESS_MEMORY, INSTANCE)),
                    Panel::lines("Runs of BPF programs", "cps")
                        .query("{{program}}", rate(&contract::PROGRAM_RUNS, &["program"])),
                    Panel::lines("CPU of BPF programs", "percentunit")
                        .query("{{program}}", rate(&contract::PROGRAM_SECONDS, &["program"]))
                        .about("0 unless kernel.bpf_stats_enabled is set."),
                ],
            },
            Row {
                title: "Telemetry that is sent",
                panels: vec![
                    Panel::lines("Sent", "cps")
                        .query("{{instance}} {{signal}}", rate(&contract::EXPORT_SENT, SIGNAL))
                        .about("Spans, data points and log records that the collector took."),
                    Panel::lines("Lost", "cps")
                        .query("dropped: {{instance}} {{signal}}", rate(&contract::EXPORT_DROPPED, SIGNAL))
                        .query("rejected: {{instance}} {{signal}}", rate(&contract::EXPORT_REJECTED, SIGNAL)),
                    Panel::lines("Requests that failed", "reqps")
                        .query("{{instance}} {{signal}}", rate(&contract::EXPORT_FAILURES, SIGNAL))
                        .query("again: {{instance}} {{signal}}", rate(&contract::EXPORT_RETRIES, SIGNAL)),
                    Panel::lines("Waiting", "bytes")
                        .query("{{instance}} {{signal}}", now(&contract::EXPORT_QUEUE_BYTES, SIGNAL)),
                    Panel::lines("Time of a request", "s").query(
                        "{{instance}} {{signal}}",
                        rate(&contract::EXPORT_SECONDS, SIGNAL)
                            .by(rate(&contract::EXPORT_REQUESTS, SIGNAL).above("0")),
                    ),
                    Panel::lines("Since the collector last took something", "s")
                        .query("{{instance}} {{signal}}", now(&contract::EXPORT_AGE, SIGNAL)),
                ],
            },
            Row {
                title: "Kubernetes",
                panels: vec![
                    Panel::lines("Age of what is known", "s").query(
                        "{{instance}} {{source}} {{kind}}",
                        now(&contract::KUBERNETES_AGE, &["instance", "source", "kind"]).top(20),
                    ),
                    Panel::lines("Not known", "short").query(
                        "{{source}} {{kind}}",
                        own(&contract::KUBERNETES_SYNCED).now().equal("0").number(&["source", "kind"]),
                    ),
                    Panel::lines("Objects", "short").query(
                        "{{source}} {{kind}}",
                        now(&contract::KUBERNETES_OBJECTS, &["source", "kind"]),
                    ),
                    Panel::lines("Requests", "reqps")
                        .query("{{source}} {{kind}}", rate(&contract::KUBERNETES_REQUESTS, &["source", "kind"])),
                    Panel::lines("Errors", "reqps").query(
                        "{{source}} {{kind}} {{reason}}",
                        rate(&contract::KUBERNETES_ERRORS, &["source", "kind", "reason"]),
                    ),
                ],
            },
        ],
    }
}

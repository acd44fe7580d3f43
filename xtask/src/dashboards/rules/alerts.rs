//! What somebody is told of: traffic that fails, and observation that is not complete.

use super::{Alert, Group, Rule, recording};
use crate::dashboards::{
    boards::{BACKEND, RULE},
    contract,
    query::{Query, of},
};

/// What is recorded, by its name.
fn recorded(name: &str) -> Query {
    let groups = [recording::edges(), recording::services()];
    let mut rules = groups.into_iter().flat_map(|group| group.rules);
    let found = rules.find_map(|rule| match rule {
        Rule::Record(record) if record.name == name => Some(record.now()),
        _ => None,
    });
    // Told when it is written: there is no label by that name.
    found.unwrap_or_else(|| of(&contract::LOSS).is("recorded as", name).now())
}

const WARNING: &str = "warning";
const CRITICAL: &str = "critical";

/// What tells kinds of telemetry that is sent apart.
const SIGNAL: &[&str] = &["instance", "signal"];

fn group(name: &'static str, alerts: Vec<Alert>) -> Group {
    Group {
        name,
        interval: "30s",
        rules: alerts.into_iter().map(Rule::Alert).collect(),
    }
}

pub(super) fn traffic() -> Group {
    let busy = || recorded("service:http_server_requests:rate5m").above("0.1");
    let opened = || recorded("edge:observer_edge_connections_opened:rate5m");
    let failures = || recorded("edge:observer_edge_connect_failures:rate5m");
    let tried = opened().plus(failures());
    let alerts = vec![
        Alert {
            name: "ObserverErrorRatioHigh",
            hold: "10m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.service_namespace }}/{{ $labels.service_name }} fails requests",
            description: "{{ $value | humanizePercentage }} of the requests of the last 5 minutes failed.",
            query: recorded("service:http_server_errors:ratio_rate5m")
                .above("0.05")
                .and(busy()),
        },
        Alert {
            name: "ObserverLatencyHigh",
            hold: "15m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.service_namespace }}/{{ $labels.service_name }} is slow",
            description: "5% of the requests of the last 5 minutes took longer than {{ $value | humanizeDuration }}.",
            query: recorded("service:http_server_request_duration_seconds:p95_rate5m")
                .above("1")
                .and(busy()),
        },
        Alert {
            name: "ObserverConnectFailures",
            hold: "10m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.source_name }} cannot connect to {{ $labels.destination_name }}",
            description: "{{ $value | humanizePercentage }} of the connections that were tried in the last 5 minutes were never established.",
            query: failures()
                .by(tried.above("0"))
                .above("0.05")
                .and(failures().above("0.1")),
        },
        Alert {
            name: "ObserverRetransmitsHigh",
            hold: "15m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.service_namespace }}/{{ $labels.service_name }} sends many segments again",
            description: "{{ $value | humanizePercentage }} of the segments of the last 5 minutes were sent again.",
            query: recorded("service:observer_tcp_retransmits:ratio_rate5m")
                .above("0.03")
                .and(recorded("service:observer_moved_bytes:rate5m").above("1000")),
        },
    ];
    group("observer-traffic", alerts)
}

pub(super) fn mesh() -> Group {
    let findings = |severity: &str| {
        of(&contract::MESH_FINDING)
            .is("severity", severity)
            .now()
            .max(&["id", "namespace", "workload", "peer"])
            .above("0")
    };
    // Each agent sees the servers of its node alone: shares are those of what all of them saw.
    let served = |by| of(&contract::MESH_SPLIT_SERVED).rate("10m").sum(by);
    let observed = || served(BACKEND).by(served(RULE).above("0"));
    let declared = || of(&contract::MESH_SPLIT_DECLARED).now().max(BACKEND);
    let alerts = vec![
        Alert {
            name: "ObserverMeshFindingCritical",
            hold: "5m",
            severity: CRITICAL,
            more: &[],
            summary: "{{ $labels.id }} of {{ $labels.namespace }}/{{ $labels.workload }}: the mesh does not keep a promise of security",
            description: "The other end is {{ $labels.peer }}. `observer findings` says what was seen, which objects decided, and what to do.",
            query: findings("critical"),
        },
        Alert {
            name: "ObserverMeshFindingHigh",
            hold: "15m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.id }} of {{ $labels.namespace }}/{{ $labels.workload }}: the mesh does not do what is declared",
            description: "The other end is {{ $labels.peer }}. `observer findings` says what was seen, which objects decided, and what to do.",
            query: findings("high"),
        },
        Alert {
            name: "ObserverMeshPlaintext",
            hold: "5m",
            severity: CRITICAL,
            more: &[],
            summary: "{{ $labels.source_name }} reaches {{ $labels.destination_name }} in the clear although only mutual TLS is declared",
            description: "Only {{ $value | humanizePercentage }} of what {{ $labels.source_namespace }}/{{ $labels.source_name }} sends to port {{ $labels.server_port }} of {{ $labels.destination_namespace }}/{{ $labels.destination_name }} is encrypted.",
            query: of(&contract::MESH_ENCRYPTED)
                .is("declared", "strict")
                .now()
                .min(&[
                    "source_namespace",
                    "source_name",
                    "destination_namespace",
                    "destination_name",
                    "server_port",
                ])
                .below("1"),
        },
        Alert {
            name: "ObserverMeshWeightDrift",
            hold: "30m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.object_kind }} {{ $labels.object_namespace }}/{{ $labels.object_name }} does not split requests as declared",
            description: "The share of {{ $labels.backend }} {{ $labels.subset }} is {{ $value | humanizePercentage }} away from what rule {{ $labels.rule }} declares.",
            query: observed()
                .distance(declared())
                .above("0.05")
                .and(served(BACKEND).above("0.04")),
        },
    ];
    group("observer-mesh", alerts)
}

pub(super) fn observation() -> Group {
    let up = || of(&contract::UP).like("job", ".*observer.*");
    let coverage = || recorded("service:observer_coverage:ratio_rate5m");
    let before = coverage().offset("1d");
    let full = |used, limit, by: &'static [&'static str]| {
        let share = of(used)
            .now()
            .max(by)
            .by(of(limit).now().max(by).above("0"));
        share.above("0.9")
    };
    let alerts = vec![
        Alert {
            name: "ObserverAgentDown",
            hold: "5m",
            severity: CRITICAL,
            more: &[],
            summary: "The observer {{ $labels.instance }} does not answer",
            description: "Prometheus did not get its metrics for 5 minutes: nothing of its node is observed, or nobody hears of it.",
            query: up().now().equal("0"),
        },
        Alert {
            name: "ObserverAbsent",
            hold: "10m",
            severity: CRITICAL,
            more: &[],
            summary: "No observer is scraped",
            description: "Prometheus has no target whose job is named after the observer.",
            query: up().now().absent(),
        },
        Alert {
            name: "ObserverRestarts",
            hold: "5m",
            severity: WARNING,
            more: &[],
            summary: "The observer {{ $labels.instance }} starts again and again",
            description: "It started {{ $value }} times in 30 minutes.",
            query: of(&contract::PROCESS_START)
                .like("job", ".*observer.*")
                .changes("30m")
                .max(&["instance"])
                .above("3"),
        },
        Alert {
            name: "ObserverLosses",
            hold: "15m",
            severity: WARNING,
            more: &[],
            summary: "The observer {{ $labels.instance }} loses observations: {{ $labels.reason }}",
            description: "{{ $value | humanize }} a second at the stage {{ $labels.stage }} for the reason {{ $labels.reason }}.",
            // Causes that are not known, and fields that senders got wrong, are no loss of traffic.
            query: of(&contract::LOSS)
                .unlike("reason", "cause_.*|trace_context")
                .rate("10m")
                .sum(&["instance", "stage", "reason"])
                .above("1"),
        },
        Alert {
            name: "ObserverRingNearlyFull",
            hold: "10m",
            severity: WARNING,
            more: &[],
            summary: "The ring buffer of {{ $labels.instance }} is nearly full",
            description: "{{ $value | humanizePercentage }} of it waited at a time; what does not fit is lost.",
            query: full(&contract::RING_USED, &contract::RING_SIZE, &["instance"]),
        },
        Alert {
            name: "ObserverTableNearlyFull",
            hold: "15m",
            severity: WARNING,
            more: &[],
            summary: "The table {{ $labels.table }} of {{ $labels.instance }} is nearly full",
            description: "{{ $value | humanizePercentage }} of it is in use.",
            query: full(
                &contract::TABLE_ENTRIES,
                &contract::TABLE_LIMIT,
                &["instance", "table"],
            ),
        },
        Alert {
            name: "ObserverSeriesOverflow",
            hold: "15m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.instance }} has more label sets of {{ $labels.family }} than its budget",
            description: "{{ $value | humanize }} updates a second are only in the overflow series.",
            query: of(&contract::SERIES_OVERFLOW)
                .rate("10m")
                .sum(&["instance", "family"])
                .above("0"),
        },
        Alert {
            name: "ObserverCoverageLow",
            hold: "30m",
            severity: WARNING,
            more: &[],
            summary: "Less of {{ $labels.service_namespace }}/{{ $labels.service_name }} is understood than a day ago",
            description: "Only {{ $value | humanizePercentage }} of its bytes are understood as part of calls, less than half of the share of a day ago.",
            query: coverage()
                .below_half_of(before.above("0.2"))
                .and(recorded("service:observer_moved_bytes:rate5m").above("1000")),
        },
        Alert {
            name: "ObserverExportDrops",
            hold: "10m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.instance }} loses {{ $labels.signal }} on the way to the collector",
            description: "{{ $value | humanize }} a second were dropped or not wanted.",
            query: of(&contract::EXPORT_DROPPED)
                .rate("10m")
                .sum(SIGNAL)
                .plus(of(&contract::EXPORT_REJECTED).rate("10m").sum(SIGNAL))
                .above("0"),
        },
        Alert {
            name: "ObserverExportStale",
            hold: "10m",
            severity: WARNING,
            more: &[],
            summary: "The collector of {{ $labels.instance }} takes no {{ $labels.signal }}",
            description: "It last took something {{ $value | humanizeDuration }} ago, and requests fail.",
            query: of(&contract::EXPORT_AGE)
                .now()
                .max(SIGNAL)
                .above("300")
                .and(
                    of(&contract::EXPORT_FAILURES)
                        .rate("10m")
                        .sum(SIGNAL)
                        .above("0"),
                ),
        },
        Alert {
            name: "ObserverKubernetesStale",
            hold: "10m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.instance }} has not heard of {{ $labels.kind }} for long",
            description: "The source {{ $labels.source }} was last heard {{ $value | humanizeDuration }} ago: new pods have no names.",
            query: of(&contract::KUBERNETES_AGE)
                .now()
                .max(&["instance", "source", "kind"])
                .above("300"),
        },
        Alert {
            name: "ObserverKubernetesNotSynced",
            hold: "15m",
            severity: WARNING,
            more: &[],
            summary: "{{ $labels.instance }} does not know all {{ $labels.kind }}",
            description: "The source {{ $labels.source }} has not told all of them, or its changes do not arrive.",
            query: of(&contract::KUBERNETES_SYNCED)
                .now()
                .min(&["instance", "source", "kind"])
                .equal("0"),
        },
    ];
    group("observer-observation", alerts)
}

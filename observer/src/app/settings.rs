//! From what the user wrote to what each stage takes.

use std::{path::Path, sync::Arc};

use crate::{
    aggregate,
    assemble::{self, datagrams, dns},
    capture,
    cluster::{
        index,
        networks::{Networks, Prefix},
        object::Source,
    },
    config::{Config, MeshHops},
    enrich::{self, RoutePattern},
    host,
    mesh::ledger,
};

/// For [`capture::Capture`].
pub(super) fn capture(config: &Config, cgroup: &Path) -> capture::Config {
    capture::Config {
        cgroup: cgroup.to_owned(),
        ring_bytes: config.capture.ring_bytes,
        max_connections: config.capture.max_connections,
        max_datagram_flows: config.udp.max_flows,
        ignored_ports: config.ignore.ports.clone(),
        causes: config.traces.causes,
    }
}

/// For [`assemble::Assembler`].
pub(super) fn assemble(config: &Config) -> assemble::Config {
    assemble::Config {
        dns: dns::Config {
            timeout: config.dns.timeout,
            ..dns::Config::default()
        },
        datagrams: datagrams::Config {
            idle: config.udp.idle,
            max_flows: config.udp.max_flows as usize,
        },
        ..assemble::Config::default()
    }
}

/// For [`host::Host`].
pub(super) fn host(config: &Config, cgroup_root: &Path) -> host::Config {
    host::Config {
        cgroup_root: cgroup_root.to_owned(),
        rules: rules(config),
        ..host::Config::default()
    }
}

/// Rules that name services.
pub(super) fn rules(config: &Config) -> Vec<host::ServiceRule> {
    config
        .services
        .iter()
        .map(|rule| host::ServiceRule {
            executable: rule.matches.executable.clone(),
            command: rule.matches.command.clone(),
            cgroup: rule.matches.cgroup.clone(),
            port: rule.matches.port,
            arguments: rule.matches.arguments.clone(),
            service: rule.name.clone(),
            namespace: (!rule.namespace.is_empty()).then(|| rule.namespace.clone()),
        })
        .collect()
}

/// For [`enrich::Enricher`]. Patterns were validated with the configuration; one that the stage
/// still refuses is named in the log.
///
/// `node` is who tells of the pods of this node, where this host is one of a cluster.
pub(super) fn enrich(config: &Config, node: Option<Source>) -> enrich::Config {
    let mut routes = Vec::with_capacity(config.routes.patterns.len());
    for pattern in &config.routes.patterns {
        match RoutePattern::parse(pattern) {
            Ok(route) => routes.push(route),
            Err(error) => tracing::error!(pattern, %error, "this route pattern is not used"),
        }
    }
    enrich::Config {
        routes,
        max_names: config.dns.names as usize,
        cluster: node.map(|source| enrich::ClusterConfig {
            index: index::Config {
                networks: networks(config),
                ..index::Config::default()
            },
            hold: config.kubernetes.hold,
            source,
        }),
        fold: config.mesh.hops == MeshHops::Fold,
        ..enrich::Config::default()
    }
}

/// Networks outside of the cluster that have a name.
fn networks(config: &Config) -> Networks {
    let named = config.networks.iter().flat_map(|network| {
        let name: Arc<str> = network.name.as_str().into();
        network.ranges.iter().filter_map(move |(address, length)| {
            Some((Prefix::of(*address, *length)?, name.clone()))
        })
    });
    Networks::new(named)
}

/// For [`aggregate::Aggregator`].
pub(super) fn aggregate(config: &Config) -> aggregate::Config {
    aggregate::Config {
        budgets: aggregate::Budgets::all(config.metrics.series_budget as usize),
        idle: config.metrics.idle_expiry,
        flow_history: config.flows.history as usize,
        flow_ratio: config.flows.sampling,
        cluster: config.kubernetes.cluster.clone(),
        pod_labels: config.metrics.pods,
        histograms: config.metrics.histograms,
        service_graph: config.metrics.service_graph,
        span_metrics: config.metrics.span_metrics,
        mesh_series: config.mesh.series,
        ..aggregate::Config::default()
    }
}

/// For [`aggregate::spans::Spans`]; `enabled`: they go somewhere.
pub(super) fn spans(config: &Config, enabled: bool) -> aggregate::spans::Config {
    let traces = &config.traces;
    aggregate::spans::Config {
        enabled,
        rules: traces.rules.clone(),
        sampling: traces.sampling.clone(),
        peers: traces.peers,
        lookups: traces.dns,
        wait: traces.wait,
        // When this host was started, to the nanosecond: another for each of them.
        salt: capture::wall_offset().nanoseconds,
    }
}

/// For [`ledger::Ledger`].
pub(super) fn ledger(config: &Config) -> ledger::Config {
    let mesh = &config.mesh;
    let default = ledger::Config::default();
    ledger::Config {
        edges: mesh.edges as usize,
        idle: default.idle.max(mesh.readiness_window),
        minimum: mesh.minimum.into(),
        settle: mesh.settle,
        window: mesh.window,
        readiness: mesh.readiness_window,
        unused: mesh.unused_after,
    }
}

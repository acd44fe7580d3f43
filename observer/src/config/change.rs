//! Which settings a running agent takes over, and which need a restart.

use super::{
    AccessLog, Capture, Config, Dns, Flows, Ignore, Kubernetes, Listen, Log, Mesh, Metrics,
    NamedNetwork, Otlp, Pods, Routes, ServiceRule, Traces, Udp,
};

/// Keys that differ and need a restart.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    // Taken apart in full, so that a new setting cannot be forgotten here.
    let Config {
        listen,
        cgroup,
        capture,
        ignore,
        only,
        services,
        routes,
        metrics,
        flows,
        dns,
        udp,
        kubernetes,
        networks,
        mesh,
        hub,
        traces,
        otlp,
        access_log,
        log,
    } = old;
    let Traces {
        causes,
        sampling: _,
        rules: _,
        peers: _,
        dns: _,
        wait: _,
    } = traces;
    let _: (&Pods, &Vec<NamedNetwork>) = (only, networks);
    let _: (&Ignore, &Vec<ServiceRule>, &Routes) = (ignore, services, routes);
    let Metrics {
        series_budget: _,
        idle_expiry: _,
        pods: _,
        histograms,
        service_graph: _,
        span_metrics: _,
    } = metrics;
    let _: &Dns = dns;
    let Udp { max_flows, idle: _ } = udp;
    let Listen { address } = listen;
    let Capture {
        ring_bytes,
        max_connections,
    } = capture;
    let Flows {
        history,
        sampling: _,
    } = flows;
    let Log { level } = log;
    [
        ("listen", *address != new.listen.address),
        ("cgroup", *cgroup != new.cgroup),
        ("capture.ring_bytes", *ring_bytes != new.capture.ring_bytes),
        (
            "capture.max_connections",
            *max_connections != new.capture.max_connections,
        ),
        ("metrics.histograms", *histograms != new.metrics.histograms),
        ("flows.history", *history != new.flows.history),
        ("udp.max_flows", *max_flows != new.udp.max_flows),
        ("kubernetes", is_other_cluster(kubernetes, &new.kubernetes)),
        ("mesh", is_other_mesh(mesh, &new.mesh)),
        ("hub", *hub != new.hub),
        (
            "otlp.traces.span_metrics_skip",
            otlp.span_metrics_skip != new.otlp.span_metrics_skip,
        ),
        (
            "otlp.metrics.temporality",
            otlp.temporality != new.otlp.temporality,
        ),
        (
            "otlp.metrics.histograms",
            otlp.histograms != new.otlp.histograms,
        ),
        ("traces.causes", *causes != new.traces.causes),
        ("access_log", is_elsewhere(access_log, &new.access_log)),
        ("log.level", *level != new.log.level),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

/// Whether anything differs but what can change at once.
fn is_other_cluster(old: &Kubernetes, new: &Kubernetes) -> bool {
    let same = Kubernetes {
        hold: new.hold,
        ..old.clone()
    };
    same != *new
}

/// Whether anything differs but what the ledger takes over at once.
fn is_other_mesh(old: &Mesh, new: &Mesh) -> bool {
    let same = Mesh {
        minimum: new.minimum,
        settle: new.settle,
        window: new.window,
        readiness_window: new.readiness_window,
        unused_after: new.unused_after,
        edges: new.edges,
        ..old.clone()
    };
    same != *new
}

/// Whether entries of the access log go elsewhere.
fn is_elsewhere(old: &AccessLog, new: &AccessLog) -> bool {
    let AccessLog {
        to,
        path,
        max_bytes,
        only: _,
        sampling: _,
        slow: _,
        per_second: _,
    } = old;
    *to != new.to || *path != new.path || *max_bytes != new.max_bytes
}

/// `new`, but `old` in what needs a restart.
pub(super) fn reloaded(old: &Config, new: Config) -> Config {
    let Config {
        listen: _,
        cgroup: _,
        capture: _,
        ignore,
        only,
        services,
        routes,
        metrics,
        flows,
        dns,
        udp,
        kubernetes,
        networks,
        mesh,
        hub: _,
        traces,
        otlp,
        access_log,
        log: _,
    } = new;
    Config {
        listen: old.listen,
        cgroup: old.cgroup.clone(),
        capture: old.capture,
        ignore,
        only,
        services,
        routes,
        // What a histogram counted cannot be counted again in other buckets.
        metrics: Metrics {
            histograms: old.metrics.histograms,
            ..metrics
        },
        flows: Flows {
            history: old.flows.history,
            sampling: flows.sampling,
        },
        dns,
        udp: Udp {
            max_flows: old.udp.max_flows,
            idle: udp.idle,
        },
        kubernetes: Kubernetes {
            hold: kubernetes.hold,
            ..old.kubernetes.clone()
        },
        networks,
        mesh: Mesh {
            minimum: mesh.minimum,
            settle: mesh.settle,
            window: mesh.window,
            readiness_window: mesh.readiness_window,
            unused_after: mesh.unused_after,
            edges: mesh.edges,
            ..old.mesh.clone()
        },
        hub: old.hub.clone(),
        traces: Traces {
            causes: old.traces.causes,
            ..traces
        },
        otlp: Otlp {
            span_metrics_skip: old.otlp.span_metrics_skip,
            temporality: old.otlp.temporality,
            histograms: old.otlp.histograms,
            ..otlp
        },
        access_log: AccessLog {
            to: old.access_log.to,
            path: old.access_log.path.clone(),
            max_bytes: old.access_log.max_bytes,
            ..access_log
        },
        log: old.log,
    }
}

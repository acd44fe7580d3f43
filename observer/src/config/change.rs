//! Which settings a running agent takes over, and which need a restart.

use super::{
    Capture, Config, Dns, Flows, Ignore, Kubernetes, Listen, Log, Metrics, NamedNetwork, Pods,
    Routes, ServiceRule, Traces, Udp,
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
        traces,
        kubernetes,
        networks,
        hub,
        log,
    } = old;
    let _: (&Pods, &Vec<NamedNetwork>) = (only, networks);
    let _: (&Ignore, &Vec<ServiceRule>, &Routes, &Metrics) = (ignore, services, routes, metrics);
    let _: &Dns = dns;
    let Udp { max_flows, idle: _ } = udp;
    let Traces { causes } = traces;
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
        ("flows.history", *history != new.flows.history),
        ("udp.max_flows", *max_flows != new.udp.max_flows),
        ("traces.causes", *causes != new.traces.causes),
        ("kubernetes", is_other_cluster(kubernetes, &new.kubernetes)),
        ("hub", *hub != new.hub),
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
        traces: _,
        kubernetes,
        networks,
        hub: _,
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
        metrics,
        flows: Flows {
            history: old.flows.history,
            sampling: flows.sampling,
        },
        dns,
        udp: Udp {
            max_flows: old.udp.max_flows,
            idle: udp.idle,
        },
        traces: old.traces,
        kubernetes: Kubernetes {
            hold: kubernetes.hold,
            ..old.kubernetes.clone()
        },
        networks,
        hub: old.hub.clone(),
        log: old.log,
    }
}

//! Everything measured, as plain values to be rendered elsewhere.

mod connections;
mod derived;
mod export;
mod graph;
mod kubernetes;
mod udp;

use crate::{
    config::Histograms,
    model::{connection::Role, time::Monotonic},
    telemetry::health::{ClusterState, ExportState, Health, Loss},
};

use super::{
    Aggregator,
    calls::{ActiveKey, CallKey, Calls},
    contract::{self, Family},
    distribution::Distribution,
    histogram::{BODY_BYTES, Buckets, REQUEST_SECONDS},
    identity::ServiceKey,
    rpc::{RpcCalls, RpcKey},
    series::{Labels, Store, labels},
    services::{OUTCOMES, ServiceRow},
};

/// All measures at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Monotonic,
    /// The families that have series, in the order of [`contract::FAMILIES`].
    pub families: Vec<Samples>,
    /// The table of services, in no order.
    pub services: Vec<ServiceRow>,
    /// State of what is known of Kubernetes; empty outside.
    pub cluster: Vec<ClusterState>,
    /// Which histograms are shown, where a format has both.
    pub histograms: Histograms,
    /// What became of telemetry that is sent; empty where none is.
    pub export: Vec<ExportState>,
}

/// The series of one family.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Which family.
    pub family: &'static Family,
    /// Its series.
    pub series: Vec<Series>,
}

/// One series.
#[derive(Clone, Debug)]
pub struct Series {
    /// Labels that it shares with other families.
    pub labels: Labels,
    /// Labels that tell it apart within its family.
    pub more: Box<[(&'static str, &'static str)]>,
    /// Its value.
    pub value: Value,
}

/// Value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(u64),
    /// A number.
    Float(f64),
    /// Observations; boxed, because most series are one number.
    Histogram(&'static Buckets, Box<Distribution>),
}

struct Builder {
    families: Vec<Samples>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Adds losses of stages that are not in the health that the snapshot was taken with.
    pub fn add_losses(&mut self, losses: &[Loss]) {
        let position = self
            .families
            .iter()
            .position(|samples| std::ptr::eq(samples.family, &raw const contract::LOSS));
        if let Some(samples) = position.and_then(|position| self.families.get_mut(position)) {
            samples.series.extend(losses.iter().map(loss));
        }
    }
}

// === impl Series ===

impl Series {
    pub(super) fn new(labels: &Labels, value: Value) -> Self {
        Self {
            labels: labels.clone(),
            more: Box::default(),
            value,
        }
    }

    /// All labels, in order of exposition.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let own = self.labels.iter().map(|(name, value)| (*name, &**value));
        own.chain(self.more.iter().copied())
    }
}

// === impl Builder ===

impl Builder {
    fn add(&mut self, family: &'static Family, series: impl IntoIterator<Item = Series>) {
        let series: Vec<Series> = series.into_iter().collect();
        if !series.is_empty() {
            self.families.push(Samples { family, series });
        }
    }

    fn one(&mut self, family: &'static Family, value: Value) {
        self.add(family, [Series::new(&Labels::from([]), value)]);
    }

    fn calls(&mut self, store: &Store<CallKey, Calls>, families: [&'static Family; 3]) {
        let [duration, request, response] = families;
        let mut histograms =
            |family, buckets: &'static Buckets, pick: fn(&Calls) -> Distribution| {
                let series = store.iter().map(|(_, labels, calls)| {
                    Series::new(labels, Value::Histogram(buckets, Box::new(pick(calls))))
                });
                self.add(family, series);
            };
        histograms(duration, &REQUEST_SECONDS, |calls| calls.duration.clone());
        histograms(request, &BODY_BYTES, |calls| calls.request_body.into());
        histograms(response, &BODY_BYTES, |calls| calls.response_body.into());
    }

    fn active(&mut self, aggregator: &Aggregator, at: Monotonic) {
        // The overflow series has no key: it counts as the server's, and both ends are in it.
        let end = |key: Option<&ActiveKey>| key.map_or(Role::Server, |key| key.identity.0.role());
        for (family, client) in [
            (&contract::HTTP_SERVER_ACTIVE, false),
            (&contract::HTTP_CLIENT_ACTIVE, true),
        ] {
            let store = &aggregator.active;
            let series = store
                .iter()
                .filter(|(key, ..)| (end(*key) == Role::Client) == client);
            self.add(
                family,
                series.map(|(_, labels, active)| Series::new(labels, Value::Integer(active.count))),
            );
        }
        let series = aggregator.active.iter().map(|(key, labels, active)| {
            let age = active
                .oldest
                .map_or(0.0, |oldest| at.since(oldest).as_secs_f64());
            let mut series = Series::new(labels, Value::Float(age));
            series.more = key
                .map(|_| ("role", end(key).as_str()))
                .into_iter()
                .collect();
            series
        });
        self.add(&contract::HTTP_OLDEST, series);
    }

    fn outcomes(&mut self, aggregator: &Aggregator) {
        let series = aggregator.services.iter().flat_map(|(_, labels, service)| {
            let counts = OUTCOMES
                .iter()
                .zip(service.outcomes)
                .filter(|(_, count)| *count > 0);
            counts.map(|(outcome, count)| Series {
                labels: labels.clone(),
                more: Box::new([("outcome", outcome.as_str())]),
                value: Value::Integer(count),
            })
        });
        self.add(&contract::HTTP_EXCHANGES, series);
    }

    fn rpc(&mut self, aggregator: &Aggregator) {
        let (server, client) = (&aggregator.rpc_server, &aggregator.rpc_client);
        for (family, store) in [
            (&contract::RPC_SERVER_DURATION, server),
            (&contract::RPC_CLIENT_DURATION, client),
        ] {
            let series = store.iter().map(|(_, labels, calls)| {
                let value = Value::Histogram(&REQUEST_SECONDS, Box::new(calls.duration.clone()));
                Series::new(labels, value)
            });
            self.add(family, series);
        }
        let ends = [(server, Role::Server), (client, Role::Client)];
        let messages = ends.into_iter().flat_map(|(store, role)| {
            store.iter().flat_map(move |(_, labels, calls)| {
                let counts = [
                    ("sent", calls.sent_messages),
                    ("received", calls.received_messages),
                ];
                counts.map(|(direction, count)| Series {
                    labels: labels.clone(),
                    more: Box::new([("role", role.as_str()), ("direction", direction)]),
                    value: Value::Integer(count),
                })
            })
        });
        self.add(&contract::RPC_MESSAGES, messages);
    }

    fn coverage(&mut self, aggregator: &Aggregator) {
        let services = &aggregator.services;
        let series = services.iter().map(|(_, labels, service)| {
            Series::new(labels, Value::Integer(service.understood_bytes))
        });
        self.add(&contract::UNDERSTOOD_BYTES, series);
        let series = services
            .iter()
            .map(|(_, labels, service)| Series::new(labels, Value::Integer(service.moved_bytes)));
        self.add(&contract::MOVED_BYTES, series);
        let series = services.iter().filter_map(|(_, labels, service)| {
            Some(Series::new(labels, Value::Float(service.coverage()?)))
        });
        self.add(&contract::COVERAGE, series);
    }

    #[expect(clippy::cast_precision_loss, reason = "shown as seconds")]
    fn health(&mut self, health: &Health) {
        self.add(&contract::LOSS, health.losses.iter().map(loss));
        let program = |name: &str, value| Series::new(&labels([("program", name)]), value);
        let runs = health
            .programs
            .iter()
            .map(|cost| program(&cost.name, Value::Integer(cost.runs)));
        self.add(&contract::PROGRAM_RUNS, runs);
        let seconds = health
            .programs
            .iter()
            .map(|cost| program(&cost.name, Value::Float(cost.nanoseconds as f64 / 1e9)));
        self.add(&contract::PROGRAM_SECONDS, seconds);
        let table = |name, value| Series::new(&labels([("table", name)]), Value::Integer(value));
        let entries = health
            .tables
            .iter()
            .map(|found| table(found.name, found.entries));
        self.add(&contract::TABLE_ENTRIES, entries);
        let limits = health
            .tables
            .iter()
            .map(|found| table(found.name, found.limit));
        self.add(&contract::TABLE_LIMIT, limits);
        self.one(&contract::RING_RECORDS, Value::Integer(health.records));
        self.one(&contract::RING_USED, Value::Integer(health.ring_used_bytes));
        self.one(&contract::RING_SIZE, Value::Integer(health.ring_size_bytes));
    }

    fn budgets(&mut self, aggregator: &Aggregator) {
        let Aggregator {
            server,
            client,
            active,
            rpc_server,
            rpc_client,
            tcp,
            services,
            lookups,
            datagrams,
            edges,
            pods,
            judged,
            compatible,
            ..
        } = aggregator;
        let edges = &edges.store;
        let rpc = |name, store: &Store<RpcKey, RpcCalls>| {
            (name, store.len(), store.budget(), store.overflowed())
        };
        let groups = [
            (
                "http_server",
                server.len(),
                server.budget(),
                server.overflowed(),
            ),
            (
                "http_client",
                client.len(),
                client.budget(),
                client.overflowed(),
            ),
            (
                "http_active",
                active.len(),
                active.budget(),
                active.overflowed(),
            ),
            rpc("rpc_server", rpc_server),
            rpc("rpc_client", rpc_client),
            ("tcp", tcp.len(), tcp.budget(), tcp.overflowed()),
            (
                "services",
                services.len(),
                services.budget(),
                services.overflowed(),
            ),
            ("dns", lookups.len(), lookups.budget(), lookups.overflowed()),
            (
                "udp",
                datagrams.len(),
                datagrams.budget(),
                datagrams.overflowed(),
            ),
            ("edges", edges.len(), edges.budget(), edges.overflowed()),
            ("pods", pods.len(), pods.budget(), pods.overflowed()),
        ];
        let groups = || {
            groups
                .into_iter()
                .chain(judged.groups())
                .chain(compatible.groups())
        };
        let group = |name, value| Series::new(&labels([("family", name)]), Value::Integer(value));
        self.add(
            &contract::SERIES,
            groups().map(|(name, len, ..)| group(name, len as u64)),
        );
        self.add(
            &contract::SERIES_LIMIT,
            groups().map(|(name, _, budget, _)| group(name, budget as u64)),
        );
        self.add(
            &contract::SERIES_OVERFLOW,
            groups().map(|(name, .., count)| group(name, count)),
        );
    }
}

/// Everything that `aggregator` has measured, with `health`.
pub(super) fn take(aggregator: &mut Aggregator, mut health: Health, at: Monotonic) -> Snapshot {
    let links = &aggregator.links;
    for (reason, count) in [
        ("connection_table_full", links.untracked),
        ("connection_forgotten", links.forgotten),
        (
            "mesh_connection_table_full",
            aggregator.compatible.untracked(),
        ),
    ] {
        health.losses.push(Loss {
            stage: "aggregate",
            reason,
            count,
        });
    }
    let history = &aggregator.history;
    for (name, entries, limit) in [
        ("aggregate_connections", links.table.len(), links.limit),
        ("aggregate_flows", history.len(), history.limit()),
    ] {
        let (entries, limit) = (entries as u64, limit as u64);
        health.tables.push(crate::telemetry::health::Table {
            name,
            entries,
            limit,
        });
    }

    let mut builder = Builder {
        families: Vec::with_capacity(contract::FAMILIES.len()),
    };
    let target = labels([
        ("service_name", env!("CARGO_PKG_NAME")),
        ("service_version", env!("CARGO_PKG_VERSION")),
    ]);
    builder.add(&contract::TARGET, [Series::new(&target, Value::Integer(1))]);
    builder.calls(
        &aggregator.server,
        [
            &contract::HTTP_SERVER_DURATION,
            &contract::HTTP_SERVER_REQUEST_BODY,
            &contract::HTTP_SERVER_RESPONSE_BODY,
        ],
    );
    builder.calls(
        &aggregator.client,
        [
            &contract::HTTP_CLIENT_DURATION,
            &contract::HTTP_CLIENT_REQUEST_BODY,
            &contract::HTTP_CLIENT_RESPONSE_BODY,
        ],
    );
    builder.active(aggregator, at);
    builder.outcomes(aggregator);
    builder.rpc(aggregator);
    builder.tcp(&aggregator.tcp);
    builder.security(aggregator);
    builder.udp(aggregator);
    builder.coverage(aggregator);
    builder.graph(aggregator);
    builder.pods(aggregator);
    builder.service_graph(aggregator);
    builder.span_metrics(aggregator);
    builder.families.extend(aggregator.judged.samples());
    builder.families.extend(aggregator.compatible.samples());
    builder.health(&health);
    builder.cluster(&health.cluster);
    builder.export(&health.export);
    builder.budgets(aggregator);
    builder.one(&contract::PROCESS_CPU, Value::Float(health.cpu_seconds));
    builder.one(
        &contract::PROCESS_MEMORY,
        Value::Integer(health.resident_bytes),
    );
    builder.one(
        &contract::PROCESS_START,
        Value::Float(health.start_unix_seconds),
    );
    let version = labels([("version", env!("CARGO_PKG_VERSION"))]);
    builder.add(&contract::BUILD, [Series::new(&version, Value::Integer(1))]);
    Snapshot {
        at,
        families: builder.families,
        services: rows(aggregator, at),
        cluster: health.cluster,
        histograms: aggregator.config.histograms,
        export: health.export,
    }
}

fn rows(aggregator: &mut Aggregator, at: Monotonic) -> Vec<ServiceRow> {
    let names: Vec<ServiceRow> = aggregator
        .services
        .iter()
        .map(|(key, ..)| key.map_or_else(overflow, named))
        .collect();
    names
        .into_iter()
        .zip(aggregator.services.values_mut())
        .map(|(row, state)| ServiceRow {
            service: row.service,
            namespace: row.namespace,
            k8s_namespace: row.k8s_namespace,
            k8s_workload_kind: row.k8s_workload_kind,
            k8s_workload: row.k8s_workload,
            k8s_container: row.k8s_container,
            side: row.side,
            ..state.row(at)
        })
        .collect()
}

/// The row of a service, measures left empty.
fn named(key: &ServiceKey) -> ServiceRow {
    let workload = &*key.subject.workload;
    let mut row = ServiceRow {
        service: workload.service.to_string(),
        namespace: workload.namespace.to_string(),
        side: key.role.as_str(),
        ..ServiceRow::default()
    };
    if let Some(container) = &workload.container {
        let (kind, name) = container.pod.workload();
        row.k8s_namespace = container.pod.namespace.to_string();
        row.k8s_workload_kind = kind.to_owned();
        row.k8s_workload = name.to_owned();
        row.k8s_container = container.name.to_string();
    }
    row
}

/// The row of all services beyond the budget, measures left empty.
fn overflow() -> ServiceRow {
    ServiceRow {
        service: ServiceRow::OVERFLOW.to_owned(),
        side: Role::Unknown.as_str(),
        ..ServiceRow::default()
    }
}

fn loss(loss: &Loss) -> Series {
    let labels = labels([("stage", loss.stage), ("reason", loss.reason)]);
    Series::new(&labels, Value::Integer(loss.count))
}

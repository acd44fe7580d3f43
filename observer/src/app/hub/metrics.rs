//! What a hub tells of itself: every family there is, and their values now.

use std::time::Duration;

use crate::{
    aggregate::{
        contract::{self, Family, Kind as Values},
        series::Labels,
        snapshot::{Samples, Series, Snapshot, Value},
    },
    app::cluster::watched,
    cluster::{
        object::{Kind, Subject},
        status::Status,
        stream::{
            counters::{Refused, get},
            server::Hub,
            store::Store,
        },
    },
    config::Histograms,
    model::{policy::PolicyKind, time::Monotonic},
    telemetry::{
        health::{Loss, Table},
        process,
    },
};

/// Makes the families, and the list of them.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal, $unit:expr, $labels:expr, $help:literal;)*) => {
        $(
            static $constant: Family = Family {
                name: $name,
                kind: Values::$kind,
                unit: $unit,
                help: $help,
                labels: $labels,
                convention: None,
            };
        )*
        #[cfg(test)]
        static FAMILIES: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    AGENTS: Gauge "observer_hub_agents", None, &[],
        "Agents that follow the stream.";
    REFUSED: Counter "observer_hub_refused_total", None, &["reason"],
        "Requests and connections that were not served, by reason.";
    STALLED: Counter "observer_hub_stalled_total", None, &[],
        "Connections that ended because the other end took nothing for too long.";
    RESUMED: Counter "observer_hub_resumed_total", None, &[],
        "Streams that went on where the agent was.";
    SNAPSHOTS: Counter "observer_hub_snapshots_total", None, &[],
        "Snapshots that were sent.";
    BEHIND: Counter "observer_hub_behind_total", None, &[],
        "Snapshots that were sent because a connected agent fell behind.";
    ENCODED: Counter "observer_hub_snapshots_encoded_total", None, &[],
        "Snapshots that were made; agents share them.";
    FRAMES: Counter "observer_hub_sent_frames_total", None, &[],
        "Frames sent to agents.";
    BYTES: Counter "observer_hub_sent_bytes_total", Some("bytes"), &[],
        "Bytes of frames sent to agents, deflated.";
    REVIEWS: Counter "observer_hub_token_reviews_total", None, &[],
        "Questions to the API server whose a token is.";
    BATCHES: Counter "observer_hub_watch_batches_total", None, &[],
        "Batches of changes that the watch told.";
    CHANGES: Counter "observer_hub_changes_total", None, &["told"],
        "Changes of objects, and whether they made a difference that agents are told.";
    OBJECTS: Gauge "observer_hub_objects", None, &["kind"],
        "Objects that are known.";
    SYNCED: Gauge "observer_hub_synced", None, &["kind"],
        "Whether all objects were told at least once: 1 or 0.";
    AGE: Gauge "observer_hub_age_seconds", Some("seconds"), &["kind"],
        "Time since the API server was last heard; without a value before it was.";
    OBJECT_BYTES: Gauge "observer_hub_object_bytes", Some("bytes"), &[],
        "Bytes of all objects, encoded.";
    DELTA_BYTES: Gauge "observer_hub_delta_bytes", Some("bytes"), &[],
        "Bytes of the deltas that are kept for agents that come back.";
}

/// All values now. `status` is of the watch that tells the hub.
pub(super) fn snapshot(hub: &Hub, max_agents: u32, status: Option<&Status>) -> Snapshot {
    let counters = hub.counters();
    let (tables, losses, changes, kinds, object_bytes, delta_bytes) = {
        let store = hub.store();
        (
            store.tables(),
            store.losses(),
            store.changes(),
            known(&store),
            store.object_bytes() as u64,
            store.log_bytes() as u64,
        )
    };
    let mut families = Vec::new();
    let mut add = |family, series| families.push(Samples { family, series });
    let agents = get(&counters.agents);
    add(&AGENTS, one(agents));
    let refused = Refused::ALL.map(|why| {
        let labels = labels([("reason", why.as_str())]);
        (labels, counters.refused(why))
    });
    add(&REFUSED, integers(refused));
    for (family, counter) in [
        (&STALLED, &counters.stalled),
        (&RESUMED, &counters.resumed),
        (&SNAPSHOTS, &counters.snapshots),
        (&BEHIND, &counters.behind),
        (&ENCODED, &counters.encoded),
        (&FRAMES, &counters.frames),
        (&BYTES, &counters.bytes),
        (&REVIEWS, &counters.reviews),
    ] {
        add(family, one(get(counter)));
    }
    add(&BATCHES, one(hub.batches()));
    let (told, untold) = changes;
    let told = [("true", told), ("false", untold)];
    add(
        &CHANGES,
        integers(told.map(|(value, count)| (labels([("told", value)]), count))),
    );
    let by_kind = |subject: Subject| labels([("kind", subject.as_str())]);
    let each = kinds.iter();
    let objects = each.map(|(subject, (_, objects))| (by_kind(*subject), *objects as u64));
    add(&OBJECTS, integers(objects));
    let each = kinds.iter();
    let synced = each.map(|(subject, (synced, _))| (by_kind(*subject), u64::from(*synced)));
    add(&SYNCED, integers(synced));
    let age = |subject: Subject| Some((by_kind(subject), hub.age(subject)?));
    let ages: Vec<(Labels, Duration)> = Subject::all().filter_map(age).collect();
    if !ages.is_empty() {
        let age =
            |(labels, age): (Labels, Duration)| series(labels, Value::Float(age.as_secs_f64()));
        add(&AGE, ages.into_iter().map(age).collect());
    }
    add(&OBJECT_BYTES, one(object_bytes));
    add(&DELTA_BYTES, one(delta_bytes));
    let watched_losses = status.into_iter().flat_map(Status::losses);
    let loss = |Loss {
                    stage,
                    reason,
                    count,
                }| (labels([("stage", stage), ("reason", reason)]), count);
    add(
        &contract::LOSS,
        integers(losses.into_iter().chain(watched_losses).map(loss)),
    );
    let agents = Table {
        name: "hub_agents",
        entries: agents,
        limit: u64::from(max_agents),
    };
    let watched_tables = status.into_iter().flat_map(Status::tables);
    let tables: Vec<Table> = tables
        .into_iter()
        .chain(watched_tables)
        .chain([agents])
        .collect();
    let of = |value: fn(&Table) -> u64| {
        let table = tables.iter();
        integers(table.map(|table| (labels([("table", table.name)]), value(table))))
    };
    add(&contract::TABLE_ENTRIES, of(|table| table.entries));
    add(&contract::TABLE_LIMIT, of(|table| table.limit));
    let usage = process::usage();
    let float = |value| vec![series(labels([]), Value::Float(value))];
    add(&contract::PROCESS_CPU, float(usage.cpu_seconds));
    add(&contract::PROCESS_MEMORY, one(usage.resident_bytes));
    add(
        &contract::PROCESS_START,
        float(process::start_unix_seconds()),
    );
    let version = labels([("version", env!("CARGO_PKG_VERSION"))]);
    add(&contract::BUILD, integers([(version, 1)]));
    let mut snapshot = Snapshot {
        at: Monotonic(0),
        families,
        services: Vec::new(),
        cluster: Vec::new(),
        histograms: Histograms::default(),
        export: Vec::new(),
    };
    let objects = |kind: Kind| {
        let mut known = kinds.iter();
        let known = known.find(|(other, _)| *other == Subject::Kind(kind));
        known.map_or(0, |(_, (_, objects))| *objects)
    };
    let states = status.map(|status| watched(status, objects));
    snapshot.add_cluster(states.unwrap_or_default());
    snapshot
}

/// What a store knows: of which kinds, whether all of them were told once, and how many there are.
fn known(store: &Store) -> Vec<(Subject, (bool, usize))> {
    let kinds = Kind::ALL.map(|kind| (Subject::Kind(kind), store.kind(kind)));
    let declared = PolicyKind::ALL
        .into_iter()
        .filter_map(|kind| Some((Subject::Policy(kind), (true, store.policies(kind)?))));
    kinds.into_iter().chain(declared).collect()
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect()
}

fn series(labels: Labels, value: Value) -> Series {
    Series {
        labels,
        more: Box::default(),
        value,
    }
}

fn integers(values: impl IntoIterator<Item = (Labels, u64)>) -> Vec<Series> {
    let values = values.into_iter();
    values
        .map(|(labels, value)| series(labels, Value::Integer(value)))
        .collect()
}

fn one(value: u64) -> Vec<Series> {
    integers([(labels([]), value)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{object::Source, read::Resource, status::Reason, stream::server::Options},
        model::time::WallOffset,
        serve::exposition::Format,
    };

    fn rendered(snapshot: &Snapshot) -> String {
        String::from_utf8(Format::Text.render(snapshot, WallOffset::default())).unwrap()
    }

    #[test]
    fn how_the_watch_goes_is_told() {
        let hub = Hub::new(Options::default(), None, Box::new(|_| None));
        let status = Status::new(Source::Cluster);
        status.watch(Resource::Pods);
        status.watch(Resource::ReplicaSets);
        status.synced_now(Resource::Pods);
        status.failed(Resource::Pods, Reason::Forbidden, "not allowed");
        let loss = Loss {
            stage: "cluster",
            reason: "controllers_full",
            count: 3,
        };
        let table = Table {
            name: "cluster_controllers",
            entries: 1,
            limit: 2,
        };
        status.resolver(&[loss], &[table]);
        let text = rendered(&snapshot(&hub, 9, Some(&status)));
        for line in [
            "observer_kubernetes_synced{source=\"api\",kind=\"pods\"} 1",
            "observer_kubernetes_synced{source=\"api\",kind=\"replicasets\"} 0",
            "observer_kubernetes_objects{source=\"api\",kind=\"pods\"} 0",
            "observer_kubernetes_requests_total{source=\"api\",kind=\"pods\"} 0",
            "observer_kubernetes_errors_total{source=\"api\",kind=\"pods\",reason=\"forbidden\"} 1",
            "observer_loss_total{stage=\"cluster\",reason=\"controllers_full\"} 3",
            "observer_table_entries{table=\"cluster_controllers\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        let unwatched = rendered(&snapshot(&hub, 9, None));
        assert!(!unwatched.contains("observer_kubernetes_"), "{unwatched}");
    }

    #[test]
    fn every_family_is_told_by_its_rules() {
        let age = Box::new(|kind| {
            (kind == Subject::Kind(Kind::Pod)).then_some(Duration::from_millis(1500))
        });
        let hub = Hub::new(Options::default(), None, age);
        let status = Status::new(Source::Cluster);
        let snapshot = snapshot(&hub, 9, Some(&status));
        for family in FAMILIES {
            assert!(family.name.starts_with("observer_hub_"));
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == Values::Counter
            );
            let samples = snapshot
                .families
                .iter()
                .find(|samples| std::ptr::eq(samples.family, *family));
            for series in &samples.expect(family.name).series {
                let names: Vec<&str> = series.labels().map(|(name, _)| name).collect();
                assert_eq!(names, family.labels, "{}", family.name);
            }
        }
        let text = rendered(&snapshot);
        for line in [
            "observer_hub_agents 0",
            "observer_hub_refused_total{reason=\"not_ready\"} 0",
            "observer_hub_age_seconds{kind=\"pods\"} 1.5",
            "observer_hub_synced{kind=\"nodes\"} 0",
            "observer_table_limit{table=\"hub_agents\"} 9",
            "observer_loss_total{stage=\"hub\",reason=\"object_too_large\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }
}

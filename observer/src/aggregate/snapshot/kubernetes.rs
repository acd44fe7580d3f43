//! Series about what is known of Kubernetes.

use super::{Builder, Series, Snapshot, Value};
use crate::{
    aggregate::{
        contract,
        series::{Labels, labels},
    },
    telemetry::health::ClusterState,
};

// === impl Snapshot ===

impl Snapshot {
    /// Adds how well the cluster is known, where that is not in the health that the snapshot was
    /// taken with.
    pub fn add_cluster(&mut self, states: Vec<ClusterState>) {
        let mut builder = Builder {
            families: Vec::new(),
        };
        builder.cluster(&states);
        self.families.append(&mut builder.families);
        self.cluster.extend(states);
    }
}

// === impl Builder ===

impl Builder {
    pub(super) fn cluster(&mut self, states: &[ClusterState]) {
        let own = |state: &ClusterState| labels([("source", state.source), ("kind", state.kind)]);
        let series = |state: &ClusterState, value| Series::new(&own(state), value);
        let synced = states
            .iter()
            .map(|state| series(state, Value::Integer(state.synced.into())));
        self.add(&contract::KUBERNETES_SYNCED, synced);
        let ages = states
            .iter()
            .filter_map(|state| Some(series(state, Value::Float(state.age_seconds?))));
        self.add(&contract::KUBERNETES_AGE, ages);
        let objects = states
            .iter()
            .map(|state| series(state, Value::Integer(state.objects)));
        self.add(&contract::KUBERNETES_OBJECTS, objects);
        let requests = states
            .iter()
            .map(|state| series(state, Value::Integer(state.requests)));
        self.add(&contract::KUBERNETES_REQUESTS, requests);
        let errors = states.iter().flat_map(|state| {
            let labels: Labels = own(state);
            let errors = state.errors.iter();
            errors.map(move |(reason, count)| Series {
                labels: labels.clone(),
                more: Box::new([("reason", *reason)]),
                value: Value::Integer(*count),
            })
        });
        self.add(&contract::KUBERNETES_ERRORS, errors);
    }
}

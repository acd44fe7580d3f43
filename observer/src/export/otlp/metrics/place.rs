//! Whose a series is: the labels that become its resource.
//!
//! `service.instance.id` is the host and what else tells resources of one service on it apart
//! (`node-1.shop.Deployment.web.main` on Kubernetes): a backend that knows series by service and
//! instance alone must not take those of two hosts, or two containers, for one. A series is about
//! all pods of a workload on its node, so this is not the instance that spans name, unless pods are
//! told apart.

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_semantic_conventions::attribute as semantic;

use super::super::{
    attributes::Attributes,
    resource::{CONTROLLERS, WORKLOAD_KIND, WORKLOAD_NAME, finished, of_observer, push_host},
};
use crate::{
    aggregate::{contract::Family, snapshot::Series},
    export::about::About,
};

/// Labels that become the resource, in the order of [`Place`].
const MOVED: [&str; 8] = [
    "service_name",
    "service_namespace",
    "k8s_cluster_name",
    "k8s_namespace_name",
    "k8s_workload_kind",
    "k8s_workload_name",
    "k8s_container_name",
    "k8s_pod_name",
];

/// Values of [`MOVED`], empty where there is none; all empty for the observer itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Place<'a>([&'a str; MOVED.len()]);

/// Whether the series of `family` are about services: whose they are comes first.
pub(super) fn is_of_service(family: &Family) -> bool {
    family.labels.first() == MOVED.first()
}

// === impl Place ===

impl<'a> Place<'a> {
    /// Of a series; the observer's own, unless it is of a service.
    pub(super) fn of(series: &'a Series, of_service: bool) -> Self {
        let mut place = Self::default();
        if !of_service {
            return place;
        }
        for (label, value) in series.labels() {
            let index = MOVED.iter().position(|moved| *moved == label);
            if let Some(slot) = index.and_then(|index| place.0.get_mut(index)) {
                *slot = value;
            }
        }
        place
    }

    fn is_own(&self) -> bool {
        *self == Self::default()
    }

    /// Labels of `series` that are not in its resource.
    pub(super) fn rest<'s>(
        &self,
        series: &'s Series,
    ) -> impl Iterator<Item = (&'static str, &'s str)> + use<'s> {
        let own = self.is_own();
        series
            .labels()
            .filter(move |(label, _)| own || !MOVED.contains(label))
    }

    /// As a resource.
    pub(super) fn resource(&self, about: &About) -> Resource {
        if self.is_own() {
            return of_observer(about);
        }
        let [service, namespace, _, k8s, kind, workload, container, pod] = self.0;
        let mut out = Attributes::with_capacity(16);
        out.text(semantic::SERVICE_NAME, service);
        out.text(semantic::SERVICE_NAMESPACE, namespace);
        let mut instance = about.host_name.to_string();
        for part in [k8s, kind, workload, container, pod] {
            if !part.is_empty() {
                instance.push('.');
                instance.push_str(part);
            }
        }
        out.made(semantic::SERVICE_INSTANCE_ID, instance);
        push_host(&mut out, about);
        out.text(semantic::K8S_NAMESPACE_NAME, k8s);
        out.text(WORKLOAD_KIND, kind);
        out.text(WORKLOAD_NAME, workload);
        if let Some((_, key)) = CONTROLLERS.iter().find(|(known, _)| *known == kind) {
            out.text(*key, workload);
        }
        out.text(semantic::K8S_CONTAINER_NAME, container);
        out.text(semantic::K8S_POD_NAME, pod);
        out.text(semantic::K8S_NODE_NAME, &about.node);
        finished(out, about)
    }
}

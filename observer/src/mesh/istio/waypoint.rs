//! Which waypoint traffic in ambient mode passes.

use super::{Istio, plane::of_namespace};
use crate::{
    mesh::{
        decision::{Certainty, Reason},
        policy::Context,
    },
    model::{
        kubernetes::Pod,
        policy::{ObjectRef, find},
    },
};

/// Label that names a waypoint; `none` turns off what is named further out.
const USE: &str = "istio.io/use-waypoint";
/// Label that names the waypoint's namespace, where it is another.
const USE_NAMESPACE: &str = "istio.io/use-waypoint-namespace";

/// A waypoint that is asked for. Whether it is there and ready is not known here: without, the node's
/// proxy goes on directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waypoint {
    /// Namespace of its Gateway.
    pub namespace: Box<str>,
    /// Name of its Gateway.
    pub name: Box<str>,
    /// What asks for it.
    pub because: Reason,
    /// Unknown for what is sent to pods themselves: that passes it only if the label
    /// `istio.io/waypoint-for` of its Gateway is `workload` or `all`.
    pub certainty: Certainty,
}

/// What labels ask for: `None` when they say nothing, `Some(None)` for no waypoint.
type Asked = Option<Option<(Box<str>, Box<str>)>>;

fn asked<'a>(label: impl Fn(&str) -> Option<&'a str>, own: &str) -> Asked {
    let name = label(USE).filter(|name| !name.is_empty())?;
    if name == "none" {
        return Some(None);
    }
    let namespace = label(USE_NAMESPACE).unwrap_or(own);
    Some(Some((namespace.into(), name.into())))
}

// === impl Istio ===

impl Istio {
    /// The waypoint of what is sent to a Service (namespace and name), or without one to a pod
    /// itself. Only what comes from clients in ambient mode passes it.
    pub fn waypoint(
        &self,
        context: &Context,
        pod: &Pod,
        service: Option<(&str, &str)>,
    ) -> Option<Waypoint> {
        match service {
            Some(service) => self.service_waypoint(context, service),
            None => self.pod_waypoint(context, pod),
        }
    }

    /// A label of the Service goes before that of its namespace.
    pub(super) fn service_waypoint(
        &self,
        context: &Context,
        (namespace, name): (&str, &str),
    ) -> Option<Waypoint> {
        let service = context.service(namespace, name)?;
        let own = asked(|label| find(&service.labels, label), namespace);
        let (found, because) = match own {
            Some(found) => {
                let object = ObjectRef {
                    kind: "Service".into(),
                    namespace: namespace.into(),
                    name: name.into(),
                    ..ObjectRef::default()
                };
                (found, Reason::of(object, format!("label {USE}")))
            }
            None => (
                asked(|label| context.namespace_label(namespace, label), namespace)?,
                of_namespace(context, namespace, format!("label {USE}")),
            ),
        };
        let (namespace, name) = found?;
        Some(Waypoint {
            namespace,
            name,
            because,
            certainty: Certainty::Yes,
        })
    }

    /// A label of the pod goes before that of its namespace.
    fn pod_waypoint(&self, context: &Context, pod: &Pod) -> Option<Waypoint> {
        let namespace = &*pod.namespace;
        let (found, because) = match asked(|label| pod.traits.label(label), namespace) {
            Some(found) => (found, Reason::plain(format!("the pod has label {USE}"))),
            None => (
                asked(|label| context.namespace_label(namespace, label), namespace)?,
                of_namespace(context, namespace, format!("label {USE}")),
            ),
        };
        let (namespace, name) = found?;
        Some(Waypoint {
            namespace,
            name,
            because,
            certainty: Certainty::Unknown,
        })
    }
}

#[cfg(test)]
mod tests;

//! `Server`s: which of them has a port of a pod, what it says, and what is true without one.

use std::sync::Arc;

use super::{
    client::{Networks, Requirement, Tls},
    content::{PortContent, ServerSpec},
    ports::{OPAQUE, OPAQUE_BY_DEFAULT, REQUIRE_IDENTITY, SKIP_INBOUND, lists},
};
use crate::{
    mesh::{
        decision::{Decision, Reason},
        linkerd::Protocol,
        policy::{Context, Misunderstood},
        selector::{Selected, Selector},
    },
    model::{
        kubernetes::Pod,
        policy::{ObjectRef, PolicyObject},
    },
};

/// Annotation of what is true of ports without a `Server`.
const DEFAULT_POLICY: &str = "config.linkerd.io/default-inbound-policy";

/// A `Server`.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) object: ObjectRef,
    pub(super) created: u64,
    /// Its own labels, which authorizations choose it by.
    pub(super) labels: Box<[(Box<str>, Box<str>)]>,
    pub(super) selector: Selector,
    pub(super) port: PortContent,
    pub(super) protocol: Protocol,
    pub(super) otherwise: Otherwise,
}

/// What happens to what nothing else authorizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    Allow {
        authenticated: bool,
        cluster: bool,
    },
    Deny,
    /// It passes, and is logged.
    Audit,
}

/// All `Server`s.
#[derive(Debug, Default)]
pub(super) struct Servers {
    selected: Selected<Server>,
}

// === impl Server ===

impl Server {
    /// `None` for those of workloads outside of the cluster.
    pub(super) fn read(
        object: &PolicyObject,
        spec: ServerSpec,
    ) -> Result<Option<Self>, Misunderstood> {
        let Some(selector) = spec.pod_selector else {
            return Ok(None);
        };
        let otherwise = match &*spec.access_policy {
            "" => Otherwise::Deny,
            text => Otherwise::read(text)
                .ok_or_else(|| format!("spec.accessPolicy: `{text}` is no policy"))?,
        };
        let protocol = Protocol::read(&spec.proxy_protocol).ok_or_else(|| {
            let text = &spec.proxy_protocol;
            format!("spec.proxyProtocol: `{text}` is no protocol")
        })?;
        Ok(Some(Self {
            object: object.reference(),
            created: match object.created {
                0 => u64::MAX,
                created => created,
            },
            labels: object.labels.clone(),
            selector,
            port: spec.port,
            protocol,
            otherwise,
        }))
    }

    fn has(&self, pod: &Pod, port: u16) -> bool {
        let has_port = match &self.port {
            PortContent::Number(number) => *number == port,
            PortContent::Name(name) => {
                let mut named = pod.traits.ports.iter();
                named.any(|(known, number)| known == name && *number == port)
            }
        };
        has_port && self.selector.matches(&pod.traits.labels)
    }
}

// === impl Servers ===

impl Servers {
    pub(super) fn insert(&mut self, uid: &str, server: &Arc<Server>) {
        let namespace = &server.object.namespace;
        self.selected
            .insert(namespace, &server.selector, uid, server.clone());
    }

    pub(super) fn remove(&mut self, uid: &str, server: &Server) {
        self.selected
            .remove(&server.object.namespace, &server.selector, uid);
    }

    /// The one of a port of a pod. The API lets no two have it; of two that came by another way the
    /// oldest counts.
    pub(super) fn of(&self, pod: &Pod, port: u16) -> Option<&Arc<Server>> {
        self.selected
            .candidates(&pod.namespace, &pod.traits.labels)
            .filter(|server| server.has(pod, port))
            .min_by_key(|server| (server.created, &server.object))
    }
}

// === impl Otherwise ===

impl Otherwise {
    pub(super) fn read(text: &str) -> Option<Self> {
        let allow = |authenticated, cluster| {
            Some(Self::Allow {
                authenticated,
                cluster,
            })
        };
        match text {
            "all-authenticated" => allow(true, false),
            "all-unauthenticated" => allow(false, false),
            "cluster-authenticated" => allow(true, true),
            "cluster-unauthenticated" => allow(false, true),
            "deny" => Some(Self::Deny),
            "audit" => Some(Self::Audit),
            _ => None,
        }
    }

    /// Whom it lets pass; `None` for nobody. With [`Self::Audit`] all pass, and are logged.
    pub(super) fn requirement(self) -> Option<Requirement> {
        match self {
            Self::Allow {
                authenticated,
                cluster,
            } => Some(Requirement {
                networks: if cluster {
                    Networks::Cluster
                } else {
                    Networks::Any
                },
                tls: if authenticated {
                    Tls::Identities(vec![super::client::IdentityMatch::Any])
                } else {
                    Tls::Nothing
                },
            }),
            Self::Audit => Some(Requirement::ALL),
            Self::Deny => None,
        }
    }
}

/// What is true of a port of a pod that no `Server` has.
pub(super) fn default_policy(context: &Context, pod: &Pod, port: u16) -> Decision<Otherwise> {
    let own = pod.traits.annotation(DEFAULT_POLICY);
    let namespace = || context.namespace_annotation(&pod.namespace, DEFAULT_POLICY);
    let (mut policy, text) = if let Some((policy, text)) = own.and_then(known) {
        (
            policy,
            format!("the pod's default inbound policy is {text}"),
        )
    } else if let Some((policy, text)) = namespace().and_then(known) {
        (
            policy,
            format!("the namespace's default inbound policy is {text}"),
        )
    } else {
        let policy = Otherwise::Allow {
            authenticated: false,
            cluster: false,
        };
        let text = "neither pod nor namespace has a default inbound policy: all-unauthenticated is \
                    taken, as the installation's own is not known";
        (policy, text.to_owned())
    };
    let mut because = vec![Reason::plain(text)];
    if let Otherwise::Allow { authenticated, .. } = &mut policy
        && !*authenticated
        && listed(pod, REQUIRE_IDENTITY, port)
    {
        *authenticated = true;
        let text = format!("the pod's ports that need an identity have {port}");
        because.insert(0, Reason::plain(text));
    }
    Decision {
        value: policy,
        because,
    }
}

fn known(text: &str) -> Option<(Otherwise, &str)> {
    Some((Otherwise::read(text)?, text))
}

fn named<'a>(pod: &'a Pod) -> impl FnMut(&str) -> Option<u16> + 'a {
    |name| {
        let mut ports = pod.traits.ports.iter();
        ports
            .find(|(known, _)| **known == *name)
            .map(|(_, port)| *port)
    }
}

fn listed(pod: &Pod, annotation: &str, port: u16) -> bool {
    let list = pod.traits.annotation(annotation);
    list.is_some_and(|list| lists(list, port, named(pod)))
}

/// Whether connections to a port of a pod bypass its proxy. Only the pod's own annotation tells: its
/// rules are made when it starts, with the namespace's copied into it.
pub(super) fn skips_inbound(pod: &Pod, port: u16) -> bool {
    listed(pod, SKIP_INBOUND, port)
}

/// Whether connections of a pod to a port bypass its proxy.
pub(super) fn skips_outbound(pod: &Pod, port: u16) -> bool {
    listed(pod, super::ports::SKIP_OUTBOUND, port)
}

/// What a port of a pod that no `Server` has is read as.
pub(super) fn default_protocol(context: &Context, pod: &Pod, port: u16) -> Decision<Protocol> {
    let own = pod.traits.annotation(OPAQUE);
    let namespace = || context.namespace_annotation(&pod.namespace, OPAQUE);
    let (list, whose) = if let Some(list) = own {
        (list, "the pod's")
    } else if let Some(list) = namespace() {
        (list, "the namespace's")
    } else {
        (OPAQUE_BY_DEFAULT, "the default")
    };
    let (value, has) = if lists(list, port, named(pod)) {
        (Protocol::Opaque, "have")
    } else {
        (Protocol::Detect, "do not have")
    };
    Decision::by(
        value,
        Reason::plain(format!("{whose} opaque ports {has} {port}")),
    )
}

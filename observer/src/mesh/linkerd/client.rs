//! Which clients an authorization lets pass.

use std::net::IpAddr;

use super::content::{ClientContent, NetworkContent, Ref};
use crate::{
    mesh::{
        block::Block,
        decision::{Caller, Certainty},
        policy::Misunderstood,
        wire::linkerd_identity,
    },
    model::kubernetes::Pod,
};

/// Label of pods that have a proxy, with the namespace of its control plane.
pub(super) const CONTROL_PLANE: &str = "linkerd.io/control-plane-ns";
/// Name of the proxy's container.
pub(super) const PROXY: &str = "linkerd-proxy";
/// Networks of clusters where the installation says nothing else.
const CLUSTER_NETWORKS: [&str; 5] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fd00::/8",
];

/// What a client must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    /// Where it must come from.
    pub(super) networks: Networks,
    /// What it must have proved.
    pub(super) tls: Tls,
}

/// Where a client must come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Networks {
    Any,
    /// The cluster's, which the installation says and nobody reads here.
    Cluster,
    Of(Vec<NetworkContent>),
}

/// What a client must have proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// Nothing.
    Nothing,
    /// That it has a proxy, whose identity does not matter.
    Unauthenticated,
    /// One of these identities.
    Identities(Vec<IdentityMatch>),
}

/// An identity, or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IdentityMatch {
    Any,
    Exact(Box<str>),
    /// With the dot that it begins with.
    Suffix(Box<str>),
    Account {
        namespace: Box<str>,
        name: Box<str>,
    },
    Namespace(Box<str>),
}

// === impl Requirement ===

impl Requirement {
    /// Everybody.
    pub(super) const ALL: Self = Self {
        networks: Networks::Any,
        tls: Tls::Nothing,
    };

    /// What a `ServerAuthorization` of a namespace says.
    pub(super) fn of(content: ClientContent, own: &str) -> Result<Self, Misunderstood> {
        let tls = match content.mesh_tls {
            _ if content.unauthenticated => Tls::Nothing,
            None => {
                return Err("spec.client: neither unauthenticated nor meshTLS is there".to_owned());
            }
            Some(mesh) if mesh.unauthenticated_tls => Tls::Unauthenticated,
            Some(mesh) => {
                let accounts = mesh.service_accounts.iter();
                let accounts = accounts.map(|account| IdentityMatch::account(account, own));
                let identities = mesh.identities.iter().map(|it| IdentityMatch::new(it));
                Tls::Identities(identities.chain(accounts).collect())
            }
        };
        let networks = content.networks.map_or(Networks::Any, Networks::Of);
        Ok(Self { networks, tls })
    }

    /// Whether a caller has it.
    pub(super) fn met(&self, caller: &Caller<'_>) -> Certainty {
        self.networks.have(caller).and(self.tls.proved(caller))
    }

    /// Whether somebody without a proved identity may have it.
    pub(super) fn takes_plaintext(&self) -> bool {
        self.tls == Tls::Nothing
    }
}

// === impl Networks ===

impl Networks {
    fn have(&self, caller: &Caller<'_>) -> Certainty {
        match self {
            Self::Any => Certainty::Yes,
            Self::Cluster if caller.pod.is_some() => Certainty::Yes,
            Self::Cluster => match caller.address.map(in_cluster_networks) {
                Some(true) => Certainty::Yes,
                // The installation may say otherwise.
                Some(false) | None => Certainty::Unknown,
            },
            Self::Of(networks) => match caller.address {
                Some(address) => networks.iter().any(|it| it.contains(address)).into(),
                None => all_addresses(networks),
            },
        }
    }
}

/// Whether an address is in what are the cluster's networks where the installation says nothing else.
pub(super) fn in_cluster_networks(address: IpAddr) -> bool {
    let mut blocks = CLUSTER_NETWORKS
        .iter()
        .filter_map(|text| Block::parse(text));
    blocks.any(|block| block.contains(address))
}

/// Whether networks have an address that is not known: only if they have all.
fn all_addresses(networks: &[NetworkContent]) -> Certainty {
    let whole = |v4: bool| {
        networks
            .iter()
            .any(|it| it.cidr.prefix() == 0 && it.cidr.is_v4() == v4 && it.except.is_empty())
    };
    if whole(true) && whole(false) {
        Certainty::Yes
    } else {
        Certainty::Unknown
    }
}

// === impl NetworkContent ===

impl NetworkContent {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|it| it.contains(address))
    }
}

// === impl Tls ===

impl Tls {
    fn proved(&self, caller: &Caller<'_>) -> Certainty {
        match self {
            Self::Nothing => Certainty::Yes,
            Self::Unauthenticated => mutual(caller),
            Self::Identities(identities) => identities
                .iter()
                .map(|identity| identity.proved(caller))
                .fold(Certainty::No, Certainty::or),
        }
    }
}

/// Whether a caller's proxy proved who it is.
fn mutual(caller: &Caller<'_>) -> Certainty {
    match (caller.identity, caller.mutual, caller.pod) {
        (Some(_), ..) => Certainty::Yes,
        (None, Some(mutual), _) => mutual.into(),
        (None, None, Some(pod)) if !has_proxy(pod) => Certainty::No,
        (None, None, _) => Certainty::Unknown,
    }
}

/// Whether a pod has Linkerd's proxy.
pub(super) fn has_proxy(pod: &Pod) -> bool {
    pod.traits.label(CONTROL_PLANE).is_some() && pod.traits.has_container(PROXY)
}

// === impl IdentityMatch ===

impl IdentityMatch {
    /// Reads `*`, `*.suffix`, or an identity.
    pub(super) fn new(text: &str) -> Self {
        match text.strip_prefix('*') {
            Some("") => Self::Any,
            Some(suffix) if suffix.starts_with('.') => Self::Suffix(suffix.into()),
            _ => Self::Exact(text.into()),
        }
    }

    /// A service account, in a namespace of its own where none is written.
    pub(super) fn account(account: &Ref, own: &str) -> Self {
        Self::Account {
            namespace: account.namespace.clone().unwrap_or_else(|| own.into()),
            name: account.name.clone(),
        }
    }

    /// As it would be written.
    pub(super) fn text(&self) -> Box<str> {
        match self {
            Self::Any => "*".into(),
            Self::Exact(text) => text.clone(),
            Self::Suffix(suffix) => format!("*{suffix}").into(),
            Self::Account { namespace, name } => {
                format!("{name}.{namespace}.serviceaccount.identity.*").into()
            }
            Self::Namespace(namespace) => format!("*.{namespace}.serviceaccount.identity.*").into(),
        }
    }

    fn proved(&self, caller: &Caller<'_>) -> Certainty {
        if let Some(identity) = caller.identity {
            return match self {
                Self::Any => Certainty::Yes,
                Self::Exact(text) => (identity.text == *text).into(),
                Self::Suffix(suffix) => identity.text.ends_with(&**suffix).into(),
                Self::Account { namespace, name } => {
                    (identity.namespace == *namespace && identity.service_account == *name).into()
                }
                Self::Namespace(namespace) => (identity.namespace == *namespace).into(),
            };
        }
        let mutual = mutual(caller);
        if matches!(self, Self::Any) || mutual == Certainty::No {
            return mutual;
        }
        match caller.pod {
            Some(pod) => mutual.and(self.has(pod)),
            None => Certainty::Unknown,
        }
    }

    /// Whether the proxy of a pod has it, by the pod's service account. The trust domain is not known
    /// here.
    fn has(&self, pod: &Pod) -> Certainty {
        let (own, account) = (&*pod.namespace, &*pod.traits.service_account);
        let is = |namespace: &str, name: &str| (namespace == own && name == account).into();
        match self {
            Self::Any => Certainty::Yes,
            Self::Exact(text) => match linkerd_identity(text) {
                Some(it) => is(it.namespace, it.service_account),
                None => Certainty::No,
            },
            Self::Suffix(_) => Certainty::Unknown,
            Self::Account { namespace, name } => is(namespace, name),
            Self::Namespace(namespace) => (**namespace == *own).into(),
        }
    }
}

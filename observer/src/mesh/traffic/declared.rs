//! What objects declare beside routes and authorization: destinations, hosts outside, and who may
//! call, as far as traffic is held against it.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use serde_json::Value;

use super::{answers::Answers, host};
use crate::model::policy::{ObjectRef, PolicyKind, PolicyObject, ServiceFacts};

/// Most hosts, subsets and grants that are read of one object.
const MOST: usize = 256;

/// What objects declare.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// By canonical host.
    destinations: HashMap<Box<str>, Target>,
    /// Objects that keep the requests of a client with one backend.
    sticky: Vec<ObjectRef>,
    /// What should be used.
    pub(super) uses: Vec<Use>,
    /// Whom policy lets pass.
    pub(super) grants: Vec<Grant>,
    /// Something that goes for hosts outside is declared.
    pub(super) egress: bool,
    /// Rules that are for gateways alone.
    gateways: HashSet<GatewayRule>,
    /// Whom Linkerd's authentications name, by namespace and name.
    authentications: HashMap<(Box<str>, Box<str>), Vec<(Subject, Box<str>)>>,
    /// Policies, and namespace and name of the authentications that they demand.
    demands: Vec<(ObjectRef, Box<str>, Box<str>)>,
    /// Limits of rate.
    pub(super) limits: Vec<ObjectRef>,
}

/// Kind, namespace and name of an object, and a rule of it; an empty one stands for all.
type GatewayRule = (Box<str>, Box<str>, Box<str>, Box<str>);

/// What is declared of a host.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    /// The object.
    pub(super) object: ObjectRef,
    /// Requests stay with a backend by what is in them.
    pub(super) sticky: bool,
    /// Connections or requests are limited.
    pub(super) limited: bool,
}

/// What an object declares to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// The object.
    pub(super) object: ObjectRef,
    /// How it is used.
    pub(super) what: Usage,
    /// Canonical host, or a pattern of some.
    pub(super) host: Box<str>,
    /// Of a subset: its name.
    pub(super) subset: Box<str>,
}

/// How something is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Usage {
    /// A host outside is called.
    Outside,
    /// A subset of pods serves.
    Subset,
    /// A host is called by a client in scope: its namespace.
    Scope,
}

/// Whom or what a policy lets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// The object.
    pub(super) object: ObjectRef,
    /// What it is about.
    pub(super) subject: Subject,
    /// As written: exact, `prefix*` or `*suffix`.
    pub(super) pattern: Box<str>,
}

/// What a grant is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// An identity, in full or without `spiffe://`.
    Identity,
    /// The namespace of an identity.
    Namespace,
    /// The service account of an identity, `namespace/name`, or `name` in the object's namespace.
    ServiceAccount,
    /// A method.
    Method,
    /// A path.
    Path,
}

/// Reads texts of a list.
fn texts<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    let list = value.get(name).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .take(MOST)
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    let list = value.get(name).and_then(Value::as_array);
    list.into_iter().flatten().take(MOST)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A namespace, or that of the object which leaves it out.
fn own_or(namespace: &str, object: &PolicyObject) -> Box<str> {
    match namespace {
        "" => object.namespace.clone(),
        namespace => namespace.into(),
    }
}

/// `namespace/name` of a service account that an object refers to.
fn account_of(reference: &Value, object: &PolicyObject) -> Box<str> {
    let namespace = own_or(text(reference, "namespace"), object);
    format!("{namespace}/{}", text(reference, "name")).into()
}

/// Whether labels have all that a selector asks for. An empty one asks for nothing, and chooses
/// none.
pub(super) fn selects(selector: &[(Box<str>, Box<str>)], labels: &[(Box<str>, Box<str>)]) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(name, value)| crate::model::policy::find(labels, name) == Some(&**value))
}

/// Services of a namespace that choose pods with these labels.
pub(super) fn services_of<'a>(
    answers: &'a impl Answers,
    namespace: &'a str,
    labels: &'a [(Box<str>, Box<str>)],
) -> impl Iterator<Item = &'a Arc<ServiceFacts>> {
    answers
        .services()
        .filter(move |service| *service.namespace == *namespace)
        .filter(move |service| selects(&service.selector, labels))
}

// === impl Declared ===

impl Declared {
    /// Reads all that is declared.
    pub(super) fn read(answers: &impl Answers) -> Self {
        let mut declared = Self::default();
        for object in answers.objects() {
            declared.take(object);
        }
        declared.join();
        declared
    }

    fn take(&mut self, object: &PolicyObject) {
        let wanted = matches!(
            object.kind,
            PolicyKind::DestinationRule
                | PolicyKind::ServiceEntry
                | PolicyKind::Sidecar
                | PolicyKind::IstioAuthorizationPolicy
                | PolicyKind::MeshTlsAuthentication
                | PolicyKind::LinkerdAuthorizationPolicy
                | PolicyKind::ServerAuthorization
                | PolicyKind::EgressNetwork
                | PolicyKind::HttpLocalRateLimitPolicy
                | PolicyKind::HttpRoute
                | PolicyKind::GrpcRoute
                | PolicyKind::VirtualService
        );
        if !wanted {
            return;
        }
        // What cannot be understood is told by who judges objects.
        let Ok(content) = serde_json::from_str::<Value>(&object.content) else {
            return;
        };
        let Some(spec) = content.get("spec") else {
            return;
        };
        match object.kind {
            PolicyKind::DestinationRule => self.destination(object, spec),
            PolicyKind::ServiceEntry => {
                self.egress = true;
                for name in texts(spec, "hosts") {
                    self.usage(object, Usage::Outside, &host::canonical(name), "");
                }
            }
            PolicyKind::Sidecar => self.scope(object, spec),
            PolicyKind::IstioAuthorizationPolicy => self.authorization(object, spec),
            PolicyKind::MeshTlsAuthentication => self.authentication(object, spec),
            PolicyKind::LinkerdAuthorizationPolicy => {
                for reference in list(spec, "requiredAuthenticationRefs") {
                    if text(reference, "kind") == PolicyKind::MeshTlsAuthentication.as_str() {
                        let namespace = own_or(text(reference, "namespace"), object);
                        let name = text(reference, "name").into();
                        self.demands.push((object.reference(), namespace, name));
                    }
                }
            }
            PolicyKind::ServerAuthorization => {
                if let Some(client) = spec.pointer("/client/meshTLS") {
                    self.grant(object, Subject::Identity, texts(client, "identities"));
                    for account in list(client, "serviceAccounts") {
                        let only = account_of(account, object);
                        let only = std::iter::once(&*only);
                        self.grant(object, Subject::ServiceAccount, only);
                    }
                }
            }
            PolicyKind::EgressNetwork => self.egress = true,
            PolicyKind::HttpLocalRateLimitPolicy => self.limits.push(object.reference()),
            PolicyKind::VirtualService => self.virtual_service(object, spec),
            _ => {
                let parents = || list(spec, "parentRefs");
                if parents().next().is_some() && parents().all(|it| text(it, "kind") != "Service") {
                    self.of_gateways(object, "");
                }
                if list(spec, "rules").any(|rule| rule.get("sessionPersistence").is_some()) {
                    self.sticky.push(object.reference());
                }
            }
        }
    }

    fn of_gateways(&mut self, object: &PolicyObject, rule: &str) {
        let kind = Box::from(object.kind.as_str());
        let (namespace, name) = (object.namespace.clone(), object.name.clone());
        self.gateways.insert((kind, namespace, name, rule.into()));
    }

    fn virtual_service(&mut self, object: &PolicyObject, spec: &Value) {
        let for_mesh = |holder: &Value| {
            let mut gateways = texts(holder, "gateways").peekable();
            gateways.peek().is_none() || gateways.any(|gateway| gateway == "mesh")
        };
        if !for_mesh(spec) {
            return self.of_gateways(object, "");
        }
        for (index, rule) in list(spec, "http").enumerate() {
            let mut matches = list(rule, "match").peekable();
            if matches.peek().is_some() && !matches.any(for_mesh) {
                let name = match text(rule, "name") {
                    "" => index.to_string(),
                    name => name.to_owned(),
                };
                self.of_gateways(object, &name);
            }
        }
    }

    /// Whether clients with a proxy of their own follow a rule.
    pub(super) fn in_mesh(&self, object: &ObjectRef, rule: &str) -> bool {
        let key = |rule: &str| {
            let (kind, namespace) = (object.kind.clone(), object.namespace.clone());
            (kind, namespace, object.name.clone(), rule.into())
        };
        !self.gateways.contains(&key("")) && !self.gateways.contains(&key(rule))
    }

    fn usage(&mut self, object: &PolicyObject, what: Usage, host: &str, subset: &str) {
        self.uses.push(Use {
            object: object.reference(),
            what,
            host: host.into(),
            subset: subset.into(),
        });
    }

    fn destination(&mut self, object: &PolicyObject, spec: &Value) {
        let host = host::canonical_in(text(spec, "host"), &object.namespace);
        let mut target = Target {
            object: object.reference(),
            ..Target::default()
        };
        let subsets = || list(spec, "subsets");
        for policy in std::iter::once(spec)
            .chain(subsets())
            .filter_map(|holder| holder.get("trafficPolicy"))
        {
            let ports = list(policy, "portLevelSettings");
            for settings in std::iter::once(policy).chain(ports) {
                target.sticky |= settings
                    .pointer("/loadBalancer/consistentHash")
                    .is_some_and(|hash| !hash.is_null());
                target.limited |= settings.get("connectionPool").is_some();
            }
        }
        for subset in subsets() {
            self.usage(object, Usage::Subset, &host, text(subset, "name"));
        }
        self.destinations.insert(host.into(), target);
    }

    fn scope(&mut self, object: &PolicyObject, spec: &Value) {
        for hosts in list(spec, "egress") {
            for entry in texts(hosts, "hosts") {
                let Some((namespace, name)) = entry.split_once('/') else {
                    continue;
                };
                // All of a namespace, or of all, is never too much by one.
                if name == "*" || matches!(namespace, "*" | "~") {
                    continue;
                }
                let name = host::canonical(name);
                self.usage(object, Usage::Scope, &name, "");
            }
        }
    }

    fn authorization(&mut self, object: &PolicyObject, spec: &Value) {
        if !matches!(text(spec, "action"), "" | "ALLOW") {
            return;
        }
        for rule in list(spec, "rules") {
            let sources = list(rule, "from").filter_map(|from| from.get("source"));
            for source in sources {
                for (field, subject) in [
                    ("principals", Subject::Identity),
                    ("namespaces", Subject::Namespace),
                    ("serviceAccounts", Subject::ServiceAccount),
                ] {
                    self.grant(object, subject, texts(source, field));
                }
            }
            let operations = list(rule, "to").filter_map(|to| to.get("operation"));
            for operation in operations {
                self.grant(object, Subject::Method, texts(operation, "methods"));
                self.grant(object, Subject::Path, texts(operation, "paths"));
            }
        }
    }

    fn authentication(&mut self, object: &PolicyObject, spec: &Value) {
        let identities = texts(spec, "identities").map(|it| (Subject::Identity, it.into()));
        let references = list(spec, "identityRefs").map(|it| match text(it, "kind") {
            "Namespace" => (Subject::Namespace, text(it, "name").into()),
            _ => (Subject::ServiceAccount, account_of(it, object)),
        });
        let all = identities.chain(references).collect();
        let key = (object.namespace.clone(), object.name.clone());
        self.authentications.insert(key, all);
    }

    /// Gives each policy what the authentications that it demands name.
    fn join(&mut self) {
        for (object, namespace, name) in std::mem::take(&mut self.demands) {
            let Some(named) = self.authentications.get(&(namespace, name)) else {
                continue;
            };
            let grants = named.iter().map(|(subject, pattern)| Grant {
                object: object.clone(),
                subject: *subject,
                pattern: pattern.clone(),
            });
            self.grants.extend(grants);
        }
    }

    fn grant<'a>(
        &mut self,
        object: &PolicyObject,
        subject: Subject,
        patterns: impl Iterator<Item = &'a str>,
    ) {
        for pattern in patterns {
            self.grants.push(Grant {
                object: object.reference(),
                subject,
                pattern: pattern.into(),
            });
        }
    }

    /// What is declared of a canonical host.
    pub(super) fn target(&self, host: &str) -> Option<&Target> {
        self.destinations.get(host)
    }

    /// Whether requests that an object routes stay with a backend.
    pub(super) fn keeps(&self, object: &ObjectRef) -> bool {
        self.sticky
            .iter()
            .any(|sticky| sticky.name == object.name && sticky.namespace == object.namespace)
    }
}

// === impl Grant ===

impl Grant {
    /// Whether a text is what the pattern says.
    pub(super) fn covers(&self, text: &str) -> bool {
        let pattern = &*self.pattern;
        if pattern == "*" {
            return !text.is_empty();
        }
        match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(suffix), _) => text.ends_with(suffix),
            (None, Some(prefix)) => text.starts_with(prefix),
            // A template of a path: nothing is said of it that could be wrong.
            (None, None) if pattern.contains('{') => true,
            (None, None) => pattern == text,
        }
    }
}

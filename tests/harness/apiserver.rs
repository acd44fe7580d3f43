//! Kubernetes API servers for tests: a double in this process, which misbehaves on demand, and the
//! real one, for tests that are written against a [`Cluster`], whichever it is.

pub mod accounts;
pub mod client;
pub mod definitions;
pub mod double;
pub mod faults;
pub mod mint;
pub mod objects;
pub mod real;
pub mod refusal;
pub mod resource;
pub mod selector;
pub mod store;
mod validate;
mod validate_kinds;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::{client::Client, double::Double, real::Real, resource::Resource};

/// A Kubernetes API server, with what a test does to it.
pub trait Cluster {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// The certificate of the authority that signed its own, in PEM.
    fn authority(&self) -> PathBuf;

    /// A client that may do everything, and whose requests are not counted.
    fn admin(&self) -> &Client;

    /// All requests so far but those of the administrator and of the server itself.
    fn requests(&self) -> Result<Vec<Request>>;

    /// Forgets all history: what was read before now can neither be listed nor watched from.
    fn forget(&mut self) -> Result<()>;

    /// Goes away: nobody listens any more, and connections are closed.
    fn stop(&mut self) -> Result<()>;

    /// Comes back, at the same address and with the same objects.
    fn start(&mut self) -> Result<()>;
}

/// A request, as the server counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Verb of the API: `get`, `list`, `watch`, `create`, `update`, `delete`.
    pub verb: String,
    /// Resource as paths call it; empty for other paths.
    pub resource: String,
    /// Path.
    pub path: String,
    /// Parameters.
    pub query: BTreeMap<String, String>,
    /// Who asked.
    pub user: String,
    /// What the client says that it is.
    pub agent: String,
}

/// What a role allows: API group, resources, verbs.
pub type Rule<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

/// All that an observer reads.
pub const READER: &[Rule<'_>] = &[
    (
        "",
        &["pods", "nodes", "services", "namespaces"],
        &["get", "list", "watch"],
    ),
    (
        "discovery.k8s.io",
        &["endpointslices"],
        &["get", "list", "watch"],
    ),
    (
        "apps",
        &["replicasets", "deployments"],
        &["get", "list", "watch"],
    ),
    ("batch", &["jobs"], &["get", "list", "watch"]),
    ("", &["configmaps"], &["get", "list", "watch"]),
    (
        "networking.k8s.io",
        &["networkpolicies"],
        &["get", "list", "watch"],
    ),
];

/// What it reads besides where there are meshes: all of their kinds.
pub const MESHES: &[Rule<'_>] = &[
    ("security.istio.io", &["*"], &["get", "list", "watch"]),
    ("networking.istio.io", &["*"], &["get", "list", "watch"]),
    ("telemetry.istio.io", &["*"], &["get", "list", "watch"]),
    ("policy.linkerd.io", &["*"], &["get", "list", "watch"]),
    ("linkerd.io", &["*"], &["get", "list", "watch"]),
    (
        "gateway.networking.k8s.io",
        &["*"],
        &["get", "list", "watch"],
    ),
];

/// Runs a test against the double, then against the real server if this machine has it.
pub fn each(test: impl Fn(&mut dyn Cluster) -> Result<()>) -> Result<()> {
    test(&mut Double::start()?).context("against the double")?;
    if let Some(mut real) = Real::start()? {
        test(&mut real).context("against the real server")?;
    }
    Ok(())
}

/// Text of a kubeconfig file for a cluster, with this token.
pub fn kubeconfig(cluster: &dyn Cluster, token: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://{}", cluster.address()),
            "certificate-authority": cluster.authority(),
        }}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
    .to_string()
}

/// Path of `object`, which says its kind, its name and its namespace.
pub fn path(object: &Value) -> Result<String> {
    let name = object["metadata"]["name"].as_str();
    let name = name.with_context(|| format!("no name: {object}"))?;
    Ok(format!("{}/{name}", collection(object)?))
}

/// Path of all objects of the kind of `object`, in its namespace.
pub fn collection(object: &Value) -> Result<String> {
    let resource = resource::of(object);
    let resource = resource.with_context(|| format!("no known kind: {object}"))?;
    Ok(resource.path(namespace(resource, object)))
}

fn namespace<'a>(resource: &Resource, object: &'a Value) -> &'a str {
    if resource.namespaced {
        object["metadata"]["namespace"]
            .as_str()
            .unwrap_or("default")
    } else {
        ""
    }
}

// === impl dyn Cluster ===

impl dyn Cluster + '_ {
    /// Creates `object`, then writes its status if it has one, as controllers and kubelets do.
    /// Returns the object as it is then.
    pub fn create(&self, object: &Value) -> Result<Value> {
        let admin = self.admin();
        let created = admin.send("POST", &collection(object)?, Some(object))?;
        let created = created
            .success()
            .with_context(|| format!("create {object}"))?;
        if object["status"].is_null() {
            return Ok(created);
        }
        self.write_status(&created, &object["status"])
    }

    /// Creates each of `objects`.
    pub fn create_all<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<()> {
        for object in objects {
            self.create(object)?;
        }
        Ok(())
    }

    /// Reads the object that is called as `object` is.
    pub fn read(&self, object: &Value) -> Result<Value> {
        self.admin().get(&path(object)?)?.success()
    }

    /// Reads an object, changes it and writes it, all but its status.
    pub fn change(&self, object: &Value, change: impl FnOnce(&mut Value)) -> Result<Value> {
        let mut read = self.read(object)?;
        change(&mut read);
        let written = self.admin().send("PUT", &path(object)?, Some(&read))?;
        written.success().with_context(|| format!("write {read}"))
    }

    /// Reads an object, changes its status and writes that.
    pub fn change_status(&self, object: &Value, change: impl FnOnce(&mut Value)) -> Result<Value> {
        let mut read = self.read(object)?;
        change(&mut read["status"]);
        let status = read["status"].take();
        self.write_status(&read, &status)
    }

    fn write_status(&self, object: &Value, status: &Value) -> Result<Value> {
        let mut object = object.clone();
        object["status"] = status.clone();
        let path = format!("{}/status", path(&object)?);
        let written = self.admin().send("PUT", &path, Some(&object))?;
        written
            .success()
            .with_context(|| format!("write the status of {object}"))
    }

    /// Deletes an object as users do: a pod that runs is given time to end.
    pub fn delete(&self, object: &Value) -> Result<Value> {
        self.admin().send("DELETE", &path(object)?, None)?.success()
    }

    /// Deletes an object at once, as a kubelet does when a pod has ended.
    pub fn remove(&self, object: &Value) -> Result<Value> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        });
        let answer = self
            .admin()
            .send("DELETE", &path(object)?, Some(&options))?;
        answer.success()
    }

    /// Makes a service account that may do what `rules` say; its token for the API.
    pub fn account(&self, name: &str, rules: &[Rule<'_>]) -> Result<String> {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name},
        });
        self.create(&account)?;
        self.create(&role(name, rules))?;
        self.create(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name,
            },
            "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": name}],
        }))?;
        self.wait_for_rules(name, rules)?;
        self.token(name, &[], None)
    }

    /// Changes what an account of [`Self::account`] may do.
    pub fn allow(&self, name: &str, rules: &[Rule<'_>]) -> Result<()> {
        let role = role(name, rules);
        self.change(&role, |old| old["rules"] = role["rules"].clone())?;
        self.wait_for_rules(name, rules)
    }

    /// The real server hears of its own roles by a watch, a moment later.
    fn wait_for_rules(&self, name: &str, rules: &[Rule<'_>]) -> Result<()> {
        let user = format!("system:serviceaccount:default:{name}");
        for known in READER {
            for resource in known.1 {
                let wanted = rules.iter().any(|(group, resources, verbs)| {
                    *group == known.0 && resources.contains(resource) && verbs.contains(&"list")
                });
                crate::wait::until("roles", crate::wait::PATIENCE, || {
                    let review = json!({
                        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                        "spec": {"user": user, "resourceAttributes": {
                            "group": known.0, "resource": resource, "verb": "list",
                        }},
                    });
                    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
                    let answer = self.admin().send("POST", path, Some(&review))?;
                    let allowed = answer.success()?["status"]["allowed"] == true;
                    Ok((allowed == wanted).then_some(()))
                })?;
            }
        }
        Ok(())
    }

    /// A token of the service account `name` of the default namespace, for these audiences (the
    /// API without any) and, if there is one, as the pod has it mounted.
    pub fn token(&self, name: &str, audiences: &[&str], pod: Option<&str>) -> Result<String> {
        let mut request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": 3600},
        });
        if let Some(pod) = pod {
            request["spec"]["boundObjectRef"] =
                json!({"apiVersion": "v1", "kind": "Pod", "name": pod});
        }
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{name}/token");
        let answer = self
            .admin()
            .send("POST", &path, Some(&request))?
            .success()?;
        let token = answer["status"]["token"].as_str();
        Ok(token
            .with_context(|| format!("no token: {answer}"))?
            .to_owned())
    }

    /// How many requests there were with this verb for this resource.
    pub fn count(&self, verb: &str, resource: &str) -> Result<usize> {
        let requests = self.requests()?;
        let like = |request: &&Request| request.verb == verb && request.resource == resource;
        Ok(requests.iter().filter(like).count())
    }

    /// Checks that nobody but the administrator has asked for anything else than this.
    pub fn expect_requests(&self, expected: &[(&str, &str, usize)]) -> Result<()> {
        let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
        let requests = self.requests()?;
        for request in &requests {
            let key = (request.verb.clone(), request.resource.clone());
            *found.entry(key).or_default() += 1;
        }
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(verb, resource, count)| (((*verb).to_owned(), (*resource).to_owned()), *count))
            .collect();
        ensure!(
            found == expected,
            "{found:?} instead of {expected:?}: {requests:#?}"
        );
        Ok(())
    }
}

fn role(name: &str, rules: &[Rule<'_>]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(group, resources, verbs)| {
            json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
        })
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules,
    })
}

// === impl Request ===

impl Request {
    /// Whether it is a watch that begins with all objects that there are.
    pub fn is_streaming_list(&self) -> bool {
        self.verb == "watch"
            && self
                .query
                .get("sendInitialEvents")
                .is_some_and(|on| on == "true")
    }

    /// The request for a URI, by its method's verb.
    pub(crate) fn parse(method: &str, uri: &str, user: &str, agent: &str) -> Self {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decoded(key), decoded(value))
            })
            .collect();
        let target = resource::parse(path);
        let named = target
            .as_ref()
            .is_some_and(|target| !target.name.is_empty());
        // Any value but these is yes.
        let watched = query
            .get("watch")
            .is_some_and(|on| !["false", "0"].contains(&&**on));
        let verb = match method {
            "GET" if target.is_some() && watched => "watch",
            "GET" if target.is_some() && !named => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            other => other,
        };
        Self {
            verb: verb.to_owned(),
            resource: target.map_or_else(String::new, |target| target.resource.plural.to_owned()),
            path: path.to_owned(),
            query,
            user: user.to_owned(),
            agent: agent.to_owned(),
        }
    }
}

/// Undoes the encoding of URIs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = after
                    .get(..2)
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = &after[2..];
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

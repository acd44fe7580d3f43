//! Who may do what on the double: tokens of service accounts, and the rules of roles.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{
    Request,
    mint::{now, timestamp},
    refusal::{Cause, Refusal},
    resource::Target,
    store::Store,
};

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name, such as `system:serviceaccount:shop:agent`.
    pub name: String,
    uid: String,
    groups: Vec<String>,
    extra: Map<String, Value>,
}

/// Tokens that are known.
#[derive(Debug)]
pub struct Accounts {
    tokens: HashMap<String, Token>,
    issued: u64,
}

#[derive(Clone, Debug)]
struct Token {
    user: User,
    audiences: Vec<String>,
    expires: u64,
}

/// The token of whoever may do everything.
pub const ADMIN_TOKEN: &str = "admin-token";

/// Who tokens are for when nobody says otherwise.
pub const AUDIENCE: &str = "https://kubernetes.default.svc";

/// Members may do everything.
const MASTERS: &str = "system:masters";

// === impl Accounts ===

impl Default for Accounts {
    fn default() -> Self {
        let admin = User {
            name: "admin".to_owned(),
            uid: "admin-uid".to_owned(),
            groups: [MASTERS, "system:authenticated"]
                .map(str::to_owned)
                .to_vec(),
            extra: Map::new(),
        };
        let token = Token {
            user: admin,
            audiences: vec![AUDIENCE.to_owned()],
            expires: u64::MAX,
        };
        Self {
            tokens: HashMap::from([(ADMIN_TOKEN.to_owned(), token)]),
            issued: 0,
        }
    }
}

impl Accounts {
    /// Who sends this `Authorization` header.
    pub fn user(&self, header: Option<&str>) -> Result<User, Refusal> {
        let Some(header) = header else {
            return Ok(User::anonymous());
        };
        let token = header.strip_prefix("Bearer ").unwrap_or_default().trim();
        let found = self.tokens.get(token).filter(|token| {
            token.expires > now() && token.audiences.iter().any(|one| one == AUDIENCE)
        });
        let found = found.ok_or_else(Refusal::unauthorized)?;
        Ok(found.user.clone())
    }

    /// The token ends now, as if its time were up.
    pub fn expire(&mut self, token: &str) {
        if let Some(token) = self.tokens.get_mut(token) {
            token.expires = 0;
        }
    }

    /// Answers a TokenRequest for an account.
    pub fn issue(
        &mut self,
        store: &Store,
        target: &Target,
        mut request: Value,
    ) -> Result<Value, Refusal> {
        let (namespace, name) = (&target.namespace, &target.name);
        let account = store.get(target.resource, namespace, name);
        let account = account.ok_or_else(|| Refusal::not_found(target.resource, name))?;
        let seconds = request["spec"]["expirationSeconds"]
            .as_u64()
            .unwrap_or(3600);
        if seconds < 600 {
            let why = "may not specify a duration less than 10 minutes";
            let field = "spec.expirationSeconds";
            let causes = [Cause::invalid(field, &json!(seconds), why)];
            let kind = ("TokenRequest", "authentication.k8s.io");
            return Err(Refusal::invalid(kind, "", &causes));
        }
        let mut audiences: Vec<String> = texts(&request["spec"]["audiences"]);
        if audiences.is_empty() {
            audiences.push(AUDIENCE.to_owned());
        }
        self.issued += 1;
        let mut extra = Map::new();
        let mut tell = |key: &str, value: &Value| {
            let key = format!("authentication.kubernetes.io/{key}");
            extra.insert(key, json!([value]));
        };
        tell("credential-id", &json!(format!("JTI={:032x}", self.issued)));
        let bound = &request["spec"]["boundObjectRef"];
        if bound["kind"] == "Pod" {
            let pods = super::resource::named("pods").ok_or_else(Refusal::no_resource)?;
            let asked = bound["name"].as_str().unwrap_or_default();
            let pod = store.get(pods, namespace, asked);
            let pod = pod.ok_or_else(|| Refusal::not_found(pods, asked))?;
            tell("pod-name", &pod["metadata"]["name"]);
            tell("pod-uid", &pod["metadata"]["uid"]);
            let node = &pod["spec"]["nodeName"];
            if node.is_string() {
                tell("node-name", node);
            }
        }
        let user = User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: account["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            extra,
        };
        // Shaped like the real one, which is signed; who reads what it says is wrong to.
        let token = format!("header.claims{}.{}", self.issued, "signature".repeat(60));
        let expires = now() + seconds;
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = json!(seconds);
        request["status"] = json!({
            "token": token, "expirationTimestamp": timestamp(expires),
        });
        let issued = Token {
            user,
            audiences,
            expires,
        };
        self.tokens.insert(token, issued);
        Ok(request)
    }

    /// Answers a TokenReview: whose a token is, if it is for any of the audiences.
    pub fn review(&self, mut review: Value) -> Result<Value, Refusal> {
        let asked = review["spec"]["token"].as_str().unwrap_or_default();
        if asked.is_empty() {
            let message = "token is required for TokenReview in authentication";
            return Err(Refusal::bad_request(message));
        }
        let mut audiences = texts(&review["spec"]["audiences"]);
        if audiences.is_empty() {
            audiences.push(AUDIENCE.to_owned());
        }
        let unknown = json!({"user": {}, "error": "invalid bearer token"});
        let status = match self.tokens.get(asked).filter(|token| token.expires > now()) {
            None => unknown,
            Some(token) => {
                let shared: Vec<&String> = audiences
                    .iter()
                    .filter(|one| token.audiences.contains(one))
                    .collect();
                if shared.is_empty() {
                    let error = format!(
                        "[invalid bearer token, token audiences {:?} is invalid for the target \
                         audiences {audiences:?}]",
                        token.audiences
                    );
                    json!({"user": {}, "error": error})
                } else {
                    json!({
                        "authenticated": true, "user": token.user.told(), "audiences": shared,
                    })
                }
            }
        };
        review["metadata"] = json!({});
        review["status"] = status;
        Ok(review)
    }
}

/// Whether the roles that are bound to `user` let it ask this.
pub fn authorize(
    store: &Store,
    user: &User,
    request: &Request,
    target: &Target,
) -> Result<(), Refusal> {
    // Who may read one object may list and watch it alone.
    let selected = request.query.get("fieldSelector");
    let selected = selected.and_then(|text| text.strip_prefix("metadata.name="));
    match (&*request.verb, selected) {
        ("list" | "watch", Some(selected)) => {
            let named = Target {
                name: selected.to_owned(),
                ..target.clone()
            };
            allow(store, user, &request.verb, &named)
        }
        (verb, _) => allow(store, user, verb, target),
    }
}

/// Whether the roles that are bound to `user` let it do this.
pub fn allow(store: &Store, user: &User, verb: &str, target: &Target) -> Result<(), Refusal> {
    if user.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let mut namespaces = vec![String::new()];
    if !target.namespace.is_empty() {
        namespaces.push(target.namespace.clone());
    }
    for namespace in namespaces {
        let bindings = if namespace.is_empty() {
            all(store, "clusterrolebindings", "")
        } else {
            all(store, "rolebindings", &namespace)
        };
        for binding in bindings {
            let role = &binding["roleRef"];
            let name = role["name"].as_str().unwrap_or_default();
            let (plural, place) = if role["kind"] == "Role" {
                ("roles", &*namespace)
            } else {
                ("clusterroles", "")
            };
            let role = super::resource::named(plural)
                .filter(|_| user.is_subject(&binding["subjects"]))
                .and_then(|resource| store.get(resource, place, name));
            let rules = role.as_ref().and_then(|role| role["rules"].as_array());
            if rules
                .into_iter()
                .flatten()
                .any(|rule| allows(rule, verb, target))
            {
                return Ok(());
            }
        }
    }
    let Target {
        resource,
        namespace,
        name,
        subresource,
    } = target;
    Err(Refusal::forbidden(
        &user.name,
        verb,
        resource,
        (namespace, name, subresource),
    ))
}

fn all(store: &Store, plural: &str, namespace: &str) -> Vec<std::sync::Arc<Value>> {
    let target = super::resource::named(plural).map(|resource| Target {
        resource,
        namespace: namespace.to_owned(),
        name: String::new(),
        subresource: String::new(),
    });
    let page = target.and_then(|target| store.list(&target, None).ok());
    page.map(|page| page.items).unwrap_or_default()
}

fn allows(rule: &Value, verb: &str, target: &Target) -> bool {
    let has = |key: &str, wanted: &str| {
        texts(&rule[key])
            .iter()
            .any(|one| one == wanted || one == "*")
    };
    let asked = match &*target.subresource {
        "" => target.resource.plural.to_owned(),
        subresource => format!("{}/{subresource}", target.resource.plural),
    };
    let names = texts(&rule["resourceNames"]);
    has("verbs", verb)
        && has("apiGroups", target.resource.group)
        && has("resources", &asked)
        && (names.is_empty() || names.contains(&target.name))
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

// === impl User ===

impl User {
    fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".to_owned()],
            extra: Map::new(),
        }
    }

    /// Whoever has this name, for reviews of what they may do.
    pub fn named(name: &str) -> Self {
        let mut user = Self::anonymous();
        name.clone_into(&mut user.name);
        user.groups = vec!["system:authenticated".to_owned()];
        user
    }

    fn is_subject(&self, subjects: &Value) -> bool {
        let subjects = subjects.as_array().into_iter().flatten();
        subjects.into_iter().any(|subject| {
            let text = |key: &str| subject[key].as_str().unwrap_or_default();
            match text("kind") {
                "ServiceAccount" => {
                    let (namespace, name) = (text("namespace"), text("name"));
                    self.name == format!("system:serviceaccount:{namespace}:{name}")
                }
                "User" => self.name == text("name"),
                "Group" => self.groups.iter().any(|group| group == text("name")),
                _ => false,
            }
        })
    }

    fn told(&self) -> Value {
        let mut told = json!({
            "username": self.name, "uid": self.uid, "groups": self.groups,
        });
        if !self.extra.is_empty() {
            told["extra"] = Value::Object(self.extra.clone());
        }
        told
    }
}

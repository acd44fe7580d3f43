//! Whether a request is what a rule asks for, as far as it is known.

use std::borrow::Cow;

use crate::{
    mesh::{
        decision::{Certainty, Destination, Request},
        istio::{plane::contains, read::Text, virtual_service::Match},
    },
    model::kubernetes::Pod,
};

/// Who follows routes: whose namespace decides what is visible.
#[derive(Clone, Copy)]
pub(super) struct Follower<'a> {
    pub(super) namespace: &'a str,
    /// Full name of what is asked for.
    pub(super) host: Option<&'a str>,
    /// The client, where its own proxy routes.
    pub(super) pod: Option<&'a Pod>,
}

/// What is asked of a rule.
pub(super) struct Question<'a> {
    pub(super) follower: Follower<'a>,
    pub(super) to: &'a Destination<'a>,
    pub(super) request: &'a Request<'a>,
}

/// Whether any matches, and why it cannot be told; none at all match everything.
pub(super) fn any_matches(
    matches: &[Match],
    question: &Question<'_>,
) -> (Certainty, Option<Cow<'static, str>>) {
    if matches.is_empty() {
        return (Certainty::Yes, None);
    }
    let mut any = Certainty::No;
    let mut why = None;
    for one in matches {
        let (certainty, reason) = one.matches(question);
        any = any.or(certainty);
        why = why.or(reason);
    }
    (any, why)
}

fn known(answer: Option<bool>) -> Certainty {
    answer.map_or(Certainty::Unknown, Certainty::from)
}

/// Fields that are not known may be there or not.
fn header(request: &Request<'_>, name: &str, wanted: &Text) -> Certainty {
    let value = match name {
        ":method" => Some(request.method).filter(|value| !value.is_empty()),
        ":path" => Some(request.path).filter(|value| !value.is_empty()),
        ":authority" | "host" => Some(request.authority).filter(|value| !value.is_empty()),
        name => {
            let mut known = request.headers.iter();
            known
                .find(|(known, _)| *known == name)
                .map(|(_, value)| *value)
        }
    };
    match value {
        Some(value) => known(wanted.matches(value, false)),
        None => Certainty::Unknown,
    }
}

fn unseen_header(name: &str) -> Cow<'static, str> {
    format!("field {name} is not kept").into()
}

/// Whether a host is another, which may begin with `*`.
pub(in crate::mesh::istio) fn host_matches(wanted: &str, host: &str) -> bool {
    match wanted.strip_prefix('*') {
        Some(suffix) => {
            let start = host.len().checked_sub(suffix.len());
            let end = start.and_then(|start| host.get(start..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        }
        None => wanted.eq_ignore_ascii_case(host),
    }
}

// === impl Match ===

impl Match {
    fn matches(&self, question: &Question<'_>) -> (Certainty, Option<Cow<'static, str>>) {
        let request = question.request;
        let mut all = Certainty::from(self.in_mesh);
        let mut why: Option<Cow<'static, str>> = None;
        let mut add = |certainty: Certainty, name: &dyn Fn() -> Cow<'static, str>| {
            if certainty == Certainty::Unknown && why.is_none() {
                why = Some(name());
            }
            all = all.and(certainty);
        };
        let text = |wanted: &Option<Text>, value: &str, ignore_case| match wanted {
            None => Certainty::Yes,
            Some(_) if value.is_empty() => Certainty::Unknown,
            Some(wanted) => known(wanted.matches(value, ignore_case)),
        };
        add(text(&self.path, request.path, self.ignore_case), &|| {
            "the path is not known, or its pattern".into()
        });
        add(text(&self.method, request.method, false), &|| {
            "the method is not known".into()
        });
        add(text(&self.authority, request.authority, false), &|| {
            "the authority is not known".into()
        });
        if let Some(unseen) = self.unseen {
            add(Certainty::Unknown, &|| {
                format!("{unseen} is not kept").into()
            });
        }
        for (name, wanted) in &self.headers {
            add(header(request, name, wanted), &|| unseen_header(name));
        }
        for (name, wanted) in &self.without_headers {
            add(header(request, name, wanted).not(), &|| unseen_header(name));
        }
        if self.port != 0 {
            let port = match question.to.port {
                0 => Certainty::Unknown,
                port => Certainty::from(port == self.port),
            };
            add(port, &|| "the port is not known".into());
        }
        let pod = question.follower.pod;
        if !self.source_labels.is_empty() {
            let labels = pod.map(|pod| self.source_labels.select(&pod.traits));
            add(known(labels), &|| {
                "the client's labels are not known".into()
            });
        }
        if !self.source_namespace.is_empty() {
            let namespace = pod.map(|pod| *self.source_namespace == *pod.namespace);
            add(known(namespace), &|| {
                "the client's namespace is not known".into()
            });
        }
        if !self.server_names.is_empty() {
            let name = question.to.authority;
            let listed = (!name.is_empty()).then(|| {
                let mut names = self.server_names.iter();
                names.any(|wanted| host_matches(wanted, name))
            });
            add(known(listed), &|| "the server name is not known".into());
        }
        if !self.networks.is_empty() {
            let inside = question.to.address.map(|address| {
                let mut networks = self.networks.iter();
                networks.any(|network| contains(network, address))
            });
            add(known(inside), &|| "the address is not known".into());
        }
        (all, why)
    }

    /// What it asks for, in words.
    pub(super) fn describe(&self) -> String {
        let mut parts = Vec::new();
        let mut part = |name: &str, text: &Option<Text>| {
            if let Some(text) = text {
                parts.push(format!("{name} {}", text.describe()));
            }
        };
        part("path", &self.path);
        part("method", &self.method);
        part("authority", &self.authority);
        for (name, text) in &self.headers {
            parts.push(format!("field {name} {}", text.describe()));
        }
        for (name, text) in &self.without_headers {
            parts.push(format!("not field {name} {}", text.describe()));
        }
        if self.port != 0 {
            parts.push(format!("port {}", self.port));
        }
        if !self.source_labels.is_empty() || !self.source_namespace.is_empty() {
            parts.push("some clients".to_owned());
        }
        parts.extend(
            self.server_names
                .iter()
                .map(|name| format!("server name {name}")),
        );
        parts.join(", ")
    }
}

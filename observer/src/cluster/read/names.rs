//! Which service a pod and its containers are, by OpenTelemetry's semantic conventions.

use super::{
    Losses, MAX_NAME, Options,
    json::{Part, Text},
    wire,
};
use crate::model::{
    kubernetes::ServiceName,
    resource_attributes::{MAX_VALUE, ServiceAttributes, shown},
};

/// Longest value of a variable that is looked at, bytes.
const MAX_VARIABLE: usize = 16 << 10;
/// Stands for what only the container knows, and is nothing that can be shown.
const UNKNOWN: char = '\u{1}';

/// What annotations and labels say; empty is what they do not.
pub(super) fn of_pod(
    metadata: &wire::Metadata<'_>,
    options: &Options,
    losses: &mut Losses,
) -> ServiceName {
    let mut first = |annotation: &str, labels: &[&str]| -> Box<str> {
        let annotation = metadata.annotations.get(annotation);
        let labels = labels.iter().filter(|_| options.service_from_labels);
        let labels = labels.map(|name| metadata.labels.get(name));
        for value in [annotation].into_iter().chain(labels).flatten() {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            match shown(value.into()) {
                Some(value) => return value,
                None => losses.values += 1,
            }
        }
        Box::default()
    };
    ServiceName {
        name: first(
            "resource.opentelemetry.io/service.name",
            &["app.kubernetes.io/instance", "app.kubernetes.io/name"],
        ),
        namespace: first("resource.opentelemetry.io/service.namespace", &[]),
        version: first(
            "resource.opentelemetry.io/service.version",
            &["app.kubernetes.io/version"],
        ),
    }
}

/// What a container's variables and image say, where that is not what its pod is.
pub(super) fn of_container(
    spec: &wire::Container<'_>,
    pod: &wire::Pod<'_>,
    service: &ServiceName,
    losses: &mut Losses,
) -> ServiceName {
    let told = variables(spec, pod, losses);
    let mut version = told.version;
    if version.is_empty() && service.version.is_empty() {
        version = image_version(spec.image.as_str()).unwrap_or_default();
    }
    let unlike = |value: Box<str>, pods: &str| {
        if *value == *pods {
            Box::default()
        } else {
            value
        }
    };
    let namespace = match &*service.namespace {
        "" => pod.metadata.0.namespace.as_str(),
        namespace => namespace,
    };
    ServiceName {
        name: unlike(told.name, &service.name),
        namespace: unlike(told.namespace, namespace),
        version: unlike(version, &service.version),
    }
}

fn variables(
    spec: &wire::Container<'_>,
    pod: &wire::Pod<'_>,
    losses: &mut Losses,
) -> ServiceAttributes {
    losses.elements += spec.env.cut;
    let variables = &spec.env.elements;
    // The last one of a name counts, and may refer to those before it.
    let find = |name: &str| {
        let at = variables
            .iter()
            .rposition(|variable| variable.0.name.as_str() == name)?;
        let value = value(&variables.get(at)?.0, pod)?;
        Some(expanded(value, variables.get(..at)?, pod))
    };
    let mut check = |value: String| -> Option<String> {
        let fits = value.len() <= MAX_VARIABLE;
        losses.values += u64::from(!fits);
        fits.then_some(value)
    };
    let list = find("OTEL_RESOURCE_ATTRIBUTES").and_then(&mut check);
    let name = find("OTEL_SERVICE_NAME").and_then(&mut check);
    let mut found = list
        .and_then(|list| ServiceAttributes::parse(list.as_bytes()))
        .unwrap_or_default();
    if let Some(name) = name.and_then(|name| shown(name.trim().into())) {
        found.name = name;
    }
    found
}

/// The value of a variable, if the pod itself tells it.
fn value<'o>(variable: &'o wire::Variable<'_>, pod: &'o wire::Pod<'_>) -> Option<&'o str> {
    let Some(Part(source)) = &variable.value_from else {
        return Some(variable.value.as_str());
    };
    let metadata = &pod.metadata.0;
    match source.field_ref.0.field_path.as_str() {
        "metadata.name" => Some(metadata.name.as_str()),
        "metadata.namespace" => Some(metadata.namespace.as_str()),
        "metadata.uid" => Some(metadata.uid.as_str()),
        path => {
            let (pairs, key) = match path.strip_prefix("metadata.labels['") {
                Some(key) => (&metadata.labels, key),
                None => (
                    &metadata.annotations,
                    path.strip_prefix("metadata.annotations['")?,
                ),
            };
            pairs.get(key.strip_suffix("']")?)
        }
    }
}

/// `text` with its references, `$(NAME)`, put in; `$$` is a dollar sign. One that the pod does not
/// tell is [`UNKNOWN`], so that what it is part of is not taken.
fn expanded(text: &str, before: &[Part<wire::Variable<'_>>], pod: &wire::Pod<'_>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            let variable = before
                .iter()
                .rfind(|variable| variable.0.name.as_str() == name);
            match variable.and_then(|variable| value(&variable.0, pod)) {
                Some(value) if !value.contains('$') && value.len() <= MAX_VALUE => {
                    out.push_str(value);
                }
                _ => out.push(UNKNOWN),
            }
            rest = after;
        } else {
            out.push('$');
        }
        if out.len() > MAX_VARIABLE {
            return out;
        }
    }
    out.push_str(rest);
    out
}

/// The version that an image's name tells: its tag, its digest, or `tag@digest`.
fn image_version(image: &str) -> Option<Box<str>> {
    if image.len() > MAX_NAME * 4 {
        return None;
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash is one before a port.
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    let tag = last
        .split_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.is_empty());
    let digest = digest.filter(|digest| !digest.is_empty());
    let version = match (tag, digest) {
        (Some(tag), Some(digest)) => format!("{tag}@{digest}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => return None,
    };
    shown(version.into_bytes())
}

// === impl Text ===

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.into())
    }
}

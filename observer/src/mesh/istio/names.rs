//! Names: of hosts in full, of Services, and what a pod is called.

use std::{borrow::Cow, net::IpAddr};

use crate::{mesh::policy::Context, model::kubernetes::Pod};

/// Domain of a cluster. It is nowhere in the objects, and hardly ever another.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// A host as Istio understands it in an object of a namespace: one without a dot is a Service of that
/// namespace, `cart` is `cart.shop.svc.cluster.local`; all others are as written.
pub fn full_name<'a>(host: &'a str, namespace: &str) -> Cow<'a, str> {
    if host.contains('.') || host.contains(':') || host.contains('*') || host.is_empty() {
        return Cow::Borrowed(host);
    }
    Cow::Owned(service_host(namespace, host))
}

/// Full name of a Service: `cart.shop.svc.cluster.local`.
pub fn service_host(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}")
}

/// Namespace and name of the Service that a full name is of.
pub fn service_of(host: &str) -> Option<(&str, &str)> {
    let (name, rest) = host.split_once('.')?;
    let (namespace, rest) = rest.split_once('.')?;
    let service = rest == "svc" || rest.starts_with("svc.");
    (service && !name.is_empty() && !namespace.is_empty()).then_some((namespace, name))
}

/// The host of an authority, without its port and without a dot at the end.
pub fn authority_host(authority: &str) -> &str {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => match authority.rsplit_once(':') {
            // More colons are an address of IPv6 without brackets.
            Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => host,
            _ => authority,
        },
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// The full name of what an authority asks for, as a client in a namespace resolves it; `None` when it
/// is empty or an address.
pub fn resolve(context: &Context, namespace: &str, authority: &str) -> Option<String> {
    let host = authority_host(authority);
    if host.is_empty() || host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let host = host.to_ascii_lowercase();
    let parts: Vec<&str> = host.split('.').collect();
    Some(match parts.as_slice() {
        [name] if !namespace.is_empty() => service_host(namespace, name),
        [name, of] if context.service(of, name).is_some() => service_host(of, name),
        [name, of, "svc"] | [name, of, "svc", "cluster"] => service_host(of, name),
        _ => host,
    })
}

/// Whether a Service has a port, as far as both are known. Proxies listen for these: what is sent to the
/// address of a pod, at another port, is passed on whatever name it asks for.
pub(super) fn has_port(context: &Context, host: &str, port: u16) -> bool {
    let service = service_of(host).and_then(|(namespace, name)| context.service(namespace, name));
    port == 0 || service.is_none_or(|service| service.ports.iter().any(|it| it.port == port))
}

/// What Istio calls a pod's service: `service.istio.io/canonical-name`, else the recommended label,
/// else `app`, else the workload.
pub fn canonical_service(pod: &Pod) -> &str {
    first_label(
        pod,
        &[
            "service.istio.io/canonical-name",
            "app.kubernetes.io/name",
            "app",
        ],
    )
    .unwrap_or(pod.workload().1)
}

/// What Istio calls a pod's revision: `service.istio.io/canonical-revision`, else the recommended
/// label, else `version`, else `latest`.
pub fn canonical_revision(pod: &Pod) -> &str {
    first_label(
        pod,
        &[
            "service.istio.io/canonical-revision",
            "app.kubernetes.io/version",
            "version",
        ],
    )
    .unwrap_or("latest")
}

fn first_label<'a>(pod: &'a Pod, names: &[&str]) -> Option<&'a str> {
    let mut values = names.iter().filter_map(|name| pod.traits.label(name));
    values.find(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;

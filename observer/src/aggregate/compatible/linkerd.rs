//! Who is told of under the names of Linkerd's proxies, and how: with the labels that `linkerd viz
//! stat` and `edges` sum by.
//!
//! Pods that have its proxy are left out, as that tells of them itself.

use super::Answer;
use crate::{
    aggregate::series::{Labels, labels},
    mesh::canonical,
    model::{
        call::{Call, Link},
        connection::Role,
        kubernetes::Pod,
        mesh::Far,
        security::Security,
    },
};

/// Labels of a call, but for what came of it.
pub(super) fn http(call: &Call) -> Option<Labels> {
    let far = call.far().map(|far| &**far);
    ends(&call.link, call.exchange.role, far, "")
}

/// Labels of a connection.
pub(super) fn tcp(link: &Link) -> Option<Labels> {
    // An outbound connection is its source's, an inbound one comes from who is its source.
    let peer = match link.connection.role {
        Role::Client => "dst",
        Role::Server | Role::Unknown => "src",
    };
    ends(link, link.connection.role, link.far.as_deref(), peer)
}

/// Adds what came of a request.
pub(super) fn answered(ends: &Labels, result: Answer) -> Labels {
    let status = result.status.to_string();
    let grpc = result.grpc.map(|code| code.to_string());
    let class = match result.failed || result.status >= 500 {
        true => "failure",
        false => "success",
    };
    let status = if result.status == 0 { "" } else { &status };
    let more = [
        ("classification", class),
        ("status_code", status),
        ("grpc_status", grpc.as_deref().unwrap_or_default()),
    ];
    let own = ends.iter().map(|(name, value)| (*name, &**value));
    labels(own.chain(more))
}

fn ends(link: &Link, role: Role, far: Option<&Far>, peer: &str) -> Option<Labels> {
    let pod = link.workload.pod()?;
    if !link.hop.is_counted() || canonical::has_linkerd_sidecar(pod) {
        return None;
    }
    let other = far.map_or(&link.peer, |far| &far.peer).pod();
    let security = far.map_or(link.security, |far| far.security);
    let identity = far.and_then(|far| far.identity.as_deref());
    let identity = identity.map_or("", |identity| &identity.text);
    let mutual = matches!(
        security,
        Security::LinkerdMutualTls | Security::IstioMutualTls | Security::Hbone
    );
    let (direction, reason) = match role {
        Role::Client => ("outbound", "not_provided_by_service_discovery"),
        Role::Server => ("inbound", "no_tls_from_remote"),
        Role::Unknown => return None,
    };
    let (tls, reason) = match mutual {
        true => ("true", ""),
        false => ("no_identity", reason),
    };
    let dialled = link.dialled.as_ref();
    let authority = dialled.map(|service| {
        let name = canonical::full_name(&service.name, &service.namespace);
        format!("{name}:{}", link.connection.remote.port())
    });
    let mut pairs = vec![
        ("direction", direction),
        ("authority", authority.as_deref().unwrap_or_default()),
        ("namespace", &*pod.namespace),
        ("pod", &*pod.name),
    ];
    pairs.extend(owner(pod, false));
    if role == Role::Client {
        if let Some(other) = other {
            pairs.extend([
                ("dst_namespace", &*other.namespace),
                ("dst_pod", &*other.name),
            ]);
            pairs.extend(owner(other, true));
        }
        let service = dialled.map_or("", |service| &*service.name);
        pairs.extend([("dst_service", service), ("server_id", identity)]);
    } else {
        pairs.push(("client_id", identity));
    }
    pairs.extend([("tls", tls), ("no_tls_reason", reason), ("peer", peer)]);
    Some(labels(pairs))
}

/// The label for the workload of a pod, by its kind.
fn owner(pod: &Pod, destination: bool) -> Option<(&'static str, &str)> {
    let (kind, name) = pod.workload();
    let (own, of_destination) = match kind {
        "Deployment" => ("deployment", "dst_deployment"),
        "StatefulSet" => ("statefulset", "dst_statefulset"),
        "DaemonSet" => ("daemonset", "dst_daemonset"),
        "ReplicaSet" => ("replicaset", "dst_replicaset"),
        "Job" => ("k8s_job", "dst_k8s_job"),
        "CronJob" => ("cronjob", "dst_cronjob"),
        _ => return None,
    };
    Some((if destination { of_destination } else { own }, name))
}

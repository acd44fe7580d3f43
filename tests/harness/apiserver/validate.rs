//! What the real server demands of objects, and what it adds to them: what tests write, no more.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{
    refusal::{Cause, Refusal},
    resource::{self, Resource, Target},
    store::SERVICE_NETWORK,
};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                         characters, '-' or '.', and must start and end with an alphanumeric \
                         character (e.g. 'example.com', regex used for validation is \
                         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
                     or '-', and must start and end with an alphanumeric character (e.g. \
                     'my-name',  or '123-abc', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

const OLD_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or \
                         '-', start with an alphabetic character, and end with an alphanumeric \
                         character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                         '[a-z]([-a-z0-9]*[a-z0-9])?')";

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
                           characters, '-', '_' or '.', and must start and end with an \
                           alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', \
                           regex used for validation is \
                           '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Checks that `object` is of the kind, namespace and name that the path says.
pub(super) fn address(target: &Target, object: &mut Value) -> Result<(), Refusal> {
    let resource = target.resource;
    let (kind, version) = (resource.kind, resource.api_version());
    let found = |key: &str| object[key].as_str().unwrap_or_default();
    if !object.is_object() || found("kind") != kind || found("apiVersion") != version {
        return Err(Refusal::bad_request(&format!(
            "{} in version {:?} cannot be handled as a {kind}",
            found("kind"),
            found("apiVersion"),
        )));
    }
    // What has another type than its field is not read at all.
    let lists = [
        "/spec/containers",
        "/spec/initContainers",
        "/spec/ports",
        "/ports",
        "/endpoints",
        "/metadata/ownerReferences",
        "/metadata/finalizers",
        "/status/podIPs",
        "/status/addresses",
    ];
    for (paths, list) in [
        (&lists[..], true),
        (&["/metadata", "/spec", "/status"], false),
    ] {
        for path in paths {
            let value = object.pointer(path).unwrap_or(&Value::Null);
            if !value.is_null() && (list && !value.is_array() || !list && !value.is_object()) {
                return Err(Refusal::bad_request(&format!(
                    "{kind} in version {version:?} cannot be handled as a {kind}: json: cannot \
                     unmarshal {} into Go struct field {}",
                    if value.is_string() { "string" } else { "value" },
                    path.trim_start_matches('/').replace('/', "."),
                )));
            }
        }
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    if !namespace.is_empty() && namespace != target.namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if resource.namespaced {
        object["metadata"]["namespace"] = json!(target.namespace);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !target.name.is_empty() && name != target.name {
        return Err(Refusal::bad_request(&format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

/// Adds what the server adds to a new object.
pub(super) fn complete(resource: &Resource, object: &mut Value) {
    // These count what happened to their spec.
    if ["Pod", "EndpointSlice", "ReplicaSet", "Deployment", "Job"].contains(&resource.kind)
        || ["StatefulSet", "DaemonSet", "CronJob"].contains(&resource.kind)
    {
        object["metadata"]["generation"] = json!(1);
    }
    match resource.kind {
        "Pod" => {
            pod_spec(&mut object["spec"]);
            object["spec"]["priority"] = json!(0);
            object["spec"]["enableServiceLinks"] = json!(true);
            object["spec"]["preemptionPolicy"] = json!("PreemptLowerPriority");
            object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
        }
        "Service" => service(object),
        "EndpointSlice" => {
            slice(object);
        }
        "Node" => {
            let spec = &mut object["spec"];
            if spec.is_null() {
                *spec = json!({});
            }
            if spec["podCIDRs"].is_null() && spec["podCIDR"].is_string() {
                spec["podCIDRs"] = json!([spec["podCIDR"]]);
            } else if spec["podCIDR"].is_null() && spec["podCIDRs"][0].is_string() {
                spec["podCIDR"] = spec["podCIDRs"][0].clone();
            }
            prune(spec);
            let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
            match spec["taints"].as_array_mut() {
                Some(taints) => taints.push(not_ready),
                None => spec["taints"] = json!([not_ready]),
            }
            // The strategy keeps a status that the kubelet registers itself with.
            let status = &mut object["status"];
            if status.is_null() {
                *status = json!({});
            }
            default(
                status,
                "daemonEndpoints",
                json!({"kubeletEndpoint": {"Port": 0}}),
            );
            default(status, "nodeInfo", resource::node_info());
        }
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        "ReplicaSet" => {
            default(&mut object["spec"], "replicas", json!(1));
            pod_spec(&mut object["spec"]["template"]["spec"]);
            object["status"] = json!({"replicas": 0});
        }
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob" => {
            object["status"] = json!({});
        }
        _ => {}
    }
}

/// Adds what the server adds to an object that is written again.
pub(super) fn complete_after(resource: &Resource, new: &mut Value, old: &Value) {
    match resource.kind {
        "Pod" => {
            for key in [
                "priority",
                "enableServiceLinks",
                "preemptionPolicy",
                "tolerations",
            ] {
                let value = old["spec"][key].clone();
                default(&mut new["spec"], key, value);
            }
            pod_spec(&mut new["spec"]);
            let status = &mut new["status"];
            default(status, "qosClass", old["status"]["qosClass"].clone());
            default(status, "phase", old["status"]["phase"].clone());
            // One address is told in two places; the singular one leads.
            let (single, first) = (status["podIP"].clone(), status["podIPs"][0]["ip"].clone());
            if single.is_string() && single != first {
                status["podIPs"] = json!([{"ip": single}]);
            } else if single.is_null() && first.is_string() {
                status["podIP"] = first;
            }
            prune(status);
        }
        "Service" => {
            if new["spec"]["type"] != "ExternalName" {
                for key in ["clusterIP", "clusterIPs"] {
                    let value = old["spec"][key].clone();
                    default(&mut new["spec"], key, value);
                }
                let ip = new["spec"]["clusterIP"].clone();
                if new["spec"]["clusterIPs"][0] != ip && ip.is_string() {
                    new["spec"]["clusterIPs"] = json!([ip]);
                }
            }
            let status = new["status"].clone();
            service(new);
            new["status"] = status;
            default(&mut new["status"], "loadBalancer", json!({}));
            let balanced = new.pointer_mut("/status/loadBalancer/ingress");
            if let Some(balanced) = balanced.and_then(Value::as_array_mut) {
                for ingress in balanced {
                    if ingress["ip"].is_string() {
                        default(ingress, "ipMode", json!("VIP"));
                    }
                }
            }
        }
        "EndpointSlice" => slice(new),
        _ => {}
    }
}

/// How long an object may go on after it was deleted.
pub(super) fn grace_of(resource: &Resource, object: &Value, asked: Option<u64>) -> u64 {
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let unscheduled = object["spec"]["nodeName"]
        .as_str()
        .unwrap_or_default()
        .is_empty();
    if resource.kind != "Pod" || unscheduled || ["Succeeded", "Failed"].contains(&phase) {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_u64();
    asked.or(own).unwrap_or(30)
}

/// Checks a Service's address against the network, and that nobody has it.
pub(super) fn service_address(service: &Value, taken: bool) -> Result<(), Refusal> {
    let ips = &service["spec"]["clusterIPs"];
    let ip: Option<IpAddr> = ips[0].as_str().and_then(|ip| ip.parse().ok());
    let inside = matches!(ip, Some(IpAddr::V4(ip)) if ip.octets()[..2] == SERVICE_NETWORK);
    let why = if !inside {
        "the provided network does not match the current range"
    } else if taken {
        "provided IP is already allocated"
    } else {
        return Ok(());
    };
    let why = format!(
        "failed to allocate IP {}: {why}",
        ips[0].as_str().unwrap_or_default()
    );
    let causes = [Cause::invalid("spec.clusterIPs", ips, &why)];
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    Err(Refusal::invalid(("Service", ""), name, &causes))
}

/// Checks a complete object; `old` is what it replaces.
pub(super) fn object(
    resource: &Resource,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    metadata(resource, &object["metadata"], &mut causes);
    match resource.kind {
        "Pod" => super::validate_kinds::pod(object, old, &mut causes),
        "Service" => super::validate_kinds::service(object, old, &mut causes),
        "EndpointSlice" => super::validate_kinds::slice(object, &mut causes),
        "Node" => super::validate_kinds::node(object, &mut causes),
        "ReplicaSet" | "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => {
            super::validate_kinds::workload(resource.kind, object, &mut causes);
        }
        _ => {}
    }
    if causes.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Refusal::invalid(
        (resource.kind, resource.group),
        name,
        &causes,
    ))
}

fn metadata(resource: &Resource, metadata: &Value, causes: &mut Vec<Cause>) {
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if resource.kind == "Service" {
        if !is_label(name) || name.starts_with(|first: char| first.is_ascii_digit()) {
            causes.push(Cause::invalid("metadata.name", &json!(name), OLD_LABEL));
        }
    } else if resource.kind == "Namespace" {
        check_label("metadata.name", &metadata["name"], causes);
    } else if !resource.group.starts_with("rbac.") {
        check_subdomain("metadata.name", &metadata["name"], causes);
    }
    for value in metadata["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, value)| value)
    {
        let text = value.as_str().unwrap_or_default();
        let inside = |character: char| {
            character.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&character)
        };
        let ends = |end: Option<char>| end.is_none_or(|end| end.is_ascii_alphanumeric());
        if !text.chars().all(inside)
            || !ends(text.chars().next())
            || !ends(text.chars().next_back())
        {
            causes.push(Cause::invalid("metadata.labels", value, LABEL_VALUE));
        } else if text.len() > 63 {
            let why = "must be no more than 63 bytes";
            causes.push(Cause::invalid("metadata.labels", value, why));
        }
    }
    let owners = metadata["ownerReferences"].as_array();
    for owner in owners.into_iter().flatten() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner[key].as_str().unwrap_or_default().is_empty() {
                let field = format!("metadata.ownerReferences.{key}");
                causes.push(Cause::invalid(&field, &json!(""), "must not be empty"));
            }
        }
    }
}

/// Checks a name of the kind that domains have.
pub(super) fn check_subdomain(field: &str, value: &Value, causes: &mut Vec<Cause>) {
    let name = value.as_str().unwrap_or_default();
    let good = !name.is_empty() && name.len() <= 253 && name.split('.').all(is_label_of_any_length);
    if !good {
        causes.push(Cause::invalid(field, value, SUBDOMAIN));
    }
}

/// Checks a name of the kind that hosts have.
pub(super) fn check_label(field: &str, value: &Value, causes: &mut Vec<Cause>) {
    if !is_label(value.as_str().unwrap_or_default()) {
        causes.push(Cause::invalid(field, value, LABEL));
    }
}

fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_label_of_any_length(name)
}

fn is_label_of_any_length(name: &str) -> bool {
    let good = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    name.bytes().all(|letter| good(letter) || letter == b'-')
        && name.bytes().next().is_some_and(good)
        && name.bytes().next_back().is_some_and(good)
}

/// Sets what is not there.
fn default(object: &mut Value, key: &str, value: Value) {
    if value.is_null() {
        return;
    }
    if object.is_null() {
        *object = json!({});
    }
    if let Some(fields) = object.as_object_mut() {
        let slot = fields.entry(key).or_insert(Value::Null);
        if slot.is_null() {
            *slot = value;
        }
    }
}

/// Takes out what is null: the server leaves it out, and looking at a field here makes it.
fn prune(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

fn pod_spec(spec: &mut Value) {
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
    ] {
        default(spec, key, value);
    }
    for list in ["containers", "initContainers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            for (key, value) in [
                ("resources", json!({})),
                ("terminationMessagePath", json!("/dev/termination-log")),
                ("terminationMessagePolicy", json!("File")),
                ("imagePullPolicy", json!("Always")),
            ] {
                default(container, key, value);
            }
        }
    }
}

fn service(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "type", json!("ClusterIP"));
    default(spec, "sessionAffinity", json!("None"));
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        default(spec, "ipFamilies", json!(["IPv4"]));
        default(spec, "ipFamilyPolicy", json!("SingleStack"));
        default(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    if ["NodePort", "LoadBalancer"].contains(&&*kind) {
        default(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        default(port, "protocol", json!("TCP"));
        let own = port["port"].clone();
        default(port, "targetPort", own);
    }
    prune(spec);
    object["status"] = json!({"loadBalancer": {}});
}

fn slice(object: &mut Value) {
    for key in ["endpoints", "ports"] {
        if object[key].as_array().is_none_or(Vec::is_empty) {
            object[key] = Value::Null;
        }
    }
    for endpoint in object["endpoints"].as_array_mut().into_iter().flatten() {
        default(endpoint, "conditions", json!({}));
    }
    for port in object["ports"].as_array_mut().into_iter().flatten() {
        default(port, "name", json!(""));
        default(port, "protocol", json!("TCP"));
    }
}

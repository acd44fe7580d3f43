//! What the real server demands of each kind of object.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use super::{
    refusal::Cause,
    validate::{check_label, check_subdomain},
};

const NOT_AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// What of a pod may change once it is there.
const POD_UPDATES: &str = "pod updates may not change fields other than \
                           `spec.containers[*].image`,`spec.initContainers[*].image`,\
                           `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                           existing tolerations),`spec.terminationGracePeriodSeconds` (allow it \
                           to be set to 1 if it was previously negative)\n";

pub(super) fn pod(pod: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &pod["spec"];
    pod_spec("spec", spec, causes);
    let node = &spec["nodeName"];
    if node.as_str().is_some_and(|node| !node.is_empty()) {
        check_subdomain("spec.nodeName", node, causes);
    }
    if let Some(old) = old
        && frozen(&old["spec"]) != frozen(spec)
    {
        causes.push(Cause::forbidden("spec", POD_UPDATES));
    }
    let mut families = BTreeSet::new();
    let ips = pod["status"]["podIPs"].as_array();
    for (at, entry) in ips.into_iter().flatten().enumerate() {
        match entry["ip"]
            .as_str()
            .and_then(|ip| ip.parse::<IpAddr>().ok())
        {
            None => {
                let field = format!("status.podIPs[{at}]");
                causes.push(Cause::invalid(&field, &entry["ip"], NOT_AN_ADDRESS));
            }
            Some(ip) if !families.insert(ip.is_ipv4()) => {
                let told: Vec<String> = ips
                    .into_iter()
                    .flatten()
                    .map(|entry| format!("{{\"IP\":{}}}", entry["ip"]))
                    .collect();
                let told: Value =
                    serde_json::from_str(&format!("[{}]", told.join(","))).unwrap_or_default();
                let why = "may specify no more than one IP for each IP family";
                causes.push(Cause::invalid("status.podIPs", &told, why));
            }
            Some(_) => {}
        }
    }
}

/// A pod's spec without what may change.
fn frozen(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations"] {
        spec[key] = Value::Null;
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    spec
}

fn pod_spec(path: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let mut names = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        let containers = spec[list].as_array();
        if list == "containers" && containers.is_none_or(Vec::is_empty) {
            causes.push(Cause::required(&format!("{path}.containers"), ""));
        }
        for (at, container) in containers.into_iter().flatten().enumerate() {
            let field = |key: &str| format!("{path}.{list}[{at}].{key}");
            let name = container["name"].as_str().unwrap_or_default();
            if name.is_empty() {
                causes.push(Cause::required(&field("name"), ""));
            } else {
                check_label(&field("name"), &container["name"], causes);
                if !names.insert(name) {
                    causes.push(Cause::duplicate(&field("name"), &container["name"]));
                }
            }
            let image = container["image"].as_str().unwrap_or_default();
            if image.is_empty() {
                causes.push(Cause::required(&field("image"), ""));
            } else if image.trim() != image {
                let why = "must not have leading or trailing whitespace";
                causes.push(Cause::invalid(&field("image"), &container["image"], why));
            }
        }
    }
}

pub(super) fn service(service: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &service["spec"];
    let external = spec["type"] == "ExternalName";
    let headless = spec["clusterIP"] == "None";
    let ports = spec["ports"].as_array();
    if ports.is_none_or(Vec::is_empty) && !external && !headless {
        causes.push(Cause::required("spec.ports", ""));
    }
    let many = ports.is_some_and(|ports| ports.len() > 1);
    let mut names = BTreeSet::new();
    for (at, port) in ports.into_iter().flatten().enumerate() {
        let field = |key: &str| format!("spec.ports[{at}].{key}");
        let name = port["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            if many {
                causes.push(Cause::required(&field("name"), ""));
            }
        } else {
            check_label(&field("name"), &port["name"], causes);
            if !names.insert(name) {
                causes.push(Cause::duplicate(&field("name"), &port["name"]));
            }
        }
        port_number(&field("port"), &port["port"], causes);
        if port["targetPort"].is_number() {
            port_number(&field("targetPort"), &port["targetPort"], causes);
        }
        protocol(&field("protocol"), &port["protocol"], causes);
    }
    if external {
        let name = spec["externalName"].as_str().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            causes.push(Cause::required("spec.externalName", ""));
        } else {
            check_subdomain("spec.externalName", &json!(name), causes);
        }
    }
    for (at, ip) in spec["externalIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        routable(&format!("spec.externalIPs[{at}]"), ip, causes);
    }
    if let Some(old) = old
        && !external
        && old["spec"]["type"] != "ExternalName"
        && old["spec"]["clusterIPs"][0] != spec["clusterIPs"][0]
    {
        let why = "may not change once set";
        causes.push(Cause::invalid(
            "spec.clusterIPs[0]",
            &spec["clusterIPs"],
            why,
        ));
    }
    let balanced = service["status"]["loadBalancer"]["ingress"].as_array();
    for (at, ingress) in balanced.into_iter().flatten().enumerate() {
        let field = |key: &str| format!("status.loadBalancer.ingress[{at}].{key}");
        if let Some(ip) = ingress["ip"].as_str()
            && ip.parse::<IpAddr>().is_err()
        {
            causes.push(Cause::invalid(&field("ip"), &ingress["ip"], NOT_AN_ADDRESS));
        }
        if ingress["hostname"].is_string() {
            check_subdomain(&field("hostname"), &ingress["hostname"], causes);
        }
    }
}

pub(super) fn slice(slice: &Value, causes: &mut Vec<Cause>) {
    let family = slice["addressType"].as_str().unwrap_or_default();
    if family.is_empty() {
        causes.push(Cause::required("addressType", ""));
    } else if !["IPv4", "IPv6", "FQDN"].contains(&family) {
        let known = ["FQDN", "IPv4", "IPv6"];
        causes.push(Cause::unsupported(
            "addressType",
            &slice["addressType"],
            &known,
        ));
    }
    for (at, endpoint) in slice["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let list = format!("endpoints[{at}].addresses");
        let addresses = endpoint["addresses"].as_array();
        if addresses.is_none_or(Vec::is_empty) {
            causes.push(Cause::required(&list, "must contain at least 1 address"));
        }
        for (number, address) in addresses.into_iter().flatten().enumerate() {
            let ip: Option<IpAddr> = address.as_str().and_then(|text| text.parse().ok());
            match (family, ip) {
                ("IPv4", Some(IpAddr::V4(_))) | ("IPv6", Some(IpAddr::V6(_))) => {
                    routable(&format!("{list}[{number}]"), address, causes);
                }
                ("IPv4", _) => {
                    causes.push(Cause::invalid(&list, address, "must be an IPv4 address"));
                }
                ("IPv6", _) => {
                    causes.push(Cause::invalid(&list, address, "must be an IPv6 address"));
                }
                ("FQDN", _) => check_subdomain(&list, address, causes),
                _ => {}
            }
        }
    }
    let mut names = BTreeSet::new();
    for (at, port) in slice["ports"].as_array().into_iter().flatten().enumerate() {
        let field = |key: &str| format!("ports[{at}].{key}");
        let name = port["name"].as_str().unwrap_or_default();
        if !name.is_empty() {
            check_label(&field("name"), &port["name"], causes);
        }
        if !names.insert(name) {
            causes.push(Cause::duplicate(&field("name"), &json!(name)));
        }
        protocol(&field("protocol"), &port["protocol"], causes);
    }
}

pub(super) fn node(node: &Value, causes: &mut Vec<Cause>) {
    let mut families = BTreeSet::new();
    let networks = &node["spec"]["podCIDRs"];
    for (at, network) in networks.as_array().into_iter().flatten().enumerate() {
        let text = network.as_str().unwrap_or_default();
        let Some((ip, Ok(_))) = text
            .split_once('/')
            .map(|(ip, length)| (ip.parse::<IpAddr>(), length.parse::<u8>()))
        else {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            causes.push(Cause::invalid(
                &format!("spec.podCIDRs[{at}]"),
                network,
                why,
            ));
            continue;
        };
        if let Ok(ip) = ip
            && !families.insert(ip.is_ipv4())
        {
            let why = "may specify no more than one CIDR for each IP family";
            causes.push(Cause::invalid("spec.podCIDRs", networks, why));
        }
    }
    let mut addresses = BTreeSet::new();
    for (at, entry) in node["status"]["addresses"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        if !addresses.insert((entry["type"].as_str(), entry["address"].as_str())) {
            let told = json!({"Type": entry["type"], "Address": entry["address"]});
            causes.push(Cause::duplicate(&format!("status.addresses[{at}]"), &told));
        }
    }
}

pub(super) fn workload(kind: &str, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let template = &spec["template"];
    if kind == "Job" {
        if !["OnFailure", "Never"]
            .iter()
            .any(|good| template["spec"]["restartPolicy"] == *good)
        {
            causes.push(Cause::required(
                "spec.template.spec.restartPolicy",
                "valid values: \"OnFailure\", \"Never\"",
            ));
        }
    } else {
        let wanted = spec["selector"]["matchLabels"].as_object();
        let labels = &template["metadata"]["labels"];
        if spec["selector"].is_null() {
            causes.push(Cause::required("spec.selector", ""));
        }
        let fits = wanted.is_some_and(|wanted| {
            wanted
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        });
        if !fits {
            let why = "`selector` does not match template `labels`";
            causes.push(Cause::invalid("spec.template.metadata.labels", labels, why));
        }
    }
    pod_spec("spec.template.spec", &template["spec"], causes);
}

/// Refuses addresses that mean something else on every machine.
fn routable(field: &str, value: &Value, causes: &mut Vec<Cause>) {
    let Some(ip) = value.as_str().and_then(|text| text.parse::<IpAddr>().ok()) else {
        causes.push(Cause::invalid(field, value, NOT_AN_ADDRESS));
        return;
    };
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (
            ip.is_unicast_link_local(),
            ip.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    let why = if ip.is_unspecified() {
        format!("may not be unspecified ({ip})")
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if link_local_multicast {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return;
    };
    causes.push(Cause::invalid(field, value, &why));
}

fn protocol(field: &str, value: &Value, causes: &mut Vec<Cause>) {
    let known = ["SCTP", "TCP", "UDP"];
    if !value.is_null() && !known.iter().any(|known| value == known) {
        causes.push(Cause::unsupported(field, value, &known));
    }
}

fn port_number(field: &str, value: &Value, causes: &mut Vec<Cause>) {
    if !value
        .as_u64()
        .is_some_and(|port| (1..=65_535).contains(&port))
    {
        let why = "must be between 1 and 65535, inclusive";
        causes.push(Cause::invalid(field, value, why));
    }
}

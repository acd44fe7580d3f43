//! What is around pods: nodes, Services, EndpointSlices, controllers, and whole clusters of them.

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use super::{BEGUN, Pod, owner};
use crate::apiserver::{mint::timestamp, resource::Resource};

/// A cluster to be; see [`cluster_of`].
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Nodes.
    pub nodes: Vec<Value>,
    /// Deployments and their ReplicaSets.
    pub workloads: Vec<Value>,
    /// Pods.
    pub pods: Vec<Value>,
    /// Services.
    pub services: Vec<Value>,
    /// EndpointSlices.
    pub slices: Vec<Value>,
}

/// Most endpoints that the controller puts into one slice.
const SLICE: usize = 100;

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// What defines a kind of objects that may say anything.
pub fn definition(resource: &Resource) -> Value {
    let Resource {
        group,
        version,
        plural,
        kind,
        ..
    } = resource;
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": resource.qualified(),
            // The groups of Kubernetes itself are for what has been reviewed.
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test's"},
        },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {
                "plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List"),
            },
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }},
            }],
        },
    })
}

/// A node with an internal address, networks of pods, and where it is.
pub fn node(name: &str, address: &str, networks: &[&str], zone: &str) -> Value {
    let region = zone.trim_end_matches(|last: char| last.is_ascii_lowercase());
    let mut object = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64", "node.kubernetes.io/instance-type": "m1",
        }},
        "spec": {"providerID": format!("test:///{name}")},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name},
            ],
            "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"},
            "allocatable": {"cpu": "7900m", "memory": "30Gi", "pods": "110"},
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady",
                "lastHeartbeatTime": timestamp(BEGUN), "lastTransitionTime": timestamp(BEGUN),
                "message": "kubelet is posting ready status",
            }],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "machineID": name, "systemUUID": name, "bootID": name,
                "kernelVersion": "6.12.0", "osImage": "Debian GNU/Linux 13 (trixie)",
                "containerRuntimeVersion": "containerd://2.1.4", "kubeletVersion": "v1.35.4",
                "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
            },
        },
    });
    if let Some(first) = networks.first() {
        object["spec"]["podCIDR"] = json!(first);
        object["spec"]["podCIDRs"] = json!(networks);
    }
    if !zone.is_empty() {
        let labels = &mut object["metadata"]["labels"];
        labels["topology.kubernetes.io/zone"] = json!(zone);
        labels["topology.kubernetes.io/region"] = json!(region);
    }
    object
}

/// A Service with an address of its own, for pods with the label `app` of the same value.
pub fn service(name: &str, ports: &[u16]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| json!({"name": format!("p{port}"), "port": port, "targetPort": 8080}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "labels": {"app": name}},
        "spec": {"type": "ClusterIP", "selector": {"app": name}, "ports": ports},
    })
}

/// A Service without an address.
pub fn headless(name: &str, ports: &[u16]) -> Value {
    let mut object = service(name, ports);
    object["spec"]["clusterIP"] = json!("None");
    object
}

/// A Service with ports on all nodes too.
pub fn node_port(name: &str, ports: &[u16]) -> Value {
    let mut object = service(name, ports);
    object["spec"]["type"] = json!("NodePort");
    object
}

/// A Service that a load balancer outside has taken up, at this address or under this name.
pub fn load_balancer(name: &str, ports: &[u16], outside: &str) -> Value {
    let mut object = service(name, ports);
    object["spec"]["type"] = json!("LoadBalancer");
    let key = if outside.parse::<std::net::IpAddr>().is_ok() {
        "ip"
    } else {
        "hostname"
    };
    let mut ingress = Map::from_iter([(key.to_owned(), json!(outside))]);
    if key == "ip" {
        ingress.insert("ipMode".to_owned(), json!("VIP"));
    }
    object["status"] = json!({"loadBalancer": {"ingress": [ingress]}});
    object
}

/// A Service that stands for a name outside.
pub fn named_outside(name: &str, outside: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"type": "ExternalName", "externalName": outside},
    })
}

/// An EndpointSlice of a Service: its number, and addresses with the pod that has each, if any.
pub fn slice(service: &str, number: usize, endpoints: &[(&str, Option<&Value>)]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, pod)| {
            let mut endpoint = json!({
                "addresses": [address],
                "conditions": {"ready": true, "serving": true, "terminating": false},
            });
            if let Some(pod) = pod {
                if pod["spec"]["nodeName"].is_string() {
                    endpoint["nodeName"] = pod["spec"]["nodeName"].clone();
                }
                endpoint["targetRef"] = json!({
                    "kind": "Pod", "namespace": pod["metadata"]["namespace"],
                    "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"],
                });
            }
            endpoint
        })
        .collect();
    let family = endpoints
        .first()
        .and_then(|endpoint| endpoint["addresses"][0].as_str());
    let family = if family.is_some_and(|address| address.contains(':')) {
        "IPv6"
    } else {
        "IPv4"
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {
            "namespace": "default", "name": format!("{service}-{number:05}"),
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [owner("v1", "Service", service)],
        },
        "endpoints": endpoints, "ports": [{"name": "p80", "port": 8080, "protocol": "TCP"}],
    })
}

/// An EndpointSlice of pods that the server has told, with all their first addresses.
pub fn slice_of(service: &str, number: usize, pods: &[&Value]) -> Value {
    let endpoints: Vec<_> = pods
        .iter()
        .map(|pod| {
            (
                pod["status"]["podIP"].as_str().unwrap_or_default(),
                Some(*pod),
            )
        })
        .collect();
    slice(service, number, &endpoints)
}

/// A Deployment of pods with the label `app` of the same value.
pub fn deployment(name: &str, replicas: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "default", "name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": template(name),
        },
    })
}

/// A ReplicaSet, controlled by what `owner` says: `("apps/v1", "Deployment", "shop")`, or
/// `("argoproj.io/v1alpha1", "Rollout", "shop")`.
pub fn replica_set(name: &str, owner: Option<(&str, &str, &str)>) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"namespace": "default", "name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": template(name),
        },
    });
    if let Some((version, kind, name)) = owner {
        object["metadata"]["ownerReferences"] = json!([super::owner(version, kind, name)]);
    }
    object
}

/// A Job, controlled by the CronJob of this name if there is one.
pub fn job(name: &str, cron_job: Option<&str>) -> Value {
    let mut spec = template(name);
    spec["spec"]["restartPolicy"] = json!("Never");
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"template": spec},
    });
    if let Some(cron_job) = cron_job {
        object["metadata"]["ownerReferences"] = json!([owner("batch/v1", "CronJob", cron_job)]);
    }
    object
}

fn template(name: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "registry.test/shop/main:1.2.3"}]},
    })
}

/// A cluster of pods, spread evenly over nodes and Services: each Service has a Deployment, a
/// ReplicaSet, its pods, and slices with their addresses. At most 250 pods a node have addresses of
/// their node's network.
pub fn cluster_of(pods: usize, nodes: usize, services: usize) -> Objects {
    let (nodes, services) = (nodes.max(1), services.max(1));
    let mut objects = Objects::default();
    for number in 0..nodes {
        let (high, low) = (number / 256, number % 256);
        objects.nodes.push(node(
            &format!("node-{number}"),
            &format!("10.250.{high}.{low}"),
            &[&format!("10.{}.{low}.0/24", 128 + high)],
            ["eu-1a", "eu-1b", "eu-1c"][number % 3],
        ));
    }
    let mut endpoints: Vec<Vec<String>> = vec![Vec::new(); services];
    for number in 0..services {
        let name = format!("service-{number}");
        let set = format!("{name}-6d4cf56db6");
        objects.workloads.push(deployment(&name, pods / services));
        let owner = Some(("apps/v1", "Deployment", &*name));
        objects.workloads.push(replica_set(&set, owner));
        objects.services.push(service(&name, &[80]));
    }
    for number in 0..pods {
        let (service, on) = (number % services, number % nodes);
        let address = Ipv4Addr::new(
            10,
            128 + u8::try_from(on / 256).unwrap_or_default(),
            u8::try_from(on % 256).unwrap_or_default(),
            u8::try_from(number / nodes % 250 + 2).unwrap_or_default(),
        )
        .to_string();
        let name = format!("service-{service}-6d4cf56db6-{number:05}");
        let pod = Pod::new(&name)
            .running(&format!("node-{on}"), &[&address])
            .label("app", &format!("service-{service}"))
            .label("pod-template-hash", "6d4cf56db6")
            .owned_by(
                "apps/v1",
                "ReplicaSet",
                &format!("service-{service}-6d4cf56db6"),
            );
        objects.pods.push(pod.build());
        endpoints[service].push(address);
    }
    for (number, addresses) in endpoints.iter().enumerate() {
        for (part, addresses) in addresses.chunks(SLICE).enumerate() {
            let endpoints: Vec<_> = addresses.iter().map(|address| (&**address, None)).collect();
            objects
                .slices
                .push(slice(&format!("service-{number}"), part, &endpoints));
        }
    }
    objects
}

// === impl Objects ===

impl Objects {
    /// All of them, in an order in which they can be created.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        let Self {
            nodes,
            workloads,
            pods,
            services,
            slices,
        } = self;
        nodes
            .iter()
            .chain(workloads)
            .chain(services)
            .chain(pods)
            .chain(slices)
    }
}

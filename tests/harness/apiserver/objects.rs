//! Objects as a cluster has them: of the size and shape that kubelets and controllers leave.

mod cluster;

use std::net::IpAddr;

use serde_json::{Value, json};

use super::mint::timestamp;

pub use self::cluster::{
    Objects, cluster_of, definition, deployment, headless, job, load_balancer, named_outside,
    namespace, node, node_port, replica_set, service, slice, slice_of,
};

/// A pod to be, with what tests say of it and the rest as a kubelet leaves it.
#[derive(Clone, Debug)]
pub struct Pod {
    namespace: String,
    name: String,
    node: String,
    addresses: Vec<IpAddr>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    owner: Option<Value>,
    containers: Vec<String>,
    environment: Vec<(String, String)>,
    image: String,
    host_network: bool,
    phase: &'static str,
    lean: bool,
}

/// When everything that is built here has begun, seconds since the Unix epoch.
pub const BEGUN: u64 = 1_790_000_000;

// === impl Pod ===

impl Pod {
    /// A pod of the default namespace that is not scheduled yet.
    pub fn new(name: &str) -> Self {
        Self {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            node: String::new(),
            addresses: Vec::new(),
            labels: vec![("app".to_owned(), name.to_owned())],
            annotations: Vec::new(),
            owner: None,
            containers: vec!["main".to_owned()],
            environment: Vec::new(),
            image: "registry.test/shop/main:1.2.3".to_owned(),
            host_network: false,
            phase: "Pending",
            lean: false,
        }
    }

    /// In another namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// It runs on a node, with these addresses.
    #[must_use]
    pub fn running(mut self, node: &str, addresses: &[&str]) -> Self {
        node.clone_into(&mut self.node);
        self.addresses = addresses.iter().filter_map(|ip| ip.parse().ok()).collect();
        self.phase = "Running";
        self
    }

    /// Its phase, whatever the rest of it says.
    #[must_use]
    pub fn phase(mut self, phase: &'static str) -> Self {
        self.phase = phase;
        self
    }

    /// With another label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.retain(|(other, _)| other != key);
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With another annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Controlled by another object: its `apiVersion`, kind and name.
    #[must_use]
    pub fn owned_by(mut self, version: &str, kind: &str, name: &str) -> Self {
        self.owner = Some(owner(version, kind, name));
        self
    }

    /// With these containers instead of `main`.
    #[must_use]
    pub fn containers(mut self, names: &[&str]) -> Self {
        self.containers = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// With another variable in the environment of all its containers.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// From another image.
    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.image);
        self
    }

    /// On the network of its node.
    #[must_use]
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// Without what takes most of its bytes: managed fields, volumes, probes.
    #[must_use]
    pub fn lean(mut self) -> Self {
        self.lean = true;
        self
    }

    /// The id of one of its containers, 64 hexadecimal digits, as its status tells it.
    pub fn container_id(&self, container: &str) -> String {
        let text = format!("{}/{}/{container}", self.namespace, self.name);
        // FNV-1a, four times with another start: any id will do that is its own.
        (0..4_u64)
            .map(|round| {
                let start = 0xcbf2_9ce4_8422_2325 ^ round;
                let hash = text.bytes().fold(start, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
                format!("{hash:016x}")
            })
            .collect()
    }

    /// The object.
    pub fn build(&self) -> Value {
        let pairs = |list: &[(String, String)]| -> Value {
            list.iter()
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect()
        };
        let mut metadata = json!({
            "namespace": self.namespace, "name": self.name, "labels": pairs(&self.labels),
        });
        if !self.annotations.is_empty() {
            metadata["annotations"] = pairs(&self.annotations);
        }
        if let Some(owner) = &self.owner {
            metadata["ownerReferences"] = json!([owner]);
        }
        let containers: Vec<Value> = self
            .containers
            .iter()
            .map(|one| self.container(one))
            .collect();
        let mut spec = json!({
            "containers": containers,
            "serviceAccountName": "default",
            "enableServiceLinks": true,
            "tolerations": [
                {
                    "key": "node.kubernetes.io/not-ready", "operator": "Exists",
                    "effect": "NoExecute", "tolerationSeconds": 300,
                },
                {
                    "key": "node.kubernetes.io/unreachable", "operator": "Exists",
                    "effect": "NoExecute", "tolerationSeconds": 300,
                },
            ],
        });
        if !self.node.is_empty() {
            spec["nodeName"] = json!(self.node);
        }
        if self.host_network {
            spec["hostNetwork"] = json!(true);
        }
        if !self.lean {
            metadata["managedFields"] = self.managed_fields();
            spec["volumes"] = json!([
                {"name": "configuration", "configMap": {"name": "main", "defaultMode": 420}},
                {"name": "cache", "emptyDir": {"sizeLimit": "64Mi"}},
                {"name": "token", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [
                        {"key": "ca.crt", "path": "ca.crt"},
                    ]}},
                ]}},
            ]);
        }
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec,
            "status": self.status(),
        })
    }

    fn container(&self, name: &str) -> Value {
        let mut variables: Vec<Value> = self
            .environment
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        if self.lean {
            return json!({"name": name, "image": self.image, "env": variables});
        }
        variables.push(json!({"name": "DATABASE_PASSWORD", "valueFrom": {
            "secretKeyRef": {"name": "database", "key": "password"},
        }}));
        variables.push(json!({"name": "POD_IP", "valueFrom": {
            "fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"},
        }}));
        let probe = |path: &str| {
            json!({
                "httpGet": {"path": path, "port": 8080, "scheme": "HTTP"},
                "initialDelaySeconds": 3, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3,
            })
        };
        json!({
            "name": name, "image": self.image, "env": variables,
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "resources": {
                "limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"},
            },
            "volumeMounts": [
                {"name": "configuration", "mountPath": "/etc/main", "readOnly": true},
                {"name": "cache", "mountPath": "/var/cache/main"},
                {
                    "name": "token", "readOnly": true,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                },
            ],
            "livenessProbe": probe("/live"), "readinessProbe": probe("/ready"),
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
        })
    }

    /// What a kubelet reports.
    fn status(&self) -> Value {
        if self.phase == "Pending" {
            return Value::Null;
        }
        let begun = timestamp(BEGUN);
        let over = ["Succeeded", "Failed"].contains(&self.phase);
        let conditions: Vec<Value> = [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ]
        .into_iter()
        .map(|kind| {
            json!({
                "type": kind, "status": "True", "lastProbeTime": null,
                "lastTransitionTime": begun,
            })
        })
        .collect();
        let containers: Vec<Value> = self
            .containers
            .iter()
            .map(|name| {
                let id = format!("containerd://{}", self.container_id(name));
                let state = if over {
                    json!({"terminated": {
                        "exitCode": 0, "reason": "Completed", "startedAt": begun,
                        "finishedAt": timestamp(BEGUN + 60), "containerID": id,
                    }})
                } else {
                    json!({"running": {"startedAt": begun}})
                };
                json!({
                    "name": name, "image": self.image, "containerID": id, "ready": !over,
                    "imageID": format!("registry.test/shop/main@sha256:{}",
                        self.container_id("image")),
                    "started": !over, "restartCount": 0, "state": state, "lastState": {},
                })
            })
            .collect();
        let mut status = json!({
            "phase": self.phase, "conditions": conditions, "containerStatuses": containers,
            "qosClass": if self.lean { "BestEffort" } else { "Burstable" }, "startTime": begun,
        });
        let ips: Vec<Value> = self.addresses.iter().map(|ip| json!({"ip": ip})).collect();
        if let Some(first) = self.addresses.first() {
            status["podIP"] = json!(first);
            status["podIPs"] = json!(ips);
        }
        status
    }

    /// What the server notes of who wrote which field.
    fn managed_fields(&self) -> Value {
        let mut of_containers = json!({});
        for name in &self.containers {
            of_containers[format!("k:{{\"name\":\"{name}\"}}")] = json!({
                ".": {}, "f:env": {
                    ".": {}, "k:{\"name\":\"DATABASE_PASSWORD\"}": {
                        ".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:secretKeyRef": {}},
                    },
                    "k:{\"name\":\"POD_IP\"}": {
                        ".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:fieldRef": {}},
                    },
                },
                "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:ports": {
                    ".": {}, "k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {
                        ".": {}, "f:containerPort": {}, "f:protocol": {},
                    },
                },
                "f:livenessProbe": {
                    ".": {}, "f:failureThreshold": {}, "f:httpGet": {
                        ".": {}, "f:path": {}, "f:port": {}, "f:scheme": {},
                    },
                    "f:initialDelaySeconds": {}, "f:periodSeconds": {}, "f:successThreshold": {},
                    "f:timeoutSeconds": {},
                },
                "f:resources": {
                    ".": {}, "f:limits": {".": {}, "f:memory": {}},
                    "f:requests": {".": {}, "f:cpu": {}, "f:memory": {}},
                },
                "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
                "f:volumeMounts": {".": {}, "k:{\"mountPath\":\"/etc/main\"}": {
                    ".": {}, "f:mountPath": {}, "f:name": {}, "f:readOnly": {},
                }},
            });
        }
        let condition = |kind: &str| {
            let fields = json!({
                ".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:status": {},
                "f:type": {},
            });
            (format!("k:{{\"type\":\"{kind}\"}}"), fields)
        };
        let conditions: Value = ["ContainersReady", "Initialized", "Ready"]
            .map(condition)
            .into_iter()
            .collect();
        json!([
            {
                "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": timestamp(BEGUN), "fieldsType": "FieldsV1", "fieldsV1": {
                    "f:metadata": {
                        "f:generateName": {}, "f:labels": {".": {}, "f:app": {}},
                        "f:ownerReferences": {".": {}},
                    },
                    "f:spec": {
                        "f:containers": of_containers, "f:dnsPolicy": {},
                        "f:enableServiceLinks": {}, "f:restartPolicy": {},
                        "f:schedulerName": {}, "f:securityContext": {},
                        "f:terminationGracePeriodSeconds": {}, "f:volumes": {
                            ".": {}, "k:{\"name\":\"configuration\"}": {
                                ".": {}, "f:configMap": {
                                    ".": {}, "f:defaultMode": {}, "f:name": {},
                                }, "f:name": {},
                            },
                        },
                    },
                },
            },
            {
                "manager": "kubelet", "operation": "Update", "apiVersion": "v1",
                "time": timestamp(BEGUN + 2), "fieldsType": "FieldsV1", "subresource": "status",
                "fieldsV1": {"f:status": {
                    "f:conditions": conditions, "f:containerStatuses": {}, "f:hostIP": {},
                    "f:phase": {}, "f:podIP": {}, "f:startTime": {},
                    "f:podIPs": {".": {}, "k:{\"ip\":\"10.1.0.4\"}": {".": {}, "f:ip": {}}},
                }},
            },
        ])
    }
}

/// A reference to a controller.
pub fn owner(version: &str, kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": version, "kind": kind, "name": name, "controller": true,
        "blockOwnerDeletion": true, "uid": format!("{}-{name}", kind.to_lowercase()),
    })
}

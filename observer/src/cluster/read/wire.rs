//! The fields of the API's objects that are looked at; everything else is passed over unread.

use serde::Deserialize;

use super::json::{Flag, Many, Number, Pairs, Part, Raw, Target, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) uid: Text<'a>,
    #[serde(borrow)]
    pub(super) namespace: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) resource_version: Text<'a>,
    #[serde(borrow)]
    pub(super) creation_timestamp: Text<'a>,
    #[serde(borrow)]
    pub(super) deletion_timestamp: Text<'a>,
    #[serde(borrow)]
    pub(super) labels: Pairs<'a>,
    #[serde(borrow)]
    pub(super) annotations: Pairs<'a>,
    #[serde(borrow)]
    pub(super) owner_references: Many<Part<OwnerReference<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct OwnerReference<'a> {
    #[serde(borrow)]
    pub(super) api_version: Text<'a>,
    #[serde(borrow)]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) uid: Text<'a>,
    pub(super) controller: Flag,
}

/// Any object that says what a mesh is to do. What it says is not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Declared<'a> {
    #[serde(borrow)]
    pub(super) metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    pub(super) spec: Raw<'a>,
    #[serde(borrow)]
    pub(super) status: Part<DeclaredStatus<'a>>,
    #[serde(borrow)]
    pub(super) data: Part<MeshData<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DeclaredStatus<'a> {
    #[serde(borrow)]
    pub(super) parents: Raw<'a>,
    #[serde(borrow)]
    pub(super) conditions: Raw<'a>,
}

/// Of a ConfigMap what configures a mesh, and nothing else.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MeshData<'a> {
    #[serde(borrow)]
    pub(super) mesh: Text<'a>,
}

/// Any object, by its metadata alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Bare<'a> {
    #[serde(borrow)]
    pub(super) metadata: Part<Metadata<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod<'a> {
    #[serde(borrow)]
    pub(super) metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    pub(super) spec: Part<PodSpec<'a>>,
    #[serde(borrow)]
    pub(super) status: Part<PodStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodSpec<'a> {
    #[serde(borrow)]
    pub(super) node_name: Text<'a>,
    pub(super) host_network: Flag,
    #[serde(borrow)]
    pub(super) service_account_name: Text<'a>,
    #[serde(borrow)]
    pub(super) containers: Many<Part<Container<'a>>>,
    #[serde(borrow)]
    pub(super) init_containers: Many<Part<Container<'a>>>,
    #[serde(borrow)]
    pub(super) ephemeral_containers: Many<Part<Container<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) image: Text<'a>,
    #[serde(borrow)]
    pub(super) env: Many<Part<Variable<'a>>>,
    #[serde(borrow)]
    pub(super) ports: Many<Part<ContainerPort<'a>>>,
    #[serde(borrow)]
    pub(super) restart_policy: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerPort<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    pub(super) container_port: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Variable<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) value: Text<'a>,
    #[serde(borrow)]
    pub(super) value_from: Option<Part<ValueSource<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ValueSource<'a> {
    #[serde(borrow)]
    pub(super) field_ref: Part<FieldReference<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct FieldReference<'a> {
    #[serde(borrow)]
    pub(super) field_path: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodStatus<'a> {
    #[serde(borrow)]
    pub(super) phase: Text<'a>,
    #[serde(borrow, rename = "podIP")]
    pub(super) pod_ip: Text<'a>,
    #[serde(borrow, rename = "podIPs")]
    pub(super) pod_ips: Many<Part<PodIp<'a>>>,
    #[serde(borrow)]
    pub(super) start_time: Text<'a>,
    #[serde(borrow)]
    pub(super) container_statuses: Many<Part<ContainerStatus<'a>>>,
    #[serde(borrow)]
    pub(super) init_container_statuses: Many<Part<ContainerStatus<'a>>>,
    #[serde(borrow)]
    pub(super) ephemeral_container_statuses: Many<Part<ContainerStatus<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodIp<'a> {
    #[serde(borrow)]
    pub(super) ip: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerStatus<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow, rename = "containerID")]
    pub(super) container_id: Text<'a>,
    #[serde(borrow)]
    pub(super) state: Part<ContainerState<'a>>,
    #[serde(borrow)]
    pub(super) last_state: Part<ContainerState<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerState<'a> {
    #[serde(borrow)]
    pub(super) terminated: Option<Part<Terminated<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Terminated<'a> {
    #[serde(borrow, rename = "containerID")]
    pub(super) container_id: Text<'a>,
    #[serde(borrow)]
    pub(super) finished_at: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service<'a> {
    #[serde(borrow)]
    pub(super) metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    pub(super) spec: Part<ServiceSpec<'a>>,
    #[serde(borrow)]
    pub(super) status: Part<ServiceStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceSpec<'a> {
    #[serde(borrow, rename = "clusterIP")]
    pub(super) cluster_ip: Text<'a>,
    #[serde(borrow, rename = "clusterIPs")]
    pub(super) cluster_ips: Many<Text<'a>>,
    #[serde(borrow, rename = "externalIPs")]
    pub(super) external_ips: Many<Text<'a>>,
    #[serde(borrow)]
    pub(super) external_name: Text<'a>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) ports: Many<Part<Port<'a>>>,
    #[serde(borrow)]
    pub(super) selector: Pairs<'a>,
}

/// A port of a Service or an EndpointSlice.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Port<'a> {
    #[serde(borrow)]
    pub(super) protocol: Text<'a>,
    pub(super) port: Number,
    pub(super) node_port: Number,
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) app_protocol: Text<'a>,
    #[serde(borrow)]
    pub(super) target_port: Target<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceStatus<'a> {
    #[serde(borrow)]
    pub(super) load_balancer: Part<LoadBalancer<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoadBalancer<'a> {
    #[serde(borrow)]
    pub(super) ingress: Many<Part<Ingress<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ingress<'a> {
    #[serde(borrow)]
    pub(super) ip: Text<'a>,
    #[serde(borrow)]
    pub(super) hostname: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EndpointSlice<'a> {
    #[serde(borrow)]
    pub(super) metadata: Part<Metadata<'a>>,
    #[serde(borrow, rename = "addressType")]
    pub(super) address_type: Text<'a>,
    #[serde(borrow)]
    pub(super) ports: Many<Part<Port<'a>>>,
    #[serde(borrow)]
    pub(super) endpoints: Many<Part<Endpoint<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Endpoint<'a> {
    #[serde(borrow)]
    pub(super) addresses: Many<Text<'a>>,
    #[serde(borrow)]
    pub(super) target_ref: Part<Reference<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reference<'a> {
    #[serde(borrow)]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) uid: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node<'a> {
    #[serde(borrow)]
    pub(super) metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    pub(super) spec: Part<NodeSpec<'a>>,
    #[serde(borrow)]
    pub(super) status: Part<NodeStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec<'a> {
    #[serde(borrow, rename = "podCIDR")]
    pub(super) pod_cidr: Text<'a>,
    #[serde(borrow, rename = "podCIDRs")]
    pub(super) pod_cidrs: Many<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus<'a> {
    #[serde(borrow)]
    pub(super) addresses: Many<Part<NodeAddress<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeAddress<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) address: Text<'a>,
}

/// `Status`, as errors come.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Failure<'a> {
    pub(super) code: Number,
    #[serde(borrow)]
    pub(super) reason: Text<'a>,
    #[serde(borrow)]
    pub(super) message: Text<'a>,
}

/// A list without its items.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    pub(super) metadata: Part<ListMetadata<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ListMetadata<'a> {
    #[serde(borrow)]
    pub(super) resource_version: Text<'a>,
    #[serde(borrow, rename = "continue")]
    pub(super) next: Text<'a>,
}

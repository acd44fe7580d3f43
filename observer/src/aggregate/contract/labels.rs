//! Labels that the series of families can have.

/// Labels that tell whose sockets they are, then those given.
macro_rules! of_service {
    ($($label:expr),* $(,)?) => {
        &[
            "service_name",
            "service_namespace",
            "k8s_cluster_name",
            "k8s_namespace_name",
            "k8s_workload_kind",
            "k8s_workload_name",
            "k8s_container_name",
            "k8s_pod_name",
            $($label,)*
            OVERFLOW,
        ]
    };
}

/// Labels that tell who with whom, then those given.
macro_rules! of_link {
    ($($label:expr),* $(,)?) => {
        of_service![
            "service_peer_name",
            "service_peer_namespace",
            "k8s_service_name",
            "k8s_service_namespace",
            "server_address",
            "server_port",
            $($label,)*
        ]
    };
}

/// Labels of an edge of the graph, then those given.
macro_rules! of_edge {
    ($($label:expr),* $(,)?) => {
        &[
            "k8s_cluster_name",
            "source_kind",
            "source_namespace",
            "source_workload_kind",
            "source_name",
            "source_zone",
            "destination_kind",
            "destination_namespace",
            "destination_workload_kind",
            "destination_name",
            "destination_zone",
            "k8s_service_name",
            "k8s_service_namespace",
            "protocol",
            "security",
            "reporter",
            "same_host",
            $($label,)*
            OVERFLOW,
        ]
    };
}

pub(super) const CALL: &[&str] = of_link![
    "http_request_method",
    "http_route",
    "http_response_status_code",
    "network_protocol_version",
    "url_scheme",
    "error_type",
    "security",
    "rpc_system_name"
];

pub(super) const RPC: &[&str] = of_link![
    "rpc_system_name",
    "rpc_method",
    "rpc_response_status_code",
    "error_type",
    "security"
];

pub(super) const RPC_MESSAGES_LABELS: &[&str] = of_link![
    "rpc_system_name",
    "rpc_method",
    "rpc_response_status_code",
    "error_type",
    "security",
    "role",
    "direction"
];

pub(super) const ACTIVE: &[&str] = of_link!["http_request_method", "url_scheme"];

pub(super) const OLDEST: &[&str] = of_link!["http_request_method", "url_scheme", "role"];

pub(super) const TCP: &[&str] = of_link!["role"];

pub(super) const TCP_SECURED: &[&str] = of_link!["role", "security"];

pub(super) const TCP_FAILED: &[&str] = of_link!["role", "reason"];

pub(super) const TCP_CLOSED: &[&str] = of_link!["role", "closed_by", "reset", "security"];

pub(super) const SERVICE: &[&str] = of_service!["role"];

pub(super) const SECURITY: &[&str] = of_service!["role", "security"];

pub(super) const OUTCOME: &[&str] = of_service!["role", "outcome"];

pub(super) const LOOKUP: &[&str] = of_service![
    "service_peer_name",
    "service_peer_namespace",
    "server_address",
    "server_port",
    "network_transport",
    "dns_question_type",
    "dns_response_code",
    "outcome",
    "error_type"
];

pub(super) const LOOKUPS: &[&str] = of_service![
    "service_peer_name",
    "service_peer_namespace",
    "server_address",
    "server_port",
    "network_transport",
    "dns_question_type",
    "dns_response_code",
    "outcome",
    "error_type",
    "role"
];

pub(super) const UDP: &[&str] = of_service![
    "service_peer_name",
    "service_peer_namespace",
    "network_peer_address",
    "network_peer_port",
    "network_protocol_name"
];

pub(super) const EDGE: &[&str] = of_edge![];

pub(super) const EDGE_FAILED: &[&str] = of_edge!["reason"];

pub(super) const MESH_FINDING_LABELS: &[&str] = &[
    "k8s_cluster_name",
    "id",
    "severity",
    "namespace",
    "workload",
    "peer",
    OVERFLOW,
];

/// Labels of both ends of an edge of a mesh, then those given.
macro_rules! of_mesh_edge {
    ($($label:expr),* $(,)?) => {
        &[
            "k8s_cluster_name",
            "source_kind",
            "source_namespace",
            "source_workload_kind",
            "source_name",
            "destination_kind",
            "destination_namespace",
            "destination_workload_kind",
            "destination_name",
            $($label,)*
        ]
    };
}

pub(super) const MESH_EDGE: &[&str] = of_mesh_edge![
    "k8s_service_name",
    "k8s_service_namespace",
    "server_port",
    "declared"
];

pub(super) const MESH_PART: &[&str] = of_mesh_edge![
    "k8s_service_name",
    "k8s_service_namespace",
    "server_port",
    "declared",
    "part"
];

pub(super) const MESH_DECISION: &[&str] =
    of_mesh_edge!["server_port", "client_identity", "decision"];

pub(super) const MESH_SERVER: &[&str] = &[
    "k8s_cluster_name",
    "namespace",
    "workload_kind",
    "workload",
    "declared",
];

pub(super) const MESH_SERVER_STATE: &[&str] = &[
    "k8s_cluster_name",
    "namespace",
    "workload_kind",
    "workload",
    "declared",
    "state",
];

pub(super) const MESH_BACKEND: &[&str] = &[
    "k8s_cluster_name",
    "object_kind",
    "object_namespace",
    "object_name",
    "rule",
    "host",
    "backend",
    "subset",
];

/// Labels that all series of Istio's proxies have, then those given.
macro_rules! of_istio {
    ($($label:expr),* $(,)?) => {
        &[
            "reporter",
            "source_workload",
            "source_workload_namespace",
            "source_principal",
            "source_app",
            "source_version",
            "source_canonical_service",
            "source_canonical_revision",
            "source_cluster",
            "destination_workload",
            "destination_workload_namespace",
            "destination_principal",
            "destination_app",
            "destination_version",
            "destination_service",
            "destination_service_name",
            "destination_service_namespace",
            "destination_canonical_service",
            "destination_canonical_revision",
            "destination_cluster",
            "connection_security_policy",
            "request_protocol",
            $($label,)*
            "response_flags",
            OVERFLOW,
        ]
    };
}

pub(super) const ISTIO_HTTP: &[&str] = of_istio!["response_code", "grpc_response_status"];

pub(super) const ISTIO_TCP: &[&str] = of_istio![];

/// Labels that series of Linkerd's proxies have, then those given.
macro_rules! of_linkerd {
    ($($label:expr),* $(,)?) => {
        &[
            "direction",
            "authority",
            "namespace",
            "pod",
            "deployment",
            "statefulset",
            "daemonset",
            "replicaset",
            "k8s_job",
            "cronjob",
            "dst_namespace",
            "dst_pod",
            "dst_deployment",
            "dst_statefulset",
            "dst_daemonset",
            "dst_replicaset",
            "dst_k8s_job",
            "dst_cronjob",
            "dst_service",
            "server_id",
            "client_id",
            "tls",
            "no_tls_reason",
            $($label,)*
            OVERFLOW,
        ]
    };
}

pub(super) const LINKERD_REQUEST: &[&str] = of_linkerd![];

pub(super) const LINKERD_HTTP: &[&str] =
    of_linkerd!["classification", "status_code", "grpc_status"];

pub(super) const LINKERD_TCP: &[&str] = of_linkerd!["peer"];

pub(super) const MESH_KIND: &[&str] = &["k8s_cluster_name", "kind", "group"];

pub(super) const CLUSTER: &[&str] = &["k8s_cluster_name"];

pub(super) const EXPORT: &[&str] = &["signal"];

pub(super) const POD: &[&str] = &[
    "k8s_cluster_name",
    "k8s_namespace_name",
    "k8s_pod_name",
    "k8s_pod_uid",
    "k8s_node_name",
    "k8s_workload_kind",
    "k8s_workload_name",
    "k8s_deployment_name",
    "k8s_replicaset_name",
    "k8s_statefulset_name",
    "k8s_daemonset_name",
    "k8s_job_name",
    "k8s_cronjob_name",
    "cloud_availability_zone",
    "cloud_region",
    "service_name",
    "service_namespace",
];

pub(super) const GRAPH: &[&str] = &[
    "client",
    "client_service_namespace",
    "server",
    "server_service_namespace",
    "connection_type",
    "virtual_node",
    "k8s_cluster_name",
    OVERFLOW,
];

pub(super) const SPAN: &[&str] = &[
    "service",
    "service_namespace",
    "k8s_cluster_name",
    "span_name",
    "span_kind",
    "status_code",
    OVERFLOW,
];

pub(super) const SPAN_SERVICE: &[&str] = &[
    "service",
    "service_namespace",
    "k8s_cluster_name",
    "k8s_namespace_name",
    "k8s_workload_kind",
    "k8s_workload_name",
    "k8s_container_name",
    "k8s_pod_name",
];

pub(super) const KUBERNETES: &[&str] = &["source", "kind"];

pub(super) const KUBERNETES_FAILED: &[&str] = &["source", "kind", "reason"];

/// Label of the series that takes what does not fit (OpenTelemetry metrics SDK specification,
/// "Cardinality limits": `otel.metric.overflow`).
pub(in super::super) const OVERFLOW: &str = "otel_metric_overflow";

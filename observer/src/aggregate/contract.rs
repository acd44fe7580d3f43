//! Every metric family there is: name, kind, unit, meaning and labels, in order of exposition.
//!
//! Names are those of Prometheus; where a family is one of the OpenTelemetry semantic conventions,
//! `convention` has its name there. A label without a value is left out. Every family about
//! services can also have one series with the single label `otel_metric_overflow="true"`: it takes
//! what came after the budget of the family was used up.
//!
//! `security` is `plaintext`, `tls`, `istio_mtls`, `hbone`, `linkerd_mtls`, or `unknown` before
//! the first bytes of a connection showed it. It is known after a connection was opened, and so
//! is no label of what counts openings and failures.
//!
//! On Kubernetes a service also has `k8s_namespace_name`, `k8s_workload_kind` and
//! `k8s_workload_name` (the highest controller of its pods), and `k8s_container_name`; labels with
//! a name in the semantic conventions have that one, with `_` for `.`. `k8s_pod_name` is there when
//! it was asked for, as pods come and go; `observer_pod_info` has it always. At clients
//! `k8s_service_name` and `k8s_service_namespace` are the Service that was dialled, and
//! `server_address` is what it is known by (`server.address`): `name.namespace` for a Service, never
//! the address of a pod, which is left out. `k8s_cluster_name` is there when it is configured.
//!
//! An edge (`observer_edge_`) goes from a source, which connects, to a destination. Their kinds are
//! `workload` (of Kubernetes), `service` (of this host, in no pod), `node`, `network`, `name` (of
//! DNS), `outside` (nothing more is known of the address) and `unknown` (a process of this host that
//! nothing is known of). The `reporter` is the end that was observed, `client` or `server`; with
//! `unknown` the direction is not known, and the source is the observed end. Connections within a
//! host are on two edges, with `same_host="true"`: leave out `same_host="true",reporter="server"`
//! to add edges up. `protocol` is `http`, `grpc`, `grpc-web`, `dns`, `quic`, `udp`, another that
//! first bytes showed, or `tcp`; a connection with one remote procedure call is one of those.
//!
//! A remote procedure call is an HTTP exchange too: it counts in the families of both. Its
//! `error_type` is about the procedure in those of `rpc_`, about the exchange in those of `http_`,
//! where `rpc_system_name` tells that it is one.
//!
//! Durations have native (exponential) histograms too, if `metrics.histograms` asks for them: those
//! of requests, calls, lookups, edges, of round trips and of connecting. The protobuf format and
//! OTLP have them. Spans that are kept are exemplars of the durations of calls (`trace_id`,
//! `span_id`).
//!
//! `traces_service_graph_` is the graph as Grafana draws it, of HTTP requests and remote procedure
//! calls, from `client` to `server`, in namespaces `client_service_namespace` and
//! `server_service_namespace`. Every call counts once in a cluster, as each edge has one reporter:
//!
//! - The server's end reports every call that it answers: `_request_total`, `_request_failed_total`
//!   and `_request_server_seconds`. The client is the process of this host or the pod that called,
//!   as far as it is known; everybody else is `user`, with `connection_type="virtual_node"` and
//!   `virtual_node="client"`.
//! - The client's end reports only `_request_client_seconds` when the other end is a process of
//!   this host or a pod: the server's end counts those, on the node where it runs.
//! - When the other end is none of them (an address outside, a network or a name, a node), nobody
//!   will observe it and the client's end reports all four, with its own time for both, and with
//!   `connection_type="virtual_node"` and `virtual_node="server"`. Such a server is the Service that
//!   was dialled, else the name of the peer, else its address.
//!
//! So calls to a pod of a node without an observer, and to a service that is to be ignored, have a
//! time at the client and no count. `_request_total` is the count of `_request_server_seconds`.
//!
//! `mesh_finding` and `observer_mesh_` are what a service mesh was found to do, as the API has it in
//! full: who is at the ends has the labels of edges, and `declared` is what is declared of mutual
//! TLS: `strict`, `permissive`, `disabled`, `no_mesh`, `unknown`. They are made when they are asked
//! for, from the same report.
//!
//! `istio_`, and `request_total`, `response_total`, `response_latency_ms` and `tcp_`, are what the
//! proxies of Istio and Linkerd would tell of the same calls, with their labels, where
//! `mesh.series` asks for them: for the tools that read those. Bytes of TCP are told as there:
//! `istio_tcp_sent_bytes_total` is what the server sent. Scrape them with `honor_labels`, as
//! `namespace` and `pod` are those of the pods.
//!
//! `traces_spanmetrics_` are calls by the name of their span: `METHOD ROUTE`, or the full name of
//! the procedure. They are sums of the `http_` families without remote procedure calls, and of the
//! `rpc_` families. Their overflow series has those of the `http_` families.

use opentelemetry_semantic_conventions::metric;

mod labels;

#[allow(unused_imports, reason = "what takes the contract alone needs it not")]
pub(super) use labels::OVERFLOW;
use labels::*;

/// What a family is.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Name of the family in the Prometheus text format; counters end in `_total`.
    pub name: &'static str,
    /// Kind of its values.
    pub kind: Kind,
    /// Unit as the name has it; `None` for plain numbers.
    pub unit: Option<&'static str>,
    /// What it tells.
    pub help: &'static str,
    /// Labels that its series can have, `le` not among them.
    pub labels: &'static [&'static str],
    /// Name in the OpenTelemetry semantic conventions.
    pub convention: Option<&'static str>,
}

/// Kind of the values of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0; starts again when the series was idle for long.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
    /// Always 1; the labels are the information.
    Info,
}

/// Values of `http_request_method`: RFC 9110 section 9.3, PATCH (RFC 5789) and QUERY; every other
/// method is [`OTHER_METHOD`].
pub const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
];

/// Value of `http_request_method` for methods that are not in [`METHODS`], and of `rpc_method` and
/// `url_scheme` for what is not to be a label.
pub const OTHER_METHOD: &str = "_OTHER";

/// Value of `http_request_method` and `url_scheme` where they are not known: a request of HTTP/2
/// that refers to fields from before the observer looked, for the most part. Its route is left out.
pub const UNKNOWN: &str = "unknown";

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal, $unit:expr, $labels:expr, $convention:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Family = Family {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                help: $help,
                labels: $labels,
                convention: $convention,
            };
        )*

        /// All families, in order of exposition.
        pub static FAMILIES: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    TARGET: Info "target_info", None, &["service_name", "service_version"], None,
        "The observer as a resource of OpenTelemetry: join on job and instance.";
    HTTP_SERVER_DURATION: Histogram "http_server_request_duration_seconds", Some("seconds"), CALL,
        Some(metric::HTTP_SERVER_REQUEST_DURATION),
        "Duration of HTTP requests at the server's socket, first byte of the request to last of the response. Without exchanges whose end was lost to the observer.";
    HTTP_SERVER_REQUEST_BODY: Histogram "http_server_request_body_size_bytes", Some("bytes"), CALL,
        Some(metric::HTTP_SERVER_REQUEST_BODY_SIZE),
        "Size of the content of requests that servers received, without framing.";
    HTTP_SERVER_RESPONSE_BODY: Histogram "http_server_response_body_size_bytes", Some("bytes"), CALL,
        Some(metric::HTTP_SERVER_RESPONSE_BODY_SIZE),
        "Size of the content of responses that servers sent, without framing. Without requests that were never answered.";
    HTTP_CLIENT_DURATION: Histogram "http_client_request_duration_seconds", Some("seconds"), CALL,
        Some(metric::HTTP_CLIENT_REQUEST_DURATION),
        "Duration of HTTP requests at the client's socket, first byte of the request to last of the response. Without exchanges whose end was lost to the observer.";
    HTTP_CLIENT_REQUEST_BODY: Histogram "http_client_request_body_size_bytes", Some("bytes"), CALL,
        Some(metric::HTTP_CLIENT_REQUEST_BODY_SIZE),
        "Size of the content of requests that clients sent, without framing.";
    HTTP_CLIENT_RESPONSE_BODY: Histogram "http_client_response_body_size_bytes", Some("bytes"), CALL,
        Some(metric::HTTP_CLIENT_RESPONSE_BODY_SIZE),
        "Size of the content of responses that clients received, without framing. Without requests that were never answered.";
    HTTP_SERVER_ACTIVE: Gauge "http_server_active_requests", None, ACTIVE,
        Some(metric::HTTP_SERVER_ACTIVE_REQUESTS),
        "Requests that a server has received and not completely answered.";
    HTTP_CLIENT_ACTIVE: Gauge "http_client_active_requests", None, ACTIVE,
        Some(metric::HTTP_CLIENT_ACTIVE_REQUESTS),
        "Requests that a client has sent and got no complete response to.";
    HTTP_OLDEST: Gauge "observer_http_oldest_active_request_seconds", Some("seconds"), OLDEST, None,
        "Age of the oldest request in flight; 0 when none is.";
    HTTP_EXCHANGES: Counter "observer_http_exchanges_total", None, OUTCOME, None,
        "HTTP exchanges by how they ended; also those that were lost to the observer.";
    RPC_SERVER_DURATION: Histogram "rpc_server_call_duration_seconds", Some("seconds"), RPC,
        Some(metric::RPC_SERVER_CALL_DURATION),
        "Duration of remote procedure calls at the server's socket, first byte of the request to last of the response. These calls are in the http_server families too. Without calls whose end was lost to the observer.";
    RPC_CLIENT_DURATION: Histogram "rpc_client_call_duration_seconds", Some("seconds"), RPC,
        Some(metric::RPC_CLIENT_CALL_DURATION),
        "Duration of remote procedure calls at the client's socket, first byte of the request to last of the response. These calls are in the http_client families too. Without calls whose end was lost to the observer.";
    RPC_MESSAGES: Counter "observer_rpc_messages_total", None, RPC_MESSAGES_LABELS, None,
        "Messages of remote procedure calls that the service sent or received, counted when their call ends; at least so many where bytes were not seen.";
    TCP_OPENED: Counter "observer_tcp_connections_opened_total", None, TCP, None,
        "TCP connections established: by connect where role is client, by accept where it is server. Without those older than the observer.";
    TCP_FAILURES: Counter "observer_tcp_connect_failures_total", None, TCP_FAILED, None,
        "TCP connections that were never established, by reason.";
    TCP_CLOSED_TOTAL: Counter "observer_tcp_connections_closed_total", None, TCP_CLOSED, None,
        "TCP connections that ended, by who ended them and whether with a RST.";
    TCP_OPEN: Gauge "observer_tcp_open_connections", None, TCP_SECURED, None,
        "TCP connections that are open.";
    TCP_SENT_BYTES: Counter "observer_tcp_sent_bytes_total", Some("bytes"), TCP_SECURED, None,
        "Payload bytes sent, each once.";
    TCP_RECEIVED_BYTES: Counter "observer_tcp_received_bytes_total", Some("bytes"), TCP_SECURED, None,
        "Payload bytes received, each once.";
    TCP_SENT_SEGMENTS: Counter "observer_tcp_sent_segments_total", None, TCP, None,
        "TCP segments sent, with control segments and retransmits.";
    TCP_RECEIVED_SEGMENTS: Counter "observer_tcp_received_segments_total", None, TCP, None,
        "TCP segments received, with control segments.";
    TCP_RETRANSMITS: Counter "observer_tcp_retransmits_total", None, TCP, None,
        "TCP segments sent again.";
    TCP_RTT: Histogram "observer_tcp_rtt_seconds", Some("seconds"), TCP, None,
        "Smoothed round-trip time: one sample a second of connections that move, one when a connection ends.";
    TCP_MINIMUM_RTT: Gauge "observer_tcp_minimum_rtt_seconds", Some("seconds"), TCP, None,
        "Lowest round-trip time measured since the series began.";
    TCP_CONNECT: Histogram "observer_tcp_connect_duration_seconds", Some("seconds"), TCP, None,
        "Time from connect to the end of the handshake, at clients.";
    TCP_DURATION: Histogram "observer_tcp_connection_duration_seconds", Some("seconds"), TCP, None,
        "Life of TCP connections that ended, from the end of the handshake. Without those older than the observer.";
    CONNECTIONS_SECURITY: Counter "observer_connections_security_total", None, SECURITY, None,
        "TCP connections by what their first bytes showed, each counted once: as soon as that is known, or as unknown when it ends before. The share that is encrypted is the rate of all values but plaintext and unknown by the rate of all.";
    DNS_LOOKUP_DURATION: Histogram "dns_lookup_duration_seconds", Some("seconds"), LOOKUP,
        Some(metric::DNS_LOOKUP_DURATION),
        "Duration of DNS lookups at the client's socket, question to response, or to the end of waiting. Without lookups that another server was faster with, and those whose connection ended.";
    DNS_LOOKUPS: Counter "observer_dns_lookups_total", None, LOOKUPS, None,
        "DNS lookups by how they ended, at both ends.";
    DNS_RETRIES: Counter "observer_dns_retries_total", None, LOOKUPS, None,
        "DNS questions sent again to the same server.";
    UDP_SENT_BYTES: Counter "observer_udp_sent_bytes_total", Some("bytes"), UDP, None,
        "Payload bytes sent in datagrams of UDP.";
    UDP_RECEIVED_BYTES: Counter "observer_udp_received_bytes_total", Some("bytes"), UDP, None,
        "Payload bytes received in datagrams of UDP.";
    UDP_SENT_PACKETS: Counter "observer_udp_sent_packets_total", None, UDP, None,
        "Datagrams of UDP sent.";
    UDP_RECEIVED_PACKETS: Counter "observer_udp_received_packets_total", None, UDP, None,
        "Datagrams of UDP received.";
    UNDERSTOOD_BYTES: Counter "observer_understood_bytes_total", Some("bytes"), SERVICE, None,
        "Payload bytes, both ways, that were understood as part of an exchange.";
    MOVED_BYTES: Counter "observer_moved_bytes_total", Some("bytes"), SERVICE, None,
        "Payload bytes, both ways, that the service's sockets moved.";
    COVERAGE: Gauge "observer_coverage_ratio", Some("ratio"), SERVICE, None,
        "Understood bytes by moved bytes; absent before a byte moved.";
    EDGE_REQUESTS: Counter "observer_edge_requests_total", None, EDGE, None,
        "Calls and DNS lookups from source to destination, as the reporter saw them.";
    EDGE_ERRORS: Counter "observer_edge_errors_total", None, EDGE, None,
        "Calls and DNS lookups from source to destination that failed.";
    EDGE_DURATION: Histogram "observer_edge_request_duration_seconds", Some("seconds"), EDGE, None,
        "Duration of calls and DNS lookups at the reporter's socket. Without those whose end was not seen.";
    EDGE_SENT_BYTES: Counter "observer_edge_sent_bytes_total", Some("bytes"), EDGE, None,
        "Payload bytes from source to destination, each once.";
    EDGE_RECEIVED_BYTES: Counter "observer_edge_received_bytes_total", Some("bytes"), EDGE, None,
        "Payload bytes from destination to source, each once.";
    EDGE_OPENED: Counter "observer_edge_connections_opened_total", None, EDGE, None,
        "TCP connections established from source to destination. Without those older than the observer.";
    EDGE_FAILURES: Counter "observer_edge_connect_failures_total", None, EDGE_FAILED, None,
        "TCP connections from source to destination that were never established, by reason.";
    EDGE_OPEN: Gauge "observer_edge_open_connections", None, EDGE, None,
        "TCP connections that are open from source to destination.";
    EDGE_RETRANSMITS: Counter "observer_edge_retransmits_total", None, EDGE, None,
        "TCP segments that the reporter sent again.";
    EDGE_RTT: Histogram "observer_edge_rtt_seconds", Some("seconds"), EDGE, None,
        "Smoothed round-trip time between source and destination: one sample a second of connections that move, one when a connection ends.";
    POD_INFO: Info "observer_pod_info", None, POD, None,
        "Pods of this node whose sockets were seen, one series each: join on k8s_namespace_name and k8s_pod_name.";
    GRAPH_REQUESTS: Counter "traces_service_graph_request_total", None, GRAPH, None,
        "Calls from client to server, each once in a cluster. Without those whose end was lost to the observer.";
    GRAPH_FAILED: Counter "traces_service_graph_request_failed_total", None, GRAPH, None,
        "Calls from client to server that failed.";
    GRAPH_SERVER_SECONDS: Histogram "traces_service_graph_request_server_seconds", Some("seconds"), GRAPH, None,
        "Duration of calls at the server's socket, or at the client's where nobody observes the server.";
    GRAPH_CLIENT_SECONDS: Histogram "traces_service_graph_request_client_seconds", Some("seconds"), GRAPH, None,
        "Duration of calls at the client's socket.";
    SPAN_CALLS: Counter "traces_spanmetrics_calls_total", None, SPAN, None,
        "Calls by the name of their span, whether it is kept or not. Without those whose end was lost to the observer.";
    SPAN_SIZE: Counter "traces_spanmetrics_size_total", None, SPAN, None,
        "Bytes of the content of requests and responses, without framing.";
    SPAN_LATENCY: Histogram "traces_spanmetrics_latency", None, SPAN, None,
        "Duration of calls in seconds, by the name of their span.";
    SPAN_TARGET: Info "traces_target_info", None, SPAN_SERVICE, None,
        "Services that calls were seen of: join on service and service_namespace.";
    MESH_FINDING: Gauge "mesh_finding", None, MESH_FINDING_LABELS, None,
        "1 while something is found to be wrong with a service mesh, or may be; 0 for a while after.";
    MESH_ENCRYPTED: Gauge "observer_mesh_edge_encrypted_ratio", Some("ratio"), MESH_EDGE, None,
        "Share of the requests of an edge (of connections, where there are no requests) that were encrypted.";
    MESH_VIOLATED: Gauge "observer_mesh_edge_violated", None, MESH_EDGE, None,
        "1 when the encryption of an edge is not what is declared, 0 when it is; absent when that cannot be told.";
    MESH_RETRIES: Gauge "observer_mesh_retry_ratio", Some("ratio"), MESH_EDGE, None,
        "Requests that were answered after another attempt, by requests of the client.";
    MESH_LATENCY: Gauge "observer_mesh_latency_seconds", Some("seconds"), MESH_PART, None,
        "Where the time of requests goes, in the mean: client_proxy, network, server_proxy, application.";
    MESH_READINESS: Gauge "observer_mesh_readiness", None, MESH_SERVER_STATE, None,
        "Whether a server could take mutual TLS only: 1 for its state, which is ready, not_ready or insufficient.";
    MESH_PLAINTEXT_CLIENTS: Gauge "observer_mesh_plaintext_clients", None, MESH_SERVER, None,
        "Clients that sent plaintext to a server in the window of readiness.";
    MESH_SPLIT_DECLARED: Gauge "observer_mesh_split_declared_ratio", Some("ratio"), MESH_BACKEND, None,
        "Share of the requests of a rule that a backend is declared to get.";
    MESH_SPLIT_OBSERVED: Gauge "observer_mesh_split_observed_ratio", Some("ratio"), MESH_BACKEND, None,
        "Share of the requests of a rule that a backend got.";
    MESH_SPLIT_REQUESTS: Gauge "observer_mesh_split_requests", None, MESH_BACKEND, None,
        "Requests that the observed share of a backend is made of.";
    MESH_SPLIT_SERVED: Counter "observer_mesh_split_served_requests_total", None, MESH_BACKEND, None,
        "Requests of a rule that a backend served on this node, of clients of any node: those of all agents together tell its share.";
    MESH_AUTHORIZATION: Counter "observer_mesh_authorization_requests_total", None, MESH_DECISION, None,
        "Requests (connections, where there are none) by what policy says of them: allowed, denied, unknown; and those that were refused.";
    MESH_OBJECTS: Gauge "observer_mesh_policy_objects", None, MESH_KIND, None,
        "Declared objects that are known, by kind.";
    MESH_MISUNDERSTOOD: Gauge "observer_mesh_misunderstood_objects", None, CLUSTER, None,
        "Declared objects that could not be understood.";
    ISTIO_REQUESTS: Counter "istio_requests_total", None, ISTIO_HTTP, None,
        "Requests, as Istio's proxies count them.";
    ISTIO_DURATION: Histogram "istio_request_duration_milliseconds", None, ISTIO_HTTP, None,
        "Duration of requests in milliseconds, as Istio's proxies measure it.";
    ISTIO_REQUEST_BYTES: Histogram "istio_request_bytes", Some("bytes"), ISTIO_HTTP, None,
        "Size of requests, head and content, as Istio's proxies measure it.";
    ISTIO_RESPONSE_BYTES: Histogram "istio_response_bytes", Some("bytes"), ISTIO_HTTP, None,
        "Size of responses, head and content, as Istio's proxies measure it.";
    ISTIO_REQUEST_MESSAGES: Counter "istio_request_messages_total", None, ISTIO_HTTP, None,
        "Messages from clients of gRPC, as Istio's proxies count them.";
    ISTIO_RESPONSE_MESSAGES: Counter "istio_response_messages_total", None, ISTIO_HTTP, None,
        "Messages from servers of gRPC, as Istio's proxies count them.";
    ISTIO_TCP_SENT: Counter "istio_tcp_sent_bytes_total", Some("bytes"), ISTIO_TCP, None,
        "Bytes of responses over connections without requests, as Istio's proxies count them.";
    ISTIO_TCP_RECEIVED: Counter "istio_tcp_received_bytes_total", Some("bytes"), ISTIO_TCP, None,
        "Bytes of requests over connections without requests of HTTP, as Istio's proxies count them.";
    ISTIO_TCP_OPENED: Counter "istio_tcp_connections_opened_total", None, ISTIO_TCP, None,
        "Connections without requests that were opened, as Istio's proxies count them.";
    ISTIO_TCP_CLOSED: Counter "istio_tcp_connections_closed_total", None, ISTIO_TCP, None,
        "Connections without requests that were closed, as Istio's proxies count them.";
    LINKERD_REQUESTS: Counter "request_total", None, LINKERD_REQUEST, None,
        "Requests, as Linkerd's proxies count them.";
    LINKERD_RESPONSES: Counter "response_total", None, LINKERD_HTTP, None,
        "Responses, as Linkerd's proxies count them.";
    LINKERD_LATENCY: Histogram "response_latency_ms", None, LINKERD_HTTP, None,
        "Milliseconds to the end of responses, as Linkerd's proxies measure it.";
    LINKERD_TCP_OPEN: Gauge "tcp_open_connections", None, LINKERD_TCP, None,
        "Open connections, as Linkerd's proxies count them.";
    LINKERD_TCP_READ: Counter "tcp_read_bytes_total", Some("bytes"), LINKERD_TCP, None,
        "Bytes read from the peer, as Linkerd's proxies count them.";
    LINKERD_TCP_WRITE: Counter "tcp_write_bytes_total", Some("bytes"), LINKERD_TCP, None,
        "Bytes written to the peer, as Linkerd's proxies count them.";
    LOSS: Counter "observer_loss_total", None, &["stage", "reason"], None,
        "What the observer lost, by stage and reason.";
    PROGRAM_RUNS: Counter "observer_bpf_program_runs_total", None, &["program"], None,
        "Times a BPF program ran.";
    PROGRAM_SECONDS: Counter "observer_bpf_program_seconds_total", Some("seconds"), &["program"], None,
        "Time a BPF program ran; 0 unless the kernel keeps statistics (kernel.bpf_stats_enabled).";
    TABLE_ENTRIES: Gauge "observer_table_entries", None, &["table"], None,
        "Entries in use of a bounded table.";
    TABLE_LIMIT: Gauge "observer_table_limit", None, &["table"], None,
        "Most entries that a bounded table can have.";
    RING_RECORDS: Counter "observer_ring_records_total", None, &[], None,
        "Records read from the kernel's ring buffer.";
    RING_USED: Gauge "observer_ring_used_bytes", Some("bytes"), &[], None,
        "Bytes that waited in the ring buffer, at their highest since the last scrape.";
    RING_SIZE: Gauge "observer_ring_size_bytes", Some("bytes"), &[], None,
        "Size of the ring buffer.";
    KUBERNETES_SYNCED: Gauge "observer_kubernetes_synced", None, KUBERNETES, None,
        "1 when all Kubernetes objects of a kind are known and changes arrive, else 0.";
    KUBERNETES_AGE: Gauge "observer_kubernetes_age_seconds", Some("seconds"), KUBERNETES, None,
        "Time since the source of Kubernetes objects was last heard of; absent before the first time.";
    KUBERNETES_OBJECTS: Gauge "observer_kubernetes_objects", None, KUBERNETES, None,
        "Kubernetes objects that are known.";
    KUBERNETES_REQUESTS: Counter "observer_kubernetes_requests_total", None, KUBERNETES, None,
        "Requests for Kubernetes objects to their source.";
    KUBERNETES_ERRORS: Counter "observer_kubernetes_errors_total", None, KUBERNETES_FAILED, None,
        "Requests for Kubernetes objects that failed and streams that broke, by reason.";
    EXPORT_SENT: Counter "observer_export_sent_items_total", None, EXPORT, None,
        "Spans, data points and log records that the collector took.";
    EXPORT_REJECTED: Counter "observer_export_rejected_items_total", None, EXPORT, None,
        "Spans, data points and log records that the collector did not want, of requests that it took.";
    EXPORT_DROPPED: Counter "observer_export_dropped_items_total", None, EXPORT, None,
        "Spans, data points and log records that were lost in any other way; observer_loss_total has the reasons.";
    EXPORT_QUEUE_ITEMS: Gauge "observer_export_queue_items", None, EXPORT, None,
        "Spans and log records that wait to be sent.";
    EXPORT_QUEUE_BYTES: Gauge "observer_export_queue_bytes", Some("bytes"), EXPORT, None,
        "Bytes that what waits to be sent holds, about.";
    EXPORT_REQUESTS: Counter "observer_export_requests_total", None, EXPORT, None,
        "Requests to the collector, each attempt.";
    EXPORT_FAILURES: Counter "observer_export_failures_total", None, EXPORT, None,
        "Requests that the collector did not take.";
    EXPORT_RETRIES: Counter "observer_export_retries_total", None, EXPORT, None,
        "Requests that were made again.";
    EXPORT_BYTES: Counter "observer_export_sent_bytes_total", Some("bytes"), EXPORT, None,
        "Bytes of the bodies of requests, as they were sent.";
    EXPORT_SECONDS: Counter "observer_export_request_duration_seconds_total", Some("seconds"), EXPORT, None,
        "Time that requests took, from connecting to the end of the response.";
    EXPORT_AGE: Gauge "observer_export_age_seconds", Some("seconds"), EXPORT, None,
        "Time since the collector last took a request; absent before the first.";
    SERIES: Gauge "observer_series", None, &["family"], None,
        "Label sets in use of a group of families that share them: http_server, http_client, http_active, rpc_server, rpc_client, tcp, services, dns, udp, edges, pods, mesh_findings, mesh_edges, mesh_servers, mesh_rules, mesh_authorizations, istio_http, istio_tcp, linkerd_http, linkerd_tcp.";
    SERIES_LIMIT: Gauge "observer_series_limit", None, &["family"], None,
        "Most label sets that a group of families can have.";
    SERIES_OVERFLOW: Counter "observer_series_overflow_total", None, &["family"], None,
        "Updates that went to the overflow series of a group of families, or were left out where there is none (mesh_).";
    PROCESS_CPU: Counter "process_cpu_seconds_total", Some("seconds"), &[], None,
        "CPU time of the observer, user and system.";
    PROCESS_MEMORY: Gauge "process_resident_memory_bytes", Some("bytes"), &[], None,
        "Resident memory of the observer.";
    PROCESS_START: Gauge "process_start_time_seconds", Some("seconds"), &[], None,
        "Start of the observer since the Unix epoch.";
    BUILD: Info "observer_build_info", None, &["version"], None,
        "Version of the observer.";
}

// === impl Kind ===

impl Kind {
    /// Name in `# TYPE` lines of the Prometheus text format, which has no info.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info => "gauge",
            Self::Histogram => "histogram",
        }
    }

    /// Name in `# TYPE` lines of OpenMetrics.
    pub const fn open_metrics(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_end_in_their_unit() {
        let mut names = BTreeSet::new();
        for family in FAMILIES {
            assert!(names.insert(family.name), "{} twice", family.name);
            let counter = family.name.strip_suffix("_total");
            assert_eq!(
                counter.is_some(),
                family.kind == Kind::Counter,
                "{}",
                family.name
            );
            let stem = counter.unwrap_or(family.name);
            if let Some(unit) = family.unit {
                assert!(stem.ends_with(&format!("_{unit}")), "{}", family.name);
            }
            assert!(family.help.ends_with('.'), "{}", family.name);
        }
    }

    #[test]
    fn names_tell_whose_they_are() {
        for family in FAMILIES {
            let own = family.name.starts_with("observer_") || family.name.starts_with("process_");
            let tempo = ["traces_service_graph_", "traces_spanmetrics_"]
                .iter()
                .any(|prefix| family.name.starts_with(prefix));
            let mesh = family.name == "mesh_finding"
                || family.name.starts_with("istio_")
                || family.help.contains("as Linkerd's proxies");
            let info = ["target_info", "traces_target_info"].contains(&family.name);
            let conventional = family.convention.is_some();
            assert!(
                own || tempo || mesh || info || conventional,
                "{}",
                family.name
            );
        }
    }

    #[test]
    fn conventional_names_are_translated_as_prometheus_does() {
        for family in FAMILIES {
            let Some(convention) = family.convention else {
                continue;
            };
            let name = convention.replace('.', "_");
            let unit = family
                .unit
                .map(|unit| format!("_{unit}"))
                .unwrap_or_default();
            assert_eq!(family.name, format!("{name}{unit}"));
        }
    }
}

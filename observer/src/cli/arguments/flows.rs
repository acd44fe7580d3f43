//! `observer flows`: flags, values and help.

use clap::{Args, ValueEnum};

use super::DEFAULT_SERVER;
use crate::cli::flows;

/// `observer flows`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --follow the newest flows are shown, oldest first, and the command ends. Filters must \
all match; commas separate alternatives of one (`--status 404,5xx`). The agent checks them, and \
says what it does not understand.

Examples:
  observer flows --last 20
  observer flows --follow --service shop --status 5xx
  observer flows --follow --method GET --path /api/ --min-duration 100ms -o wide
  observer flows --follow --protocol grpc --status UNAVAILABLE,INTERNAL
  observer flows --follow --namespace shop --dialled 'cart*'
  observer flows --verdict violated --last 20
  observer flows --last 1000 -o json | jq .")]
pub struct FlowsArguments {
    /// Where the agent answers
    #[arg(long, value_name = "URL", env = "OBSERVER_SERVER", default_value = DEFAULT_SERVER)]
    pub server: String,
    /// Go on with new flows until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// How many of the flows that already happened to show [default: 100, with --follow none]
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "compact")]
    pub output: FlowsOutput,
    /// Only flows of this service; `*` is any text
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only flows with this service or address at the other end
    #[arg(long, value_name = "NAME|ADDR")]
    pub peer: Option<String>,
    /// Only flows with this port at either end
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Only calls (`http`), remote procedure calls (`grpc`), connections (`tcp`), lookups (`dns`) or
    /// datagrams (`quic`, `udp`)
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// Only calls with this HTTP method
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Only calls whose path starts like this, or matches it when it has a `*`
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// Only calls with this status: `404`, a class like `5xx`, a range like `400-499`, or one of
    /// gRPC like `NOT_FOUND`
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Only flows over connections that are so secured: `plaintext`, `tls`, `istio_mtls`, `hbone`,
    /// `linkerd_mtls`, `unknown`, or `encrypted` by anybody
    #[arg(long, value_name = "SECURITY")]
    pub security: Option<String>,
    /// Only flows with a pod of this namespace of Kubernetes at either end
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only flows with this pod at either end, as `pod` or `namespace/pod`
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// Only flows with a pod of this workload at either end, as `web`, `Deployment/web` or
    /// `shop/Deployment/web`
    #[arg(long, value_name = "WORKLOAD")]
    pub workload: Option<String>,
    /// Only flows with this node, or a pod of it, at either end
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Only flows whose client dialled this Service of Kubernetes, as `service` or
    /// `namespace/service`
    #[arg(long, value_name = "SERVICE")]
    pub dialled: Option<String>,
    /// Only calls of this trace, as their headers name it: 32 hexadecimal digits
    #[arg(long, value_name = "ID")]
    pub trace: Option<String>,
    /// Only flows of sockets that are `direct`, `to_proxy`, `from_proxy`, `proxy` or `meta`
    #[arg(long, value_name = "HOP")]
    pub hop: Option<String>,
    /// Only flows whose other end proved this identity to its proxy; `*` is any text
    #[arg(long, value_name = "IDENTITY")]
    pub identity: Option<String>,
    /// Only flows that are what is declared of them, or not: `satisfied`, `violated`, `unknown`
    #[arg(long, value_name = "VERDICT")]
    pub verdict: Option<String>,
    /// Only flows that took at least so long: `250us`, `100ms`, `5s`
    #[arg(long, value_name = "DURATION")]
    pub min_duration: Option<String>,
}

/// Form of what `observer flows` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlowsOutput {
    /// One short line a flow
    Compact,
    /// One line a flow with addresses, sizes and process
    Wide,
    /// One JSON object a line, as /api/v1/flows gives it
    Json,
}

// === impl FlowsArguments ===

impl From<FlowsArguments> for flows::Options {
    fn from(arguments: FlowsArguments) -> Self {
        let FlowsArguments {
            server,
            follow,
            last,
            output,
            service,
            peer,
            port,
            protocol,
            method,
            path,
            status,
            security,
            namespace,
            pod,
            workload,
            node,
            dialled,
            trace,
            hop,
            identity,
            verdict,
            min_duration,
        } = arguments;
        Self {
            server,
            follow,
            last,
            output: match output {
                FlowsOutput::Compact => flows::Output::Compact,
                FlowsOutput::Wide => flows::Output::Wide,
                FlowsOutput::Json => flows::Output::Json,
            },
            filters: flows::Filters {
                service,
                peer,
                port,
                protocol,
                method,
                path,
                status,
                security,
                namespace,
                pod,
                workload,
                node,
                dialled,
                trace,
                hop,
                identity,
                verdict,
                min_duration,
            },
        }
    }
}

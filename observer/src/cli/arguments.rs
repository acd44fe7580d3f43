//! Every command, flag and value of the command line, with the help that explains them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{graph, top};
use crate::config::{Flags, LogLevel, parse_duration};

mod flows;
mod mesh;

pub use flows::{FlowsArguments, FlowsOutput};
pub use mesh::{FindingsArguments, MeshArguments};

/// Where the agent answers unless told otherwise.
const DEFAULT_SERVER: &str = "http://127.0.0.1:9920";

/// Observes the TCP and HTTP traffic of every process on this host from the kernel, without
/// sidecars and without touching the traffic: metrics, live flows, services.
#[derive(Debug, Parser)]
#[command(
    name = "observer",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  observer doctor                     can this host be observed, and what is missing
  observer agent                      observe this host; metrics at 127.0.0.1:9920/metrics
  observer flows --follow             watch calls and connections as they happen
  observer graph                      who calls whom, and how well
  observer top                        watch rate, errors and latency of every service
  observer findings                   what is wrong with the service mesh
  observer mesh readiness             who still sends plaintext

Exit codes: 0 done, 1 failed (one line on stderr says why) or, with --fail-on, something was found; \
2 wrong command line."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Observe this host until SIGTERM or SIGINT
    Agent(AgentArguments),
    /// Tell the agents of a Kubernetes cluster what the cluster is, until SIGTERM or SIGINT
    Hub(HubArguments),
    /// Show calls and connections, live or the last ones
    Flows(Box<FlowsArguments>),
    /// Show a live table of services: rate, errors, latency, bytes
    Top(TopArguments),
    /// Show who calls whom: the graph of services, with rate, errors, latency, bytes
    Graph(GraphArguments),
    /// Show what is wrong with service meshes, or may be, worst first
    Findings(Box<FindingsArguments>),
    /// Show what service meshes do, against what is declared of them
    Mesh(Box<MeshArguments>),
    /// Check what this host and kernel offer, and what is missing
    Doctor(DoctorArguments),
    /// Work with configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// `observer agent`.
#[derive(Debug, Args)]
#[command(after_help = "\
Settings come from the configuration file, then these flags, then the environment; what comes \
later is stronger. deploy/observer.yaml documents every setting and its variable \
(OBSERVER_LISTEN, OBSERVER_CGROUP, OBSERVER_LOG_LEVEL, ...).

The agent answers HTTP:
  /metrics           Prometheus text, or OpenMetrics when asked for
  /livez, /readyz    200 while alive; 200 when the kernel programs are attached
  /api/v1/flows      flows as JSON lines; ?follow=true streams
  /api/v1/services   services of this host as JSON
  /api/v1/graph      graph of services as JSON
  /api/v1/findings   what is wrong with service meshes as JSON
  /api/v1/mesh       edges of service meshes as JSON; below it mtls, readiness, split, routes, authz
  /api/v1/status     what the agent knows of itself and of Kubernetes

Signals: SIGTERM and SIGINT drain and exit 0; SIGHUP reads the configuration file again.
It needs root, or CAP_BPF and CAP_NET_ADMIN and what reading /proc of other users needs \
(CAP_SYS_PTRACE); `observer doctor` checks.

Examples:
  observer agent
  observer agent --config /etc/observer.yaml --listen '[::1]:9920'
  observer agent --cgroup /sys/fs/cgroup/system.slice --ignore-port 22,53")]
pub struct AgentArguments {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE", env = "OBSERVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address and port of the HTTP interface [default: 127.0.0.1:9920]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Directory below a cgroup v2 mount whose sockets are observed [default: the root of the
    /// first cgroup v2 mount]
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Ports, with commas between, whose connections are not observed; at most 32
    #[arg(long = "ignore-port", value_name = "PORT", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(1..))]
    pub ignore_ports: Vec<u16>,
    /// Part of the calls that become flows, 0 to 1; metrics count all [default: 1]
    #[arg(long, value_name = "RATIO")]
    pub sampling: Option<f64>,
    /// Least important level of the log on stderr [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// `observer hub`.
#[derive(Debug, Args)]
#[command(after_help = "\
One hub watches the API server of Kubernetes for all agents of the cluster: agents that are given \
its URL (kubernetes.hub) watch the pods of their own node only, and hear of everything else from \
the hub. While it is away agents keep what they know.

Settings come from the configuration file, then these flags, then the environment; what comes \
later is stronger. deploy/observer.yaml documents every setting and its variable, those of the hub \
in its sections hub and kubernetes.

The hub answers HTTP, or HTTPS when it is given a certificate:
  /metrics                    Prometheus text, or OpenMetrics when asked for
  /livez, /readyz             200 while alive; 200 when the whole cluster is known
  /api/v1/cluster/stream      for agents

It needs no privilege, and of the API the permissions to list and watch pods, services, nodes, \
EndpointSlices and controllers of pods, and to create TokenReviews unless hub.authenticate is false.

Signals: SIGTERM and SIGINT end the streams and exit 0; SIGHUP changes nothing.

Examples:
  observer hub
  observer hub --config /etc/observer.yaml --listen '[::]:9921'")]
pub struct HubArguments {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE", env = "OBSERVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address and port of the HTTP interface [default: 0.0.0.0:9921]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Least important level of the log on stderr [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// `observer top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  observer top
  observer top --interval 1s
  observer top --once                one table, for scripts")]
pub struct TopArguments {
    /// Where the agent answers
    #[arg(long, value_name = "URL", env = "OBSERVER_SERVER", default_value = DEFAULT_SERVER)]
    pub server: String,
    /// Time between two tables, and what the rates are taken over: `500ms`, `2s`
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_interval)]
    pub interval: Duration,
    /// Show one table after one interval and end
    #[arg(long)]
    pub once: bool,
}

/// `observer graph`.
#[derive(Debug, Args)]
#[command(after_help = "\
A row is an edge: calls and connections from a source to a destination, of one protocol and \
security, over the last ten seconds. BY is the end that saw it; connections within a host are \
counted once. `outside` is every address that nothing is known of.

Examples:
  observer graph
  observer graph -o dot | dot -Tsvg > graph.svg
  observer graph -o json | jq '.edges[] | select(.error_ratio > 0.01)'")]
pub struct GraphArguments {
    /// Where the agent answers
    #[arg(long, value_name = "URL", env = "OBSERVER_SERVER", default_value = DEFAULT_SERVER)]
    pub server: String,
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    pub output: GraphOutput,
}

/// Form of what `observer graph` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphOutput {
    /// A table for people
    Table,
    /// One JSON object, as /api/v1/graph gives it
    Json,
    /// A graph for Graphviz
    Dot,
}

/// `observer doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every check is `ok`, `degraded` (works, with the cost that is named) or `missing` (the core \
cannot work). Run it as the user that will run the agent, and with the agent's configuration: of \
that it reads the section kubernetes, and asks the API server and the hub as the agent would.

-o json prints one object:
  {
    \"works\": true,              false when a check is missing; then the exit code is 1
    \"checks\": [
      {
        \"name\": \"kernel\",       kernel, object, cgroup, bpf_capability, net_capability,
                                proc_capability, lockdown, jit, btf, causes,
                                run_time_statistics, unprivileged_bpf, memory_lock, conntrack, load,
                                kubernetes_api, kubernetes_hub (with a hub)
        \"state\": \"ok\",          ok, degraded or missing
        \"found\": \"6.12.1\",      what was found
        \"cost\": null,           what it costs, unless ok
        \"remedy\": null          what to do, unless ok
      }
    ]
  }

Examples:
  observer doctor
  observer doctor --config /etc/observer.yaml
  observer doctor -o json | jq -r '.checks[] | select(.state != \"ok\") | .name'")]
pub struct DoctorArguments {
    /// Configuration file (YAML) of the agent; without, only the environment is read
    #[arg(long, value_name = "FILE", env = "OBSERVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "text")]
    pub output: DoctorOutput,
    /// Directory below a cgroup v2 mount that would be observed [default: the root of the first
    /// cgroup v2 mount]
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
}

/// Form of what `observer doctor` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DoctorOutput {
    /// A table for people
    Text,
    /// One JSON object
    Json,
}

/// `observer config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file, without regard to flags and environment
    ///
    /// Prints what the file sets and exits 0, or names place and key of the first error and
    /// exits 1. deploy/observer.yaml documents every setting.
    Check {
        /// The file to check
        file: PathBuf,
    },
}

/// A time between two refreshes that leaves the agent something to do in between.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(100) || interval > Duration::from_secs(3600) {
        return Err(format!("{text:?} is not between 100ms and 1h"));
    }
    Ok(interval)
}

// === impl AgentArguments ===

impl AgentArguments {
    /// The flags, as the configuration takes them.
    pub fn flags(&self) -> Flags {
        let Self {
            config: _,
            listen,
            cgroup,
            ignore_ports,
            sampling,
            log_level,
        } = self;
        Flags {
            listen: *listen,
            cgroup: cgroup.clone(),
            log_level: *log_level,
            sampling: *sampling,
            ignore_ports: ignore_ports.clone(),
            ..Flags::default()
        }
    }
}

// === impl HubArguments ===

impl HubArguments {
    /// The flags, as the configuration takes them.
    pub fn flags(&self) -> Flags {
        let Self {
            config: _,
            listen,
            log_level,
        } = self;
        Flags {
            hub_listen: *listen,
            log_level: *log_level,
            ..Flags::default()
        }
    }
}

// === impl TopArguments ===

impl From<TopArguments> for top::Options {
    fn from(arguments: TopArguments) -> Self {
        let TopArguments {
            server,
            interval,
            once,
        } = arguments;
        Self {
            server,
            interval,
            once,
        }
    }
}

// === impl GraphArguments ===

impl From<GraphArguments> for graph::Options {
    fn from(arguments: GraphArguments) -> Self {
        let GraphArguments { server, output } = arguments;
        Self {
            server,
            output: match output {
                GraphOutput::Table => graph::Output::Table,
                GraphOutput::Json => graph::Output::Json,
                GraphOutput::Dot => graph::Output::Dot,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    pub(super) fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_of_the_agent_reach_the_configuration() {
        let line = "observer agent --listen [::1]:80 --cgroup /a --ignore-port 22,53 \
                    --ignore-port 80 --sampling 0.5 --log-level debug";
        let Command::Agent(arguments) = parse(line).unwrap() else {
            panic!("not the agent")
        };
        assert_eq!(
            arguments.flags(),
            Flags {
                listen: Some("[::1]:80".parse().unwrap()),
                cgroup: Some("/a".into()),
                log_level: Some(LogLevel::Debug),
                sampling: Some(0.5),
                ignore_ports: vec![22, 53, 80],
                ..Flags::default()
            }
        );
    }

    #[test]
    fn flags_of_the_hub_are_its_own() {
        let Command::Hub(arguments) =
            parse("observer hub --listen [::]:1 --log-level warn").unwrap()
        else {
            panic!("not the hub")
        };
        assert_eq!(
            arguments.flags(),
            Flags {
                hub_listen: Some("[::]:1".parse().unwrap()),
                log_level: Some(LogLevel::Warn),
                ..Flags::default()
            }
        );
    }

    #[test]
    fn without_flags_the_agent_sets_nothing() {
        let Command::Agent(arguments) = parse("observer agent").unwrap() else {
            panic!("not the agent")
        };
        assert_eq!(arguments.flags(), Flags::default());
    }

    #[test]
    fn flows_and_their_filters() {
        let line = "observer flows -f -o wide --service a,b --status 404,5xx --port 80 --last 5";
        let Command::Flows(arguments) = parse(line).unwrap() else {
            panic!("not flows")
        };
        assert!(arguments.follow);
        assert_eq!(arguments.last, Some(5));
        assert_eq!(arguments.output, FlowsOutput::Wide);
        assert_eq!(arguments.server, DEFAULT_SERVER);
        assert_eq!(arguments.service.as_deref(), Some("a,b"));
        assert_eq!(arguments.status.as_deref(), Some("404,5xx"));
        assert_eq!(arguments.port.as_deref(), Some("80"));
        assert_eq!(arguments.min_duration, None);
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "observer",
            "observer agent --listen nowhere",
            "observer agent --ignore-port 0",
            "observer hub --listen 9921",
            "observer hub --cgroup /a",
            "observer agent --log-level loud",
            "observer flows -o yaml",
            "observer flows --last many",
            "observer top --interval 1ms",
            "observer config check",
            "observer doctor --unknown",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_of_every_command_has_an_example_or_explains_itself() {
        let mut command = Arguments::command();
        command.build();
        for subcommand in command.get_subcommands_mut() {
            let help = subcommand.render_long_help().to_string();
            let name = subcommand.get_name();
            assert!(
                help.contains("Examples:") || name == "config",
                "{name}: {help}"
            );
        }
    }
}

//! `observer findings` and `observer mesh`: flags, values and help.

use clap::{Args, Subcommand, ValueEnum};

use super::DEFAULT_SERVER;
use crate::cli::{agents::Agents, findings, mesh};

/// `observer findings`.
#[derive(Debug, Args)]
#[command(after_help = "\
What was seen is compared with what Istio, Linkerd, the Gateway API and NetworkPolicies declare. \
Each finding has an id, M01 to M36, and says what was seen, since when, and which objects decided. \
Commas separate alternatives of a filter.

An agent knows what it sees of its own node. With --all, or several servers, all agents are asked, \
and what they found becomes one: the same finding is shown once, with the counts of all that found \
it, and that nothing uses a thing, or that a server is ready, is said only if it is so for all of \
them. How many answered is told below the table, or in `asked`, and on stderr who did not.

It exits 0 whatever was found; with --fail-on it exits 1 when something of what is shown is at \
least so bad, or when an agent did not answer.

Examples:
  observer findings
  observer findings --severity critical,high -o wide
  observer findings --namespace shop --workload cart
  observer findings --fail-on high               for pipelines
  observer findings --all --server http://observer-agent.observer:9920
  observer findings -o json | jq -r '.findings[] | [.id, .summary] | @tsv'")]
pub struct FindingsArguments {
    #[command(flatten)]
    agents: AgentsArguments,
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    pub output: MeshOutput,
    /// Only of these severities: `critical`, `high`, `medium`, `low`, `info`
    #[arg(long, value_name = "SEVERITY")]
    pub severity: Option<String>,
    /// Only with these ids, as `M01,M06`
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Only about this namespace, at either end
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only about this workload, at either end, as `cart` or `shop/cart`
    #[arg(long, value_name = "WORKLOAD")]
    pub workload: Option<String>,
    /// Exit with 1 when there is one at least so bad
    #[arg(long, value_name = "SEVERITY")]
    pub fail_on: Option<FailOn>,
}

/// Whom to ask.
#[derive(Debug, Args)]
struct AgentsArguments {
    /// Where the agent answers; given several times, or with commas between, all of them are asked,
    /// and what they answer becomes one
    #[arg(long = "server", value_name = "URL", env = "OBSERVER_SERVER", value_delimiter = ',',
          default_value = DEFAULT_SERVER)]
    servers: Vec<String>,
    /// Ask all agents that have the name in URL, as those of a cluster have that of their headless
    /// Service, and not one of them
    #[arg(long)]
    all: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// A promise of security is broken
    Critical,
    /// Something is broken, or open
    High,
    /// Something does not do what was meant
    Medium,
    /// To be cleaned up
    Low,
    /// To be known
    Info,
}

/// Form of what `observer findings` and `observer mesh` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MeshOutput {
    /// A table for people
    Table,
    /// The same with reasons below the lines
    Wide,
    /// One JSON object, as the agent gives it
    Json,
}

/// `observer mesh`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is seen by the agent of this node, and so of the pods of this node and whom they talk with; \
with --all, or several servers, by those of a cluster together. A call between two of them is seen \
at both ends: of both, as many are told as there were at least. Verdicts are `satisfied`, `violated`, and `unknown` where it cannot be told; -o wide says why.

Examples:
  observer mesh mtls --namespace shop -o wide
  observer mesh readiness --window 7d
  observer mesh readiness --all --server http://observer-agent.observer:9920
  observer mesh split --host cart
  observer mesh routes -o json | jq '.routes[] | select(.state == \"unused\")'")]
pub struct MeshArguments {
    /// What to show
    #[command(subcommand)]
    pub command: MeshCommand,
}

/// What `observer mesh` shows.
#[derive(Debug, Subcommand)]
pub enum MeshCommand {
    /// Show who talks to whom, with retries, and where the time of requests goes
    Edges(EndsArguments),
    /// Show what of mutual TLS is declared, and what was seen
    Mtls(EndsArguments),
    /// Show which servers could take mutual TLS only, and who still sends plaintext
    Readiness(ReadinessArguments),
    /// Show declared and observed shares of the backends of routes
    Split(HostArguments),
    /// Show the rules of routes, and how often they matched
    Routes(HostArguments),
    /// Show what policy says of requests, and what was done with them
    Authz(EndsArguments),
}

/// Where from, and in which form.
#[derive(Debug, Args)]
struct CommonArguments {
    #[command(flatten)]
    agents: AgentsArguments,
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    pub output: MeshOutput,
    /// Only what is about this namespace; commas separate several
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// Of what has a client and a server.
#[derive(Debug, Args)]
pub struct EndsArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Only with this workload at either end, as `cart` or `shop/cart`; commas separate several
    #[arg(long, value_name = "WORKLOAD")]
    workload: Option<String>,
}

/// Of readiness.
#[derive(Debug, Args)]
pub struct ReadinessArguments {
    #[command(flatten)]
    ends: EndsArguments,
    /// Judge by what was seen in this time, `1m` to `31d` [default: as configured]
    #[arg(long, value_name = "DURATION")]
    window: Option<String>,
}

/// Of routes.
#[derive(Debug, Args)]
pub struct HostArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Only routes of this host, as they name it or its first label; commas separate several
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

// === impl FindingsArguments ===

impl From<FindingsArguments> for findings::Options {
    fn from(arguments: FindingsArguments) -> Self {
        let FindingsArguments {
            agents,
            output,
            severity,
            id,
            namespace,
            workload,
            fail_on,
        } = arguments;
        Self {
            agents: agents.into(),
            output: output.into(),
            fail_on: fail_on.map(|severity| match severity {
                FailOn::Critical => findings::Severity::Critical,
                FailOn::High => findings::Severity::High,
                FailOn::Medium => findings::Severity::Medium,
                FailOn::Low => findings::Severity::Low,
                FailOn::Info => findings::Severity::Info,
            }),
            filters: vec![
                ("severity", severity),
                ("id", id),
                ("namespace", namespace),
                ("workload", workload),
            ],
        }
    }
}

// === impl AgentsArguments ===

impl From<AgentsArguments> for Agents {
    fn from(arguments: AgentsArguments) -> Self {
        let AgentsArguments { servers, all } = arguments;
        Self { servers, all }
    }
}

// === impl MeshOutput ===

impl From<MeshOutput> for mesh::Output {
    fn from(output: MeshOutput) -> Self {
        match output {
            MeshOutput::Table => Self::Table,
            MeshOutput::Wide => Self::Wide,
            MeshOutput::Json => Self::Json,
        }
    }
}

// === impl MeshArguments ===

impl From<MeshArguments> for mesh::Options {
    fn from(arguments: MeshArguments) -> Self {
        match arguments.command {
            MeshCommand::Edges(ends) => ends.of(mesh::View::Edges),
            MeshCommand::Mtls(ends) => ends.of(mesh::View::Mtls),
            MeshCommand::Authz(ends) => ends.of(mesh::View::Authz),
            MeshCommand::Readiness(ReadinessArguments { ends, window }) => {
                let mut options = ends.of(mesh::View::Readiness);
                options.filters.push(("window", window));
                options
            }
            MeshCommand::Split(host) => host.of(mesh::View::Split),
            MeshCommand::Routes(host) => host.of(mesh::View::Routes),
        }
    }
}

// === impl EndsArguments ===

impl EndsArguments {
    fn of(self, view: mesh::View) -> mesh::Options {
        self.common.of(view, ("workload", self.workload))
    }
}

// === impl HostArguments ===

impl HostArguments {
    fn of(self, view: mesh::View) -> mesh::Options {
        self.common.of(view, ("host", self.host))
    }
}

// === impl CommonArguments ===

impl CommonArguments {
    fn of(self, view: mesh::View, more: (&'static str, Option<String>)) -> mesh::Options {
        mesh::Options {
            agents: self.agents.into(),
            view,
            output: self.output.into(),
            filters: vec![("namespace", self.namespace), more],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::parse, *};
    use crate::cli::arguments::Command;

    #[test]
    fn findings_and_their_filters() {
        let line = "observer findings --server http://a:1 -o wide --severity high --id M01 \
                    --namespace a --workload b --fail-on medium";
        let Command::Findings(arguments) = parse(line).unwrap() else {
            panic!("not findings")
        };
        let own = |text: &str| Some(text.to_owned());
        let expected = findings::Options {
            agents: Agents {
                servers: vec!["http://a:1".to_owned()],
                all: false,
            },
            output: mesh::Output::Wide,
            fail_on: Some(findings::Severity::Medium),
            filters: vec![
                ("severity", own("high")),
                ("id", own("M01")),
                ("namespace", own("a")),
                ("workload", own("b")),
            ],
        };
        assert_eq!(findings::Options::from(*arguments), expected);
    }

    #[test]
    fn several_agents() {
        for (flags, servers, all) in [
            ("", &[DEFAULT_SERVER] as &[&str], false),
            ("--server a:1 --server b:2", &["a:1", "b:2"], false),
            ("--server a:1,b:2", &["a:1", "b:2"], false),
            ("--all --server a:1", &["a:1"], true),
        ] {
            let line = format!("observer mesh readiness {flags}");
            let Command::Mesh(arguments) = parse(&line).unwrap() else {
                panic!("not mesh")
            };
            let agents = mesh::Options::from(*arguments).agents;
            assert_eq!(
                (agents.servers.as_slice(), agents.all),
                (&*own(servers), all),
                "{line}"
            );
            let only = agents.only().is_some();
            assert_eq!(only, servers.len() == 1 && !all, "{line}");
        }
    }

    fn own(list: &[&str]) -> Vec<String> {
        list.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn tables_and_their_filters() {
        for (line, view, filters) in [
            (
                "mtls",
                mesh::View::Mtls,
                vec![("namespace", None), ("workload", None)],
            ),
            (
                "readiness --window 7d --namespace a",
                mesh::View::Readiness,
                vec![
                    ("namespace", Some("a")),
                    ("workload", None),
                    ("window", Some("7d")),
                ],
            ),
            (
                "split --host cart",
                mesh::View::Split,
                vec![("namespace", None), ("host", Some("cart"))],
            ),
            (
                "routes",
                mesh::View::Routes,
                vec![("namespace", None), ("host", None)],
            ),
            (
                "authz --workload a/b",
                mesh::View::Authz,
                vec![("namespace", None), ("workload", Some("a/b"))],
            ),
        ] {
            let Command::Mesh(arguments) = parse(&format!("observer mesh {line}")).unwrap() else {
                panic!("not mesh")
            };
            let options = mesh::Options::from(*arguments);
            let found: Vec<_> = options
                .filters
                .iter()
                .map(|(name, value)| (*name, value.as_deref()))
                .collect();
            assert_eq!((options.view, found), (view, filters), "{line}");
        }
        for line in ["", " mtls --window 7d", " split --workload a", " nothing"] {
            assert!(parse(&format!("observer mesh{line}")).is_err(), "{line}");
        }
        assert!(parse("observer findings --fail-on bad").is_err());
    }
}

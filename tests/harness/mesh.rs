//! Pods of service meshes: real proxies beside or below real applications, on the nodes of a
//! [`Site`], with the redirection, the certificates and the headers of each mesh.
//!
//! The control plane is the test: it says what each proxy is to do, and what the API says of that.
//! Where the two differ, the observer has something to find.
//!
//! ```text
//!   front (app) ─lo─ its proxy ─── mutual TLS ─── web's proxy ─lo─ web (app)
//!      :15001 / :4140        :15006 / :4143 / :15008
//! ```

pub mod ambient;
pub mod envoy;
pub mod gateway;
pub mod istio;
pub mod linkerd;
mod member;
pub mod traffic;
pub mod waypoint;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use ambient::Ztunnel;
pub use member::{Member, Spec};

use crate::{
    agent::Agent,
    apiserver::{self, definitions, double::Double, objects},
    certificates::{Authority, Pair},
    kubernetes::{self, Known, NAMESPACE, Site},
    node::{Backend, Cluster, Layout, Service},
    peers::Peer,
    place::Place,
    requirement::Need,
    server::Server,
};

/// What every test with a mesh needs.
pub const NEEDS: [Need; 7] = [
    Need::Observer,
    Need::Peer(Peer::Envoy),
    Need::Tool("nft"),
    Need::Tool("nginx"),
    Need::Tool("curl"),
    Need::Tool("openssl"),
    Need::Tool("setpriv"),
];

/// Trust domain of all identities.
pub const TRUST_DOMAIN: &str = "cluster.local";

/// What carries the traffic of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plane {
    /// Nothing: it is in no mesh.
    #[default]
    None,
    /// A sidecar as of Istio.
    Istio,
    /// A sidecar as of Linkerd.
    Linkerd,
    /// The proxy of its node, as of Istio's ambient mode.
    Ambient,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, and so gRPC.
    Http2,
    /// Anything else.
    Tcp,
}

/// Some of those who answer for a Service.
#[derive(Clone, Debug, Default)]
pub struct Subset {
    /// Name; empty for all of them.
    pub name: String,
    /// Its share, relative to that of the others.
    pub weight: u32,
    /// Sockets of the applications, and whether a proxy in front of each takes mutual TLS.
    pub endpoints: Vec<(SocketAddr, bool)>,
    /// The account that they run under: part of the identity that a client expects.
    pub account: String,
}

/// A Service as the proxies of clients know it.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Name, in the namespace of all.
    pub name: String,
    /// Its virtual address, and the port of it.
    pub address: Option<SocketAddr>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Who answers.
    pub subsets: Vec<Subset>,
    /// The subset that gets a copy of every request.
    pub mirror: Option<String>,
    /// The share of requests, in percent, that really are copied; all of them without.
    pub mirrored: Option<u32>,
    /// Status and share, in percent, of requests that the client's proxy answers by itself.
    pub fault: Option<(u16, u32)>,
    /// How long the client's proxy keeps every request.
    pub delay: Option<Duration>,
    /// Attempts after the first, of requests that were answered with 503.
    pub retries: u32,
    /// Only paths that begin so have a route; others are answered with 404.
    pub prefix: Option<String>,
    /// Most connections to each subset, and requests that wait for one.
    pub limit: Option<u32>,
    /// Failures in a row after which one of those who answer gets nothing for long.
    pub ejects: Option<u32>,
    /// The waypoint that the proxies of nodes send to instead.
    pub waypoint: Option<SocketAddr>,
}

/// What carries traffic; it ends when dropped.
#[derive(Debug)]
pub enum Carrier<'a> {
    /// A proxy that runs.
    Proxy(Server),
    /// The pod of those of a node.
    Node(Ztunnel<'a>),
}

/// Pods of meshes, and the authority that they trust.
pub struct Mesh<'a> {
    site: &'a Site<'a>,
    cluster: &'a Cluster,
    authority: Authority,
}

// === impl Target ===

impl Target {
    /// A Service with one kind of pods behind it.
    pub fn new(name: &str, address: SocketAddr, members: &[&Member<'_>]) -> Self {
        Self {
            name: name.to_owned(),
            address: Some(address),
            protocol: members
                .first()
                .map_or(Protocol::Http1, |member| member.serves),
            subsets: vec![Subset::new("", 1, members)],
            ..Self::default()
        }
    }

    /// Its virtual address, and the port of it.
    pub fn dialled(&self) -> Result<SocketAddr> {
        self.address.context("no address")
    }

    /// Its name in full.
    pub fn host(&self) -> String {
        format!("{}.{NAMESPACE}.svc.{TRUST_DOMAIN}", self.name)
    }
}

// === impl Subset ===

impl Subset {
    /// These pods, at the port that all applications listen on.
    pub fn new(name: &str, weight: u32, members: &[&Member<'_>]) -> Self {
        let endpoint = |member: &&Member<'_>| {
            let address = member.known.pod.at(kubernetes::PORT);
            (address, member.plane != Plane::None)
        };
        Self {
            name: name.to_owned(),
            weight,
            endpoints: members.iter().map(endpoint).collect(),
            account: (members.first()).map_or_else(String::new, |member| member.account.clone()),
        }
    }
}

// === impl Mesh ===

impl<'a> Mesh<'a> {
    /// A mesh without pods.
    pub fn new(site: &'a Site<'a>, cluster: &'a Cluster) -> Result<Self> {
        Ok(Self {
            site,
            cluster,
            authority: Authority::create()?,
        })
    }

    /// Where it is.
    pub fn site(&self) -> &'a Site<'a> {
        self.site
    }

    /// Runs a pod on node `number`, redirected as its plane does it, without any process in it.
    pub fn pod(&self, number: usize, spec: &Spec<'_>) -> Result<Member<'a>> {
        Member::start(self.site, number, spec)
    }

    /// Tells the API of Services, and lets every node's service proxy serve them: each with its
    /// port's name (which tells meshes the protocol) and those who answer.
    pub fn services(&self, services: &[(&Target, &str, &[&Member<'_>])]) -> Result<()> {
        let mut served = Vec::new();
        for (target, port_name, members) in services {
            let address = target.dialled()?;
            let mut object = objects::service(&target.name, &[address.port()]);
            object["spec"]["clusterIP"] = json!(address.ip());
            object["spec"]["ports"][0]["name"] = json!(port_name);
            // Gateways are for clients outside, and see who they are.
            let open = members.iter().any(|member| member.is_gateway);
            if open {
                object["spec"]["type"] = json!("NodePort");
                object["spec"]["externalTrafficPolicy"] = json!("Local");
                object["spec"]["ports"][0]["nodePort"] = json!(gateway::NODE_PORT);
            }
            let known: Vec<&Known<'_>> = members.iter().map(|member| &member.known).collect();
            self.site.service_named(object, port_name, &known)?;
            served.push(Service {
                addresses: vec![address.ip()],
                port: address.port(),
                node_port: open.then_some(gateway::NODE_PORT),
                local_only: open,
                backends: members
                    .iter()
                    .map(|member| Backend {
                        pod: &member.known.pod,
                        port: kubernetes::PORT,
                    })
                    .collect(),
            });
        }
        self.cluster.serve(&served)
    }

    /// An agent on node `number` that knows the cluster.
    pub fn agent(&self, number: usize) -> Result<Agent> {
        self.agent_with(number, "")
    }

    /// Starts what carries the traffic of these pods, all of which know these Services.
    pub fn carry(&self, members: &[&Member<'_>], targets: &[&Target]) -> Result<Vec<Carrier<'a>>> {
        let mut carriers = Vec::new();
        let mut nodes: BTreeMap<usize, Ztunnel<'a>> = BTreeMap::new();
        for member in members {
            let serves = member.serves;
            let server = match member.plane {
                Plane::None => continue,
                Plane::Istio => {
                    let sidecar = istio::Sidecar {
                        serves,
                        targets,
                        ..istio::Sidecar::default()
                    };
                    self.istio(member, &sidecar)?
                }
                Plane::Linkerd => {
                    let sidecar = linkerd::Sidecar {
                        serves,
                        targets,
                        ..linkerd::Sidecar::default()
                    };
                    self.linkerd(member, &sidecar)?
                }
                Plane::Ambient => {
                    let number = member.number;
                    let node = match nodes.entry(number) {
                        Entry::Occupied(node) => node.into_mut(),
                        Entry::Vacant(free) => free.insert(Ztunnel::start(self.site, number)?),
                    };
                    self.ambient(node, member, targets)?
                }
            };
            carriers.push(Carrier::Proxy(server));
        }
        // Their processes first: a pod kills those of its own.
        carriers.extend(nodes.into_values().map(Carrier::Node));
        Ok(carriers)
    }

    /// As [`Self::agent`], with further parts of its configuration.
    pub fn agent_with(&self, number: usize, configuration: &str) -> Result<Agent> {
        self.site.agent(number, &[], configuration)
    }

    /// A place whose address, 192.0.2.2, is none of the cluster's.
    pub fn outside(&self) -> Place<'a> {
        self.cluster.outside()
    }

    /// Gives the API the kinds of meshes and the namespaces of their control planes; the namespace of
    /// the pods is to be in the mesh if `injected`.
    pub fn install(&self, injected: bool) -> Result<()> {
        let api = self.site.api;
        definitions::define_all(api)?;
        for name in ["istio-system", "linkerd"] {
            api.create(&objects::namespace(name))?;
        }
        if injected {
            api.change(&objects::namespace(NAMESPACE), |object| {
                object["metadata"]["labels"]["istio-injection"] = json!("enabled");
            })?;
        }
        Ok(())
    }

    /// Creates objects of the API.
    pub fn declare(&self, objects: &[Value]) -> Result<()> {
        objects
            .iter()
            .try_for_each(|object| self.site.api.create(object).map(drop))
    }

    /// A certificate of an account, with these entries of `subjectAltName`.
    fn certificate(&self, account: &str, names: &[&str]) -> Result<Pair> {
        self.authority.sign(account, names)
    }

    /// The authority's own certificate.
    fn root(&self) -> Result<String> {
        std::fs::read_to_string(self.authority.certificate()).context("read a certificate")
    }

    /// Starts an Envoy with this configuration at `place`, as the user `id`, and waits until it
    /// listens on `port`.
    fn envoy(
        &self,
        place: &Place<'_>,
        id: Option<u32>,
        port: u16,
        configuration: &Value,
    ) -> Result<Server> {
        envoy::start(place, id, port, configuration)
    }
}

/// A cluster of `nodes` nodes, with the double of its API and a mesh without pods.
pub fn scene(label: &str, nodes: usize, work: impl FnOnce(&Mesh<'_>) -> Result<()>) -> Result<()> {
    let api = Double::start()?;
    scene_of(&api, label, nodes, work)
}

/// As [`scene`], of any API.
pub fn scene_of(
    api: &dyn apiserver::Cluster,
    label: &str,
    nodes: usize,
    work: impl FnOnce(&Mesh<'_>) -> Result<()>,
) -> Result<()> {
    let cluster = Cluster::create(label, &vec![Layout::Containerd; nodes])?;
    let site = Site::new(api, &cluster, nodes)?;
    work(&Mesh::new(&site, &cluster)?)
}

/// Ends agents that must have lost nothing.
pub fn finish(agents: impl IntoIterator<Item = Agent>) -> Result<()> {
    for agent in agents {
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

/// An address of the range of Services.
pub fn service_address(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 96, 0, last]), port)
}

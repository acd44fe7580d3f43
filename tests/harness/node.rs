//! Nodes of a Kubernetes cluster: their pods' networks and cgroups, and the service proxy.
//!
//! What a node's kernel has on a real cluster is real here too: a network namespace for each node
//! and pod, routes between them, the cgroups that a kubelet makes, and the rules of a service
//! proxy. No kubelet runs: pods begin and end when a test says so.
//!
//! ```text
//!   outside 192.0.2.2 ── fabric ─┬─ node 1: 172.30.1.1 ─┬─ pod 10.244.1.10
//!                                │                      └─ pod 10.244.1.11
//!                                └─ node 2: 172.30.2.1 ─── pod 10.244.2.10
//! ```

pub mod layout;
pub mod pod;
mod proxy;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::{Result, ensure};

pub use layout::{Layout, Quality};
pub use pod::{Pod, PodSpec};
pub use proxy::{Backend, Service};

use crate::{
    cgroup::Cgroup,
    namespace::{self, Namespace},
    place::Place,
};

/// Nodes, the network between them, and a place outside of the cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    outside: Namespace,
    outside_cgroup: Cgroup,
    /// Routes between the nodes and the outside; kept for its routes alone.
    _fabric: Namespace,
    cgroup: Cgroup,
}

/// A node: a network namespace, and a cgroup with all that a node's root cgroup has below it.
#[derive(Debug)]
pub struct Node {
    number: u8,
    layout: Layout,
    namespace: Namespace,
    /// Of processes that belong to the node itself.
    kubelet: Cgroup,
    cgroup: Cgroup,
    /// Last octet of the next pod's address.
    next: AtomicU8,
}

/// All pods of the cluster.
pub const POD_NETWORKS: [&str; 2] = ["10.244.0.0/16", "fd44::/16"];

/// Last octet of the first pod's address: lower ones are the node's.
const FIRST_POD: u8 = 10;
/// Last octet of the last pod's address.
const LAST_POD: u8 = 250;

/// Most nodes of a cluster, which the plan of addresses allows for.
const MOST_NODES: u8 = 9;

/// Lets `namespace` pass packets on.
fn forward(namespace: &Namespace) -> Result<()> {
    namespace.set("ipv4/ip_forward", "1")?;
    namespace.set("ipv6/conf/all/forwarding", "1")?;
    // Of what a proxy sends back over another device than its route's.
    namespace.set("ipv4/conf/all/rp_filter", "0")?;
    namespace.set("ipv4/conf/default/rp_filter", "0")
}

/// Adds a route of the family of `network`.
fn route(namespace: &Namespace, network: &str, way: &[&str]) -> Result<()> {
    let family = if network.contains(':') { "-6" } else { "-4" };
    let arguments = [&[family, "route", "add", network], way].concat();
    namespace.run("ip", &arguments).map(drop)
}

// === impl Cluster ===

impl Cluster {
    /// A cluster with a node for each of `layouts`, and no pods.
    pub fn create(label: &str, layouts: &[Layout]) -> Result<Self> {
        ensure!(
            layouts.len() <= usize::from(MOST_NODES),
            "a cluster has {MOST_NODES} nodes at most"
        );
        let cgroup = Cgroup::create(label)?;
        let fabric = Namespace::create("fabric")?;
        forward(&fabric)?;
        let outside = Namespace::create("outside")?;
        namespace::join(
            (&outside, &["192.0.2.2/24", "2001:db8::2/64"]),
            (&fabric, &["192.0.2.1/24", "2001:db8::1/64"]),
        )?;
        route(&outside, "0.0.0.0/0", &["via", "192.0.2.1"])?;
        route(&outside, "::/0", &["via", "2001:db8::1"])?;
        let mut nodes = Vec::new();
        for (number, layout) in (1..=MOST_NODES).zip(layouts) {
            nodes.push(Node::create(number, *layout, &cgroup, &fabric)?);
        }
        let cluster = Self {
            nodes,
            outside,
            outside_cgroup: cgroup.child("outside")?,
            _fabric: fabric,
            cgroup,
        };
        cluster.serve(&[])?;
        Ok(cluster)
    }

    /// Node `number`, counted from 1.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// A place whose address, 192.0.2.2, is none of the cluster's.
    pub fn outside(&self) -> Place<'_> {
        Place::inside(&self.outside_cgroup, &self.outside)
    }

    /// Its cgroup, with those of all nodes below.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Makes every node's proxy serve `services`, and no others.
    pub fn serve(&self, services: &[Service<'_>]) -> Result<()> {
        for node in &self.nodes {
            node.namespace.rules(&proxy::rules(node, services))?;
        }
        Ok(())
    }
}

// === impl Node ===

impl Node {
    fn create(number: u8, layout: Layout, root: &Cgroup, fabric: &Namespace) -> Result<Self> {
        let namespace = Namespace::create(&format!("node{number}"))?;
        forward(&namespace)?;
        let cgroup = root.child(&format!("node{number}"))?;
        let node = Self {
            number,
            layout,
            namespace,
            kubelet: cgroup.child(&layout.kubelet())?,
            cgroup,
            next: AtomicU8::new(FIRST_POD),
        };
        let ([v4, v6], namespace) = (node.addresses(), &node.namespace);
        let (near, far) = (
            [format!("{v4}/24"), format!("{v6}/64")],
            [
                format!("172.30.{number}.254/24"),
                format!("fd30:{number}::fe/64"),
            ],
        );
        let (device, _) = namespace::join(
            (namespace, &near.each_ref().map(String::as_str)),
            (fabric, &far.each_ref().map(String::as_str)),
        )?;
        for (network, gateway) in ["0.0.0.0/0", "::/0"].into_iter().zip(&far) {
            let gateway = gateway.split_once('/').map_or("", |(gateway, _)| gateway);
            route(namespace, network, &["via", gateway, "dev", &device])?;
        }
        for (network, address) in node.networks().iter().zip(node.addresses()) {
            route(fabric, network, &["via", &address.to_string()])?;
            // What no pod has must not go back to the fabric, which would return it.
            route_nowhere(namespace, network)?;
        }
        Ok(node)
    }

    /// Its name: `node1`, `node2`.
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// How its kubelet and its container runtime lay out cgroups.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Its addresses, of IPv4 and IPv6.
    pub fn addresses(&self) -> [IpAddr; 2] {
        let number = u16::from(self.number);
        [
            Ipv4Addr::new(172, 30, self.number, 1).into(),
            Ipv6Addr::new(0xfd30, number, 0, 0, 0, 0, 0, 1).into(),
        ]
    }

    /// The addresses of its pods, of IPv4 and IPv6.
    pub fn networks(&self) -> [String; 2] {
        let number = self.number;
        [
            format!("10.244.{number}.0/24"),
            format!("fd44:{number}::/64"),
        ]
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its root cgroup: what an agent on it observes.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// A place on the node itself, outside of every pod.
    pub fn place(&self) -> Place<'_> {
        Place::inside(&self.kubelet, &self.namespace)
    }

    /// The addresses of a pod by the last octet, or those of the node's end of a pod's link.
    fn pod_addresses(&self, octet: u8) -> [IpAddr; 2] {
        let (number, low) = (u16::from(self.number), u16::from(octet));
        [
            Ipv4Addr::new(10, 244, self.number, octet).into(),
            Ipv6Addr::new(0xfd44, number, 0, 0, 0, 0, 0, low).into(),
        ]
    }

    fn next_octet(&self) -> Result<u8> {
        let octet = self.next.fetch_add(1, Ordering::Relaxed);
        ensure!(
            (FIRST_POD..=LAST_POD).contains(&octet),
            "{} has no addresses left",
            self.name()
        );
        Ok(octet)
    }

    /// Path of its cgroup, for messages.
    fn path(&self) -> &Path {
        self.cgroup.path()
    }
}

fn route_nowhere(namespace: &Namespace, network: &str) -> Result<()> {
    let family = if network.contains(':') { "-6" } else { "-4" };
    let arguments = [family, "route", "add", "blackhole", network];
    namespace.run("ip", &arguments).map(drop)
}

//! Pods: containers that share a network.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};

use super::{Node, Quality, route};
use crate::{
    cgroup::Cgroup,
    namespace::{self, Namespace},
    place::Place,
    process,
};

/// What a pod is to be.
#[derive(Clone, Copy, Debug)]
pub struct PodSpec<'a> {
    /// Namespace of the API.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// Names of its containers.
    pub containers: &'a [&'a str],
    /// Quality of service.
    pub quality: Quality,
    /// It lives on its node's network.
    pub host_network: bool,
    /// It comes from a file of the node: its cgroups bear a hash, not the uid that the API gives
    /// to its mirror.
    pub is_static: bool,
    /// Last octet of its address; else one that no pod of the node had.
    pub octet: Option<u8>,
    /// The uid that the API gave it; else one of its own.
    pub uid: Option<&'a str>,
}

/// A running pod. When it is dropped, its processes are killed, and its address is free.
#[derive(Debug)]
pub struct Pod<'a> {
    node: &'a Node,
    namespace_name: String,
    name: String,
    uid: String,
    quality: Quality,
    containers: Vec<Container>,
    cgroup: Cgroup,
    network: Network,
}

/// A container of a pod.
#[derive(Debug)]
pub struct Container {
    name: String,
    id: String,
    cgroup: Cgroup,
}

#[derive(Debug)]
enum Network {
    /// The node's.
    Host,
    /// Its own, by a link whose end on the node has a name.
    Own {
        namespace: Namespace,
        link: String,
        addresses: [IpAddr; 2],
    },
}

/// Last octet of the node's end of every pod's link.
const GATEWAY: u8 = 1;

/// `digits` hexadecimal digits that no other call of this machine gives.
fn unique(digits: usize) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Looks like a hash; the process id and the number are all that makes it one of its own.
    let mut state = number << 32 | u64::from(std::process::id());
    let mut text = String::new();
    while text.len() < digits {
        // An odd factor: no two states give the same.
        let mixed = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        text.push_str(&format!("{:016x}", mixed ^ mixed >> 29));
        state = state.wrapping_add(1 << 48);
    }
    text.truncate(digits);
    text
}

/// As the API writes an uid (RFC 9562).
fn unique_uid() -> String {
    let digits = unique(32);
    let (parts, mut at) = ([8, 4, 4, 4, 12], 0);
    let parts = parts.map(|length| {
        at += length;
        &digits[at - length..at]
    });
    parts.join("-")
}

// === impl PodSpec ===

impl<'a> PodSpec<'a> {
    /// An ordinary pod of one container, `app`.
    pub fn new(namespace: &'a str, name: &'a str) -> Self {
        Self {
            namespace,
            name,
            containers: &["app"],
            quality: Quality::default(),
            host_network: false,
            is_static: false,
            octet: None,
            uid: None,
        }
    }
}

// === impl Node ===

impl Node {
    /// Starts a pod here, without any process in it.
    pub fn pod(&self, spec: PodSpec<'_>) -> Result<Pod<'_>> {
        self.start(spec)
            .with_context(|| format!("start pod {} below {}", spec.name, self.path().display()))
    }

    fn start(&self, spec: PodSpec<'_>) -> Result<Pod<'_>> {
        let uid = match spec.uid {
            Some(uid) => uid.to_owned(),
            None if spec.is_static => unique(32),
            None => unique_uid(),
        };
        let path = self.layout.pod(spec.quality, &uid);
        let cgroup = self.cgroup.child(&path)?;
        let containers = spec.containers.iter().map(|name| {
            let id = unique(64);
            Ok(Container {
                name: (*name).to_owned(),
                cgroup: cgroup.child(&self.layout.container(&id))?,
                id,
            })
        });
        let containers = containers.collect::<Result<_>>()?;
        let network = match spec.host_network {
            true => Network::Host,
            false => {
                let octet = spec.octet.map_or_else(|| self.next_octet(), Ok)?;
                self.connect(octet)?
            }
        };
        Ok(Pod {
            node: self,
            namespace_name: spec.namespace.to_owned(),
            name: spec.name.to_owned(),
            uid,
            quality: spec.quality,
            containers,
            cgroup,
            network,
        })
    }

    /// A network for a pod: a link to the node, which is the pod's only neighbour.
    fn connect(&self, octet: u8) -> Result<Network> {
        let namespace = Namespace::create("pod")?;
        let link = format!("veth{octet}");
        process::check(Command::new("ip").args([
            "link",
            "add",
            &link,
            "netns",
            self.namespace.name(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            namespace.name(),
        ]))?;
        let (addresses, gateways) = (self.pod_addresses(octet), self.pod_addresses(GATEWAY));
        let alone = |ends: [IpAddr; 2]| {
            ends.map(|end| format!("{end}/{}", if end.is_ipv4() { 32 } else { 128 }))
        };
        let (near, far) = (alone(gateways), alone(addresses));
        self.namespace
            .bring_up(&link, &near.each_ref().map(String::as_str))?;
        namespace.bring_up("eth0", &far.each_ref().map(String::as_str))?;
        for (all, (gateway, (near, far))) in ["0.0.0.0/0", "::/0"]
            .into_iter()
            .zip(gateways.into_iter().zip(near.iter().zip(&far)))
        {
            route(&namespace, near, &["dev", "eth0"])?;
            route(
                &namespace,
                all,
                &["via", &gateway.to_string(), "dev", "eth0"],
            )?;
            route(&self.namespace, far, &["dev", &link])?;
        }
        for gateway in gateways {
            namespace::await_path(&namespace, gateway)?;
        }
        Ok(Network::Own {
            namespace,
            link,
            addresses,
        })
    }
}

// === impl Pod ===

impl Pod<'_> {
    /// Its namespace in the API.
    pub fn namespace(&self) -> &str {
        &self.namespace_name
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its uid as its cgroups bear it: of a static pod a hash.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Its quality of service.
    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// Where it runs.
    pub fn node(&self) -> &Node {
        self.node
    }

    /// Whether it lives on its node's network.
    pub fn is_host_network(&self) -> bool {
        matches!(self.network, Network::Host)
    }

    /// Its addresses, of IPv4 and IPv6.
    pub fn addresses(&self) -> [IpAddr; 2] {
        match &self.network {
            Network::Host => self.node.addresses(),
            Network::Own { addresses, .. } => *addresses,
        }
    }

    /// `port` of its IPv4 address.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses()[0], port)
    }

    /// Its containers.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// A place in container `name`.
    pub fn container(&self, name: &str) -> Result<Place<'_>> {
        let container = self.containers.iter().find(|found| found.name == name);
        let container = container.with_context(|| format!("no container {name} in {self:?}"))?;
        let namespace = match &self.network {
            Network::Host => &self.node.namespace,
            Network::Own { namespace, .. } => namespace,
        };
        Ok(Place::inside(&container.cgroup, namespace))
    }

    /// Starts container `name` anew: its processes are killed, and it has a new id.
    pub fn restart(&mut self, name: &str) -> Result<()> {
        let containers = &mut self.containers;
        let place = containers.iter().position(|found| found.name == name);
        let place = place.with_context(|| format!("no container {name}"))?;
        let id = unique(64);
        let cgroup = self.cgroup.child(&self.node.layout.container(&id))?;
        containers[place] = Container {
            name: name.to_owned(),
            id,
            cgroup,
        };
        Ok(())
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if let Network::Own { link, .. } = &self.network {
            // The kernel tidies a namespace up later; a pod with the same address may come at once.
            let deleted = self.node.namespace.run("ip", &["link", "del", link]);
            if let Err(error) = deleted {
                eprintln!("link {link} stays: {error:#}");
            }
        }
    }
}

// === impl Container ===

impl Container {
    /// Its name in the pod.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }
}

//! A service proxy by nftables, with the rules that kube-proxy's mode `nftables` makes.

use std::{fmt::Write, net::IpAddr};

use super::{Node, POD_NETWORKS, Pod};

/// A service.
#[derive(Clone, Debug)]
pub struct Service<'a> {
    /// Its virtual addresses, of one family or two.
    pub addresses: Vec<IpAddr>,
    /// Its port, of TCP and UDP.
    pub port: u16,
    /// A port of every node that leads to it too.
    pub node_port: Option<u16>,
    /// `externalTrafficPolicy: Local`: a node passes on to its own pods only, and callers from
    /// outside keep their addresses.
    pub local_only: bool,
    /// Who answers, each as likely.
    pub backends: Vec<Backend<'a>>,
}

/// One of those who answer for a service.
#[derive(Clone, Copy, Debug)]
pub struct Backend<'a> {
    /// Which pod.
    pub pod: &'a Pod<'a>,
    /// The port that it listens on.
    pub port: u16,
}

/// What differs between the two families.
struct Family {
    /// As tables and expressions name it.
    name: &'static str,
    /// Position in arrays of addresses of both.
    place: usize,
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "ip",
        place: 0,
    },
    Family {
        name: "ip6",
        place: 1,
    },
];

/// The ruleset of `node`, for nft(8): it takes the place of the one before in one step.
pub(super) fn rules(node: &Node, services: &[Service<'_>]) -> String {
    FAMILIES
        .iter()
        .map(|family| family.table(node, services))
        .collect()
}

// === impl Family ===

impl Family {
    fn table(&self, node: &Node, services: &[Service<'_>]) -> String {
        let (name, pods) = (self.name, POD_NETWORKS[self.place]);
        // Masqueraded is what was marked for it, and what leaves the pods' network.
        let mut text = format!(
            "table {name} kube-proxy {{}};\ndelete table {name} kube-proxy;\n\
             table {name} kube-proxy {{\n\
             chain prerouting {{ type nat hook prerouting priority -100; jump services; }};\n\
             chain output {{ type nat hook output priority -100; jump services; }};\n\
             chain postrouting {{ type nat hook postrouting priority 100;\n\
             meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random;\n\
             {name} saddr {pods} {name} daddr != {pods} masquerade fully-random; }};\n\
             chain marking {{ meta mark set meta mark | 0x4000; }};\n"
        );
        let mut entrance = String::from("chain services {\n");
        for (number, service) in services.iter().enumerate() {
            self.service(&mut text, &mut entrance, number, node, service);
        }
        text.push_str(&entrance);
        text.push_str("};\n};\n");
        text
    }

    /// Writes the chains of a service, and into `entrance` what leads there.
    fn service(
        &self,
        text: &mut String,
        entrance: &mut String,
        number: usize,
        node: &Node,
        service: &Service<'_>,
    ) {
        let (name, pods) = (self.name, POD_NETWORKS[self.place]);
        let own = |address: &&IpAddr| address.is_ipv4() == (self.place == 0);
        let Some(address) = service.addresses.iter().find(own) else {
            return;
        };
        let port = service.port;
        let mut put = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        for (place, backend) in service.backends.iter().enumerate() {
            let ip = backend.pod.addresses()[self.place];
            let target = std::net::SocketAddr::new(ip, backend.port);
            // Who is answered by itself must not see its own address as its peer's.
            put(format!(
                "chain endpoint-{number}-{place} {{ {name} saddr {ip} jump marking; \
                 meta l4proto tcp dnat to {target}; meta l4proto udp dnat to {target}; }};"
            ));
        }
        let all: Vec<usize> = (0..service.backends.len()).collect();
        let near: Vec<usize> = (all.iter().copied())
            .filter(|place| std::ptr::eq(service.backends[*place].pod.node(), node))
            .collect();
        put(format!(
            "chain service-{number} {{ {name} saddr != {pods} {name} daddr {address} jump marking; {} }};",
            choice(number, &all)
        ));
        let _ = writeln!(
            entrance,
            "{name} daddr {address} meta l4proto {{ tcp, udp }} th dport {port} goto service-{number};"
        );
        let Some(node_port) = service.node_port else {
            return;
        };
        put(match service.local_only {
            false => {
                format!("chain external-{number} {{ jump marking; goto service-{number}; }};")
            }
            true => format!(
                "chain external-{number} {{ {name} saddr {pods} goto service-{number}; \
                 fib saddr type local jump marking; fib saddr type local goto service-{number}; {} }};",
                choice(number, &near)
            ),
        });
        let ip = node.addresses()[self.place];
        let _ = writeln!(
            entrance,
            "{name} daddr {ip} meta l4proto {{ tcp, udp }} th dport {node_port} goto external-{number};"
        );
    }
}

/// One of the endpoints of service `number` at these places, each as likely.
fn choice(number: usize, places: &[usize]) -> String {
    let count = places.len();
    let targets: Vec<String> = (places.iter().enumerate())
        .map(|(index, place)| format!("{index} : goto endpoint-{number}-{place}"))
        .collect();
    match count {
        0 => "drop;".to_owned(),
        _ => format!(
            "numgen random mod {count} vmap {{ {} }};",
            targets.join(", ")
        ),
    }
}

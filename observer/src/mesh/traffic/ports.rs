//! What ports are declared to speak, and what they speak.

use super::{answers::Answers, evidence::Evidence, party::Who, places::Places, routes::Judge};
use crate::{
    mesh::{
        decision::Reason,
        findings::{Findings, Id, Key, Saying},
    },
    model::{
        kubernetes::Pod,
        mesh::Plane,
        policy::{PortFacts, ServiceFacts, find},
        time::Monotonic,
    },
};

/// Annotation of ports whose traffic Linkerd takes for bytes.
const OPAQUE: &str = "config.linkerd.io/opaque-ports";
/// Ports that it takes so by default.
const OPAQUE_PORTS: [u16; 8] = [25, 587, 3_306, 4_444, 5_432, 6_379, 9_300, 11_211];
/// Protocols whose server speaks first, so that a proxy that waits for the client waits in vain.
const SERVER_FIRST: [&str; 6] = ["mysql", "smtp", "ftp", "pop3", "imap", "ssh"];

/// A server's port: of a Service, or of a workload.
pub(super) type PortKey = (Who, u16);

/// What was seen of it.
#[derive(Debug, Default)]
pub(super) struct Port {
    /// Last connection.
    pub(super) last: Monotonic,
    /// Connections whose protocol is known.
    connections: u64,
    wrong: Evidence,
    why: String,
}

/// Ports.
pub(super) type Ports = Places<PortKey, Port>;

/// What a port is declared to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP of any version.
    Http,
    /// TLS, which is passed on.
    Tls,
    /// Bytes.
    Bytes,
    /// It is left to the proxy to find out.
    Anything,
}

/// What a port is declared to speak to the proxies of a mesh.
pub(super) fn declared(
    answers: &impl Answers,
    plane: Plane,
    service: &ServiceFacts,
    port: &PortFacts,
    pod: Option<&Pod>,
) -> Speaks {
    match plane {
        Plane::Linkerd => linkerd(answers, service, port, pod),
        _ => match named(&port.app_protocol, &port.name) {
            Some(speaks) => speaks,
            None => Speaks::Anything,
        },
    }
}

fn named(app_protocol: &str, name: &str) -> Option<Speaks> {
    let prefix = name.split('-').next().unwrap_or_default();
    let word = match app_protocol.is_empty() {
        true => prefix,
        false => app_protocol,
    };
    match word.to_ascii_lowercase().as_str() {
        "http" | "http2" | "grpc" | "kubernetes.io/h2c" | "kubernetes.io/ws" => Some(Speaks::Http),
        "https" | "tls" | "kubernetes.io/wss" => Some(Speaks::Tls),
        "tcp" | "mongo" | "mysql" | "redis" => Some(Speaks::Bytes),
        _ => None,
    }
}

fn linkerd(
    answers: &impl Answers,
    service: &ServiceFacts,
    port: &PortFacts,
    pod: Option<&Pod>,
) -> Speaks {
    if port.app_protocol.eq_ignore_ascii_case("linkerd.io/opaque") {
        return Speaks::Bytes;
    }
    let target = super::ends::target(port, pod);
    let of_pod = pod.and_then(|pod| pod.traits.annotation(OPAQUE));
    let annotation = of_pod
        .or_else(|| find(&service.annotations, OPAQUE))
        .or_else(|| answers.namespace_annotation(&service.namespace, OPAQUE));
    let opaque = match annotation {
        Some(list) => has_port(list, port.port) || has_port(list, target),
        None => OPAQUE_PORTS.contains(&target),
    };
    match opaque {
        true => Speaks::Bytes,
        false => Speaks::Anything,
    }
}

/// Whether a list `25,3306,8000-8010` has a port.
fn has_port(list: &str, port: u16) -> bool {
    port != 0
        && list.split(',').map(str::trim).any(|entry| {
            let (from, to) = entry.split_once('-').unwrap_or((entry, entry));
            let within = |from: u16, to: u16| (from..=to).contains(&port);
            match (from.parse(), to.parse()) {
                (Ok(from), Ok(to)) => within(from, to),
                _ => false,
            }
        })
}

/// What is wrong with a protocol at a port; `None` when nothing is.
pub(super) fn wrong(speaks: Speaks, protocol: &str) -> Option<&'static str> {
    let http = matches!(protocol, "http/1" | "http/2");
    let tls = matches!(protocol, "tls");
    match speaks {
        Speaks::Http if tls => {
            Some("it is declared to speak HTTP, and TLS that is the application's own is not taken")
        }
        Speaks::Http if !http => Some("it is declared to speak HTTP"),
        Speaks::Tls if !tls => Some("it is declared to speak TLS"),
        Speaks::Bytes if http => {
            Some("it is declared to be bytes: requests are neither routed nor counted")
        }
        Speaks::Anything if SERVER_FIRST.contains(&protocol) => Some(
            "its server speaks first, and a proxy waits in vain for the client to tell the protocol",
        ),
        _ => None,
    }
}

// === impl Port ===

impl Port {
    /// Takes a connection. Where to put what shows that it is wrong; `None` when it is not.
    pub(super) fn take(
        &mut self,
        speaks: Speaks,
        protocol: &str,
        now: Monotonic,
    ) -> Option<&mut Evidence> {
        self.last = now;
        self.connections += 1;
        let why = wrong(speaks, protocol)?;
        self.why = format!("speaks {protocol}: {why}");
        Some(&mut self.wrong)
    }

    fn judge(&self, into: &mut Findings, judge: Judge, (who, port): &PortKey) {
        // A port may serve several protocols; it is called wrong by what most connections are.
        let most = self.wrong.count.saturating_mul(2) > self.connections;
        if !most
            || self.wrong.count < judge.minimum
            || !self.wrong.is_fresh(judge.now, judge.window)
        {
            return;
        }
        let key = Key {
            id: Id::M29,
            workload: who.party().clone(),
            peer: None,
            port: *port,
            about: "".into(),
        };
        let saying = Saying {
            summary: format!("Port {port} of {} {}.", who.words(), self.why),
            because: vec![Reason::plain("first bytes of connections")],
            severity: None,
        };
        self.wrong.raise(into, key, saying);
    }
}

/// What is not as declared.
pub(super) fn judge(ports: &Ports, into: &mut Findings, judge: Judge) {
    for (key, port) in ports.iter() {
        port.judge(into, judge, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_protocols_say_what_is_spoken() {
        for (app_protocol, name, expected) in [
            ("", "http", Some(Speaks::Http)),
            ("", "http-web", Some(Speaks::Http)),
            ("", "grpc-api", Some(Speaks::Http)),
            ("", "https", Some(Speaks::Tls)),
            ("", "tcp-db", Some(Speaks::Bytes)),
            ("", "web", None),
            ("", "httpx", None),
            ("", "", None),
            ("kubernetes.io/h2c", "tcp", Some(Speaks::Http)),
            ("tcp", "http", Some(Speaks::Bytes)),
            ("example.com/own", "http", None),
        ] {
            assert_eq!(named(app_protocol, name), expected, "{app_protocol} {name}");
        }
    }

    #[test]
    fn what_is_spoken_is_held_against_it() {
        for (speaks, protocol, is_wrong) in [
            (Speaks::Http, "http/1", false),
            (Speaks::Http, "http/2", false),
            (Speaks::Http, "tls", true),
            (Speaks::Http, "redis", true),
            (Speaks::Tls, "tls", false),
            (Speaks::Tls, "http/1", true),
            (Speaks::Bytes, "http/1", true),
            (Speaks::Bytes, "redis", false),
            (Speaks::Bytes, "tls", false),
            (Speaks::Anything, "http/1", false),
            (Speaks::Anything, "mysql", true),
            (Speaks::Anything, "tls", false),
        ] {
            assert_eq!(
                wrong(speaks, protocol).is_some(),
                is_wrong,
                "{speaks:?} {protocol}"
            );
        }
    }

    #[test]
    fn lists_have_ports_and_ranges() {
        let list = "25, 3306,8000-8010,x,9-";
        for (port, expected) in [
            (25, true),
            (3306, true),
            (8005, true),
            (8011, false),
            (0, false),
        ] {
            assert_eq!(has_port(list, port), expected, "{port}");
        }
    }
}

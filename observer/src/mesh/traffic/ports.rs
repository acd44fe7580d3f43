//! What ports are declared to speak, and what they speak.

use super::{evidence::Evidence, party::Who, places::Places, routes::Judge};
use crate::{
    mesh::{
        decision::{Decision, Reason},
        findings::{Findings, Id, Key, Saying},
        linkerd::Protocol,
    },
    model::{
        policy::{PortFacts, ServiceFacts},
        time::Monotonic,
    },
};

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
    because: Vec<Reason>,
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

/// What a port is declared to speak to Istio's proxies.
pub(super) fn declared(service: &ServiceFacts, port: &PortFacts) -> Decision<Speaks> {
    let speaks = named(&port.app_protocol, &port.name).unwrap_or(Speaks::Anything);
    let text = match (&*port.app_protocol, &*port.name) {
        ("", "") => format!(
            "port {} of Service {}/{} has no name",
            port.port, service.namespace, service.name
        ),
        ("", name) => format!(
            "Service {}/{} names port {} {name}",
            service.namespace, service.name, port.port
        ),
        (protocol, _) => format!(
            "Service {}/{} says that port {} speaks {protocol}",
            service.namespace, service.name, port.port
        ),
    };
    Decision::by(speaks, Reason::plain(text))
}

/// What a port is declared to speak to Linkerd's proxies.
pub(super) fn read_as(protocol: Decision<Protocol>) -> Decision<Speaks> {
    let value = match protocol.value {
        Protocol::Detect => Speaks::Anything,
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => Speaks::Http,
        Protocol::Opaque => Speaks::Bytes,
        Protocol::Tls => Speaks::Tls,
    };
    Decision {
        value,
        because: protocol.because,
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
        speaks: &Decision<Speaks>,
        protocol: &str,
        now: Monotonic,
    ) -> Option<&mut Evidence> {
        self.last = now;
        self.connections += 1;
        let why = wrong(speaks.value, protocol)?;
        self.why = format!("speaks {protocol}: {why}");
        speaks.because.clone_into(&mut self.because);
        Some(self.wrong.of(self.connections))
    }

    fn judge(&self, into: &mut Findings, judge: Judge, (who, port): &PortKey) {
        // A port may serve several protocols; it is called wrong by what most connections are.
        let most = self.wrong.count.saturating_mul(2) > self.connections;
        if !most || self.wrong.count < judge.minimum || !self.wrong.stands(judge, self.connections)
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
            because: self.because.clone(),
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
}

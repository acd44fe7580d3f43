//! Lines of lookups and of datagrams.

use serde::Serialize;

use super::{Place, Who, place_of, timestamp, who_of};
use crate::model::{
    connection::Role,
    datagram::{Conversation, version_name},
    lookup::{Answer, Resolution, Target, code_name, type_name},
    time::WallOffset,
};

/// One lookup of DNS.
#[derive(Clone, Debug, Serialize)]
pub struct LookupLine<'a> {
    /// `lookup`.
    pub kind: &'static str,
    /// When the question passed the socket first.
    pub time: String,
    /// Which end was observed: `client` asked, `server` answered.
    pub side: &'static str,
    /// `dns`.
    pub protocol: &'static str,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// Whose socket it is, and who is at the other end.
    #[serde(flatten)]
    pub who: Who<'a>,
    /// Name that was asked for, lower case.
    pub name: &'a str,
    /// Type that was asked for: `A`, `AAAA`, `TYPE123`.
    #[serde(rename = "type")]
    pub question_type: String,
    /// Class that was asked for; 1 is the Internet.
    pub class: u16,
    /// `answered`, `truncated`, `timeout`, `superseded` (another server was faster), `aborted`.
    pub outcome: &'static str,
    /// Response code: `NOERROR`, `NXDOMAIN`; `other` for rare ones; `null` without a response.
    pub code: Option<&'static str>,
    /// Response code as a number.
    pub code_number: Option<u16>,
    /// `error.type`; `null` when the lookup did not fail.
    pub error: Option<&'static str>,
    /// First question to response, or to the end of waiting, seconds.
    pub duration_seconds: f64,
    /// How often the question was sent again.
    pub retries: u32,
    /// Addresses and aliases of the response, the first 16.
    pub answers: Vec<AnswerLine>,
    /// Over which socket.
    #[serde(flatten)]
    pub place: Place<'a>,
}

/// One record of a response; part of [`LookupLine`].
#[derive(Clone, Debug, Serialize)]
pub struct AnswerLine {
    /// Whose record it is.
    pub name: Box<str>,
    /// `A`, `AAAA` or `CNAME`.
    #[serde(rename = "type")]
    pub record_type: &'static str,
    /// Address, or the name that it is an alias of.
    pub value: String,
    /// Seconds that it may be remembered.
    pub ttl: u32,
}

/// What passed between a UDP socket and a peer, when nothing has passed for long.
#[derive(Clone, Debug, Serialize)]
pub struct DatagramsLine<'a> {
    /// `datagrams`.
    pub kind: &'static str,
    /// When the first datagram passed the socket.
    pub time: String,
    /// Which end was observed, where the protocol tells; else `unknown`.
    pub side: &'static str,
    /// `quic` or `udp`.
    pub protocol: &'static str,
    /// Whose socket it is, and who is at the other end.
    #[serde(flatten)]
    pub who: Who<'a>,
    /// First datagram to last, seconds.
    pub duration_seconds: f64,
    /// Payload bytes sent.
    pub sent_bytes: u64,
    /// Payload bytes received.
    pub received_bytes: u64,
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Datagrams received.
    pub received_packets: u64,
    /// Version of QUIC: `1`, `2`, `draft-29`, or its number.
    pub version: Option<String>,
    /// Name that the client asked for in its first packet.
    pub server_name: Option<&'a str>,
    /// Application protocols that the client offered in its first packet.
    pub alpn: Option<Vec<&'a str>>,
    /// JA4 fingerprint of the client.
    pub ja4: Option<&'a str>,
    /// Over which socket.
    #[serde(flatten)]
    pub place: Place<'a>,
}

pub(super) fn lookup(resolution: &Resolution, offset: WallOffset) -> LookupLine<'_> {
    let Resolution {
        lookup,
        workload,
        peer,
        dialled,
    } = resolution;
    LookupLine {
        kind: "lookup",
        time: timestamp(offset, lookup.sent),
        side: lookup.role.as_str(),
        protocol: "dns",
        transport: lookup.transport.as_str(),
        who: who_of(
            workload,
            (peer, lookup.remote),
            dialled.as_deref(),
            lookup.role,
        ),
        name: &lookup.name,
        question_type: type_name(lookup.kind).into_owned(),
        class: lookup.class,
        outcome: lookup.outcome.as_str(),
        code: lookup.code.map(code_name),
        code_number: lookup.code,
        error: lookup.error(),
        duration_seconds: lookup.duration().as_secs_f64(),
        retries: lookup.retries,
        answers: lookup.answers.iter().map(answer).collect(),
        place: place_of(
            (lookup.local, lookup.remote),
            &lookup.owner,
            workload,
            lookup.socket,
        ),
    }
}

pub(super) fn datagrams(conversation: &Conversation, offset: WallOffset) -> DatagramsLine<'_> {
    let Conversation {
        datagrams,
        workload,
        peer,
        dialled,
    } = conversation;
    let quic = datagrams.quic.as_deref();
    let handshake = quic.and_then(|quic| quic.handshake.as_deref());
    // A peer's port is told where it may be what was dialled.
    let side = datagrams.role();
    let shown = match side {
        Role::Server => Role::Server,
        Role::Client | Role::Unknown => Role::Client,
    };
    DatagramsLine {
        kind: "datagrams",
        time: timestamp(offset, datagrams.started),
        side: side.as_str(),
        protocol: datagrams.protocol.as_str(),
        who: who_of(
            workload,
            (peer, datagrams.remote),
            dialled.as_deref(),
            shown,
        ),
        duration_seconds: datagrams.duration().as_secs_f64(),
        sent_bytes: datagrams.total.sent_bytes,
        received_bytes: datagrams.total.received_bytes,
        sent_packets: datagrams.total.sent_packets,
        received_packets: datagrams.total.received_packets,
        version: quic.map(|quic| version_name(quic.version).into_owned()),
        server_name: handshake.and_then(|handshake| handshake.server_name.as_deref()),
        alpn: handshake
            .map(|handshake| handshake.alpn_offered.iter().map(|name| &**name).collect()),
        ja4: handshake.and_then(|handshake| handshake.ja4.as_deref()),
        place: place_of(
            (datagrams.local, datagrams.remote),
            &datagrams.owner,
            workload,
            datagrams.socket,
        ),
    }
}

fn answer(answer: &Answer) -> AnswerLine {
    let (record_type, value) = match &answer.target {
        Target::Address(address) if address.is_ipv4() => ("A", address.to_string()),
        Target::Address(address) => ("AAAA", address.to_string()),
        Target::Alias(name) => ("CNAME", name.to_string()),
    };
    AnswerLine {
        name: answer.name.clone(),
        record_type,
        value,
        ttl: answer.ttl,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{json, to_value};

    use super::{super::tests::elsewhere, *};
    use crate::{
        aggregate::fixture,
        model::{datagram::Quic, lookup::LookupOutcome, security::Handshake},
    };

    const OFFSET: WallOffset = WallOffset {
        nanoseconds: 1_700_000_000_000_000_000,
    };

    #[test]
    fn a_lookup_in_full() {
        let mut found = fixture::resolution(Role::Client, LookupOutcome::Answered, Some(0));
        found.lookup.answers = [
            Answer {
                name: "db.shop".into(),
                ttl: 30,
                target: Target::Alias("db-0.shop".into()),
            },
            Answer {
                name: "db-0.shop".into(),
                ttl: 5,
                target: Target::Address("2001:db8::1".parse().unwrap()),
            },
        ]
        .into();
        let mut expected = json!({
            "kind": "lookup", "time": "2023-11-14T22:13:20.000000000Z", "side": "client",
            "protocol": "dns", "transport": "udp", "service": "web", "service_namespace": "shop",
            "peer": "10.96.0.10:53", "peer_service": null, "name": "db.shop", "type": "AAAA",
            "class": 1, "outcome": "answered", "code": "NOERROR", "code_number": 0, "error": null,
            "duration_seconds": 0.002, "retries": 1,
            "answers": [
                {"name": "db.shop", "type": "CNAME", "value": "db-0.shop", "ttl": 30},
                {"name": "db-0.shop", "type": "AAAA", "value": "2001:db8::1", "ttl": 5},
            ],
            "local": "10.0.0.1:40000", "remote": "10.96.0.10:53", "wire_local": null,
            "wire_remote": null, "pid": 4242, "command": "web", "executable": "/usr/bin/web",
            "container": null, "unit": "web.service", "cgroup": "/system.slice/web.service",
            "connection": "0000000000000001"
        });
        expected = elsewhere(expected, "address");
        assert_eq!(to_value(lookup(&found, OFFSET)).unwrap(), expected);
        let lost = fixture::resolution(Role::Client, LookupOutcome::Timeout, None);
        expected["outcome"] = "timeout".into();
        expected["error"] = "timeout".into();
        expected["answers"] = json!([]);
        for key in ["code", "code_number"] {
            expected[key] = json!(null);
        }
        assert_eq!(to_value(lookup(&lost, OFFSET)).unwrap(), expected);
    }

    #[test]
    fn datagrams_in_full() {
        let mut found =
            fixture::conversation("192.0.2.1:443", "10.0.0.1:40000", Some(Role::Client));
        found.datagrams.quic = Some(Arc::new(Quic {
            version: 1,
            role: Role::Client,
            handshake: Some(Arc::new(Handshake {
                server_name: Some("shop.example".into()),
                alpn_offered: ["h3".into()].into(),
                ja4: Some("q13d0310h3_a_b".into()),
                ..Handshake::default()
            })),
        }));
        let mut expected = json!({
            "kind": "datagrams", "time": "2023-11-14T22:13:20.000000000Z", "side": "client",
            "protocol": "quic", "service": "web", "service_namespace": "shop",
            "peer": "cdn.example:443", "peer_service": null, "duration_seconds": 1.0,
            "sent_bytes": 100, "received_bytes": 200, "sent_packets": 1, "received_packets": 2,
            "version": "1", "server_name": "shop.example", "alpn": ["h3"], "ja4": "q13d0310h3_a_b",
            "local": "10.0.0.1:40000", "remote": "192.0.2.1:443", "wire_local": null,
            "wire_remote": null, "pid": 4242, "command": "web", "executable": "/usr/bin/web",
            "container": null, "unit": "web.service", "cgroup": "/system.slice/web.service",
            "connection": "0000000000000001"
        });
        expected = elsewhere(expected, "name");
        assert_eq!(to_value(datagrams(&found, OFFSET)).unwrap(), expected);
        let plain = fixture::conversation("192.0.2.1:443", "10.0.0.1:40000", None);
        for key in ["version", "server_name", "alpn", "ja4"] {
            expected[key] = json!(null);
        }
        expected["protocol"] = "udp".into();
        expected["side"] = "unknown".into();
        assert_eq!(to_value(datagrams(&plain, OFFSET)).unwrap(), expected);
    }
}

//! Tests of flows of datagrams: what is told as change, what is over, what is lost.

use super::*;
use crate::{
    assemble::{Instruction, dns},
    model::{
        connection::ConnectionEvent,
        exchange::Exchange,
        lookup::{Lookup, LookupOutcome},
    },
};

#[derive(Default)]
struct Seen {
    lookups: Vec<Lookup>,
    datagrams: Vec<Datagrams>,
}

impl Sink for Seen {
    fn connection(&mut self, _: ConnectionEvent) {}

    fn exchange(&mut self, _: Exchange) {}

    fn lookup(&mut self, lookup: Lookup) {
        self.lookups.push(lookup);
    }

    fn datagrams(&mut self, datagrams: Datagrams) {
        self.datagrams.push(datagrams);
    }

    fn instruct(&mut self, _: u32, _: ConnectionId, _: Instruction) {}
}

fn at(milliseconds: u64) -> Monotonic {
    Monotonic(milliseconds * 1_000_000)
}

fn remote() -> SocketAddr {
    "192.0.2.1:443".parse().unwrap()
}

/// Totals of a socket that sent so many datagrams of ten bytes, and received as many of twenty.
fn totals(socket: u64, packets: u64, milliseconds: u64) -> DatagramTotals {
    DatagramTotals {
        socket: ConnectionId(socket),
        remote: remote(),
        started: at(0),
        last: at(milliseconds),
        total: Traffic {
            received_bytes: packets * 20,
            sent_bytes: packets * 10,
            received_packets: packets,
            sent_packets: packets,
        },
    }
}

fn socket_of() -> (SocketAddr, Owner) {
    ("10.0.0.1:40000".parse().unwrap(), Owner::default())
}

fn bounded(max_flows: usize) -> Flows {
    Flows::new(Config {
        idle: Duration::from_secs(30),
        max_flows,
    })
}

/// A look at all of `read`; returns what was told, and what the kernel may forget.
fn look(flows: &mut Flows, now: u64, read: &[DatagramTotals]) -> (Vec<Datagrams>, Vec<FlowKey>) {
    let mut seen = Seen::default();
    flows.begin(0);
    for totals in read {
        flows.totals(totals, socket_of, &mut seen);
    }
    let over = flows.finish(at(now), true, &mut seen);
    (seen.datagrams, over)
}

fn datagram<'a>(
    purpose: DatagramPurpose,
    direction: Direction,
    milliseconds: u64,
    bytes: &'a [u8],
) -> Datagram<'a> {
    let (local, owner) = socket_of();
    Datagram {
        time: at(milliseconds),
        socket: ConnectionId(1),
        owner,
        local,
        remote: remote(),
        direction,
        purpose,
        segment: 0,
        length: u32::try_from(bytes.len()).unwrap() + 1000,
        bytes,
    }
}

#[test]
fn totals_are_told_as_change() {
    let mut flows = bounded(10);
    let (told, over) = look(&mut flows, 1000, &[totals(1, 3, 900)]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].change, totals(1, 3, 0).total);
    assert_eq!((told[0].ended, told[0].last), (false, at(900)));
    assert_eq!(over, []);
    let (told, _) = look(&mut flows, 2000, &[totals(1, 5, 1900)]);
    assert_eq!(told[0].change, totals(1, 2, 0).total);
    assert_eq!(told[0].total, totals(1, 5, 0).total);
    let (told, _) = look(&mut flows, 3000, &[totals(1, 5, 1900)]);
    assert_eq!(told, [], "nothing passed");
}

#[test]
fn a_quiet_flow_is_over_and_begins_anew() {
    let mut flows = bounded(10);
    look(&mut flows, 1000, &[totals(1, 3, 900)]);
    let (told, over) = look(&mut flows, 30_899, &[totals(1, 3, 900)]);
    assert_eq!((told.len(), over.len()), (0, 0));
    let (told, over) = look(&mut flows, 30_900, &[totals(1, 3, 900)]);
    assert_eq!(over, [(ConnectionId(1), remote())]);
    assert!(told[0].ended && told[0].change.is_empty());
    assert_eq!(told[0].total, totals(1, 3, 0).total);
    assert_eq!(told[0].duration(), Duration::from_millis(900));
    // The kernel has forgotten it, and counts from nothing.
    let (told, _) = look(&mut flows, 40_000, &[totals(1, 1, 39_000)]);
    assert_eq!(told[0].total, totals(1, 1, 0).total);
    assert_eq!(flows.counters, Counters::default());
}

#[test]
fn what_the_kernel_forgot_is_counted_if_it_moved() {
    let mut flows = bounded(10);
    look(&mut flows, 1000, &[totals(1, 3, 900), totals(2, 3, 900)]);
    let (told, over) = look(&mut flows, 2000, &[totals(2, 3, 900)]);
    assert_eq!((told.len(), over.len()), (1, 0));
    assert!(told[0].ended);
    assert_eq!(flows.counters.evicted, 1);
    look(&mut flows, 10_000, &[]);
    assert_eq!(flows.counters.evicted, 1, "it was quiet: nothing is lost");
    // Forgotten and begun anew between two looks, however much has passed since.
    look(&mut flows, 11_000, &[totals(3, 5, 10_900)]);
    let again = DatagramTotals {
        started: at(11_500),
        ..totals(3, 7, 11_900)
    };
    let (told, _) = look(&mut flows, 12_000, &[again]);
    assert_eq!(told[0].change, totals(3, 7, 0).total);
    assert_eq!(told[0].total, totals(3, 12, 0).total);
    assert_eq!(flows.counters.evicted, 2);
}

#[test]
fn what_no_look_saw_is_counted() {
    let mut flows = bounded(10);
    let mut seen = Seen::default();
    for (created, socket, evicted) in [(3, 1, 2), (3, 2, 2), (4, 2, 2), (9, 3, 6)] {
        flows.begin(created);
        flows.totals(&totals(socket, 3, 900), socket_of, &mut seen);
        flows.finish(at(10_000), true, &mut seen);
        assert_eq!(flows.counters.evicted, evicted, "{created}");
    }
}

#[test]
fn a_look_that_failed_ends_nothing() {
    let mut flows = bounded(10);
    look(&mut flows, 1000, &[totals(1, 3, 900)]);
    let mut seen = Seen::default();
    flows.begin(0);
    assert_eq!(flows.finish(at(2000), false, &mut seen), []);
    assert_eq!(seen.datagrams, []);
    let (told, _) = look(&mut flows, 3000, &[totals(1, 4, 2900)]);
    assert_eq!(told[0].change, totals(1, 1, 0).total);
}

#[test]
fn what_finds_no_room_is_told_later() {
    let mut flows = bounded(1);
    let (told, _) = look(&mut flows, 1000, &[totals(1, 3, 900), totals(2, 4, 900)]);
    assert_eq!(told.len(), 1);
    assert_eq!(flows.counters.full, 1);
    let (told, _) = look(&mut flows, 20_000, &[totals(2, 4, 900)]);
    assert!(told[0].ended, "the first makes room");
    let (told, _) = look(&mut flows, 21_000, &[totals(2, 4, 900)]);
    assert_eq!(told[0].change, totals(2, 4, 0).total, "all of it");
    assert_eq!(flows.tables()[0].entries, 1);
}

#[test]
fn datagrams_of_dns_are_counted_and_paired() {
    let mut flows = bounded(10);
    let mut lookups = Lookups::new(dns::Config::default());
    let mut seen = Seen::default();
    let question = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
    let response = b"\x00\x07\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
    for (direction, time, bytes) in [
        (Direction::Egress, 1, question),
        (Direction::Ingress, 3, response),
    ] {
        let datagram = datagram(DatagramPurpose::Dns, direction, time, bytes);
        flows.push(&datagram, &mut lookups, &mut seen);
    }
    let [lookup] = &seen.lookups[..] else {
        panic!("one lookup")
    };
    assert_eq!(
        (lookup.outcome, lookup.code, lookup.name.as_ref()),
        (LookupOutcome::Answered, Some(3), "a")
    );
    assert_eq!(seen.datagrams, [], "put together first");
    flows.finish(at(1000), true, &mut seen);
    let [told] = &seen.datagrams[..] else {
        panic!("one socket with one server")
    };
    assert_eq!(told.protocol, DatagramProtocol::Dns);
    // The payload counts, not what was captured of it.
    let each = question.len() as u64 + 1000;
    let expected = Traffic {
        received_bytes: each,
        sent_bytes: each,
        received_packets: 1,
        sent_packets: 1,
    };
    assert_eq!((told.change, told.ended), (expected, false));
    assert_eq!(look(&mut flows, 2000, &[]).0, [], "told once");
}

#[test]
fn datagrams_of_dns_are_told_when_there_are_many() {
    let mut flows = bounded(10);
    let mut lookups = Lookups::new(dns::Config::default());
    let mut seen = Seen::default();
    for socket in 0..=MAX_DNS as u64 {
        let mut datagram = datagram(DatagramPurpose::Dns, Direction::Egress, 0, b"?");
        datagram.socket = ConnectionId(socket);
        flows.push(&datagram, &mut lookups, &mut seen);
    }
    assert_eq!(seen.datagrams.len(), MAX_DNS);
    flows.drain(&mut seen);
    assert_eq!(seen.datagrams.len(), MAX_DNS + 1);
    assert_eq!(lookups.counters().malformed, MAX_DNS as u64 + 1);
}

#[test]
fn a_flow_that_opens_like_quic_is_quic() {
    let mut flows = bounded(10);
    let mut lookups = Lookups::new(dns::Config::default());
    let mut seen = Seen::default();
    let mut bytes = vec![0xc3, 0xff, 0, 0, 29];
    bytes.resize(1200, 0);
    let opening = datagram(DatagramPurpose::Quic, Direction::Egress, 500, &bytes);
    flows.push(&opening, &mut lookups, &mut seen);
    let (told, _) = look(&mut flows, 1000, &[totals(1, 3, 900), totals(2, 3, 900)]);
    assert_eq!(told[0].protocol, DatagramProtocol::Quic);
    assert_eq!(told[0].role(), Role::Client);
    assert_eq!(
        told[0].change,
        totals(1, 3, 0).total,
        "counted by the kernel"
    );
    assert_eq!(told[1].protocol, DatagramProtocol::Other);

    // Of one that the kernel never counted nothing is told but its end, and nothing is lost.
    let mut opening = datagram(DatagramPurpose::Quic, Direction::Egress, 1100, &bytes);
    opening.socket = ConnectionId(9);
    flows.push(&opening, &mut lookups, &mut seen);
    let both = [totals(1, 3, 900), totals(2, 3, 900)];
    assert_eq!(look(&mut flows, 2000, &both).0, []);
    let (told, _) = look(&mut flows, 4000, &both);
    assert!(told.len() == 1 && told[0].ended);
    assert_eq!(flows.counters.evicted, 0);
}

//! Any events of a few connections: no panic, bounded tables, every exchange told once.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use observer::{
    assemble::{Assembler, Config, Glance, Held, Instruction, Sink, http2::MAX_STREAMS},
    model::{
        connection::{
            Closed, ClosedBy, Connection, ConnectionEvent, ConnectionId, Direction, Owner, Role,
            Transfer,
        },
        datagram::Datagrams,
        event::{Caused, Event, Segment},
        exchange::{Exchange, Outcome},
        lookup::Lookup,
        time::Monotonic,
        trace::Cause,
    },
};

#[derive(Default)]
struct Seen {
    told: HashSet<(ConnectionId, u64)>,
}

impl Sink for Seen {
    fn connection(&mut self, event: ConnectionEvent) {
        if let ConnectionEvent::Closed { connection, .. } = event {
            self.told.retain(|(id, _)| *id != connection.id);
        }
    }

    fn exchange(&mut self, exchange: Exchange) {
        assert_ne!(exchange.role, Role::Unknown);
        assert!(exchange.cause.is_none() || exchange.role == Role::Client);
        assert!(exchange.status.is_none() || exchange.received.is_some());
        if exchange.outcome == Outcome::Complete {
            assert!(exchange.received.is_some());
        }
        if exchange.stream.is_none() {
            // Only of HTTP/2 a status may be unknown.
            assert_eq!(exchange.status.is_some(), exchange.received.is_some());
        }
        assert!(self.told.insert((exchange.connection, exchange.ordinal)));
    }

    fn lookup(&mut self, _: Lookup) {}

    fn datagrams(&mut self, _: Datagrams) {}

    fn instruct(&mut self, _: u32, _: ConnectionId, _: Instruction) {}
}

/// Reads a script from the fuzzer's bytes.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, b""));
        self.0 = rest;
        *first
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }
}

fn connection(id: ConnectionId, kind: u8) -> Connection {
    let pre_existing = kind & 8 != 0;
    Connection {
        id,
        role: match kind % 3 {
            0 => Role::Client,
            1 => Role::Server,
            _ => Role::Unknown,
        },
        local: ([127, 0, 0, 1], 80).into(),
        remote: ([127, 0, 0, 1], 4000).into(),
        wire: None,
        owner: Owner::default(),
        started: Monotonic(0),
        established: None,
        sequences: (!pre_existing).then_some((0, 0)),
        pre_existing,
    }
}

/// First bytes of connections, and of what they are upgraded to.
const OPENINGS: [&[u8]; 12] = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x0f\xa0\0\x50",
    b"\x16\x03\x01\0\x30\x01\0\0\x2c\x03\x0301234567890123456789012345678901\0\0\x02\x13\x01\x01\0\0\x01\0",
    b"\x15\x03\x03\0\x02\x02\x28",
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"220 mail.test ESMTP\r\n",
    b"STARTTLS\r\n",
    b"\0\0\x08\x04\xd2\x16\x2f",
    b"\0\0\x04\x01\x05\0\0\0\x01\x82\x84\x86\xbe",
];

/// Bits of an operation.
const AT_FRAME: u8 = 0x10;
const UNFRAMED: u8 = 0x20;

/// A frame of HTTP/2: its type, flags and stream, and its payload, of which it may announce more.
fn frame(script: &mut Script<'_>) -> Vec<u8> {
    let (kind, flags, stream) = (script.byte(), script.byte(), script.byte());
    let more = if kind & 0x80 == 0 { 0 } else { script.byte() };
    let payload = script.bytes();
    let mut frame = (payload.len() as u32 + u32::from(more)).to_be_bytes()[1..].to_vec();
    frame.extend([kind & 0xf, flags, 0, 0, 0, stream]);
    frame.extend(payload);
    frame
}

fn segment<'a>(
    script: &mut Script<'a>,
    own: &mut [u64; 2],
    (egress, flags): (bool, u8),
    now: u64,
) -> Segment<'a> {
    let bytes = script.bytes();
    around(bytes, script, own, (egress, flags), now)
}

fn around<'a>(
    bytes: &'a [u8],
    script: &mut Script<'_>,
    own: &mut [u64; 2],
    (egress, flags): (bool, u8),
    now: u64,
) -> Segment<'a> {
    let jump = if flags & 2 != 0 {
        script.byte() as i8
    } else {
        0
    };
    let more = if flags & 4 != 0 {
        u32::from(script.byte()) << 4
    } else {
        0
    };
    let position = own[usize::from(egress)].saturating_add_signed(jump.into());
    let length = bytes.len() as u32 + more;
    own[usize::from(egress)] = position + u64::from(length);
    Segment {
        time: Monotonic(now),
        direction: if egress {
            Direction::Egress
        } else {
            Direction::Ingress
        },
        position,
        sequence: position as u32,
        acknowledgement: own[usize::from(!egress)] as u32,
        length,
        bytes,
        fin: flags & 8 != 0,
        reset: flags & 16 != 0,
        in_order: flags & 32 == 0,
        at_frame: false,
        unframed: false,
    }
}

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let mut assembler = Assembler::new(Config {
        max_connections: 3,
        head_cache: 2,
        memory: 4096,
        ..Config::default()
    });
    let mut seen = Seen::default();
    let mut next = [[0_u64; 2]; 4];
    let mut now = 0_u64;
    while !script.0.is_empty() {
        let operation = script.byte();
        let index = usize::from(operation >> 6);
        let id = ConnectionId(index as u64);
        let flags = script.byte();
        now += u64::from(flags) * 1_000_000;
        let egress = flags & 1 != 0;
        let own = &mut next[index];
        match operation & 15 {
            0 => {
                *own = [0; 2];
                let connection = connection(id, flags);
                assembler.push(
                    Event::Opened {
                        connection,
                        slot: Some(1),
                    },
                    &mut seen,
                );
            }
            1 => {
                let closed = Closed {
                    at: Monotonic(now),
                    by: [
                        ClosedBy::Local,
                        ClosedBy::Remote,
                        ClosedBy::Timeout,
                        ClosedBy::Unknown,
                    ][usize::from(flags & 3)],
                    reset: flags & 4 != 0,
                    transfer: Transfer::default(),
                };
                let connection = connection(id, flags);
                let event = Event::Closed {
                    connection,
                    closed,
                    slot: None,
                    lost: 0,
                };
                assembler.push(event, &mut seen);
            }
            2 => {
                assembler.tick(Monotonic(now), &mut seen);
            }
            3 => {
                let segment = segment(&mut script, own, (false, flags), now);
                let event = Event::ListenerSegment {
                    local_port: 80,
                    remote_port: 4000,
                    segment,
                };
                assembler.push(event, &mut seen);
            }
            4..=7 => {
                let request = segment(&mut script, own, (egress, flags), now);
                let response = segment(&mut script, own, (!egress, flags), now);
                let event = Event::Pair {
                    id,
                    slot: None,
                    lost: 0,
                    request,
                    response,
                };
                assembler.push(event, &mut seen);
            }
            9 | 10 => {
                let made = if operation & 15 == 9 {
                    let start = usize::from(script.byte()) % OPENINGS.len();
                    [OPENINGS[start], script.bytes()].concat()
                } else {
                    frame(&mut script)
                };
                let mut segment = around(&made, &mut script, own, (egress, flags), now);
                segment.at_frame = operation & AT_FRAME != 0;
                segment.unframed = operation & UNFRAMED != 0;
                let event = Event::Segment {
                    id,
                    slot: Some(1),
                    lost: 0,
                    segment,
                };
                assembler.push(event, &mut seen);
            }
            11 => {
                let head = script.bytes().to_vec();
                let glance = Glance {
                    transfer: Transfer {
                        sent_bytes: own[1] + head.len() as u64,
                        received_bytes: own[0] + head.len() as u64,
                        ..Transfer::default()
                    },
                    held: Some(Held {
                        since: Monotonic(now),
                        length: head.len() as u32,
                        head,
                    }),
                };
                let look = |_, looked| (looked == id).then(|| glance.clone());
                let in_flight = assembler.glance(Monotonic(now), look, &mut seen);
                assert!(in_flight.len() <= 3 * MAX_STREAMS);
            }
            12 => {
                let event = Event::Caused(Caused {
                    time: Monotonic(now),
                    connection: id,
                    sequence: (own[1] as u32).wrapping_sub(u32::from(script.byte())),
                    length: u32::from(script.byte()),
                    pid: u32::from(flags & 1),
                    cause: Cause {
                        inbound: ConnectionId(u64::from(flags >> 6)),
                        sequence: u32::from(flags),
                        certain: flags & 2 != 0,
                    },
                });
                assembler.push(event, &mut seen);
            }
            13 => {
                let pid = u32::from(flags & 1);
                assembler.push(Event::HandsOver { pid }, &mut seen);
            }
            other => {
                let lost = u16::from(other == 15);
                let mut segment = segment(&mut script, own, (egress, flags), now);
                segment.at_frame = operation & AT_FRAME != 0;
                segment.unframed = operation & UNFRAMED != 0;
                assembler.push(
                    Event::Segment {
                        id,
                        slot: None,
                        lost,
                        segment,
                    },
                    &mut seen,
                );
            }
        }
        for table in assembler.tables() {
            assert!(table.entries <= table.limit);
        }
    }
    assembler.drain(&mut seen);
    assert!(assembler.in_flight().count() <= 3 * MAX_STREAMS);
});

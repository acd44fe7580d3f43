//! Any events of a few connections: no panic, bounded tables, every exchange told once.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use observer::{
    assemble::{Assembler, Config, Instruction, Sink},
    model::{
        connection::{
            Closed, ClosedBy, Connection, ConnectionEvent, ConnectionId, Direction, Owner, Role,
            Transfer,
        },
        datagram::Datagrams,
        event::{Event, Segment},
        exchange::{Exchange, Outcome},
        lookup::Lookup,
        time::Monotonic,
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
        assert_eq!(exchange.status.is_some(), exchange.received.is_some());
        if exchange.outcome == Outcome::Complete {
            assert!(exchange.status.is_some());
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

fn segment<'a>(
    script: &mut Script<'a>,
    own: &mut [u64; 2],
    (egress, flags): (bool, u8),
    now: u64,
) -> Segment<'a> {
    let bytes = script.bytes();
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
            other => {
                let lost = u16::from(other == 15);
                let segment = segment(&mut script, own, (egress, flags), now);
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
    assert!(assembler.in_flight().count() <= 3 * 4096);
});

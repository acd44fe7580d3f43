//! Which write is which request, in whatever order they are told, and how many are remembered.

use proptest::prelude::*;

use super::*;
use crate::{
    assemble::{
        Config,
        script::{ID, Script, Step, connection},
    },
    model::{
        connection::{ClosedBy, Connection, ConnectionId},
        event::Event,
        time::Monotonic,
    },
};

const INBOUND: ConnectionId = ConnectionId(9);
const PID: u32 = 42;
const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A client whose process has a connection to answer on.
fn client() -> Script {
    with_inbound(Script::client())
}

fn with_inbound(mut script: Script) -> Script {
    let connection = Connection {
        id: INBOUND,
        ..connection(Role::Server, false)
    };
    script.push(Event::Opened {
        connection,
        slot: None,
    });
    script
}

/// The write of a step; `sequence` names its cause.
fn caused(step: &Step, sequence: u32) -> Caused {
    Caused {
        time: Monotonic(step.time + 1),
        connection: ID,
        sequence: step.segment().sequence,
        length: step.length,
        pid: PID,
        cause: Cause {
            inbound: INBOUND,
            sequence,
            certain: true,
        },
    }
}

/// Number and certainty of the causes of the exchanges that were told.
fn causes(script: &Script) -> Vec<Option<(u32, bool)>> {
    let exchanges = script.seen.exchanges.iter();
    let causes = exchanges.map(|exchange| exchange.cause);
    causes
        .map(|cause| cause.map(|cause| (cause.sequence, cause.certain)))
        .collect()
}

#[test]
fn a_cause_may_come_before_and_after_its_request() {
    let mut script = client();
    for (number, before) in [(1, true), (2, false)] {
        let step = script.make(true, get("/a").as_bytes());
        if before {
            script.push(Event::Caused(caused(&step, number)));
        }
        script.step(&step);
        if !before {
            script.push(Event::Caused(caused(&step, number)));
        }
        script.s(OK);
    }
    script.c(get("/b")).s(OK);
    assert_eq!(causes(&script), [Some((1, true)), Some((2, true)), None]);
    assert_eq!(script.counters().causes_unmatched, 0);
}

#[test]
fn a_cause_that_comes_too_late_is_not_that_of_the_next_request() {
    let mut script = client();
    let step = script.make(true, get("/a").as_bytes());
    script.step(&step);
    script.s(OK);
    script.push(Event::Caused(caused(&step, 1)));
    script.c(get("/b")).s(OK);
    assert_eq!(causes(&script), [None, None]);
    assert_eq!(script.counters().causes_unmatched, 1);
}

#[test]
fn what_does_not_start_with_the_write_or_was_written_early_is_not_certain() {
    let mut script = client();
    let both = script.make(true, (get("/a") + &get("/b")).as_bytes());
    script.push(Event::Caused(caused(&both, 1)));
    script.step(&both);
    script.s(OK).s(OK);
    let late = script.make(true, get("/c").as_bytes());
    let mut early = caused(&late, 2);
    early.time = Monotonic(late.time - 1);
    script.push(Event::Caused(early));
    script.step(&late);
    script.s(OK);
    let told = [Some((1, true)), Some((1, false)), Some((2, false))];
    assert_eq!(causes(&script), told);
}

#[test]
fn a_write_that_only_goes_on_with_a_request_explains_none() {
    let mut script = client();
    script.c("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\n");
    let rest = script.make(true, b"abc");
    script.push(Event::Caused(caused(&rest, 1)));
    script.step(&rest);
    script.s(OK);
    script.c(get("/b")).s(OK);
    assert_eq!(causes(&script), [None, None]);
    assert_eq!(script.counters().causes_unmatched, 0);
}

#[test]
fn a_process_that_hands_over_was_never_certain() {
    let mut script = client();
    let step = script.make(true, get("/a").as_bytes());
    script.push(Event::Caused(caused(&step, 1)));
    script.step(&step);
    script.push(Event::HandsOver { pid: PID + 1 });
    script.s(OK);
    let step = script.make(true, get("/b").as_bytes());
    script.push(Event::Caused(caused(&step, 2)));
    script.step(&step);
    script.push(Event::HandsOver { pid: PID });
    script.s(OK);
    assert_eq!(causes(&script), [Some((1, true)), Some((2, false))]);
}

#[test]
fn what_is_doubted_of_a_process_is_doubted_of_what_is_held_back() {
    let mut script = with_inbound(Script::with(Config::default(), Role::Client, true));
    let step = script.make(true, get("/a").as_bytes());
    script.push(Event::Caused(caused(&step, 1)));
    script.step(&step);
    script.s(OK);
    script.expect(&[]);
    script.push(Event::HandsOver { pid: PID });
    script.tick(1000);
    assert_eq!(causes(&script), [Some((1, false))]);
}

#[test]
fn causes_of_connections_that_are_not_known_are_counted() {
    let mut script = Script::client();
    let step = script.make(true, get("/a").as_bytes());
    script.push(Event::Caused(caused(&step, 1)));
    assert_eq!(script.counters().causes_unmatched, 1, "no inbound");
    let mut script = with_inbound(script);
    let mut elsewhere = caused(&step, 1);
    elsewhere.connection = ConnectionId(77);
    script.push(Event::Caused(elsewhere));
    assert_eq!(script.counters().causes_unmatched, 2, "no outbound");
    script.push(Event::Caused(caused(&step, 1)));
    script.close(ClosedBy::Local, false);
    assert_eq!(script.counters().causes_unmatched, 3, "no request");
}

#[test]
fn a_server_has_no_causes() {
    let mut script = with_inbound(Script::server());
    let step = script.make(true, get("/a").as_bytes());
    script.push(Event::Caused(caused(&step, 1)));
    script.step(&step);
    script.s(OK);
    assert_eq!(causes(&script), [None]);
}

proptest! {
    #[test]
    fn each_request_gets_its_own_cause_and_few_are_remembered(
        requests in prop::collection::vec((any::<bool>(), any::<bool>(), 0_usize..300), 1..40),
        base in any::<u32>(),
    ) {
        let mut causes = Causes::default();
        let mut sequence = base;
        let mut told = Vec::new();
        for (number, (known, split, length)) in requests.iter().enumerate() {
            let length = *length as u32 + 2;
            if *known {
                let mut write = Caused {
                    time: Monotonic(5),
                    connection: ID,
                    sequence,
                    length,
                    pid: PID,
                    cause: Cause { inbound: INBOUND, sequence: number as u32, certain: true },
                };
                if *split {
                    write.length = 1;
                }
                causes.push(write);
            }
            let mut script = Script::client();
            script.c(get("/a")).s(OK);
            let mut exchange = script.seen.exchanges.remove(0);
            exchange.hop.0 = sequence;
            exchange.sent.first = Monotonic(4);
            let cause = causes.explained(exchange).cause;
            told.push(cause.map(|cause| (cause.sequence, cause.certain)));
            sequence = sequence.wrapping_add(length);
            prop_assert!(causes.writes.len() <= 1);
        }
        for (number, (known, ..)) in requests.iter().enumerate() {
            prop_assert_eq!(told[number], known.then_some((number as u32, true)));
        }
        prop_assert_eq!(causes.end(), 0);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for(writes in 0_u32..200) {
        let mut causes = Causes::default();
        for number in 0..writes {
            causes.push(Caused {
                time: Monotonic(5),
                connection: ID,
                sequence: number * 10,
                length: 10,
                pid: PID,
                cause: Cause { inbound: INBOUND, sequence: number, certain: false },
            });
            prop_assert!(causes.writes.len() <= MAX_CAUSES);
        }
        prop_assert_eq!(causes.end(), u64::from(writes));
    }
}

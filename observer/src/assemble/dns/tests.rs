//! Tests of the table of lookups: pairing, retries, and what is never answered.

use super::*;
use crate::model::lookup::{Answer, Target};

const MILLISECOND: u64 = 1_000_000;

fn at(milliseconds: u64) -> Monotonic {
    Monotonic(milliseconds * MILLISECOND)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn question(id: u16, name: &str) -> Message {
    Message {
        id,
        response: false,
        opcode: 0,
        truncated: false,
        code: 0,
        question: Some(Question {
            name: name.into(),
            kind: 1,
            class: 1,
        }),
        answers: Vec::new(),
        complete: true,
    }
}

fn response(id: u16, name: &str, code: u16) -> Message {
    Message {
        response: true,
        code,
        ..question(id, name)
    }
}

/// A socket that talks to `remote`, and its table.
struct Socket {
    lookups: Lookups,
    owner: Owner,
}

impl Socket {
    fn new() -> Self {
        Self::bounded(Config::default())
    }

    fn bounded(config: Config) -> Self {
        Self {
            lookups: Lookups::new(config),
            owner: Owner::default(),
        }
    }

    fn pass(
        &mut self,
        direction: Direction,
        remote: &str,
        milliseconds: u64,
        message: Message,
    ) -> Option<Lookup> {
        let channel = Channel {
            socket: ConnectionId(1),
            owner: &self.owner,
            transport: Transport::Udp,
            local: address("10.0.0.1:40000"),
            remote: address(remote),
        };
        self.lookups
            .message(&channel, direction, at(milliseconds), message)
    }

    fn ask(&mut self, remote: &str, milliseconds: u64, message: Message) {
        let told = self.pass(Direction::Egress, remote, milliseconds, message);
        assert_eq!(told, None);
    }

    fn hear(&mut self, remote: &str, milliseconds: u64, message: Message) -> Option<Lookup> {
        self.pass(Direction::Ingress, remote, milliseconds, message)
    }

    fn tick(&mut self, milliseconds: u64) -> Vec<Lookup> {
        let mut told = Vec::new();
        self.lookups
            .tick(at(milliseconds), |lookup| told.push(lookup));
        told
    }
}

const ONE: &str = "192.0.2.1:53";
const TWO: &str = "192.0.2.2:53";

#[test]
fn a_response_ends_its_lookup() {
    let mut socket = Socket::new();
    socket.ask(ONE, 10, question(7, "a.example"));
    socket.ask(ONE, 11, question(8, "b.example"));
    let mut message = response(8, "b.example", 0);
    message.answers.push(Answer {
        name: "b.example".into(),
        ttl: 60,
        target: Target::Address("192.0.2.9".parse().unwrap()),
    });
    let lookup = socket.hear(ONE, 15, message.clone()).unwrap();
    assert_eq!(lookup.name.as_ref(), "b.example");
    assert_eq!(lookup.duration(), Duration::from_millis(4));
    assert_eq!(lookup.role, Role::Client);
    assert_eq!(
        (lookup.outcome, lookup.code),
        (LookupOutcome::Answered, Some(0))
    );
    assert_eq!(lookup.answers.as_ref(), message.answers);
    assert_eq!(lookup.error(), None);

    let lookup = socket.hear(ONE, 20, response(7, "a.example", 3)).unwrap();
    assert_eq!(lookup.error(), Some("NXDOMAIN"));
    assert_eq!(socket.lookups.table().entries, 0);
    assert_eq!(socket.tick(60_000), []);
}

#[test]
fn a_server_sees_its_lookups_too() {
    let mut socket = Socket::new();
    let (first, second) = ("198.51.100.1:4000", "198.51.100.2:4000");
    for client in [first, second] {
        let told = socket.pass(Direction::Ingress, client, 1, question(7, "a.example"));
        assert_eq!(told, None);
    }
    let answer = response(7, "a.example", 2);
    let lookup = socket
        .pass(Direction::Egress, second, 3, answer.clone())
        .unwrap();
    assert_eq!(lookup.role, Role::Server);
    assert_eq!(lookup.remote, address(second));
    assert_eq!(
        socket.pass(Direction::Egress, second, 3, answer),
        None,
        "told once"
    );
    assert_eq!(socket.tick(10_000).len(), 1, "the first waits still");
}

#[test]
fn a_question_sent_again_is_the_same_lookup() {
    let mut socket = Socket::new();
    for milliseconds in [0, 1000, 4000] {
        socket.ask(ONE, milliseconds, question(7, "a.example"));
    }
    assert_eq!(socket.tick(8_999), [], "five seconds from the last");
    let lookup = socket
        .hear(ONE, 8_999, response(7, "a.example", 0))
        .unwrap();
    assert_eq!(lookup.retries, 2);
    assert_eq!(lookup.duration(), Duration::from_millis(8_999));
}

#[test]
fn what_is_not_answered_is_told_once() {
    let mut socket = Socket::new();
    socket.ask(ONE, 0, question(7, "a.example"));
    socket.ask(ONE, 3_000, question(8, "b.example"));
    assert_eq!(socket.tick(4_999), []);
    let [lookup] = &socket.tick(5_000)[..] else {
        panic!("one is over")
    };
    assert_eq!(
        (lookup.outcome, lookup.code, lookup.error()),
        (LookupOutcome::Timeout, None, Some("timeout"))
    );
    assert_eq!(lookup.duration(), Duration::from_secs(5));
    assert_eq!(
        socket.hear(ONE, 5_001, response(7, "a.example", 0)),
        None,
        "too late"
    );
    assert_eq!(socket.lookups.counters().unasked, 1);
    assert_eq!(socket.tick(8_000).len(), 1);
    assert_eq!(socket.tick(60_000), []);
}

#[test]
fn a_question_sent_again_for_ever_is_given_up() {
    let mut socket = Socket::new();
    for second in 0..40 {
        socket.ask(ONE, second * 1000, question(7, "a.example"));
        if let [lookup] = &socket.tick(second * 1000)[..] {
            assert_eq!((second, lookup.retries), (30, 30));
            return;
        }
    }
    panic!("it waits for ever");
}

#[test]
fn the_fastest_of_several_servers_wins() {
    let mut socket = Socket::new();
    for server in [ONE, TWO] {
        socket.ask(server, 0, question(7, "a.example"));
    }
    let lookup = socket.hear(TWO, 5, response(7, "a.example", 0)).unwrap();
    assert_eq!(lookup.remote, address(TWO));
    let [other] = &socket.tick(5_000)[..] else {
        panic!("one is left")
    };
    assert_eq!(
        (other.remote, other.outcome, other.error()),
        (address(ONE), LookupOutcome::Superseded, None)
    );
    // Asked one after the other, the first did not answer.
    socket.ask(ONE, 10_000, question(7, "a.example"));
    socket.ask(TWO, 11_000, question(7, "a.example"));
    socket
        .hear(TWO, 11_005, response(7, "a.example", 0))
        .unwrap();
    assert_eq!(socket.tick(16_000)[0].outcome, LookupOutcome::Timeout);
}

#[test]
fn a_server_may_answer_from_another_address() {
    // Packets that leave show where translation sends them; those that come do not.
    let mut socket = Socket::new();
    socket.ask("10.244.0.5:53", 0, question(7, "a.example"));
    let dialled = "10.96.0.10:53";
    let lookup = socket
        .hear(dialled, 5, response(7, "a.example", 0))
        .unwrap();
    assert_eq!(lookup.remote, address(dialled));
    // With two it is not known which.
    for server in [ONE, TWO] {
        socket.ask(server, 10, question(7, "a.example"));
    }
    assert_eq!(socket.hear(dialled, 11, response(7, "a.example", 0)), None);
}

#[test]
fn a_response_answers_its_own_question_only() {
    let mut socket = Socket::new();
    socket.ask(ONE, 0, question(7, "a.example"));
    assert_eq!(socket.hear(ONE, 1, response(7, "b.example", 0)), None);
    assert_eq!(socket.hear(ONE, 1, response(8, "a.example", 0)), None);
    assert_eq!(socket.lookups.counters().unasked, 2);
    let mut bare = response(7, "", 1);
    bare.question = None;
    let lookup = socket.hear(ONE, 2, bare).unwrap();
    assert_eq!(lookup.error(), Some("FORMERR"));
}

#[test]
fn a_truncated_response_is_told_as_such() {
    let mut socket = Socket::new();
    socket.ask(ONE, 0, question(7, "a.example"));
    let mut message = response(7, "a.example", 0);
    message.truncated = true;
    let lookup = socket.hear(ONE, 1, message).unwrap();
    assert_eq!(lookup.outcome, LookupOutcome::Truncated);
}

#[test]
fn the_end_of_a_connection_ends_its_lookups() {
    let mut socket = Socket::new();
    socket.ask(ONE, 0, question(7, "a.example"));
    let mut told = Vec::new();
    let end = |id, lookups: &mut Lookups, told: &mut Vec<Lookup>| {
        lookups.close(ConnectionId(id), at(9), |lookup| told.push(lookup));
    };
    end(2, &mut socket.lookups, &mut told);
    assert_eq!(told, []);
    end(1, &mut socket.lookups, &mut told);
    assert_eq!(told[0].error(), Some("aborted"));
    assert_eq!(socket.lookups.table().entries, 0);
}

#[test]
fn the_table_is_bounded() {
    let mut socket = Socket::bounded(Config {
        max_waiting: 100,
        ..Config::default()
    });
    for id in 0..150 {
        socket.ask(ONE, 0, question(id, "a.example"));
    }
    assert_eq!(socket.lookups.table().entries, 100);
    assert_eq!(socket.lookups.counters().full, 50);
    assert_eq!(socket.tick(5_000).len(), 100);
    for index in 0..100 {
        socket.ask(ONE, 6_000, question(7, &format!("{index}.example")));
    }
    assert_eq!(socket.lookups.table().entries, MAX_ALIKE as u64);
}

#[test]
fn what_is_no_lookup_is_counted() {
    let mut socket = Socket::new();
    let mut update = question(7, "a.example");
    update.opcode = 5;
    socket.ask(ONE, 0, update);
    let channel = Channel {
        socket: ConnectionId(1),
        owner: &Owner::default(),
        transport: Transport::Tcp,
        local: address(ONE),
        remote: address(TWO),
    };
    let told = socket
        .lookups
        .push(&channel, Direction::Egress, at(0), b"not a message of DNS");
    assert_eq!(told, None);
    let counters = socket.lookups.counters();
    assert_eq!((counters.other, counters.malformed), (1, 1));
    assert_eq!(socket.lookups.table().entries, 0);
}

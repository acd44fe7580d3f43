//! Lookups of names: questions and their responses, whatever carries them.
//!
//! A response belongs to a question with the same socket, other end, number and name. A question
//! that is sent again is the same lookup. What is not answered in time is told as such.

pub mod message;
pub mod tcp;

use std::{net::SocketAddr, time::Duration};

use hashbrown::HashMap;

use self::message::{Message, Question};
use crate::{
    model::{
        connection::{ConnectionId, Direction, Owner, Role},
        lookup::{Lookup, LookupOutcome, Transport},
        time::Monotonic,
    },
    telemetry::health::{Loss, Table},
};

/// Bounds of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a response is waited for, from the last time that the question was sent.
    pub timeout: Duration,
    /// Most questions that wait for their response.
    pub max_waiting: usize,
}

/// What a message came over.
#[derive(Clone, Copy, Debug)]
pub struct Channel<'a> {
    /// The observed socket.
    pub socket: ConnectionId,
    /// Who made it.
    pub owner: &'a Owner,
    /// What carries the messages.
    pub transport: Transport,
    /// Address of the socket.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

/// What was seen and not followed, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that are no message.
    pub malformed: u64,
    /// Questions that found no room.
    pub full: u64,
    /// Responses to questions that were not seen, or were given up; not a loss.
    pub unasked: u64,
    /// Messages that are no lookup: updates, notifications; not a loss.
    pub other: u64,
}

/// Questions that wait for their response.
#[derive(Debug)]
pub struct Lookups {
    config: Config,
    waiting: HashMap<Key, Vec<Waiting>, foldhash::fast::RandomState>,
    /// Entries of `waiting`, all together.
    count: usize,
    /// Nothing is given up before.
    due: Option<Monotonic>,
    counters: Counters,
}

/// What a question and its response have in common, and address translation does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    socket: ConnectionId,
    id: u16,
    /// At a server, who asked. A client may hear from another address than the one it asked,
    /// where translation is seen in one direction only.
    asker: Option<SocketAddr>,
}

#[derive(Debug)]
struct Waiting {
    question: Question,
    lookup: Lookup,
    /// When the question was last sent.
    last: Monotonic,
    /// Another server answered the same question to the same socket.
    superseded: bool,
}

/// Questions of one socket that may wait with the same number.
const MAX_ALIKE: usize = 64;
/// A lookup is given up after this many times the time that a response is waited for, however
/// often it is sent again.
const MOST_TIMEOUTS: u32 = 6;
/// Servers that are asked within this time are asked at once, and the fastest is heard; one that is
/// asked later is asked because the first did not answer.
const TOGETHER: Duration = Duration::from_millis(250);
/// `QUERY` (RFC 1035 section 4.1.1).
const QUERY: u8 = 0;

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            max_waiting: 16_384,
        }
    }
}

// === impl Lookups ===

impl Lookups {
    /// An empty table.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            waiting: HashMap::default(),
            count: 0,
            due: None,
            counters: Counters::default(),
        }
    }

    /// Changes the bounds; what waits is kept.
    pub fn reconfigure(&mut self, config: Config) {
        self.config = config;
        self.due = Some(Monotonic(0));
    }

    /// Takes the bytes of one message that passed `channel` in `direction` at `time`; returns the
    /// lookup that it ends, if it is the response to one.
    pub fn push(
        &mut self,
        channel: &Channel<'_>,
        direction: Direction,
        time: Monotonic,
        bytes: &[u8],
    ) -> Option<Lookup> {
        match message::parse(bytes) {
            Ok(message) => self.message(channel, direction, time, message),
            Err(_) => {
                self.counters.malformed += 1;
                None
            }
        }
    }

    /// Takes one message; see [`Lookups::push`].
    pub fn message(
        &mut self,
        channel: &Channel<'_>,
        direction: Direction,
        time: Monotonic,
        message: Message,
    ) -> Option<Lookup> {
        if message.opcode != QUERY {
            self.counters.other += 1;
            return None;
        }
        let role = match (message.response, direction) {
            (false, Direction::Egress) | (true, Direction::Ingress) => Role::Client,
            _ => Role::Server,
        };
        let key = Key {
            socket: channel.socket,
            id: message.id,
            asker: (role == Role::Server).then_some(channel.remote),
        };
        if message.response {
            self.response(key, channel, time, message)
        } else {
            self.question(key, channel, role, time, message);
            None
        }
    }

    /// Gives up what waits for too long; to be called a few times a second.
    pub fn tick(&mut self, now: Monotonic, mut out: impl FnMut(Lookup)) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let timeout = self.config.timeout;
        let mut due: Option<Monotonic> = None;
        let mut ended = Vec::new();
        self.waiting.retain(|_, alike| {
            for mut waiting in alike.extract_if(.., |waiting| waiting.due(timeout) <= now) {
                waiting.lookup.ended = now;
                waiting.lookup.outcome = if waiting.superseded {
                    LookupOutcome::Superseded
                } else {
                    LookupOutcome::Timeout
                };
                ended.push(waiting.lookup);
            }
            for waiting in alike.iter() {
                let at = waiting.due(timeout);
                due = Some(due.map_or(at, |earliest| earliest.min(at)));
            }
            !alike.is_empty()
        });
        self.due = due;
        self.count -= ended.len();
        ended.sort_by_key(|lookup| lookup.sent);
        ended.into_iter().for_each(&mut out);
    }

    /// Ends what waits on a connection that ended.
    pub fn close(&mut self, socket: ConnectionId, at: Monotonic, mut out: impl FnMut(Lookup)) {
        if self.count == 0 {
            return;
        }
        let mut ended = Vec::new();
        for (_, alike) in self.waiting.extract_if(|key, _| key.socket == socket) {
            for mut waiting in alike {
                waiting.lookup.ended = at;
                waiting.lookup.outcome = LookupOutcome::Aborted;
                ended.push(waiting.lookup);
            }
        }
        self.count -= ended.len();
        ended.sort_by_key(|lookup| lookup.sent);
        ended.into_iter().for_each(&mut out);
    }

    /// Counters, also of what is no loss.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What was lost, by reason.
    pub fn losses(&self) -> Vec<Loss> {
        [
            ("dns_malformed", self.counters.malformed),
            ("dns_full", self.counters.full),
        ]
        .map(|(reason, count)| Loss {
            stage: "assemble",
            reason,
            count,
        })
        .to_vec()
    }

    /// How full the table is.
    pub fn table(&self) -> Table {
        Table {
            name: "dns_lookups",
            entries: self.count as u64,
            limit: self.config.max_waiting as u64,
        }
    }

    fn question(
        &mut self,
        key: Key,
        channel: &Channel<'_>,
        role: Role,
        time: Monotonic,
        message: Message,
    ) {
        let Some(question) = message.question else {
            return;
        };
        let alike = self.waiting.entry(key).or_default();
        let same = alike
            .iter_mut()
            .find(|other| other.lookup.remote == channel.remote && other.question == question);
        if let Some(again) = same {
            again.last = time;
            again.lookup.retries += 1;
            return;
        }
        if self.count >= self.config.max_waiting || alike.len() >= MAX_ALIKE {
            self.counters.full += 1;
            if alike.is_empty() {
                self.waiting.remove(&key);
            }
            return;
        }
        let waiting = Waiting {
            lookup: Lookup {
                socket: channel.socket,
                owner: channel.owner.clone(),
                role,
                transport: channel.transport,
                local: channel.local,
                remote: channel.remote,
                name: question.name.clone(),
                kind: question.kind,
                class: question.class,
                outcome: LookupOutcome::Timeout,
                code: None,
                sent: time,
                ended: time,
                retries: 0,
                answers: Box::default(),
            },
            question,
            last: time,
            superseded: false,
        };
        let due = waiting.due(self.config.timeout);
        self.due = Some(self.due.map_or(due, |earliest| earliest.min(due)));
        alike.push(waiting);
        self.count += 1;
    }

    fn response(
        &mut self,
        key: Key,
        channel: &Channel<'_>,
        time: Monotonic,
        message: Message,
    ) -> Option<Lookup> {
        let Some(alike) = self.waiting.get_mut(&key) else {
            self.counters.unasked += 1;
            return None;
        };
        let Some(index) = find(alike, channel.remote, message.question.as_ref()) else {
            self.counters.unasked += 1;
            return None;
        };
        let Waiting {
            question,
            mut lookup,
            ..
        } = alike.swap_remove(index);
        for other in alike.iter_mut() {
            let together = other.lookup.sent.since(lookup.sent) < TOGETHER
                && lookup.sent.since(other.lookup.sent) < TOGETHER;
            other.superseded |= together && other.question == question;
        }
        if alike.is_empty() {
            self.waiting.remove(&key);
        }
        self.count -= 1;
        // What the application talks to: packets that leave may show where they are sent instead.
        lookup.remote = channel.remote;
        lookup.ended = time;
        lookup.code = Some(message.code);
        lookup.outcome = if message.truncated {
            LookupOutcome::Truncated
        } else {
            LookupOutcome::Answered
        };
        lookup.answers = message.answers.into_boxed_slice();
        Some(lookup)
    }
}

/// The question that a response from `remote` answers. One that repeats no question, or comes from
/// another address, is believed if only one can be meant.
fn find(alike: &[Waiting], remote: SocketAddr, question: Option<&Question>) -> Option<usize> {
    let asked = |waiting: &Waiting| question.is_none_or(|asked| *asked == waiting.question);
    let exact = |waiting: &Waiting| waiting.lookup.remote == remote && asked(waiting);
    only(alike, exact).or_else(|| only(alike, asked))
}

/// Index of the only one that `fits`.
fn only(alike: &[Waiting], fits: impl Fn(&Waiting) -> bool) -> Option<usize> {
    let mut found = alike
        .iter()
        .enumerate()
        .filter(|(_, waiting)| fits(waiting))
        .map(|(index, _)| index);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

// === impl Waiting ===

impl Waiting {
    /// When it is given up.
    fn due(&self, timeout: Duration) -> Monotonic {
        let most = self.lookup.sent.plus(timeout * MOST_TIMEOUTS);
        self.last.plus(timeout).min(most)
    }
}

#[cfg(test)]
mod tests;

//! Connections that start in the clear: which protocol they speak, and whether they become TLS.
//!
//! Only names come out of here. In doubt a protocol is not named: every name takes a signature
//! that is right in all its parts, and where a first message alone is weak, the answer to it.

mod guess;
mod lines;
mod upgrade;

use self::{
    guess::{Guess, guess},
    lines::Lines,
    upgrade::{Amqp, Ldap, MySql, Nats, Outcome, Postgres, Xmpp},
};

/// What bytes led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing new yet.
    More,
    /// The protocol is known. TLS may follow still.
    Protocol(&'static str),
    /// The protocol is known and TLS will not follow, or not so early that it would be seen.
    /// Nothing more is learnt.
    Stays(&'static str),
    /// Both ends agreed on TLS: it starts with the next byte of each direction.
    Upgraded {
        /// Protocol that asked for it.
        protocol: &'static str,
        /// Bytes of this push that are not TLS yet. Those after them are.
        consumed: usize,
    },
    /// No protocol that is known. Nothing more is learnt.
    Unknown,
}

/// A connection that does not start with TLS, from its first byte until it is known what it is.
#[derive(Debug)]
pub struct Plain {
    phase: Phase,
}

/// A protocol by how it goes on after it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Amqp,
    Ftp,
    Imap,
    Ldap,
    MySql,
    Nats,
    Pop3,
    Postgres,
    Smtp,
    Xmpp,
    /// One that has no way to TLS but to start with it.
    Other(&'static str),
}

#[derive(Debug)]
enum Phase {
    Guessing(First),
    Lines(Lines),
    Amqp(Amqp),
    Ldap(Ldap),
    MySql(MySql),
    Nats(Nats),
    Postgres(Postgres),
    Xmpp(Xmpp),
    Over(Step),
}

/// The first bytes of both directions.
#[derive(Debug, Default)]
struct First {
    /// The client was the first to speak.
    from_client: Option<bool>,
    client: Vec<u8>,
    server: Vec<u8>,
}

/// Most first bytes of one direction that are looked at.
const MOST_FIRST: usize = 512;

// === impl Protocol ===

impl Protocol {
    /// Common name.
    const fn name(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Ftp => "ftp",
            Self::Imap => "imap",
            Self::Ldap => "ldap",
            Self::MySql => "mysql",
            Self::Nats => "nats",
            Self::Pop3 => "pop3",
            Self::Postgres => "postgresql",
            Self::Smtp => "smtp",
            Self::Xmpp => "xmpp",
            Self::Other(name) => name,
        }
    }

    fn phase(self) -> Phase {
        match self {
            Self::Amqp => Phase::Amqp(Amqp::default()),
            Self::Ldap => Phase::Ldap(Ldap::default()),
            Self::MySql => Phase::MySql(MySql::default()),
            Self::Nats => Phase::Nats(Nats),
            Self::Postgres => Phase::Postgres(Postgres::default()),
            Self::Xmpp => Phase::Xmpp(Xmpp::default()),
            Self::Ftp | Self::Imap | Self::Pop3 | Self::Smtp => Phase::Lines(Lines::new(self)),
            Self::Other(name) => Phase::Over(Step::Stays(name)),
        }
    }
}

// === impl Plain ===

impl Default for Plain {
    fn default() -> Self {
        Self::new()
    }
}

impl Plain {
    /// Nothing was heard yet.
    pub fn new() -> Self {
        Self {
            phase: Phase::Guessing(First::default()),
        }
    }

    /// Takes the next bytes of one direction.
    pub fn push(&mut self, from_client: bool, bytes: &[u8]) -> Step {
        let Phase::Guessing(first) = &mut self.phase else {
            return self.follow(from_client, bytes);
        };
        if bytes.is_empty() {
            return Step::More;
        }
        first.from_client.get_or_insert(from_client);
        let before = first.of(from_client).len();
        let room = MOST_FIRST.saturating_sub(before).min(bytes.len());
        let (taken, rest) = bytes.split_at(room);
        first.of(from_client).extend_from_slice(taken);
        let guessed = match guess(first) {
            Guess::More if rest.is_empty() => return Step::More,
            Guess::More | Guess::No => None,
            Guess::Yes(protocol) => Some(protocol),
        };
        let first = std::mem::take(first);
        let Some(protocol) = guessed else {
            return self.end(Step::Unknown);
        };
        self.phase = protocol.phase();
        if let Phase::Over(step) = self.phase {
            return step;
        }
        // What the other direction said came before, or is no part of what matters.
        let said = [(true, &first.client), (false, &first.server)];
        let order = match first.from_client {
            Some(true) => [0, 1],
            _ => [1, 0],
        };
        for (said_by_client, said) in order.map(|index: usize| said[index]) {
            match self.follow(said_by_client, said) {
                Step::Upgraded { protocol, consumed } => {
                    let consumed = if said_by_client == from_client {
                        consumed.saturating_sub(before)
                    } else {
                        0
                    };
                    return Step::Upgraded { protocol, consumed };
                }
                Step::More => {}
                step => return step,
            }
        }
        match self.follow(from_client, rest) {
            Step::More => Step::Protocol(protocol.name()),
            Step::Upgraded { protocol, consumed } => Step::Upgraded {
                protocol,
                consumed: consumed + taken.len(),
            },
            step => step,
        }
    }

    /// Passes over bytes that were not captured: what they held may have mattered.
    pub fn skip(&mut self, count: u64) -> Step {
        if count == 0 {
            return Step::More;
        }
        match &self.phase {
            Phase::Over(step) => *step,
            Phase::Guessing(_) => self.end(Step::Unknown),
            phase => {
                let name = phase.name();
                self.end(name.map_or(Step::Unknown, Step::Stays))
            }
        }
    }

    /// Bytes of memory beside the value itself.
    pub fn weight(&self) -> usize {
        match &self.phase {
            Phase::Guessing(first) => first.client.capacity() + first.server.capacity(),
            Phase::Lines(lines) => lines.weight(),
            Phase::Ldap(ldap) => ldap.weight(),
            Phase::Xmpp(xmpp) => xmpp.weight(),
            _ => 0,
        }
    }

    fn end(&mut self, step: Step) -> Step {
        self.phase = Phase::Over(match step {
            // What comes later is TLS from its first byte.
            Step::Upgraded { protocol, .. } => Step::Upgraded {
                protocol,
                consumed: 0,
            },
            step => step,
        });
        step
    }

    /// Goes on with a protocol that is known.
    fn follow(&mut self, from_client: bool, bytes: &[u8]) -> Step {
        let outcome = match &mut self.phase {
            Phase::Lines(lines) => lines.push(from_client, bytes),
            Phase::Amqp(amqp) => amqp.push(from_client, bytes),
            Phase::Ldap(ldap) => ldap.push(from_client, bytes),
            Phase::MySql(mysql) => mysql.push(from_client, bytes),
            Phase::Nats(nats) => nats.push(from_client, bytes),
            Phase::Postgres(postgres) => postgres.push(from_client, bytes),
            Phase::Xmpp(xmpp) => xmpp.push(from_client, bytes),
            Phase::Over(step) => return *step,
            Phase::Guessing(_) => return Step::More,
        };
        let Some(protocol) = self.phase.name() else {
            return Step::More;
        };
        match outcome {
            Outcome::More => Step::More,
            Outcome::Stays => self.end(Step::Stays(protocol)),
            Outcome::Other(name) => self.end(Step::Stays(name)),
            Outcome::Upgraded { consumed } => self.end(Step::Upgraded { protocol, consumed }),
        }
    }
}

// === impl Phase ===

impl Phase {
    /// Name of a protocol that is followed.
    fn name(&self) -> Option<&'static str> {
        let protocol = match self {
            Self::Lines(lines) => lines.protocol(),
            Self::Amqp(_) => Protocol::Amqp,
            Self::Ldap(_) => Protocol::Ldap,
            Self::MySql(_) => Protocol::MySql,
            Self::Nats(_) => Protocol::Nats,
            Self::Postgres(_) => Protocol::Postgres,
            Self::Xmpp(_) => Protocol::Xmpp,
            Self::Guessing(_) | Self::Over(_) => return None,
        };
        Some(protocol.name())
    }
}

// === impl First ===

impl First {
    fn of(&mut self, from_client: bool) -> &mut Vec<u8> {
        if from_client {
            &mut self.client
        } else {
            &mut self.server
        }
    }
}

#[cfg(test)]
mod tests;

//! How protocols that are not made of lines ask for TLS.

/// What bytes led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    More,
    /// No TLS.
    Stays,
    /// Something else than the protocol itself, and no TLS.
    Other(&'static str),
    /// TLS starts after so many bytes of this push.
    Upgraded {
        consumed: usize,
    },
}

/// AMQP 1.0 section 5.2.1: both send a protocol header that names TLS.
#[derive(Debug, Default)]
pub(super) struct Amqp {
    client: Head,
    server: Head,
    asked: bool,
}

/// RFC 4511 section 4.14: an extended request, and its response with success.
#[derive(Debug, Default)]
pub(super) struct Ldap {
    client: Vec<u8>,
    server: Vec<u8>,
    asked: bool,
}

/// MySQL's SSLRequest: the start of a response to the greeting, then TLS at once.
#[derive(Debug, Default)]
pub(super) struct MySql {
    client: Head,
    /// Bytes of the SSLRequest that are still to come.
    remaining: Option<usize>,
}

/// NATS: after the server's `INFO` the client starts TLS, or says `CONNECT`.
#[derive(Debug, Default)]
pub(super) struct Nats;

/// PostgreSQL's SSLRequest and GSSENCRequest: a message without a type, answered by one byte.
#[derive(Debug, Default)]
pub(super) struct Postgres {
    client: Head,
    asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Tls,
    Gss,
}

/// RFC 6120 section 5.4.2: `<starttls/>` and `<proceed/>`.
#[derive(Debug, Default)]
pub(super) struct Xmpp {
    client: Element,
    server: Element,
    seen: usize,
}

/// An element that is looked for.
#[derive(Debug, Default)]
struct Element {
    /// The last bytes, in which its name may have begun.
    tail: Vec<u8>,
    named: bool,
    closed: bool,
}

/// The first eight bytes of something, as they come.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; 8],
    filled: usize,
}

/// Most bytes of a request or response of LDAP that are looked at.
const MOST_LDAP: usize = 512;
/// Most bytes of a stream of XMPP before TLS.
const MOST_XMPP: usize = 8 << 10;
/// StartTLS.
const LDAP_START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// What a client's bytes mean that follow its request for TLS, of which `consumed` bytes are in the
/// same push. It waits for the server's consent, but records of both directions may overtake each
/// other.
pub(super) fn after_request(rest: &[u8], consumed: usize) -> Outcome {
    match rest {
        [] => Outcome::More,
        // A handshake record.
        [0x16, ..] => Outcome::Upgraded { consumed },
        _ => Outcome::Stays,
    }
}

/// A length of BER with at most four bytes, and what follows it.
pub(super) fn ber_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    let count = usize::from(first & 0x7f);
    if !(1..=4).contains(&count) {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(count)?;
    let join = |length: usize, digit: &u8| length << 8 | usize::from(*digit);
    Some((digits.iter().fold(0, join), rest))
}

// === impl Head ===

impl Head {
    /// Takes bytes; all eight and how many were taken now, when they are there.
    fn fill(&mut self, bytes: &[u8]) -> Option<([u8; 8], usize)> {
        let room = self.bytes.get_mut(self.filled..)?;
        let count = room.len().min(bytes.len());
        room.get_mut(..count)?.copy_from_slice(bytes.get(..count)?);
        self.filled += count;
        (self.filled == self.bytes.len()).then_some((self.bytes, count))
    }
}

// === impl Amqp ===

impl Amqp {
    pub(super) fn push(&mut self, from_client: bool, bytes: &[u8]) -> Outcome {
        const TLS: [u8; 8] = *b"AMQP\x02\x01\x00\x00";
        if from_client && self.asked {
            return after_request(bytes, 0);
        }
        if from_client {
            return match self.client.fill(bytes) {
                None => Outcome::More,
                Some((TLS, count)) => {
                    self.asked = true;
                    after_request(bytes.get(count..).unwrap_or_default(), count)
                }
                Some(_) => Outcome::Stays,
            };
        }
        match self.server.fill(bytes) {
            None => Outcome::More,
            Some((TLS, consumed)) if self.asked => Outcome::Upgraded { consumed },
            Some(_) => Outcome::Stays,
        }
    }
}

// === impl Ldap ===

impl Ldap {
    pub(super) fn push(&mut self, from_client: bool, bytes: &[u8]) -> Outcome {
        if from_client && self.asked {
            return after_request(bytes, 0);
        }
        let message = if from_client {
            &mut self.client
        } else {
            &mut self.server
        };
        let before = message.len();
        let room = MOST_LDAP.saturating_sub(before).min(bytes.len());
        message.extend_from_slice(bytes.get(..room).unwrap_or_default());
        let (length, header) = match message.split_first() {
            Some((_, rest)) => match ber_length(rest) {
                Some((length, content)) => (length, message.len() - content.len()),
                None => return Outcome::More,
            },
            None => return Outcome::More,
        };
        let Some(whole) = length.checked_add(header).filter(|it| *it <= MOST_LDAP) else {
            return Outcome::Stays;
        };
        let Some(content) = message.get(header..whole) else {
            return Outcome::More;
        };
        // After the message id of one byte: the operation.
        let Some((operation, rest)) = content.get(3..).and_then(<[u8]>::split_first) else {
            return Outcome::Stays;
        };
        let body = ber_length(rest).map_or(b"".as_slice(), |(_, body)| body);
        if from_client {
            let name = body.strip_prefix(&[0x80, LDAP_START_TLS.len() as u8]);
            let start = name.is_some_and(|name| name.starts_with(LDAP_START_TLS));
            if *operation != 0x77 || !start {
                return Outcome::Stays;
            }
            self.asked = true;
            let consumed = whole.saturating_sub(before);
            return after_request(bytes.get(consumed..).unwrap_or_default(), consumed);
        }
        let success = *operation == 0x78 && body.starts_with(&[0x0a, 1, 0]);
        if self.asked && success {
            Outcome::Upgraded {
                consumed: whole.saturating_sub(before),
            }
        } else {
            Outcome::Stays
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.client.capacity() + self.server.capacity()
    }
}

// === impl MySql ===

impl MySql {
    pub(super) fn push(&mut self, from_client: bool, mut bytes: &[u8]) -> Outcome {
        /// `CLIENT_SSL`.
        const TLS: u16 = 0x0800;
        if !from_client {
            return Outcome::More;
        }
        let mut taken = 0;
        let remaining = match self.remaining {
            Some(remaining) => remaining,
            None => {
                let Some((head, count)) = self.client.fill(bytes) else {
                    return Outcome::More;
                };
                // An SSLRequest has 32 bytes, is the second packet, and says what it is.
                let [length, 0, 0, 1, low, high, ..] = head else {
                    return Outcome::Stays;
                };
                if length != 32 || u16::from_le_bytes([low, high]) & TLS == 0 {
                    return Outcome::Stays;
                }
                taken = count;
                bytes = bytes.get(count..).unwrap_or_default();
                4 + 32 - 8
            }
        };
        let count = remaining.min(bytes.len());
        self.remaining = Some(remaining - count);
        if count < remaining {
            return Outcome::More;
        }
        Outcome::Upgraded {
            consumed: taken + count,
        }
    }
}

// === impl Nats ===

impl Nats {
    pub(super) fn push(&mut self, from_client: bool, bytes: &[u8]) -> Outcome {
        if !from_client || bytes.is_empty() {
            Outcome::More
        } else {
            after_request(bytes, 0)
        }
    }
}

// === impl Postgres ===

impl Postgres {
    pub(super) fn push(&mut self, from_client: bool, bytes: &[u8]) -> Outcome {
        let Some(first) = bytes.first() else {
            return Outcome::More;
        };
        if from_client {
            match self.asked {
                Some(Asked::Tls) => return after_request(bytes, 0),
                Some(Asked::Gss) => return Outcome::Stays,
                None => {}
            }
            let Some((head, count)) = self.client.fill(bytes) else {
                return Outcome::More;
            };
            self.client.filled = 0;
            self.asked = match head {
                [0, 0, 0, 8, code @ ..] => match u32::from_be_bytes(code) {
                    80_877_103 => Some(Asked::Tls),
                    80_877_104 => Some(Asked::Gss),
                    _ => None,
                },
                _ => None,
            };
            let rest = bytes.get(count..).unwrap_or_default();
            return match self.asked {
                Some(Asked::Tls) => after_request(rest, count),
                Some(Asked::Gss) if rest.is_empty() => Outcome::More,
                _ => Outcome::Stays,
            };
        }
        match (self.asked, first) {
            (Some(Asked::Tls), b'S') => Outcome::Upgraded { consumed: 1 },
            (Some(Asked::Gss), b'G') => Outcome::Other("postgresql_gss"),
            (Some(_), b'N') if bytes.len() == 1 => {
                self.asked = None;
                Outcome::More
            }
            _ => Outcome::Stays,
        }
    }
}

// === impl Xmpp ===

impl Xmpp {
    pub(super) fn push(&mut self, from_client: bool, bytes: &[u8]) -> Outcome {
        self.seen = self.seen.saturating_add(bytes.len());
        let asked = self.client.closed;
        let outcome = match from_client {
            true => self.client.find(b"<starttls", bytes).map(|end| {
                let rest = bytes.get(end..).unwrap_or_default();
                let spaces = rest.iter().take_while(|it| it.is_ascii_whitespace());
                let end = end + spaces.count();
                after_request(bytes.get(end..).unwrap_or_default(), end)
            }),
            false if asked => self
                .server
                .find(b"<proceed", bytes)
                .map(|consumed| Outcome::Upgraded { consumed }),
            false => None,
        };
        match outcome.unwrap_or(Outcome::More) {
            Outcome::More if self.seen > MOST_XMPP => Outcome::Stays,
            outcome => outcome,
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.client.tail.capacity() + self.server.tail.capacity()
    }
}

// === impl Element ===

impl Element {
    /// Where `bytes` go on after the element; `None` when it has not ended.
    fn find(&mut self, name: &[u8], bytes: &[u8]) -> Option<usize> {
        if self.closed {
            return Some(0);
        }
        let mut from = 0;
        if !self.named {
            let before = self.tail.len();
            let taken = bytes.get(..MOST_XMPP).unwrap_or(bytes);
            self.tail.extend_from_slice(taken);
            let mut parts = self.tail.windows(name.len());
            let Some(at) = parts.position(|part| part == name) else {
                let keep = self.tail.len().min(name.len() - 1);
                self.tail.drain(..self.tail.len() - keep);
                self.tail.shrink_to(64);
                return None;
            };
            self.named = true;
            self.tail = Vec::new();
            from = (at + name.len()).saturating_sub(before);
        }
        let end = memchr::memchr(b'>', bytes.get(from..)?)?;
        self.closed = true;
        Some(from + end + 1)
    }
}

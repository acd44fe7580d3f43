//! The first bytes of a connection, until they show what it speaks.

use std::sync::Arc;

use crate::{
    assemble::{
        http1::Piece,
        http2::frame::{self, Kind, PREFACE},
        proxy_protocol::{self, Header},
        starttls::{self, Plain},
        tls::{self, Progress, Tls},
    },
    model::{security::Opening, time::Monotonic},
};

/// Bytes that are kept of a connection that has not shown what it is.
const MAX_KEPT: usize = 64 << 10;
/// Protocols of which the client speaks first and in capital letters, and that are not HTTP/1.
const CAPITALS: [&[u8]; 2] = [b"AMQP", b"SSH-"];

/// Bytes that have to be text for a connection to count as in the clear, and fewest of them.
const TEXT: usize = 64;
const LEAST_TEXT: usize = 4;

/// What the bytes so far show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing new.
    More,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// [`Recogniser::opening`] tells more than before.
    News,
    /// Nothing that is decoded; nothing more will be learnt.
    Opaque,
}

/// Looks at the first bytes of both directions.
#[derive(Debug, Default)]
pub(super) struct Recogniser {
    stage: Stage,
    opening: Opening,
    /// Its first bytes were text.
    text: bool,
    /// [`Step::News`] of the handshake was told.
    told: bool,
    /// It was TLS, and went on as something else.
    pub(super) broken: bool,
}

/// A piece of a stream that was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) from_client: bool,
    time: Monotonic,
    hop: (u32, u32),
    bytes: Vec<u8>,
}

/// What is looked for.
#[derive(Debug)]
enum Stage {
    /// A PROXY header, and which protocol the bytes behind it may be.
    Front(Vec<Kept>),
    /// A protocol that starts in the clear.
    Plain(Box<Plain>),
    /// A handshake.
    Tls(Box<Tls>),
}

/// What the first bytes of a connection say, when they come from its client, or from its server.
pub(super) fn first(from_client: bool, bytes: &[u8]) -> Step {
    if !from_client {
        let mut settings = false;
        let frames = frame::frames(bytes, |header, _| {
            settings |= header.kind == Kind::Settings;
        });
        return if frames && settings {
            Step::Http2
        } else {
            Step::Opaque
        };
    }
    let known = bytes.len().min(PREFACE.len());
    match bytes {
        [] => Step::More,
        _ if bytes[..known] == PREFACE[..known] => {
            if known < 4 {
                Step::More
            } else {
                Step::Http2
            }
        }
        _ if CAPITALS.iter().any(|start| bytes.starts_with(start)) => Step::Opaque,
        _ if CAPITALS.iter().any(|start| start.starts_with(bytes)) => Step::More,
        // Methods are upper case; empty lines may come before one.
        [b'A'..=b'Z' | b'\r' | b'\n', ..] => Step::Http1,
        _ => Step::Opaque,
    }
}

/// Whether bytes are text, as far as there are any: printable ASCII and line ends.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let start = bytes.get(..TEXT).unwrap_or(bytes);
    let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t');
    start.len() >= LEAST_TEXT && start.iter().all(printable)
}

/// As [`first`], for what may have a PROXY header in front: then more has to be looked at.
pub(super) fn first_of_all(from_client: bool, bytes: &[u8]) -> Step {
    if from_client && proxy_protocol::parse(bytes) != Header::Not {
        Step::More
    } else {
        first(from_client, bytes)
    }
}

// === impl Recogniser ===

impl Recogniser {
    /// What was seen so far.
    pub(super) fn opening(&self) -> &Opening {
        &self.opening
    }

    /// Takes bytes of one direction.
    pub(super) fn push(&mut self, from_client: bool, piece: &Piece<'_>) -> Step {
        match &mut self.stage {
            Stage::Front(kept) => {
                kept.push(Kept {
                    from_client,
                    time: piece.time,
                    hop: piece.hop,
                    bytes: piece.bytes.to_vec(),
                });
                self.front()
            }
            Stage::Plain(_) => self.plain(from_client, piece.bytes),
            Stage::Tls(_) => self.tls(from_client, piece.bytes),
        }
    }

    /// What was kept, in order.
    pub(super) fn take(&mut self) -> Vec<Kept> {
        match &mut self.stage {
            Stage::Front(kept) => std::mem::take(kept),
            Stage::Plain(_) | Stage::Tls(_) => Vec::new(),
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn weight(&self) -> usize {
        match &self.stage {
            Stage::Front(kept) => weight(kept),
            Stage::Plain(plain) => plain.weight(),
            Stage::Tls(tls) => tls.weight(),
        }
    }

    fn front(&mut self) -> Step {
        let Stage::Front(kept) = &mut self.stage else {
            return Step::More;
        };
        let joined = |from_client: bool, kept: &[Kept]| -> Vec<u8> {
            kept.iter()
                .filter(|piece| piece.from_client == from_client)
                .flat_map(|piece| piece.bytes.iter().copied())
                .collect()
        };
        let mut client = joined(true, kept);
        if self.opening.proxied.is_none() {
            match proxy_protocol::parse(&client) {
                Header::Complete { length, proxied } => {
                    self.opening.proxied = Some(Arc::new(proxied));
                    cut(kept, length);
                    client.drain(..length);
                }
                Header::Partial if !client.is_empty() => return self.more(),
                Header::Partial | Header::Not => {}
            }
        }
        let step = if client.is_empty() {
            let server = joined(false, kept);
            if server.is_empty() {
                return self.more();
            }
            first(false, &server)
        } else {
            first(true, &client)
        };
        match step {
            Step::Opaque => {}
            Step::More => return self.more(),
            step => return step,
        }
        let next = match tls::starts(&client) {
            Some(true) => Stage::Tls(Box::default()),
            None if !client.is_empty() => return self.more(),
            _ => Stage::Plain(Box::default()),
        };
        let kept = std::mem::take(kept);
        self.text = kept.iter().all(|piece| is_text(&piece.bytes));
        self.stage = next;
        let mut news = false;
        for piece in &kept {
            let step = match &self.stage {
                Stage::Plain(_) => self.plain(piece.from_client, &piece.bytes),
                _ => self.tls(piece.from_client, &piece.bytes),
            };
            match step {
                Step::Opaque => return step,
                step => news |= step == Step::News,
            }
        }
        if news { Step::News } else { Step::More }
    }

    fn more(&self) -> Step {
        if self.weight() > MAX_KEPT {
            Step::Opaque
        } else {
            Step::More
        }
    }

    fn plain(&mut self, from_client: bool, bytes: &[u8]) -> Step {
        let Stage::Plain(plain) = &mut self.stage else {
            return Step::More;
        };
        match plain.push(from_client, bytes) {
            starttls::Step::More => Step::More,
            starttls::Step::Protocol(name) => {
                let news = self.opening.protocol.replace(name) != Some(name);
                if news { Step::News } else { Step::More }
            }
            starttls::Step::Stays(name) => {
                self.opening.protocol = Some(name);
                Step::Opaque
            }
            starttls::Step::Unknown => {
                if self.text && self.opening.protocol.is_none() {
                    self.opening.protocol = Some("text");
                }
                Step::Opaque
            }
            starttls::Step::Upgraded { protocol, consumed } => {
                self.opening.started_by = Some(protocol);
                self.stage = Stage::Tls(Box::default());
                self.tls(from_client, bytes.get(consumed..).unwrap_or_default())
            }
        }
    }

    fn tls(&mut self, from_client: bool, bytes: &[u8]) -> Step {
        let Stage::Tls(tls) = &mut self.stage else {
            return Step::More;
        };
        let progress = tls.push(from_client, bytes);
        if progress == Progress::More {
            return Step::More;
        }
        self.broken |= matches!(progress, Progress::Broken | Progress::TooLong);
        if progress == Progress::NotTls {
            return Step::Opaque;
        }
        self.opening.protocol = Some("tls");
        self.opening.tls = Some(Arc::new(tls.handshake().clone()));
        match progress {
            Progress::Done | Progress::Broken => Step::Opaque,
            // The rest is told when all is known.
            _ if std::mem::replace(&mut self.told, true) => Step::More,
            _ => Step::News,
        }
    }
}

// === impl Stage ===

impl Default for Stage {
    fn default() -> Self {
        Self::Front(Vec::new())
    }
}

// === impl Kept ===

impl Kept {
    /// As a piece.
    pub(super) fn piece(&self) -> Piece<'_> {
        Piece {
            bytes: &self.bytes,
            time: self.time,
            hop: self.hop,
        }
    }
}

fn weight(kept: &[Kept]) -> usize {
    kept.iter()
        .map(|kept| kept.bytes.len() + size_of::<Kept>())
        .sum()
}

/// Takes `length` bytes of the client away from what was kept.
fn cut(kept: &mut Vec<Kept>, mut length: usize) {
    for piece in kept.iter_mut().filter(|piece| piece.from_client) {
        let count = length.min(piece.bytes.len());
        piece.bytes.drain(..count);
        piece.hop.0 = piece.hop.0.wrapping_add(count as u32);
        length -= count;
    }
    kept.retain(|piece| !piece.bytes.is_empty());
}

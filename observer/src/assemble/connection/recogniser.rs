//! The first bytes of a connection, until they show what it speaks.

use crate::{
    assemble::{
        http1::Piece,
        http2::frame::{self, Kind, PREFACE},
    },
    model::time::Monotonic,
};

/// Bytes that are kept of a connection that has not shown what it is.
const MAX_KEPT: usize = 64 << 10;

/// What the bytes so far show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    More,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Nothing that is decoded.
    Opaque,
}

/// A piece of a stream that was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) from_client: bool,
    time: Monotonic,
    hop: (u32, u32),
    bytes: Vec<u8>,
}

/// Looks at the first bytes of both directions.
#[derive(Debug, Default)]
pub(super) struct Recogniser {
    kept: Vec<Kept>,
    client: Vec<u8>,
    server: Vec<u8>,
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
        // Methods are upper case; empty lines may come before one.
        [b'A'..=b'Z' | b'\r' | b'\n', ..] => Step::Http1,
        _ => Step::Opaque,
    }
}

// === impl Recogniser ===

impl Recogniser {
    /// Takes bytes of one direction.
    pub(super) fn push(&mut self, from_client: bool, piece: &Piece<'_>) -> Step {
        let bytes = if from_client {
            &mut self.client
        } else {
            &mut self.server
        };
        bytes.extend_from_slice(piece.bytes);
        self.kept.push(Kept {
            from_client,
            time: piece.time,
            hop: piece.hop,
            bytes: piece.bytes.to_vec(),
        });
        let step = if self.client.is_empty() {
            first(false, &self.server)
        } else {
            first(true, &self.client)
        };
        if step == Step::More && self.weight() > MAX_KEPT {
            return Step::Opaque;
        }
        step
    }

    /// What was kept, in order.
    pub(super) fn take(&mut self) -> Vec<Kept> {
        std::mem::take(&mut self.kept)
    }

    /// Bytes ahead in one direction that need not be seen.
    pub(super) fn skippable(&self, _from_client: bool) -> u64 {
        0
    }

    /// Takes bytes that were not captured.
    pub(super) fn skip(&mut self, _from_client: bool, _count: u64) {}

    /// Bytes of memory that it takes.
    pub(super) fn weight(&self) -> usize {
        let kept: usize = self
            .kept
            .iter()
            .map(|kept| kept.bytes.len() + size_of::<Kept>())
            .sum();
        kept + self.client.len() + self.server.len()
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

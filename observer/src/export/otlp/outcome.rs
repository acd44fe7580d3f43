//! What came of one request, in the words of OTLP: taken, to be tried again, or not.

use std::time::{Duration, SystemTime};

use hyper::{HeaderMap, StatusCode};
use prost::Message as _;

use super::{grpc, http, message::Answer};

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector has it, but for `rejected` items.
    Taken {
        /// Items that it did not want.
        rejected: u64,
        /// What it said about that; empty for nothing.
        text: String,
    },
    /// It may be taken later.
    Passing {
        /// How long the collector wants to be left alone.
        after: Option<Duration>,
        /// Why.
        text: String,
    },
    /// It is more than the collector takes at once. `certain`: it cannot mean anything else.
    TooLarge {
        /// Whether it is its size, and not a quota.
        certain: bool,
        /// What the collector said.
        text: String,
    },
    /// It will never be taken.
    Refused {
        /// Why.
        text: String,
    },
}

/// A response as it came.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// It answers a call of gRPC.
    pub grpc: bool,
    /// Its status.
    pub status: StatusCode,
    /// Fields in front of its body.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
    /// Fields behind its body.
    pub trailers: Option<&'a HeaderMap>,
}

/// Longest text of a collector's that is kept, characters.
const MAX_TEXT: usize = 200;

/// Reads the answer to a request that was taken.
pub(super) fn taken(body: &[u8]) -> Outcome {
    // Whoever answers with something else has taken it all the same.
    let partial = Answer::decode(body)
        .ok()
        .and_then(|answer| answer.partial_success)
        .unwrap_or_default();
    Outcome::Taken {
        rejected: u64::try_from(partial.rejected).unwrap_or(0),
        text: short(&partial.message),
    }
}

/// One line of what a collector said.
pub(super) fn short(text: &str) -> String {
    let line = text.trim().chars().take(MAX_TEXT);
    line.map(|character| match character.is_control() {
        true => ' ',
        false => character,
    })
    .collect()
}

/// A name, and what was said to it.
pub(super) fn with(name: &str, text: &str) -> String {
    let text = short(text);
    match text.is_empty() {
        true => name.to_owned(),
        false => format!("{name}: {text}"),
    }
}

// === impl Response ===

impl Response<'_> {
    /// What it says; `now` is what dates are compared with.
    pub fn outcome(&self, now: SystemTime) -> Outcome {
        let Self {
            grpc,
            status,
            headers,
            body,
            trailers,
        } = *self;
        if grpc {
            grpc::outcome(status, headers, body, trailers)
        } else {
            http::outcome(status, headers, body, now)
        }
    }
}

//! How the double misbehaves when a test asks it to.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Request;

/// Misbehaviour, towards some requests.
#[derive(Clone, Debug)]
pub struct Fault {
    verb: Option<&'static str>,
    resource: Option<&'static str>,
    streaming: Option<bool>,
    act: Act,
    left: Option<usize>,
}

/// What is done to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It is answered with 429, 500 or 503, and with `Retry-After` in seconds if there is one.
    Busy(u16, Option<u32>),
    /// It is refused as if the feature were off: what a server without streaming lists says.
    NoStreamingLists,
    /// It is read, and never answered.
    Silence,
    /// Its answer comes in pieces of so many bytes, each after so long.
    Slow(usize, Duration),
    /// Its connection closes after so many bytes of the answer.
    Cut(usize),
    /// Its answer begins with these bytes, whatever follows.
    Garbage(String),
}

/// Where the bytes of an answer go, fast or slow, to the end or not.
#[derive(Debug)]
pub(super) struct Outlet {
    sender: mpsc::Sender<Result<Vec<u8>, std::io::Error>>,
    pace: Option<(usize, Duration)>,
    left: Option<usize>,
}

// === impl Fault ===

impl Fault {
    /// Misbehaviour towards every request, until it is taken back.
    pub fn new(act: Act) -> Self {
        Self {
            verb: None,
            resource: None,
            streaming: None,
            act,
            left: None,
        }
    }

    /// Only of requests with this verb: `get`, `list`, `watch`, `create`, `update`, `delete`.
    #[must_use]
    pub fn verb(mut self, verb: &'static str) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only of requests for this resource, as paths call it.
    #[must_use]
    pub fn resource(mut self, plural: &'static str) -> Self {
        self.resource = Some(plural);
        self
    }

    /// Only of watches that ask for the objects that there are (`sendInitialEvents`).
    #[must_use]
    pub fn streaming_lists(mut self) -> Self {
        self.streaming = Some(true);
        self
    }

    /// Only of the next `times` requests.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }

    /// What to do to `request`, if anything; counts it.
    pub(super) fn apply(&mut self, request: &Request) -> Option<Act> {
        let fits = self.verb.is_none_or(|verb| verb == request.verb)
            && self
                .resource
                .is_none_or(|resource| resource == request.resource)
            && self
                .streaming
                .is_none_or(|streaming| streaming == request.is_streaming_list());
        if !fits || self.left == Some(0) {
            return None;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Some(self.act.clone())
    }
}

// === impl Outlet ===

impl Outlet {
    pub(super) fn new(
        sender: mpsc::Sender<Result<Vec<u8>, std::io::Error>>,
        act: Option<&Act>,
    ) -> Self {
        Self {
            sender,
            pace: match act {
                Some(Act::Slow(bytes, delay)) => Some((*bytes, *delay)),
                _ => None,
            },
            left: match act {
                Some(Act::Cut(bytes)) => Some(*bytes),
                _ => None,
            },
        }
    }

    /// Sends bytes; whether more may follow.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        let (piece, delay) = self.pace.unwrap_or((bytes.len(), Duration::ZERO));
        for piece in bytes.chunks(piece.max(1)) {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let cut = self.left.is_some_and(|left| left <= piece.len());
            let kept = if cut {
                self.left.unwrap_or_default()
            } else {
                piece.len()
            };
            if let Some(left) = &mut self.left {
                *left -= kept;
            }
            if self.sender.send(Ok(piece[..kept].to_vec())).await.is_err() {
                return false;
            }
            if cut {
                self.break_off().await;
                return false;
            }
        }
        true
    }

    /// Closes the connection where it is, in the middle of whatever.
    pub(super) async fn break_off(&self) {
        let error = std::io::Error::other("closed on purpose");
        // Who has gone does not mind.
        let _ = self.sender.send(Err(error)).await;
    }
}

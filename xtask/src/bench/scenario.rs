//! The loads that observing is measured under.

use clap::ValueEnum;

/// A load: what wrk asks nginx for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Keep-alive requests for twelve bytes
    Hello,
    /// Keep-alive requests for 64 KiB
    Medium,
    /// Keep-alive requests for 10 MiB
    Large,
    /// A connection for each request
    Close,
    /// Keep-alive requests for twelve bytes, 16 in a write
    Pipelined,
    /// 10,000 open connections, and none: memory, and CPU without traffic
    Open,
}

/// Connections of every load.
pub(super) const CONNECTIONS: u64 = 16;
/// Requests in one write of [`Scenario::Pipelined`].
const DEPTH: u64 = 16;

// === impl Scenario ===

impl Scenario {
    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Medium => "medium",
            Self::Large => "large",
            Self::Close => "close",
            Self::Pipelined => "pipelined",
            Self::Open => "open",
        }
    }

    /// What it is, in words.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Hello => "keep-alive, 12 B responses",
            Self::Medium => "keep-alive, 64 KiB responses",
            Self::Large => "keep-alive, 10 MiB responses",
            Self::Close => "a connection for each request, 12 B responses",
            Self::Pipelined => "keep-alive, 12 B responses, 16 requests in a write",
            Self::Open => "open connections without traffic",
        }
    }

    /// What is asked for.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Hello | Self::Close | Self::Pipelined | Self::Open => "/hello",
            Self::Medium => "/64k",
            Self::Large => "/10m",
        }
    }

    /// Requests in a write.
    pub(super) fn depth(self) -> u64 {
        match self {
            Self::Pipelined => DEPTH,
            _ => 1,
        }
    }

    /// Whether a request asks for the end of its connection.
    pub(super) fn closes(self) -> bool {
        self == Self::Close
    }

    /// Requests that may be under way when wrk stops: it does not count them, though some are
    /// answered.
    pub(super) fn under_way(self) -> u64 {
        CONNECTIONS * self.depth()
    }
}

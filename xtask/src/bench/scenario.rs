//! The loads that observing is measured under, and what makes them.

use clap::ValueEnum;

/// A load: what is asked for, and how.
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
    /// HTTP/2: requests for twelve bytes, one stream of a connection at a time
    H2,
    /// HTTP/2: requests for twelve bytes, 10 streams at a time
    #[value(name = "h2-10")]
    H2Ten,
    /// HTTP/2: requests for twelve bytes, 100 streams at a time
    #[value(name = "h2-100")]
    H2Hundred,
    /// HTTP/2: requests for 64 KiB, 10 streams at a time
    H2Large,
    /// gRPC: unary calls of 32 bytes, 10 of a connection at a time
    Grpc,
    /// As hello, with none, some and all of the spans sent out, and with nobody to take them
    Traces,
    /// 10,000 open connections, and none: memory, and CPU without traffic
    Open,
    /// A cluster of 10,000 pods: its hub with 1,000 agents, and an agent with and without the hub
    Cluster,
}

/// What makes a load, and against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// wrk against nginx.
    Wrk,
    /// h2load against nginx.
    H2load,
    /// The Go peer's client against its server.
    Go,
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
            Self::H2 => "h2",
            Self::H2Ten => "h2-10",
            Self::H2Hundred => "h2-100",
            Self::H2Large => "h2-large",
            Self::Grpc => "grpc",
            Self::Traces => "traces",
            Self::Open => "open",
            Self::Cluster => "cluster",
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
            Self::H2 => "HTTP/2, 12 B responses, one stream at a time",
            Self::H2Ten => "HTTP/2, 12 B responses, 10 streams at a time",
            Self::H2Hundred => "HTTP/2, 12 B responses, 100 streams at a time",
            Self::H2Large => "HTTP/2, 64 KiB responses, 10 streams at a time",
            Self::Grpc => "gRPC, unary calls of 32 B, 10 at a time",
            Self::Traces => "keep-alive, 12 B responses, spans sent to a sink",
            Self::Open => "open connections without traffic",
            Self::Cluster => "a cluster of 10,000 pods",
        }
    }

    /// What makes it.
    pub(super) fn tool(self) -> Tool {
        match self {
            Self::Hello
            | Self::Medium
            | Self::Large
            | Self::Close
            | Self::Pipelined
            | Self::Traces
            | Self::Open
            | Self::Cluster => Tool::Wrk,
            Self::H2 | Self::H2Ten | Self::H2Hundred | Self::H2Large => Tool::H2load,
            Self::Grpc => Tool::Go,
        }
    }

    /// What is asked for, where it is a path.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Medium | Self::H2Large => "/64k",
            Self::Large => "/10m",
            _ => "/hello",
        }
    }

    /// Requests of a connection that are under way at once: in one write, or by HTTP/2.
    pub(super) fn depth(self) -> u64 {
        match self {
            Self::Pipelined => DEPTH,
            Self::H2Ten | Self::H2Large | Self::Grpc => 10,
            Self::H2Hundred => 100,
            _ => 1,
        }
    }

    /// Whether a request asks for the end of its connection.
    pub(super) fn closes(self) -> bool {
        self == Self::Close
    }

    /// Whether what makes it measures latencies of single requests.
    pub(super) fn has_latencies(self) -> bool {
        match self.tool() {
            // wrk corrects latencies as if each request had waited for the one before it.
            Tool::Wrk => self.depth() == 1,
            Tool::H2load => false,
            Tool::Go => true,
        }
    }

    /// Requests that may be under way at the end: they are not counted, though some are answered.
    pub(super) fn under_way(self) -> u64 {
        match self.tool() {
            Tool::Wrk | Tool::H2load => CONNECTIONS * self.depth(),
            // It finishes what it has begun.
            Tool::Go => 0,
        }
    }
}

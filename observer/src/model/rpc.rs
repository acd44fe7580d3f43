//! A remote procedure call inside an exchange: gRPC, and gRPC-Web.

use std::time::Duration;

use super::time::Monotonic;

/// What carries the call (`rpc.system.name`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RpcSystem {
    /// gRPC over HTTP/2: content type `application/grpc` with or without a suffix.
    Grpc,
    /// gRPC-Web: content type `application/grpc-web` or `application/grpc-web-text`.
    GrpcWeb,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RpcEnd {
    /// `grpc-status` of the trailers, or of the head of a trailers-only response.
    Status(u32),
    /// The client reset the stream before there was a status, and before its deadline.
    Cancelled,
    /// The client reset the stream before there was a status, when its deadline had passed.
    DeadlineExceeded,
    /// Bytes that would tell were not seen, or there never were any.
    Unknown,
}

/// Messages of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// Complete messages seen.
    pub count: u64,
    /// There may have been more: bytes that would tell were not seen.
    pub at_least: bool,
    /// When the first byte of the first message passed the socket.
    pub first: Option<Monotonic>,
    /// When the last byte of the last complete message passed the socket.
    pub last: Option<Monotonic>,
}

/// What an exchange is as a remote procedure call. Service and method are the two parts of the
/// request's path; see [`names`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpc {
    /// What carries it.
    pub system: RpcSystem,
    /// How it ended.
    pub end: RpcEnd,
    /// Deadline that the client gave (`grpc-timeout`), from the request's head on.
    pub deadline: Option<Duration>,
    /// Messages from the client.
    pub requests: Messages,
    /// Messages from the server.
    pub responses: Messages,
}

/// Service and method of a path `/package.Service/Method`.
pub fn names(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
    (!service.is_empty() && !method.is_empty()).then_some((service, method))
}

// === impl RpcSystem ===

impl RpcSystem {
    /// As in `rpc.system.name`; gRPC-Web is gRPC to the conventions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
        }
    }
}

// === impl RpcEnd ===

impl RpcEnd {
    /// Names of the status codes of gRPC, by number: `rpc.response.status_code`.
    pub const STATUSES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];

    /// Name of the status as the client sees it; `None` when it is not known.
    pub fn status_name(self) -> Option<&'static str> {
        let code = match self {
            Self::Status(code) => code,
            Self::Cancelled => 1,
            Self::DeadlineExceeded => 4,
            Self::Unknown => return None,
        };
        // A code that is not defined is to be taken for UNKNOWN.
        let index = usize::try_from(code).unwrap_or(usize::MAX);
        Some(Self::STATUSES.get(index).copied().unwrap_or("UNKNOWN"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_two_names() {
        assert_eq!(
            names("/helloworld.Greeter/SayHello"),
            Some(("helloworld.Greeter", "SayHello"))
        );
        assert_eq!(names("/prefix/a.B/C"), Some(("prefix/a.B", "C")));
        for path in ["", "/", "a.B/C", "/a.B", "/a.B/", "//C"] {
            assert_eq!(names(path), None, "{path}");
        }
    }

    #[test]
    fn statuses_have_names() {
        assert_eq!(RpcEnd::Status(0).status_name(), Some("OK"));
        assert_eq!(RpcEnd::Status(16).status_name(), Some("UNAUTHENTICATED"));
        assert_eq!(RpcEnd::Status(99).status_name(), Some("UNKNOWN"));
        assert_eq!(RpcEnd::Cancelled.status_name(), Some("CANCELLED"));
        assert_eq!(RpcEnd::Unknown.status_name(), None);
    }
}

//! Names of fields that are wanted, and how much of their values.

use crate::assemble::{forwarded::Mark, trace_context::Carrier};

/// A field that the observer reads. Values of all others are neither kept nor told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// `:authority`, without user information.
    Authority,
    /// `:method`.
    Method,
    /// `:path`; a query is cut, its `?` stays.
    Path,
    /// `:protocol` (RFC 8441).
    Protocol,
    /// `:scheme`.
    Scheme,
    /// `:status`.
    Status,
    /// `content-length`.
    ContentLength,
    /// `content-type`.
    ContentType,
    /// `grpc-encoding`.
    GrpcEncoding,
    /// `grpc-status`.
    GrpcStatus,
    /// `grpc-timeout`.
    GrpcTimeout,
    /// `host`, without user information.
    Host,
    /// What a proxy writes, see [`Mark::cut`].
    Mark(Mark),
    /// `te`.
    Te,
    /// What tells of a request's trace, see [`Carrier::cut`].
    Trace(Carrier),
    /// `upgrade`.
    Upgrade,
    /// `user-agent`.
    UserAgent,
}

/// Length of the longest name that is wanted.
pub(super) const LONGEST: usize = 29;

// === impl Name ===

impl Name {
    /// The wanted field of this name, if it is one. Names are lower case (RFC 9113 section 8.2).
    pub fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            b"content-length" => Self::ContentLength,
            b"content-type" => Self::ContentType,
            b"grpc-encoding" => Self::GrpcEncoding,
            b"grpc-status" => Self::GrpcStatus,
            b"grpc-timeout" => Self::GrpcTimeout,
            b"host" => Self::Host,
            b"te" => Self::Te,
            b"upgrade" => Self::Upgrade,
            b"user-agent" => Self::UserAgent,
            _ => return Self::of_trace(name).or_else(|| Self::of_mark(name)),
        })
    }

    /// As [`Self::of`], for those that proxies write.
    fn of_mark(name: &[u8]) -> Option<Self> {
        let mark = match name {
            b"x-forwarded-client-cert" => Mark::ClientCertificate,
            b"l5d-client-id" => Mark::ClientId,
            b"x-envoy-attempt-count" => Mark::AttemptCount,
            b"x-envoy-upstream-service-time" => Mark::UpstreamTime,
            b"l5d-proxy-error" => Mark::ProxyError,
            b"server" => Mark::Server,
            _ => return None,
        };
        Some(Self::Mark(mark))
    }

    /// As [`Self::of`], for those that tell of a trace.
    fn of_trace(name: &[u8]) -> Option<Self> {
        let carrier = match name {
            b"traceparent" => Carrier::TraceParent,
            b"tracestate" => Carrier::TraceState,
            b"b3" => Carrier::B3,
            b"x-b3-traceid" => Carrier::B3Trace,
            b"x-b3-spanid" => Carrier::B3Span,
            b"x-b3-sampled" => Carrier::B3Sampled,
            b"x-b3-flags" => Carrier::B3Flags,
            b"uber-trace-id" => Carrier::UberTrace,
            b"x-amzn-trace-id" => Carrier::XRay,
            b"x-cloud-trace-context" => Carrier::CloudTrace,
            b"x-request-id" => Carrier::RequestId,
            _ => return None,
        };
        Some(Self::Trace(carrier))
    }

    /// The part of a value that may be kept: no query, no user information, no certificate.
    pub fn cut(self, value: &[u8]) -> &[u8] {
        match self {
            Self::Path => {
                let end = memchr::memchr(b'?', value).map_or(value.len(), |at| at + 1);
                &value[..end]
            }
            Self::Authority | Self::Host => {
                let start = memchr::memrchr(b'@', value).map_or(0, |at| at + 1);
                &value[start..]
            }
            Self::Trace(carrier) => carrier.cut(value),
            Self::Mark(mark) => mark.cut(value),
            _ => value,
        }
    }
}

//! Names of fields that are wanted, and how much of their values.

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
    /// `te`.
    Te,
    /// `upgrade`.
    Upgrade,
    /// `user-agent`.
    UserAgent,
}

/// Length of the longest name that is wanted.
pub(super) const LONGEST: usize = 14;

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
            _ => return None,
        })
    }

    /// The part of a value that may be kept: no query, no user information.
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
            _ => value,
        }
    }
}

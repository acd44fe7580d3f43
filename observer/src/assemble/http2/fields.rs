//! What a header block says of a message: the fields of requests, responses and trailers that count.

use std::time::Duration;

use crate::{
    assemble::{
        forwarded::{Answered, Asked, Mark, attempt},
        grpc::{self, Format},
        heads::Heads,
        hpack::{Decoder, Field, Malformed, Name},
        http1::head,
        trace_context::Collector,
    },
    model::exchange::{HttpVersion, RequestHead},
};

/// Longest value of a field that is looked at, bytes; longer ones are cut.
const LONGEST: usize = 4096;

/// The fields of one block. Reused, so that a block allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Fields {
    method: Vec<u8>,
    path: Vec<u8>,
    scheme: Vec<u8>,
    authority: Vec<u8>,
    host: Vec<u8>,
    user_agent: Vec<u8>,
    /// `:protocol` was there (RFC 8441 section 4).
    pub(super) protocol: bool,
    /// `:status`.
    pub(super) status: Option<u16>,
    /// A pseudo-field of requests was there.
    pub(super) of_request: bool,
    /// `content-type` names gRPC.
    pub(super) rpc: Option<Format>,
    /// `grpc-status`.
    pub(super) rpc_status: Option<u32>,
    /// `grpc-timeout`.
    pub(super) deadline: Option<Duration>,
    /// A field was there whose name was not seen.
    pub(super) unknown: bool,
    /// What tells of the request's trace.
    pub(super) trace: Collector,
    client_uri: Vec<u8>,
    client_id: Vec<u8>,
    attempt: Option<u16>,
    /// What proxies tell of a response.
    pub(super) answered: Answered,
}

// === impl Fields ===

impl Fields {
    /// Reads a block.
    pub(super) fn read(&mut self, decoder: &mut Decoder, block: &[u8]) -> Result<(), Malformed> {
        self.clear();
        decoder.decode(block, &mut |field| match field {
            Field::Known(name, value) => self.set(name, &value[..value.len().min(LONGEST)]),
            Field::Unknown => self.unknown = true,
            Field::Other => {}
        })
    }

    /// Whether the request is a CONNECT (RFC 9113 section 8.5).
    pub(super) fn is_connect(&self) -> bool {
        self.method == b"CONNECT"
    }

    /// The head of the request; what was not seen is empty.
    pub(super) fn request(&self, heads: &mut Heads) -> std::sync::Arc<RequestHead> {
        let authority = if self.authority.is_empty() {
            &self.host
        } else {
            &self.authority
        };
        // A plain CONNECT has an authority and nothing else, and HTTP/1 writes it as the target.
        let target = if self.path.is_empty() && self.is_connect() && !self.protocol {
            authority
        } else {
            &self.path
        };
        let end = memchr::memchr(b'?', target);
        heads.intern(&head::Request {
            method: &self.method,
            path: &target[..end.unwrap_or(target.len())],
            has_query: end.is_some(),
            scheme: (!self.scheme.is_empty()).then_some(&self.scheme),
            authority,
            user_agent: &self.user_agent,
            version: HttpVersion::Http2,
            body: head::BodyLength::Fixed(0),
            upgrade: false,
            rpc: None,
            trace: Collector::default(),
            asked: Asked::default(),
        })
    }

    /// What proxies tell of a request.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            client_uri: &self.client_uri,
            client_id: &self.client_id,
            attempt: self.attempt,
        }
    }

    fn set(&mut self, name: Name, value: &[u8]) {
        match name {
            Name::Method => self.pseudo(|fields| &mut fields.method, value),
            Name::Path => self.pseudo(|fields| &mut fields.path, value),
            Name::Scheme => self.pseudo(|fields| &mut fields.scheme, value),
            Name::Authority => self.pseudo(|fields| &mut fields.authority, value),
            Name::Protocol => {
                self.protocol = true;
                self.of_request = true;
            }
            Name::Status => self.status = status(value),
            Name::Host => keep(&mut self.host, value),
            Name::UserAgent => keep(&mut self.user_agent, value),
            Name::ContentType => self.rpc = grpc::content_type(value),
            Name::GrpcStatus => self.rpc_status = grpc::status(value),
            Name::GrpcTimeout => self.deadline = grpc::timeout(value),
            Name::Trace(carrier) => self.trace.push(carrier, value),
            Name::Mark(Mark::ClientCertificate) => keep(&mut self.client_uri, value),
            Name::Mark(Mark::ClientId) => keep(&mut self.client_id, value),
            Name::Mark(Mark::AttemptCount) => self.attempt = attempt(value),
            Name::Mark(mark) => self.answered.push(mark, value),
            Name::ContentLength | Name::GrpcEncoding | Name::Te | Name::Upgrade => {}
        }
    }

    fn pseudo(&mut self, which: impl FnOnce(&mut Self) -> &mut Vec<u8>, value: &[u8]) {
        self.of_request = true;
        keep(which(self), value);
    }

    fn clear(&mut self) {
        for text in [
            &mut self.method,
            &mut self.path,
            &mut self.scheme,
            &mut self.authority,
            &mut self.host,
            &mut self.user_agent,
            &mut self.client_uri,
            &mut self.client_id,
        ] {
            text.clear();
        }
        self.protocol = false;
        self.status = None;
        self.of_request = false;
        self.rpc = None;
        self.rpc_status = None;
        self.deadline = None;
        self.unknown = false;
        self.trace.clear();
        self.attempt = None;
        self.answered = Answered::default();
    }
}

fn keep(text: &mut Vec<u8>, value: &[u8]) {
    text.clear();
    text.extend_from_slice(value);
}

/// Three digits, of which the first is no 0 (RFC 9110 section 15).
fn status(value: &[u8]) -> Option<u16> {
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = *value else {
        return None;
    };
    let digit = |byte: u8| u16::from(byte - b'0');
    Some(digit(a) * 100 + digit(b) * 10 + digit(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_three_digits() {
        assert_eq!(status(b"200"), Some(200));
        for other in [&b""[..], b"20", b"2000", b"020", b"2x0"] {
            assert_eq!(status(other), None);
        }
    }

    #[test]
    fn requests_are_read() {
        let mut fields = Fields::default();
        let mut heads = Heads::new(4);
        let mut decoder = Decoder::new(true);
        // RFC 7541 appendix C.3.1.
        let block = b"\x82\x86\x84\x41\x0fwww.example.com";
        fields.read(&mut decoder, block).unwrap();
        assert!(fields.of_request && fields.status.is_none() && !fields.unknown);
        let head = fields.request(&mut heads);
        assert_eq!((&*head.method, &*head.path), ("GET", "/"));
        assert_eq!(&*head.authority, "www.example.com");
        assert_eq!(head.scheme.as_deref(), Some("http"));
        fields.read(&mut decoder, b"\x88").unwrap();
        assert_eq!(fields.status, Some(200));
        assert!(!fields.of_request);
    }

    #[test]
    fn what_was_not_seen_is_unknown() {
        let mut fields = Fields::default();
        let mut decoder = Decoder::new(false);
        fields.read(&mut decoder, b"\x82\x86\xbf\xbe").unwrap();
        assert!(fields.unknown);
        let head = fields.request(&mut Heads::new(4));
        assert_eq!((&*head.method, &*head.path), ("GET", ""));
    }
}

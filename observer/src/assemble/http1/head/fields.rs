//! The fields of a head that frame a message, or tell of gRPC-Web, of traces and of proxies.

use std::time::Duration;

use memchr::memchr;

use super::{BodyLength, trim, trim_cr};
use crate::assemble::{
    forwarded::{Answered, Asked, Mark},
    grpc::{self, Format},
    trace_context::{Carrier, Collector},
};

/// The fields that frame a message.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) host: &'a [u8],
    pub(super) user_agent: &'a [u8],
    pub(super) content_length: Option<u64>,
    pub(super) bad_length: bool,
    pub(super) encoded: bool,
    pub(super) chunked: bool,
    pub(super) upgrade: bool,
    pub(super) to_http2: bool,
    pub(super) rpc: Option<Format>,
    pub(super) rpc_timeout: Option<Duration>,
    pub(super) rpc_status: Option<u32>,
    pub(super) trace: Collector,
    pub(super) asked: Asked<'a>,
    pub(super) answered: Answered,
}

/// Reads fields up to the empty line; the length of them all with it, if it is there. Only those of
/// a request tell of its trace.
pub(super) fn read_fields<const REQUEST: bool>(bytes: &[u8]) -> (Fields<'_>, Option<usize>) {
    let mut fields = Fields::default();
    let mut at = 0;
    while let Some(end) = bytes.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        let line = trim_cr(&bytes[at..at + end]);
        at += end + 1;
        if line.is_empty() {
            return (fields, Some(at));
        }
        // Where a name would end tells it apart; most fields are none of these, and are passed over
        // without a search.
        let named = |name: &[u8]| {
            let (found, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            found.eq_ignore_ascii_case(name).then(|| trim(value))
        };
        match line[0].to_ascii_lowercase() {
            b'h' => {
                if let Some(value) = named(b"host") {
                    fields.host = value;
                }
            }
            b'u' => {
                if let Some(value) = named(b"user-agent") {
                    fields.user_agent = value;
                } else if let Some(value) = named(b"upgrade") {
                    fields.upgrade = true;
                    fields.to_http2 |= value
                        .split(|byte| *byte == b',')
                        .any(|protocol| trim(protocol).eq_ignore_ascii_case(b"h2c"));
                } else if REQUEST {
                    fields.trace(line);
                }
            }
            b'c' => {
                if let Some(value) = named(b"content-length") {
                    fields.length(value);
                } else if let Some(value) = named(b"content-type") {
                    // Plain gRPC needs HTTP/2.
                    fields.rpc = grpc::content_type(value).filter(|kind| *kind != Format::Grpc);
                }
            }
            b'g' => {
                if let Some(value) = named(b"grpc-status") {
                    fields.rpc_status = grpc::status(value);
                } else if let Some(value) = named(b"grpc-timeout") {
                    fields.rpc_timeout = grpc::timeout(value);
                }
            }
            b't' => {
                if let Some(value) = named(b"transfer-encoding") {
                    fields.encoding(value);
                } else if REQUEST {
                    fields.trace(line);
                }
            }
            b'b' if REQUEST => fields.trace(line),
            b'x' if REQUEST => {
                let marked = fields.marked::<REQUEST>(line);
                if !marked {
                    fields.trace(line);
                }
            }
            b'l' | b's' | b'x' => {
                fields.marked::<REQUEST>(line);
            }
            _ => {}
        }
    }
    (fields, None)
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// A list of equal numbers is one number (RFC 9110 section 8.6).
    fn length(&mut self, value: &[u8]) {
        for item in value.split(|byte| *byte == b',') {
            let parsed = std::str::from_utf8(trim(item))
                .ok()
                .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok());
            match (parsed, self.content_length) {
                (None, _) => self.bad_length = true,
                (Some(new), Some(old)) if new != old => self.bad_length = true,
                (Some(new), _) => self.content_length = Some(new),
            }
        }
    }

    fn trace(&mut self, line: &[u8]) {
        if let Some((carrier, value)) = Carrier::of_line(line) {
            self.trace.push(carrier, value);
        }
    }

    /// Takes a field that proxies write; false if it is none.
    fn marked<const REQUEST: bool>(&mut self, line: &'a [u8]) -> bool {
        let Some((mark, value)) = Mark::of_line::<REQUEST>(line) else {
            return false;
        };
        let value = mark.cut(value);
        self.asked.push(mark, value);
        self.answered.push(mark, value);
        true
    }

    /// Only the last coding tells how the message ends.
    fn encoding(&mut self, value: &[u8]) {
        self.encoded = true;
        let last = value
            .rsplit(|byte| *byte == b',')
            .map(trim)
            .find(|item| !item.is_empty());
        if let Some(last) = last {
            self.chunked = last.eq_ignore_ascii_case(b"chunked");
        }
    }

    pub(super) fn request_body(&self) -> BodyLength {
        match (self.encoded, self.chunked) {
            (true, true) => BodyLength::Chunked,
            // A request whose end cannot be told is to be refused (RFC 9112 section 6.3, 4).
            (true, false) => BodyLength::Malformed,
            _ if self.bad_length => BodyLength::Malformed,
            _ => BodyLength::Fixed(self.content_length.unwrap_or(0)),
        }
    }

    pub(super) fn response_body(&self) -> BodyLength {
        match (self.encoded, self.chunked) {
            (true, true) => BodyLength::Chunked,
            (true, false) => BodyLength::UntilClose,
            _ if self.bad_length => BodyLength::Malformed,
            _ => self
                .content_length
                .map_or(BodyLength::UntilClose, BodyLength::Fixed),
        }
    }
}

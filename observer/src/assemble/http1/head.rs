//! Message heads (RFC 9112 sections 2 to 6): start line, and the few fields that frame a message
//! or tell gRPC-Web.
//!
//! Bias: a connection is HTTP/1 only when a start line is right to the letter; fields are read
//! leniently, as servers do. Values of `Authorization`, cookies and queries are never copied.

mod fields;

use std::time::Duration;

use memchr::{memchr, memchr2};

use self::fields::{Fields, read_fields};
use crate::{
    assemble::{
        forwarded::{Answered, Asked},
        grpc::Format,
        trace_context::Collector,
    },
    model::exchange::HttpVersion,
};

/// Longest method that is taken for one; registered ones have at most 17 letters.
const MAX_METHOD: usize = 32;

/// What a parser says of a prefix of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A whole head, and its length.
    Complete(T, usize),
    /// What there is may become a head.
    Partial,
    /// It is not a head.
    Invalid,
}

/// How the length of a body is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// This many bytes; 0 for none.
    Fixed(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Until the connection closes (responses only).
    UntilClose,
    /// The fields contradict each other.
    Malformed,
}

/// A request head, borrowed from the bytes it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a [u8],
    /// Path, without query and fragment.
    pub path: &'a [u8],
    /// A query followed.
    pub has_query: bool,
    /// Scheme of an absolute-form target.
    pub scheme: Option<&'a [u8]>,
    /// Authority of the target, or the `Host` field.
    pub authority: &'a [u8],
    /// `User-Agent`.
    pub user_agent: &'a [u8],
    /// Version.
    pub version: HttpVersion,
    /// Length of the body.
    pub body: BodyLength,
    /// An `Upgrade` field was there.
    pub upgrade: bool,
    /// A content type of gRPC-Web, and the `grpc-timeout`.
    pub rpc: Option<(Format, Option<Duration>)>,
    /// What tells of its trace.
    pub trace: Collector,
    /// What proxies tell of it.
    pub asked: Asked<'a>,
}

/// A response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Version.
    pub version: HttpVersion,
    /// Length of the body as the fields tell it, whatever the request and status say.
    pub body: BodyLength,
    /// A content type of gRPC-Web.
    pub rpc: Option<Format>,
    /// `grpc-status`.
    pub rpc_status: Option<u32>,
    /// An `Upgrade` field names HTTP/2 in the clear (RFC 7540 section 3.2).
    pub to_http2: bool,
    /// What proxies tell of it.
    pub answered: Answered,
}

/// Finds the end of a head: the byte after its empty line. A single LF counts as a line end
/// (RFC 9112 section 2.2). `from` says up to where earlier bytes were searched already.
pub fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(3);
    while let Some(found) = memchr(b'\n', bytes.get(at..)?) {
        let next = at + found + 1;
        match bytes.get(next..) {
            Some([b'\n', ..]) => return Some(next + 1),
            Some([b'\r', b'\n', ..]) => return Some(next + 2),
            _ => at = next,
        }
    }
    None
}

/// Parses a request head at the start of `bytes`. `searched` bytes were seen before, without an
/// end.
pub fn request(bytes: &[u8], searched: usize) -> Parsed<Request<'_>> {
    // Empty lines before a request line are to be ignored (RFC 9112 section 2.2).
    let blank = blank_lines(bytes);
    let rest = &bytes[blank..];
    let searched = searched.saturating_sub(blank);
    let Some(line_end) = memchr(b'\n', rest) else {
        return if may_be_request_line(rest, searched) {
            Parsed::Partial
        } else {
            Parsed::Invalid
        };
    };
    if searched > 0 && find_end(rest, searched).is_none() {
        // The fields are read once, when all are there.
        let known = line_end < searched || request_line(trim_cr(&rest[..line_end])).is_some();
        return if known {
            Parsed::Partial
        } else {
            Parsed::Invalid
        };
    }
    let Some(mut request) = request_line(trim_cr(&rest[..line_end])) else {
        return Parsed::Invalid;
    };
    let (fields, length) = read_fields::<true>(&rest[line_end + 1..]);
    match length {
        Some(length) => {
            request.add(fields);
            Parsed::Complete(request, blank + line_end + 1 + length)
        }
        None => Parsed::Partial,
    }
}

/// What can be told of a request of which only the start is there: its line, if that is complete,
/// and the complete fields. `body` is what these fields say.
pub fn opening(bytes: &[u8]) -> Option<Request<'_>> {
    let rest = &bytes[blank_lines(bytes)..];
    let line_end = memchr(b'\n', rest)?;
    let mut request = request_line(trim_cr(&rest[..line_end]))?;
    let (fields, _) = read_fields::<true>(&rest[line_end + 1..]);
    request.add(fields);
    Some(request)
}

/// How many bytes of empty lines `bytes` start with.
pub fn blank_lines(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count()
}

/// Parses a response head at the start of `bytes`. `searched` bytes were seen before, without an
/// end.
pub fn response(bytes: &[u8], searched: usize) -> Parsed<Response> {
    let Some(line_end) = memchr(b'\n', bytes) else {
        return if may_be_response(bytes) {
            Parsed::Partial
        } else {
            Parsed::Invalid
        };
    };
    if line_end < searched && find_end(bytes, searched).is_none() {
        return Parsed::Partial;
    }
    let Some((version, status)) = status_line(trim_cr(&bytes[..line_end])) else {
        return Parsed::Invalid;
    };
    let (fields, length) = read_fields::<false>(&bytes[line_end + 1..]);
    match length {
        Some(length) => {
            let response = Response {
                status,
                version,
                body: fields.response_body(),
                rpc: fields.rpc,
                rpc_status: fields.rpc_status,
                to_http2: fields.to_http2,
                answered: fields.answered,
            };
            Parsed::Complete(response, line_end + 1 + length)
        }
        None => Parsed::Partial,
    }
}

/// Whether `bytes` may be the start of a request, as far as they go.
pub fn may_be_request(bytes: &[u8]) -> bool {
    match memchr(b'\n', bytes) {
        Some(end) => request_line(trim_cr(&bytes[..end])).is_some(),
        None => may_be_request_line(bytes, 0),
    }
}

/// Whether `bytes`, which have no line end, may be the start of a request line. The first
/// `searched` of them have passed before.
fn may_be_request_line(bytes: &[u8], searched: usize) -> bool {
    let method = &bytes[..bytes.len().min(MAX_METHOD + 1)];
    let (method, target) = match memchr(b' ', method) {
        Some(0) => return false,
        Some(space) => (&method[..space], space + 1),
        None if method.len() > MAX_METHOD => return false,
        None => (method, bytes.len()),
    };
    // A target has no controls.
    let target = bytes.get(target.max(searched)..).unwrap_or(b"");
    method.iter().all(|byte| is_token(*byte))
        && target
            .iter()
            .all(|byte| matches!(byte, b'\r' | b' '..=b'~' | 0x80..))
}

/// Whether `bytes` start with a common method and a space: all that a stream is joined at whose
/// order is not known. Stricter than [`may_be_request`], for these bytes may be of a body.
pub fn starts_request(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"PATCH ",
        b"OPTIONS ",
        b"CONNECT ",
        b"TRACE ",
    ];
    METHODS.iter().any(|method| bytes.starts_with(method)) && may_be_request(bytes)
}

/// Whether `bytes` may be the start of a response, as far as they go.
pub fn may_be_response(bytes: &[u8]) -> bool {
    match memchr(b'\n', bytes) {
        Some(end) => status_line(trim_cr(&bytes[..end])).is_some(),
        None => {
            let known = b"HTTP/1.";
            let length = bytes.len().min(known.len());
            bytes[..length] == known[..length]
        }
    }
}

fn trim_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3).
fn request_line(line: &[u8]) -> Option<Request<'_>> {
    let space = memchr(b' ', line)?;
    let method = &line[..space];
    if method.is_empty() || method.len() > MAX_METHOD || !method.iter().all(|b| is_token(*b)) {
        return None;
    }
    let rest = &line[space + 1..];
    let space = memchr::memrchr(b' ', rest)?;
    let (target, version) = (&rest[..space], &rest[space + 1..]);
    let version = version_of(version)?;
    // White space within a target is not allowed; some clients send it, and servers refuse it.
    if target.is_empty() || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return None;
    }
    let mut request = Request {
        method,
        path: b"",
        has_query: false,
        scheme: None,
        authority: b"",
        user_agent: b"",
        version,
        body: BodyLength::Fixed(0),
        upgrade: false,
        rpc: None,
        trace: Collector::default(),
        asked: Asked::default(),
    };
    if method == b"CONNECT" {
        // authority-form
        request.authority = without_user(target);
        request.path = request.authority;
        return Some(request);
    }
    let mut path = target;
    if target[0] != b'/' && target != b"*" {
        // absolute-form
        let colon = memchr(b':', target)?;
        let after = target[colon..].strip_prefix(b"://")?;
        if colon == 0
            || !target[..colon]
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
        {
            return None;
        }
        let slash = after
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let (authority, rest) = after.split_at(slash.unwrap_or(after.len()));
        request.scheme = Some(&target[..colon]);
        request.authority = without_user(authority);
        path = if rest.is_empty() { b"/" } else { rest };
    }
    let cut = memchr2(b'?', b'#', path).unwrap_or(path.len());
    request.has_query = path.get(cut) == Some(&b'?');
    request.path = if cut == 0 { b"/" } else { &path[..cut] };
    Some(request)
}

/// `HTTP-version SP status-code [ SP reason ]` (RFC 9112 section 4).
fn status_line(line: &[u8]) -> Option<(HttpVersion, u16)> {
    let version = version_of(line.get(..8)?)?;
    let status = line.get(8..12)?;
    if status[0] != b' ' || !matches!(line.get(12), None | Some(b' ')) {
        return None;
    }
    let mut code = 0;
    for digit in &status[1..] {
        if !digit.is_ascii_digit() {
            return None;
        }
        code = code * 10 + u16::from(digit - b'0');
    }
    (code >= 100).then_some((version, code))
}

fn version_of(text: &[u8]) -> Option<HttpVersion> {
    match text {
        b"HTTP/1.1" => Some(HttpVersion::Http11),
        b"HTTP/1.0" => Some(HttpVersion::Http10),
        _ => None,
    }
}

/// `authority` without user information, which may be a password.
fn without_user(authority: &[u8]) -> &[u8] {
    let at = memchr::memrchr(b'@', authority).map_or(0, |at| at + 1);
    &authority[at..]
}

// === impl Request ===

impl<'a> Request<'a> {
    /// Takes over what the fields say.
    fn add(&mut self, fields: Fields<'a>) {
        self.body = fields.request_body();
        self.upgrade = fields.upgrade;
        self.rpc = fields.rpc.map(|format| (format, fields.rpc_timeout));
        if self.authority.is_empty() {
            self.authority = without_user(fields.host);
        }
        self.user_agent = fields.user_agent;
        self.trace = fields.trace;
        self.asked = fields.asked;
    }
}

#[cfg(test)]
mod tests;

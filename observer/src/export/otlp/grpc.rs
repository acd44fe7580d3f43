//! Unary gRPC: the prefix of messages, and what trailers say (gRPC over HTTP/2, `google.rpc`).

use std::time::Duration;

use hyper::{HeaderMap, StatusCode};
use prost::Message as _;

use super::outcome::{self, Outcome};
use crate::model::rpc::RpcEnd;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<ProtobufDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProtobufDuration {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// Bytes in front of a message: whether it is packed, and its length.
pub(super) const PREFIX: usize = 5;

const OK: usize = 0;
const UNKNOWN: usize = 2;
const RESOURCE_EXHAUSTED: usize = 8;
/// Statuses after which OTLP tries again: CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE,
/// UNAVAILABLE, DATA_LOSS.
const PASSING: [usize; 6] = [1, 4, 10, 11, 14, 15];

/// The prefix of a message; `None` where it is too long for one.
pub(super) fn prefix(packed: bool, length: usize) -> Option<[u8; PREFIX]> {
    let [a, b, c, d] = u32::try_from(length).ok()?.to_be_bytes();
    Some([u8::from(packed), a, b, c, d])
}

/// What came of a call.
pub(super) fn outcome(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    trailers: Option<&HeaderMap>,
) -> Outcome {
    // A call that fails at once has its trailers in front.
    let fields = trailers
        .filter(|trailers| trailers.contains_key("grpc-status"))
        .unwrap_or(headers);
    let field = |name: &str| fields.get(name).map(|value| value.as_bytes());
    let Some(code) = field("grpc-status") else {
        return by_http_status(status);
    };
    let code = std::str::from_utf8(code).ok();
    let code = code.and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
    if code == OK {
        return outcome::taken(message(body).unwrap_or_default());
    }
    let name = RpcEnd::STATUSES.get(code).copied().unwrap_or("UNKNOWN");
    let said = field("grpc-message").map(percent_decoded);
    let text = outcome::with(name, &said.unwrap_or_default());
    let after = field("grpc-status-details-bin").and_then(retry_delay);
    match code {
        RESOURCE_EXHAUSTED if after.is_none() => Outcome::TooLarge {
            certain: false,
            text,
        },
        RESOURCE_EXHAUSTED => Outcome::Passing { after, text },
        code if PASSING.contains(&code) => Outcome::Passing { after, text },
        _ => Outcome::Refused { text },
    }
}

/// What a proxy means that answers for a server of gRPC (`http-grpc-status-mapping`).
fn by_http_status(status: StatusCode) -> Outcome {
    let text = match status {
        StatusCode::OK => {
            "an answer that is not gRPC's: is this the port of OTLP over gRPC?".into()
        }
        status => format!("HTTP {status}, which is not gRPC's"),
    };
    match status.as_u16() {
        429 | 502 | 503 | 504 => Outcome::Passing { after: None, text },
        413 => Outcome::TooLarge {
            certain: true,
            text,
        },
        _ => Outcome::Refused { text },
    }
}

/// The first message of a response, unless it is packed, which we did not ask for.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = body.split_first_chunk::<PREFIX>()?;
    let [packed, length @ ..] = *prefix;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (packed == 0).then(|| rest.get(..length))?
}

/// How long to wait, as the details of a status tell; without a delay, not at all.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = Status::decode(&*base64(details)?).ok()?;
    let info = status
        .details
        .iter()
        .find(|detail| detail.type_url.rsplit('/').next() == Some("google.rpc.RetryInfo"))?;
    let info = RetryInfo::decode(&*info.value).ok()?;
    let delay = info.retry_delay.unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    let nanos = u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999);
    Some(Duration::new(seconds, nanos))
}

/// Text of `grpc-message`: percent-encoded, and taken as it is where that is wrong.
fn percent_decoded(text: &[u8]) -> String {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let encoded = (*byte == b'%')
            .then(|| Some(digit(text.get(at + 1))? * 16 + digit(text.get(at + 2))?))
            .flatten()
            .and_then(|value| u8::try_from(value).ok());
        bytes.push(encoded.unwrap_or(*byte));
        at += if encoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Bytes of a binary field: base64, with padding or without (RFC 4648, section 4).
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii().trim_ascii_end();
    let end = text.iter().rposition(|byte| *byte != b'=')?;
    let text = text.get(..=end)?;
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
pub(super) mod tests;

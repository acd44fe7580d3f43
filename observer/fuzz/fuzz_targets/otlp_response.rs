//! Any bytes as a collector's response: it is read without fail, and what is kept of it is short.
#![no_main]

use std::time::SystemTime;

use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderName, HeaderValue},
};
use libfuzzer_sys::fuzz_target;
use observer::export::otlp::outcome::{Outcome, Response};

const NAMES: [&str; 5] = [
    "content-type",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "retry-after",
];

/// Longest text that is kept, bytes: a name, and 200 characters.
const LONGEST: usize = 64 + 4 * 200;

fuzz_target!(|data: (bool, bool, u16, Vec<(u8, Vec<u8>)>, Vec<u8>)| {
    let (grpc, behind, status, fields, body) = data;
    let Ok(status) = StatusCode::from_u16(status) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &fields {
        let name = NAMES[usize::from(*name) % NAMES.len()];
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let trailers = behind.then(|| std::mem::take(&mut headers));
    let response = Response {
        grpc,
        status,
        headers: &headers,
        body: &body,
        trailers: trailers.as_ref(),
    };
    let (Outcome::Taken { text, .. }
    | Outcome::Passing { text, .. }
    | Outcome::TooLarge { text, .. }
    | Outcome::Refused { text }) = response.outcome(SystemTime::UNIX_EPOCH);
    assert!(text.len() <= LONGEST && !text.contains('\n'));
});

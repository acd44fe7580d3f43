//! OTLP over HTTP: what status codes and `Retry-After` say.

use std::time::{Duration, SystemTime};

use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use prost::Message as _;

use super::{
    grpc,
    outcome::{self, Outcome},
};

/// Media type of requests and responses.
pub(super) const PROTOBUF: &str = "application/x-protobuf";

/// What came of a request; `now` is what dates are compared with.
pub(super) fn outcome(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Outcome {
    let is_protobuf = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(PROTOBUF.as_bytes()));
    if status.is_success() {
        return outcome::taken(if is_protobuf { body } else { &[] });
    }
    let said = match is_protobuf {
        true => grpc::Status::decode(body).map_or_else(|_| String::new(), |status| status.message),
        false => String::from_utf8_lossy(body).into_owned(),
    };
    let text = outcome::with(&format!("HTTP {status}"), &said);
    match status.as_u16() {
        429 | 502 | 503 | 504 => Outcome::Passing {
            after: retry_after(headers, now),
            text,
        },
        413 => Outcome::TooLarge {
            certain: true,
            text,
        },
        _ => Outcome::Refused { text },
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn statuses_are_what_the_protocol_says() {
        let check = |status: u16, fields: &[(&'static str, &str)], body: &[u8]| {
            let status = StatusCode::from_u16(status).unwrap();
            outcome(status, &headers(fields), body, SystemTime::UNIX_EPOCH)
        };
        assert!(matches!(
            check(200, &[], b"{}"),
            Outcome::Taken { rejected: 0, .. }
        ));
        for status in [400, 401, 403, 404, 415, 500, 501, 505, 301] {
            assert!(
                matches!(check(status, &[], b""), Outcome::Refused { .. }),
                "{status}"
            );
        }
        for status in [429, 502, 503, 504] {
            assert!(
                matches!(
                    check(status, &[], b""),
                    Outcome::Passing { after: None, .. }
                ),
                "{status}"
            );
        }
        assert!(matches!(
            check(413, &[], b""),
            Outcome::TooLarge { certain: true, .. }
        ));
        let Outcome::Refused { text } = check(400, &[], b"bad\ndata") else {
            panic!()
        };
        assert_eq!(text, "HTTP 400 Bad Request: bad data");
        let body = grpc::Status {
            message: "no tenant".to_owned(),
            ..grpc::Status::default()
        };
        let body = body.encode_to_vec();
        let Outcome::Refused { text } = check(401, &[("content-type", PROTOBUF)], &body) else {
            panic!()
        };
        assert_eq!(text, "HTTP 401 Unauthorized: no tenant");
    }

    #[test]
    fn a_collector_may_say_how_long() {
        let check =
            |text: &str| retry_after(&headers(&[("retry-after", text)]), SystemTime::UNIX_EPOCH);
        assert_eq!(check("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            check("Thu, 01 Jan 1970 00:01:00 GMT"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(check("soon"), None);
        assert_eq!(check("-1"), None);
    }
}

//! The service as a process's OpenTelemetry variables name it.
//!
//! `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` are read as in the OpenTelemetry SDK
//! specification: a list `key=value,key=value` with percent-encoded values, dropped as a whole
//! when any part of it is malformed; the service name variable wins.

/// `service.*` attributes that a process was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// `service.name`; empty when not set.
    pub(super) service: Box<str>,
    /// `service.namespace`; empty when not set.
    pub(super) namespace: Box<str>,
    /// `service.version`; empty when not set.
    pub(super) version: Box<str>,
}

/// Longest value that is kept, bytes.
const MAX_VALUE: usize = 256;

/// Reads the contents of `/proc/PID/environ`: `NAME=VALUE` entries that end with a NUL. Nothing
/// but the two variables is looked at.
pub(super) fn environment(block: &[u8]) -> Environment {
    let mut found = Environment::default();
    let mut service = None;
    for entry in block.split(|byte| *byte == 0) {
        if let Some(value) = entry.strip_prefix(b"OTEL_SERVICE_NAME=") {
            service = text(value.trim_ascii().to_vec());
        } else if let Some(list) = entry.strip_prefix(b"OTEL_RESOURCE_ATTRIBUTES=") {
            found = resource_attributes(list).unwrap_or_default();
        }
    }
    if let Some(service) = service {
        found.service = service;
    }
    found
}

fn resource_attributes(list: &[u8]) -> Option<Environment> {
    let mut found = Environment::default();
    for pair in list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if pair.is_empty() {
            continue;
        }
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = pair.split_at_checked(at)?;
        let value = percent_decoded(value.get(1..)?.trim_ascii())?;
        let slot = match key.trim_ascii() {
            b"service.name" => &mut found.service,
            b"service.namespace" => &mut found.namespace,
            b"service.version" => &mut found.version,
            _ => continue,
        };
        *slot = text(value).unwrap_or_default();
    }
    Some(found)
}

fn percent_decoded(value: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let (high, low) = (rest.next().and_then(digit)?, rest.next().and_then(digit)?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(*byte);
        }
    }
    Some(decoded)
}

/// A value that can be shown: UTF-8, without control characters, not too long, not empty.
fn text(value: Vec<u8>) -> Option<Box<str>> {
    let text = String::from_utf8(value).ok()?;
    let fits = !text.is_empty() && text.len() <= MAX_VALUE && !text.contains(char::is_control);
    fits.then(|| text.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(block: &str, service: &str, namespace: &str, version: &str) {
        let found = environment(block.as_bytes());
        let expected = Environment {
            service: service.into(),
            namespace: namespace.into(),
            version: version.into(),
        };
        assert_eq!(found, expected, "{block:?}");
    }

    #[test]
    fn the_two_variables() {
        check("", "", "", "");
        check("PATH=/bin\0HOME=/root\0", "", "", "");
        check("PATH=/bin\0OTEL_SERVICE_NAME=shop\0X=1\0", "shop", "", "");
        check(
            "OTEL_RESOURCE_ATTRIBUTES=service.name=cart,service.namespace=eu,service.version=1.2,a=b\0",
            "cart",
            "eu",
            "1.2",
        );
        // The name variable wins, in any order.
        let list = "OTEL_RESOURCE_ATTRIBUTES=service.name=cart,service.version=2";
        check(
            &format!("{list}\0OTEL_SERVICE_NAME=shop\0"),
            "shop",
            "",
            "2",
        );
        check(
            &format!("OTEL_SERVICE_NAME=shop\0{list}\0"),
            "shop",
            "",
            "2",
        );
        // An empty name is not a name.
        check(&format!("{list}\0OTEL_SERVICE_NAME=\0"), "cart", "", "2");
    }

    #[test]
    fn values_are_percent_decoded() {
        check(
            "OTEL_RESOURCE_ATTRIBUTES=service.name=a%20b%2Cc, service.version = %c3%a9 \0",
            "a b,c",
            "",
            "é",
        );
        // As the specification says: a malformed list is dropped as a whole.
        check(
            "OTEL_RESOURCE_ATTRIBUTES=service.name=a,service.version=%zz\0",
            "",
            "",
            "",
        );
        check(
            "OTEL_RESOURCE_ATTRIBUTES=service.name=a,broken\0",
            "",
            "",
            "",
        );
        check("OTEL_RESOURCE_ATTRIBUTES=service.name=a%2\0", "", "", "");
    }

    #[test]
    fn values_that_cannot_be_shown_are_not_taken() {
        check("OTEL_SERVICE_NAME=a\nb\0", "", "", "");
        check(
            &format!("OTEL_SERVICE_NAME={}\0", "x".repeat(257)),
            "",
            "",
            "",
        );
        assert_eq!(
            environment(b"OTEL_SERVICE_NAME=\xff\xfe\0"),
            Environment::default()
        );
        // Another variable that ends like ours.
        check("MY_OTEL_SERVICE_NAME=a\0", "", "", "");
    }
}

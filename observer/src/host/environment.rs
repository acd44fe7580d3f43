//! The service as a process's OpenTelemetry variables name it.

use crate::model::resource_attributes::{ServiceAttributes, shown};

/// Reads the contents of `/proc/PID/environ`: `NAME=VALUE` entries that end with a NUL. Nothing
/// but the two variables is looked at, and the name variable wins.
pub(super) fn environment(block: &[u8]) -> ServiceAttributes {
    let mut found = ServiceAttributes::default();
    let mut name = None;
    for entry in block.split(|byte| *byte == 0) {
        if let Some(value) = entry.strip_prefix(b"OTEL_SERVICE_NAME=") {
            name = shown(value.trim_ascii().to_vec());
        } else if let Some(list) = entry.strip_prefix(b"OTEL_RESOURCE_ATTRIBUTES=") {
            found = ServiceAttributes::parse(list).unwrap_or_default();
        }
    }
    if let Some(name) = name {
        found.name = name;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(block: &str, service: &str, namespace: &str, version: &str) {
        let found = environment(block.as_bytes());
        let expected = ServiceAttributes {
            name: service.into(),
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
            ServiceAttributes::default()
        );
        // Another variable that ends like ours.
        check("MY_OTEL_SERVICE_NAME=a\0", "", "", "");
    }
}

//! The start of a record of TLS (RFC 8446 section 5.1), as far as it tells handshakes from content.

/// Type, version and length of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    kind: u8,
    length: u32,
}

impl Start {
    /// How many bytes they are.
    pub const BYTES: u32 = 5;

    /// From the first four bytes of a payload, as a big-endian number, and the fifth; `None` when a
    /// record does not start so.
    #[inline(always)]
    pub const fn of(first: u32, fifth: u8) -> Option<Self> {
        let kind = (first >> 24) as u8;
        // Versions are 3.0 to 3.4.
        let version = first >> 8 & 0xffff;
        if kind < CHANGE_CIPHER_SPEC || kind > APPLICATION_DATA || version & 0xfff8 != 0x0300 {
            return None;
        }
        Some(Self {
            kind,
            length: (first & 0xff) << 8 | fifth as u32,
        })
    }

    /// Whether it carries application data, or what TLS 1.3 makes look like it.
    #[inline(always)]
    pub const fn is_application_data(self) -> bool {
        self.kind == APPLICATION_DATA
    }

    /// Whether it is the Finished of TLS 1.3 by its size, alone in a payload of `length` bytes: a
    /// header of 4 bytes, a hash of 32 or 48, the type and a tag of 16.
    #[inline(always)]
    pub const fn is_finished(self, length: u32) -> bool {
        self.kind == APPLICATION_DATA
            && length == self.length + Self::BYTES
            && (self.length == 53 || self.length == 69)
    }

    /// Whether it is an alert; that of TLS 1.3 by its size, alone in a payload of `length` bytes: two
    /// bytes, the type and a tag of 16.
    #[inline(always)]
    pub const fn is_alert(self, length: u32) -> bool {
        self.kind == ALERT
            || self.kind == APPLICATION_DATA
                && self.length == 19
                && length == self.length + Self::BYTES
    }
}

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;

#[cfg(test)]
mod tests {
    use super::*;

    fn start(bytes: &[u8; 5]) -> Option<Start> {
        let first = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Start::of(first, bytes[4])
    }

    #[test]
    fn records_of_tls_start_with_type_and_version() {
        for kind in 0..=255 {
            for minor in 0..=255 {
                let found = start(&[kind, 3, minor, 1, 2]);
                let right = (20..=23).contains(&kind) && minor <= 7;
                assert_eq!(found.is_some(), right, "{kind} {minor}");
                if let Some(found) = found {
                    assert_eq!(found.length, 0x0102);
                    assert_eq!(found.is_application_data(), kind == 23);
                }
            }
        }
        assert_eq!(start(b"GET /"), None);
        assert_eq!(start(&[23, 4, 3, 0, 9]), None);
    }

    #[test]
    fn what_is_no_content_is_told_by_its_size() {
        for (kind, length, payload, finished, alert) in [
            (23, 53, 58, true, false),
            (23, 69, 74, true, false),
            (23, 69, 75, false, false),
            (23, 70, 75, false, false),
            (22, 53, 58, false, false),
            (23, 19, 24, false, true),
            (23, 19, 300, false, false),
            (23, 20, 25, false, false),
            (21, 2, 7, false, true),
            (21, 26, 31, false, true),
        ] {
            let start = start(&[kind, 3, 3, 0, length]).unwrap();
            assert_eq!(start.is_finished(payload), finished, "{kind} {length}");
            assert_eq!(start.is_alert(payload), alert, "{kind} {length}");
        }
    }
}

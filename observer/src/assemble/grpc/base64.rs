//! Base64 (RFC 4648 section 4) as gRPC-Web streams it: in pieces, padded anywhere.

/// A group of four characters of which not all are there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Base64 {
    bits: u32,
    /// Characters so far, padding among them.
    count: u8,
    /// Padding among them.
    padding: u8,
}

// === impl Base64 ===

impl Base64 {
    /// Decodes as much of `text` as `plain` has room for: how much came of it, and what is left;
    /// `None` instead of that when what followed is not base64.
    pub(super) fn decode<'a>(
        &mut self,
        text: &'a [u8],
        plain: &mut [u8],
    ) -> (usize, Option<&'a [u8]>) {
        let mut count = 0;
        for (at, byte) in text.iter().enumerate() {
            if count + 3 > plain.len() {
                return (count, text.get(at..));
            }
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.count >= 2 => {
                    self.padding += 1;
                    0
                }
                _ => return (count, None),
            };
            if self.padding > 0 && *byte != b'=' {
                return (count, None);
            }
            self.bits = self.bits << 6 | u32::from(value);
            self.count += 1;
            if self.count == 4 {
                let length = 3 - usize::from(self.padding);
                let bytes = self.bits.to_be_bytes();
                plain[count..count + length].copy_from_slice(&bytes[1..=length]);
                count += length;
                *self = Self::default();
            }
        }
        (count, Some(b""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Option<Vec<u8>> {
        let mut base64 = Base64::default();
        let (mut rest, mut all) = (text.as_bytes(), Vec::new());
        while !rest.is_empty() {
            let mut plain = [0; 7];
            let (count, left) = base64.decode(rest, &mut plain);
            all.extend(&plain[..count]);
            rest = left?;
        }
        Some(all)
    }

    #[test]
    fn vectors_of_the_rfc() {
        // RFC 4648 section 10.
        for (text, plain) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zg==Zm8=Zm9v", "ffofoo"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        assert_eq!(decode("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
    }

    #[test]
    fn what_is_not_base64() {
        for text in ["Z===", "=", "Zg=g", "Zm9v\n", "Zm9-"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}

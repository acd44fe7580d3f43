//! Identifiers in little memory: uids of objects, and ids of containers.

/// `metadata.uid`, or what a cgroup calls a pod. Equal if and only if the texts are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Uid {
    /// Of the usual form: lower case, with dashes.
    Uuid([u8; 16]),
    /// 32 hexadecimal digits in lower case, as hashes of static pods are.
    Hash([u8; 16]),
    /// Anything else.
    Text(Box<str>),
}

/// A container's id: 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ContainerId([u8; 32]);

/// Where a uid has its dashes.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// Reads hexadecimal digits in lower case: exactly as many as fit.
fn hexadecimal<const N: usize>(digits: impl Iterator<Item = u8>) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut count = 0;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        *bytes.get_mut(count / 2)? |= if count % 2 == 0 { value << 4 } else { value };
        count += 1;
    }
    (count == 2 * N).then_some(bytes)
}

// === impl Uid ===

impl Uid {
    pub(super) fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        if bytes.len() == 36 && DASHES.iter().all(|at| bytes[*at] == b'-') {
            let digits = bytes
                .iter()
                .enumerate()
                .filter(|(at, _)| !DASHES.contains(at))
                .map(|(_, digit)| *digit);
            if let Some(uuid) = hexadecimal(digits) {
                return Self::Uuid(uuid);
            }
        }
        if bytes.len() == 32
            && let Some(hash) = hexadecimal(bytes.iter().copied())
        {
            return Self::Hash(hash);
        }
        Self::Text(text.into())
    }
}

// === impl ContainerId ===

impl ContainerId {
    /// `None` for anything but 64 hexadecimal digits in lower case.
    pub(super) fn new(text: &str) -> Option<Self> {
        hexadecimal(text.bytes()).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_forms_are_short() {
        let uid = Uid::new("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
        assert!(matches!(uid, Uid::Uuid([0x0f, 0x1e, .., 0xf0])));
        let hash = Uid::new("0f1e2d3c4b5a69788796a5b4c3d2e1f0");
        assert!(matches!(hash, Uid::Hash([0x0f, 0x1e, .., 0xf0])));
        let upper = Uid::new("0F1E2D3C-4b5a-6978-8796-a5b4c3d2e1f0");
        assert!(matches!(upper, Uid::Text(_)), "another text, another uid");
        assert!(ContainerId::new(&"0a".repeat(32)).is_some());
        for id in ["", "0a", &"0g".repeat(32), &"0a".repeat(33)] {
            assert_eq!(ContainerId::new(id), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn uids_are_equal_as_their_texts_are(
            a in "[0-9a-c-]{0,36}|[01]{8}-0000-0000-0000-000000000000|[01]{32}",
            b in "[0-9a-c-]{0,36}|[01]{8}-0000-0000-0000-000000000000|[01]{32}",
        ) {
            prop_assert_eq!(Uid::new(&a) == Uid::new(&b), a == b);
            prop_assert_eq!(Uid::new(&a), Uid::new(&a));
        }
    }
}

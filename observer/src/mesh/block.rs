//! Blocks of addresses, as policies write them: `10.0.0.0/8`.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, de::Error};

/// A block of addresses of IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Block {
    address: IpAddr,
    prefix: u8,
}

// === impl Block ===

impl Block {
    /// Reads `address/prefix`, or an address alone, which is a block of one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                prefix.parse().ok()?
            }
            Some(_) => return None,
            None => longest,
        };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// Whether an address is in it. IPv4 that is mapped into IPv6 counts as IPv4.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(address)) => same(
                block.to_bits().into(),
                address.to_bits().into(),
                32,
                self.prefix,
            ),
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                same(block.to_bits(), address.to_bits(), 128, self.prefix)
            }
            _ => false,
        }
    }

    /// Whether its addresses are of IPv4.
    pub(super) fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// How many bits its addresses have in common: the more, the more specific.
    pub(super) fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

fn same(left: u128, right: u128, width: u8, prefix: u8) -> bool {
    let differ = u32::from(width - prefix);
    (left ^ right).checked_shr(differ).unwrap_or(0) == 0
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is no block of addresses")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_have_the_addresses_of_their_prefix() {
        for (block, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.0.0.1", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("0.0.0.0/0", "::ffff:1.2.3.4", true),
            ("::/0", "fd00::1", true),
            ("fd00::/8", "fe80::1", false),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
        ] {
            let block = Block::parse(block).expect("a block");
            let address = address.parse().expect("an address");
            assert_eq!(block.contains(address), expected, "{block:?} {address}");
        }
        for text in [
            "",
            "/8",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "::/129",
        ] {
            assert_eq!(Block::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in ".*") {
            let _ = Block::parse(&text);
        }

        #[test]
        fn a_block_has_its_own_address(address: u128, prefix in 0u8..=128) {
            let address = IpAddr::V6(address.into());
            let block = Block::parse(&format!("{address}/{prefix}"));
            // Mapped IPv4 is not in blocks of IPv6.
            prop_assume!(address.to_canonical() == address);
            prop_assert!(block.is_some_and(|block| block.contains(address)));
        }
    }
}

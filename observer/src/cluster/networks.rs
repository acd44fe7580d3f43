//! Networks by prefix, and the names that the configuration gives to those outside the cluster.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use hashbrown::HashMap;

/// A network: all addresses that start alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Names of networks outside the cluster; the longest prefix wins.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    names: Prefixes<Arc<str>>,
}

/// What is wrong with a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not an address, or not followed by a length.
    #[error("`{0}` is not a network: write an address, a slash and a length, as in 10.20.0.0/16")]
    Form(String),
    /// The length is more than the address has bits.
    #[error("`{0}` is longer than its address: at most {1} bits")]
    Length(String, u8),
    /// There are bits after the prefix.
    #[error("`{0}` has bits after its prefix: write {1}/{2}")]
    Bits(String, IpAddr, u8),
}

/// Values by prefix.
#[derive(Clone, Debug)]
pub(super) struct Prefixes<V> {
    values: HashMap<Prefix, V, foldhash::fast::RandomState>,
    /// Lengths of prefixes of IPv4 and of IPv6 and how many have them, the longest first.
    lengths: [Vec<(u8, usize)>; 2],
}

/// Whether an address means something else in another network: what no pod can be told from until
/// it is known.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // 100.64.0.0/10 is that of carriers (RFC 6598), and a popular one for pods.
            address.is_private() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// Whether an address can belong to a pod, a node or a Service at all.
pub(super) fn is_claimable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !link_local && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

/// Bits of an address of this family.
const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first `length` bits of an address.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

// === impl Prefix ===

impl Prefix {
    /// The network of this address whose prefix has this length; `None` if the address is shorter.
    pub fn of(address: IpAddr, length: u8) -> Option<Self> {
        (length <= bits(address)).then(|| Self {
            address: masked(address, length),
            length,
        })
    }

    /// Bits that all of its addresses start with.
    pub const fn length(self) -> u8 {
        self.length
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let form = || PrefixError::Form(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let length = match length {
            Some(length) => length.parse().map_err(|_| form())?,
            None => bits(address),
        };
        let prefix = Self::of(address, length)
            .ok_or_else(|| PrefixError::Length(text.to_owned(), bits(address)))?;
        if prefix.address != address {
            let bits = PrefixError::Bits(text.to_owned(), prefix.address, length);
            return Err(bits);
        }
        Ok(prefix)
    }
}

// === impl Networks ===

impl Networks {
    /// Names of networks; of two names for one network the last counts.
    pub fn new(names: impl IntoIterator<Item = (Prefix, Arc<str>)>) -> Self {
        let mut networks = Self::default();
        for (prefix, name) in names {
            networks.names.insert(prefix, name);
        }
        networks
    }

    /// The name of the smallest network that has this address.
    pub fn find(&self, address: IpAddr) -> Option<&Arc<str>> {
        Some(self.names.find(address)?.1)
    }

    /// That name, and the length of the prefix that has it.
    pub(super) fn longest(&self, address: IpAddr) -> Option<(u8, &Arc<str>)> {
        self.names.find(address)
    }
}

// === impl Prefixes ===

impl<V> Default for Prefixes<V> {
    fn default() -> Self {
        Self {
            values: HashMap::default(),
            lengths: [Vec::new(), Vec::new()],
        }
    }
}

impl<V> Prefixes<V> {
    fn lengths_of(&mut self, prefix: Prefix) -> &mut Vec<(u8, usize)> {
        let [v4, v6] = &mut self.lengths;
        if prefix.address.is_ipv4() { v4 } else { v6 }
    }

    pub(super) fn insert(&mut self, prefix: Prefix, value: V) {
        if self.values.insert(prefix, value).is_some() {
            return;
        }
        let lengths = self.lengths_of(prefix);
        match lengths.binary_search_by(|(length, _)| prefix.length.cmp(length)) {
            Ok(at) => lengths[at].1 += 1,
            Err(at) => lengths.insert(at, (prefix.length, 1)),
        }
    }

    pub(super) fn get_mut(&mut self, prefix: Prefix) -> Option<&mut V> {
        self.values.get_mut(&prefix)
    }

    pub(super) fn remove(&mut self, prefix: Prefix) {
        if self.values.remove(&prefix).is_none() {
            return;
        }
        let lengths = self.lengths_of(prefix);
        if let Ok(at) = lengths.binary_search_by(|(length, _)| prefix.length.cmp(length)) {
            lengths[at].1 -= 1;
            if lengths[at].1 == 0 {
                lengths.remove(at);
            }
        }
    }

    /// The value of the longest prefix of an address, and its length.
    pub(super) fn find(&self, address: IpAddr) -> Option<(u8, &V)> {
        let [v4, v6] = &self.lengths;
        let lengths = if address.is_ipv4() { v4 } else { v6 };
        lengths.iter().find_map(|(length, _)| {
            let prefix = Prefix::of(address, *length)?;
            Some((*length, self.values.get(&prefix)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(names: &[(&str, &str)]) -> Networks {
        Networks::new(
            names
                .iter()
                .map(|(prefix, name)| (prefix.parse().unwrap(), Arc::from(*name))),
        )
    }

    fn name<'a>(networks: &'a Networks, address: &str) -> &'a str {
        networks
            .find(address.parse().unwrap())
            .map_or("", |name| name)
    }

    #[test]
    fn the_longest_prefix_wins() {
        let networks = networks(&[
            ("10.0.0.0/8", "office"),
            ("10.20.0.0/16", "databases"),
            ("10.20.0.7", "ledger"),
            ("2001:db8::/32", "partner"),
            ("0.0.0.0/0", "internet"),
        ]);
        assert_eq!(name(&networks, "10.1.1.1"), "office");
        assert_eq!(name(&networks, "10.20.1.1"), "databases");
        assert_eq!(name(&networks, "10.20.0.7"), "ledger");
        assert_eq!(name(&networks, "192.0.2.1"), "internet");
        assert_eq!(name(&networks, "2001:db8:1::1"), "partner");
        assert_eq!(name(&networks, "2001:db9::1"), "", "the other family");
    }

    #[test]
    fn a_network_says_what_is_wrong_with_it() {
        let error = |text: &str| text.parse::<Prefix>().unwrap_err().to_string();
        assert!(error("office").contains("as in 10.20.0.0/16"));
        assert!(error("10.0.0.0/x").contains("as in 10.20.0.0/16"));
        assert!(error("10.0.0.0/33").contains("at most 32 bits"));
        assert!(error("10.1.0.0/8").contains("write 10.0.0.0/8"));
    }

    #[test]
    fn a_removed_prefix_is_forgotten() {
        let mut prefixes = Prefixes::default();
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        prefixes.insert(prefix("10.0.0.0/24"), 1);
        prefixes.insert(prefix("10.0.1.0/24"), 2);
        prefixes.remove(prefix("10.0.0.0/24"));
        prefixes.remove(prefix("10.0.9.0/24"));
        assert_eq!(prefixes.find("10.0.0.1".parse().unwrap()), None);
        assert_eq!(prefixes.find("10.0.1.1".parse().unwrap()), Some((24, &2)));
        prefixes.remove(prefix("10.0.1.0/24"));
        assert_eq!(prefixes.lengths, [vec![], vec![]]);
    }

    #[test]
    fn carriers_addresses_are_private() {
        let private = |text: &str| is_private(text.parse().unwrap());
        assert!(private("100.64.0.1") && private("100.127.255.255") && private("fd00::1"));
        assert!(!private("100.128.0.1") && !private("100.63.0.1") && !private("2001:db8::1"));
    }

    proptest! {
        #[test]
        fn a_prefix_is_found_as_by_hand(
            networks in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..20),
            address: u32,
        ) {
            let mut prefixes = Prefixes::default();
            let mut best = None;
            for (bits, length) in networks {
                let prefix = Prefix::of(Ipv4Addr::from_bits(bits).into(), length).unwrap();
                prefixes.insert(prefix, length);
                let differ = (bits ^ address).leading_zeros();
                if differ >= u32::from(length) && best.is_none_or(|best| length > best) {
                    best = Some(length);
                }
            }
            let found = prefixes.find(Ipv4Addr::from_bits(address).into());
            prop_assert_eq!(found.map(|(length, _)| length), best);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Prefix>();
        }
    }
}

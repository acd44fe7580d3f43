//! Names of addresses, as lookups of DNS led to them: a bounded memory that forgets in time.
//!
//! Nothing is ever asked: what is not known from the lookups of others has no name. An address may
//! have several names, as those of content networks do; the one that the same workload asked for
//! last is the right one, else the one that anybody asked for last.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use hashbrown::HashMap;

use crate::model::{
    lookup::{Answer, Target},
    time::Monotonic,
    workload::Workload,
};

/// Names of addresses.
#[derive(Debug)]
pub(super) struct Names {
    limit: usize,
    known: HashMap<IpAddr, Vec<Entry>, foldhash::fast::RandomState>,
    /// All addresses, with when each was learnt when it came to its place: the first goes first.
    order: VecDeque<(IpAddr, Monotonic)>,
    evicted: u64,
    swept: Monotonic,
}

/// Who looks a name up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) workload: &'a Arc<Workload>,
    /// Cookie of the network namespace; 0 when unknown.
    pub(super) network_namespace: u64,
}

/// A name that an address was found by.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    workload: Arc<Workload>,
    network_namespace: u64,
    learnt: Monotonic,
    expires: Monotonic,
}

/// Names of one address that are remembered.
const MAX_ALIKE: usize = 8;
/// A name is remembered for at least so long: programs keep addresses for longer than DNS lets
/// them.
const FLOOR: Duration = Duration::from_secs(300);
/// And for at most so long.
const CEILING: Duration = Duration::from_secs(24 * 3600);
/// Between two searches for what has expired.
const SWEEP: Duration = Duration::from_secs(60);

// === impl Names ===

impl Names {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            known: HashMap::default(),
            order: VecDeque::new(),
            evicted: 0,
            swept: Monotonic(0),
        }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.make_room(0);
    }

    /// Learns where `name` led to: the addresses of it and of the names that it is an alias of.
    pub(super) fn learn(
        &mut self,
        name: &str,
        answers: &[Answer],
        asker: Asker<'_>,
        now: Monotonic,
    ) {
        let mut shared: Option<Arc<str>> = None;
        let mut chain = vec![(name, u32::MAX)];
        for answer in answers {
            let Some((_, ttl)) = chain.iter().find(|(alias, _)| **alias == *answer.name) else {
                continue;
            };
            let ttl = answer.ttl.min(*ttl);
            match &answer.target {
                Target::Alias(target) => chain.push((target, ttl)),
                Target::Address(address) if is_nameable(*address) => {
                    let name = shared.get_or_insert_with(|| name.into()).clone();
                    self.insert(*address, name, ttl, asker, now);
                }
                Target::Address(_) => {}
            }
        }
    }

    /// The name of an address for somebody.
    pub(super) fn find(
        &self,
        address: IpAddr,
        asker: Asker<'_>,
        now: Monotonic,
    ) -> Option<&Arc<str>> {
        let entries = self.known.get(&address)?;
        // What is private means something else elsewhere.
        let private = is_private(address);
        let fits = |entry: &&Entry| {
            entry.expires > now
                && (!private
                    || entry.network_namespace == 0
                    || asker.network_namespace == 0
                    || entry.network_namespace == asker.network_namespace)
        };
        let newest = |own: bool| {
            entries
                .iter()
                .filter(fits)
                .filter(|entry| !own || entry.workload == *asker.workload)
                .max_by_key(|entry| entry.learnt)
        };
        newest(true)
            .or_else(|| newest(false))
            .map(|entry| &entry.name)
    }

    /// Forgets what has expired; to be called often.
    pub(super) fn expire(&mut self, now: Monotonic) {
        if now.since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.known.retain(|_, entries| {
            entries.retain(|entry| entry.expires > now);
            !entries.is_empty()
        });
        let known = &self.known;
        self.order
            .retain(|(address, _)| known.contains_key(address));
    }

    /// Addresses that have names.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Addresses that were forgotten before their time.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    fn insert(
        &mut self,
        address: IpAddr,
        name: Arc<str>,
        ttl: u32,
        asker: Asker<'_>,
        now: Monotonic,
    ) {
        if self.limit == 0 {
            return;
        }
        let lifetime = Duration::from_secs(ttl.into()).clamp(FLOOR, CEILING);
        let entry = Entry {
            name,
            workload: asker.workload.clone(),
            network_namespace: asker.network_namespace,
            learnt: now,
            expires: now.plus(lifetime),
        };
        if let Some(entries) = self.known.get_mut(&address) {
            entries.retain(|other| {
                other.expires > now
                    && (other.name != entry.name
                        || other.workload != entry.workload
                        || other.network_namespace != entry.network_namespace)
            });
            if entries.len() >= MAX_ALIKE {
                entries.remove(0);
            }
            entries.push(entry);
            return;
        }
        self.make_room(1);
        self.known.insert(address, vec![entry]);
        self.order.push_back((address, now));
    }

    /// Forgets the addresses that were not learnt for longest until there is room for `more`.
    fn make_room(&mut self, more: usize) {
        while self.known.len() + more > self.limit {
            let Some((address, learnt)) = self.order.pop_front() else {
                return;
            };
            let latest = self
                .known
                .get(&address)
                .and_then(|entries| entries.iter().map(|entry| entry.learnt).max());
            match latest {
                // Learnt again since: it has another turn.
                Some(latest) if latest > learnt => self.order.push_back((address, latest)),
                _ => {
                    self.known.remove(&address);
                    self.evicted += 1;
                }
            }
        }
    }
}

/// Whether an address can be that of a peer with a name.
fn is_nameable(address: IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

/// Whether an address means something else in another network.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    fn workload(service: &str) -> Arc<Workload> {
        Arc::new(Workload {
            service: service.into(),
            ..Workload::default()
        })
    }

    fn address(owner: &str, ttl: u32, address: &str) -> Answer {
        Answer {
            name: owner.into(),
            ttl,
            target: Target::Address(address.parse().unwrap()),
        }
    }

    fn alias(owner: &str, ttl: u32, target: &str) -> Answer {
        Answer {
            name: owner.into(),
            ttl,
            target: Target::Alias(target.into()),
        }
    }

    fn find(names: &Names, ip: &str, who: &Arc<Workload>, namespace: u64, seconds: u64) -> String {
        let asker = Asker {
            workload: who,
            network_namespace: namespace,
        };
        names
            .find(ip.parse().unwrap(), asker, at(seconds))
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn learn(
        names: &mut Names,
        name: &str,
        answers: &[Answer],
        who: &Arc<Workload>,
        namespace: u64,
        seconds: u64,
    ) {
        let asker = Asker {
            workload: who,
            network_namespace: namespace,
        };
        names.learn(name, answers, asker, at(seconds));
    }

    #[test]
    fn an_alias_has_the_name_that_was_asked_for() {
        let mut names = Names::new(10);
        let web = workload("web");
        let answers = [
            alias("www.shop", 600, "cdn.net"),
            alias("cdn.net", 600, "edge.cdn.net"),
            address("edge.cdn.net", 600, "192.0.2.1"),
            address("other.example", 600, "192.0.2.2"),
        ];
        learn(&mut names, "www.shop", &answers, &web, 1, 0);
        assert_eq!(find(&names, "192.0.2.1", &web, 1, 0), "www.shop");
        assert_eq!(find(&names, "192.0.2.2", &web, 1, 0), "", "nobody asked");
    }

    #[test]
    fn the_newest_lookup_of_the_same_workload_wins() {
        let mut names = Names::new(10);
        let (web, job, other) = (workload("web"), workload("job"), workload("other"));
        let ip = "203.0.113.5";
        for (name, who, second) in [("a.cdn", &web, 0), ("b.cdn", &web, 1), ("c.cdn", &job, 2)] {
            learn(&mut names, name, &[address(name, 60, ip)], who, 1, second);
        }
        assert_eq!(find(&names, ip, &web, 1, 3), "b.cdn");
        assert_eq!(find(&names, ip, &job, 1, 3), "c.cdn");
        assert_eq!(find(&names, ip, &other, 9, 3), "c.cdn", "the newest of all");
    }

    #[test]
    fn private_addresses_are_named_in_their_own_network() {
        let mut names = Names::new(10);
        let (web, job) = (workload("web"), workload("job"));
        let ip = "172.17.0.2";
        learn(&mut names, "db", &[address("db", 60, ip)], &web, 1, 0);
        assert_eq!(find(&names, ip, &job, 1, 0), "db");
        assert_eq!(find(&names, ip, &job, 2, 0), "");
        assert_eq!(find(&names, ip, &job, 0, 0), "db", "the network is unknown");
    }

    #[test]
    fn names_are_forgotten_in_time() {
        let mut names = Names::new(10);
        let web = workload("web");
        let answers = [
            address("a", 1, "192.0.2.1"),
            address("a", 900, "192.0.2.2"),
            address("a", u32::MAX, "192.0.2.3"),
        ];
        learn(&mut names, "a", &answers, &web, 1, 0);
        let check = |names: &Names, second, expected: [&str; 3]| {
            let ips = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
            assert_eq!(ips.map(|ip| find(names, ip, &web, 1, second)), expected);
        };
        check(&names, 299, ["a", "a", "a"]);
        check(&names, 300, ["", "a", "a"]);
        check(&names, 900, ["", "", "a"]);
        check(&names, 24 * 3600, ["", "", ""]);
        names.expire(at(900));
        assert_eq!((names.len(), names.order.len()), (1, 1));
        assert_eq!(names.evicted(), 0);
    }

    #[test]
    fn an_alias_lives_no_longer_than_its_chain() {
        let mut names = Names::new(10);
        let web = workload("web");
        let answers = [alias("a", 400, "b"), address("b", 9000, "192.0.2.1")];
        learn(&mut names, "a", &answers, &web, 1, 0);
        assert_eq!(find(&names, "192.0.2.1", &web, 1, 399), "a");
        assert_eq!(find(&names, "192.0.2.1", &web, 1, 400), "");
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut names = Names::new(3);
        let web = workload("web");
        let ip = |index: u64| format!("192.0.2.{index}");
        for index in 0..3 {
            let answers = [address("a", 60, &ip(index))];
            learn(&mut names, "a", &answers, &web, 1, index);
        }
        // The first is learnt again, so the second goes.
        learn(&mut names, "a", &[address("a", 60, &ip(0))], &web, 1, 5);
        learn(&mut names, "a", &[address("a", 60, &ip(9))], &web, 1, 6);
        assert_eq!(find(&names, &ip(0), &web, 1, 7), "a");
        assert_eq!(find(&names, &ip(1), &web, 1, 7), "");
        assert_eq!((names.len(), names.evicted()), (3, 1));
        for index in 0..100 {
            let name = format!("{index}.cdn");
            learn(&mut names, &name, &[address(&name, 60, &ip(9))], &web, 1, 8);
        }
        assert!(
            names
                .known
                .values()
                .all(|entries| entries.len() <= MAX_ALIKE)
        );
        assert_eq!(names.order.len(), 3);
        names.set_limit(1);
        assert_eq!(names.len(), 1);
        names.set_limit(0);
        learn(&mut names, "a", &[address("a", 60, &ip(1))], &web, 1, 9);
        assert_eq!((names.len(), names.order.len()), (0, 0));
    }

    #[test]
    fn loopback_has_no_name() {
        let mut names = Names::new(3);
        let web = workload("web");
        let answers = ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1"].map(|ip| address("a", 60, ip));
        learn(&mut names, "a", &answers, &web, 1, 0);
        assert_eq!(names.len(), 0);
    }
}

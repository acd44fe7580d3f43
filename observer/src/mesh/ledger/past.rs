//! How connections of an edge were secured, by hours and days, as far back as 30 days.

use std::{collections::VecDeque, time::Duration};

use crate::{
    mesh::report,
    model::{security::Security, time::Monotonic},
};

/// Hours that are told apart; what is older is by days.
const HOURS: u32 = 48;
/// Days that are kept.
const DAYS: u32 = 31;
const SECONDS_OF_HOUR: u64 = 3_600;

/// Connections by how they were secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// By mutual TLS of a mesh.
    pub(super) mutual: u64,
    /// Not.
    pub(super) plaintext: u64,
    /// By TLS of their own.
    pub(super) foreign: u64,
    /// It could not be told.
    pub(super) unknown: u64,
}

/// Which end of a connection counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    /// The client's.
    Client,
    /// The server's, and the client's is on another host.
    Server,
    /// The server's, of one that its client counts on this host too.
    Again,
}

/// Connections, as each end counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    client: Counts,
    server: Counts,
    again: Counts,
}

/// Connections by time. Whole hours, and beyond two days whole days: a window is never cut short.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// The oldest first, only those with connections.
    hours: VecDeque<Bucket>,
    days: VecDeque<Bucket>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Number of its hour, or of its day, since boot.
    number: u32,
    /// By [`Teller`].
    told: [Few; 3],
}

/// [`Counts`] of an hour or a day.
#[derive(Clone, Copy, Debug, Default)]
struct Few([u32; 4]);

// === impl Counts ===

impl Counts {
    /// One connection.
    pub(super) fn one(security: Security) -> Self {
        let mut counts = Self::default();
        match security {
            Security::Plaintext => counts.plaintext = 1,
            Security::Tls => counts.foreign = 1,
            Security::IstioMutualTls | Security::Hbone | Security::LinkerdMutualTls => {
                counts.mutual = 1;
            }
            Security::Unknown => counts.unknown = 1,
        }
        counts
    }

    pub(super) fn add(&mut self, other: Self) {
        self.mutual += other.mutual;
        self.plaintext += other.plaintext;
        self.foreign += other.foreign;
        self.unknown += other.unknown;
    }

    pub(super) fn total(self) -> u64 {
        self.mutual + self.plaintext + self.foreign + self.unknown
    }

    /// Those that are known not to be of mutual TLS.
    pub(super) fn not_mutual(self) -> u64 {
        self.plaintext + self.foreign
    }

    pub(super) fn report(self) -> report::Connections {
        let Self {
            mutual,
            plaintext,
            foreign,
            unknown,
        } = self;
        report::Connections {
            mutual,
            plaintext,
            foreign,
            unknown,
        }
    }
}

// === impl Totals ===

impl Totals {
    pub(super) fn add(&mut self, other: Self) {
        self.client.add(other.client);
        self.server.add(other.server);
        self.again.add(other.again);
    }

    /// Each once, as far as this host knows.
    pub(super) fn once(self) -> Counts {
        let mut counts = self.client;
        counts.add(self.server);
        counts
    }

    /// Those that were counted at the client's end.
    pub(super) fn at_client(self) -> Counts {
        self.client
    }

    /// Those that were counted at the server's end.
    pub(super) fn at_server(self) -> Counts {
        let mut counts = self.server;
        counts.add(self.again);
        counts
    }
}

// === impl Few ===

impl Few {
    fn of(counts: Counts) -> Self {
        let few = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let Counts {
            mutual,
            plaintext,
            foreign,
            unknown,
        } = counts;
        Self([mutual, plaintext, foreign, unknown].map(few))
    }

    fn counts(self) -> Counts {
        let [mutual, plaintext, foreign, unknown] = self.0.map(u64::from);
        Counts {
            mutual,
            plaintext,
            foreign,
            unknown,
        }
    }

    fn add(&mut self, other: Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own = own.saturating_add(other);
        }
    }
}

// === impl Bucket ===

impl Bucket {
    fn totals(&self) -> Totals {
        let [client, server, again] = self.told.map(Few::counts);
        Totals {
            client,
            server,
            again,
        }
    }
}

// === impl Past ===

impl Past {
    pub(super) fn add(&mut self, by: Teller, counts: Counts, now: Monotonic) {
        let hour = hour(now);
        let mut told = [Few::default(); 3];
        if let Some(place) = told.get_mut(by as usize) {
            *place = Few::of(counts);
        }
        add(&mut self.hours, hour, told);
        while let Some(oldest) = self.hours.front()
            && oldest.number + HOURS < hour
        {
            let (number, told) = (oldest.number / 24, oldest.told);
            self.hours.pop_front();
            add(&mut self.days, number, told);
        }
        while let Some(oldest) = self.days.front()
            && oldest.number + DAYS < hour / 24
        {
            self.days.pop_front();
        }
    }

    /// Takes all of another.
    pub(super) fn merge(&mut self, other: &Self) {
        for (own, others) in [
            (&mut self.hours, &other.hours),
            (&mut self.days, &other.days),
        ] {
            for bucket in others {
                add(own, bucket.number, bucket.told);
            }
        }
    }

    /// All within a window that ends `now`.
    pub(super) fn sum(&self, window: Duration, now: Monotonic) -> Totals {
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let first = hour(Monotonic(now.0.saturating_sub(window)));
        let mut totals = Totals::default();
        for bucket in self.hours.iter().filter(|it| it.number >= first) {
            totals.add(bucket.totals());
        }
        for bucket in self.days.iter().filter(|it| it.number >= first / 24) {
            totals.add(bucket.totals());
        }
        totals
    }
}

fn hour(at: Monotonic) -> u32 {
    u32::try_from(at.0 / 1_000_000_000 / SECONDS_OF_HOUR).unwrap_or(u32::MAX)
}

/// Adds to a bucket of a list that is sorted by number; nearly always to the last.
fn add(buckets: &mut VecDeque<Bucket>, number: u32, told: [Few; 3]) {
    let at = buckets.partition_point(|bucket| bucket.number < number);
    match buckets.get_mut(at) {
        Some(bucket) if bucket.number == number => {
            for (own, other) in bucket.told.iter_mut().zip(told) {
                own.add(other);
            }
        }
        _ => buckets.insert(at, Bucket { number, told }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = SECONDS_OF_HOUR * 1_000_000_000;

    fn hours(count: u64) -> Duration {
        Duration::from_secs(count * SECONDS_OF_HOUR)
    }

    #[test]
    fn windows_have_what_is_in_them() {
        let mut past = Past::default();
        for hour in 0..24 * 20 {
            past.add(
                Teller::Client,
                Counts::one(Security::Plaintext),
                Monotonic(hour * HOUR),
            );
        }
        let now = Monotonic(24 * 20 * HOUR - 1);
        assert_eq!(past.sum(hours(1), now).once().plaintext, 2);
        assert_eq!(past.sum(hours(24), now).once().plaintext, 25);
        let week = past.sum(hours(7 * 24), now).once().plaintext;
        assert!((7 * 24..8 * 24 + 1).contains(&week), "{week}");
        assert_eq!(past.sum(hours(30 * 24), now).once().plaintext, 24 * 20);
    }

    #[test]
    fn what_both_ends_tell_is_counted_once_and_at_both() {
        let mut past = Past::default();
        let now = Monotonic(HOUR);
        for (by, times) in [(Teller::Client, 5), (Teller::Server, 3), (Teller::Again, 2)] {
            for _ in 0..times {
                past.add(by, Counts::one(Security::Hbone), now);
            }
        }
        let totals = past.sum(hours(1), now);
        assert_eq!(totals.once().mutual, 8);
        assert_eq!(totals.at_client().mutual, 5);
        assert_eq!(totals.at_server().mutual, 5);
    }

    proptest! {
        /// Nothing within 30 days is lost, and what is kept stays bounded.
        #[test]
        fn nothing_within_is_lost(mut times in prop::collection::vec(0_u64..24 * 90, 1..400)) {
            times.sort_unstable();
            let (mut past, mut other) = (Past::default(), Past::default());
            for (index, hour) in times.iter().enumerate() {
                let into = if index % 3 == 0 { &mut other } else { &mut past };
                into.add(Teller::Server, Counts::one(Security::Hbone), Monotonic(hour * HOUR));
            }
            past.merge(&other);
            let last = times.last().copied().unwrap_or_default();
            let now = Monotonic(last * HOUR);
            past.add(Teller::Server, Counts::default(), now);
            for days in [1, 2, 7, 30] {
                let window = 24 * days;
                let within = times.iter().filter(|hour| **hour + window >= last).count() as u64;
                let sum = past.sum(hours(window), now).once();
                prop_assert!(sum.mutual >= within, "{days}: {} of {within}", sum.mutual);
                let around = times.iter().filter(|hour| **hour + window + 24 >= last).count() as u64;
                prop_assert!(sum.mutual <= around, "{days}: {} of {around}", sum.mutual);
            }
            prop_assert!(past.hours.len() <= HOURS as usize + 1);
            prop_assert!(past.days.len() <= DAYS as usize + 1);
        }
    }
}

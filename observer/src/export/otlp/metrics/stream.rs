//! What was told of each series: where it started, and what was added since.

use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};

use super::grown::Grown;
use crate::aggregate::{
    contract::{Family, Kind},
    histogram::{Buckets, Histogram},
    series::Labels,
    snapshot::{Series, Value},
};

/// All series that only rise.
#[derive(Debug)]
pub(super) struct Streams {
    delta: bool,
    limit: usize,
    started: u64,
    known: HashMap<Key, Stream, RandomState>,
    /// Number of the snapshot.
    round: u64,
    /// Time of the snapshot before, or of the start; nanoseconds since the Unix epoch, as all here.
    /// It is remembered as wall-clock time, so that the start of a series stays the same when the
    /// clock is set.
    previous: u64,
    now: u64,
    untracked: u64,
}

/// What is to be told of a series.
pub(super) struct Told {
    /// When it started; 0 for what has no start.
    pub(super) start: u64,
    /// Now.
    pub(super) time: u64,
    pub(super) amount: Amount,
}

/// The value of a series, or what was added to it.
pub(super) enum Amount {
    Integer(u64),
    Float(f64),
    Fixed(&'static Buckets, Histogram),
    /// With the sum in base units.
    Grown(&'static Buckets, Grown, u64),
}

#[derive(Debug, PartialEq, Eq)]
struct Key {
    family: &'static str,
    labels: Labels,
    more: Box<[(&'static str, &'static str)]>,
}

/// A [`Key`] that owns nothing.
struct Named<'a> {
    family: &'static str,
    series: &'a Series,
}

#[derive(Debug)]
struct Stream {
    round: u64,
    start: u64,
    last: Last,
}

/// The last value; of histograms as much as is needed.
#[derive(Debug, PartialEq)]
enum Last {
    Integer(u64),
    Float(f64),
    Count(u64),
    Fixed(Box<Histogram>),
    Grown(Grown, u64),
}

/// Most series that are remembered; the aggregate has budgets for each group of families that
/// keep them below that. About 200 bytes each, or 400 where histograms tell what was added.
const LIMIT: usize = 500_000;

/// Whether a family is an up-down counter of the semantic conventions.
pub(super) fn is_up_down(family: &Family) -> bool {
    family.kind == Kind::Gauge && family.convention.is_some()
}

// === impl Streams ===

impl Streams {
    pub(super) fn new(delta: bool, started: u64) -> Self {
        Self {
            delta,
            limit: LIMIT,
            started,
            known: HashMap::default(),
            round: 0,
            previous: started,
            now: started,
            untracked: 0,
        }
    }

    pub(super) const fn untracked(&self) -> u64 {
        self.untracked
    }

    /// A snapshot of `now` follows.
    pub(super) fn begin(&mut self, now: u64) {
        self.round += 1;
        self.now = now.max(self.previous);
    }

    /// All of it was told: what was not in it is forgotten.
    pub(super) fn end(&mut self) {
        let round = self.round;
        self.known.retain(|_, stream| stream.round == round);
        self.previous = self.now;
    }

    /// What is to be told of a series; `None` when nothing is.
    pub(super) fn advance(
        &mut self,
        family: &'static Family,
        series: &Series,
        grown: bool,
    ) -> Option<Told> {
        let (value, time) = (&series.value, self.now);
        let told = |start, amount| {
            Some(Told {
                start,
                time,
                amount,
            })
        };
        match family.kind {
            Kind::Counter | Kind::Histogram => {}
            // It went up and down since counting began.
            Kind::Gauge if is_up_down(family) => return told(self.started, amount(value, grown)),
            Kind::Gauge | Kind::Info => return told(0, amount(value, grown)),
        }
        let last = last(value, self.delta, grown);
        let named = Named {
            family: family.name,
            series,
        };
        let (round, previous) = (self.round, self.previous);
        let Some(stream) = self.known.get_mut(&named) else {
            if self.known.len() >= self.limit {
                self.untracked += 1;
                let amount = (!self.delta).then(|| amount(value, grown))?;
                return told(previous, amount);
            }
            let stream = Stream {
                round,
                start: previous,
                last,
            };
            self.known.insert(named.owned(), stream);
            return told(previous, amount(value, grown));
        };
        stream.round = round;
        let since = if self.delta {
            // What was told up to now started when it was last told.
            stream.start = previous;
            added(value, &stream.last, grown)
        } else {
            stream.last.is_at_most(&last).then(|| amount(value, grown))
        };
        stream.last = last;
        match since {
            Some(amount) if self.delta && amount.is_nothing() => None,
            Some(amount) => told(stream.start, amount),
            // It counts from zero again.
            None => {
                stream.start = previous;
                told(previous, amount(value, grown))
            }
        }
    }
}

/// All of a value.
fn amount(value: &Value, grown: bool) -> Amount {
    match value {
        Value::Integer(value) => Amount::Integer(*value),
        Value::Float(value) => Amount::Float(*value),
        Value::Histogram(buckets, distribution) if grown => {
            let all = distribution.exponential.as_deref().map(Grown::of);
            Amount::Grown(buckets, all.unwrap_or_default(), distribution.sum())
        }
        Value::Histogram(buckets, distribution) => Amount::Fixed(buckets, distribution.classic),
    }
}

/// What of a value is to be remembered.
fn last(value: &Value, delta: bool, grown: bool) -> Last {
    match value {
        Value::Integer(value) => Last::Integer(*value),
        Value::Float(value) => Last::Float(*value),
        Value::Histogram(_, distribution) if !delta => Last::Count(distribution.count()),
        Value::Histogram(_, distribution) if grown => {
            let all = distribution.exponential.as_deref().map(Grown::of);
            Last::Grown(all.unwrap_or_default(), distribution.sum())
        }
        Value::Histogram(_, distribution) => Last::Fixed(Box::new(distribution.classic)),
    }
}

/// What was added since `last`; `None` when something is less than it was.
fn added(value: &Value, last: &Last, grown: bool) -> Option<Amount> {
    Some(match (amount(value, grown), last) {
        (Amount::Integer(value), Last::Integer(last)) => Amount::Integer(value.checked_sub(*last)?),
        (Amount::Float(value), Last::Float(last)) if value >= *last => Amount::Float(value - last),
        (Amount::Fixed(buckets, value), Last::Fixed(last)) => {
            let mut left = value;
            left.sum = left.sum.checked_sub(last.sum)?;
            for (count, last) in left.counts.iter_mut().zip(&last.counts) {
                *count = count.checked_sub(*last)?;
            }
            Amount::Fixed(buckets, left)
        }
        (Amount::Grown(buckets, value, sum), Last::Grown(last, last_sum)) => {
            let left = value.since(last)?;
            Amount::Grown(buckets, left, sum.checked_sub(*last_sum)?)
        }
        _ => return None,
    })
}

// === impl Amount ===

impl Amount {
    /// Nothing was added.
    fn is_nothing(&self) -> bool {
        match self {
            Self::Integer(value) => *value == 0,
            Self::Float(value) => *value == 0.0,
            Self::Fixed(_, histogram) => histogram.count() == 0,
            Self::Grown(_, grown, _) => grown.count() == 0,
        }
    }
}

// === impl Last ===

impl Last {
    /// It can have become `now` by adding.
    fn is_at_most(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Integer(last), Self::Integer(now)) | (Self::Count(last), Self::Count(now)) => {
                last <= now
            }
            (Self::Float(last), Self::Float(now)) => last <= now,
            _ => false,
        }
    }
}

// === impl Key ===

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(self.family, &self.labels, &self.more, state);
    }
}

impl Hash for Named<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(self.family, &self.series.labels, &self.series.more, state);
    }
}

impl Equivalent<Key> for Named<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        // Labels are shared in most cases.
        self.family == key.family
            && self.series.more == key.more
            && (std::ptr::eq(&*self.series.labels, &*key.labels)
                || self.series.labels == key.labels)
    }
}

impl Named<'_> {
    fn owned(&self) -> Key {
        Key {
            family: self.family,
            labels: self.series.labels.clone(),
            more: self.series.more.clone(),
        }
    }
}

fn hash<H: Hasher>(
    family: &'static str,
    labels: &[(&'static str, Box<str>)],
    more: &[(&'static str, &'static str)],
    state: &mut H,
) {
    family.hash(state);
    for (_, value) in labels {
        value.hash(state);
    }
    for (_, value) in more {
        value.hash(state);
    }
}

#[cfg(test)]
mod tests;

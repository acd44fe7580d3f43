//! What shows a finding: how often, when, and some flows.

use std::time::Duration;

use crate::{
    mesh::findings::{Findings, Key, Sample, Samples, Saying},
    model::{
        call::{Call, Link},
        time::Monotonic,
    },
};

/// What shows a finding.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// How often it was seen.
    pub(super) count: u64,
    /// When it was first seen.
    pub(super) first: Monotonic,
    /// When it was last seen.
    pub(super) last: Monotonic,
    samples: Samples,
}

// === impl Evidence ===

impl Evidence {
    /// Something that is so since then, and shows in so many requests.
    pub(super) fn lasting(since: Monotonic, last: Monotonic, count: u64) -> Self {
        Self {
            count,
            first: since,
            last,
            samples: Samples::default(),
        }
    }

    /// Takes a call that shows it.
    pub(super) fn call(&mut self, call: &Call, now: Monotonic) {
        self.at(now);
        self.samples.push(Sample::of_call(call));
    }

    /// Takes a connection that shows it.
    pub(super) fn link(&mut self, link: &Link, now: Monotonic) {
        self.at(now);
        self.samples.push(Sample::of_link(link, now));
    }

    /// Counts what has no flow.
    pub(super) fn at(&mut self, now: Monotonic) {
        if self.count == 0 {
            self.first = now;
        }
        self.count = self.count.saturating_add(1);
        self.last = self.last.max(now);
    }

    /// It is so as long as it is said again.
    pub(super) fn state(&mut self, now: Monotonic) {
        if self.count == 0 {
            self.at(now);
        }
        self.last = self.last.max(now);
    }

    /// It is no more so.
    pub(super) fn clear(&mut self) {
        if self.count > 0 {
            *self = Self::default();
        }
    }

    /// Whether it was seen, and lately.
    pub(super) fn is_fresh(&self, now: Monotonic, window: Duration) -> bool {
        self.count > 0 && now.since(self.last) <= window
    }

    /// Opens a finding.
    pub(super) fn raise(&self, into: &mut Findings, key: Key, saying: Saying) {
        let none = Samples::default();
        into.raise(key.clone(), self.first, 0, &none, Saying::default());
        into.raise(key, self.last, self.count, &self.samples, saying);
    }
}

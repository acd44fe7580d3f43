//! What shows a finding: how often, when, and some flows.

use std::sync::Arc;

use super::routes::Judge;
use crate::{
    mesh::{
        decision::Reason,
        findings::{Findings, Key, Sample, Samples, Saying, between, is_over},
    },
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
    /// Of how many requests, or connections, before the first that showed it, and with the last.
    of: (u64, u64),
    /// What decided about the last, where that is remembered.
    pub(super) because: Arc<[Reason]>,
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
            of: (0, 0),
            because: Arc::default(),
            samples: Samples::default(),
        }
    }

    /// So many requests or connections there are with the one that shows it, which is taken next.
    pub(super) fn of(&mut self, all: u64) -> &mut Self {
        if self.count == 0 {
            self.of.0 = all.saturating_sub(1);
        }
        self.of.1 = all;
        self
    }

    /// This decided about the one that is taken next.
    pub(super) fn by(&mut self, because: &Arc<[Reason]>) -> &mut Self {
        if !Arc::ptr_eq(&self.because, because) {
            self.because = because.clone();
        }
        self
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

    /// Whether it was seen, and has not ended since: there are `all` requests or connections now.
    pub(super) fn stands(&self, judge: Judge, all: u64) -> bool {
        let (before, last) = self.of;
        let quiet = judge.now.since(self.last);
        let between = between(self.count, last.saturating_sub(before));
        self.count > 0
            && quiet <= judge.window
            && !is_over(between, all.saturating_sub(last), judge.minimum, quiet)
    }

    /// Opens a finding.
    pub(super) fn raise(&self, into: &mut Findings, key: Key, saying: Saying) {
        let none = Samples::default();
        into.raise(key.clone(), self.first, 0, &none, Saying::default());
        into.raise(key, self.last, self.count, &self.samples, saying);
    }
}

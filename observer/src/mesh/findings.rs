//! Findings that are open: what was found of whom, how often, since when, and a few flows that show
//! it.

mod catalogue;
mod over;
mod severity;

use std::{net::SocketAddr, sync::Arc};

use hashbrown::{Equivalent, HashMap};

pub use self::{
    catalogue::{Entry, Id},
    over::{QUIET, between, is_over},
    severity::Severity,
};
use super::{decision, report, report::Party};
use crate::model::{
    call::{Call, Link},
    connection::Role,
    exchange::RequestHead,
    security::Security,
    time::{Monotonic, WallOffset},
};

/// Most flows that are kept to show a finding.
pub const SAMPLES: usize = 5;

/// What tells findings apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What it is.
    pub id: Id,
    /// Whom it is about.
    pub workload: Arc<Party>,
    /// Who is at the other end; `None` where it is about one end.
    pub peer: Option<Arc<Party>>,
    /// Port of the server's pod; 0 where it is about none.
    pub port: u16,
    /// What else tells two of them apart: a rule, a host. Empty without.
    pub about: Box<str>,
}

/// [`Key`] without copies, to look it up.
#[derive(Clone, Copy, Debug, Hash)]
pub struct KeyRef<'a> {
    /// See [`Key::id`].
    pub id: Id,
    /// See [`Key::workload`].
    pub workload: &'a Party,
    /// See [`Key::peer`].
    pub peer: Option<&'a Party>,
    /// See [`Key::port`].
    pub port: u16,
    /// See [`Key::about`].
    pub about: &'a str,
}

/// What is said of a finding, made anew whenever it is raised.
#[derive(Clone, Debug, Default)]
pub struct Saying {
    /// What was found, in one sentence.
    pub summary: String,
    /// Objects that decided, and what was observed.
    pub because: Vec<decision::Reason>,
    /// How bad it is, where that is not as in the catalogue.
    pub severity: Option<Severity>,
}

/// A flow that shows a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Monotonic,
    /// Address of the client's socket, as seen.
    pub client: SocketAddr,
    /// Address of the server's socket, as seen.
    pub server: SocketAddr,
    /// How it was secured.
    pub security: Security,
    /// Its request; `None` for connections.
    pub request: Option<Arc<RequestHead>>,
    /// Status of its response.
    pub status: Option<u16>,
}

/// The newest few flows that show something.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    kept: Vec<Sample>,
    /// Which is replaced next.
    next: usize,
}

/// A finding that is open.
#[derive(Clone, Debug)]
pub struct Open {
    /// How often it was seen.
    pub count: u64,
    /// When it was first seen.
    pub first: Monotonic,
    /// When it was last seen.
    pub last: Monotonic,
    /// Flows that show it.
    pub samples: Samples,
    /// What is said of it.
    pub saying: Saying,
}

/// Findings that are open, up to a limit.
#[derive(Debug)]
pub struct Findings {
    open: HashMap<Key, Open>,
    limit: usize,
    dropped: u64,
}

// === impl Key ===

impl Key {
    /// Without copies.
    pub fn borrowed(&self) -> KeyRef<'_> {
        KeyRef {
            id: self.id,
            workload: &self.workload,
            peer: self.peer.as_deref(),
            port: self.port,
            about: &self.about,
        }
    }
}

// === impl KeyRef ===

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.id == key.id
            && *self.workload == *key.workload
            && self.peer == key.peer.as_deref()
            && self.port == key.port
            && *self.about == *key.about
    }
}

// === impl Sample ===

impl Sample {
    /// A connection.
    pub fn of_link(link: &Link, at: Monotonic) -> Self {
        let connection = &link.connection;
        let (client, server) = match connection.role {
            Role::Server => (connection.remote, connection.local),
            Role::Client | Role::Unknown => (connection.local, connection.remote),
        };
        Self {
            at,
            client,
            server,
            security: link.security,
            request: None,
            status: None,
        }
    }

    /// A call, secured as it was between both proxies where there are some.
    pub fn of_call(call: &Call) -> Self {
        let security = call.far().map_or(call.link.security, |far| far.security);
        Self {
            security,
            request: Some(call.exchange.request.clone()),
            status: call.exchange.status,
            ..Self::of_link(&call.link, call.exchange.sent.first)
        }
    }

    /// As it is reported.
    pub fn report(&self, offset: WallOffset) -> report::Sample {
        let request = |head: &Arc<RequestHead>| format!("{} {}", head.method, head.path);
        report::Sample {
            at: seconds(self.at, offset),
            client: self.client.to_string(),
            server: self.server.to_string(),
            security: self.security.as_str(),
            request: self.request.as_ref().map(request).unwrap_or_default(),
            status: self.status,
        }
    }
}

// === impl Samples ===

impl Samples {
    /// Keeps one, instead of the oldest where there are [`SAMPLES`].
    pub fn push(&mut self, sample: Sample) {
        match self.kept.get_mut(self.next) {
            Some(oldest) => *oldest = sample,
            None => self.kept.push(sample),
        }
        self.next = (self.next + 1) % SAMPLES;
    }

    /// All, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        let (newer, older) = self.kept.split_at(self.next.min(self.kept.len()));
        older.iter().chain(newer)
    }

    /// Takes all of others.
    pub fn extend(&mut self, others: &Self) {
        for sample in others.iter() {
            self.push(sample.clone());
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.next = 0;
    }
}

// === impl Open ===

impl Open {
    /// Whether it was not seen for longer than by chance, going by how often it was before.
    pub fn is_quiet(&self, now: Monotonic) -> bool {
        let seen = self.last.since(self.first);
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        now.since(self.last) >= (seen / count.max(1)).saturating_mul(over::SURE).max(QUIET)
    }
}

// === impl Findings ===

impl Findings {
    /// None yet; at most `limit`.
    pub fn new(limit: usize) -> Self {
        Self {
            open: HashMap::new(),
            limit,
            dropped: 0,
        }
    }

    /// Changes the limit; what is open stays.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Something was found `count` times more, last `at`. Opens the finding, or adds to it.
    pub fn raise(
        &mut self,
        key: Key,
        at: Monotonic,
        count: u64,
        samples: &Samples,
        saying: Saying,
    ) {
        if !self.open.contains_key(&key) && self.open.len() >= self.limit {
            self.dropped += 1;
            return;
        }
        let open = self.open.entry(key).or_insert_with(|| Open {
            count: 0,
            first: at,
            last: at,
            samples: Samples::default(),
            saying: Saying::default(),
        });
        open.count = open.count.saturating_add(count);
        open.first = open.first.min(at);
        open.last = open.last.max(at);
        open.samples.extend(samples);
        open.saying = saying;
    }

    /// A state of things is still so: opens the finding, or only says that it was last seen `at`.
    pub fn assert(&mut self, key: Key, at: Monotonic, samples: &Samples, saying: Saying) {
        let new = u64::from(!self.open.contains_key(&key));
        self.raise(key, at, new, samples, saying);
    }

    /// It was seen before it was raised: when first.
    pub fn began(&mut self, key: &KeyRef<'_>, at: Monotonic) {
        if let Some(open) = self.open.get_mut(key) {
            open.first = open.first.min(at);
        }
    }

    /// Whether it is open.
    pub fn get(&self, key: &KeyRef<'_>) -> Option<&Open> {
        self.open.get(key)
    }

    /// It is no more so: closes it.
    pub fn close(&mut self, key: &KeyRef<'_>) -> bool {
        self.open.remove(key).is_some()
    }

    /// Closes all that do not pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&Key, &Open) -> bool) {
        self.open.retain(|key, open| keep(key, open));
    }

    /// Closes all that were last seen before.
    pub fn expire(&mut self, before: Monotonic) {
        self.open.retain(|_, open| open.last >= before);
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Open)> {
        self.open.iter()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Most that can be open.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many did not fit.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds all to a report, in no order: see [`worst_first`].
    pub fn report(&self, into: &mut Vec<report::Finding>, offset: WallOffset) {
        into.extend(
            self.open
                .iter()
                .map(|(key, open)| finding(key, open, offset)),
        );
    }
}

/// A decision's reasons as they are reported.
pub fn reasons(because: &[decision::Reason]) -> Vec<report::Reason> {
    let reason = |reason: &decision::Reason| report::Reason {
        object: reason.object.as_ref().map(report::Object::from),
        text: reason.text.clone().into_owned(),
    };
    because.iter().map(reason).collect()
}

/// Sorts findings: the worst first, then by id and whom they are about.
pub fn worst_first(findings: &mut [report::Finding]) {
    findings.sort_by(|one, other| {
        let rank = |finding: &report::Finding| Severity::rank(finding.severity);
        (rank(one), one.id, &one.workload, &one.peer, one.port)
            .cmp(&(
                rank(other),
                other.id,
                &other.workload,
                &other.peer,
                other.port,
            ))
            .then_with(|| one.summary.cmp(&other.summary))
    });
}

/// Seconds since the Unix epoch.
pub fn seconds(at: Monotonic, offset: WallOffset) -> f64 {
    offset.unix_nanoseconds(at) as f64 / 1e9
}

fn finding(key: &Key, open: &Open, offset: WallOffset) -> report::Finding {
    let entry = key.id.entry();
    report::Finding {
        id: entry.code,
        name: entry.name,
        severity: open.saying.severity.unwrap_or(entry.severity).as_str(),
        workload: (*key.workload).clone(),
        peer: key.peer.as_deref().cloned(),
        port: key.port,
        about: key.about.to_string(),
        summary: open.saying.summary.clone(),
        advice: entry.advice,
        because: reasons(&open.saying.because),
        count: open.count,
        first_seen: seconds(open.first, offset),
        last_seen: seconds(open.last, offset),
        samples: open
            .samples
            .iter()
            .map(|sample| sample.report(offset))
            .collect(),
        see: entry.see,
    }
}

#[cfg(test)]
mod tests;

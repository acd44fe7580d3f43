//! How near servers come to the limits of rate that are declared for them. A limit is one of each
//! pod's proxy, and what it refuses does not reach the pod.

use std::sync::Arc;

use super::{
    evidence::Evidence,
    party::Who,
    places::Places,
    routes::{Judge, words_of},
};
use crate::{
    mesh::{
        decision::Reason,
        findings::{Findings, Id, Key, Saying},
    },
    model::{kubernetes::Pod, policy::ObjectRef, time::Monotonic},
};

/// A limit that no second comes within this part of is never reached.
const NEAR: u32 = 10;
const SECOND: u64 = 1_000_000_000;

/// Most pods of one server that are told apart; those beyond are counted as one.
const PODS: usize = 32;

/// A server, and a port of its pods.
pub(super) type RateKey = (Who, u16);

/// Requests to the pods of a server on this node.
#[derive(Debug)]
pub(super) struct Rate {
    object: ObjectRef,
    /// Requests per second that each proxy lets pass.
    limit: u32,
    /// Since when it is so.
    since: Monotonic,
    /// Last request.
    pub(super) last: Monotonic,
    requests: u64,
    pods: Vec<Second>,
    /// Most requests to one pod in one second.
    most: u32,
}

/// Requests to a pod in its last second.
#[derive(Debug)]
struct Second {
    pod: Arc<Pod>,
    second: u64,
    requests: u32,
}

/// Servers with limits.
pub(super) type Rates = Places<RateKey, Rate>;

// === impl Rate ===

impl Rate {
    /// Nothing seen of it yet.
    pub(super) fn new(object: &ObjectRef, limit: u32, now: Monotonic) -> Self {
        Self {
            object: object.clone(),
            limit,
            since: now,
            last: now,
            requests: 0,
            pods: Vec::new(),
            most: 0,
        }
    }

    /// What is declared may be another.
    pub(super) fn declare(&mut self, object: &ObjectRef, limit: u32, now: Monotonic) {
        if self.limit != limit {
            *self = Self::new(object, limit, now);
        } else if self.object != *object {
            self.object = object.clone();
        }
    }

    /// Takes a request to a pod.
    pub(super) fn take(&mut self, pod: &Arc<Pod>, now: Monotonic) {
        self.last = now;
        self.requests += 1;
        let known = self.pods.iter().position(|it| Arc::ptr_eq(&it.pod, pod));
        let place = match known {
            Some(place) => place,
            None if self.pods.len() < PODS => {
                // The same pod may have been told anew.
                self.pods.retain(|it| it.pod.uid != pod.uid);
                self.pods.push(Second {
                    pod: pod.clone(),
                    second: 0,
                    requests: 0,
                });
                self.pods.len() - 1
            }
            None => self.pods.len() - 1,
        };
        let Some(counted) = self.pods.get_mut(place) else {
            return;
        };
        let second = now.0 / SECOND;
        if counted.second != second {
            (counted.second, counted.requests) = (second, 0);
        }
        counted.requests += 1;
        self.most = self.most.max(counted.requests);
    }
}

/// What is not as declared.
pub(super) fn judge(rates: &Rates, into: &mut Findings, judge: Judge) {
    for ((who, port), rate) in rates.iter() {
        let Rate {
            requests,
            most,
            since,
            ..
        } = rate;
        let near = most.saturating_mul(NEAR) >= rate.limit;
        if near || *requests < judge.minimum || !judge.watched(*since) {
            continue;
        }
        let summary = format!(
            "{} lets {} requests per second pass to each pod of {} at port {port}, and none of this node got more than {most} of {requests} in a second: the limit is never reached.",
            words_of(&rate.object),
            rate.limit,
            who.words(),
        );
        let key = Key {
            id: Id::M35,
            workload: who.party().clone(),
            peer: None,
            port: *port,
            about: "never".into(),
        };
        let saying = Saying {
            summary,
            because: vec![Reason::of(rate.object.clone(), "requests per second")],
            severity: None,
        };
        Evidence::lasting(*since, judge.now, *requests).raise(into, key, saying);
    }
}

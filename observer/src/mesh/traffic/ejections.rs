//! Pods that a client's proxy sends nothing to, as after failures: what outlier detection does is told
//! nowhere, and is inferred from requests at their servers.

use std::time::Duration;

use super::{ends::ServerEnd, evidence::Evidence, party::Who, places::Places, routes::Judge};
use crate::{
    mesh::{
        decision::Reason,
        findings::{Findings, Id, Key, Saying},
    },
    model::{call::Call, policy::ObjectRef, time::Monotonic},
};

/// Most pods of one server that are told apart.
const PODS: usize = 32;
/// A pod that is ejected is so at least for this long.
const EJECTED: Duration = Duration::from_secs(30);

/// A client, a server, and a port of its pods.
pub(super) type BalancedKey = (Who, Who, u16);

/// What pods got of a client.
#[derive(Debug, Default)]
pub(super) struct Balanced {
    /// Last request.
    pub(super) last: Monotonic,
    pods: Vec<Pod>,
    object: Option<ObjectRef>,
}

/// Clients and servers.
pub(super) type Balances = Places<BalancedKey, Balanced>;

/// What ejects pods, and after how many failures in a row.
#[derive(Clone, Debug)]
pub(super) struct Ejects {
    /// The object that says so; `None` where it is an annotation of the Service.
    pub(super) object: Option<ObjectRef>,
    /// Failures in a row.
    pub(super) failures: u32,
}

#[derive(Debug)]
struct Pod {
    uid: Box<str>,
    name: Box<str>,
    /// Failures in a row, up to now.
    failures: u32,
    /// As many as eject it.
    enough: bool,
    last: Monotonic,
    /// Requests that others got since its last.
    missed: u64,
    evidence: Evidence,
}

// === impl Balanced ===

impl Balanced {
    /// Takes a request.
    pub(super) fn take(&mut self, end: &ServerEnd, call: &Call, ejects: &Ejects, now: Monotonic) {
        self.last = now;
        self.object.clone_from(&ejects.object);
        let failed = call.exchange.status.is_some_and(|status| status >= 500);
        let mut known = false;
        for pod in &mut self.pods {
            if *pod.uid != *end.pod.uid {
                pod.missed += 1;
                continue;
            }
            known = true;
            pod.last = now;
            pod.missed = 0;
            pod.failures = if failed { pod.failures + 1 } else { 0 };
            pod.enough = pod.failures >= ejects.failures;
            match failed {
                true => pod.evidence.call(call, now),
                false => pod.evidence.clear(),
            }
        }
        if known || self.pods.len() >= PODS {
            return;
        }
        self.pods.push(Pod {
            uid: end.pod.uid.clone(),
            name: end.pod.name.clone(),
            failures: u32::from(failed),
            enough: failed && ejects.failures <= 1,
            last: now,
            missed: 0,
            evidence: Evidence::default(),
        });
    }

    fn judge(&self, into: &mut Findings, judge: Judge, (client, server, port): &BalancedKey) {
        // By chance a pod of many is left out for a while.
        let many = judge.minimum.saturating_mul(self.pods.len() as u64);
        for pod in &self.pods {
            let silent = judge.now.since(pod.last);
            let ejected = pod.enough && pod.missed >= many && silent >= EJECTED;
            if !ejected || !pod.evidence.stands(judge, 0) {
                continue;
            }
            let summary = format!(
                "Pod {} of {} got nothing of {} for {} s, after {} failures in a row, and other pods got {} requests: as if it were ejected.",
                pod.name,
                server.words(),
                client.words(),
                silent.as_secs(),
                pod.failures,
                pod.missed
            );
            let key = Key {
                id: Id::M23,
                workload: server.party().clone(),
                peer: Some(client.party().clone()),
                port: *port,
                about: pod.name.clone(),
            };
            let text = "pods that fail are ejected";
            let reason = match &self.object {
                Some(object) => Reason::of(object.clone(), text),
                None => Reason::plain(text),
            };
            let saying = Saying {
                summary,
                because: vec![reason],
                severity: None,
            };
            pod.evidence.raise(into, key, saying);
        }
    }
}

/// What is found.
pub(super) fn judge(balances: &Balances, into: &mut Findings, judge: Judge) {
    for (key, balanced) in balances.iter() {
        balanced.judge(into, judge, key);
    }
}

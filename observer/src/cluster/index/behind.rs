//! Who is behind a name that several pods may share: a service account, or a Service.
//!
//! It is worked out when it is asked, and kept until a pod or an endpoint changes: names are asked
//! for far more often than that.

use std::{
    cell::RefCell,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use hashbrown::HashMap;

use super::Index;
use crate::{
    cluster::object::{Kind, Source},
    model::kubernetes::Pod,
};

/// Whose a name is, among workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// No pod's.
    Nobody,
    /// Of pods of one workload: one of them.
    One(Arc<Pod>),
    /// Of pods of several workloads, of what is no pod, or it is not known well enough to tell.
    Several,
}

/// What was worked out.
#[derive(Debug, Default)]
pub(super) struct Answers {
    known: RefCell<Known>,
    state: foldhash::fast::RandomState,
}

#[derive(Debug, Default)]
struct Known {
    /// What it was worked out from: it rises with every change.
    stamp: u64,
    answers: HashMap<u64, Behind, foldhash::fast::RandomState>,
}

/// Most answers that are kept; with more they are worked out anew.
const MAX_ANSWERS: usize = 4096;

// === impl Index ===

impl Index {
    /// Whose a service account is: of which workload all pods are that have it.
    pub fn account(&self, namespace: &str, name: &str) -> Behind {
        if !self.lists.is_complete(Source::Cluster, Kind::Pod) || self.pods.overflow != 0 {
            return Behind::Several;
        }
        self.behind.get((true, namespace, name), self.stamp(), || {
            Behind::of(self.pods.with_account(namespace, name).map(Some))
        })
    }

    /// Who stands behind a Service: of which workload all pods are that are its endpoints, also
    /// those that are not ready.
    pub fn behind(&self, namespace: &str, service: &str) -> Behind {
        let kinds = [Kind::Pod, Kind::Endpoints];
        let known = kinds.map(|kind| self.lists.is_complete(Source::Cluster, kind));
        if known.contains(&false) || self.pods.overflow != 0 || !self.endpoints.are_all() {
            return Behind::Several;
        }
        self.behind
            .get((false, namespace, service), self.stamp(), || {
                let uids = self.endpoints.of(namespace, service);
                // Endpoints of pods that ended are about to go.
                Behind::of(uids.filter_map(|uid| match uid {
                    None => Some(None),
                    Some(uid) => self.pods.living(uid),
                }))
            })
    }

    /// Rises with every change that answers depend on; one for both, as they are kept together.
    fn stamp(&self) -> u64 {
        self.pods.changes + self.endpoints.changes
    }
}

// === impl Behind ===

impl Behind {
    /// Whose a name is that these pods share, which are all there are. `None` is one that is not
    /// known.
    pub(super) fn of<'a>(pods: impl Iterator<Item = Option<&'a Arc<Pod>>>) -> Self {
        let mut found: Option<&Arc<Pod>> = None;
        for pod in pods {
            match (pod, found) {
                (None, _) => return Self::Several,
                (Some(pod), None) => found = Some(pod),
                (Some(pod), Some(first)) if is_same(pod, first) => {}
                (Some(_), Some(_)) => return Self::Several,
            }
        }
        found.map_or(Self::Nobody, |pod| Self::One(pod.clone()))
    }
}

/// Whether two pods belong to the same workload.
fn is_same(one: &Pod, other: &Pod) -> bool {
    one.namespace == other.namespace && one.workload() == other.workload()
}

// === impl Answers ===

impl Answers {
    /// The answer to a question, worked out from what has this `stamp`.
    pub(super) fn get(
        &self,
        question: impl Hash,
        stamp: u64,
        find: impl FnOnce() -> Behind,
    ) -> Behind {
        let question = self.state.hash_one(question);
        let mut known = self.known.borrow_mut();
        if known.stamp != stamp || known.answers.len() >= MAX_ANSWERS {
            known.stamp = stamp;
            known.answers.clear();
        }
        if let Some(answer) = known.answers.get(&question) {
            return answer.clone();
        }
        let answer = find();
        known.answers.insert(question, answer.clone());
        answer
    }
}

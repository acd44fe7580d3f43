//! Pods by what others know of them: by their service account, and as endpoints.

use std::{hash::BuildHasher, sync::Arc};

use super::{super::uid::Uid, Pods};
use crate::model::kubernetes::Pod;

/// Hash of a pod's namespace and service account; `None` where that is not known.
pub(super) fn account(state: &foldhash::fast::RandomState, pod: &Pod) -> Option<u64> {
    let account = &*pod.traits.service_account;
    (!account.is_empty()).then(|| state.hash_one((&*pod.namespace, account)))
}

// === impl Pods ===

impl Pods {
    /// Pods with a service account that have not ended.
    pub(in crate::cluster::index) fn with_account(
        &self,
        namespace: &str,
        account: &str,
    ) -> impl Iterator<Item = &Arc<Pod>> {
        let hash = self.state.hash_one((namespace, account));
        let slots = self.by_account.get(&hash).copied().collect::<Vec<u32>>();
        slots
            .into_iter()
            .filter_map(|slot| Some(&self.records.get(slot)?.pod))
            .filter(move |pod| {
                *pod.namespace == *namespace && *pod.traits.service_account == *account
            })
    }

    /// The pod of a uid: `None` if it ended, `Some(None)` if it is not known.
    pub(in crate::cluster::index) fn living(&self, uid: &Uid) -> Option<Option<&Arc<Pod>>> {
        let Some(record) = self.slot(uid).and_then(|slot| self.records.get(slot)) else {
            return Some(None);
        };
        (!record.life().is_over()).then_some(Some(&record.pod))
    }
}

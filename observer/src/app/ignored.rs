//! Which workloads are not observed.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::{
    config::{Config, Ignore, Pods},
    model::workload::Workload,
};

/// Which workloads are not observed, remembered for each.
pub(super) struct Ignored {
    rules: Ignore,
    only: Pods,
    known: HashMap<usize, (Arc<Workload>, bool), foldhash::fast::RandomState>,
}

/// Workloads whose verdict is remembered.
const MAX_REMEMBERED: usize = 4096;

/// Whether patterns choose the pod of a workload; not if it is in none.
fn chooses(pods: &Pods, workload: &Workload) -> bool {
    let Some(pod) = workload.pod().filter(|_| !pods.is_empty()) else {
        return false;
    };
    let labels = pod.labels.iter().map(|(name, value)| (&**name, &**value));
    pods.matches(&pod.namespace, pod.workload(), labels)
}

// === impl Ignored ===

impl Ignored {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            rules: config.ignore.clone(),
            only: config.only.clone(),
            known: HashMap::default(),
        }
    }

    pub(super) fn is(&mut self, workload: &Arc<Workload>) -> bool {
        let Ignore {
            ports: _,
            cgroups,
            services,
            pods,
        } = &self.rules;
        let only = &self.only;
        if cgroups.is_empty() && services.is_empty() && pods.is_empty() && only.is_empty() {
            return false;
        }
        // The workload is kept with the verdict, so its address cannot become another's.
        let address = Arc::as_ptr(workload) as usize;
        if let Some((_, verdict)) = self.known.get(&address) {
            return *verdict;
        }
        let verdict = cgroups.iter().any(|glob| glob.matches(&workload.cgroup))
            || services.iter().any(|glob| glob.matches(&workload.service))
            || chooses(pods, workload)
            || !only.is_empty() && !chooses(only, workload);
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(address, (Arc::clone(workload), verdict));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kubernetes::{Container, Owner, Pod};

    const FILE: &str = "ignore: {namespaces: [kube-*], workloads: [shop/Job/*], services: [noise]}\n\
        only: {namespaces: [shop, kube-*], pod_labels: [tier=front]}\n";

    fn workload(namespace: &str, kind: &str, labels: &[(&str, &str)]) -> Arc<Workload> {
        let pod = Pod {
            namespace: namespace.into(),
            owners: [Owner {
                kind: kind.into(),
                name: "cart".into(),
            }]
            .into(),
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..Pod::default()
        };
        Arc::new(Workload {
            service: "cart".into(),
            container: Some(Container {
                pod: Arc::new(pod),
                name: "app".into(),
            }),
            ..Workload::default()
        })
    }

    #[test]
    fn pods_are_left_out_and_chosen() {
        let config = Config::parse("observer.yaml", FILE).unwrap();
        let mut ignored = Ignored::new(&config);
        let mut is = |workload: Arc<Workload>| {
            let verdict = ignored.is(&workload);
            assert_eq!(ignored.is(&workload), verdict, "also when it is remembered");
            verdict
        };
        assert!(!is(workload("shop", "Deployment", &[])));
        assert!(is(workload("shop", "Job", &[])));
        assert!(is(workload("other", "Deployment", &[("tier", "back")])));
        assert!(!is(workload("other", "Deployment", &[("tier", "front")])));
        assert!(is(workload("kube-system", "Deployment", &[])));
        assert!(is(Arc::new(Workload::default())), "no pod was chosen");
        let mut all = Ignored::new(&Config::default());
        assert!(!all.is(&Arc::new(Workload::default())));
    }
}

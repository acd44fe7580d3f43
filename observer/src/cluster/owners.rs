//! What controls a pod, and what controls that, up to the top: a pure resolver.
//!
//! A pod names its own controller only. What controls a ReplicaSet or a Job is told by labels of
//! the pod, where they tell it exactly, else by the object itself. A pod whose controller is not
//! known yet waits for it, briefly; then it goes out with what is certain, and again when more is.

use std::{collections::VecDeque, time::Duration};

use hashbrown::{HashMap, HashSet};

use super::{
    object::PodObject,
    read::{Controller, ControllerObject, Draft, Resource},
};
use crate::{
    model::{kubernetes::Owner, time::Monotonic},
    telemetry::health::{Loss, Table},
};

/// Resolves the owners of pods.
#[derive(Debug)]
pub struct Owners {
    limits: Limits,
    /// ReplicaSets and Jobs by uid.
    controllers: HashMap<Box<str>, Known, foldhash::fast::RandomState>,
    /// Controllers that are forgotten in time, in that order.
    leaving: VecDeque<(Box<str>, Monotonic)>,
    /// Pods whose controller is not known, by uid; those that went out without it too.
    pods: HashMap<Box<str>, Held, foldhash::fast::RandomState>,
    /// The uids of such pods by the uid of their controller.
    awaited: HashMap<Box<str>, HashSet<Box<str>>, foldhash::fast::RandomState>,
    /// Those of them that did not go out.
    waiting: usize,
    /// When each of them goes out, in that order.
    deadlines: VecDeque<(Box<str>, Monotonic)>,
    /// Wanted controllers that nobody was asked for yet.
    wanted: VecDeque<Wanted>,
    /// Number of the list that is being told, for each resource.
    round: [u32; 2],
    unresolved: u64,
    refused: u64,
}

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most controllers.
    pub controllers: usize,
    /// Most pods whose controller is not known.
    pub pods: usize,
    /// A pod waits for its controller for so long.
    pub patience: Duration,
    /// A controller that is gone is remembered for so long, as its pods end after it.
    pub memory: Duration,
}

/// A controller whose own controller somebody should ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which resource has it.
    pub resource: Resource,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its uid.
    pub uid: Box<str>,
}

#[derive(Debug)]
struct Known {
    resource: Resource,
    controller: Option<(Owner, Box<str>)>,
    round: u32,
    /// It is gone, or was only asked for: forgotten at this time unless a pod needs it.
    leaves: Option<Monotonic>,
}

#[derive(Debug)]
struct Held {
    draft: Draft,
    /// When it goes out; `None` if it did.
    until: Option<Monotonic>,
}

/// Longest chain of controllers that is followed.
const MAX_CHAIN: usize = 8;

// === impl Owners ===

impl Owners {
    /// A resolver that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            controllers: HashMap::default(),
            leaving: VecDeque::new(),
            pods: HashMap::default(),
            awaited: HashMap::default(),
            waiting: 0,
            deadlines: VecDeque::new(),
            wanted: VecDeque::new(),
            round: [0; 2],
            unresolved: 0,
            refused: 0,
        }
    }

    /// Takes a pod as it is now: it comes back with its owners, or waits for them.
    pub fn pod(&mut self, draft: Draft, now: Monotonic) -> Option<PodObject> {
        // A pod that went out already does not wait again, nor longer for being told twice.
        let mut held = self.drop_pod(&draft.pod.uid);
        let Some(uid) = self.missing(&draft, now) else {
            return Some(self.finish(draft));
        };
        let controller = |draft: &Draft| draft.controller.clone().map(|found| found.uid);
        if held
            .as_ref()
            .is_some_and(|held| controller(&held.draft) != controller(&draft))
        {
            held = None;
        }
        if held.is_none() && self.pods.len() >= self.limits.pods {
            self.refused += 1;
            return Some(self.finish(draft));
        }
        let until = match &held {
            Some(held) => held.until,
            None => {
                let until = now.plus(self.limits.patience);
                self.deadlines.push_back((draft.pod.uid.clone(), until));
                self.want(&draft, &uid);
                Some(until)
            }
        };
        self.waiting += usize::from(until.is_some());
        let told = until.is_none().then(|| self.finish(draft.clone()));
        let pod = draft.pod.uid.clone();
        self.awaited.entry(uid).or_default().insert(pod.clone());
        self.pods.insert(pod, Held { draft, until });
        told
    }

    /// A pod is gone.
    pub fn remove_pod(&mut self, uid: &str) {
        self.drop_pod(uid);
    }

    /// Takes a controller, and gives the pods that waited for it.
    pub fn controller(
        &mut self,
        resource: Resource,
        object: ControllerObject,
        now: Monotonic,
    ) -> Vec<PodObject> {
        self.insert(resource, object, None, now)
    }

    /// Takes a controller that was asked for, of which no end will be told.
    pub fn answer(
        &mut self,
        resource: Resource,
        object: ControllerObject,
        now: Monotonic,
    ) -> Vec<PodObject> {
        let leaves = now.plus(self.limits.memory);
        self.insert(resource, object, Some(leaves), now)
    }

    /// What a controller that was asked for is controlled by cannot be known: its pods go out.
    pub fn no_answer(&mut self, uid: &str) -> Vec<PodObject> {
        let pods: Vec<Box<str>> = match self.awaited.get(uid) {
            Some(pods) => pods.iter().cloned().collect(),
            None => return Vec::new(),
        };
        pods.iter().filter_map(|pod| self.give_up(pod)).collect()
    }

    /// A controller is gone. It is remembered for a while.
    pub fn remove_controller(&mut self, uid: &str, now: Monotonic) {
        if let Some(known) = self.controllers.get_mut(uid) {
            let leaves = now.plus(self.limits.memory);
            if known.leaves.replace(leaves).is_none() {
                self.leaving.push_back((uid.into(), leaves));
            }
        }
    }

    /// All pods follow: those that are held are told again, or are gone.
    pub fn begin_pods(&mut self) {
        self.pods.clear();
        self.awaited.clear();
        self.deadlines.clear();
        self.waiting = 0;
    }

    /// All controllers of a resource follow.
    pub fn begin(&mut self, resource: Resource) {
        if let Some(round) = self.round.get_mut(index(resource)) {
            *round = round.wrapping_add(1);
        }
    }

    /// Controllers of a resource that were not told since [`Owners::begin`] are gone.
    pub fn complete(&mut self, resource: Resource, now: Monotonic) {
        let round = self.round.get(index(resource)).copied().unwrap_or_default();
        let gone = |known: &Known| {
            known.resource == resource && known.round != round && known.leaves.is_none()
        };
        let gone: Vec<Box<str>> = self
            .controllers
            .iter()
            .filter(|(_, known)| gone(known))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.remove_controller(&uid, now);
        }
    }

    /// Gives the pods that waited long enough, and forgets controllers; to be called at
    /// [`Owners::deadline`].
    pub fn expire(&mut self, now: Monotonic) -> Vec<PodObject> {
        let mut out = Vec::new();
        while self
            .deadlines
            .front()
            .is_some_and(|(_, until)| *until <= now)
        {
            let Some((pod, until)) = self.deadlines.pop_front() else {
                break;
            };
            if self
                .pods
                .get(&pod)
                .is_some_and(|held| held.until == Some(until))
            {
                out.extend(self.give_up(&pod));
            }
        }
        while self
            .leaving
            .front()
            .is_some_and(|(_, leaves)| *leaves <= now)
        {
            let Some((uid, _)) = self.leaving.pop_front() else {
                break;
            };
            match self.controllers.get(&uid).and_then(|known| known.leaves) {
                Some(leaves) if leaves <= now => {
                    self.controllers.remove(&uid);
                }
                // Somebody needed it meanwhile.
                Some(leaves) => self.leaving.push_back((uid, leaves)),
                None => {}
            }
        }
        out
    }

    /// Gives all pods that wait, at once.
    pub fn give_up_all(&mut self) -> Vec<PodObject> {
        let pods: Vec<Box<str>> = self.deadlines.drain(..).map(|(pod, _)| pod).collect();
        pods.iter().filter_map(|pod| self.give_up(pod)).collect()
    }

    /// When [`Owners::expire`] has something to do.
    pub fn deadline(&self) -> Option<Monotonic> {
        let pod = self.deadlines.front().map(|(_, until)| *until);
        let controller = self.leaving.front().map(|(_, leaves)| *leaves);
        pod.into_iter().chain(controller).min()
    }

    /// Whether a pod waits.
    pub fn waiting(&self) -> bool {
        self.waiting > 0
    }

    /// The next controller that somebody should ask for, if nothing watches them.
    pub fn wanted(&mut self) -> Option<Wanted> {
        while let Some(wanted) = self.wanted.pop_front() {
            if self.awaited.contains_key(&wanted.uid) {
                return Some(wanted);
            }
        }
        None
    }

    /// How full the tables are.
    pub fn tables(&self) -> [Table; 2] {
        let table = |name, entries: usize, limit: usize| Table {
            name,
            entries: entries as u64,
            limit: limit as u64,
        };
        [
            table(
                "cluster_controllers",
                self.controllers.len(),
                self.limits.controllers,
            ),
            table("cluster_waiting_pods", self.pods.len(), self.limits.pods),
        ]
    }

    /// What did not fit, and pods that went out without all of their owners.
    pub fn losses(&self) -> [Loss; 2] {
        let loss = |reason, count| Loss {
            stage: "cluster",
            reason,
            count,
        };
        [
            loss("owners_unresolved", self.unresolved),
            loss("owners_over_limit", self.refused),
        ]
    }

    fn insert(
        &mut self,
        resource: Resource,
        object: ControllerObject,
        leaves: Option<Monotonic>,
        now: Monotonic,
    ) -> Vec<PodObject> {
        let ControllerObject { uid, controller } = object;
        let round = self.round.get(index(resource)).copied().unwrap_or_default();
        let known = Known {
            resource,
            controller,
            round,
            leaves,
        };
        let full = self.controllers.len() >= self.limits.controllers;
        let pods = self
            .awaited
            .get(&uid)
            .map(|pods| pods.iter().cloned().collect());
        if full && !self.controllers.contains_key(&uid) {
            // Those that wait are served all the same, from what is in hand.
            self.refused += 1;
            let pods: Vec<Box<str>> = pods.unwrap_or_default();
            self.controllers.insert(uid.clone(), known);
            let out = self.release(pods, now);
            self.controllers.remove(&uid);
            return out;
        }
        if let Some(leaves) = leaves {
            self.leaving.push_back((uid.clone(), leaves));
        }
        self.controllers.insert(uid, known);
        self.release(pods.unwrap_or_default(), now)
    }

    fn release(&mut self, pods: Vec<Box<str>>, now: Monotonic) -> Vec<PodObject> {
        let mut out = Vec::with_capacity(pods.len());
        for pod in pods {
            let Some(held) = self.pods.get(&pod) else {
                continue;
            };
            let draft = held.draft.clone();
            // Its controller may be controlled by one that is not known in turn.
            match self.missing(&draft, now) {
                None => {
                    self.drop_pod(&pod);
                    out.push(self.finish(draft));
                }
                Some(_) => out.extend(self.pod(draft, now)),
            }
        }
        out
    }

    /// Lets a pod out with what is certain, and keeps it for when more is.
    fn give_up(&mut self, pod: &str) -> Option<PodObject> {
        let held = self.pods.get_mut(pod)?;
        held.until.take()?;
        self.waiting -= 1;
        self.unresolved += 1;
        let draft = held.draft.clone();
        Some(self.finish(draft))
    }

    fn drop_pod(&mut self, pod: &str) -> Option<Held> {
        let held = self.pods.remove(pod)?;
        // Its deadline stays, and finds nobody.
        self.waiting -= usize::from(held.until.is_some());
        let controller = held.draft.controller.as_ref();
        let uid = controller.map_or("", |controller| &*controller.uid);
        if let Some(pods) = self.awaited.get_mut(uid) {
            pods.remove(pod);
            if pods.is_empty() {
                self.awaited.remove(uid);
            }
        }
        Some(held)
    }

    /// The controller that must be known for the chain of this pod to be complete, and is not.
    fn missing(&mut self, draft: &Draft, now: Monotonic) -> Option<Box<str>> {
        let first = draft.controller.as_ref()?;
        first.resource?;
        if first.above.is_some() || first.uid.is_empty() {
            return None;
        }
        match self.controllers.get_mut(&first.uid) {
            None => Some(first.uid.clone()),
            Some(known) => {
                if let Some(leaves) = &mut known.leaves {
                    *leaves = now.plus(self.limits.memory);
                }
                None
            }
        }
    }

    fn want(&mut self, draft: &Draft, uid: &str) {
        let Some(Controller {
            owner,
            resource: Some(resource),
            ..
        }) = &draft.controller
        else {
            return;
        };
        if self.awaited.contains_key(uid) || self.wanted.len() >= self.limits.pods {
            return;
        }
        self.wanted.push_back(Wanted {
            resource: *resource,
            namespace: draft.pod.namespace.clone(),
            name: owner.name.clone(),
            uid: uid.into(),
        });
    }

    /// The pod with what is known of its owners.
    fn finish(&self, draft: Draft) -> PodObject {
        let mut owners = Vec::new();
        if let Some(controller) = &draft.controller {
            owners.push(controller.owner.clone());
            let mut above = self.controllers.get(&controller.uid);
            if above.is_none() {
                owners.extend(controller.above.clone());
            }
            while let Some(Some((owner, uid))) = above.map(|known| &known.controller) {
                if owners.len() == MAX_CHAIN || owners.contains(owner) {
                    break;
                }
                owners.push(owner.clone());
                above = self.controllers.get(uid);
            }
        }
        draft.finish(owners)
    }
}

fn index(resource: Resource) -> usize {
    usize::from(resource == Resource::Jobs)
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            controllers: 200_000,
            pods: 20_000,
            patience: Duration::from_secs(2),
            memory: Duration::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests;

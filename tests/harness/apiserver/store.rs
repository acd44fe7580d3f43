//! Objects of the double, what happened to them, and what lists and watches read of that.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    mint::{now, suffix, timestamp, uid},
    refusal::Refusal,
    resource::{self, Resource, Target},
    selector::Selector,
    validate,
};

/// All objects, shared by the test and the server's tasks.
#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    /// The version that was reached last.
    reached: watch::Sender<u64>,
}

/// Objects by kind, namespace and name, as lists are sorted.
type Key = ((&'static str, &'static str), String, String);

#[derive(Debug, Default)]
struct State {
    version: u64,
    /// History up to this version is gone for those who ask.
    forgotten: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Record>,
    uids: u64,
    /// Ports and addresses of Services given out so far.
    addresses: u32,
    /// Addresses that Services asked for themselves.
    asked: BTreeSet<String>,
    ports: u16,
}

/// One change of one object.
#[derive(Clone, Debug)]
struct Record {
    version: u64,
    key: Key,
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub struct Event {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: &'static str,
    /// The object.
    pub object: Arc<Value>,
}

/// A list at one version.
#[derive(Debug)]
pub struct Page {
    /// The version.
    pub version: u64,
    /// Objects by namespace and name.
    pub items: Vec<Arc<Value>>,
}

/// Most changes that are remembered; the oldest are forgotten first.
const HISTORY: usize = 500_000;

/// Prefix of addresses of Services, as the real server is told too.
pub(super) const SERVICE_NETWORK: [u8; 2] = [10, 96];

// === impl Store ===

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// A store with the namespaces that every cluster has.
    pub fn new() -> Self {
        let state = State {
            version: 100,
            forgotten: 1,
            ..State::default()
        };
        let store = Self {
            state: Mutex::new(state),
            reached: watch::Sender::new(100),
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            });
            let target = target(&object, resource::named("namespaces"));
            if let Some(target) = target {
                let created = store.create(&target, object);
                debug_assert!(created.is_ok(), "{created:?}");
            }
        }
        store
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panics with the lock held has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when a version is reached.
    pub fn reached(&self) -> watch::Receiver<u64> {
        self.reached.subscribe()
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// The oldest version that a watch can start from.
    pub fn oldest(&self) -> u64 {
        self.state().forgotten
    }

    /// Forgets all history, as compaction does.
    pub fn forget(&self) {
        let mut state = self.state();
        // What is now can still be watched from.
        state.version += 1;
        state.forgotten = state.version;
        self.reached.send_replace(state.version);
    }

    /// One object.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = (resource.key(), namespace.to_owned(), name.to_owned());
        self.state().objects.get(&key).cloned()
    }

    /// Objects as they are now, or were at `version`.
    pub fn list(&self, target: &Target, version: Option<u64>) -> Result<Page, Refusal> {
        let state = self.state();
        let version = version.unwrap_or(state.version);
        if version < state.forgotten && version < state.version {
            return Err(Refusal::list_too_old());
        }
        let kind = target.resource.key();
        let low = (kind, target.namespace.clone(), String::new());
        let mut found: BTreeMap<&Key, &Arc<Value>> = state
            .objects
            .range(low..)
            .take_while(|(key, _)| key.0 == kind && in_scope(key, target))
            .collect();
        for record in state.history.iter().rev() {
            if record.version <= version {
                break;
            }
            if record.key.0 != kind || !in_scope(&record.key, target) {
                continue;
            }
            match &record.before {
                Some(before) => found.insert(&record.key, before),
                None => found.remove(&record.key),
            };
        }
        Ok(Page {
            version,
            items: found.into_values().cloned().collect(),
        })
    }

    /// What happened after `version` as a watch with this selector sees it, and up to when.
    pub fn events(&self, target: &Target, selector: &Selector, version: u64) -> (Vec<Event>, u64) {
        let state = self.state();
        let start = state.history.partition_point(|one| one.version <= version);
        let events = state
            .history
            .range(start..)
            .filter(|one| one.key.0 == target.resource.key() && in_scope(&one.key, target))
            .filter_map(|one| event(one, target, selector))
            .collect();
        (events, state.version)
    }

    /// Creates an object.
    pub fn create(&self, target: &Target, mut object: Value) -> Result<Arc<Value>, Refusal> {
        let resource = target.resource;
        let mut state = self.state();
        validate::address(target, &mut object)?;
        let generated = object["metadata"]["generateName"]
            .as_str()
            .map(str::to_owned);
        if object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
            && let Some(prefix) = generated
        {
            object["metadata"]["name"] = json!(format!("{prefix}{}", suffix(state.uids)));
        }
        if resource.namespaced {
            let key = (("namespaces", ""), String::new(), target.namespace.clone());
            if !state.objects.contains_key(&key) {
                let namespaces = resource::named("namespaces").ok_or_else(Refusal::no_resource)?;
                return Err(Refusal::not_found(namespaces, &target.namespace));
            }
        }
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        state.uids += 1;
        let uid = uid(state.uids);
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uid);
        metadata["creationTimestamp"] = json!(timestamp(now()));
        for key in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
        ] {
            remove(metadata, key);
        }
        if resource.kind == "Service" {
            state.allocate(&mut object)?;
        }
        validate::complete(resource, &mut object);
        validate::object(resource, &object, None)?;
        let key = (resource.key(), target.namespace.clone(), name.clone());
        if state.objects.contains_key(&key) {
            return Err(Refusal::exists(resource, &name));
        }
        let object = state.write(key, Some(object));
        self.reached.send_replace(state.version);
        object.ok_or_else(|| Refusal::not_found(resource, &name))
    }

    /// Replaces an object, all but its status, or its status only.
    pub fn update(&self, target: &Target, mut object: Value) -> Result<Arc<Value>, Refusal> {
        let (resource, name) = (target.resource, &target.name);
        let mut state = self.state();
        validate::address(target, &mut object)?;
        let key = (resource.key(), target.namespace.clone(), name.clone());
        let old = state.objects.get(&key).cloned();
        let old = old.ok_or_else(|| Refusal::not_found(resource, name))?;
        let asked = &object["metadata"]["resourceVersion"];
        if asked
            .as_str()
            .is_some_and(|asked| !asked.is_empty() && old["metadata"]["resourceVersion"] != *asked)
        {
            return Err(Refusal::conflict(resource, name));
        }
        let asked = &object["metadata"]["uid"];
        if asked.is_string() && *asked != old["metadata"]["uid"] {
            return Err(Refusal::conflict(resource, name));
        }
        let mut new = if target.subresource == "status" {
            let mut new = (*old).clone();
            new["status"] = object["status"].take();
            new
        } else {
            let metadata = &mut object["metadata"];
            for key in [
                "uid",
                "creationTimestamp",
                "generation",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
            ] {
                match old["metadata"].get(key) {
                    Some(value) => metadata[key] = value.clone(),
                    None => remove(metadata, key),
                }
            }
            if resource.status {
                object["status"] = old["status"].clone();
            }
            object
        };
        validate::complete_after(resource, &mut new, &old);
        validate::object(resource, &new, Some(&old))?;
        if old.get("spec") != new.get("spec") && old["metadata"]["generation"].is_u64() {
            let generation = old["metadata"]["generation"].as_u64().unwrap_or_default();
            new["metadata"]["generation"] = json!(generation + 1);
        }
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if new == *old {
            // Nothing is written, so nobody hears of it.
            return Ok(old);
        }
        let grace = new["metadata"]["deletionGracePeriodSeconds"].as_u64();
        let finalized = old["metadata"]["deletionTimestamp"].is_string()
            && grace.is_none_or(|seconds| seconds == 0)
            && is_empty(&new["metadata"]["finalizers"])
            && !is_empty(&old["metadata"]["finalizers"]);
        let written = if finalized {
            // Nothing holds it any more: what is written last is not seen.
            state.write(key, None);
            Some(Arc::new(new))
        } else {
            state.write(key, Some(new))
        };
        self.reached.send_replace(state.version);
        written.ok_or_else(|| Refusal::not_found(resource, name))
    }

    /// Deletes an object: at once, or as soon as its grace and its finalizers allow.
    pub fn delete(&self, target: &Target, grace: Option<u64>) -> Result<Arc<Value>, Refusal> {
        let (resource, name) = (target.resource, &target.name);
        let mut state = self.state();
        let key = (resource.key(), target.namespace.clone(), name.clone());
        let old = state.objects.get(&key).cloned();
        let old = old.ok_or_else(|| Refusal::not_found(resource, name))?;
        let grace = validate::grace_of(resource, &old, grace);
        let waits = !is_empty(&old["metadata"]["finalizers"])
            || (resource.kind == "Namespace" && !is_empty(&old["spec"]["finalizers"]));
        let mut new = (*old).clone();
        let pod = resource.kind == "Pod";
        let marked = old["metadata"]["deletionTimestamp"].is_string();
        let shorter = old["metadata"]["deletionGracePeriodSeconds"]
            .as_u64()
            .is_some_and(|before| grace < before);
        if grace > 0 || waits || pod {
            if marked && !shorter && (grace > 0 || waits) {
                return Ok(old);
            }
            new["metadata"]["deletionTimestamp"] = json!(timestamp(now() + grace));
            if pod || waits && resource.kind != "Namespace" {
                new["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            }
            if !marked && let Some(generation) = old["metadata"]["generation"].as_u64() {
                new["metadata"]["generation"] = json!(generation + 1);
            }
            if resource.kind == "Namespace" {
                new["status"]["phase"] = json!("Terminating");
            }
            let written = state.write(key.clone(), Some(new));
            if grace > 0 || waits {
                self.reached.send_replace(state.version);
                return written.ok_or_else(|| Refusal::not_found(resource, name));
            }
        }
        state.write(key, None);
        let last = state.history.back().and_then(last_of);
        if resource.kind == "CustomResourceDefinition" {
            state.end_of(name);
        }
        self.reached.send_replace(state.version);
        last.ok_or_else(|| Refusal::not_found(resource, name))
    }
}

/// The target of writing `object`, by what it says of itself.
pub(super) fn target(object: &Value, resource: Option<&'static Resource>) -> Option<Target> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(Target {
        resource: resource.or_else(|| resource::of(object))?,
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
        subresource: String::new(),
    })
}

fn in_scope(key: &Key, target: &Target) -> bool {
    target.namespace.is_empty() || key.1 == target.namespace
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

fn remove(object: &mut Value, key: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(key);
    }
}

/// What the watch tells of a change: objects come and go also by what the selector makes of them.
fn event(record: &Record, target: &Target, selector: &Selector) -> Option<Event> {
    let fits = |object: &&Arc<Value>| selector.selects(object);
    let before = record.before.as_ref().filter(fits);
    let after = record.after.as_ref().filter(fits);
    let (kind, object) = match (before, after) {
        (None, Some(after)) => ("ADDED", Arc::clone(after)),
        (Some(_), Some(after)) => ("MODIFIED", Arc::clone(after)),
        (Some(_), None) => ("DELETED", last_of(record)?),
        (None, None) => return None,
    };
    debug_assert_eq!(object["kind"], target.resource.kind);
    Some(Event { kind, object })
}

/// The last state of what is gone, with the version at which it went.
fn last_of(record: &Record) -> Option<Arc<Value>> {
    let mut object = (**record.before.as_ref()?).clone();
    object["metadata"]["resourceVersion"] = json!(record.version.to_string());
    Some(Arc::new(object))
}

// === impl State ===

impl State {
    /// Writes, or removes, an object under the next version.
    fn write(&mut self, key: Key, object: Option<Value>) -> Option<Arc<Value>> {
        self.version += 1;
        let object = object.map(|mut object| {
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            Arc::new(object)
        });
        let before = match &object {
            Some(object) => self.objects.insert(key.clone(), Arc::clone(object)),
            None => self.objects.remove(&key),
        };
        if self.history.len() == HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest.version);
        }
        self.history.push_back(Record {
            version: self.version,
            key,
            before,
            after: object.clone(),
        });
        object
    }

    /// Removes the objects of a kind whose definition, of this name, is gone.
    fn end_of(&mut self, definition: &str) {
        let of_kind = |key: &&Key| format!("{}.{}", key.0.0, key.0.1) == definition;
        let keys: Vec<Key> = self.objects.keys().filter(of_kind).cloned().collect();
        for key in keys {
            self.write(key, None);
        }
    }

    /// Gives a Service what it asks for, or what is free.
    fn allocate(&mut self, service: &mut Value) -> Result<(), Refusal> {
        let kind = service["spec"]["type"]
            .as_str()
            .unwrap_or("ClusterIP")
            .to_owned();
        if kind == "ExternalName" {
            return Ok(());
        }
        let taken = |state: &Self, ip: &str| {
            let services = state
                .objects
                .iter()
                .filter(|(key, _)| key.0.0 == "services");
            let mut ips = services.flat_map(|(_, one)| one["spec"]["clusterIPs"].as_array());
            ips.any(|ips| ips.iter().any(|other| other == ip))
        };
        let spec = &mut service["spec"];
        if spec["clusterIPs"].is_null() && spec["clusterIP"].is_string() {
            spec["clusterIPs"] = json!([spec["clusterIP"]]);
        }
        let asked = spec["clusterIPs"][0]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if asked.is_empty() {
            let ip = loop {
                self.addresses += 1;
                // The first sixteen are for those who ask for one.
                let number = self.addresses + 16;
                let [high, low] = SERVICE_NETWORK;
                let ip = format!("{high}.{low}.{}.{}", number >> 8 & 0xff, number & 0xff);
                // Only one that somebody asked for can be in the way: none is given out twice.
                if !self.asked.contains(&ip) {
                    break ip;
                }
            };
            spec["clusterIPs"] = json!([ip]);
        } else if asked != "None" {
            validate::service_address(service, taken(self, &asked))?;
            self.asked.insert(asked);
        }
        let spec = &mut service["spec"];
        spec["clusterIP"] = spec["clusterIPs"][0].clone();
        if ["NodePort", "LoadBalancer"].contains(&&*kind)
            && let Some(ports) = spec["ports"].as_array_mut()
        {
            for port in ports {
                if port["nodePort"].as_u64().unwrap_or_default() == 0 {
                    port["nodePort"] = json!(30_000 + self.ports % 2768);
                    self.ports += 1;
                }
            }
        }
        Ok(())
    }
}

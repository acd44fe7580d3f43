//! Which of the kinds that a mesh is told by the API server has, and in which version: each that is
//! there is watched, for as long as it is.
//!
//! Definitions come and go while we run, and a cluster without a mesh has none. So the list of groups
//! is looked at once a minute, and of the groups that are there the resources: a few small requests.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use serde::Deserialize;
use tokio::{
    sync::{Notify, mpsc::Sender},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Declarations, Options,
    backoff::{Backoff, spread},
    reflect::{Batch, Place, Reflector, Streaming, Told},
    request::{Failure, ask, encoded},
};
use crate::{
    cluster::{
        client::Client,
        read::Resource,
        status::{Reason, Status},
    },
    model::policy::PolicyKind,
};

/// Watches the kinds that are there.
pub(super) struct Discovery {
    pub(super) client: Arc<Client>,
    pub(super) options: Arc<Options>,
    pub(super) status: Arc<Status>,
    pub(super) streaming: Arc<Streaming>,
    pub(super) out: Sender<Batch>,
}

/// What is known of a kind.
enum State {
    /// The API does not have it.
    Absent,
    /// It is watched in this version.
    Watched(&'static str, Watching),
}

/// A watch, which ends when this goes.
struct Watching(JoinHandle<()>);

/// Versions that the API server has of some groups, and their resources.
type Served = HashMap<PolicyKind, &'static str>;

/// `APIGroupList`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Group {
    name: String,
    versions: Vec<Version>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    version: String,
}

/// `APIResourceList`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    resources: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    verbs: Vec<String>,
}

/// Name of what configures a mesh, but for its revisions.
pub(super) const MESH_CONFIG: &str = "istio";
/// For so many first pauses what is no longer there is doubted.
const DOUBT: u32 = 10;
/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 4 << 20;
/// What is asked for: without it a server may answer in a form that says more.
const JSON: &str = "application/json";

/// Path of a kind in a version, all over the cluster; of the configuration of a mesh in the namespace
/// of its control plane.
pub(super) fn path(kind: PolicyKind, version: &str, declarations: &Declarations) -> String {
    let (group, plural) = (kind.group(), kind.plural());
    match (kind, group) {
        (PolicyKind::MeshConfig, _) => format!(
            "/api/{version}/namespaces/{}/{plural}",
            encoded(&declarations.istio_namespace)
        ),
        (_, "") => format!("/api/{version}/{plural}"),
        _ => format!("/apis/{group}/{version}/{plural}"),
    }
}

/// What of a kind is asked for, as parameters; empty or with `&` at its end.
fn selector(kind: PolicyKind, declarations: &Declarations) -> String {
    if kind == PolicyKind::MeshConfig && !declarations.istio_revisions {
        return format!("fieldSelector=metadata.name%3D{MESH_CONFIG}&");
    }
    String::new()
}

/// Whether a kind is part of Kubernetes itself: it needs no definition.
fn is_built_in(kind: PolicyKind) -> bool {
    matches!(
        kind,
        PolicyKind::Namespace | PolicyKind::MeshConfig | PolicyKind::NetworkPolicy
    )
}

/// Which of `kinds` the API server has, and in which version that is understood.
pub(super) async fn served(
    client: &Client,
    kinds: &[PolicyKind],
    options: &Options,
) -> Result<Served, Failure> {
    let mut served = Served::new();
    for kind in kinds.iter().filter(|kind| is_built_in(**kind)) {
        served.extend(kind.versions().first().map(|version| (*kind, *version)));
    }
    let mut wanted: Vec<PolicyKind> = kinds.to_vec();
    wanted.retain(|kind| !is_built_in(*kind));
    if wanted.is_empty() {
        return Ok(served);
    }
    let groups: Groups = answer(client, "/apis", options).await?.unwrap_or_default();
    // Of a version what it has is asked once, whatever number of kinds is looked for in it.
    let mut known: HashMap<(&str, &str), Vec<String>> = HashMap::new();
    for kind in wanted {
        let group = kind.group();
        let mut found = groups.groups.iter();
        let Some(there) = found.find(|there| there.name == group) else {
            continue;
        };
        for version in kind.versions() {
            if !there.versions.iter().any(|told| told.version == *version) {
                continue;
            }
            let resources = match known.get(&(group, *version)) {
                Some(resources) => resources,
                None => {
                    let path = format!("/apis/{group}/{version}");
                    // Gone since the groups were told: it has nothing.
                    let told: Option<Resources> = answer(client, &path, options).await?;
                    let told = told.unwrap_or_default().resources.into_iter();
                    let watched = told.filter(|named| named.verbs.iter().any(|it| it == "watch"));
                    let names = watched.map(|named| named.name).collect();
                    known.entry((group, *version)).or_insert(names)
                }
            };
            if resources.iter().any(|name| name == kind.plural()) {
                served.insert(kind, version);
                break;
            }
        }
    }
    Ok(served)
}

/// An answer as what it should be; `None` where there is nothing of that path.
async fn answer<T: for<'de> Deserialize<'de>>(
    client: &Client,
    path: &str,
    options: &Options,
) -> Result<Option<T>, Failure> {
    let mut answer = match ask(client, path, JSON, &options.timing).await {
        Ok(answer) => answer,
        Err(failure) if failure.missing => return Ok(None),
        Err(failure) => return Err(failure),
    };
    answer.set_idle(options.timing.answer);
    let mut json = Vec::new();
    while let Some(bytes) = answer.next().await? {
        if json.len() + bytes.len() > MAX_ANSWER {
            let detail = format!("the answer to {path} is longer than {MAX_ANSWER} bytes");
            return Err(Failure::new(Reason::Malformed, detail));
        }
        json.extend_from_slice(&bytes);
    }
    let told = serde_json::from_slice(&json);
    told.map(Some).map_err(|error| {
        let detail = format!("the answer to {path} is not readable: {error}");
        Failure::new(Reason::Malformed, detail)
    })
}

// === impl Discovery ===

impl Discovery {
    /// Goes on until nobody wants to know.
    pub(super) async fn run(self) {
        let timing = self.options.timing;
        let kinds = &self.options.declarations.kinds;
        let mut backoff = Backoff::new(timing.first_pause, timing.longest_pause);
        let mut states: HashMap<PolicyKind, State> = HashMap::new();
        // What is watched and was not there at the last look: a server that starts may not know its
        // definitions yet, and what is declared does not go for that.
        let mut doubted: HashSet<PolicyKind> = HashSet::new();
        let missed = Arc::new(Notify::new());
        loop {
            let pause = match served(&self.client, kinds, &self.options).await {
                Ok(served) => {
                    backoff.reset();
                    for kind in kinds {
                        let version = served.get(kind).copied();
                        let is_watched = matches!(states.get(kind), Some(State::Watched(..)));
                        if version.is_none() && is_watched && doubted.insert(*kind) {
                            continue;
                        }
                        doubted.remove(kind);
                        let state = states.remove(kind);
                        let Some(state) = self.change(*kind, state, version, &missed).await else {
                            return;
                        };
                        states.insert(*kind, state);
                    }
                    if doubted.is_empty() {
                        spread(timing.definitions)
                    } else {
                        timing.definitions.min(timing.first_pause * DOUBT)
                    }
                }
                Err(failure) => {
                    self.failed(&states, &failure).await;
                    backoff.pause().max(failure.retry_after.unwrap_or_default())
                }
            };
            // What a watch misses is looked for soon, but not all the time.
            let soon = Instant::now() + timing.first_pause.min(pause);
            if !doubted.is_empty() {
                sleep(pause).await;
            } else if timeout(pause, missed.notified()).await.is_ok() {
                sleep_until(soon).await;
            }
            if self.out.is_closed() {
                return;
            }
        }
    }

    /// A kind is there in this version, or not at all; `None` if nobody wants to know any more.
    async fn change(
        &self,
        kind: PolicyKind,
        state: Option<State>,
        version: Option<&'static str>,
        missed: &Arc<Notify>,
    ) -> Option<State> {
        let resource = Resource::Policy(kind);
        let Some(version) = version else {
            match state {
                Some(State::Absent) => return Some(State::Absent),
                Some(State::Watched(_, watching)) => watching.stop().await,
                None => {}
            }
            self.status.unwatch(resource);
            tracing::debug!(kind = resource.as_str(), "the API has no such kind");
            self.out.send((resource, vec![Told::Absent])).await.ok()?;
            return Some(State::Absent);
        };
        match state {
            Some(State::Watched(known, watching)) if known == version => {
                return Some(State::Watched(known, watching));
            }
            Some(State::Watched(_, watching)) => watching.stop().await,
            Some(State::Absent) | None => {}
        }
        self.status.watch(resource);
        let declarations = &self.options.declarations;
        let reflector = Reflector {
            client: self.client.clone(),
            resource,
            path: path(kind, version, declarations),
            selector: selector(kind, declarations),
            options: self.options.clone(),
            status: self.status.clone(),
            streaming: self.streaming.clone(),
            out: self.out.clone(),
            place: Place::default(),
            missed: Some(missed.clone()),
        };
        let watching = Watching(tokio::spawn(reflector.run()));
        Some(State::Watched(version, watching))
    }

    /// Counts a failure with the kinds that are kept waiting by it, and says what it is unless that
    /// was said.
    async fn failed(&self, states: &HashMap<PolicyKind, State>, failure: &Failure) {
        if failure.reason == Reason::Unauthorized || failure.untrusted {
            self.client.renew().await;
        }
        let (reason, detail) = (failure.reason, &*failure.detail);
        let mut new = false;
        let kinds = self.options.declarations.kinds.iter();
        for kind in kinds.filter(|kind| !states.contains_key(*kind)) {
            let resource = Resource::Policy(*kind);
            // Until it is known not to be there, it is missed.
            self.status.watch(resource);
            new |= self.status.failed(resource, reason, detail);
        }
        let reason = reason.as_str();
        if new {
            tracing::warn!(
                reason,
                "cannot ask the Kubernetes API what a mesh is told by: {detail}; it is asked again"
            );
        } else {
            tracing::debug!(reason, "what a mesh is told by is not known: {detail}");
        }
    }
}

// === impl Watching ===

impl Watching {
    /// Ends it: after that it tells nothing any more.
    async fn stop(mut self) {
        self.0.abort();
        // Of one that was ended there is nothing to be learnt.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

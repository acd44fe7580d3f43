//! Watches of the API: what is there, and from then on what changes.
//!
//! Each resource is listed and watched by a task of its own, and reads of it are pruned as they
//! come; one task resolves the owners of pods and tells the changes, in batches, over a bounded
//! channel. Whoever does not take them slows the watches down, and loses nothing.

mod backoff;
mod declared;
mod discovery;
mod lines;
mod reflect;
mod request;
mod scope;

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::{self, Sender},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    client::Client,
    object::{Change, Kind, Object, PodObject, Source},
    owners::{Limits, Owners, Wanted},
    read::{self, ControllerObject, Found, Losses, Resource},
    status::{Reason, Request, Status},
};
use crate::model::{policy::PolicyKind, time::Monotonic};

use declared::Declared;
use discovery::Discovery;
use reflect::{Batch, Place, Reflector, Streaming, Told};
use request::{accepted, ask, path, path_of, selector};

pub use scope::{Declarations, EVENTS, Right, Scope};

/// How it is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is kept of pods.
    pub read: read::Options,
    /// How much is kept to resolve owners, and for how long.
    pub owners: Limits,
    /// Times.
    pub timing: Timing,
    /// Objects in a page of a list, at most 500 unless a server knows better; 0 is 500.
    pub page: u32,
    /// What is read of what is declared, where the whole cluster is watched.
    pub declarations: Declarations,
}

/// Times that a watch keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For an answer to begin.
    pub answer: Duration,
    /// Longest that a watch may be silent: bookmarks come once a minute.
    pub idle: Duration,
    /// Longest that a streaming list may be silent before its end is told.
    pub first_events: Duration,
    /// Longest that the server is asked to watch; half of it at least.
    pub watch: Duration,
    /// First pause after a failure; half of it at least. Each next one is twice as long.
    pub first_pause: Duration,
    /// Longest pause after a failure, and the pause after a missing permission.
    pub longest_pause: Duration,
    /// How long until a server without streaming lists is asked for one again.
    pub streaming_again: Duration,
    /// Longest that pods are not listed because their controllers are.
    pub controllers_first: Duration,
    /// Between two looks at which definitions the API has; half of it at least.
    pub definitions: Duration,
}

/// Tells the changes.
struct Teller {
    source: Source,
    owners: Owners,
    declared: Declared,
    start: Instant,
    /// All pods are told but those that wait for their controllers, who may until then.
    completing: Option<Monotonic>,
    patience: Duration,
    out: Vec<Change>,
}

/// Batches on their way from the tasks of resources.
const BATCHES: usize = 16;
/// Controllers that are asked for at once.
const MAX_ASKED: usize = 4;
/// Between two tellings of how the resolver of owners goes.
const TELL: Duration = Duration::from_secs(1);
/// Objects in a page unless somebody knows better.
const PAGE: u32 = 500;
/// Largest batch of changes.
const MAX_CHANGES: usize = 1024;

/// Watches until `changes` has no receiver any more. Failures end nothing: they are told by
/// `status`, paced, and tried again.
///
/// A list that fails midway begins anew, so [`Change::Begin`] may follow [`Change::Begin`].
pub async fn run(
    client: Arc<Client>,
    scope: Scope,
    mut options: Options,
    changes: Sender<(Source, Vec<Change>)>,
    status: Arc<Status>,
) {
    if options.page == 0 {
        options.page = PAGE;
    }
    let options = Arc::new(options);
    let (out, mut told) = mpsc::channel::<Batch>(BATCHES);
    let streaming = Arc::new(Streaming::default());
    let reflector = |resource| Reflector {
        client: client.clone(),
        resource,
        path: path(resource).to_owned(),
        selector: selector(resource, &scope),
        options: options.clone(),
        status: status.clone(),
        streaming: streaming.clone(),
        out: out.clone(),
        place: Place::default(),
        missed: None,
    };
    let source = match scope {
        Scope::Node(_) => Source::Node,
        Scope::Cluster => Source::Cluster,
    };
    // With their controllers known, few pods have to wait for them.
    let mut first: HashSet<Resource> = HashSet::new();
    let mut tasks = JoinSet::new();
    for resource in scope.watched() {
        status.watch(*resource);
        if resource.is_controllers() {
            first.insert(*resource);
        }
        if *resource != Resource::Pods {
            tasks.spawn(reflector(*resource).run());
        }
    }
    let mut pods = Some(reflector(Resource::Pods));
    let pods_by = Instant::now() + options.timing.controllers_first;
    let mut asked = JoinSet::new();
    let mut asking: HashSet<Box<str>> = HashSet::new();
    let mut teller = Teller {
        source,
        owners: Owners::new(options.owners),
        declared: Declared::default(),
        start: Instant::now(),
        completing: None,
        patience: options.owners.patience,
        out: Vec::new(),
    };
    if scope == Scope::Cluster {
        let kinds = &options.declarations.kinds;
        teller.out.extend(Declared::unwatched(kinds));
        if !kinds.is_empty() {
            let discovery = Discovery {
                client: client.clone(),
                options: options.clone(),
                status: status.clone(),
                streaming: streaming.clone(),
                out: out.clone(),
            };
            tasks.spawn(discovery.run());
        }
    }
    let mut next_tell = Instant::now();
    loop {
        first.retain(|resource| !status.is_failing(*resource));
        if (first.is_empty() || Instant::now() >= pods_by)
            && let Some(pods) = pods.take()
        {
            tasks.spawn(pods.run());
        }
        if !scope.asked().is_empty() {
            while asked.len() < MAX_ASKED {
                let Some(wanted) = teller.owners.wanted() else {
                    break;
                };
                if asking.insert(wanted.uid.clone()) {
                    let (client, options) = (client.clone(), options.clone());
                    asked.spawn(controller(client, options, status.clone(), wanted));
                }
            }
        }
        if Instant::now() >= next_tell {
            next_tell = Instant::now() + TELL;
            status.resolver(&teller.owners.losses(), &teller.owners.tables());
            if scope == Scope::Cluster {
                teller.declared.tell(&status);
            }
        }
        let wake = teller
            .deadline()
            .map_or(next_tell, |deadline| deadline.min(next_tell));
        let wake = if pods.is_some() {
            wake.min(pods_by)
        } else {
            wake
        };
        tokio::select! {
            batch = told.recv() => {
                let Some((resource, batch)) = batch else {
                    return;
                };
                if batch.contains(&Told::Complete) {
                    first.remove(&resource);
                }
                for told in batch {
                    teller.take(resource, told);
                }
            }
            Some(answer) = asked.join_next() => {
                if let Ok((wanted, found)) = answer {
                    asking.remove(&wanted.uid);
                    teller.answer(&wanted, found);
                }
            }
            () = sleep_until(wake) => {}
            () = changes.closed() => return,
        }
        teller.step();
        if !teller.send(&changes).await {
            return;
        }
    }
}

/// Which of these kinds the API server has: a right to any other is not missed.
///
/// # Errors
///
/// When it does not tell: why.
pub async fn served(client: &Client, kinds: &[PolicyKind]) -> Result<Vec<PolicyKind>, String> {
    let served = discovery::served(client, kinds, &Options::default()).await;
    served
        .map(|served| served.into_keys().collect())
        .map_err(|failure| failure.detail)
}

/// Asks for one controller's metadata; `None` if there is none, or it cannot be told.
async fn controller(
    client: Arc<Client>,
    options: Arc<Options>,
    status: Arc<Status>,
    wanted: Wanted,
) -> (Wanted, Option<ControllerObject>) {
    let resource = wanted.resource;
    let path = path_of(resource, &wanted.namespace, &wanted.name);
    status.request(resource, Request::Get);
    let found = async {
        let mut answer = ask(&client, &path, accepted(resource, false), &options.timing).await?;
        let mut json = Vec::new();
        while let Some(bytes) = answer.next().await? {
            if json.len() + bytes.len() > read::MAX_OBJECT {
                return Ok(None);
            }
            json.extend_from_slice(&bytes);
        }
        Ok(read::object(
            resource,
            &json,
            &options.read,
            &mut Losses::default(),
        ))
    };
    let controller = match found.await {
        Ok(Some(Found::Controller(controller))) if controller.uid == wanted.uid => {
            status.heard(resource, 0);
            status.well(resource);
            Some(controller)
        }
        Ok(_) => None,
        Err(failure) => {
            let failure: request::Failure = failure;
            if failure.reason == Reason::Unauthorized || failure.untrusted {
                client.renew().await;
            }
            if status.failed(resource, failure.reason, &failure.detail) {
                tracing::warn!(
                    resource = resource.as_str(),
                    reason = failure.reason.as_str(),
                    "cannot get a controller from the Kubernetes API, pods are told without \
                     what is above it: {}",
                    failure.detail
                );
            }
            None
        }
    };
    (wanted, controller)
}

// === impl Teller ===

impl Teller {
    fn now(&self) -> Monotonic {
        Monotonic(0).plus(self.start.elapsed())
    }

    fn deadline(&self) -> Option<Instant> {
        let owners = self.owners.deadline();
        let deadline = owners.into_iter().chain(self.completing).min()?;
        Some(self.start + deadline.since(Monotonic(0)))
    }

    fn take(&mut self, resource: Resource, told: Told) {
        if let Resource::Policy(kind) = resource {
            self.out.extend(self.declared.take(kind, told));
            return;
        }
        let now = self.now();
        match (told, resource.kind()) {
            (Told::Begin, Some(kind)) => {
                if kind == Kind::Pod {
                    self.completing = None;
                    self.owners.begin_pods();
                }
                self.out.push(Change::Begin(kind));
            }
            (Told::Begin, None) => self.owners.begin(resource),
            (Told::Found(Found::Pod(draft)), _) => {
                let pod = self.owners.pod(*draft, now);
                self.pods(pod);
            }
            (Told::Found(Found::Object(object)), _) => self.out.push(Change::Set(*object)),
            (Told::Found(Found::Controller(object)), _) => {
                let pods = self.owners.controller(resource, object, now);
                self.pods(pods);
            }
            (Told::Found(Found::Unwanted(uid)) | Told::Removed(uid), Some(kind)) => {
                if kind == Kind::Pod {
                    self.owners.remove_pod(&uid);
                }
                self.out.push(Change::Remove(kind, uid));
            }
            (Told::Found(Found::Unwanted(uid)) | Told::Removed(uid), None) => {
                self.owners.remove_controller(&uid, now);
            }
            (Told::Complete, Some(Kind::Pod)) => {
                self.completing = Some(now.plus(self.patience));
                self.step();
            }
            (Told::Complete, Some(kind)) => self.out.push(Change::Complete(kind)),
            (Told::Complete, None) => self.owners.complete(resource, now),
            // These are always there, and nothing else is told of them.
            (Told::Absent | Told::Found(Found::Policy(_)), _) => {}
        }
    }

    fn answer(&mut self, wanted: &Wanted, found: Option<ControllerObject>) {
        let now = self.now();
        let pods = match found {
            Some(found) => self.owners.answer(wanted.resource, found, now),
            None => self.owners.no_answer(&wanted.uid),
        };
        self.pods(pods);
    }

    /// What is due: pods that waited long enough, and the end of their list after them.
    fn step(&mut self) {
        let now = self.now();
        let pods = self.owners.expire(now);
        self.pods(pods);
        let Some(until) = self.completing else {
            return;
        };
        if self.owners.waiting() && now < until {
            return;
        }
        let pods = self.owners.give_up_all();
        self.pods(pods);
        self.out.push(Change::Complete(Kind::Pod));
        self.completing = None;
    }

    fn pods(&mut self, pods: impl IntoIterator<Item = PodObject>) {
        self.out
            .extend(pods.into_iter().map(|pod| Change::Set(Object::Pod(pod))));
    }

    /// Sends what is to be told; `false` if nobody wants to know.
    async fn send(&mut self, changes: &Sender<(Source, Vec<Change>)>) -> bool {
        while !self.out.is_empty() {
            let rest = self.out.split_off(self.out.len().min(MAX_CHANGES));
            let batch = std::mem::replace(&mut self.out, rest);
            if changes.send((self.source, batch)).await.is_err() {
                return false;
            }
        }
        true
    }
}

// === impl Timing ===

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            idle: Duration::from_secs(90),
            first_events: Duration::from_secs(30),
            watch: Duration::from_secs(600),
            first_pause: Duration::from_millis(800),
            longest_pause: Duration::from_secs(60),
            streaming_again: Duration::from_secs(3600),
            controllers_first: Duration::from_secs(5),
            definitions: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests;

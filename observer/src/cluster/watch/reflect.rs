//! One resource, listed and watched for ever: what changes of it is told in order.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{
        Notify,
        mpsc::{Sender, error::SendError},
    },
    time::{Instant, sleep},
};

use super::{
    Options, Timing,
    backoff::{Backoff, spread},
    lines::Lines,
    request::{Answer, Failure, accepted, ask, encoded},
};
use crate::cluster::{
    client::Client,
    read::{self, Event, Found, ListReader, Losses, Resource},
    status::{Reason, Request, Status},
};

/// What is told of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// All of it follows.
    Begin,
    Found(Found),
    Removed(Box<str>),
    /// That was all of it.
    Complete,
    /// The API does not have it.
    Absent,
}

/// What is told, in order, and of which resource.
pub(super) type Batch = (Resource, Vec<Told>);

/// Lists and watches one resource.
#[derive(Debug)]
pub(super) struct Reflector {
    pub(super) client: Arc<Client>,
    pub(super) resource: Resource,
    /// Where it is.
    pub(super) path: String,
    /// What of it is asked for, as parameters of the request.
    pub(super) selector: String,
    pub(super) options: Arc<Options>,
    pub(super) status: Arc<Status>,
    pub(super) streaming: Arc<Streaming>,
    pub(super) out: Sender<Batch>,
    pub(super) place: Place,
    /// Is told when the API does not have it; `None` where it always does.
    pub(super) missed: Option<Arc<Notify>>,
}

/// Whether the server has streaming lists, as far as was seen.
#[derive(Debug, Default)]
pub(super) struct Streaming {
    /// It has none; when to try again.
    none_until: Mutex<Option<Instant>>,
}

/// Where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing is known yet: any state that the server has at hand will do.
    #[default]
    Start,
    /// What was known is too old to go on from; what is listed now is at least as new.
    Anew(Box<str>),
    /// As the store itself has it now.
    Exact,
    /// All is known up to this version.
    At(Box<str>),
}

/// Why one try ended.
enum End {
    /// Nobody wants to know any more.
    Unwanted,
    Failed(Failure),
}

// === impl Reflector ===

impl Reflector {
    /// Goes on until nobody wants to know.
    pub(super) async fn run(mut self) {
        let timing = self.options.timing;
        let mut backoff = Backoff::new(timing.first_pause, timing.longest_pause);
        // Lists are dear: what makes them due again and again is paced, even if they succeed.
        let mut relists = Backoff::new(timing.first_pause, timing.longest_pause);
        let mut relisted: Option<Instant> = None;
        let mut renewed = false;
        let mut cut_short = 0;
        loop {
            let (before, began) = (self.place.clone(), Instant::now());
            let streams = !matches!(before, Place::At(_)) && self.streaming.is_worth_a_try();
            let end = match &before {
                Place::At(version) => self.watch(version.clone()).await,
                _ if streams => self.stream().await,
                _ => self.list().await,
            };
            let failure = match end {
                Ok(()) => None,
                Err(End::Unwanted) => return,
                Err(End::Failed(failure)) => Some(failure),
            };
            let progress = self.place != before;
            if progress {
                backoff.reset();
                (renewed, cut_short) = (false, 0);
            }
            let listed = matches!(self.place, Place::At(_));
            let Some(mut failure) = failure else {
                // A watch ends when its time is over; one that ends at once is a server's trouble.
                if !progress && began.elapsed() < timing.first_pause {
                    sleep(backoff.pause()).await;
                }
                continue;
            };
            if failure.missing
                && let Some(missed) = &self.missed
            {
                missed.notify_one();
            }
            // What is not there says nothing of what the server can.
            if streams && !listed && !failure.missing {
                // One that is not there says nothing of what it can.
                let is_cut = failure.begun && failure.reason == Reason::Connection;
                cut_short += u32::from(is_cut);
                if failure.not_understood || failure.reason == Reason::Malformed || cut_short > 1 {
                    failure.reason = Reason::NoStreamingList;
                }
                if failure.reason == Reason::NoStreamingList {
                    self.streaming.none(timing.streaming_again);
                    self.told(&failure, "is listed in pages");
                    continue;
                }
            }
            self.told(&failure, "is tried again; what was known stays");
            self.go_elsewhere(&failure, progress);
            if failure.untrusted {
                self.client.renew().await;
            }
            let lists_again = listed && !matches!(self.place, Place::At(_));
            let pause = match failure.reason {
                _ if lists_again => {
                    let last = relisted.replace(Instant::now());
                    if last.is_none_or(|last| last.elapsed() > timing.longest_pause * 2) {
                        relists.reset();
                        Duration::ZERO
                    } else {
                        relists.pause()
                    }
                }
                Reason::Unauthorized => {
                    self.client.renew().await;
                    if std::mem::replace(&mut renewed, true) {
                        backoff.pause()
                    } else {
                        Duration::ZERO
                    }
                }
                Reason::Forbidden => spread(timing.longest_pause),
                Reason::Expired if !matches!(before, Place::Exact) => Duration::ZERO,
                _ => backoff.pause(),
            };
            sleep(pause.max(failure.retry_after.unwrap_or_default())).await;
        }
    }

    /// Where to go on after a failure, if not where it was.
    fn go_elsewhere(&mut self, failure: &Failure, progress: bool) {
        let next = match (&self.place, failure.reason) {
            (Place::At(_), _) if failure.from_the_future => Place::Exact,
            (Place::At(version), Reason::Expired) => Place::Anew(version.clone()),
            // The same garbage would come again.
            (Place::At(version), Reason::Malformed) if !progress => Place::Anew(version.clone()),
            (Place::At(_), _) => return,
            (_, Reason::Expired) => Place::Exact,
            _ if failure.from_the_future => Place::Exact,
            _ => return,
        };
        self.place = next;
    }

    /// Counts a failure, and says what it is unless that was said.
    fn told(&self, failure: &Failure, then: &str) {
        let new = self
            .status
            .failed(self.resource, failure.reason, &failure.detail);
        let (resource, detail) = (self.resource.as_str(), &failure.detail);
        let reason = failure.reason.as_str();
        match failure.reason {
            _ if !new => tracing::debug!(resource, reason, "{detail}"),
            _ if failure.missing && self.missed.is_some() => {
                tracing::debug!(resource, reason, "the API has it no more: {detail}");
            }
            Reason::Forbidden => tracing::error!(
                "may not list and watch {resource} of the Kubernetes API: {detail}; grant the \
                 verbs list and watch on {resource} to this service account. The rest goes on \
                 without"
            ),
            Reason::Expired | Reason::NoStreamingList => {
                tracing::info!(
                    resource,
                    reason,
                    "watch of the Kubernetes API {then}: {detail}"
                );
            }
            _ => tracing::warn!(
                resource,
                reason,
                "watch of the Kubernetes API {then}: {detail}"
            ),
        }
    }

    /// A list and then a watch in one request, the list from the server's memory.
    async fn stream(&mut self) -> Result<(), End> {
        let path = format!(
            "{}?{}watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
             &allowWatchBookmarks=true&timeoutSeconds={}",
            self.path,
            self.selector,
            watch_seconds(&self.options.timing)
        );
        self.status.request(self.resource, Request::StreamingList);
        let mut answer = self.ask(&path, false).await?;
        answer.set_idle(self.options.timing.first_events);
        self.tell(vec![Told::Begin]).await?;
        let followed = self.follow(answer, true).await;
        followed.map_err(|end| match end {
            End::Failed(failure) => End::Failed(Failure {
                begun: true,
                ..failure
            }),
            End::Unwanted => End::Unwanted,
        })
    }

    async fn watch(&mut self, version: Box<str>) -> Result<(), End> {
        let path = format!(
            "{}?{}watch=true&resourceVersion={}&allowWatchBookmarks=true&timeoutSeconds={}",
            self.path,
            self.selector,
            encoded(&version),
            watch_seconds(&self.options.timing)
        );
        self.status.request(self.resource, Request::Watch);
        let answer = self.ask(&path, false).await?;
        // The server took the version: what is known is right up to it.
        self.status.well(self.resource);
        self.follow(answer, false).await
    }

    /// Follows a watch to its end.
    async fn follow(&mut self, mut answer: Answer, mut initial: bool) -> Result<(), End> {
        let (mut lines, mut losses) = (Lines::default(), Losses::default());
        loop {
            let bytes = match answer.next().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) if initial => {
                    let detail = "the streaming list ended before its end was told";
                    return Err(End::Failed(Failure::new(Reason::Connection, detail)));
                }
                Ok(None) if lines.is_cut() => {
                    let detail = "the watch ended within an event";
                    return Err(End::Failed(Failure::new(Reason::Connection, detail)));
                }
                Ok(None) => return Ok(()),
                Err(failure) if initial && failure.reason == Reason::Silent => {
                    let detail = "the end of a streaming list was not told";
                    return Err(End::Failed(Failure::new(Reason::NoStreamingList, detail)));
                }
                Err(failure) => return Err(End::Failed(failure)),
            };
            let (mut told, mut events) = (Vec::new(), 0);
            let was_initial = initial;
            let followed = lines.push(&bytes, &mut losses, |line, losses| {
                events += 1;
                let event = read::event(self.resource, line, &self.options.read, losses);
                Self::event(event, &mut self.place, &mut initial, &mut told)
            });
            self.status.heard(self.resource, events);
            self.status.lost(&mut losses);
            self.tell(told).await?;
            if was_initial && !initial {
                self.complete();
                answer.set_idle(self.options.timing.idle);
            }
            followed.map_err(End::Failed)?;
        }
    }

    fn event(
        event: Option<Event>,
        place: &mut Place,
        initial: &mut bool,
        told: &mut Vec<Told>,
    ) -> Result<(), Failure> {
        let version = match event {
            Some(Event::Set(found, version)) => {
                told.push(Told::Found(found));
                version
            }
            Some(Event::Removed(uid, version)) => {
                told.push(Told::Removed(uid));
                version
            }
            Some(Event::Malformed(version)) => version,
            Some(Event::Bookmark(version, true)) => {
                if std::mem::take(initial) {
                    told.push(Told::Complete);
                }
                version
            }
            Some(Event::Bookmark(_, false)) if *initial => {
                let detail = "the server watches, and does not list before";
                return Err(Failure::new(Reason::NoStreamingList, detail));
            }
            Some(Event::Bookmark(version, false)) => version,
            Some(Event::Failed(status)) => return Err(Failure::of_status(&status)),
            None => {
                let detail = "an event of the watch is not readable";
                return Err(Failure::new(Reason::Malformed, detail));
            }
        };
        // Versions of the initial events are those of objects, in any order.
        if !*initial && !version.is_empty() {
            *place = Place::At(version);
        }
        Ok(())
    }

    /// A list in pages. None of them is held: servers that answer from memory send all in one.
    async fn list(&mut self) -> Result<(), End> {
        let version = match &self.place {
            Place::Start => "&resourceVersion=0&resourceVersionMatch=NotOlderThan".to_owned(),
            Place::Anew(version) | Place::At(version) => {
                let version = encoded(version);
                format!("&resourceVersion={version}&resourceVersionMatch=NotOlderThan")
            }
            Place::Exact => String::new(),
        };
        let (resource, limit) = (self.resource, self.options.page.max(1));
        let base = format!("{}?{}limit={limit}", self.path, self.selector);
        let mut next = String::new();
        loop {
            let path = match &*next {
                "" => format!("{base}{version}"),
                next => format!("{base}&continue={}", encoded(next)),
            };
            self.status.request(resource, Request::List);
            let mut answer = self.ask(&path, true).await?;
            if next.is_empty() {
                self.tell(vec![Told::Begin]).await?;
            }
            let (mut list, mut losses) = (ListReader::default(), Losses::default());
            while let Some(bytes) = answer.next().await.map_err(End::Failed)? {
                let mut told = Vec::new();
                let options = &self.options.read;
                list.push(&bytes, &mut losses, |item, losses| {
                    let found = read::object(resource, item, options, losses);
                    told.extend(found.map(Told::Found));
                });
                self.status.heard(resource, 0);
                self.status.lost(&mut losses);
                self.tell(told).await?;
            }
            let page = list.finish().filter(|page| !page.version.is_empty());
            let Some(page) = page else {
                let detail = "a page of the list is cut, or not readable";
                return Err(End::Failed(Failure::new(Reason::Malformed, detail)));
            };
            if page.next.is_empty() {
                self.tell(vec![Told::Complete]).await?;
                self.place = Place::At(page.version);
                self.complete();
                return Ok(());
            }
            next = page.next.into();
        }
    }

    fn complete(&self) {
        self.status.synced_now(self.resource);
        self.status.well(self.resource);
        tracing::debug!(resource = self.resource.as_str(), "listed");
    }

    async fn ask(&self, path: &str, list: bool) -> Result<Answer, End> {
        let accept = accepted(self.resource, list);
        let answer = ask(&self.client, path, accept, &self.options.timing).await;
        let answer = answer.map_err(End::Failed)?;
        self.status.heard(self.resource, 0);
        Ok(answer)
    }

    async fn tell(&self, told: Vec<Told>) -> Result<(), End> {
        if told.is_empty() {
            return Ok(());
        }
        let sent = self.out.send((self.resource, told)).await;
        sent.map_err(|SendError(_)| End::Unwanted)
    }
}

fn watch_seconds(timing: &Timing) -> u64 {
    spread(timing.watch).as_secs().max(1)
}

// === impl Streaming ===

impl Streaming {
    fn is_worth_a_try(&self) -> bool {
        let none_until = self
            .none_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        none_until.is_none_or(|until| Instant::now() >= until)
    }

    fn none(&self, again: Duration) {
        let mut none_until = self
            .none_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *none_until = Some(Instant::now() + again);
    }
}

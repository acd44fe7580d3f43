//! One agent's stream: a position in the log, and a few shared frames that are about to be sent.

use std::{collections::VecDeque, convert::Infallible, time::Instant};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Hub;
use crate::cluster::stream::{
    MEDIA_TYPE, PROTOCOL, codec,
    counters::add,
    message::{Content, Hello},
    store::Next,
};

/// An agent that is connected.
pub(super) struct Agent {
    hub: Hub,
    /// What it knows once it has what is ready.
    revision: u64,
    /// A snapshot, or a few deltas; all shared with other agents.
    ready: VecDeque<Bytes>,
    begun: Begun,
    revisions: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    /// When it is told that we live.
    due: Instant,
    /// When it is to come back.
    end: Instant,
    _slot: OwnedSemaphorePermit,
}

/// How far a stream is.
enum Begun {
    /// Not at all: the agent says that it knows this.
    Asked { epoch: u64, revision: u64 },
    /// It was told what follows.
    Said,
}

/// Most deltas that are taken out of the log at a time.
const AHEAD: usize = 32;

// === impl Agent ===

impl Agent {
    pub(super) fn new(hub: Hub, slot: OwnedSemaphorePermit, (epoch, revision): (u64, u64)) -> Self {
        add(&hub.shared.counters.agents, 1);
        let now = Instant::now();
        Self {
            revision,
            ready: VecDeque::new(),
            begun: Begun::Asked { epoch, revision },
            revisions: hub.shared.revision.subscribe(),
            stopping: hub.stopping(),
            // At once, so that it knows from the start how old all of it is.
            due: now,
            end: hub.end(),
            hub,
            _slot: slot,
        }
    }

    pub(super) fn response(self) -> Response {
        let frames = futures_util::stream::unfold(self, async |mut agent| {
            let frame = agent.next().await?;
            let counters = &agent.hub.shared.counters;
            add(&counters.frames, 1);
            add(&counters.bytes, frame.len() as u64);
            Some((Ok::<_, Infallible>(frame), agent))
        });
        let headers = [
            (header::CONTENT_TYPE, MEDIA_TYPE),
            (header::CACHE_CONTROL, "no-store"),
        ];
        // Boxed: the future of the stream refers to itself.
        let body = Body::from_stream(Box::pin(frames));
        (StatusCode::OK, headers, body).into_response()
    }

    /// The next frame; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if *self.stopping.borrow() {
                return None;
            }
            if let Begun::Asked { epoch, revision } = self.begun {
                self.begun = Begun::Said;
                let resumes = self.hub.store().can_resume(epoch, revision);
                if resumes {
                    add(&self.hub.shared.counters.resumed, 1);
                    self.hello(true);
                } else {
                    self.start_over().await?;
                }
            }
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            let now = Instant::now();
            if now >= self.due {
                self.due = now + self.hub.shared.options.heartbeat;
                let heartbeat = Content::Heartbeat(self.hub.heartbeat());
                return codec::encode(heartbeat).ok();
            }
            self.revisions.borrow_and_update();
            let next = self.hub.store().after(self.revision, AHEAD);
            match next {
                Next::Deltas(frames, revision) => {
                    self.ready.extend(frames);
                    self.revision = revision;
                }
                Next::Gone => {
                    add(&self.hub.shared.counters.behind, 1);
                    self.start_over().await?;
                }
                Next::UpToDate if now >= self.end => return None,
                Next::UpToDate => {
                    let wake = self.due.min(self.end);
                    tokio::select! {
                        // A sender that is gone shows as a hub that is stopped.
                        changed = self.revisions.changed() => changed.ok()?,
                        stopped = self.stopping.changed() => stopped.ok()?,
                        () = tokio::time::sleep_until(wake.into()) => {}
                    }
                }
            }
        }
    }

    fn hello(&mut self, resumed: bool) {
        let hello = Hello {
            protocol: PROTOCOL,
            epoch: self.hub.store().epoch(),
            resumed,
        };
        self.ready.extend(codec::encode(Content::Hello(hello)));
    }

    async fn start_over(&mut self) -> Option<()> {
        let snapshot = self.hub.snapshot().await?;
        add(&self.hub.shared.counters.snapshots, 1);
        self.hello(false);
        self.ready.extend(snapshot.frames.iter().cloned());
        self.revision = snapshot.revision;
        Some(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let agents = &self.hub.shared.counters.agents;
        agents.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

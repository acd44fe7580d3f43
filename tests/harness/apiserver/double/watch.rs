//! Watches of the double.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, interval_at, sleep_until},
};

use super::{Injected, Shared, answer::Form, locked, options::Options};
use crate::apiserver::{faults::Outlet, refusal::Refusal, resource::Target};

/// A watch that has been let in.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) shared: Arc<Shared>,
    pub(super) target: Target,
    pub(super) options: Options,
    pub(super) form: Form,
    /// Since before the request was answered, so that nothing is missed.
    pub(super) injected: broadcast::Receiver<Injected>,
}

/// How long the real server waits for a version that it has not reached.
const TOO_LARGE: Duration = Duration::from_secs(3);

/// How long a watch goes on that says nothing of it, in seconds.
const LONGEST: u64 = 1800;

// === impl Watch ===

impl Watch {
    /// Tells what happens until its time is over or the client is gone.
    pub(super) async fn run(mut self, mut outlet: Outlet) {
        let mut reached = self.shared.store.reached();
        let end = Instant::now() + Duration::from_secs(self.options.timeout.unwrap_or(LONGEST));
        let interval = *locked(&self.shared.bookmarks);
        let mut bookmarks = interval_at(Instant::now() + interval, interval);
        let (mut lines, mut version) = match self.first().await {
            Ok(first) => first,
            Err(refusal) => {
                let line = line("ERROR", &refusal.body);
                outlet.send(line.as_bytes()).await;
                return;
            }
        };
        loop {
            while let Some(line) = lines.pop_front() {
                if !outlet.send(line.as_bytes()).await {
                    return;
                }
            }
            // What was reached before the look at events is in them.
            reached.borrow_and_update();
            let (events, now) =
                self.shared
                    .store
                    .events(&self.target, &self.options.selector, version);
            version = version.max(now);
            lines.extend(events.iter().map(|event| {
                let object = self.form.one(&event.object);
                line(event.kind, &object)
            }));
            if !lines.is_empty() {
                continue;
            }
            tokio::select! {
                changed = reached.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = sleep_until(end) => return,
                _ = bookmarks.tick(), if self.options.bookmarks => {
                    lines.push_back(self.bookmark(version, false));
                }
                told = self.injected.recv() => match told {
                    Ok(Injected::Line(plural, text)) if self.is_of(&plural) => {
                        lines.push_back(format!("{text}\n"));
                    }
                    Ok(Injected::Bookmark(plural))
                        if self.is_of(&plural) && self.options.bookmarks =>
                    {
                        lines.push_back(self.bookmark(version, false));
                    }
                    Ok(Injected::Cut(plural)) if self.is_of(&plural) => {
                        outlet.send(b"{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"P").await;
                        outlet.break_off().await;
                        return;
                    }
                    Ok(Injected::End(plural)) if self.is_of(&plural) => return,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn is_of(&self, plural: &str) -> bool {
        self.target.resource.plural == plural
    }

    /// What comes first, and the version that it is of.
    async fn first(&self) -> Result<(VecDeque<String>, u64), Refusal> {
        let store = &self.shared.store;
        let asked = self.options.version;
        let streaming = self.options.initial_events == Some(true);
        let current = store.version();
        if streaming && asked.is_some_and(|asked| asked > current) {
            tokio::time::sleep(TOO_LARGE).await;
            return Err(Refusal::too_large(asked.unwrap_or_default(), current));
        }
        let mut lines = VecDeque::new();
        match asked {
            // From here on, whatever there is.
            Some(asked) if asked > 0 && !streaming => {
                let oldest = store.oldest();
                if asked < oldest {
                    return Err(Refusal::watch_too_old(asked, oldest));
                }
                return Ok((lines, asked));
            }
            _ => {}
        }
        let page = store.list(&self.target, None)?;
        if self.options.initial_events != Some(false) {
            for object in page
                .items
                .iter()
                .filter(|object| self.options.selector.selects(object))
            {
                lines.push_back(line("ADDED", &self.form.one(object)));
            }
        }
        if streaming && self.options.bookmarks {
            lines.push_back(self.bookmark(page.version, true));
        }
        Ok((lines, page.version))
    }

    fn bookmark(&self, version: u64, complete: bool) -> String {
        let resource = self.target.resource;
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if complete {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = resource.nothing();
        object["kind"] = json!(resource.kind);
        object["apiVersion"] = json!(resource.api_version());
        object["metadata"] = metadata;
        line("BOOKMARK", &self.form.one(&object))
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

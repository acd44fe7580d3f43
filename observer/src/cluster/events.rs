//! Events of Kubernetes about what was found: each once, and not too many.
//!
//! The name of an Event is made of what it is about, so that agents that find the same tell it once,
//! and a restart tells nothing again: the API server says that it is there. It forgets Events after
//! an hour, by default.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::api::{Api, PostParams};
use tokio::sync::mpsc;

use super::client::Client;
use crate::telemetry::health::Loss;

/// Something to tell of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happening {
    /// Namespace of the object.
    pub namespace: String,
    /// Kind of the object: `Deployment`.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// What tells it apart from others of the object.
    pub subject: String,
    /// Why, in one word: `PlaintextAcceptedUnderStrict`.
    pub reason: String,
    /// In words.
    pub note: String,
    /// When, seconds since the Unix epoch.
    pub at: u64,
}

/// What became of Events.
#[derive(Debug, Default)]
pub struct Counters {
    told: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Where what is to be told waits.
#[derive(Clone, Debug)]
pub struct Sender {
    queue: mpsc::Sender<Happening>,
    counters: Arc<Counters>,
}

/// Happenings that may wait.
const WAITING: usize = 64;

/// Between two Events: at most thirty in a minute.
const PAUSE: Duration = Duration::from_secs(2);

/// For an answer of the API server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of a note (events.k8s.io/v1: 1 kB).
const LONGEST_NOTE: usize = 1_000;

/// Most bytes of a name that are taken over from the object's, as the whole has at most 253.
const LONGEST_NAME: usize = 128;

/// Who tells it.
const CONTROLLER: &str = "observer";

/// Tells what comes from the [`Sender`] through `client`, which must be allowed to create Events of
/// `events.k8s.io`, until there is no sender any more. `instance` is who we are: the node.
pub fn start(client: Arc<Client>, instance: String) -> (Sender, impl Future<Output = ()>) {
    let (queue, mut waiting) = mpsc::channel(WAITING);
    let counters = Arc::new(Counters::default());
    let sender = Sender {
        queue,
        counters: counters.clone(),
    };
    let task = async move {
        let mut said = false;
        while let Some(happening) = waiting.recv().await {
            match tell(&client, &happening, &instance).await {
                Ok(()) => {
                    counters.told.fetch_add(1, Ordering::Relaxed);
                    said = false;
                }
                Err(error) => {
                    counters.failed.fetch_add(1, Ordering::Relaxed);
                    // Once, not for each.
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(%error, "cannot create Events of the cluster");
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    (sender, task)
}

async fn tell(client: &Client, happening: &Happening, instance: &str) -> Result<(), String> {
    let events: Api<Event> = Api::namespaced(client.other(), &happening.namespace);
    let event = event(happening, instance);
    let parameters = PostParams::default();
    let created = tokio::time::timeout(TIMEOUT, events.create(&parameters, &event)).await;
    match created {
        Ok(Ok(_)) => Ok(()),
        // Somebody told it already.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server does not answer".to_owned()),
    }
}

fn event(happening: &Happening, instance: &str) -> Event {
    let Happening {
        namespace,
        kind,
        name,
        reason,
        note,
        at,
        ..
    } = happening;
    let at = i64::try_from(*at)
        .ok()
        .and_then(|at| Timestamp::from_second(at).ok());
    let object = ObjectReference {
        api_version: api_version(kind).map(str::to_owned),
        kind: Some(kind.clone()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        ..ObjectReference::default()
    };
    Event {
        metadata: ObjectMeta {
            namespace: Some(namespace.clone()),
            name: Some(happening.event_name()),
            ..ObjectMeta::default()
        },
        event_time: at.map(MicroTime),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        action: Some("Observed".to_owned()),
        reason: Some(reason.clone()),
        note: Some(cut(note, LONGEST_NOTE).to_owned()),
        regarding: Some(object),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

/// Group and version of the kinds that workloads have.
fn api_version(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => "apps/v1",
        "Job" | "CronJob" => "batch/v1",
        "Pod" => "v1",
        _ => return None,
    })
}

/// The first bytes, as many as make whole characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

// === impl Happening ===

impl Happening {
    /// The same for all who tell it.
    fn event_name(&self) -> String {
        let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
        for part in [&self.kind, &self.name, &self.subject] {
            part.hash(&mut hasher);
        }
        let name = cut(&self.name, LONGEST_NAME).trim_end_matches(['.', '-']);
        format!("{name}.observer.{:016x}", hasher.finish())
    }
}

// === impl Sender ===

impl Sender {
    /// Tells it when it is its turn; whether there was room for it.
    pub fn send(&self, happening: Happening) -> bool {
        let sent = self.queue.try_send(happening).is_ok();
        if !sent {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Events that could not be told.
    pub fn losses(&self) -> [Loss; 2] {
        let loss = |reason, count: &AtomicU64| Loss {
            stage: "cluster",
            reason,
            count: count.load(Ordering::Relaxed),
        };
        [
            loss("events_failed", &self.counters.failed),
            loss("events_dropped", &self.counters.dropped),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening() -> Happening {
        Happening {
            namespace: "shop".to_owned(),
            kind: "Deployment".to_owned(),
            name: "cart".to_owned(),
            subject: "M01 old/batch 8080".to_owned(),
            reason: "PlaintextAcceptedUnderStrict".to_owned(),
            note: "plaintext is accepted".to_owned(),
            at: 1_700_000_000,
        }
    }

    #[test]
    fn an_event_in_full() {
        let json = serde_json::to_value(event(&happening(), "node-1")).unwrap();
        let expected = serde_json::json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"namespace": "shop", "name": happening().event_name()},
            "eventTime": "2023-11-14T22:13:20.000000Z", "reportingController": "observer",
            "reportingInstance": "node-1", "action": "Observed",
            "reason": "PlaintextAcceptedUnderStrict", "note": "plaintext is accepted",
            "type": "Warning",
            "regarding": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop",
                          "name": "cart"},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn names_are_those_of_what_is_told() {
        let name = happening().event_name();
        assert!(name.starts_with("cart.observer."), "{name}");
        assert_eq!(name, happening().event_name());
        let mut later = happening();
        later.at += 60;
        later.note = "again".to_owned();
        assert_eq!(name, later.event_name());
        let mut other = happening();
        other.subject = "M01 old/batch 8081".to_owned();
        assert_ne!(name, other.event_name());
        let mut long = happening();
        long.name = format!("{}-x", "a.".repeat(80));
        assert!(long.event_name().len() <= 253);
        assert!(!long.event_name().contains("..observer"));
    }

    #[test]
    fn notes_are_cut_between_characters() {
        let mut long = happening();
        long.note = "é".repeat(2_000);
        let note = event(&long, "n").note.unwrap();
        assert!(note.len() <= LONGEST_NOTE && note.ends_with('é'));
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Arc::new(Client::with_config(config).unwrap());
        let (sender, _task) = start(client, "n".to_owned());
        for index in 0..WAITING + 3 {
            assert_eq!(sender.send(happening()), index < WAITING);
        }
        let losses = sender.losses().map(|loss| (loss.reason, loss.count));
        assert_eq!(losses, [("events_failed", 0), ("events_dropped", 3)]);
    }

    /// Whether a request has all of its content.
    fn is_whole(asked: &str) -> bool {
        let Some((head, body)) = asked.split_once("\r\n\r\n") else {
            return false;
        };
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        length.is_some_and(|(_, length)| body.len() >= length.parse::<usize>().unwrap())
    }

    /// An API server that says `status` to whatever it is asked; what it was asked.
    async fn server(status: &'static str) -> (Client, tokio::task::JoinHandle<String>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            let mut piece = [0; 4_096];
            while !is_whole(&String::from_utf8_lossy(&asked)) {
                let read = stream.read(&mut piece).await.unwrap();
                assert!(read > 0, "{}", String::from_utf8_lossy(&asked));
                asked.extend_from_slice(&piece[..read]);
            }
            let (code, _) = status.split_once(' ').unwrap();
            let body = match code {
                "201" => {
                    r#"{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{}}"#.to_owned()
                }
                code => format!(
                    r#"{{"kind":"Status","status":"Failure","message":"no","reason":"x","code":{code}}}"#
                ),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        (Client::with_config(config).unwrap(), asked)
    }

    #[tokio::test]
    async fn events_are_created_and_those_that_are_there_are_no_failure() {
        for (status, told) in [
            ("201 Created", true),
            ("409 Conflict", true),
            ("403 Forbidden", false),
        ] {
            let (client, asked) = server(status).await;
            let found = tell(&client, &happening(), "node-1").await;
            assert_eq!(found.is_ok(), told, "{status}: {found:?}");
            let asked = asked.await.unwrap();
            let path = "POST /apis/events.k8s.io/v1/namespaces/shop/events";
            assert!(asked.starts_with(path), "{asked}");
            assert!(asked.contains("\"reason\":\"PlaintextAcceptedUnderStrict\""));
        }
    }
}

//! Watches against a server that does what a script says.

use std::{collections::VecDeque, sync::Mutex};

use kube::Config;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::Receiver,
    time::timeout,
};

use super::*;
use crate::cluster::status::{Reason, Row};

/// What a scripted server answers to one request.
#[derive(Clone, Debug)]
enum Reply {
    /// An answer, and the end.
    Whole(u16, &'static str, String),
    /// The start of an answer, and then silence.
    Held(String),
    /// Nothing at all.
    Silent,
    /// The end of the connection.
    Closed,
}

/// A server that answers what a script says, request by request, and what came of it.
struct Run {
    requests: Arc<Mutex<Vec<String>>>,
    changes: Receiver<(Source, Vec<Change>)>,
    status: Arc<Status>,
    task: tokio::task::JoinHandle<()>,
}

const ENOUGH: Duration = Duration::from_secs(10);

fn timing() -> Timing {
    Timing {
        answer: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        first_events: Duration::from_millis(300),
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(100),
        ..Timing::default()
    }
}

async fn serve(
    mut stream: TcpStream,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(length) if length > 0 => head.extend_from_slice(&piece[..length]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    assert!(
        head.to_ascii_lowercase()
            .contains("\r\nuser-agent: observer/"),
        "{head}"
    );
    let token = head
        .lines()
        .find_map(|line| line.strip_prefix("authorization: "));
    let token = token.map(|token| format!(" {token}")).unwrap_or_default();
    requests.lock().unwrap().push(path + &token);
    let reply = replies.lock().unwrap().pop_front();
    let start = |code: u16, headers: &str| {
        format!("HTTP/1.1 {code} X\r\nconnection: close\r\n{headers}\r\n")
    };
    match reply {
        Some(Reply::Whole(code, headers, body)) => {
            let _ = stream
                .write_all((start(code, headers) + &body).as_bytes())
                .await;
        }
        Some(Reply::Held(body)) => {
            let _ = stream.write_all((start(200, "") + &body).as_bytes()).await;
            tokio::time::sleep(ENOUGH).await;
        }
        Some(Reply::Closed) => {}
        Some(Reply::Silent) | None => tokio::time::sleep(ENOUGH).await,
    }
}

async fn start(scope: Scope, replies: Vec<Reply>, timing: Timing) -> Run {
    start_with(scope, replies, timing, |_| ()).await
}

async fn start_with(
    scope: Scope,
    replies: Vec<Reply>,
    timing: Timing,
    edit: impl FnOnce(&mut Config),
) -> Run {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (replies, seen) = (
        Arc::new(Mutex::new(VecDeque::from(replies))),
        requests.clone(),
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, replies.clone(), seen.clone()));
        }
    });
    let mut config = Config::new(format!("http://{address}").parse().unwrap());
    edit(&mut config);
    let client = Arc::new(Client::with_config(config).unwrap());
    let owners = Limits {
        patience: Duration::from_millis(50),
        ..Limits::default()
    };
    let options = Options {
        timing,
        owners,
        ..Options::default()
    };
    let status = Arc::new(Status::new(Source::Node));
    let (out, changes) = mpsc::channel(4);
    let task = tokio::spawn(run(client, scope, options, out, status.clone()));
    Run {
        requests,
        changes,
        status,
        task,
    }
}

async fn node(replies: Vec<Reply>) -> Run {
    start(Scope::Node("n1".into()), replies, timing()).await
}

fn pod(uid: &str, version: u32) -> Value {
    json!({"metadata": {"uid": uid, "name": uid, "namespace": "eu", "resourceVersion": version.to_string()}})
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn bookmark(version: u32, end: bool) -> String {
    let annotations = if end {
        json!({"k8s.io/initial-events-end": "true"})
    } else {
        json!({})
    };
    event(
        "BOOKMARK",
        &json!({"metadata": {"resourceVersion": version.to_string(), "annotations": annotations}}),
    )
}

fn page(version: u32, next: &str, uids: &[&str]) -> Reply {
    let items: Vec<Value> = uids.iter().map(|uid| pod(uid, 1)).collect();
    let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
    Reply::Whole(
        200,
        "",
        json!({"kind": "PodList", "metadata": metadata, "items": items}).to_string(),
    )
}

fn failure(code: u16, headers: &'static str, reason: &str, message: &str) -> Reply {
    let status = json!({"kind": "Status", "code": code, "reason": reason, "message": message});
    Reply::Whole(code, headers, status.to_string())
}

/// A server without streaming lists.
fn paged() -> Reply {
    failure(
        422,
        "",
        "Invalid",
        "sendInitialEvents: Forbidden: not by this server",
    )
}

fn streamed(uids: &[&str], version: u32) -> String {
    let events: String = uids
        .iter()
        .map(|uid| event("ADDED", &pod(uid, 1)))
        .collect();
    events + &bookmark(version, true)
}

impl Run {
    /// The next changes, until one is `last`.
    async fn until(&mut self, last: &str) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let batch = timeout(ENOUGH, self.changes.recv()).await;
            let batch = batch.unwrap_or_else(|_| panic!("no {last} after {found:?}"));
            for change in batch.unwrap().1 {
                found.push(match change {
                    Change::Begin(_) => "begin".to_owned(),
                    Change::Complete(_) => "complete".to_owned(),
                    Change::Set(object) => format!("+{}", object.uid()),
                    Change::Remove(_, uid) => format!("-{uid}"),
                    Change::Declared(change) => format!("{change:?}"),
                });
            }
            if found.last().is_some_and(|found| found == last) {
                return found;
            }
        }
    }

    /// Until so many requests came; what each asked for.
    async fn asked(&self, count: usize) -> Vec<String> {
        let enough = async {
            while self.requests.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(ENOUGH, enough)
            .await
            .unwrap_or_else(|_| panic!("{:?}", self.requests.lock()));
        let requests = self.requests.lock().unwrap();
        let short = |path: &String| {
            let mut parts: Vec<&str> = path.split(['?', '&']).skip(1).collect();
            parts.retain(|part| {
                !part.starts_with("timeoutSeconds")
                    && !part.starts_with("fieldSelector")
                    && *part != "allowWatchBookmarks=true"
                    && *part != "resourceVersionMatch=NotOlderThan"
            });
            assert!(
                path.starts_with("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&"),
                "{path}"
            );
            parts.join(" ")
        };
        requests.iter().map(short).collect()
    }

    fn row(&self) -> Row {
        self.status.rows().remove(0)
    }

    fn errors(&self) -> Vec<(Reason, u64)> {
        self.row()
            .errors
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

const STREAM: &str = "watch=true sendInitialEvents=true";

#[tokio::test]
async fn a_streaming_list_goes_on_as_a_watch_and_is_resumed() {
    let first = streamed(&["a", "b"], 7) + &event("MODIFIED", &pod("a", 8)) + &bookmark(9, false);
    let second = event("DELETED", &pod("b", 12));
    let mut run = node(vec![
        Reply::Whole(200, "", first),
        Reply::Whole(200, "", second),
        Reply::Held(event("ADDED", &pod("c", 13))),
    ])
    .await;
    assert_eq!(
        run.until("+c").await,
        ["begin", "+a", "+b", "complete", "+a", "-b", "+c"]
    );
    assert_eq!(
        run.asked(3).await,
        [
            STREAM,
            "watch=true resourceVersion=9",
            "watch=true resourceVersion=12"
        ]
    );
    assert!(run.status.synced());
    let row = run.row();
    assert!(row.age.is_some_and(|age| age < ENOUGH) && row.failing.is_none());
    assert_eq!((row.events, run.errors()), (7, vec![]));
    // Who takes no more ends it.
    drop(run.changes);
    timeout(ENOUGH, run.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_listed_in_pages() {
    let mut run = node(vec![
        paged(),
        page(5, "n=1", &["a"]),
        page(5, "", &["b"]),
        Reply::Whole(410, "", String::new()),
        page(9, "", &["b"]),
        Reply::Held(String::new()),
    ])
    .await;
    assert_eq!(
        run.until("complete").await,
        ["begin", "+a", "+b", "complete"]
    );
    assert_eq!(run.until("complete").await, ["begin", "+b", "complete"]);
    let expected = [
        STREAM,
        "limit=500 resourceVersion=0",
        "limit=500 continue=n%3D1",
        "watch=true resourceVersion=5",
        // Not older than what was known; and nobody asks for a streaming list again.
        "limit=500 resourceVersion=5",
        "watch=true resourceVersion=9",
    ];
    assert_eq!(run.asked(6).await, expected);
    assert_eq!(
        run.errors(),
        [(Reason::Expired, 1), (Reason::NoStreamingList, 1)]
    );
}

#[tokio::test]
async fn streaming_lists_that_are_none() {
    let status = json!({"kind": "Status", "code": 500, "message": "storage does not support it"});
    for reply in [
        // An error within, a watch without a list, one that never says that its list is over.
        Reply::Whole(
            200,
            "",
            event("ADDED", &pod("a", 1)) + &event("ERROR", &status),
        ),
        Reply::Held(event("ADDED", &pod("a", 1)) + &bookmark(3, false)),
        Reply::Held(event("ADDED", &pod("a", 1))),
        failure(400, "", "BadRequest", "no"),
        failure(500, "", "InternalError", "no"),
    ] {
        let mut run = node(vec![reply.clone(), page(5, "", &["b"])]).await;
        let told = run.until("complete").await;
        // The first list was not complete, and says nothing of what is gone.
        assert_eq!(
            told.iter().filter(|told| *told == "complete").count(),
            1,
            "{reply:?}"
        );
        assert_eq!(
            told[told.len() - 3..],
            ["begin", "+b", "complete"],
            "{reply:?}"
        );
        assert_eq!(run.errors(), [(Reason::NoStreamingList, 1)], "{reply:?}");
    }
}

#[tokio::test]
async fn a_streaming_list_is_tried_again_in_time() {
    let timing = Timing {
        streaming_again: Duration::from_millis(100),
        longest_pause: Duration::from_millis(200),
        ..timing()
    };
    let replies = vec![
        paged(),
        page(5, "", &["a"]),
        Reply::Held(String::new()),
        failure(410, "", "Expired", ""),
        Reply::Held(streamed(&["a"], 9)),
    ];
    let mut run = start(Scope::Node("n1".into()), replies, timing).await;
    run.until("complete").await;
    run.until("complete").await;
    assert_eq!(run.asked(5).await[4], STREAM);
}

#[tokio::test]
async fn what_was_known_is_too_old() {
    let gone = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"});
    let mut run = node(vec![
        Reply::Whole(200, "", streamed(&["a"], 7)),
        Reply::Whole(200, "", event("ERROR", &gone)),
        Reply::Held(streamed(&["b"], 9)),
    ])
    .await;
    assert_eq!(run.until("complete").await, ["begin", "+a", "complete"]);
    assert_eq!(run.until("complete").await, ["begin", "+b", "complete"]);
    assert_eq!(run.errors(), [(Reason::Expired, 1)]);
}

#[tokio::test]
async fn lists_that_expire_are_taken_from_the_store() {
    let mut run = node(vec![
        paged(),
        page(5, "next", &["a"]),
        failure(410, "", "Expired", "the continue token is too old"),
        page(8, "", &["b"]),
        // A store that was restored from a backup is behind.
        failure(
            504,
            "",
            "Timeout",
            "Too large resource version: 8, current: 3",
        ),
        page(3, "", &["c"]),
        Reply::Held(String::new()),
    ])
    .await;
    assert_eq!(
        run.until("complete").await,
        ["begin", "+a", "begin", "+b", "complete"]
    );
    assert_eq!(run.until("complete").await, ["begin", "+c", "complete"]);
    let asked = run.asked(7).await;
    assert_eq!(
        asked[3..],
        [
            "limit=500",
            "watch=true resourceVersion=8",
            "limit=500",
            "watch=true resourceVersion=3"
        ]
    );
}

#[tokio::test]
async fn failures_are_tried_again_and_told() {
    let mut run = node(vec![
        Reply::Closed,
        Reply::Silent,
        failure(503, "", "ServiceUnavailable", "etcd is away"),
        failure(401, "", "Unauthorized", "expired"),
        failure(403, "", "Forbidden", "cannot watch resource \"pods\""),
        failure(429, "retry-after: 1\r\n", "TooManyRequests", "slow down"),
        Reply::Held(streamed(&["a"], 7)),
    ])
    .await;
    let began = Instant::now();
    assert_eq!(run.until("complete").await, ["begin", "+a", "complete"]);
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "the server asked for a second"
    );
    let expected = [
        (Reason::Connection, 1),
        (Reason::Silent, 1),
        (Reason::Unauthorized, 1),
        (Reason::Forbidden, 1),
        (Reason::Throttled, 1),
        (Reason::Server, 1),
    ];
    assert_eq!(run.errors(), expected);
    assert!(run.row().failing.is_none());
}

#[tokio::test]
async fn watches_that_break_go_on_where_they_were() {
    let cut = event("ADDED", &pod("b", 8));
    let mut run = node(vec![
        // Silence, half an event, garbage.
        Reply::Held(streamed(&["a"], 7)),
        Reply::Whole(200, "", cut[..cut.len() / 2].to_owned()),
        Reply::Whole(200, "", event("ADDED", &pod("b", 8)) + "{\"garbage\n"),
        Reply::Whole(200, "", "garbage\n".to_owned()),
        Reply::Held(streamed(&["c"], 20)),
    ])
    .await;
    let told = run.until("complete").await;
    assert_eq!(told, ["begin", "+a", "complete"]);
    assert_eq!(
        run.until("complete").await,
        ["+b", "begin", "+c", "complete"]
    );
    let at = |version| format!("watch=true resourceVersion={version}");
    // The same garbage twice: all is listed anew.
    assert_eq!(
        run.asked(5).await,
        [STREAM.to_owned(), at(7), at(7), at(8), STREAM.to_owned()]
    );
    assert_eq!(
        run.errors(),
        [
            (Reason::Connection, 1),
            (Reason::Silent, 1),
            (Reason::Malformed, 2)
        ]
    );
}

#[tokio::test]
async fn a_server_that_always_expires_is_not_listed_without_pause() {
    let mut replies = vec![paged()];
    for _ in 0..200 {
        replies.extend([page(5, "", &["a"]), failure(410, "", "Expired", "")]);
    }
    let timing = Timing {
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(60),
        ..timing()
    };
    let mut run = start(Scope::Node("n1".into()), replies, timing).await;
    let taken = async { while run.changes.recv().await.is_some() {} };
    let _ = timeout(Duration::from_millis(700), taken).await;
    let lists = run.row().requests[0].1;
    assert!((2..8).contains(&lists), "{lists} lists");
}

#[tokio::test]
async fn strange_objects_cost_themselves_only() {
    let nameless = json!({"metadata": {"uid": "x", "resourceVersion": "8"}});
    let body = streamed(&["a"], 7) + &event("ADDED", &nameless) + &event("ADDED", &pod("b", 9));
    let mut run = node(vec![Reply::Held(body)]).await;
    assert_eq!(run.until("+b").await, ["begin", "+a", "complete", "+b"]);
    let lost = run.status.losses();
    assert!(
        lost.iter()
            .any(|loss| loss.reason == "object_malformed" && loss.count == 1),
        "{lost:?}"
    );
}

#[tokio::test]
async fn the_end_of_a_list_waits_for_pods_that_wait() {
    let mut held = pod("a", 1);
    held["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j1", "controller": true}]);
    // The Job is asked for, and there is none: the pod goes out without what is above it.
    let body = event("ADDED", &held) + &streamed(&["b"], 7);
    let mut run = node(vec![Reply::Held(body), failure(404, "", "NotFound", "")]).await;
    assert_eq!(
        run.until("complete").await,
        ["begin", "+b", "+a", "complete"]
    );
    assert_eq!(
        run.requests.lock().unwrap()[1],
        "/apis/batch/v1/namespaces/eu/jobs/j"
    );
}

#[tokio::test]
async fn a_token_that_expired_is_read_anew() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old").unwrap();
    let replies = vec![
        Reply::Whole(200, "", streamed(&["a"], 7)),
        Reply::Silent,
        failure(401, "", "Unauthorized", "expired"),
        Reply::Held(event("ADDED", &pod("b", 8))),
    ];
    let edit =
        |config: &mut Config| config.auth_info.token_file = Some(file.path().display().to_string());
    let mut run = start_with(Scope::Node("n1".into()), replies, timing(), edit).await;
    run.until("complete").await;
    // It rotates; what was read of it is good for a minute unless the server says no.
    std::fs::write(file.path(), "new").unwrap();
    assert_eq!(run.until("+b").await, ["+b"]);
    let tokens: Vec<String> = run
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|request| request.rsplit(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(tokens, ["old", "old", "old", "new"]);
    // And nothing of it is shown.
    assert!(!format!("{:?}", run.status).contains("new"));
}

#[test]
fn rights_are_what_is_asked_for() {
    let everything = Declarations {
        kinds: PolicyKind::ALL.to_vec(),
        istio_namespace: "istio-system".to_owned(),
        istio_revisions: false,
    };
    let text = |scope: Scope, declarations: &Declarations| -> Vec<String> {
        let rights = scope.rights(declarations).into_iter();
        rights
            .map(|right| {
                let place = format!("{}{}", right.namespace, right.name);
                format!("{} {}/{}{place}", right.verb, right.group, right.resource)
            })
            .collect()
    };
    assert_eq!(
        text(Scope::Node("n".to_owned()), &everything),
        [
            "list /pods",
            "watch /pods",
            "get apps/replicasets",
            "get batch/jobs"
        ]
    );
    let all = text(Scope::Cluster, &Declarations::default());
    assert_eq!(all.len(), 2 * Resource::ALL.len());
    let more = text(Scope::Cluster, &everything);
    assert_eq!(more.len(), 2 * Resource::COUNT);
    for right in [
        "list /configmapsistio-systemistio",
        "watch gateway.networking.k8s.io/httproutes",
        "watch networking.k8s.io/networkpolicies",
        "list /namespaces",
    ] {
        assert!(more.contains(&right.to_owned()), "{right}");
    }
    let revisions = Declarations {
        istio_revisions: true,
        ..everything
    };
    let more = text(Scope::Cluster, &revisions);
    assert!(more.contains(&"list /configmapsistio-system".to_owned()));
    assert!(all.contains(&"watch discovery.k8s.io/endpointslices".to_owned()));
    // Names in rules are those in paths.
    for resource in Resource::ALL {
        let (_, plural) = path(resource).rsplit_once('/').unwrap();
        assert_eq!(plural, resource.as_str());
    }
}

//! A hub on loopback, agents that follow it, and others that only look like one of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{
    cluster::{
        object::{Change, Kind, Object, PodObject, Source},
        stream::{
            authentication::{self, Authenticator},
            certificate::{Certificate, Files},
            client,
            counters::Counters,
            server::{Hub, Options},
            status::Status,
        },
    },
    listen,
};

/// Longest that anything here may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Server {
    pub(super) hub: Hub,
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

/// What a [`Server`] is made of.
#[derive(Default)]
pub(super) struct Making {
    pub(super) options: Options,
    pub(super) listener: listen::Options,
    pub(super) authenticator: Option<Authenticator>,
    pub(super) files: Option<Files>,
    /// Where to listen; any port when not given.
    pub(super) address: Option<SocketAddr>,
}

impl Making {
    pub(super) async fn start(self) -> Server {
        let address = self.address.unwrap_or(([127, 0, 0, 1], 0).into());
        let socket = TcpListener::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let options = Options {
            gather: Duration::from_millis(20),
            ..self.options
        };
        let age = Box::new(|_| Some(Duration::from_secs(2)));
        let hub = Hub::new(options, self.authenticator, age);
        let certificate = self
            .files
            .map(|files| Certificate::read(files).unwrap().into_acceptor());
        let serving = listen::run(
            socket,
            certificate,
            hub.router(),
            self.listener,
            hub.counters(),
            hub.stopping(),
        );
        Server {
            task: tokio::spawn(serving),
            hub,
            address,
        }
    }
}

impl Server {
    pub(super) async fn with(pods: &[&str]) -> Self {
        let server = Making::default().start().await;
        server.sync(pods);
        server
    }

    /// Tells all objects: these pods alone.
    pub(super) fn sync(&self, pods: &[&str]) {
        for kind in Kind::ALL {
            let mut changes = vec![Change::Begin(kind)];
            if kind == Kind::Pod {
                changes.extend(pods.iter().map(|name| pod(name)));
            }
            changes.push(Change::Complete(kind));
            self.hub.apply(changes);
        }
        self.hub.seal();
    }

    pub(super) fn tell(&self, changes: Vec<Change>) {
        self.hub.apply(changes);
        self.hub.seal();
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) async fn stop(self) {
        self.hub.stop();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

pub(super) fn pod(name: &str) -> Change {
    Change::Set(Object::Pod(PodObject {
        uid: format!("uid-{name}").into(),
        namespace: "shop".into(),
        name: name.into(),
        ..PodObject::default()
    }))
}

pub(super) fn gone(name: &str) -> Change {
    Change::Remove(Kind::Pod, format!("uid-{name}").into())
}

/// An agent, with the index that it would have.
pub(super) struct Agent {
    pub(super) status: Arc<Status>,
    changes: mpsc::Receiver<(Source, Vec<Change>)>,
    pods: BTreeMap<Box<str>, Box<str>>,
    untold: Option<BTreeSet<Box<str>>>,
    pub(super) begins: usize,
    pub(super) largest: usize,
    task: JoinHandle<()>,
}

pub(super) fn options(url: String) -> client::Options {
    client::Options {
        url,
        least_wait: Duration::from_millis(10),
        most_wait: Duration::from_millis(50),
        ..client::Options::default()
    }
}

impl Agent {
    pub(super) fn start(options: client::Options) -> Self {
        let status = Arc::new(Status::default());
        let (sender, changes) = mpsc::channel(4);
        let task = tokio::spawn(client::run(options, sender, status.clone()));
        Self {
            status,
            changes,
            pods: BTreeMap::new(),
            untold: None,
            begins: 0,
            largest: 0,
            task,
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Begin(Kind::Pod) => {
                self.begins += 1;
                self.untold = Some(self.pods.keys().cloned().collect());
            }
            Change::Complete(Kind::Pod) => {
                for uid in self.untold.take().unwrap() {
                    self.pods.remove(&uid);
                }
            }
            Change::Set(Object::Pod(pod)) => {
                if let Some(untold) = &mut self.untold {
                    untold.remove(&pod.uid);
                }
                self.pods.insert(pod.uid, pod.name);
            }
            Change::Remove(Kind::Pod, uid) => {
                self.pods.remove(&uid);
            }
            _ => {}
        }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.pods.values().map(|name| &**name).collect()
    }

    /// Follows until this holds.
    pub(super) async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let following = async {
            while !holds(self) {
                let wait = Duration::from_millis(20);
                if let Ok(batch) = tokio::time::timeout(wait, self.changes.recv()).await {
                    let (source, changes) = batch.expect("the client ended");
                    assert_eq!(source, Source::Cluster);
                    self.largest = self.largest.max(changes.len());
                    for change in changes {
                        self.take(change);
                    }
                }
            }
        };
        if tokio::time::timeout(PATIENCE, following).await.is_err() {
            panic!("still {:?}, {:?}", self.names(), self.status);
        }
    }

    pub(super) async fn knows(&mut self, names: &[&str]) {
        self.until(|agent| agent.names() == names).await;
    }

    /// Follows until the client says something like this of its last failure.
    pub(super) async fn complains(&mut self, of: &str) {
        self.until(|agent| agent.status.error().contains(of)).await;
    }

    /// Takes nothing any more; the client must end.
    pub(super) async fn end(self) {
        drop(self.changes);
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

/// Sends a request and returns the status and the text of the response.
pub(super) async fn ask(address: SocketAddr, path: &str, more: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text)
}

/// A hub that answers every request with the next of these bodies, the last one again and again; an
/// unfinished one keeps the connection open.
pub(super) async fn impostor(bodies: Vec<(Vec<u8>, bool)>) -> (String, JoinHandle<()>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        let mut number = 0;
        loop {
            let (mut stream, _) = socket.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let (body, finished) = &bodies[number.min(bodies.len() - 1)];
            number += 1;
            let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            stream.write_all(head).await.unwrap();
            // The client may have had enough.
            let _ = stream.write_all(body).await;
            if !finished {
                open.push(stream);
            }
        }
    });
    (url, task)
}

/// An API server that knows these tokens: who, and for what.
pub(super) async fn api(
    tokens: &'static [(&'static str, &'static str, &'static str)],
) -> kube::Client {
    let review = async move |Json(review): Json<Value>| {
        let known = tokens
            .iter()
            .find(|(token, ..)| review["spec"]["token"] == *token);
        let audience = &review["spec"]["audiences"][0];
        let status = match known {
            Some((_, user, audiences)) if audience == audiences => json!({
                "authenticated": true,
                "user": {"username": user},
                "audiences": [audiences],
            }),
            // As an authenticator that knows nothing of audiences answers.
            Some((_, user, "")) => json!({"authenticated": true, "user": {"username": user}}),
            _ => json!({"error": "[invalid bearer token, token has expired]"}),
        };
        Json(json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {},
            "spec": review["spec"],
            "status": status,
        }))
    };
    let router = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", post(review));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let served = listen::run(
        socket,
        None,
        router,
        listen::Options::default(),
        Arc::<Counters>::default(),
        // Never stopped: it ends with the test's runtime.
        Box::leak(Box::new(tokio::sync::watch::Sender::new(false))).subscribe(),
    );
    tokio::spawn(served);
    client_of(&url)
}

pub(super) fn client_of(url: &str) -> kube::Client {
    kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap()
}

pub(super) fn authenticator(client: kube::Client) -> Option<Authenticator> {
    let options = authentication::Options {
        account: Some(("observer".to_owned(), "agent".to_owned())),
        keep_refusal: Duration::from_millis(50),
        ..authentication::Options::default()
    };
    Some(Authenticator::new(client, options))
}

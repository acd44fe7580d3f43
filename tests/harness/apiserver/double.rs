//! The double: a Kubernetes API server in this process.

mod answer;
mod options;
mod watch;

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{broadcast, watch as signal},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Cluster, Request,
    accounts::{ADMIN_TOKEN, Accounts},
    client::Client,
    faults::Fault,
    store::{self, Store},
};
use crate::certificates::{Authority, Pair};

/// An API server that does as a test says; gone when dropped.
#[derive(Debug)]
pub struct Double {
    shared: Arc<Shared>,
    authority: Authority,
    address: SocketAddr,
    admin: Client,
    runtime: Option<Runtime>,
}

/// What all connections see.
#[derive(Debug)]
struct Shared {
    store: Store,
    accounts: Mutex<Accounts>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<Request>>,
    tls: Mutex<Arc<ServerConfig>>,
    presence: signal::Sender<Presence>,
    injected: broadcast::Sender<Injected>,
    bookmarks: Mutex<Duration>,
}

/// Whether anybody is there, and since which time it is so: connections end with their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Presence {
    time: u64,
    silent: bool,
    gone: bool,
}

/// What a test sends to watches, beside what happens to objects.
#[derive(Clone, Debug)]
enum Injected {
    /// These bytes, with a line's end, to watches of the resource.
    Line(String, String),
    /// A bookmark, to watches of the resource that have asked for them.
    Bookmark(String),
    /// The connection's end in the middle of an event, for watches of the resource.
    Cut(String),
    /// The answer's proper end, for watches of the resource.
    End(String),
}

/// How often bookmarks come by themselves, as from the real server.
const BOOKMARKS: Duration = Duration::from_secs(60);

// === impl Double ===

impl Double {
    /// Starts one on a port of its own, with the namespaces that every cluster has.
    pub fn start() -> Result<Self> {
        let authority = Authority::create()?;
        let tls = settings(&pair(&authority, "apiserver")?)?;
        let shared = Arc::new(Shared {
            store: Store::new(),
            accounts: Mutex::default(),
            faults: Mutex::default(),
            requests: Mutex::default(),
            tls: Mutex::new(tls),
            presence: signal::Sender::new(Presence {
                time: 0,
                silent: false,
                gone: false,
            }),
            injected: broadcast::Sender::new(1024),
            bookmarks: Mutex::new(BOOKMARKS),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("apiserver")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let admin = Client::new(address, &authority.certificate(), Some(ADMIN_TOKEN))?;
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            shared,
            authority,
            address,
            admin,
            runtime: Some(runtime),
        })
    }

    /// Objects, to read and write them without a request.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Creates objects without requests, status and all, for clusters of thousands.
    pub fn insert<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<()> {
        for object in objects {
            let mut target = store::target(object, None);
            let target = target
                .as_mut()
                .with_context(|| format!("no known kind: {object}"))?;
            if target.resource.namespaced && target.namespace.is_empty() {
                target.namespace = "default".to_owned();
            }
            let refused = |refusal: super::refusal::Refusal| anyhow::anyhow!("{}", refusal.body);
            let created = self
                .store()
                .create(target, object.clone())
                .map_err(refused)?;
            if !object["status"].is_null() {
                target.subresource = "status".to_owned();
                let mut with_status = (*created).clone();
                with_status["status"] = object["status"].clone();
                self.store().update(target, with_status).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Writes an object, status and all, without a request.
    pub fn write(&self, object: &Value) -> Result<()> {
        let refused = |refusal: super::refusal::Refusal| anyhow::anyhow!("{}", refusal.body);
        let mut target = store::target(object, None).context("no known kind")?;
        let written = self.store().update(&target, object.clone());
        let written = written.map_err(refused)?;
        if target.resource.status && !object["status"].is_null() {
            target.subresource = "status".to_owned();
            let mut with_status = (*written).clone();
            with_status["status"] = object["status"].clone();
            self.store().update(&target, with_status).map_err(refused)?;
        }
        Ok(())
    }

    /// Removes an object at once, without a request.
    pub fn take(&self, object: &Value) -> Result<()> {
        let target = store::target(object, None).context("no known kind")?;
        let taken = self.store().delete(&target, Some(0));
        let refused = |refusal: super::refusal::Refusal| anyhow::anyhow!("{}", refusal.body);
        taken.map(drop).map_err(refused)
    }

    /// An object as it is, by resource, namespace and name.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let resource = super::resource::named(plural)?;
        self.store().get(resource, namespace, name)
    }

    /// Misbehaves from now on.
    pub fn misbehave(&self, fault: Fault) {
        locked(&self.shared.faults).push(fault);
    }

    /// Behaves again.
    pub fn behave(&self) {
        locked(&self.shared.faults).clear();
    }

    /// Accepts connections and says nothing on them, not even for TLS, until [`Cluster::start`].
    pub fn fall_silent(&self) {
        self.shared.presence.send_modify(|presence| {
            presence.time += 1;
            presence.silent = true;
        });
    }

    /// Closes all connections, and takes new ones.
    pub fn disconnect(&self) {
        self.shared
            .presence
            .send_modify(|presence| presence.time += 1);
    }

    /// Sends a line to all watches of a resource, whatever it holds.
    pub fn inject(&self, plural: &str, line: &str) {
        self.tell(Injected::Line(plural.to_owned(), line.to_owned()));
    }

    /// Sends a bookmark to the watches of a resource that have asked for them.
    pub fn bookmark(&self, plural: &str) {
        self.tell(Injected::Bookmark(plural.to_owned()));
    }

    /// Closes watches of a resource in the middle of an event.
    pub fn cut(&self, plural: &str) {
        self.tell(Injected::Cut(plural.to_owned()));
    }

    /// Ends watches of a resource as the server does when their time is over.
    pub fn end(&self, plural: &str) {
        self.tell(Injected::End(plural.to_owned()));
    }

    /// How often bookmarks come by themselves, for watches that begin after this.
    pub fn bookmark_every(&self, interval: Duration) {
        *locked(&self.shared.bookmarks) = interval;
    }

    /// Ends a token's time.
    pub fn expire(&self, token: &str) {
        locked(&self.shared.accounts).expire(token);
    }

    /// Takes another certificate of the same authority, and closes all connections.
    pub fn change_certificate(&self) -> Result<()> {
        let tls = settings(&pair(&self.authority, "apiserver-renewed")?)?;
        *locked(&self.shared.tls) = tls;
        self.disconnect();
        Ok(())
    }

    /// Takes a certificate of an authority that nobody trusts, and closes all connections; says which
    /// authority.
    pub fn pretend(&self) -> Result<Authority> {
        let stranger = Authority::create()?;
        let tls = settings(&pair(&stranger, "stranger")?)?;
        *locked(&self.shared.tls) = tls;
        self.disconnect();
        Ok(stranger)
    }

    /// How many watches of all resources there are now.
    pub fn watches(&self) -> usize {
        self.shared.injected.receiver_count()
    }

    fn tell(&self, injected: Injected) {
        // Nobody watches, so nobody is told.
        let _ = self.shared.injected.send(injected);
    }

    fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().context("the double has ended")
    }
}

impl Cluster for Double {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn authority(&self) -> PathBuf {
        self.authority.certificate()
    }

    fn admin(&self) -> &Client {
        &self.admin
    }

    fn requests(&self) -> Result<Vec<Request>> {
        Ok(locked(&self.shared.requests).clone())
    }

    fn forget(&mut self) -> Result<()> {
        self.shared.store.forget();
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.shared.presence.send_modify(|presence| {
            presence.time += 1;
            presence.gone = true;
        });
        crate::wait::until("the listener's end", crate::wait::PATIENCE, || {
            Ok(std::net::TcpStream::connect(self.address)
                .is_err()
                .then_some(()))
        })
    }

    fn start(&mut self) -> Result<()> {
        let before = *self.shared.presence.borrow();
        self.shared.presence.send_modify(|presence| {
            presence.time += 1;
            presence.silent = false;
            presence.gone = false;
        });
        if !before.gone {
            return Ok(());
        }
        let listener = crate::wait::until("the port", crate::wait::PATIENCE, || {
            Ok(self
                .runtime()?
                .block_on(TcpListener::bind(self.address))
                .ok())
        })?;
        ensure!(listener.local_addr()? == self.address);
        self.runtime()?
            .spawn(accept(listener, Arc::clone(&self.shared)));
        Ok(())
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is behind a lock; a test that panics with it held has failed already.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pair(authority: &Authority, name: &str) -> Result<Pair> {
    authority.sign(
        name,
        &[
            "IP:127.0.0.1",
            "DNS:localhost",
            "DNS:kubernetes.default.svc",
        ],
    )
}

fn settings(pair: &Pair) -> Result<Arc<ServerConfig>> {
    let read = |path: &Path| CertificateDer::from_pem_file(path).context("read a certificate");
    let key = PrivateKeyDer::from_pem_file(&pair.key).context("read a key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![read(&pair.certificate)?], key)?;
    Ok(Arc::new(settings))
}

/// Takes connections until this time ends.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut presence = shared.presence.subscribe();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
            changed = presence.changed() => {
                let now = *presence.borrow_and_update();
                if changed.is_err() || now.gone {
                    return;
                }
            }
        }
    }
}

/// Serves one connection until it ends, or its time does.
async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let mut presence = shared.presence.subscribe();
    let now = *presence.borrow_and_update();
    let over = presence.wait_for(|later| later.time != now.time);
    let served = async {
        if now.silent {
            // It stays open for as long as nobody says otherwise.
            std::future::pending::<()>().await;
        }
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(Arc::clone(&locked(&shared.tls)));
        let Ok(stream) = acceptor.accept(stream).await else {
            // A client that does not trust the certificate goes away here.
            return;
        };
        let service = service_fn(|request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer::answer(shared, request).await) }
        });
        // How a connection ends is the client's to say.
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    };
    tokio::select! {
        () = served => {}
        _ = over => {}
    }
}

//! A client of the Kubernetes API that does nothing by itself: one request, one answer.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use axum::body::{Body, to_bytes};
use hyper::{Request, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::{net::TcpStream, runtime::Runtime, sync::mpsc};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;

/// A client with a token.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    token: Option<String>,
    accept: String,
    runtime: Arc<Runtime>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub code: u16,
    /// Header fields, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// An answer that goes on.
#[derive(Debug)]
pub struct Watch {
    /// HTTP status code.
    pub code: u16,
    lines: mpsc::Receiver<Result<String>>,
    runtime: Arc<Runtime>,
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Largest body that is taken.
const LARGEST: usize = 1 << 30;

// === impl Client ===

impl Client {
    /// A client of the server at `address` whose certificate is signed by `authority`.
    pub fn new(address: SocketAddr, authority: &Path, token: Option<&str>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).context("read the authority")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            address,
            tls: Arc::new(tls),
            token: token.map(str::to_owned),
            accept: "application/json".to_owned(),
            runtime: Arc::new(runtime),
        })
    }

    /// The same client with another token.
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self {
            token: token.map(str::to_owned),
            ..self.clone()
        }
    }

    /// The same client that accepts something else.
    pub fn accepting(&self, accept: &str) -> Self {
        Self {
            accept: accept.to_owned(),
            ..self.clone()
        }
    }

    /// Asks for `path`, which may have a query.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, None)
    }

    /// Sends a request with a JSON body, and waits for all of its answer.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let body = body.map(Value::to_string);
        self.send_text(method, path, body)
    }

    /// Sends a request with any body, and waits for all of its answer.
    pub fn send_text(&self, method: &str, path: &str, body: Option<String>) -> Result<Answer> {
        let asked = async {
            let (parts, body) = self.request(method, path, body).await?.into_parts();
            let body = to_bytes(Body::new(body), LARGEST)
                .await
                .context("read an answer")?;
            let headers = parts.headers.iter().map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            });
            Ok(Answer {
                code: parts.status.as_u16(),
                headers: headers.collect(),
                body: body.to_vec(),
            })
        };
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, asked).await })
            .with_context(|| format!("no answer to {method} {path}"))?
    }

    /// Sends a request whose answer comes line by line.
    pub fn watch(&self, path: &str) -> Result<Watch> {
        let asked = self.request("GET", path, None);
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, asked).await })
            .with_context(|| format!("no answer to {path}"))??;
        let code = answer.status().as_u16();
        let (sender, lines) = mpsc::channel(64);
        let mut data = Body::new(answer.into_body()).into_data_stream();
        self.runtime.spawn(async move {
            let mut rest = Vec::new();
            while let Some(piece) = data.next().await {
                match piece {
                    Ok(piece) => rest.extend_from_slice(&piece),
                    Err(error) => {
                        // Nobody may be listening any more.
                        let _ = sender.send(Err(error.into())).await;
                        return;
                    }
                }
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line = String::from_utf8_lossy(&rest[..end]).into_owned();
                    rest.drain(..=end);
                    if sender.send(Ok(line)).await.is_err() {
                        return;
                    }
                }
            }
            if !rest.is_empty() {
                let line = String::from_utf8_lossy(&rest).into_owned();
                let _ = sender.send(Ok(line)).await;
            }
        });
        Ok(Watch {
            code,
            lines,
            runtime: Arc::clone(&self.runtime),
        })
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<hyper::Response<Incoming>> {
        let stream = TcpStream::connect(self.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await;
        let stream = stream.context("make TLS")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        self.runtime.spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", self.address.to_string())
            .header("User-Agent", "observer-tests")
            .header("Accept", &self.accept);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let request = request.body(Body::from(body.unwrap_or_default()))?;
        sender.send_request(request).await.context("send a request")
    }
}

// === impl Answer ===

impl Answer {
    /// Its body as JSON.
    pub fn json(&self) -> Result<Value> {
        let text = || String::from_utf8_lossy(&self.body).into_owned();
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", text()))
    }

    /// Its body as JSON, if the request has succeeded.
    pub fn success(&self) -> Result<Value> {
        let body = self.json()?;
        ensure!((200..300).contains(&self.code), "{}: {body}", self.code);
        Ok(body)
    }
}

// === impl Watch ===

impl Watch {
    /// The next line, or `None` at the end.
    pub fn line(&mut self, patience: Duration) -> Result<Option<String>> {
        let next = self.lines.recv();
        let next = self
            .runtime
            .block_on(async { tokio::time::timeout(patience, next).await });
        match next {
            Ok(None) => Ok(None),
            Ok(Some(line)) => line.map(Some),
            Err(_) => bail!("nothing came within {patience:?}"),
        }
    }

    /// The next event, or `None` at the end.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Value>> {
        let Some(line) = self.line(patience)? else {
            return Ok(None);
        };
        let event = serde_json::from_str(&line);
        Ok(Some(event.with_context(|| format!("not JSON: {line}"))?))
    }
}

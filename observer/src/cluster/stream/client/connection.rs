//! One request to the hub, and its endless response.

use std::{fs, path::Path, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Request, StatusCode, Uri, header, uri::Scheme},
};
use futures_util::StreamExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::{Failure, Options};
use crate::cluster::stream::{MEDIA_TYPE, PATH, PROTOCOL, certificate};

/// A response that is being read.
pub(super) struct Connection {
    body: axum::body::BodyDataStream,
    /// Moves the bytes; ends with us.
    driver: JoinHandle<Result<(), hyper::Error>>,
}

/// A hub's URL, taken apart.
struct Target {
    host: String,
    port: u16,
    tls: bool,
}

/// Longest text of a refusal that is read, bytes.
const MAX_TEXT: usize = 1024;

/// Longest token that is sent, bytes.
const MAX_TOKEN: usize = 12 << 10;

/// Most bytes that are read ahead.
const BUFFER: usize = 64 << 10;

// === impl Connection ===

impl Connection {
    /// Connects and asks for what is behind `epoch` and `revision`.
    pub(super) async fn open(
        options: &Options,
        (epoch, revision): (u64, u64),
    ) -> Result<Self, Failure> {
        let target = Target::parse(&options.url)?;
        let token = options.token.as_deref().map(read_token).transpose()?;
        let address = (target.host.as_str(), target.port);
        let stream = TcpStream::connect(address)
            .await
            .map_err(Failure::Connect)?;
        let mut request = Request::get(format!(
            "{PATH}?protocol={PROTOCOL}&epoch={epoch}&revision={revision}"
        ))
        .header(header::HOST, target.authority())
        .header(header::ACCEPT, MEDIA_TYPE);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request
            .body(Body::empty())
            .map_err(|_| Failure::Url(options.url.clone()))?;
        if !target.tls {
            return Self::ask(stream, request).await;
        }
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| Failure::Url(options.url.clone()))?;
        let connector = connector(options.authorities.as_deref())?;
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(Failure::Connect)?;
        Self::ask(stream, request).await
    }

    async fn ask(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Body>,
    ) -> Result<Self, Failure> {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut connection = Self {
            body: Body::empty().into_data_stream(),
            driver: tokio::spawn(connection),
        };
        let response = sender.send_request(request).await?;
        let status = response.status();
        connection.body = Body::new(response.into_body()).into_data_stream();
        if status != StatusCode::OK {
            return Err(Failure::Refused {
                status: status.as_u16(),
                text: connection.text().await,
            });
        }
        Ok(connection)
    }

    /// What comes next; `None` at the proper end of the response.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.body.next().await {
            None => Ok(None),
            Some(Ok(piece)) => Ok(Some(piece)),
            Some(Err(error)) => Err(Failure::Body(error)),
        }
    }

    /// The start of a short text.
    async fn text(&mut self) -> String {
        let mut text = Vec::new();
        while text.len() < MAX_TEXT
            && let Ok(Some(piece)) = self.next().await
        {
            text.extend_from_slice(&piece);
        }
        text.truncate(MAX_TEXT);
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

// === impl Target ===

impl Target {
    fn parse(url: &str) -> Result<Self, Failure> {
        let bad = || Failure::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad());
        }
        let host = uri.host().ok_or_else(bad)?;
        Ok(Self {
            // Brackets belong to the URL, not to the address.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
        })
    }

    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

fn read_token(path: &Path) -> Result<HeaderValue, Failure> {
    let text = fs::read_to_string(path).map_err(|cause| Failure::File {
        path: path.to_owned(),
        cause,
    })?;
    let token = text.trim();
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(Failure::Token(path.to_owned()));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Failure::Token(path.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn connector(authorities: Option<&Path>) -> Result<TlsConnector, Failure> {
    let bad = |text: String| Failure::Authorities(text);
    let path = authorities.ok_or_else(|| {
        bad("https needs a file with the authority of its certificate".to_owned())
    })?;
    let mut roots = RootCertStore::empty();
    let certificates =
        certificate::read_certificates(path).map_err(|error| bad(error.to_string()))?;
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| bad(format!("{}: {error}", path.display())))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

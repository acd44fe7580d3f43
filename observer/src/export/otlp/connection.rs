//! One connection to a collector, and one request on it.

use std::{io, time::SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, Uri, Version,
    body::Incoming,
    client::conn::{http1, http2},
    header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TE, USER_AGENT},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};

use super::{
    grpc, http,
    outcome::{Outcome, Response},
    tls::{Tls, TlsError},
};
use crate::config::Destination;

/// A connection.
pub(super) struct Connection {
    speaker: Speaker,
    /// Moves the bytes; ends with us.
    driver: JoinHandle<()>,
}

enum Speaker {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// Why there was no answer. All of these may pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// Not the collector that we look for, or one that does not trust us.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    /// Our own files.
    #[error("{0}")]
    Files(#[from] TlsError),
    /// The connection broke.
    #[error("the connection broke: {}", cause(.0))]
    Broken(#[from] hyper::Error),
    /// A request that cannot be written.
    #[error("cannot make a request: {0}")]
    Request(#[from] hyper::http::Error),
    /// Nobody answers with so much.
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    Long,
}

/// A message to send, in either protocol.
#[derive(Clone, Debug)]
pub(super) struct Body {
    /// With the prefix that gRPC wants, which HTTP leaves out.
    framed: Bytes,
    /// It is in gzip.
    packed: bool,
}

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 64 << 10;
/// Most bytes that HTTP/1 reads ahead.
const BUFFER: usize = 64 << 10;
/// A collector that is silent while it has a request is asked whether it is there.
const PING: std::time::Duration = std::time::Duration::from_secs(15);

const NAME: &str = concat!("observer/", env!("CARGO_PKG_VERSION"));

/// The cause below what hyper says.
fn cause(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

// === impl Connection ===

impl Connection {
    /// Looks the name up anew, and connects.
    pub(super) async fn open(
        destination: &Destination,
        tls: Option<&Tls>,
    ) -> Result<Self, Failure> {
        let address = (&*destination.host, destination.port);
        let stream = TcpStream::connect(address)
            .await
            .map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        let Some(tls) = tls else {
            return Self::speak(destination, stream).await;
        };
        let name = ServerName::try_from(destination.host.to_string())
            .map_err(|error| Failure::Tls(io::Error::other(error)))?;
        let connected = tls.connector().connect(name, stream).await;
        Self::speak(destination, connected.map_err(Failure::Tls)?).await
    }

    async fn speak(
        destination: &Destination,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, Failure> {
        let stream = TokioIo::new(stream);
        if destination.grpc {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(Some(PING))
                .handshake(stream)
                .await?;
            return Ok(Self {
                speaker: Speaker::Two(sender),
                driver: tokio::spawn(async move { drop(connection.await) }),
            });
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(stream)
            .await?;
        Ok(Self {
            speaker: Speaker::One(sender),
            driver: tokio::spawn(async move { drop(connection.await) }),
        })
    }

    /// Whether it can be used again, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        match &self.speaker {
            Speaker::One(sender) => !sender.is_closed(),
            Speaker::Two(sender) => !sender.is_closed(),
        }
    }

    /// Sends a request, and reads its answer.
    pub(super) async fn ask(
        &mut self,
        destination: &Destination,
        body: &Body,
    ) -> Result<Outcome, Failure> {
        let request = request(destination, body)?;
        let response = match &mut self.speaker {
            Speaker::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Speaker::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (parts, incoming) = response.into_parts();
        let (answer, trailers) = read(incoming).await?;
        let response = Response {
            grpc: destination.grpc,
            status: parts.status,
            headers: &parts.headers,
            body: &answer,
            trailers: trailers.as_ref(),
        };
        Ok(response.outcome(SystemTime::now()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Body and trailers of an answer.
async fn read(mut incoming: Incoming) -> Result<(Vec<u8>, Option<HeaderMap>), Failure> {
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(frame) = incoming.frame().await {
        match frame?.into_data() {
            Ok(data) if body.len() + data.len() > MAX_ANSWER => return Err(Failure::Long),
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((body, trailers))
}

fn request(destination: &Destination, body: &Body) -> Result<Request<Full<Bytes>>, Failure> {
    let authority = destination.authority();
    let builder = Request::builder()
        .method(Method::POST)
        .header(USER_AGENT, NAME);
    let builder = if destination.grpc {
        let scheme = if destination.secure { "https" } else { "http" };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(&*destination.path)
            .build()?;
        let timeout = destination.timeout.as_millis();
        let builder = builder
            .uri(uri)
            .version(Version::HTTP_2)
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header("grpc-timeout", format!("{timeout}m"));
        match body.packed {
            true => builder.header("grpc-encoding", "gzip"),
            false => builder,
        }
    } else {
        let builder = builder
            .uri(&*destination.path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, http::PROTOBUF);
        match body.packed {
            true => builder.header(CONTENT_ENCODING, "gzip"),
            false => builder,
        }
    };
    let mut request = builder.body(Full::new(body.sent(destination.grpc)))?;
    for (name, value) in &destination.headers.0 {
        let (name, value): (&HeaderName, &HeaderValue) = (name, value);
        request.headers_mut().append(name, value.clone());
    }
    Ok(request)
}

// === impl Body ===

impl Body {
    /// A message as it is sent; `None` where it is too long for that.
    pub(super) fn new(message: &[u8], packed: bool) -> Option<Self> {
        let mut framed = Vec::with_capacity(grpc::PREFIX + message.len());
        framed.extend_from_slice(&grpc::prefix(packed, message.len())?);
        framed.extend_from_slice(message);
        let framed = framed.into();
        Some(Self { framed, packed })
    }

    /// Its bytes on the wire.
    pub(super) fn sent(&self, grpc: bool) -> Bytes {
        if grpc {
            self.framed.clone()
        } else {
            self.framed.slice(grpc::PREFIX.min(self.framed.len())..)
        }
    }

    /// Whether it is in gzip.
    pub(super) const fn is_packed(&self) -> bool {
        self.packed
    }
}

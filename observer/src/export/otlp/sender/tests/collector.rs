//! A collector in the test's process, which does what its script says.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::export::otlp::{
    compression::gunzip,
    message::{Answer, PartialSuccess},
};

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// It is taken.
    Take,
    /// It is taken, but for some items.
    Partly(i64),
    /// It gets this status of HTTP, and these fields.
    Http(u16, Vec<(&'static str, String)>),
    /// It gets this status of gRPC, in trailers or in front, with details.
    Grpc(u16, Option<String>),
    /// It is answered after so long.
    Slow(Duration),
    /// The connection breaks.
    Break,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The message.
    pub(crate) message: Vec<u8>,
    /// Which connection it came on, from 1.
    pub(crate) connection: usize,
}

#[derive(Default)]
struct State {
    script: VecDeque<Act>,
    received: Vec<Received>,
    connections: usize,
    /// Larger messages are refused.
    limit: Option<usize>,
}

#[derive(Clone)]
pub(crate) struct Collector {
    state: Arc<Mutex<State>>,
    grpc: bool,
    pub(crate) address: SocketAddr,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

type Answered = Response<BoxBody<Bytes, Infallible>>;

impl Collector {
    pub(crate) async fn start(grpc: bool) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), grpc, None)
    }

    pub(crate) async fn start_tls(grpc: bool, acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::listen(listener, grpc, Some(acceptor))
    }

    pub(crate) fn listen(listener: TcpListener, grpc: bool, tls: Option<TlsAcceptor>) -> Self {
        let collector = Self {
            state: Arc::default(),
            grpc,
            address: listener.local_addr().unwrap(),
            tasks: Arc::default(),
        };
        let accepting = collector.clone();
        let accepted = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (collector, tls) = (accepting.clone(), tls.clone());
                accepting.tasks.lock().unwrap().spawn(async move {
                    match tls {
                        None => collector.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                collector.serve(stream).await;
                            }
                        }
                    }
                });
            }
        };
        collector.tasks.lock().unwrap().spawn(accepted);
        collector
    }

    /// Ends it, and all its connections.
    pub(crate) fn stop(&self) {
        self.tasks.lock().unwrap().abort_all();
    }

    /// What is done with the next requests; those behind are taken.
    pub(crate) fn script(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().script.extend(acts);
    }

    pub(crate) fn set_limit(&self, bytes: usize) {
        self.state.lock().unwrap().limit = Some(bytes);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let connection = {
            let mut state = self.state.lock().unwrap();
            state.connections += 1;
            state.connections
        };
        let collector = self.clone();
        let service = service_fn(move |request| collector.clone().answer(request, connection));
        let stream = TokioIo::new(stream);
        // Whatever comes of it: clients are tested here.
        if self.grpc {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(stream, service).await;
        } else {
            let builder = hyper::server::conn::http1::Builder::new();
            let _ = builder.serve_connection(stream, service).await;
        }
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        connection: usize,
    ) -> Result<Answered, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?;
        let body = body.to_bytes();
        let field = |name: &str| {
            let value = parts.headers.get(name);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let (packed, sent) = if self.grpc {
            assert_eq!(field("content-type").as_deref(), Some("application/grpc"));
            assert_eq!(field("te").as_deref(), Some("trailers"));
            let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
            assert_eq!(length, body.len() - 5);
            assert_eq!(body[0] == 1, field("grpc-encoding").is_some());
            (body[0] == 1, &body[5..])
        } else {
            let kind = field("content-type");
            assert_eq!(kind.as_deref(), Some("application/x-protobuf"));
            (field("content-encoding").is_some(), &body[..])
        };
        let message = match packed {
            true => gunzip(sent, 64 << 20).unwrap(),
            false => sent.to_vec(),
        };
        let act = {
            let mut state = self.state.lock().unwrap();
            let large = state.limit.is_some_and(|limit| message.len() > limit);
            state.received.push(Received {
                path: parts.uri.path().to_owned(),
                headers: parts.headers.clone(),
                message,
                connection,
            });
            match large {
                true if self.grpc => Act::Grpc(8, None),
                true => Act::Http(413, Vec::new()),
                false => state.script.pop_front().unwrap_or(Act::Take),
            }
        };
        match act {
            Act::Take => Ok(self.taken(0)),
            Act::Partly(rejected) => Ok(self.taken(rejected)),
            Act::Http(status, fields) => {
                let mut answer = whole(Bytes::from_static(b"no"));
                *answer.status_mut() = StatusCode::from_u16(status).unwrap();
                for (name, value) in fields {
                    answer.headers_mut().insert(name, value.parse().unwrap());
                }
                Ok(answer)
            }
            Act::Grpc(status, details) => Ok(trailing(Bytes::new(), status, details)),
            Act::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(self.taken(0))
            }
            Act::Break => Err(std::io::Error::other("by script")),
        }
    }

    fn taken(&self, rejected: i64) -> Answered {
        let partial_success = (rejected != 0).then(|| PartialSuccess {
            rejected,
            message: "some".to_owned(),
        });
        let answer = Answer { partial_success }.encode_to_vec();
        if self.grpc {
            let mut framed = vec![0];
            framed.extend_from_slice(&u32::try_from(answer.len()).unwrap().to_be_bytes());
            framed.extend_from_slice(&answer);
            return trailing(framed.into(), 0, None);
        }
        let mut answer = whole(answer.into());
        let kind = "application/x-protobuf".parse().unwrap();
        answer.headers_mut().insert("content-type", kind);
        answer
    }
}

fn whole(body: Bytes) -> Answered {
    Response::new(Full::new(body).boxed())
}

/// With its status in trailers; where there is no body, in front.
fn trailing(body: Bytes, status: u16, details: Option<String>) -> Answered {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    if let Some(details) = details {
        trailers.insert("grpc-status-details-bin", details.parse().unwrap());
    }
    if body.is_empty() {
        let mut answer = whole(body);
        answer.headers_mut().extend(trailers);
        return answer;
    }
    let body = Full::new(body).with_trailers(async move { Some(Ok(trailers)) });
    Response::new(body.boxed())
}

/// A server that answers everything with the same bytes, and closes.
pub(crate) async fn babble(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The client may have had enough.
            let _ = stream.write_all(bytes).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    address
}

//! Listening for clients: how many, with TLS or without, and how they end.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, Sleep},
};
use tokio_rustls::TlsAcceptor;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most connections.
    pub connections: usize,
    /// How long a client may take for a handshake, and for a request head.
    pub head_timeout: Duration,
    /// How long a client may take none of the bytes that wait for it.
    pub stall_timeout: Duration,
    /// What a client is sent that there is no connection left for, as far as that gets; empty where
    /// it would have to be encrypted first.
    pub refusal: &'static [u8],
}

/// Counts what does not go well.
pub trait Events: Send + Sync + 'static {
    /// There are as many connections as there may be.
    fn refused(&self) {}
    /// A handshake failed, or took too long.
    fn not_secured(&self) {}
    /// A client took none of its bytes for too long.
    fn stalled(&self) {}
}

/// What to accept a connection with, asked for each of them.
pub type Acceptor = Box<dyn Fn() -> TlsAcceptor + Send + Sync>;

/// A stream whose writes fail when the other end takes nothing for too long.
struct Guarded {
    stream: TcpStream,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    events: Arc<dyn Events>,
}

/// How long clients have to take the rest of their answers after a shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// How long to wait when no connection can be accepted, as with no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Most bytes that a connection keeps of what it reads and of what it writes.
const BUFFER: usize = 16 << 10;

/// Serves `router` until `stop` is true, then lets answers end for a short while.
pub async fn run(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    router: Router,
    options: Options,
    events: Arc<dyn Events>,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(options.connections.max(1)));
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            // Takes finished clients out of the set.
            Some(_) = clients.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a client");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            events.refused();
            // Reading the request first would hold what there is none of.
            let _ = stream.try_write(options.refusal);
            continue;
        };
        // What is sent live is small and must not wait for more.
        let _ = stream.set_nodelay(true);
        let stream = Guarded {
            stream,
            limit: options.stall_timeout,
            deadline: None,
            events: events.clone(),
        };
        let acceptor = acceptor.as_ref().map(|acceptor| acceptor());
        let router = router.clone();
        let stop = stop.clone();
        let events = events.clone();
        clients.spawn(async move {
            match acceptor {
                None => serve(stream, router, options, stop).await,
                Some(acceptor) => {
                    let handshake = acceptor.accept(stream);
                    match tokio::time::timeout(options.head_timeout, handshake).await {
                        Ok(Ok(stream)) => serve(stream, router, options, stop).await,
                        Ok(Err(error)) => {
                            events.not_secured();
                            tracing::debug!(%error, "the handshake with a client failed");
                        }
                        Err(_) => events.not_secured(),
                    }
                }
            }
            drop(slot);
        });
    }
    drop(listener);
    let rest = async { while clients.join_next().await.is_some() {} };
    // Dropping the set ends those who do not take their answers.
    let _ = tokio::time::timeout(GRACE, rest).await;
}

/// Waits for the end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means stop, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    options: Options,
    mut stop: watch::Receiver<bool>,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 5_128,
            head_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            refusal: b"",
        }
    }
}

// === impl Guarded ===

impl fmt::Debug for Guarded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Guarded")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Guarded {
    /// Passes a finished write on, and fails one that has been waiting for too long.
    fn check<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let limit = self.limit;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(deadline.as_mut().poll(context));
        self.events.stalled();
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes nothing",
        )))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.check(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

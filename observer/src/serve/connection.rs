//! Connections of clients: how many, how long, and how they end.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, Sleep},
};

use super::Hub;

/// A stream whose writes fail when the other end takes nothing for too long.
#[derive(Debug)]
struct Guarded {
    stream: TcpStream,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// How long clients have to take the rest of their answers after a shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// How long to wait when no connection can be accepted, as with no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is done, then lets answers end for a short while.
pub async fn run(listener: TcpListener, hub: Hub, shutdown: impl Future<Output = ()>) {
    let config = &hub.shared.config;
    let slots = Arc::new(Semaphore::new(config.connections.max(1)));
    let service = TowerToHyperService::new(hub.router());
    let mut clients = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
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
            hub.shared
                .refused
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // As far as it gets: reading the request first would hold what there is none of.
            let _ = stream.try_write(
                b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\n\
                  too many connections\n",
            );
            continue;
        };
        // Lines of live flows are small and must not wait for each other.
        let _ = stream.set_nodelay(true);
        let stream = Guarded {
            stream,
            limit: config.stall_timeout,
            deadline: None,
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(config.head_timeout)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service.clone());
        let stopping = hub.shared.stopping();
        clients.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a client's connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    hub.shared.stop.send_replace(true);
    let rest = async { while clients.join_next().await.is_some() {} };
    // Dropping the set ends those who do not take their answers.
    let _ = tokio::time::timeout(GRACE, rest).await;
}

// === impl Guarded ===

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

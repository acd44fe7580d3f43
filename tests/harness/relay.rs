//! Passes connections on from one network namespace to another, as they come.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::namespace::Namespace;

/// A listener whose connections are made again elsewhere; all of them end when it is dropped.
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
    open: Open,
    acceptor: Option<JoinHandle<()>>,
}

/// Both ends of all connections so far.
type Open = Arc<Mutex<Vec<TcpStream>>>;

/// How long the other end may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

/// Does `work` in a namespace, or on the machine's own network.
fn within<T: Send>(
    namespace: Option<&Namespace>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    match namespace {
        Some(namespace) => namespace.within(work),
        None => work(),
    }
}

fn accept(listener: &TcpListener, port: u16, open: &Open) {
    // Ends when the listener is shut down.
    while let Ok((near, _)) = listener.accept() {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        let passed = TcpStream::connect_timeout(&target, CONNECT)
            .and_then(|far| pass(near.try_clone()?, far, open));
        if passed.is_err() {
            // Who has asked sees it by its connection's end.
            let _ = near.shutdown(Shutdown::Both);
        }
    }
}

/// Copies in both directions until one end closes.
fn pass(near: TcpStream, far: TcpStream, open: &Open) -> io::Result<()> {
    for (mut from, mut to) in [
        (near.try_clone()?, far.try_clone()?),
        (far.try_clone()?, near.try_clone()?),
    ] {
        thread::spawn(move || {
            // An error is an end too.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    open.extend([near, far]);
    Ok(())
}

// === impl Relay ===

impl Relay {
    /// Listens on `port` of 127.0.0.1 in `near` (of the machine itself without one; any port that
    /// is free there if it is 0), and connects to the same port of 127.0.0.1 in `far`.
    pub fn start(near: Option<&Namespace>, port: u16, far: Option<&Namespace>) -> Result<Self> {
        let listener = within(near, || {
            TcpListener::bind(("127.0.0.1", port)).context("listen for a relay")
        })?;
        let port = listener.local_addr()?.port();
        let (accepting, open) = (listener.try_clone()?, Open::default());
        let connections = Arc::clone(&open);
        // Threads live in the namespace of the one that starts them.
        let acceptor = within(far, || {
            Ok(thread::spawn(move || {
                accept(&accepting, port, &connections)
            }))
        })?;
        Ok(Self {
            listener,
            open,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("ask for an address")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Ok(listener) = self.listener.try_clone() {
            // Only streams have this in the standard library; it ends a wait for connections.
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.iter() {
            // It may have ended before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

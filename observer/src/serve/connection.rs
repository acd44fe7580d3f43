//! Connections of clients: as [`listen`] has them, with words for those that there is no room for.

use std::sync::{Arc, atomic::Ordering};

use tokio::net::TcpListener;

use super::{Hub, Shared};
use crate::listen::{self, Events, Options};

/// As far as it gets: the request is not read first.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-length: 21\r\n\r\ntoo many connections\n";

/// Serves until `shutdown` is done, then lets answers end for a short while.
pub async fn run(listener: TcpListener, hub: Hub, shutdown: impl Future<Output = ()>) {
    let config = &hub.shared.config;
    let options = Options {
        connections: config.connections,
        head_timeout: config.head_timeout,
        stall_timeout: config.stall_timeout,
        refusal: REFUSAL,
    };
    let events: Arc<dyn Events> = hub.shared.clone();
    let stop = hub.shared.stop.subscribe();
    let served = listen::run(listener, None, hub.router(), options, events, stop);
    let stopping = async {
        shutdown.await;
        hub.shared.stop.send_replace(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = served => {}
        () = stopping => {}
    }
}

// === impl Shared ===

impl Events for Shared {
    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

//! Followers of a hub's stream that only count what they are sent: agents by the thousand.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{net::TcpStream, runtime::Runtime};

use crate::http;

/// Followers; gone when dropped.
#[derive(Debug)]
pub struct Followers {
    each: Vec<Arc<Counted>>,
    runtime: Option<Runtime>,
}

/// What one of them was sent.
#[derive(Debug, Default)]
struct Counted {
    bytes: AtomicU64,
    /// Bytes up to the first heartbeat, which follows the snapshot.
    snapshot: AtomicU64,
    /// Nanoseconds until then; 0 before.
    synced: AtomicU64,
    ended: AtomicBool,
}

/// The stream, by the version that is counted here.
const TARGET: &str = "/api/v1/cluster/stream?protocol=1";
/// Bytes before a message: whether it is deflated, and its length.
const PREFIX: usize = 5;
/// How a heartbeat starts: not deflated, and the key of its field.
const HEARTBEAT: u8 = 0x1a;

// === impl Followers ===

impl Followers {
    /// Starts so many, all at once.
    pub fn start(hub: SocketAddr, count: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("followers")
            .enable_all()
            .build()?;
        let begun = Instant::now();
        let each: Vec<Arc<Counted>> = (0..count).map(|_| Arc::default()).collect();
        for counted in &each {
            let counted = Arc::clone(counted);
            runtime.spawn(async move {
                // Nobody is told why: what counts is that it has ended.
                let _ = follow(hub, &counted, begun).await;
                counted.ended.store(true, Relaxed);
            });
        }
        Ok(Self {
            each,
            runtime: Some(runtime),
        })
    }

    /// How long each took until it knew everything, sorted, once all do.
    ///
    /// # Errors
    ///
    /// When a stream has ended.
    pub fn synced(&self) -> Result<Option<Vec<Duration>>> {
        let ended = self.each.iter().filter(|one| one.ended.load(Relaxed));
        let ended = ended.count();
        ensure!(ended == 0, "{ended} streams of the hub have ended");
        let times = self.each.iter().map(|one| one.synced.load(Relaxed));
        let mut times: Vec<u64> = times.collect();
        times.sort_unstable();
        let all = times.first().is_none_or(|first| *first > 0);
        Ok(all.then(|| times.into_iter().map(Duration::from_nanos).collect()))
    }

    /// Bytes that each was sent.
    pub fn bytes(&self) -> Vec<u64> {
        let bytes = self.each.iter().map(|one| one.bytes.load(Relaxed));
        bytes.collect()
    }

    /// Bytes that each was sent until it knew everything.
    pub fn snapshots(&self) -> Vec<u64> {
        let bytes = self.each.iter().map(|one| one.snapshot.load(Relaxed));
        bytes.collect()
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Reads messages by their prefixes alone, until the stream ends.
async fn follow(hub: SocketAddr, counted: &Counted, begun: Instant) -> Result<()> {
    let stream = TcpStream::connect(hub).await?;
    // HTTP/1.0 has no chunks: what follows the head is messages.
    let request = format!("GET {TARGET} HTTP/1.0\r\nhost: hub\r\n\r\n");
    stream.writable().await?;
    let written = stream.try_write(request.as_bytes())?;
    ensure!(written == request.len(), "the request was cut");
    let mut received = Vec::new();
    let end = loop {
        read(&stream, &mut received).await?;
        if let Some(end) = http::end_of_head(&received) {
            break end;
        }
    };
    let head = String::from_utf8_lossy(received.get(..end).unwrap_or_default());
    ensure!(http::status_of(&head)? == 200, "{head}");
    received.drain(..end);
    let mut skip = 0;
    loop {
        let skipped = received.len().min(skip);
        received.drain(..skipped);
        skip -= skipped;
        while skip == 0
            && let [deflated, a, b, c, d, first, ..] = received[..]
        {
            let length = PREFIX + u32::from_be_bytes([a, b, c, d]) as usize;
            let bytes = counted.bytes.fetch_add(length as u64, Relaxed) + length as u64;
            if deflated == 0 && first == HEARTBEAT && counted.synced.load(Relaxed) == 0 {
                let time = u64::try_from(begun.elapsed().as_nanos()).context("a long time")?;
                counted.snapshot.store(bytes, Relaxed);
                counted.synced.store(time.max(1), Relaxed);
            }
            let skipped = received.len().min(length);
            received.drain(..skipped);
            skip = length - skipped;
        }
        read(&stream, &mut received).await?;
    }
}

async fn read(stream: &TcpStream, received: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => bail!("the hub ended the stream"),
            Ok(length) => {
                received.extend_from_slice(buffer.get(..length).unwrap_or_default());
                return Ok(());
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

//! The runtime's end: batches of what waits, and metrics by the clock, each on its own way.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use tokio::{sync::watch, time::Instant};

use super::{
    Settings,
    about::About,
    otlp::{
        message::Message,
        retry::spread,
        sender::{Sender, changed},
    },
    queue::{Queue, weight::Weigh},
    status::{Dropped, Status},
};
use crate::{
    aggregate::snapshot::Snapshot,
    config::Signal,
    model::span::{Access, Span},
};

/// Sends what the outlet took, and metrics.
pub struct Exporter {
    spans: Arc<Queue<Span>>,
    accesses: Arc<Queue<Access>>,
    settings: watch::Receiver<Arc<Settings>>,
    status: Arc<Status>,
}

/// How our values become messages.
pub struct Encoders {
    /// Spans.
    pub traces: Encoder<[Span], ExportTraceServiceRequest>,
    /// Entries of the access log.
    pub logs: Encoder<[Access], ExportLogsServiceRequest>,
    /// Measures, in as many messages as their number needs; it remembers what it told before.
    pub metrics: Encoder<Snapshot, Vec<ExportMetricsServiceRequest>>,
}

/// How values become messages.
pub type Encoder<T, M> = Box<dyn FnMut(&T, &About) -> M + Send + 'static>;

/// An encoder, as the threads that make messages have it in turns.
type Shared<T, M> = Arc<Mutex<Encoder<T, M>>>;

/// What the ways of all signals have in common.
struct Way<'a, A> {
    signal: Signal,
    settings: watch::Receiver<Arc<Settings>>,
    status: Arc<Status>,
    about: &'a A,
    stopping: watch::Receiver<bool>,
}

/// How long sending what is left may take at the end.
const FLUSH: Duration = Duration::from_secs(5);

// === impl Exporter ===

impl Exporter {
    pub(super) fn new(
        (spans, accesses): (Arc<Queue<Span>>, Arc<Queue<Access>>),
        settings: watch::Receiver<Arc<Settings>>,
        status: Arc<Status>,
    ) -> Self {
        Self {
            spans,
            accesses,
            settings,
            status,
        }
    }

    /// What became of what was to be sent.
    pub const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Sends until `stop`, and then what is left, for five seconds at most.
    ///
    /// `snapshots` gives what is measured now, `None` when the pipeline has ended; `about` is what
    /// is known of this host now. What is left at the end is complete if the pipeline has ended
    /// before `stop`.
    pub async fn run_with<S, F, A>(
        self,
        encoders: Encoders,
        snapshots: S,
        about: A,
        stop: impl Future<Output = ()>,
    ) where
        S: Fn() -> F,
        F: Future<Output = Option<Snapshot>>,
        A: Fn() -> About,
    {
        let (stopped, stopping) = watch::channel(false);
        let way = |signal| Way {
            signal,
            settings: self.settings.clone(),
            status: Arc::clone(&self.status),
            about: &about,
            stopping: stopping.clone(),
        };
        let Encoders {
            traces,
            logs,
            metrics,
        } = encoders;
        let work = async {
            tokio::join!(
                way(Signal::Traces).items(&self.spans, traces),
                way(Signal::Logs).items(&self.accesses, logs),
                way(Signal::Metrics).metrics(metrics, &snapshots),
            )
        };
        let over = async {
            stop.await;
            // Nobody listens when all has ended already.
            let _ = stopped.send(true);
            tokio::time::sleep(FLUSH).await;
        };
        // Whatever is dropped with this is counted.
        tokio::select! {
            _ = work => {}
            () = over => {}
        }
        self.spans.clear(Dropped::Shutdown);
        self.accesses.clear(Dropped::Shutdown);
    }
}

// === impl Way ===

impl<A: Fn() -> About> Way<'_, A> {
    fn sender<M: Message>(&self) -> Sender<M> {
        let status = Arc::clone(&self.status);
        Sender::new(self.signal, self.settings.clone(), status)
    }

    /// Sends what is in a queue.
    async fn items<T, M>(mut self, queue: &Queue<T>, encoder: Encoder<[T], M>)
    where
        T: Weigh + Send + 'static,
        M: Message,
    {
        let encoder = Arc::new(Mutex::new(encoder));
        let mut sender = self.sender();
        loop {
            let delay = self.settings.borrow_and_update().batch_delay;
            if !sender.is_on() {
                queue.clear(Dropped::TurnedOff);
                tokio::select! {
                    () = changed(&mut self.settings) => continue,
                    () = ended(&mut self.stopping) => return,
                }
            }
            let batch = tokio::select! {
                batch = queue.batch(delay) => batch,
                () = changed(&mut self.settings) => continue,
                () = ended(&mut self.stopping) => break,
            };
            self.send(&mut sender, batch, &encoder).await;
        }
        loop {
            let batch = queue.take();
            if batch.is_empty() {
                return;
            }
            self.send(&mut sender, batch, &encoder).await;
        }
    }

    async fn send<T, M>(&self, sender: &mut Sender<M>, batch: Vec<T>, encoder: &Shared<[T], M>)
    where
        T: Send + 'static,
        M: Message,
    {
        let about = (self.about)();
        let items = batch.len() as u64;
        let encoder = Arc::clone(encoder);
        let make = move || {
            let mut encode = encoder.lock().unwrap_or_else(PoisonError::into_inner);
            encode(&batch, &about)
        };
        sender.send(items, make).await;
    }

    /// Sends what is measured, by the clock.
    async fn metrics<S, F>(
        mut self,
        encoder: Encoder<Snapshot, Vec<ExportMetricsServiceRequest>>,
        snapshots: &S,
    ) where
        S: Fn() -> F,
        F: Future<Output = Option<Snapshot>>,
    {
        let mut sender = self.sender();
        let encoder = Arc::new(Mutex::new(encoder));
        // Not all hosts at once.
        let mut next = Instant::now() + spread(self.settings.borrow().interval);
        loop {
            let interval = self.settings.borrow_and_update().interval;
            next = next.min(Instant::now() + interval);
            if !sender.is_on() {
                tokio::select! {
                    () = changed(&mut self.settings) => continue,
                    () = ended(&mut self.stopping) => return,
                }
            }
            let stops = tokio::select! {
                () = tokio::time::sleep_until(next) => false,
                () = changed(&mut self.settings) => continue,
                () = ended(&mut self.stopping) => true,
            };
            next = (next + interval).max(Instant::now());
            if let Some(snapshot) = snapshots().await {
                let about = (self.about)();
                let encoder = Arc::clone(&encoder);
                // This takes milliseconds, and the runtime has other things to do.
                let made = tokio::task::spawn_blocking(move || {
                    let mut encode = encoder.lock().unwrap_or_else(PoisonError::into_inner);
                    encode(&snapshot, &about)
                });
                for request in made.await.unwrap_or_default() {
                    sender.send(0, move || request).await;
                }
            }
            if stops {
                return;
            }
        }
    }
}

/// When it is time to end; whoever could say so and is gone has said so.
async fn ended(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stops| *stops).await;
}

#[cfg(test)]
mod tests;

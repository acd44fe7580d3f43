//! Where spans and entries of the access log go, and who sends them.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    config::{AccessTo, Config, Histograms, OtlpHistograms},
    export::{
        self, About, Encoders, Exporter, Outlet,
        access::{self, Sink, Target, Writer},
        otlp::{logs, metrics, traces},
    },
    model::{
        call::Call,
        span::{Access, Span},
        time::WallOffset,
        trace::{SpanId, TraceId},
    },
    serve,
    telemetry::health::{ExportState, Loss, Table},
};

/// The pipeline's end: takes what is to go out.
pub(super) struct Exports {
    outlet: Outlet,
    /// Where lines go, if they go anywhere.
    lines: Option<Sink>,
    access: AccessTo,
    about: Arc<About>,
    counts: Arc<Counts>,
}

/// The other end, until [`Sending::finish`].
pub(super) struct Sending {
    stop: oneshot::Sender<()>,
    exporter: JoinHandle<()>,
    writer: Option<Writer>,
}

/// What encoders lost.
#[derive(Debug, Default)]
struct Counts {
    /// Spans without a valid name, and series that were told without their past.
    lost: Mutex<(u64, u64)>,
}

/// Starts what sends on `runtime`; what is measured comes from `hub`.
///
/// # Errors
///
/// When the access log cannot be written.
pub(super) fn start(
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    hub: &serve::Hub,
) -> anyhow::Result<(Exports, Sending)> {
    let Config {
        kubernetes,
        access_log,
        otlp,
        ..
    } = config;
    let offset = hub.offset();
    let about = About::of_host(
        Path::new("/"),
        &kubernetes.cluster,
        &kubernetes.node,
        offset,
    );
    let about = Arc::new(about);
    let target = match access_log.to {
        AccessTo::None | AccessTo::Otlp => None,
        AccessTo::Stdout => Some(Target::Stdout),
        AccessTo::File => access_log.path.clone().map(|path| Target::File {
            path,
            max_bytes: access_log.max_bytes,
        }),
    };
    let log = target.map(access::start).transpose();
    let (lines, writer) = log.context("cannot start the access log")?.unzip();
    let counts = Arc::new(Counts::default());
    let (outlet, exporter) = export::channel(otlp);
    let (stop, stopped) = oneshot::channel();
    let exporter = runtime.spawn(send(
        exporter,
        encoders(config, offset, &counts),
        hub.clone(),
        about.clone(),
        stopped,
    ));
    let exports = Exports {
        outlet,
        lines,
        access: access_log.to,
        about,
        counts,
    };
    let sending = Sending {
        stop,
        exporter,
        writer,
    };
    Ok((exports, sending))
}

async fn send(
    exporter: Exporter,
    encoders: Encoders,
    hub: serve::Hub,
    about: Arc<About>,
    stopped: oneshot::Receiver<()>,
) {
    let clock = hub.clone();
    let snapshots = move || {
        let hub = hub.clone();
        async move { hub.snapshot().await.ok() }
    };
    let about = move || About {
        offset: clock.offset(),
        ..About::clone(&about)
    };
    let stop = async {
        // A sender that is gone means stop, too.
        let _ = stopped.await;
    };
    exporter.run_with(encoders, snapshots, about, stop).await;
}

/// How values become messages.
fn encoders(config: &Config, offset: WallOffset, counts: &Arc<Counts>) -> Encoders {
    let mut spans = traces::Encoder::new(config.otlp.span_metrics_skip);
    let mut entries = logs::Encoder::default();
    let settings = metrics::Settings {
        temporality: config.otlp.temporality,
        exponential: match config.otlp.histograms {
            OtlpHistograms::Auto => config.metrics.histograms == Histograms::Native,
            OtlpHistograms::Explicit => false,
            // Where none are kept, those that are there are told.
            OtlpHistograms::Exponential => config.metrics.histograms != Histograms::Classic,
        },
    };
    let started = offset.unix_nanoseconds(crate::capture::now());
    let mut measures = metrics::Encoder::new(settings, started);
    let (invalid, untracked) = (counts.clone(), counts.clone());
    Encoders {
        traces: Box::new(move |batch, about| {
            let request = spans.encode(batch, about);
            invalid.set(|counts| counts.0 = spans.invalid());
            request
        }),
        logs: Box::new(move |batch, about| entries.encode(batch, about)),
        metrics: Box::new(move |snapshot, about| {
            let requests = measures.encode(snapshot, about);
            untracked.set(|counts| counts.1 = measures.untracked());
            requests
        }),
    }
}

// === impl Exports ===

impl Exports {
    /// Whether spans go anywhere.
    pub(super) const fn wants_spans(&self) -> bool {
        self.outlet.wants_spans()
    }

    /// Whether a call is of our own sending, which is not exported.
    pub(super) fn is_own(&self, call: &Call) -> bool {
        self.outlet.is_own(call)
    }

    /// Takes all of `spans`.
    pub(super) fn spans(&mut self, spans: &mut Vec<Span>) {
        for span in spans.drain(..) {
            self.outlet.span(span);
        }
    }

    /// Takes an entry of the access log.
    pub(super) fn access(&mut self, call: &Call, span: Option<(TraceId, SpanId)>) {
        let access = Access {
            call: Box::new(call.clone()),
            span,
        };
        match &self.lines {
            Some(lines) => lines.push(access, &self.about),
            None if self.access == AccessTo::Otlp => self.outlet.access(access),
            None => {}
        }
    }

    pub(super) fn set_offset(&mut self, offset: WallOffset) {
        self.about = Arc::new(About {
            offset,
            ..About::clone(&self.about)
        });
    }

    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.outlet.reconfigure(&config.otlp);
    }

    pub(super) fn losses(&self) -> Vec<Loss> {
        let (invalid, untracked) = self.counts.get();
        let loss = |reason, count| Loss {
            stage: "export",
            reason,
            count,
        };
        let mut losses = self.outlet.status().losses();
        losses.push(loss("span_invalid", invalid));
        losses.push(loss("series_untracked", untracked));
        losses.extend(
            self.lines
                .iter()
                .flat_map(|lines| lines.counters().losses()),
        );
        losses
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        self.outlet.status().tables()
    }

    pub(super) fn states(&self) -> Vec<ExportState> {
        self.outlet.status().states()
    }
}

// === impl Sending ===

impl Sending {
    /// Sends what is left, for a few seconds at most; the pipeline has ended.
    pub(super) fn finish(self, runtime: &tokio::runtime::Runtime) {
        // An exporter that has ended needs no word.
        let _ = self.stop.send(());
        if runtime.block_on(self.exporter).is_err() {
            tracing::error!("the exporter stopped unexpectedly");
        }
        if let Some(writer) = self.writer {
            writer.finish();
        }
    }
}

// === impl Counts ===

impl Counts {
    fn set(&self, change: impl FnOnce(&mut (u64, u64))) {
        change(&mut self.lost.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn get(&self) -> (u64, u64) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

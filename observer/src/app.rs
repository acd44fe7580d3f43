//! The only wiring: builds the stages, connects them, drains them.

pub mod hub;
pub mod kubernetes;

mod announce;
mod cluster;
mod export;
mod ignored;
mod pipeline;
mod settings;

use std::{
    io::{IsTerminal as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use self::pipeline::{Order, Stages};
use crate::{
    capture::{self, Attachment, Capture},
    config::{Config, ConfigError, LogLevel},
    host, serve,
};

/// Observes this host until SIGTERM or SIGINT; `reload` reads the configuration again, for SIGHUP.
///
/// # Errors
///
/// When it cannot start: a busy port, no cgroup v2, missing privilege, an unsupported kernel.
pub fn run(config: Config, reload: impl Fn() -> Result<Config, ConfigError>) -> anyhow::Result<()> {
    log(config.log.level);
    // The port first: it is the cheapest thing to fail.
    let listener = TcpListener::bind(config.listen.address).with_context(|| {
        format!(
            "cannot listen on {} (choose another with --listen)",
            config.listen.address
        )
    })?;
    let address = listener
        .local_addr()
        .context("cannot tell the listening address")?;
    let cgroup = cgroup(config.cgroup.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .context("cannot start the server's runtime")?;
    // Before anything is attached: what is seen first may be of pods that are to be known.
    let cluster = runtime.block_on(cluster::start(&config))?;
    let capture = Capture::attach(&settings::capture(&config, &cgroup.observed))?;
    let (hub, answers) = serve::channel(serve::Config::default(), capture::wall_offset());
    announce(&cgroup.observed, capture.attachments(), address);

    let (orders, received) = mpsc::channel();
    let (exports, sending) = export::start(&config, &runtime, &hub)?;
    let ends = (hub.clone(), answers);
    let stages = Stages::new(&config, &cgroup, capture, cluster, exports, ends);
    let failed = Arc::new(AtomicBool::new(false));
    let pipeline = {
        let failed = Arc::clone(&failed);
        std::thread::Builder::new()
            .name("pipeline".to_owned())
            .spawn(move || {
                // Nothing is served that is not measured: a pipeline that ends ends the agent.
                let _guard = Failure(failed);
                stages.run(&received);
            })
            .context("cannot start the pipeline")?
    };
    hub.set_unready(Vec::new());
    let served = serve_until_stopped(&runtime, listener, hub, config, reload, &orders, &failed);
    // The pipeline may have ended already; then there is nobody to tell.
    let _ = orders.send(Order::Stop);
    let ended = pipeline.join();
    sending.finish(&runtime);
    served?;
    if ended.is_err() {
        anyhow::bail!("the pipeline stopped unexpectedly; what it said is above");
    }
    Ok(())
}

/// The cgroup that is observed, and the mount that it is in.
pub(crate) struct Cgroup {
    pub(crate) observed: PathBuf,
    pub(crate) root: PathBuf,
}

/// Loads and attaches the programs and lets them go again: what works, or why it does not.
///
/// # Errors
///
/// What [`run`] would say.
pub fn check(asked: Option<&Path>) -> Result<Vec<String>, String> {
    let cgroup = cgroup(asked).map_err(|error| format!("{error:#}"))?;
    let attachments = capture::check(&cgroup.observed).map_err(|error| format!("{error:#}"))?;
    Ok(attachments
        .iter()
        .map(|attachment| match &attachment.missing {
            None => attachment.gives.to_owned(),
            Some(why) => format!("without {} ({why})", attachment.gives),
        })
        .collect())
}

/// Says so when it is dropped in a panic.
struct Failure(Arc<AtomicBool>);

impl Drop for Failure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}

/// Finds the cgroup v2 mount, and checks that what was asked for is below one.
fn cgroup(asked: Option<&Path>) -> anyhow::Result<Cgroup> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .context("cannot read /proc/self/mountinfo")?;
    let mounts: Vec<PathBuf> = host::mounts(&table)
        .into_iter()
        .filter(|mount| mount.is_cgroup2)
        .map(|mount| mount.point)
        .collect();
    let first = mounts.first().context(
        "no cgroup v2 hierarchy is mounted: mount one, as with `mount -t cgroup2 none DIRECTORY`",
    )?;
    let Some(asked) = asked else {
        return Ok(Cgroup {
            observed: first.clone(),
            root: first.clone(),
        });
    };
    let observed = asked.canonicalize().with_context(|| {
        format!(
            "cannot open the cgroup {} (name a cgroup v2 directory with --cgroup)",
            asked.display()
        )
    })?;
    let root = mounts
        .iter()
        .filter(|mount| observed.starts_with(mount))
        .max_by_key(|mount| mount.as_os_str().len())
        .with_context(|| {
            format!(
                "{} is not below a cgroup v2 mount (found: {})",
                observed.display(),
                first.display()
            )
        })?;
    Ok(Cgroup {
        root: root.clone(),
        observed,
    })
}

/// Tells what was attached, what is missing and what that costs, and where the endpoints are.
fn announce(cgroup: &Path, attachments: &[Attachment], address: SocketAddr) {
    let mut text = format!("observing sockets below {}\n", cgroup.display());
    for Attachment {
        program,
        gives,
        missing,
    } in attachments
    {
        match missing {
            None => text += &format!("  attached  {program:<20} {gives}\n"),
            Some(why) => text += &format!("  missing   {program:<20} not seen: {gives} ({why})\n"),
        }
    }
    text += &format!(
        "listening on http://{address}: /metrics /livez /readyz /api/v1/flows /api/v1/services \
         /api/v1/graph\n\
         look with `observer flows --follow`, `observer top` and `observer graph`\n"
    );
    let mut out = std::io::stdout().lock();
    // Nobody has to read it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn serve_until_stopped(
    runtime: &tokio::runtime::Runtime,
    listener: TcpListener,
    hub: serve::Hub,
    mut config: Config,
    reload: impl Fn() -> Result<Config, ConfigError>,
    orders: &mpsc::Sender<Order>,
    failed: &AtomicBool,
) -> anyhow::Result<()> {
    listener
        .set_nonblocking(true)
        .context("cannot make the listener non-blocking")?;
    runtime.block_on(async {
        let listener =
            tokio::net::TcpListener::from_std(listener).context("cannot serve the listener")?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve::run(listener, hub, async move {
            // A sender that is gone means stop, too.
            let _ = stopped.await;
        }));
        let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot await SIGHUP")?;
        let mut pulse = tokio::time::interval(std::time::Duration::from_millis(500));
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => take_over(&mut config, &reload, orders),
                _ = pulse.tick() => {
                    if failed.load(Ordering::Acquire) {
                        break;
                    }
                }
            }
        }
        drop(stop);
        server.await.context("the server stopped unexpectedly")
    })
}

/// Reads the configuration again and hands on what may change while we run.
fn take_over(
    config: &mut Config,
    reload: &impl Fn() -> Result<Config, ConfigError>,
    orders: &mpsc::Sender<Order>,
) {
    let new = match reload() {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "the configuration was not reloaded; the old one stays");
            return;
        }
    };
    for key in config.reloadable_difference(&new) {
        tracing::warn!(
            key,
            "this setting changed, and takes effect with a restart only"
        );
    }
    *config = config.reloaded(new);
    // A pipeline that has ended ends the agent by itself.
    let _ = orders.send(Order::Configure(Box::new(config.clone())));
    tracing::info!("the configuration was reloaded");
}

fn log(level: LogLevel) {
    // A second run in one process, as in tests, keeps the first logger.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level.as_str()))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}

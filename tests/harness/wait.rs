//! Waiting for something to become true, for a bounded time.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long things that should happen soon may take on a busy machine. Only what fails waits that long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The longest that what takes a part of a second may take on a busy machine.
pub const PROMPT: Duration = Duration::from_secs(10);

/// How long to wait for something that must not happen.
pub const SETTLE: Duration = Duration::from_millis(500);

/// Asks `probe` until it answers, at most `patience`; `what` names it in the error.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() > patience {
            bail!("waited {patience:?} for {what}");
        }
        sleep(Duration::from_millis(20));
    }
}

//! The only wiring: builds the stages, connects them, drains them.

use crate::{capture::object, config::Config};

/// Observes this host until it is told to stop.
pub fn run(config: Config) -> anyhow::Result<()> {
    let _object = object::embedded().map_err(anyhow::Error::msg)?;
    anyhow::bail!(
        "the agent is not wired yet; it would listen on {}",
        config.listen.address
    )
}

//! `cargo xtask manifests`: `deploy/kubernetes`, as the chart renders it.

use std::fs;

use anyhow::{Context, Result, bail};
use observer_tests::chart;

use crate::workspace::{root, say, write_if_different};

/// Options of `manifests`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fail if they are not as the chart renders them, and change nothing
    #[arg(long)]
    check: bool,
}

/// Renders the chart and writes what differs.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = root().join(chart::MANIFESTS);
    let manifests = chart::manifests()?;
    if options.check {
        for (name, content) in &manifests {
            let path = folder.join(name);
            if fs::read_to_string(&path).ok().as_ref() != Some(content) {
                bail!(
                    "{} is not what the chart renders: run `cargo xtask manifests`",
                    path.display()
                );
            }
        }
        return Ok(());
    }
    let mut changed = 0;
    for (name, content) in &manifests {
        changed += usize::from(write_if_different(&folder.join(name), content.as_bytes())?);
    }
    // What the chart no longer has goes.
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if !manifests.iter().any(|(known, _)| name == known.as_str()) {
            fs::remove_file(entry.path())
                .with_context(|| format!("remove {}", entry.path().display()))?;
            changed += 1;
        }
    }
    say(&format!("{changed} files changed in {}", folder.display()));
    Ok(())
}

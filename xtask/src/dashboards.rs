//! `cargo xtask dashboards`: dashboards, rules and provisioning of Grafana, from the metric contract.
//!
//! Every query is made of families of the contract ([`contract`]), so that a panel or a rule cannot
//! name a metric that there is not, and a label that the metric has not is an error when the files are
//! written. Dashboards and rules are in the chart's folder, as Helm reads files from there alone; the
//! provisioning of `deploy/grafana` refers to them.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{root, say, write_if_different};

mod boards;
mod contract;
mod grafana;
mod panel;
mod query;
mod rules;
mod yaml;

/// Options of `dashboards`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fail if they are not as the contract makes them, and change nothing
    #[arg(long)]
    check: bool,
}

/// Where dashboards are, below the root of the workspace.
const BOARDS: &str = "deploy/helm/observer/files/dashboards";

/// Where rules are.
const RULES: &str = "deploy/helm/observer/files/rules";

/// Where the provisioning of Grafana is.
const PROVISIONING: &str = "deploy/grafana/provisioning";

/// Writes what differs.
pub(crate) fn run(options: &Options) -> Result<()> {
    let files = files()?;
    if options.check {
        return check(&root(), &files);
    }
    let mut changed = 0;
    for (path, content) in &files {
        let path = root().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        changed += usize::from(write_if_different(&path, content.as_bytes())?);
    }
    for path in strangers(&root(), &files)? {
        fs::remove_file(root().join(&path)).with_context(|| format!("remove {path}"))?;
        changed += 1;
    }
    say(&format!("{changed} of {} files changed", files.len()));
    Ok(())
}

/// Fails if a file is not as it would be written, or is there and would not be.
fn check(root: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    for (path, content) in files {
        ensure!(
            fs::read_to_string(root.join(path)).ok().as_ref() == Some(content),
            "{path} is not what the contract makes: run `cargo xtask dashboards`"
        );
    }
    if let Some(path) = strangers(root, files)?.first() {
        bail!("{path} is not made any more: run `cargo xtask dashboards`");
    }
    Ok(())
}

/// Files in our folders that are not among `files`.
fn strangers(root: &Path, files: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in [BOARDS, RULES] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = format!("{folder}/{}", entry?.file_name().display());
            if !files.contains_key(&path) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// All files by path below the root of the workspace.
fn files() -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for board in boards::all() {
        let path = format!("{BOARDS}/{}.json", board.uid);
        let json = serde_json::to_string_pretty(&board.json()?)?;
        files.insert(path, format!("{json}\n"));
    }
    for file in rules::all() {
        let path = format!("{RULES}/{}.yaml", file.name);
        files.insert(path, yaml::generated(&file.json()?));
    }
    for (name, content) in grafana::provisioning()? {
        files.insert(format!("{PROVISIONING}/{name}"), yaml::generated(&content));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;

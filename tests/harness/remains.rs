//! What a process holds in the kernel, and whether it is gone after the process is.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    process,
    wait::{self, PATIENCE},
};

/// Ids of BPF objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Programs.
    pub programs: BTreeSet<u64>,
    /// Maps.
    pub maps: BTreeSet<u64>,
    /// Links.
    pub links: BTreeSet<u64>,
}

fn listed(kind: &str) -> Result<BTreeSet<u64>> {
    let list = process::check(Command::new("bpftool").args(["-j", kind, "list"]))?;
    let list: Value = serde_json::from_str(&list).context("read bpftool's list")?;
    let entries = list.as_array().into_iter().flatten();
    Ok(entries.filter_map(|entry| entry["id"].as_u64()).collect())
}

/// Ids of the programs attached to the cgroup directory `path`.
pub fn attached_to(path: &Path) -> Result<Vec<u64>> {
    // bpftool fails for a cgroup without programs.
    let output = process::run(
        Command::new("bpftool")
            .args(["-j", "cgroup", "list"])
            .arg(path),
    )?;
    let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let entries = list.as_array().into_iter().flatten();
    Ok(entries.filter_map(|entry| entry["id"].as_u64()).collect())
}

// === impl Remains ===

impl Remains {
    /// What process `id` holds by its descriptors.
    pub fn of(id: u32) -> Result<Self> {
        let mut remains = Self::default();
        for entry in fs::read_dir(format!("/proc/{id}/fdinfo")).context("list descriptors")? {
            // A descriptor may be closed between listing and reading.
            let Ok(text) = fs::read_to_string(entry?.path()) else {
                continue;
            };
            for line in text.lines() {
                let Some((name, value)) = line.split_once(':') else {
                    continue;
                };
                let set = match name {
                    "prog_id" => &mut remains.programs,
                    "map_id" => &mut remains.maps,
                    "link_id" => &mut remains.links,
                    _ => continue,
                };
                set.insert(value.trim().parse().context("read an id")?);
            }
        }
        Ok(remains)
    }

    /// Those of these that the kernel still has.
    pub fn left(&self) -> Result<Self> {
        let left = |own: &BTreeSet<u64>, kind| -> Result<BTreeSet<u64>> {
            Ok(own.intersection(&listed(kind)?).copied().collect())
        };
        Ok(Self {
            programs: left(&self.programs, "prog")?,
            maps: left(&self.maps, "map")?,
            links: left(&self.links, "link")?,
        })
    }

    /// Checks that none is left, or soon will be: the kernel frees them with a delay.
    pub fn expect_gone(&self) -> Result<()> {
        let gone = wait::until("BPF objects to go", PATIENCE, || {
            Ok((self.left()? == Self::default()).then_some(()))
        });
        ensure!(gone.is_ok(), "still in the kernel: {:?}", self.left()?);
        Ok(())
    }
}

//! `observer doctor`: what this host offers, what is missing, what that costs, what to do.

mod checks;
mod machine;

use std::{io, path::Path, process::ExitCode};

use serde::Serialize;

pub use checks::diagnose;
pub use machine::{Asked, Kubernetes, Machine, Network};

use super::arguments::{DoctorArguments, DoctorOutput};

/// Tries to load every kernel program and removes it again: the features that are on, or what the
/// kernel said against it.
pub type CaptureCheck = fn(Option<&Path>) -> Result<Vec<String>, String>;

/// Asks the API server and the hub as an agent with this configuration would: what came of it, or
/// what is wrong with the configuration.
pub type KubernetesCheck = fn(Option<&Path>) -> anyhow::Result<Kubernetes>;

/// Result of all checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether the core works: no check is [`State::Missing`].
    pub works: bool,
    /// The checks, the most important first.
    pub checks: Vec<Check>,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Name for programs; stable.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What it costs, unless all is well.
    pub cost: Option<String>,
    /// What to do about it, unless all is well.
    pub remedy: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, at a cost.
    Degraded,
    /// The core cannot work.
    Missing,
}

/// Looks at this machine, writes the report to `out`, and fails when the core cannot work.
pub fn run(
    arguments: &DoctorArguments,
    object_embedded: bool,
    capture_check: Option<CaptureCheck>,
    kubernetes_check: KubernetesCheck,
    out: &mut dyn io::Write,
) -> anyhow::Result<ExitCode> {
    let mut machine = Machine::gather(arguments.cgroup.as_deref());
    machine.object_embedded = object_embedded;
    if object_embedded {
        machine.load = capture_check.map(|check| check(arguments.cgroup.as_deref()));
    }
    machine.kubernetes = kubernetes_check(arguments.config.as_deref())?;
    let report = diagnose(&machine);
    match arguments.output {
        DoctorOutput::Text => write!(out, "{}", report.text())?,
        DoctorOutput::Json => {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(if report.works {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

// === impl Report ===

impl Report {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Check {
            name,
            state,
            found,
            cost,
            remedy,
        } in &self.checks
        {
            text += &format!("{:<9} {name:<20} {found}\n", state.as_str());
            for (label, line) in [("cost", cost), ("do", remedy)] {
                if let Some(line) = line {
                    text += &format!("{:<30} {label}: {line}\n", "");
                }
            }
        }
        text += if self.works {
            "\nThis host can be observed.\n"
        } else {
            "\nThis host cannot be observed until what is missing is there.\n"
        };
        text
    }
}

// === impl State ===

impl State {
    /// Name in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

#[cfg(test)]
mod tests;

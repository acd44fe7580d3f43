//! Why capture cannot work, said so that somebody can do something about it.

use std::{io, path::PathBuf};

use aya::programs::ProgramError;

/// Why capture cannot work here.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The binary has no kernel programs.
    #[error("{0}")]
    NotBuilt(&'static str),
    /// The cgroup cannot be opened.
    #[error("cannot open the cgroup {path}: {source} (name a cgroup v2 directory with --cgroup)")]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused the object for want of privilege.
    #[error(
        "the kernel refused the programs ({detail}): CAP_BPF and CAP_NET_ADMIN are needed \
         (`observer doctor` tells what is missing)"
    )]
    Privilege {
        /// What it said.
        detail: String,
    },
    /// The object could not be loaded.
    #[error("cannot load the kernel programs: {0:#}")]
    Load(#[source] anyhow::Error),
    /// A program could not be loaded or attached.
    #[error("cannot {verb} the program {program}: {source:#}")]
    Program {
        /// `load` or `attach`.
        verb: &'static str,
        /// Its name.
        program: &'static str,
        /// Why.
        source: anyhow::Error,
    },
}

pub(super) fn load_error(error: aya::EbpfError) -> CaptureError {
    let detail = told(&anyhow::Error::new(error));
    if is_privilege(&detail) {
        CaptureError::Privilege { detail }
    } else {
        CaptureError::Load(anyhow::anyhow!(detail))
    }
}

pub(super) fn program_error(
    verb: &'static str,
    program: &'static str,
    error: ProgramError,
) -> CaptureError {
    let source = anyhow::Error::new(error);
    let detail = told(&source);
    if is_privilege(&detail) {
        CaptureError::Privilege {
            detail: format!("{verb} {program}: {detail}"),
        }
    } else {
        CaptureError::Program {
            verb,
            program,
            source,
        }
    }
}

/// An error and its causes, each said once: most errors of aya repeat their cause.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What an error says before it goes into the verifier's log.
pub(super) fn first_line(error: &CaptureError) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let end = line.find(" Verifier output").unwrap_or(line.len());
    line.get(..end).unwrap_or(line).to_owned()
}

fn is_privilege(detail: &str) -> bool {
    // EPERM is want of privilege; EACCES would be the verifier's no.
    detail.contains("Operation not permitted")
}

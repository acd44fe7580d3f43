//! The kernel's own accounting of BPF programs, switched on for a while.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace::say;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// While it is there, the kernel counts and times every run of a BPF program.
pub(super) struct Statistics {
    /// What the switch was before.
    before: String,
}

// === impl Statistics ===

impl Statistics {
    pub(super) fn enable() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("cannot read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.before) {
            let before = self.before.trim();
            say(&format!("cannot set {SWITCH} back to {before}: {error}"));
        }
    }
}

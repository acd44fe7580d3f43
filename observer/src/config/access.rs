//! The access log: which calls get an entry, and where entries go.

use std::{path::PathBuf, time::Duration};

/// The access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where entries go.
    pub to: AccessTo,
    /// File, absolute; there is one when entries go to a file.
    pub path: Option<PathBuf>,
    /// Size of the file after which it becomes the older one, and another is begun, bytes.
    pub max_bytes: u64,
    /// Which calls get an entry.
    pub only: AccessOnly,
    /// Part of the calls that did not fail that get one, 0 to 1.
    pub sampling: f64,
    /// A call that takes so long is slow.
    pub slow: Duration,
    /// Most entries a second, of calls that failed and of others each.
    pub per_second: u32,
}

/// Where entries go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessTo {
    /// There are none.
    #[default]
    None,
    /// To the standard output, as lines of JSON.
    Stdout,
    /// To a file, as lines of JSON.
    File,
    /// To where OTLP goes, as log records.
    Otlp,
}

/// Which calls get an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessOnly {
    /// All.
    #[default]
    All,
    /// Those that failed.
    Failed,
    /// Those that were slow, and those that failed.
    Slow,
}

// === impl AccessLog ===

impl AccessLog {
    /// Key and problem of what does not go together; `None` when all does.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let missing = self.to == AccessTo::File && self.path.is_none();
        missing.then_some((
            "access_log.path",
            "is not set, but `access_log.to` is `file`: name the file",
        ))
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            to: AccessTo::None,
            path: None,
            max_bytes: 64 << 20,
            only: AccessOnly::All,
            sampling: 1.0,
            slow: Duration::from_secs(1),
            per_second: 1_000,
        }
    }
}

// === impl AccessTo ===

impl AccessTo {
    /// Name in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stdout => "stdout",
            Self::File => "file",
            Self::Otlp => "otlp",
        }
    }
}

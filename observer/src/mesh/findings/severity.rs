//! How bad findings are.

/// How bad a finding is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// What is declared to protect does not.
    Critical,
    /// Something is broken, or unprotected.
    High,
    /// Something is not as declared.
    Medium,
    /// Something could be better.
    Low,
    /// Something to know.
    Info,
}

// === impl Severity ===

impl Severity {
    /// All, the worst first.
    pub const ALL: [Self; 5] = [
        Self::Critical,
        Self::High,
        Self::Medium,
        Self::Low,
        Self::Info,
    ];

    /// Name in JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Info => "info",
        }
    }

    /// By its name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|severity| severity.as_str() == name)
    }

    /// Place of a name among the worst, from 0; names that are none come last.
    pub fn rank(name: &str) -> usize {
        Self::of(name).map_or(Self::ALL.len(), |severity| severity as usize)
    }
}

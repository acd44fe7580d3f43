//! What the log says of a collector that does not take telemetry: a line once in a while.

use std::time::{Duration, Instant};

use crate::config::Signal;

/// When something was said, and how often it could have been since.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    said: Option<Instant>,
    unsaid: u64,
    /// That it is over is worth a line.
    told: bool,
}

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(60);

// === impl Complaint ===

impl Complaint {
    /// Something is wrong.
    pub(super) fn tell(&mut self, (signal, collector): (Signal, &str), why: &str, what: &str) {
        if !self.is_due(Instant::now()) {
            tracing::debug!(signal = signal.as_str(), why, "{what}");
            return;
        }
        tracing::warn!(
            signal = signal.as_str(),
            collector,
            why,
            unsaid = std::mem::take(&mut self.unsaid),
            "{what}"
        );
    }

    /// All is well again.
    pub(super) fn over(&mut self, (signal, collector): (Signal, &str)) {
        if std::mem::take(&mut self.told) {
            let signal = signal.as_str();
            tracing::info!(signal, collector, "the collector takes telemetry");
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = self
            .said
            .is_none_or(|said| now.saturating_duration_since(said) >= PAUSE);
        if due {
            self.said = Some(now);
            self.told = true;
        } else {
            self.unsaid += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_minute_is_enough() {
        let start = Instant::now();
        let mut complaint = Complaint::default();
        let lines =
            (0..120).filter(|second| complaint.is_due(start + Duration::from_secs(*second)));
        assert_eq!(lines.count(), 2);
        assert_eq!(complaint.unsaid, 118);
    }
}

//! What became of telemetry that was sent, as series.

use crate::telemetry::health::ExportState;

use super::{Builder, Series, Value, contract, labels};

/// What a series of a signal tells.
type Count = fn(&ExportState) -> u64;

// === impl Builder ===

impl Builder {
    /// State of the signals that are sent.
    pub(super) fn export(&mut self, states: &[ExportState]) {
        let series =
            |state: &ExportState, value| Series::new(&labels([("signal", state.signal)]), value);
        let integers: [(_, Count); 9] = [
            (&contract::EXPORT_SENT, |state| state.sent),
            (&contract::EXPORT_REJECTED, |state| state.rejected),
            (&contract::EXPORT_DROPPED, |state| state.dropped),
            (&contract::EXPORT_QUEUE_ITEMS, |state| state.queued_items),
            (&contract::EXPORT_QUEUE_BYTES, |state| state.queued_bytes),
            (&contract::EXPORT_REQUESTS, |state| state.requests),
            (&contract::EXPORT_FAILURES, |state| state.failures),
            (&contract::EXPORT_RETRIES, |state| state.retries),
            (&contract::EXPORT_BYTES, |state| state.request_bytes),
        ];
        for (family, value) in integers {
            let states = states.iter();
            self.add(
                family,
                states.map(|state| series(state, Value::Integer(value(state)))),
            );
        }
        let seconds = states.iter();
        self.add(
            &contract::EXPORT_SECONDS,
            seconds.map(|state| series(state, Value::Float(state.request_seconds))),
        );
        let ages = states.iter();
        self.add(
            &contract::EXPORT_AGE,
            ages.filter_map(|state| Some(series(state, Value::Float(state.age_seconds?)))),
        );
    }
}

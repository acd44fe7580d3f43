//! What the assembler lost, or could not understand.

use crate::telemetry::health::Loss;

/// What was lost or could not be understood, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that did not fit into the table.
    pub table_full: u64,
    /// Records of connections that are not in the table.
    pub unknown_connection: u64,
    /// Streams whose order was lost because bytes are missing.
    pub gaps: u64,
    /// Connections that stopped being what they were: HTTP, or TLS.
    pub broken: u64,
    /// Responses that no request asked for.
    pub unpaired: u64,
    /// Early segments that found no room.
    pub parking_full: u64,
    /// Connections that were given up because more requests waited than fit, and streams of HTTP/2
    /// that were not followed because there were too many.
    pub pipeline_full: u64,
    /// Connections whose order was given up to free memory.
    pub memory_full: u64,
    /// Handshake payload whose connection did not come.
    pub orphaned: u64,
    /// Connections whose end was never seen.
    pub expired: u64,
    /// Writes to a server whose cause was known and whose request was not.
    pub causes_unmatched: u64,
    /// Connections that looked like HTTP at first and are not; not a loss.
    pub not_http: u64,
}

// === impl Counters ===

impl Counters {
    /// What of it is a loss, by reason.
    pub(super) fn losses(&self) -> [Loss; 11] {
        let Counters {
            table_full,
            unknown_connection,
            gaps,
            broken,
            unpaired,
            parking_full,
            pipeline_full,
            memory_full,
            orphaned,
            expired,
            causes_unmatched,
            not_http: _,
        } = *self;
        [
            ("table_full", table_full),
            ("unknown_connection", unknown_connection),
            ("gap", gaps),
            ("broken", broken),
            ("unpaired", unpaired),
            ("parking_full", parking_full),
            ("pipeline_full", pipeline_full),
            ("memory_full", memory_full),
            ("orphaned_handshake_data", orphaned),
            ("end_not_seen", expired),
            ("cause_unmatched", causes_unmatched),
        ]
        .map(|(reason, count)| Loss {
            stage: "assemble",
            reason,
            count,
        })
    }
}

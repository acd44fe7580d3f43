//! Findings of several reports.

use super::{join_reasons, join_samples};
use crate::mesh::{
    findings::Severity,
    report::{Finding, Party, Reason, Word},
};

/// Id, whom it is about, who is at the other end, port, and what else tells two apart.
pub(super) type Key = (Word, Party, Option<Party>, u16, String);

/// What tells findings apart.
pub(super) fn key(finding: &Finding) -> Key {
    (
        finding.id,
        finding.workload.clone(),
        finding.peer.clone(),
        finding.port,
        finding.about.clone(),
    )
}

/// Adds what another report says of the same finding: counts are those of all agents that found it.
pub(super) fn join(own: &mut Finding, other: Finding) {
    let Finding {
        id: _,
        name: _,
        severity,
        workload: _,
        peer: _,
        port: _,
        about: _,
        summary,
        advice: _,
        because,
        count,
        first_seen,
        last_seen,
        samples,
        see: _,
    } = other;
    if Severity::rank(severity) < Severity::rank(own.severity) {
        own.severity = severity;
    }
    let mut because = because;
    if summary != own.summary {
        // One is told, and the others become part of why.
        let (told, other) = match summary < own.summary {
            true => (summary, std::mem::take(&mut own.summary)),
            false => (std::mem::take(&mut own.summary), summary),
        };
        own.summary = told;
        because.push(Reason {
            object: None,
            text: other,
        });
    }
    join_reasons(&mut own.because, because);
    own.count = own.count.saturating_add(count);
    own.first_seen = own.first_seen.min(first_seen);
    own.last_seen = own.last_seen.max(last_seen);
    join_samples(&mut own.samples, samples);
}

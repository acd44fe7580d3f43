//! Raises findings, and closes those that are no more so.

use super::{
    edge::Shown,
    judge::{About, Case, Check},
};
use crate::{
    mesh::findings::{Findings, Key, KeyRef, QUIET, Samples, between},
    model::time::Monotonic,
};

/// Which findings of an edge are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Those that do not hold, after a while.
    Later,
    /// Those that do not hold.
    AtOnce,
    /// All: what is declared is another, and what was found is to be found again.
    All,
}

/// What became of a finding.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// The edge showed it, or another between the same two did.
    Shown(Shown),
    /// It is closed.
    Ended,
}

/// When an edge is judged, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judging {
    /// Least that it takes.
    pub(super) minimum: u64,
    pub(super) closing: Closing,
    pub(super) now: Monotonic,
}

/// Raises a finding, or closes it. `last` is when the edge last showed it.
pub(super) fn check(
    check: &Check,
    case: &Case<'_>,
    last: Option<Shown>,
    findings: &mut Findings,
    judging: Judging,
) -> Option<Outcome> {
    let Judging {
        minimum,
        closing,
        now,
    } = judging;
    let pending = &case.edge.pending;
    let judgeable = case.edge.judgeable();
    let enough = judgeable >= minimum;
    let holds = (check.holds)(case);
    if holds && enough {
        let signs = (check.signs)(case);
        let new = pending.counts.sum(signs);
        let times = case.edge.since.sum(signs);
        if new > 0 && times >= check.at_least {
            let mut samples = Samples::default();
            for sample in pending.samples(signs) {
                samples.push(sample.clone());
            }
            // It was judged when there was enough of it.
            let first = samples.iter().map(|sample| sample.at).min();
            findings.raise(key(check, case), now, new, &samples, (check.say)(case));
            findings.began(&key_ref(check, case), first.unwrap_or(now));
            return Some(Outcome::Shown(Shown {
                at: now,
                between: between(times, judgeable),
                of: judgeable,
            }));
        }
    }
    if findings.is_empty() {
        return None;
    }
    let key = key_ref(check, case);
    if holds && closing != Closing::All {
        let Some(open) = findings.get(&key) else {
            return last.map(|_| Outcome::Ended);
        };
        return match last {
            Some(last) if open.last <= last.at => {
                let over = last.is_over(judgeable, minimum, now) && open.is_quiet(now);
                over.then(|| {
                    findings.close(&key);
                    Outcome::Ended
                })
            }
            // Another edge between the same two showed it, as before the client got a proxy.
            last => Some(Outcome::Shown(Shown {
                at: open.last,
                between: last.map_or(1, |last| last.between),
                of: judgeable,
            })),
        };
    }
    // Other pods of the same workload may raise it, where nothing that it depends on has changed.
    let stays = findings
        .get(&key)
        .is_some_and(|open| closing == Closing::Later && now.since(open.last) < QUIET);
    if stays {
        return None;
    }
    findings.close(&key);
    last.map(|_| Outcome::Ended)
}

fn key(check: &Check, case: &Case<'_>) -> Key {
    let (client, server) = (case.client, case.server);
    let (workload, peer, port) = match check.about {
        About::Server => (&server.party, Some(&client.party), case.edge.key.port),
        About::Client => (&client.party, Some(&server.party), case.edge.key.port),
        About::ServerAlone => (&server.party, None, 0),
        About::ClientAlone => (&client.party, None, 0),
    };
    Key {
        id: check.id,
        workload: workload.clone(),
        peer: peer.cloned(),
        port,
        about: "".into(),
    }
}

fn key_ref<'a>(check: &Check, case: &Case<'a>) -> KeyRef<'a> {
    let (client, server) = (case.client, case.server);
    let (workload, peer, port) = match check.about {
        About::Server => (server, Some(&*client.party), case.edge.key.port),
        About::Client => (client, Some(&*server.party), case.edge.key.port),
        About::ServerAlone => (server, None, 0),
        About::ClientAlone => (client, None, 0),
    };
    KeyRef {
        id: check.id,
        workload: &workload.party,
        peer,
        port,
        about: "",
    }
}

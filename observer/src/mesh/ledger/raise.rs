//! Raises findings, and closes those that are no more so.

use std::time::Duration;

use super::{
    edge::{Sign, Signs},
    judge::{About, Case, Check},
};
use crate::{
    mesh::findings::{Findings, Key, KeyRef, Samples},
    model::time::Monotonic,
};

/// How long a finding stays open that does not hold of an edge, when nothing that it depends on has
/// changed: other pods of the same workload may raise it.
const LINGER: Duration = Duration::from_secs(900);

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

/// Raises a finding, or closes it.
pub(super) fn check(
    check: &Check,
    case: &Case<'_>,
    findings: &mut Findings,
    enough: bool,
    closing: Closing,
    now: Monotonic,
) {
    let pending = &case.edge.pending;
    let holds = (check.holds)(case);
    if holds && enough {
        let signs = (check.signs)(case);
        let count =
            |signs: &[Sign], of: &Signs| signs.iter().map(|sign| of.get(*sign)).sum::<u64>();
        let new = count(signs, &pending.counts);
        if new > 0 && count(signs, &case.edge.since) >= check.at_least {
            let mut samples = Samples::default();
            for sample in pending.samples(signs) {
                samples.push(sample.clone());
            }
            findings.raise(key(check, case), now, new, &samples, (check.say)(case));
            return;
        }
    }
    if findings.is_empty() || (holds && closing != Closing::All) {
        return;
    }
    let key = key_ref(check, case);
    let stays = findings
        .get(&key)
        .is_some_and(|open| closing == Closing::Later && now.since(open.last) < LINGER);
    if !stays {
        findings.close(&key);
    }
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

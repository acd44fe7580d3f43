//! What pods of a mesh reach outside of the cluster.

use std::sync::Arc;

use super::{evidence::Evidence, host, party::Who, places::Places, routes::Judge};
use crate::{
    mesh::{
        decision::{Decision, Egress, Reason},
        findings::{Findings, Id, Key, Saying, Severity},
    },
    model::{policy::PolicyKind, time::Monotonic},
};

/// A client, and a host outside: its name, or else its address.
pub(super) type OutsideKey = (Who, Box<str>);

/// What was seen of it.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// Last request or connection.
    pub(super) last: Monotonic,
    /// How many.
    all: u64,
    /// Nobody declares it, and it may be reached.
    open: Evidence,
    /// It is refused, and was reached.
    reached: Evidence,
    /// It is refused, and was tried.
    tried: Evidence,
    /// A rule leads it through a gateway, and it was reached without.
    around: Evidence,
    because: Vec<Reason>,
}

/// Hosts outside.
pub(super) type Outsides = Places<OutsideKey, Outside>;

/// The name of a host outside: what was asked for, unless that is an address; `None` when only an
/// address is known that may be anybody's.
pub(super) fn name<'a>(asked: &'a str, looked_up: Option<&'a str>) -> Option<&'a str> {
    let named = |name: &&str| {
        !name.is_empty() && name.contains('.') && name.parse::<std::net::IpAddr>().is_err()
    };
    let asked = Some(host::without_port(asked)).filter(named);
    asked.or(looked_up.filter(named))
}

/// Whether a destination is refused by its address, rather than for having no name.
pub(super) fn by_address(decision: &Decision<Egress>) -> bool {
    let mut objects = decision
        .because
        .iter()
        .filter_map(|why| why.object.as_ref());
    decision.value == Egress::Closed
        && objects.any(|object| *object.kind == *PolicyKind::EgressNetwork.as_str())
}

// === impl Outside ===

impl Outside {
    /// Takes a request or connection, and what is declared for it. Where to put what shows it;
    /// `None` when all is well.
    pub(super) fn take(
        &mut self,
        decision: &Decision<Egress>,
        reached: bool,
        now: Monotonic,
    ) -> Option<&mut Evidence> {
        self.last = now;
        self.all += 1;
        let evidence = match (&decision.value, reached) {
            (Egress::Open, true) => &mut self.open,
            (Egress::Closed, true) => &mut self.reached,
            (Egress::Closed, false) => &mut self.tried,
            _ => return None,
        };
        decision.because.clone_into(&mut self.because);
        Some(evidence.of(self.all))
    }

    /// A connection of the client's proxy leads there.
    pub(super) fn connected(&mut self, now: Monotonic) {
        self.last = now;
        self.all += 1;
    }

    /// It was reached directly, though a rule leads there through a gateway. Where to put what shows it.
    pub(super) fn passed_by(&mut self, because: &Arc<[Reason]>) -> &mut Evidence {
        self.around.of(self.all).by(because)
    }

    fn judge(&self, into: &mut Findings, judge: Judge, key: &OutsideKey, declared: bool) {
        let (who, host) = key;
        let fresh = |evidence: &Evidence| evidence.stands(judge, self.all);
        let mut raise = |evidence: &Evidence, what: &str, summary, severity| {
            let key = Key {
                id: Id::M28,
                workload: who.party().clone(),
                peer: None,
                port: 0,
                about: format!("{host} {what}").into(),
            };
            let because = self.because.clone();
            let saying = Saying {
                summary,
                because,
                severity,
            };
            evidence.raise(into, key, saying);
        };
        let words = who.words();
        if fresh(&self.reached) {
            let summary = format!(
                "{words} reached {host} {} times, which policy refuses.",
                self.reached.count
            );
            raise(&self.reached, "reached", summary, None);
        }
        if fresh(&self.tried) && self.tried.count >= judge.minimum {
            let summary = format!(
                "{words} tried to reach {host} {} times and was refused, as policy says.",
                self.tried.count
            );
            raise(&self.tried, "refused", summary, Some(Severity::Medium));
        }
        // Where nobody declares anything outside, everything there is undeclared.
        if declared && fresh(&self.open) && self.open.count >= judge.minimum {
            let summary = format!(
                "{words} reached {host} {} times, which no object declares.",
                self.open.count
            );
            raise(&self.open, "undeclared", summary, Some(Severity::Low));
        }
        if fresh(&self.around) && self.around.count >= judge.minimum {
            let key = Key {
                id: Id::M28,
                workload: who.party().clone(),
                peer: None,
                port: 0,
                about: format!("{host} gateway").into(),
            };
            let saying = Saying {
                summary: format!(
                    "{words} reached {host} {} times directly, where a route leads through a gateway of the cluster.",
                    self.around.count
                ),
                because: self.around.because.to_vec(),
                severity: None,
            };
            self.around.raise(into, key, saying);
        }
    }
}

/// What is not as declared. `declared` says that objects declare hosts outside at all.
pub(super) fn judge(outsides: &Outsides, into: &mut Findings, judge: Judge, declared: bool) {
    for (key, outside) in outsides.iter() {
        outside.judge(into, judge, key, declared);
    }
}

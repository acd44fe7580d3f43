//! The last flows, as they are: rendered only when somebody asks.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use crate::model::{
    call::{Call, LinkEvent},
    connection::ConnectionId,
    datagram::Conversation,
    lookup::Resolution,
    mesh::{DeclaredMtls, RouteMatch, Verdict},
};

/// One flow, numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Rises by one with every flow, from 1.
    pub sequence: u64,
    /// What happened.
    pub event: FlowEvent,
    /// What is declared of it; `None` where nobody judges.
    pub judgement: Option<Judgement>,
}

/// What is declared of a call or connection in a mesh, and whether that is what was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What of mutual TLS is declared.
    pub declared: DeclaredMtls,
    /// Whether what was seen is that.
    pub verdict: Verdict,
    /// The declared rule that the call matched.
    pub route: Option<Arc<RouteMatch>>,
}

/// What a flow tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// A call ended.
    Call(Call),
    /// A connection was opened, recognised, closed or failed; never [`LinkEvent::Progress`].
    Link(LinkEvent),
    /// A lookup ended.
    Lookup(Resolution),
    /// Datagrams between a socket and a peer are over.
    Datagrams(Conversation),
}

/// The last flows, oldest first, at most `limit`.
#[derive(Debug)]
pub struct History {
    flows: VecDeque<Flow>,
    limit: usize,
    ratio: f64,
    /// Share of calls and the like that is due: one is kept whenever it reaches 1.
    due: f64,
    sequence: u64,
}

// === impl History ===

impl History {
    /// Empty; `limit` is at least 1, `ratio` of the flows are kept.
    pub(super) fn new(limit: usize, ratio: f64) -> Self {
        Self {
            flows: VecDeque::new(),
            limit: limit.max(1),
            ratio,
            due: 0.0,
            sequence: 0,
        }
    }

    pub(super) fn reconfigure(&mut self, limit: usize, ratio: f64) {
        self.limit = limit.max(1);
        self.ratio = ratio;
        while self.flows.len() > self.limit {
            self.flows.pop_front();
        }
        self.flows.shrink_to(self.limit);
    }

    /// Keeps a call that is due or failed.
    pub(super) fn call(
        &mut self,
        call: &Call,
        judge: impl FnOnce() -> Option<Judgement>,
    ) -> Option<&Flow> {
        if !self.is_due() && call.error.is_none() {
            return None;
        }
        self.push(FlowEvent::Call(call.clone()), judge())
    }

    /// Keeps a lookup that is due or failed.
    pub(super) fn lookup(&mut self, resolution: &Resolution) -> Option<&Flow> {
        if !self.is_due() && resolution.lookup.error().is_none() {
            return None;
        }
        self.push(FlowEvent::Lookup(resolution.clone()), None)
    }

    /// Keeps datagrams that are due.
    pub(super) fn datagrams(&mut self, conversation: &Conversation) -> Option<&Flow> {
        if !self.is_due() {
            return None;
        }
        self.push(FlowEvent::Datagrams(conversation.clone()), None)
    }

    /// Keeps an event of a connection that is in the sample or failed.
    pub(super) fn link(
        &mut self,
        id: ConnectionId,
        event: &LinkEvent,
        judge: impl FnOnce() -> Option<Judgement>,
    ) -> Option<&Flow> {
        // By connection, so that one which was opened in sight is also closed in sight.
        let kept = self.ratio >= 1.0
            || matches!(event, LinkEvent::Failed { .. })
            || share(id) < self.ratio;
        if !kept {
            return None;
        }
        self.push(FlowEvent::Link(event.clone()), judge())
    }

    /// Whether the next flow is in the sample.
    fn is_due(&mut self) -> bool {
        self.due += self.ratio;
        let due = self.due >= 1.0;
        if due {
            self.due -= 1.0;
        }
        due
    }

    fn push(&mut self, event: FlowEvent, judgement: Option<Judgement>) -> Option<&Flow> {
        if self.flows.len() >= self.limit {
            self.flows.pop_front();
        }
        self.sequence += 1;
        self.flows.push_back(Flow {
            sequence: self.sequence,
            event,
            judgement,
        });
        self.flows.back()
    }

    /// The last `last` flows that `matches`, oldest first.
    pub fn last(&self, last: usize, matches: impl Fn(&Flow) -> bool) -> Vec<Flow> {
        let mut found: Vec<Flow> = self
            .flows
            .iter()
            .rev()
            .filter(|flow| matches(flow))
            .take(last)
            .cloned()
            .collect();
        found.reverse();
        found
    }

    /// Sequence of the newest flow; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Flows kept now.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Most flows kept.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

/// Where in 0..1 a connection falls, the same each time.
#[expect(clippy::cast_precision_loss, reason = "a share between 0 and 1")]
fn share(id: ConnectionId) -> f64 {
    let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
    hasher.write_u64(id.0);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::fixture;

    #[test]
    fn keeps_the_last() {
        let mut history = History::new(3, 1.0);
        for status in 200..210 {
            history.call(&fixture::call("web", "/", status), || None);
        }
        let sequences =
            |flows: Vec<Flow>| flows.iter().map(|flow| flow.sequence).collect::<Vec<_>>();
        assert_eq!(sequences(history.last(10, |_| true)), [8, 9, 10]);
        assert_eq!(sequences(history.last(2, |_| true)), [9, 10]);
        assert_eq!(sequences(history.last(1, |flow| flow.sequence < 9)), [8]);
        history.reconfigure(1, 1.0);
        assert_eq!(sequences(history.last(10, |_| true)), [10]);
    }

    #[test]
    fn a_ratio_keeps_its_share_and_every_failure() {
        let mut history = History::new(10_000, 0.25);
        let kept = (0..1_000).filter(|_| {
            history
                .call(&fixture::call("web", "/", 200), || None)
                .is_some()
        });
        assert_eq!(kept.count(), 250);
        let kept = (0..100).filter(|_| {
            history
                .call(&fixture::call("web", "/", 500), || None)
                .is_some()
        });
        assert_eq!(kept.count(), 100);
    }

    #[test]
    fn connections_are_kept_whole() {
        let mut history = History::new(100_000, 0.5);
        let mut kept = 0;
        for id in 0..2_000 {
            let link = fixture::link(id, "web");
            let opened = history
                .link(link.connection.id, &LinkEvent::Opened(link.clone()), || {
                    None
                })
                .is_some();
            let closed = history
                .link(link.connection.id, &fixture::closed(&link, 10), || None)
                .is_some();
            assert_eq!(opened, closed);
            kept += usize::from(opened);
        }
        assert!((800..1_200).contains(&kept), "{kept}");
    }
}

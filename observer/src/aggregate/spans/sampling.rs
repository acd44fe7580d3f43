//! Which spans are kept.
//!
//! A ratio is that of traces: it is decided by the last 56 bits of the trace's id, as
//! consistent probability sampling has it (OpenTelemetry, "TraceState: Probability Sampling"), so
//! that everybody who sees a part of a trace decides alike.

use std::time::Duration;

use crate::{
    config::{Glob, Sampler, Sampling as Settings, SamplingRule},
    model::{
        span::Kept,
        trace::{TraceContext, TraceId},
    },
};

/// How to choose, by service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sampling {
    rules: Vec<SamplingRule>,
    rest: Settings,
}

/// What is known when it is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) service: &'a str,
    pub(super) namespace: &'a str,
    pub(super) trace: TraceId,
    pub(super) context: Option<&'a TraceContext>,
    pub(super) failed: bool,
    pub(super) duration: Duration,
}

// === impl Sampling ===

impl Sampling {
    pub(super) fn new(rules: Vec<SamplingRule>, rest: Settings) -> Self {
        Self { rules, rest }
    }

    /// Whether a span is kept, and why.
    pub(super) fn decide(&self, candidate: &Candidate<'_>) -> Option<Kept> {
        let settings = self.of(candidate.service, candidate.namespace);
        let asked = candidate.context.and_then(|context| context.sampled);
        let sampled = match (settings.sampler, asked) {
            (Sampler::Always, _) => true,
            (Sampler::Never, _) => false,
            (Sampler::Parent, Some(sampled)) => sampled,
            (Sampler::Parent, None) | (Sampler::Ratio, _) => {
                is_in_share(candidate.trace, settings.ratio)
            }
        };
        if sampled {
            Some(Kept::Sampled)
        } else if candidate.failed && settings.keep_failed {
            Some(Kept::Failed)
        } else if settings
            .slower_than
            .is_some_and(|limit| candidate.duration > limit)
        {
            Some(Kept::Slow)
        } else {
            None
        }
    }

    fn of(&self, service: &str, namespace: &str) -> &Settings {
        let matches =
            |glob: &Option<Glob>, text: &str| glob.as_ref().is_none_or(|glob| glob.matches(text));
        let rule = self
            .rules
            .iter()
            .find(|rule| matches(&rule.service, service) && matches(&rule.namespace, namespace));
        rule.map_or(&self.rest, |rule| &rule.sampling)
    }
}

/// Whether a trace is in a share of all, 0 to 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of 2^56, which a float holds to 53 bits"
)]
fn is_in_share(trace: TraceId, ratio: f64) -> bool {
    const ALL: u64 = 1 << 56;
    let low = u128::from_be_bytes(trace.0) as u64 & (ALL - 1);
    let rejected = ((1.0 - ratio.clamp(0.0, 1.0)) * ALL as f64) as u64;
    low >= rejected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trace::{Propagation, SpanId};

    fn settings(sampler: Sampler, ratio: f64) -> Settings {
        Settings {
            sampler,
            ratio,
            keep_failed: false,
            slower_than: None,
        }
    }

    fn candidate(trace: u128) -> Candidate<'static> {
        Candidate {
            service: "web",
            namespace: "shop",
            trace: TraceId(trace.to_be_bytes()),
            context: None,
            failed: false,
            duration: Duration::from_millis(5),
        }
    }

    fn context(sampled: Option<bool>) -> TraceContext {
        TraceContext {
            propagation: Propagation::TraceContext,
            trace: TraceId([1; 16]),
            parent: Some(SpanId([2; 8])),
            sampled,
            state: "".into(),
        }
    }

    const HALF: u128 = 1 << 55;

    #[test]
    fn a_ratio_is_of_traces() {
        let half = Sampling::new(Vec::new(), settings(Sampler::Ratio, 0.5));
        assert_eq!(half.decide(&candidate(HALF)), Some(Kept::Sampled));
        assert_eq!(half.decide(&candidate(HALF - 1)), None);
        // The first 9 bytes do not matter.
        assert_eq!(half.decide(&candidate(u128::MAX << 56)), None);
        let all = Sampling::new(Vec::new(), settings(Sampler::Ratio, 1.0));
        assert_eq!(all.decide(&candidate(1)), Some(Kept::Sampled));
        let none = Sampling::new(Vec::new(), settings(Sampler::Ratio, 0.0));
        assert_eq!(none.decide(&candidate(u128::MAX)), None);
    }

    #[test]
    fn a_caller_decides_for_those_it_calls() {
        let parent = Sampling::new(Vec::new(), settings(Sampler::Parent, 0.0));
        let told = |sampled| {
            let context = context(sampled);
            parent.decide(&Candidate {
                context: Some(&context),
                ..candidate(1)
            })
        };
        assert_eq!(told(Some(true)), Some(Kept::Sampled));
        assert_eq!(told(Some(false)), None);
        assert_eq!(told(None), None);
        let always = Sampling::new(Vec::new(), settings(Sampler::Parent, 1.0));
        let context = context(Some(false));
        let refused = always.decide(&Candidate {
            context: Some(&context),
            ..candidate(1)
        });
        assert_eq!(refused, None, "not even a ratio of one overrules a caller");
    }

    #[test]
    fn what_failed_or_took_long_is_kept() {
        let never = Sampling::new(
            Vec::new(),
            Settings {
                keep_failed: true,
                slower_than: Some(Duration::from_secs(1)),
                ..settings(Sampler::Never, 1.0)
            },
        );
        assert_eq!(never.decide(&candidate(HALF)), None);
        let failed = Candidate {
            failed: true,
            ..candidate(HALF)
        };
        assert_eq!(never.decide(&failed), Some(Kept::Failed));
        let slow = Candidate {
            duration: Duration::from_millis(1_001),
            ..candidate(HALF)
        };
        assert_eq!(never.decide(&slow), Some(Kept::Slow));
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let glob = |text: &str| Some(Glob::new(text));
        let rule = |service, namespace, sampler| SamplingRule {
            service,
            namespace,
            sampling: settings(sampler, 1.0),
        };
        let sampling = Sampling::new(
            vec![
                rule(glob("web"), glob("other"), Sampler::Never),
                rule(glob("w*"), None, Sampler::Always),
                rule(None, glob("shop"), Sampler::Never),
            ],
            settings(Sampler::Always, 1.0),
        );
        assert_eq!(sampling.decide(&candidate(0)), Some(Kept::Sampled));
        let cart = Candidate {
            service: "cart",
            ..candidate(0)
        };
        assert_eq!(sampling.decide(&cart), None);
        let elsewhere = Candidate {
            service: "cart",
            namespace: "bank",
            ..candidate(0)
        };
        assert_eq!(sampling.decide(&elsewhere), Some(Kept::Sampled));
    }
}

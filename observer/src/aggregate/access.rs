//! Which calls get an entry in the access log.

use crate::{
    config::{AccessLog as Config, AccessOnly, AccessTo},
    model::{call::Call, time::Monotonic},
};

/// Chooses calls: those that failed, and a share of the others, within a rate.
#[derive(Debug)]
pub struct AccessLog {
    config: Config,
    /// Share of calls that is due: one is chosen whenever it reaches 1.
    due: f64,
    /// Of calls that failed, and of others: a flood of one does not displace the other.
    failed: Bucket,
    others: Bucket,
    limited: u64,
}

/// Entries that may be written at once, which come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled: Option<Monotonic>,
}

// === impl AccessLog ===

impl AccessLog {
    /// Chooses as `config` says.
    pub fn new(config: Config) -> Self {
        let full = Bucket {
            tokens: f64::from(config.per_second),
            filled: None,
        };
        Self {
            config,
            due: 0.0,
            failed: full,
            others: full,
            limited: 0,
        }
    }

    /// Chooses as `config` says from now on.
    pub fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// Calls that got no entry because there were too many in that second.
    pub const fn limited(&self) -> u64 {
        self.limited
    }

    /// Whether `call`, which ended, gets an entry. Sampling takes as many as its share says, and
    /// never leaves out a call that failed or was asked for because it was slow.
    pub fn wants(&mut self, call: &Call) -> bool {
        let Config {
            to,
            only,
            sampling,
            slow,
            per_second,
            ..
        } = self.config;
        if to == AccessTo::None {
            return false;
        }
        let failed = call.error.is_some();
        let chosen = failed
            || match only {
                AccessOnly::All => self.is_due(sampling),
                AccessOnly::Failed => false,
                AccessOnly::Slow => call.exchange.duration() >= slow,
            };
        if !chosen {
            return false;
        }
        let bucket = match failed {
            true => &mut self.failed,
            false => &mut self.others,
        };
        let taken = bucket.take(per_second, call.exchange.ended);
        if !taken {
            self.limited += 1;
        }
        taken
    }

    fn is_due(&mut self, ratio: f64) -> bool {
        self.due += ratio;
        let due = self.due >= 1.0;
        if due {
            self.due -= 1.0;
        }
        due
    }
}

// === impl Bucket ===

impl Bucket {
    /// Takes one of those that there are `rate` of each second, at most as many at once.
    fn take(&mut self, rate: u32, now: Monotonic) -> bool {
        let rate = f64::from(rate);
        let passed = self
            .filled
            .map_or(0.0, |filled| now.since(filled).as_secs_f64());
        // Calls need not come in the order of their ends.
        self.filled = self.filled.max(Some(now));
        self.tokens = (self.tokens + passed * rate).min(rate);
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::fixture::{SECOND, call};

    fn log(change: impl FnOnce(&mut Config)) -> AccessLog {
        let mut config = Config {
            to: AccessTo::Stdout,
            ..Config::default()
        };
        change(&mut config);
        AccessLog::new(config)
    }

    fn ended(status: u16, at: Monotonic) -> Call {
        let mut call = call("web", "/", status);
        call.exchange.sent.first = at;
        call.exchange.ended = at.plus(Duration::from_millis(10));
        call
    }

    #[test]
    fn nothing_is_chosen_where_nothing_is_written() {
        let mut log = AccessLog::new(Config::default());
        assert!(!log.wants(&ended(500, Monotonic(0))));
        log.reconfigure(Config {
            to: AccessTo::Otlp,
            ..Config::default()
        });
        assert!(log.wants(&ended(500, Monotonic(0))));
    }

    #[test]
    fn a_share_is_chosen_and_all_that_failed() {
        let mut log = log(|config| config.sampling = 0.25);
        let chosen = |log: &mut AccessLog, status| {
            let calls = (0..100).map(|at| ended(status, Monotonic(at)));
            calls.filter(|call| log.wants(call)).count()
        };
        assert_eq!(chosen(&mut log, 200), 25);
        assert_eq!(chosen(&mut log, 500), 100);
        assert_eq!(log.limited(), 0);
    }

    #[test]
    fn only_some_are_wanted() {
        let (good, bad) = (ended(200, Monotonic(0)), ended(500, Monotonic(0)));
        let mut slow = good.clone();
        slow.exchange.ended = Monotonic(SECOND);
        for (only, expected) in [
            (AccessOnly::All, [true, true, true]),
            (AccessOnly::Failed, [false, true, false]),
            (AccessOnly::Slow, [false, true, true]),
        ] {
            let mut log = log(|config| config.only = only);
            let found = [&good, &bad, &slow].map(|call| log.wants(call));
            assert_eq!(found, expected, "{only:?}");
        }
    }

    #[test]
    fn a_flood_of_good_calls_leaves_room_for_failures() {
        let mut log = log(|config| config.per_second = 10);
        let good = (0..100)
            .filter(|at| log.wants(&ended(200, Monotonic(*at))))
            .count();
        assert_eq!((good, log.limited()), (10, 90));
        assert!(log.wants(&ended(500, Monotonic(100))));
        assert!(!log.wants(&ended(200, Monotonic(100))));
        assert!(log.wants(&ended(200, Monotonic(SECOND / 5))));
    }

    proptest! {
        /// However they come, never more than the rate for each second and one burst.
        #[test]
        fn the_rate_holds(
            gaps in prop::collection::vec(0..3 * SECOND / 10, 1..400),
            rate in 1u32..20,
        ) {
            let mut log = log(|config| config.per_second = rate);
            let mut now = 0;
            let mut chosen = 0_u64;
            for gap in &gaps {
                now += gap;
                chosen += u64::from(log.wants(&ended(200, Monotonic(now))));
            }
            let seconds = now.div_ceil(SECOND);
            prop_assert!(chosen <= u64::from(rate) * (seconds + 1));
            prop_assert_eq!(chosen + log.limited(), gaps.len() as u64);
        }
    }
}

//! Whose an address was at what time, among pods that say that it is theirs.
//!
//! What is known is late and told by other clocks. That a pod has its address is known from when it
//! is told. It had it earlier, from when its node says that it started, in whole seconds and by a
//! clock that may be off by [`SKEW`]. When it lost it is known to lie before it is told gone, and
//! after its last container ended. So every claim has the time in which it holds if no other does,
//! and a longer one in which it cannot be excluded; an address belongs to a pod where one claim
//! holds and no other is possible. The bias is to doubt.

use std::time::Duration;

use crate::model::time::{Monotonic, WallOffset};

use super::sources::Telling;

/// The claim of a pod to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Slot of the pod.
    pub(super) pod: u32,
    /// When it was told first: it has it then.
    pub(super) told: Monotonic,
    /// From when on it holds.
    pub(super) begun: Monotonic,
    /// From when on it is possible.
    pub(super) earliest: Monotonic,
    /// When the pod was told without this address again; [`NEVER`] while it has it.
    pub(super) dropped: Monotonic,
}

/// How a pod's life ends, for its claims; [`NEVER`] where it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// From when on its addresses may belong to another: its end is under way.
    pub(super) ending: Monotonic,
    /// When the last of its containers had ended, as its node tells.
    pub(super) stopped: Monotonic,
    /// When that was, if the node's clock is late.
    stopped_at_latest: Monotonic,
    /// The same as the API told it.
    stopped_unix: u64,
    /// Its end, as told: at the latest when it was.
    pub(super) end: Monotonic,
    /// When it was told to be gone.
    pub(super) gone: Monotonic,
}

/// Whose an address was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// No pod ever said that it is its own.
    Unheard,
    /// Nobody at that time, but somebody at another.
    Nobody,
    /// This pod's.
    Sure(u32),
    /// This pod's, unless another is about to be told of: its end was under way.
    Likely(u32),
    /// It cannot be told which pod's.
    Several {
        /// Because two that live say that it is theirs.
        conflict: bool,
    },
}

/// What does not happen.
pub(super) const NEVER: Monotonic = Monotonic(u64::MAX);
/// How far back something that is new may reach: longer than it takes to be told of a pod that
/// starts, shorter than what is gone is remembered.
pub(super) const REACH: Duration = Duration::from_secs(30);
/// How far clocks of nodes are taken to be apart.
pub(super) const SKEW: Duration = Duration::from_secs(2);
/// How late it is told what changed: by the kubelet, and then by the watch.
pub(super) const LAG: Duration = Duration::from_secs(3);
/// The API tells times in whole seconds, cut off.
const WHOLE: Duration = Duration::from_secs(1);
/// How long a pod that was deleted by force may go on, unseen by the API.
const GRACE: Duration = Duration::from_secs(30);
/// Longer ago than anybody asks about.
const LONG: Duration = Duration::from_secs(120);
/// With more claims than this to one address there is no telling.
const MAX_ALIKE: usize = 32;

/// A time before another.
pub(super) fn before(at: Monotonic, duration: Duration) -> Monotonic {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Monotonic(at.0.saturating_sub(nanoseconds))
}

/// A time of the API, nanoseconds since the Unix epoch, by our clock; 0 is no time.
fn mapped(unix_nanoseconds: u64, offset: WallOffset) -> Option<Monotonic> {
    (unix_nanoseconds != 0).then(|| Monotonic(unix_nanoseconds.saturating_sub(offset.nanoseconds)))
}

/// Whether a time of the API is longer ago than anybody asks about.
pub(super) fn is_long_ago(unix_nanoseconds: u64, now: Monotonic, offset: WallOffset) -> bool {
    mapped(unix_nanoseconds, offset).is_some_and(|at| at.plus(LONG) < now)
}

/// Whose the address was that has these claims.
pub(super) fn holder<'a, I>(claims: impl Fn() -> I, at: Monotonic) -> Holder
where
    I: Iterator<Item = (&'a Claim, &'a Life)>,
{
    let mut possible =
        claims().filter(|(claim, life)| claim.earliest <= at && at < claim.possible_end(life));
    let Some(first) = possible.next() else {
        return if claims().next().is_some() {
            Holder::Nobody
        } else {
            Holder::Unheard
        };
    };
    let mut only = None;
    let mut undecided = false;
    let mut live = 0;
    for (count, (claim, life)) in std::iter::once(first).chain(possible).enumerate() {
        let is_live = claim.is_live(life);
        live += usize::from(is_live && claim.told <= at);
        if live > 1 {
            return Holder::Several { conflict: true };
        }
        if count >= MAX_ALIKE {
            return Holder::Several { conflict: false };
        }
        if claims().any(|(other, _)| other.supersedes(claim, at)) {
            // Another was told to have it since; that this one lost it is told late, or not yet.
            undecided |= is_live;
        } else {
            undecided |= only.is_some();
            only = Some((claim, life));
        }
    }
    match only {
        _ if undecided => Holder::Several { conflict: false },
        Some((claim, life)) if claim.begun <= at && at < claim.end(life) => {
            if at < claim.ending(life) {
                Holder::Sure(claim.pod)
            } else {
                Holder::Likely(claim.pod)
            }
        }
        _ => Holder::Nobody,
    }
}

// === impl Claim ===

impl Claim {
    /// The claim of a pod that is told to have an address. `started` is the API's; `without` is when
    /// the pod was last told without the address. Before `floor` nothing is known any more.
    pub(super) fn new(
        pod: u32,
        started: u64,
        without: Option<Monotonic>,
        floor: Monotonic,
        telling: &Telling,
    ) -> Self {
        let now = telling.now;
        let (begun, earliest) = match mapped(started, telling.offset) {
            Some(started) if started <= now => {
                // It has its address some time after its start, and until then another may have
                // had it. That none is known says that there was none, but not of the time when
                // its source was blind: only of a pod that is older it is taken for granted.
                let begun = if started.plus(LONG) < telling.blind {
                    started
                } else {
                    started.max(telling.blind)
                };
                (begun, before(started, SKEW))
            }
            // Its clock is ahead, and nobody knows by how much.
            Some(_) => (now, before(now, REACH)),
            None => (before(now, LAG).max(telling.blind), before(now, REACH)),
        };
        let reach = before(now, REACH).max(floor);
        let without = without.map_or(Monotonic(0), |without| before(without, LAG));
        Self {
            pod,
            told: now,
            begun: begun.max(reach).max(without).min(now),
            earliest,
            dropped: NEVER,
        }
    }

    /// Whether `other` cannot have had the address at `at` any more, as this pod started after
    /// the other was told to have it, and was told to have it before `at`.
    fn supersedes(&self, other: &Self, at: Monotonic) -> bool {
        self.pod != other.pod && self.told <= at && self.earliest >= other.told
    }

    fn is_live(&self, life: &Life) -> bool {
        life.is_live() && self.dropped == NEVER
    }

    /// Until when it holds.
    fn end(&self, life: &Life) -> Monotonic {
        self.dropped.min(life.stopped).min(life.end)
    }

    /// Until when it is possible.
    fn possible_end(&self, life: &Life) -> Monotonic {
        self.dropped.min(life.possible_end())
    }

    /// From when on its address may belong to another.
    fn ending(&self, life: &Life) -> Monotonic {
        if self.dropped == NEVER {
            life.ending
        } else {
            life.ending.min(before(self.dropped, LAG))
        }
    }
}

// === impl Life ===

impl Life {
    /// Nothing is known of its end.
    pub(super) const GOES_ON: Self = Self {
        ending: NEVER,
        stopped: NEVER,
        stopped_at_latest: NEVER,
        stopped_unix: 0,
        end: NEVER,
        gone: NEVER,
    };

    /// Nothing says that it ends.
    pub(super) fn is_live(&self) -> bool {
        self.ending == NEVER
    }

    pub(super) fn is_over(&self) -> bool {
        self.gone != NEVER
    }

    /// Until when its claims are possible.
    pub(super) fn possible_end(&self) -> Monotonic {
        if self.stopped_at_latest != NEVER {
            self.stopped_at_latest
        } else if self.gone == NEVER {
            NEVER
        } else {
            self.gone.plus(GRACE)
        }
    }

    /// Tells whether it is being deleted.
    pub(super) fn tell_terminating(&mut self, terminating: bool, now: Monotonic) {
        if terminating {
            self.ending = self.ending.min(now);
        }
    }

    /// Tells what the pod's object says of its end. `stopped` is the API's time, 0 while a container
    /// may run.
    pub(super) fn tell(
        &mut self,
        terminating: bool,
        stopped: u64,
        now: Monotonic,
        offset: WallOffset,
    ) {
        self.tell_terminating(terminating, now);
        if stopped == self.stopped_unix {
            return;
        }
        self.stopped_unix = stopped;
        if let Some(stopped) = mapped(stopped, offset) {
            self.stopped = stopped.plus(WHOLE).clamp(before(now, REACH), now);
            self.stopped_at_latest = self.stopped.plus(SKEW).min(now);
            self.ending = self.ending.min(before(self.stopped, SKEW + WHOLE));
        } else {
            // A container runs again: if it is not being deleted, it is not ending.
            *self = Self {
                ending: if terminating { self.ending } else { NEVER },
                ..Self::GOES_ON
            };
        }
    }

    /// Tells that it is over, since `since` at the latest: before that its source was heard of.
    pub(super) fn tell_end(&mut self, now: Monotonic, since: Option<Monotonic>) {
        self.gone = now;
        self.end = since.map_or(now, |since| since.min(now));
        self.ending = self.ending.min(before(self.end, LAG));
    }
}

//! When something that was found has come to an end, though nobody said so.

use std::time::Duration;

/// How long nothing must show it. A connection that lasts shows it again sooner.
pub const QUIET: Duration = Duration::from_secs(900);

/// By chance so much more than what usually lies between two times passes without one in less than
/// one case of a thousand.
pub(super) const SURE: u32 = 7;

/// How many connections or requests there were for each that showed it: `shown` of all `of`.
pub fn between(shown: u64, of: u64) -> u64 {
    of.max(shown).max(1).div_ceil(shown.max(1))
}

/// Whether it has ended: there were so many connections or requests `since` the last that showed it,
/// where one of so many usually does, and for as long as `quiet` none did. They have to be more than
/// chance, and at least `minimum`.
pub fn is_over(between: u64, since: u64, minimum: u64, quiet: Duration) -> bool {
    quiet >= QUIET && since >= between.saturating_mul(SURE.into()).max(minimum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_time_and_more_than_chance() {
        for (shown, of, since, quiet, expected) in [
            (20, 20, 20, 900, true),
            (20, 20, 19, 900, false),
            (20, 20, 1_000_000, 899, false),
            (1, 1, 20, 900, true),
            // One of a hundred.
            (10, 1_000, 699, 900, false),
            (10, 1_000, 700, 900, true),
            (0, 0, 0, 900, false),
            (0, 0, 20, 900, true),
            (u64::MAX, u64::MAX, 20, 900, true),
            (1, u64::MAX, u64::MAX - 1, 900, false),
        ] {
            let quiet = Duration::from_secs(quiet);
            let over = is_over(between(shown, of), since, 20, quiet);
            assert_eq!(over, expected, "{shown} {of} {since} {quiet:?}");
        }
    }
}

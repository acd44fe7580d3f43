//! Sizes and durations as people write them: `16MiB`, `250ms`, `15m`.

use std::time::Duration;

/// Units of sizes, in bytes.
const BYTES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Units of durations, in nanoseconds.
const NANOSECONDS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// A number of bytes: `65536`, `64KiB`, `16 MiB`, `1GiB`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    whole(text, BYTES).ok_or_else(|| {
        format!("{text:?} is not a size: write a whole number of bytes, KiB, MiB or GiB (`16MiB`)")
    })
}

/// A duration with its unit: `250us`, `100ms`, `5s`, `15m`, `1h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    whole(text, NANOSECONDS).map(Duration::from_nanos).ok_or_else(|| {
        format!(
            "{text:?} is not a duration: write a whole number of ns, us, ms, s, m, h or d (`250ms`)"
        )
    })
}

/// A whole number times its unit; `None` when it is none or too large.
fn whole(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("65536"), Ok(65_536));
        assert_eq!(parse_bytes("64KiB"), Ok(65_536));
        assert_eq!(parse_bytes("16 MiB"), Ok(16 << 20));
        for wrong in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "16MB",
            "18446744073709551616",
            "99999999999GiB",
        ] {
            assert!(parse_bytes(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "s", "-1s", "1w", "1.5s", "99999999999h", "999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }
}

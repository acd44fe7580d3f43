//! Durations as Go and the Gateway API write them: `1h2m3.5s`, `300ms`.

use std::time::Duration;

/// Longest that is told apart from no limit: a year.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads one; `None` when it is none, is negative, or longer than a year.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    loop {
        let digits = rest.find(|byte: char| !byte.is_ascii_digit() && byte != '.')?;
        let (number, unit) = rest.split_at(digits);
        let end = unit
            .find(|byte: char| byte.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, more) = unit.split_at(end);
        let seconds = number.parse::<f64>().ok()?
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        let part = Duration::try_from_secs_f64(seconds).ok()?;
        sum = sum.checked_add(part).filter(|sum| *sum <= LONGEST)?;
        if more.is_empty() {
            return Some(sum);
        }
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_sums() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("0s", Some(0.0)),
            ("300ms", Some(0.3)),
            ("1.5s", Some(1.5)),
            ("1h2m3s", Some(3723.0)),
            ("10us", Some(0.000_01)),
            ("", None),
            ("s", None),
            ("5", None),
            ("-5s", None),
            ("5 s", None),
            ("5d", None),
            ("1.2.3s", None),
            ("99999999999999999999h", None),
        ] {
            let expected = expected.map(Duration::from_secs_f64);
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in ".*") {
            let _ = duration(&text);
        }

        #[test]
        fn milliseconds_are_exact(milliseconds in 0u32..100_000_000) {
            let expected = Duration::from_millis(milliseconds.into());
            prop_assert_eq!(duration(&format!("{milliseconds}ms")), Some(expected));
        }
    }
}

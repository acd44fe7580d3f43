//! How likely counts are, if declared shares are true.

/// Most trials for which every outcome is added up.
const EXACT_TRIALS: u64 = 2_000;
/// Terms after which a series or a fraction is near enough, whatever its argument.
const TERMS: u32 = 2_000;

/// How likely it is that counts differ from shares as much as these do, or more, if the shares are
/// true: Pearson's chi-square test, and for two of them and few trials the exact two-sided binomial
/// test. Shares need not add up to 1; those that are 0 are left out, with their counts. `None` when
/// fewer than two are left, or nothing was counted.
pub(super) fn fit(counts: &[u64], shares: &[f64]) -> Option<f64> {
    let pairs: Vec<(u64, f64)> = counts
        .iter()
        .copied()
        .zip(shares.iter().copied())
        .filter(|(_, share)| *share > 0.0 && share.is_finite())
        .collect();
    let total: u64 = pairs.iter().map(|(count, _)| count).sum();
    let whole: f64 = pairs.iter().map(|(_, share)| share).sum();
    if pairs.len() < 2 || total == 0 {
        return None;
    }
    if let [(first, share), _] = pairs.as_slice()
        && total <= EXACT_TRIALS
    {
        return Some(binomial(total, *first, share / whole));
    }
    let statistic: f64 = pairs
        .iter()
        .map(|(count, share)| {
            let expected = float(total) * share / whole;
            (float(*count) - expected).powi(2) / expected
        })
        .sum();
    let freedom = float(pairs.len() as u64 - 1);
    Some(chi_square(statistic, freedom))
}

/// Probability of a value of chi-square with so many degrees of freedom, or a greater one.
pub(super) fn chi_square(statistic: f64, freedom: f64) -> f64 {
    if statistic <= 0.0 {
        return 1.0;
    }
    upper_gamma(freedom / 2.0, statistic / 2.0)
}

/// Probability of `successes` in `trials` with this chance each, or of any outcome that is no more
/// likely: two-sided, exact. Takes time by the number of trials.
pub(super) fn binomial(trials: u64, successes: u64, chance: f64) -> f64 {
    if chance <= 0.0 || chance >= 1.0 {
        let certain = if chance <= 0.0 { 0 } else { trials };
        return if successes == certain { 1.0 } else { 0.0 };
    }
    let all = ln_gamma(float(trials) + 1.0);
    let likelihood = |hits: u64| {
        let misses = float(trials.saturating_sub(hits));
        let hits = float(hits);
        all - ln_gamma(hits + 1.0) - ln_gamma(misses + 1.0)
            + hits * chance.ln()
            + misses * (1.0 - chance).ln()
    };
    // What is as likely may come out a little different.
    let bound = likelihood(successes) + 1e-7;
    let sum: f64 = (0..=trials)
        .map(likelihood)
        .filter(|likelihood| *likelihood <= bound)
        .map(f64::exp)
        .sum();
    sum.min(1.0)
}

/// Regularised upper incomplete gamma function Q(a, x), for a > 0 and x > 0.
fn upper_gamma(shape: f64, at: f64) -> f64 {
    let scale = (shape * at.ln() - at - ln_gamma(shape)).exp();
    if at < shape + 1.0 {
        // 1 - P by its series.
        let (mut term, mut sum) = (1.0 / shape, 1.0 / shape);
        for step in 1..TERMS {
            term *= at / (shape + f64::from(step));
            sum += term;
            if term < sum * f64::EPSILON {
                break;
            }
        }
        return (1.0 - sum * scale).clamp(0.0, 1.0);
    }
    // Q by its continued fraction, as Lentz evaluates it.
    const TINY: f64 = 1e-300;
    let mut denominator = at + 1.0 - shape;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / denominator;
    let mut fraction = d;
    for step in 1..TERMS {
        let step = f64::from(step);
        let numerator = -step * (step - shape);
        denominator += 2.0;
        let keep = |value: f64| if value.abs() < TINY { TINY } else { value };
        d = 1.0 / keep(numerator * d + denominator);
        c = keep(denominator + numerator / c);
        let change = c * d;
        fraction *= change;
        if (change - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    (scale * fraction).clamp(0.0, 1.0)
}

/// Logarithm of the gamma function, for positive arguments: Lanczos' approximation (g = 7, n = 9),
/// good to about 15 digits.
fn ln_gamma(at: f64) -> f64 {
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if at < 0.5 {
        let sine = (std::f64::consts::PI * at).sin();
        return (std::f64::consts::PI / sine).ln() - ln_gamma(1.0 - at);
    }
    let at = at - 1.0;
    let base = at + 7.5;
    let mut places = 0.0;
    let sum: f64 = COEFFICIENTS
        .iter()
        .map(|coefficient| {
            let part = if places == 0.0 {
                *coefficient
            } else {
                coefficient / (at + places)
            };
            places += 1.0;
            part
        })
        .sum();
    0.5 * std::f64::consts::TAU.ln() + (at + 0.5) * base.ln() - base + sum.ln()
}

/// Counts are far below what a float has exactly.
#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(found: f64, expected: f64) {
        let error = (found - expected).abs() / expected.max(1e-300);
        assert!(error < 1e-5, "{found} is not {expected}");
    }

    #[test]
    fn chi_square_is_as_in_tables() {
        for (freedom, statistic, expected) in [
            (1.0, 3.841_458_821, 0.05),
            (1.0, 6.634_896_601, 0.01),
            (1.0, 10.827_566_17, 0.001),
            (2.0, 5.991_464_547, 0.05),
            (2.0, 2.0, (-1.0_f64).exp()),
            (5.0, 11.070_497_69, 0.05),
            (10.0, 18.307_038_05, 0.05),
            (10.0, 29.588_298_45, 0.001),
            (100.0, 124.342_113_4, 0.05),
            (3.0, 0.351_846_317_7, 0.95),
        ] {
            near(chi_square(statistic, freedom), expected);
        }
        assert_eq!(chi_square(0.0, 3.0), 1.0);
        assert!(chi_square(5_000.0, 1.0) < 1e-300);
    }

    #[test]
    fn binomial_is_as_counted_by_hand() {
        // All heads or all tails of ten: 2 of 1024.
        near(binomial(10, 10, 0.5), 2.0 / 1024.0);
        near(binomial(10, 5, 0.5), 1.0);
        // Two heads or fewer, eight or more: 2 * (1 + 10 + 45) of 1024.
        near(binomial(10, 2, 0.5), 112.0 / 1024.0);
        // As R's binom.test(60, 235, 1/6) says.
        near(binomial(235, 51, 1.0 / 6.0), 0.043_747_97);
        assert_eq!(binomial(3, 1, 0.0), 0.0);
        assert_eq!(binomial(3, 3, 1.0), 1.0);
    }

    #[test]
    fn fit_takes_what_fits() {
        assert_eq!(fit(&[], &[]), None);
        assert_eq!(fit(&[10, 3], &[1.0, 0.0]), None);
        assert_eq!(fit(&[0, 0], &[0.5, 0.5]), None);
        // 90 to 10 as declared.
        assert!(fit(&[900, 100], &[0.9, 0.1]).unwrap() > 0.9);
        // 80 to 20 of a thousand are not 90 to 10.
        assert!(fit(&[800, 200], &[0.9, 0.1]).unwrap() < 1e-20);
        // Three, by chi-square: (10^2/100 + 0 + 10^2/100) = 2 with 2 degrees.
        near(
            fit(&[110, 100, 90], &[1.0, 1.0, 1.0]).unwrap(),
            (-1.0_f64).exp(),
        );
    }

    proptest! {
        #[test]
        fn probabilities_are_probabilities(
            counts in prop::collection::vec(0_u64..100_000, 2..6),
            shares in prop::collection::vec(0.0_f64..1.0, 2..6),
        ) {
            if let Some(found) = fit(&counts, &shares) {
                prop_assert!((0.0..=1.0).contains(&found), "{}", found);
            }
        }

        #[test]
        fn exact_and_approximate_agree(total in 500_u64..1_500, off in 0_u64..40) {
            let first = total / 2 + off;
            let exact = binomial(total, first, 0.5);
            let expected = float(total) / 2.0;
            let distance = (float(first) - expected).abs() - 0.5;
            let approximate = chi_square(2.0 * distance.max(0.0).powi(2) / expected, 1.0);
            prop_assert!((exact - approximate).abs() < 0.02, "{} {}", exact, approximate);
        }

        #[test]
        fn greater_drift_is_less_likely(total in 200_u64..5_000, share in 0.1_f64..0.9) {
            let expected = (float(total) * share) as u64;
            let mut last = 1.1;
            for off in 1..10 {
                let first = (expected + off * total / 50).min(total);
                let found = fit(&[first, total - first], &[share, 1.0 - share]).unwrap();
                prop_assert!(found <= last + 1e-9);
                last = found;
            }
        }
    }
}

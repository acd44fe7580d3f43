//! One number of the report: its median, its range, and whether it is what it should be.

use std::io::Write;

use anyhow::Result;

/// What a number should be.
#[derive(Clone, Copy)]
pub(in crate::bench) enum Aim {
    AtLeast(f64),
    Below(f64),
    Within(f64, f64),
    None,
}

/// One line of the table: the median of some runs, and their range.
pub(in crate::bench) struct Row {
    pub(in crate::bench) key: &'static str,
    pub(in crate::bench) label: &'static str,
    pub(in crate::bench) values: Vec<f64>,
    pub(in crate::bench) unit: &'static str,
    pub(in crate::bench) digits: usize,
    pub(in crate::bench) aim: Aim,
}

/// The middle of `values`; 0 if there are none.
pub(in crate::bench) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    match sorted.len() % 2 {
        0 if middle > 0 => f64::midpoint(at(middle - 1), at(middle)),
        _ => at(middle),
    }
}

// === impl Row ===

impl Row {
    fn range(&self) -> (f64, f64) {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    }

    /// Whether the aim is met: by the median, and where numbers have to be exact by all.
    pub(in crate::bench) fn met(&self) -> Option<bool> {
        let (least, most) = self.range();
        match self.aim {
            Aim::AtLeast(limit) => Some(median(&self.values) >= limit),
            Aim::Below(limit) => Some(median(&self.values) < limit),
            Aim::Within(from, to) => Some(least >= from && most <= to),
            Aim::None => None,
        }
    }

    /// Writes it: what, the median, the range, the aim and whether that is met.
    pub(in crate::bench) fn write(&self, out: &mut impl Write) -> Result<()> {
        let Self {
            label,
            unit,
            digits,
            ..
        } = self;
        let (least, most) = self.range();
        let range = if self.values.len() > 1 {
            format!("{least:.digits$} .. {most:.digits$}")
        } else {
            String::new()
        };
        let verdict = match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let aim = self.aim.text(*digits).unwrap_or_default();
        let middle = median(&self.values);
        let line = format!(
            "  {label:<34} {middle:>10.digits$} {unit:<12} {range:<24} {aim:<12} {verdict}"
        );
        writeln!(out, "{}", line.trim_end())?;
        Ok(())
    }
}

// === impl Aim ===

impl Aim {
    /// It in a few characters.
    pub(in crate::bench) fn text(self, digits: usize) -> Option<String> {
        match self {
            Self::AtLeast(limit) => Some(format!(">= {limit:.digits$}")),
            Self::Below(limit) => Some(format!("< {limit:.digits$}")),
            Self::Within(from, to) if from == to => Some(format!("{from:.0}")),
            Self::Within(from, to) => Some(format!("{from:.0} .. {to:.0}")),
            Self::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64], aim: Aim) -> Row {
        Row {
            key: "key",
            label: "label",
            values: values.to_vec(),
            unit: "us",
            digits: 2,
            aim,
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[3.0, 1.0]), 2.0);
        assert_eq!(median(&[3.0, 1.0, 9.0]), 3.0);
    }

    #[test]
    fn aims_are_for_the_median_and_exactness_for_all() {
        let values = [0.8, 0.95, 0.99];
        assert_eq!(row(&values, Aim::AtLeast(0.9)).met(), Some(true));
        assert_eq!(row(&values, Aim::Below(0.9)).met(), Some(false));
        assert_eq!(row(&values, Aim::Within(0.0, 0.98)).met(), Some(false));
        assert_eq!(row(&values, Aim::None).met(), None);
    }

    #[test]
    fn a_row_has_its_aim_beside_it() {
        let mut out = Vec::new();
        row(&[1.0, 2.0], Aim::Below(1.0)).write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "label", "1.50", "us", "1.00", "..", "2.00", "<", "1.00", "MISSED"
            ]
        );
    }
}

//! Prometheus text, read back.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name, with its `_count`, `_sum`, `_bucket` or `_total`.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// All samples of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

fn parse_line(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.trim_start_matches(',');
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, after) = rest.split_once("=\"").context("label without a value")?;
            let (value, after) = quoted(after).context("label without an end")?;
            labels.insert(key.to_owned(), value);
            rest = after;
        }
    }
    let value = rest.split_whitespace().next().context("no value")?;
    let value = value.parse().with_context(|| format!("value {value:?}"))?;
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The text up to the closing quote, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

// === impl Sample ===

impl Sample {
    /// Whether it has all of `labels`.
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(key, value)| self.labels.get(*key).is_some_and(|own| own == value))
    }
}

// === impl Metrics ===

impl Metrics {
    /// Reads an exposition; a line that is not one is an error.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| parse_line(line).with_context(|| format!("line {line:?}")));
        Ok(Self {
            samples: samples.collect::<Result<_>>()?,
        })
    }

    /// Samples called `name` that have all of `labels`.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// Sum of the samples called `name` that have all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // The sum of no numbers is -0.0.
        self.select(name, labels)
            .map(|sample| sample.value)
            .sum::<f64>()
            + 0.0
    }

    /// Everything that the observer lost of the traffic, as `stage/reason count`. What the stage
    /// `host` counts is names, not traffic: the processes of raw sockets are gone at once. Nor is what
    /// is not known of causes: a write that was no request has none.
    pub fn losses(&self) -> Vec<String> {
        let lost = self
            .select("observer_loss_total", &[])
            .filter(|sample| sample.value > 0.0 && !sample.has(&[("stage", "host")]));
        let label = |sample: &Sample, name| sample.labels.get(name).cloned().unwrap_or_default();
        let lost = lost.filter(|sample| !label(sample, "reason").starts_with("cause_"));
        lost.map(|sample| {
            format!(
                "{}/{} {}",
                label(sample, "stage"),
                label(sample, "reason"),
                sample.value
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposition_is_read() {
        let text = "# TYPE calls counter\ncalls_total{route=\"/a\\\"{b}\",code=\"200\"} 3\n\
                    calls_total{route=\"/c\",code=\"200\",} 4.5 1700000000\nup 1\nlag +Inf\n";
        let metrics = Metrics::parse(text).unwrap();
        assert_eq!(metrics.sum("calls_total", &[("code", "200")]), 7.5);
        assert_eq!(metrics.sum("calls_total", &[("route", "/a\"{b}")]), 3.0);
        assert_eq!(metrics.sum("up", &[]), 1.0);
        assert!(metrics.sum("lag", &[]).is_infinite());
        assert!(Metrics::parse("calls_total{route=\"/a} 3").is_err());
    }
}

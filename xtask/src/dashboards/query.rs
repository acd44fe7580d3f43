//! Queries of PromQL made of families of the contract; a label that a family has not is a problem of
//! the query, which is told when it is written.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::contract::{Family, Kind, SCRAPED};

/// Series of a family, chosen by labels.
#[derive(Clone, Debug)]
pub(super) struct Series {
    name: String,
    labels: BTreeSet<&'static str>,
    matchers: Vec<String>,
    problems: Vec<String>,
}

/// A query whose value is a vector.
#[derive(Clone, Debug)]
pub(super) struct Query {
    text: String,
    labels: BTreeSet<&'static str>,
    problems: Vec<String>,
}

/// Time that rates of panels look back: chosen by Grafana.
pub(super) const WINDOW: &str = "$__rate_interval";

/// A counter, gauge or info.
pub(super) fn of(family: &'static Family) -> Series {
    let mut series = Series::new(family, "");
    if family.kind == Kind::Histogram {
        series.wrong("is a histogram");
    }
    series
}

/// Buckets of a histogram.
pub(super) fn buckets(family: &'static Family) -> Series {
    let mut series = Series::histogram(family, "_bucket");
    series.labels.insert("le");
    series
}

/// How many observations a histogram has.
pub(super) fn count(family: &'static Family) -> Series {
    Series::histogram(family, "_count")
}

/// The quantile of a histogram's observations in `window`, by labels.
pub(super) fn quantile(part: f64, series: Series, window: &str, by: &[&'static str]) -> Query {
    let mut all = by.to_vec();
    all.push("le");
    series.rate(window).sum(&all).quantile(part)
}

// === impl Series ===

impl Series {
    fn new(family: &'static Family, suffix: &str) -> Self {
        let labels = family.labels.iter().copied().chain(SCRAPED);
        Self {
            name: format!("{}{suffix}", family.name),
            labels: labels.collect(),
            matchers: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn histogram(family: &'static Family, suffix: &str) -> Self {
        let mut series = Self::new(family, suffix);
        if family.kind != Kind::Histogram {
            series.wrong("is no histogram");
        }
        series
    }

    /// What a rule records.
    pub(super) fn recorded(name: &str, labels: &BTreeSet<&'static str>) -> Self {
        Self {
            name: name.to_owned(),
            labels: labels.clone(),
            matchers: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn wrong(&mut self, problem: &str) {
        self.problems.push(format!("{} {problem}", self.name));
    }

    fn matcher(mut self, label: &str, operator: &str, value: &str) -> Self {
        if !self.labels.contains(label) {
            self.wrong(&format!("has no label {label}"));
        }
        self.matchers.push(format!("{label}{operator}\"{value}\""));
        self
    }

    /// Only those with this value.
    pub(super) fn is(self, label: &str, value: &str) -> Self {
        self.matcher(label, "=", value)
    }

    /// Only those without this value.
    pub(super) fn not(self, label: &str, value: &str) -> Self {
        self.matcher(label, "!=", value)
    }

    /// Only those whose value is like this.
    pub(super) fn like(self, label: &str, pattern: &str) -> Self {
        self.matcher(label, "=~", pattern)
    }

    /// Only those whose value is not like this.
    pub(super) fn unlike(self, label: &str, pattern: &str) -> Self {
        self.matcher(label, "!~", pattern)
    }

    /// Only those that variables of a dashboard choose.
    pub(super) fn chosen(self, variables: &[(&str, &str)]) -> Self {
        variables.iter().fold(self, |series, (label, variable)| {
            series.like(label, &format!("${variable}"))
        })
    }

    /// The values of a label, for a variable of a dashboard.
    pub(super) fn values_of(&self, label: &str) -> Result<String> {
        let Self {
            labels, problems, ..
        } = self;
        if let Some(problem) = problems.first() {
            bail!("{problem}");
        }
        if !labels.contains(label) {
            bail!("{} has no label {label}", self.name);
        }
        Ok(format!("label_values({}, {label})", self.selector()))
    }

    fn selector(&self) -> String {
        match self.matchers.is_empty() {
            true => self.name.clone(),
            false => format!("{}{{{}}}", self.name, self.matchers.join(", ")),
        }
    }

    fn over(self, function: &str, window: &str) -> Query {
        Query {
            text: format!("{function}({}[{window}])", self.selector()),
            labels: self.labels,
            problems: self.problems,
        }
    }

    /// Rise per second.
    pub(super) fn rate(self, window: &str) -> Query {
        self.over("rate", window)
    }

    /// Times that the value changed.
    pub(super) fn changes(self, window: &str) -> Query {
        self.over("changes", window)
    }

    /// Sum over time.
    pub(super) fn sum_over(self, window: &str) -> Query {
        self.over("sum_over_time", window)
    }

    /// The value now.
    pub(super) fn now(self) -> Query {
        Query {
            text: self.selector(),
            labels: self.labels,
            problems: self.problems,
        }
    }
}

// === impl Query ===

impl Query {
    /// The text, unless something is wrong.
    pub(super) fn text(&self) -> Result<&str> {
        match self.problems.first() {
            None => Ok(&self.text),
            Some(problem) => bail!("{problem}: {}", self.text),
        }
    }

    /// Labels that its result has.
    pub(super) fn labels(&self) -> &BTreeSet<&'static str> {
        &self.labels
    }

    fn aggregate(mut self, operator: &str, by: &[&'static str]) -> Self {
        for label in by {
            if !self.labels.contains(label) {
                self.problems.push(format!("there is no label {label}"));
            }
        }
        self.labels = by.iter().copied().collect();
        self.text = match by {
            [] => format!("{operator}({})", self.text),
            by => format!("{operator} by ({}) ({})", by.join(", "), self.text),
        };
        self
    }

    /// Sum by labels.
    pub(super) fn sum(self, by: &[&'static str]) -> Self {
        self.aggregate("sum", by)
    }

    /// Largest by labels.
    pub(super) fn max(self, by: &[&'static str]) -> Self {
        self.aggregate("max", by)
    }

    /// Smallest by labels.
    pub(super) fn min(self, by: &[&'static str]) -> Self {
        self.aggregate("min", by)
    }

    /// Mean by labels.
    pub(super) fn mean(self, by: &[&'static str]) -> Self {
        self.aggregate("avg", by)
    }

    /// Number of series by labels.
    pub(super) fn number(self, by: &[&'static str]) -> Self {
        self.aggregate("count", by)
    }

    /// The largest so many.
    pub(super) fn top(mut self, most: usize) -> Self {
        self.text = format!("topk({most}, {})", self.text);
        self
    }

    fn joined(mut self, operator: &str, other: Self) -> Self {
        self.text = format!("{} {operator} {}", self.wrapped(), other.wrapped());
        self.problems.extend(other.problems);
        self
    }

    /// In parentheses, unless it is one call or one name already.
    fn wrapped(&self) -> String {
        let operators = [
            " and ", " or ", " unless ", " / ", " * ", " + ", " - ", " > ", " < ", " == ",
        ];
        let plain = !operators
            .iter()
            .any(|operator| self.text.contains(operator));
        match plain {
            true => self.text.clone(),
            false => format!("({})", self.text),
        }
    }

    /// This, and where it has nothing the other. They must have the same labels.
    pub(super) fn or(mut self, other: Self) -> Self {
        if self.labels != other.labels {
            self.problems
                .push("both sides of `or` must have the same labels".to_owned());
        }
        self.joined("or", other)
    }

    /// This where the other has something too. They must have the same labels.
    pub(super) fn and(mut self, other: Self) -> Self {
        if self.labels != other.labels {
            self.problems
                .push("both sides of `and` must have the same labels".to_owned());
        }
        self.joined("and", other)
    }

    /// This where the other has nothing with the same labels of `on`.
    pub(super) fn unless(mut self, on: &[&'static str], other: Self) -> Self {
        for label in on {
            if !self.labels.contains(label) || !other.labels.contains(label) {
                self.problems.push(format!("there is no label {label}"));
            }
        }
        self.joined(&format!("unless on ({})", on.join(", ")), other)
    }

    /// The quantile of buckets, which were added up by `le` and others.
    pub(super) fn quantile(mut self, part: f64) -> Self {
        if !self.labels.remove("le") {
            self.problems.push("these are no buckets".to_owned());
        }
        self.text = format!("histogram_quantile({part}, {})", self.text);
        self
    }

    /// Divided by the other, which has the same labels or fewer.
    pub(super) fn by(mut self, other: Self) -> Self {
        if self.labels == other.labels {
            return self.joined("/", other);
        }
        if !other.labels.is_subset(&self.labels) {
            self.problems
                .push("what divides has labels that what is divided has not".to_owned());
        }
        let on: Vec<&str> = other.labels.iter().copied().collect();
        let operator = format!("/ on ({}) group_left ()", on.join(", "));
        self.joined(&operator, other)
    }

    /// Added to the other, which has the same labels.
    pub(super) fn plus(self, other: Self) -> Self {
        self.joined("+", other)
    }

    /// How far it is from the other, which has the same labels.
    pub(super) fn distance(mut self, other: Self) -> Self {
        if self.labels != other.labels {
            self.problems
                .push("both sides of `-` must have the same labels".to_owned());
        }
        let mut joined = self.joined("-", other);
        joined.text = format!("abs({})", joined.text);
        joined
    }

    /// Times a number.
    pub(super) fn times(mut self, factor: f64) -> Self {
        self.text = format!("{} * {factor}", self.wrapped());
        self
    }

    /// Only what is above.
    pub(super) fn above(mut self, limit: &str) -> Self {
        self.text = format!("{} > {limit}", self.wrapped());
        self
    }

    /// Only what is below.
    pub(super) fn below(mut self, limit: &str) -> Self {
        self.text = format!("{} < {limit}", self.wrapped());
        self
    }

    /// Only what is this.
    pub(super) fn equal(mut self, value: &str) -> Self {
        self.text = format!("{} == {value}", self.wrapped());
        self
    }

    /// As it was so long ago, where it is a plain series.
    pub(super) fn offset(mut self, offset: &str) -> Self {
        self.text = format!("{} offset {offset}", self.text);
        self
    }

    /// Only what is below half of the other, which has the same labels.
    pub(super) fn below_half_of(self, other: Self) -> Self {
        self.joined("<", other.times(0.5))
    }

    /// 1 where there is nothing at all.
    pub(super) fn absent(mut self) -> Self {
        self.text = format!("absent({})", self.text);
        self.labels.clear();
        self
    }

    /// What this counts as zero where the other has something: errors of who had none.
    pub(super) fn or_zero_of(self, other: &Self) -> Self {
        let zero = other.clone().times(0.0);
        self.or(zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboards::contract;

    #[test]
    fn queries_are_made_of_families() {
        let errors = count(&contract::HTTP_SERVER_DURATION)
            .not("error_type", "")
            .rate("5m")
            .sum(&["service_name"]);
        let all = count(&contract::HTTP_SERVER_DURATION)
            .rate("5m")
            .sum(&["service_name"]);
        assert_eq!(
            errors.by(all).text().unwrap(),
            "sum by (service_name) (rate(http_server_request_duration_seconds_count{error_type!=\"\"}[5m])) \
             / sum by (service_name) (rate(http_server_request_duration_seconds_count[5m]))"
        );
    }

    #[test]
    fn what_is_not_in_the_contract_is_a_problem() {
        let loss = || of(&contract::LOSS);
        assert!(loss().is("service_name", "a").now().text().is_err());
        assert!(loss().rate("5m").sum(&["le"]).text().is_err());
        assert!(loss().values_of("route").is_err());
        assert!(buckets(&contract::LOSS).now().text().is_err());
        assert!(of(&contract::TCP_RTT).now().text().is_err());
    }
}

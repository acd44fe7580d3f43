//! Snapshot to text: Prometheus text format 0.0.4 and OpenMetrics 1.0.

use std::fmt::Write as _;

use crate::{
    aggregate::{
        contract::{Family, Kind},
        distribution::{Distribution, Exemplar},
        histogram::Buckets,
        snapshot::{Samples, Series, Snapshot, Value},
    },
    model::time::WallOffset,
};

/// One of the text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Prometheus text format 0.0.4, which has no exemplars.
    Prometheus,
    /// OpenMetrics 1.0. Exemplars have wall-clock times.
    OpenMetrics(WallOffset),
}

// === impl Text ===

impl Text {
    /// Renders all families.
    pub(super) fn render(self, snapshot: &Snapshot) -> String {
        let mut out = String::with_capacity(64 * 1024);
        for samples in &snapshot.families {
            self.family(&mut out, samples);
        }
        if self.is_open_metrics() {
            out.push_str("# EOF\n");
        }
        out
    }

    fn is_open_metrics(self) -> bool {
        matches!(self, Self::OpenMetrics(_))
    }

    /// Name of a family as its metadata has it.
    fn name(self, family: &Family) -> &'static str {
        let suffix = match family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => return family.name,
        };
        match self {
            Self::Prometheus => family.name,
            Self::OpenMetrics(_) => family.name.strip_suffix(suffix).unwrap_or(family.name),
        }
    }

    fn family(self, out: &mut String, samples: &Samples) {
        let family = samples.family;
        let name = self.name(family);
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(out, family.help, self.is_open_metrics());
        let kind = match self {
            Self::Prometheus => family.kind.text(),
            Self::OpenMetrics(_) => family.kind.open_metrics(),
        };
        line(out, format_args!("\n# TYPE {name} {kind}\n"));
        if let (Self::OpenMetrics(_), Some(unit)) = (self, family.unit) {
            line(out, format_args!("# UNIT {name} {unit}\n"));
        }
        let mut labels = String::new();
        for series in &samples.series {
            render_labels(&mut labels, series);
            match &series.value {
                Value::Integer(value) => sample(out, family.name, "", &labels, None, value),
                Value::Float(value) => sample(out, family.name, "", &labels, None, value),
                Value::Histogram(buckets, histogram) => {
                    self.histogram(out, family.name, &labels, buckets, histogram);
                }
            }
        }
    }

    fn histogram(
        self,
        out: &mut String,
        name: &str,
        labels: &str,
        buckets: &Buckets,
        histogram: &Distribution,
    ) {
        let mut cumulative = 0;
        let mut bound = String::new();
        let counts = histogram.classic.counts.iter();
        for (bucket, (upper, count)) in buckets.upper_bounds().zip(counts).enumerate() {
            cumulative += count;
            bound.clear();
            match self {
                Self::Prometheus => line(&mut bound, format_args!("{upper}")),
                // OpenMetrics wants floats to look like floats: "1.0", not "1".
                Self::OpenMetrics(_) => line(&mut bound, format_args!("{upper:?}")),
            }
            sample(out, name, "_bucket", labels, Some(&bound), cumulative);
            self.exemplar(out, buckets, histogram.exemplars.of_bucket(bucket));
        }
        let count = histogram.count();
        sample(out, name, "_bucket", labels, Some("+Inf"), count);
        let last = histogram.exemplars.of_bucket(buckets.bounds.len());
        self.exemplar(out, buckets, last);
        let sum = buckets.present(histogram.sum());
        sample(out, name, "_sum", labels, None, sum);
        sample(out, name, "_count", labels, None, count);
    }

    /// Appends an exemplar to the line of its bucket.
    fn exemplar(self, out: &mut String, buckets: &Buckets, exemplar: Option<&Exemplar>) {
        let (Self::OpenMetrics(offset), Some(exemplar)) = (self, exemplar) else {
            return;
        };
        let Exemplar {
            trace, span, value, ..
        } = exemplar;
        out.pop();
        let value = buckets.present(*value);
        let at = offset.unix_nanoseconds(exemplar.at) / 1_000_000;
        let (seconds, milliseconds) = (at / 1_000, at % 1_000);
        line(
            out,
            format_args!(
                " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value} {seconds}.{milliseconds:03}\n"
            ),
        );
    }
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    bound: Option<&str>,
    value: impl std::fmt::Display,
) {
    out.push_str(name);
    out.push_str(suffix);
    if !labels.is_empty() || bound.is_some() {
        out.push('{');
        out.push_str(labels);
        if let Some(bound) = bound {
            out.push_str(if labels.is_empty() { "le=\"" } else { ",le=\"" });
            out.push_str(bound);
            out.push('"');
        }
        out.push('}');
    }
    line(out, format_args!(" {value}\n"));
}

fn render_labels(out: &mut String, series: &Series) {
    out.clear();
    for (name, value) in series.labels() {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        escape(out, value, true);
        out.push('"');
    }
}

/// Escapes backslashes, line feeds, and quotes where they end the text.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            _ => out.push(character),
        }
    }
}

fn line(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(arguments);
}

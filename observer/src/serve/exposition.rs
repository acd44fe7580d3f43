//! Snapshot to text: Prometheus text format 0.0.4 and OpenMetrics 1.0.

use std::fmt::Write as _;

use crate::aggregate::{
    contract::{Family, Kind},
    histogram::{Buckets, Histogram},
    snapshot::{Samples, Series, Snapshot, Value},
};

/// A format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

// === impl Format ===

impl Format {
    /// The best format for an `Accept` header (RFC 9110 section 12.5.1). A client that accepts
    /// neither gets text: it asked for metrics, and that is what there is.
    pub fn negotiate(accept: &str) -> Self {
        let mut open_metrics = 0.0_f32;
        let mut text = 0.0_f32;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let mut quality = 1.0_f32;
            let mut version = None;
            for parameter in parts {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.parse().unwrap_or(0.0),
                    "version" => version = Some(value.to_owned()),
                    _ => {}
                }
            }
            let quality = if (0.0..=1.0).contains(&quality) {
                quality
            } else {
                0.0
            };
            match (media.as_str(), version.as_deref()) {
                ("application/openmetrics-text", None | Some("1.0.0")) => {
                    open_metrics = open_metrics.max(quality);
                }
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => {
                    text = text.max(quality);
                }
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Value of the `Content-Type` header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Renders all families.
    pub fn render(self, snapshot: &Snapshot) -> String {
        let mut out = String::with_capacity(64 * 1024);
        for samples in &snapshot.families {
            self.family(&mut out, samples);
        }
        if self == Self::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }

    /// Name of a family as its metadata has it.
    fn name(self, family: &Family) -> &'static str {
        let suffix = match family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => return family.name,
        };
        match self {
            Self::Text => family.name,
            Self::OpenMetrics => family.name.strip_suffix(suffix).unwrap_or(family.name),
        }
    }

    fn family(self, out: &mut String, samples: &Samples) {
        let family = samples.family;
        let name = self.name(family);
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(out, family.help, self == Self::OpenMetrics);
        let kind = match self {
            Self::Text => family.kind.text(),
            Self::OpenMetrics => family.kind.open_metrics(),
        };
        line(out, format_args!("\n# TYPE {name} {kind}\n"));
        if let (Self::OpenMetrics, Some(unit)) = (self, family.unit) {
            line(out, format_args!("# UNIT {name} {unit}\n"));
        }
        let mut labels = String::new();
        for series in &samples.series {
            render_labels(&mut labels, series);
            match &series.value {
                Value::Integer(value) => sample(out, family.name, "", &labels, None, value),
                Value::Float(value) => sample(out, family.name, "", &labels, None, value),
                Value::Histogram(buckets, histogram) => {
                    self.histogram(out, family.name, &labels, buckets, &histogram.classic);
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
        histogram: &Histogram,
    ) {
        let mut counts = histogram.counts.iter();
        let mut cumulative = 0;
        let mut bound = String::new();
        for (upper, count) in buckets.upper_bounds().zip(&mut counts) {
            cumulative += count;
            bound.clear();
            match self {
                Self::Text => line(&mut bound, format_args!("{upper}")),
                // OpenMetrics wants floats to look like floats: "1.0", not "1".
                Self::OpenMetrics => line(&mut bound, format_args!("{upper:?}")),
            }
            sample(out, name, "_bucket", labels, Some(&bound), cumulative);
        }
        let count = histogram.count();
        sample(out, name, "_bucket", labels, Some("+Inf"), count);
        sample(
            out,
            name,
            "_sum",
            labels,
            None,
            buckets.present(histogram.sum),
        );
        sample(out, name, "_count", labels, None, count);
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

#[cfg(test)]
mod tests;

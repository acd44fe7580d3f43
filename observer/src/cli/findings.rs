//! `observer findings`: what is wrong with service meshes, or may be.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use serde_json::Value;

use super::{
    mesh::{
        Output, Table, ago, ask, count, list, now, number, object, parse, party, port, reasons,
        span, text,
    },
    terminal::{Cell, Colour, Style, quiet},
};

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// URL of the observer, as `http://127.0.0.1:9920`.
    pub server: String,
    /// How to print.
    pub output: Output,
    /// Fails when there is one that is at least so bad.
    pub fail_on: Option<Severity>,
    /// Parameters of the query, as the server names them; those without a value are left out.
    pub filters: Vec<(&'static str, Option<String>)>,
}

/// How bad something is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// To be known.
    Info,
    /// To be cleaned up.
    Low,
    /// Something does not do what was meant.
    Medium,
    /// Something is broken, or open.
    High,
    /// A promise of security is broken.
    Critical,
}

/// Prints all findings once.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    let answered = ask(&options.server, "/api/v1/findings", &options.filters)?;
    let answer = parse(&answered)?;
    let printed = match options.output {
        Output::Json => format!("{}\n", answered.trim_end()),
        Output::Table | Output::Wide => {
            let wide = options.output == Output::Wide;
            table(&answer, wide, now()).text(Style::of_stdout())
        }
    };
    quiet(write!(out, "{printed}").and_then(|()| out.flush()))?;
    let fails = options
        .fail_on
        .is_some_and(|least| worst(&answer).is_some_and(|worst| worst >= least));
    Ok(if fails {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The worst that was found.
fn worst(answer: &Value) -> Option<Severity> {
    let findings = list(answer, "findings").iter();
    findings
        .filter_map(|finding| Severity::parse(text(finding, "severity")))
        .max()
}

fn table(answer: &Value, wide: bool, now: f64) -> Table {
    let mut table = Table::new(&[
        "SEVERITY", "ID", "WORKLOAD", "PEER", ">PORT", ">COUNT", ">LAST", "SUMMARY",
    ]);
    for finding in list(answer, "findings") {
        let severity = text(finding, "severity");
        let colour = match Severity::parse(severity) {
            Some(Severity::Critical | Severity::High) => Colour::Red,
            Some(Severity::Medium) => Colour::Yellow,
            Some(Severity::Low | Severity::Info) | None => Colour::Dim,
        };
        table.row(vec![
            Cell::new(severity, colour),
            Cell::new(text(finding, "id"), Colour::Plain),
            Cell::new(party(finding.get("workload")), Colour::Plain),
            Cell::new(party(finding.get("peer")), Colour::Plain),
            Cell::right(port(finding), Colour::Plain),
            Cell::right(count(finding, "count"), Colour::Plain),
            Cell::right(ago(number(finding, "last_seen"), now), Colour::Plain),
            Cell::new(text(finding, "summary"), Colour::Plain),
        ]);
        if wide {
            explain(&mut table, finding, now);
        }
    }
    let observed = span(number(answer, "observed_seconds").unwrap_or_default());
    let mut table = table.unless_empty(&format!("nothing was found in {observed}"));
    for one in list(answer, "misunderstood") {
        let named = one.get("object").map(object).unwrap_or_default();
        table.note(&format!(
            "{named} is not understood: {}",
            text(one, "problem")
        ));
    }
    for one in list(answer, "ignored") {
        let named = one.get("object").map(object).unwrap_or_default();
        table.note(&format!("{named} is ignored: {}", text(one, "reason")));
    }
    table
}

/// Why, what to do, and what shows it.
fn explain(table: &mut Table, finding: &Value, now: f64) {
    for reason in reasons(finding) {
        table.note(&reason);
    }
    for sample in list(finding, "samples") {
        let mut line = format!(
            "seen {} ago: {} to {}, {}",
            ago(number(sample, "at"), now),
            text(sample, "client"),
            text(sample, "server"),
            text(sample, "security"),
        );
        let status = sample.get("status").and_then(Value::as_u64);
        let status = status.map_or(String::new(), |status| format!(" {status}"));
        let request = text(sample, "request");
        if !request.is_empty() {
            line.push_str(&format!(", {request}{status}"));
        }
        table.note(&line);
    }
    let advice = text(finding, "advice");
    if !advice.is_empty() {
        table.note(advice);
    }
    let codes: Vec<&str> = list(finding, "see")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if !codes.is_empty() {
        table.note(&format!("see {}", codes.join(", ")));
    }
}

// === impl Severity ===

impl Severity {
    /// All, the worst first.
    pub const ALL: [Self; 5] = [
        Self::Critical,
        Self::High,
        Self::Medium,
        Self::Low,
        Self::Info,
    ];

    /// As the observer names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|severity| severity.as_str() == text)
    }
}

#[cfg(test)]
mod tests;

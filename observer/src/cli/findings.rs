//! `observer findings`: what is wrong with service meshes, or may be.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use anyhow::bail;
use serde_json::Value;

use super::{
    agents::{Agents, Cluster, Filters, ask},
    mesh::{
        Output, Table, Together, ago, count, list, now, number, object, parse, party, port,
        reasons, span, text,
    },
    terminal::{Cell, Colour, Style, quiet},
};
use crate::mesh::report::answer::{Answer, View};

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whom to ask.
    pub agents: Agents,
    /// How to print.
    pub output: Output,
    /// Fails when there is one that is at least so bad, or may be: an agent did not answer.
    pub fail_on: Option<Severity>,
    /// Parameters of the query, as the server names them; those without a value are left out.
    pub filters: Filters,
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
    let (answered, asked) = match options.agents.only() {
        Some(server) => {
            let path = View::Findings.path();
            (ask(server, path, &options.filters)?, None)
        }
        None => {
            let Cluster { report, asked } = together(options)?;
            let told = (asked.line(), asked.missing());
            let answer = Answer::new(View::Findings, report);
            let text = serde_json::to_string(&Together { asked, answer })?;
            (text, Some(told))
        }
    };
    let answer = parse(&answered)?;
    let printed = match options.output {
        Output::Json => format!("{}\n", answered.trim_end()),
        Output::Table | Output::Wide => {
            let wide = options.output == Output::Wide;
            let mut table = table(&answer, wide, now());
            if let Some((line, _)) = &asked {
                table.line(line.clone());
            }
            table.text(Style::of_stdout())
        }
    };
    let missing = asked.map_or(0, |(_, missing)| missing);
    let mut out = BufWriter::new(io::stdout().lock());
    quiet(write!(out, "{printed}").and_then(|()| out.flush()))?;
    let found = |least| worst(&answer).is_some_and(|worst| worst >= least);
    let fails = options
        .fail_on
        .is_some_and(|least| found(least) || missing > 0);
    Ok(if fails {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What several agents found. How bad something is may be known to one of them only, and that it is
/// not so to another: so severities are looked at last, and what tells of use and readiness is asked
/// for whole.
fn together(options: &Options) -> anyhow::Result<Cluster> {
    let mut filters = options.filters.clone();
    let wanted: Vec<String> = filters
        .iter_mut()
        .filter(|(name, _)| *name == "severity")
        .filter_map(|(_, value)| value.take())
        .collect();
    let wanted: Vec<&str> = wanted
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    for part in &wanted {
        if Severity::parse(part).is_none() {
            let known = Severity::ALL.map(Severity::as_str).join(", ");
            bail!("severity={part}: expected {known}");
        }
    }
    let mut cluster = options.agents.ask(&[
        (View::Findings, filters),
        (View::Readiness, Vec::new()),
        (View::Routes, Vec::new()),
        (View::Authz, Vec::new()),
    ])?;
    if !wanted.is_empty() {
        let findings = &mut cluster.report.findings;
        findings.retain(|finding| wanted.contains(&finding.severity));
    }
    Ok(cluster)
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

//! `observer mesh`: what service meshes were seen to do, against what is declared of them.

use std::{
    io::{self, BufWriter, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use super::{
    agents::{Agents, Asked, Cluster, Filters, ask},
    terminal::{Cell, Colour, Columns, Style, quiet},
};
use crate::mesh::report::answer::{self, Answer};

mod show;

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whom to ask.
    pub agents: Agents,
    /// Which table.
    pub view: View,
    /// How to print.
    pub output: Output,
    /// Parameters of the query, as the server names them; those without a value are left out.
    pub filters: Filters,
}

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Who talks to whom, with retries and where time goes.
    Edges,
    /// Encryption, declared and observed.
    Mtls,
    /// Which servers could take mutual TLS only.
    Readiness,
    /// Declared and observed shares of backends.
    Split,
    /// Rules of routes.
    Routes,
    /// What policy says of requests, and what was done.
    Authz,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// A table.
    #[default]
    Table,
    /// A table, and why below each line.
    Wide,
    /// As the server sends it.
    Json,
}

/// An answer of several agents: who was asked, and what one would answer that sees all they see.
#[derive(Debug, Serialize)]
pub(super) struct Together {
    pub(super) asked: Asked,
    #[serde(flatten)]
    pub(super) answer: Answer,
}

/// Prints a table once.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (text, asked) = match options.agents.only() {
        Some(server) => {
            let path = options.view.report().path();
            (ask(server, path, &options.filters)?, None)
        }
        None => {
            let questions = [(options.view.report(), options.filters.clone())];
            let Cluster { report, asked } = options.agents.ask(&questions)?;
            let line = asked.line();
            let answer = Answer::new(options.view.report(), report);
            let together = Together { asked, answer };
            (serde_json::to_string(&together)?, Some(line))
        }
    };
    let printed = match options.output {
        Output::Json => format!("{}\n", text.trim_end()),
        Output::Table | Output::Wide => {
            let wide = options.output == Output::Wide;
            let mut table = show::table(options.view, &parse(&text)?, wide, now());
            if let Some(line) = asked {
                table.line(line);
            }
            table.text(Style::of_stdout())
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    quiet(write!(out, "{printed}").and_then(|()| out.flush()))?;
    Ok(())
}

pub(super) fn parse(text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text)
        .context("the answer is not about a mesh; is this the observer's port?")
}

/// Seconds since the Unix epoch.
pub(super) fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Lines with columns, and lines of text between them.
#[derive(Debug, Default)]
pub(super) struct Table {
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    Cells(Vec<Cell>),
    Text(String),
}

// === impl View ===

impl View {
    /// What agents call it.
    const fn report(self) -> answer::View {
        match self {
            Self::Edges => answer::View::Edges,
            Self::Mtls => answer::View::Mtls,
            Self::Readiness => answer::View::Readiness,
            Self::Split => answer::View::Split,
            Self::Routes => answer::View::Routes,
            Self::Authz => answer::View::Authz,
        }
    }
}

// === impl Table ===

impl Table {
    /// With headings; those that start with `>` stand on the right, as numbers do.
    pub(super) fn new(headings: &[&str]) -> Self {
        let cells = headings
            .iter()
            .map(|heading| match heading.strip_prefix('>') {
                Some(heading) => Cell::right(heading, Colour::Dim),
                None => Cell::new(heading, Colour::Dim),
            });
        let lines = vec![Line::Cells(cells.collect())];
        Self { lines }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.lines.push(Line::Cells(cells));
    }

    /// A line below the last, indented.
    pub(super) fn note(&mut self, text: &str) {
        let text = super::terminal::plain(text);
        self.lines.push(Line::Text(format!("    {text}")));
    }

    /// A line below the last.
    pub(super) fn line(&mut self, text: String) {
        self.lines.push(Line::Text(text));
    }

    /// What to say instead of nothing.
    pub(super) fn unless_empty(mut self, text: &str) -> Self {
        if self.lines.len() == 1 {
            self.lines.push(Line::Text(text.to_owned()));
        }
        self
    }

    pub(super) fn text(&self, style: Style) -> String {
        let mut columns = Columns::default();
        for line in &self.lines {
            if let Line::Cells(cells) = line {
                columns.measure(cells);
            }
        }
        let mut out = String::new();
        for line in &self.lines {
            match line {
                Line::Cells(cells) => out.push_str(columns.line(style, cells).trim_end()),
                Line::Text(text) => out.push_str(text),
            }
            out.push('\n');
        }
        out
    }
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let list = value.get(key).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64)
}

/// A count as text; `-` when it is not known.
pub(super) fn count(value: &Value, key: &str) -> String {
    let count = value.get(key).and_then(Value::as_u64);
    count.map_or("-".to_owned(), |count| count.to_string())
}

/// A port as text; `-` for none.
pub(super) fn port(value: &Value) -> String {
    match value.get("port").and_then(Value::as_u64) {
        None | Some(0) => "-".to_owned(),
        Some(port) => port.to_string(),
    }
}

/// `namespace/name`, with the kind where it is not a workload or service; `-` for nobody.
pub(super) fn party(value: Option<&Value>) -> String {
    let Some(value) = value.filter(|value| value.is_object()) else {
        return "-".to_owned();
    };
    let name = text(value, "name");
    match (text(value, "kind"), text(value, "namespace")) {
        (kind, _) if name.is_empty() => kind.to_owned(),
        ("workload" | "service", "") => name.to_owned(),
        ("workload" | "service", namespace) => format!("{namespace}/{name}"),
        ("kubernetes_service", namespace) => format!("service {name}.{namespace}"),
        (kind, _) => format!("{kind} {name}"),
    }
}

/// `Kind namespace/name`.
pub(super) fn object(value: &Value) -> String {
    let (kind, name) = (text(value, "kind"), text(value, "name"));
    match text(value, "namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

/// `because PeerAuthentication shop/default: mode STRICT`, one for each reason.
pub(super) fn reasons(value: &Value) -> impl Iterator<Item = String> + '_ {
    list(value, "because").iter().map(|reason| {
        let words = text(reason, "text");
        match reason.get("object").filter(|object| object.is_object()) {
            Some(known) => format!("because {}: {words}", object(known)),
            None => format!("because {words}"),
        }
    })
}

/// How long ago a time was, with one unit: `7s`, `12m`, `3h`, `5d`.
pub(super) fn ago(time: Option<f64>, now: f64) -> String {
    time.map_or("-".to_owned(), |time| span((now - time).max(0.0)))
}

/// Seconds with one unit.
pub(super) fn span(seconds: f64) -> String {
    for (unit, length, most) in [("s", 1.0, 90.0), ("m", 60.0, 90.0), ("h", 3_600.0, 36.0)] {
        if seconds / length < most {
            return format!("{:.0}{unit}", seconds / length);
        }
    }
    format!("{:.0}d", seconds / 86_400.0)
}

#[cfg(test)]
mod tests;

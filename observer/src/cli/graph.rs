//! `observer graph`: who calls whom, as a table, as JSON, or for Graphviz.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
};

use anyhow::Context;
use serde_json::Value;

use super::{
    client,
    terminal::{Cell, Colour, Columns, Style, bytes, duration, plain, quiet, rate},
};

/// What to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// URL of the observer, as `http://127.0.0.1:9920`.
    pub server: String,
    /// How to print.
    pub output: Output,
}

/// How the graph is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// A table of edges.
    #[default]
    Table,
    /// As the server sends it.
    Json,
    /// For Graphviz, in its language DOT.
    Dot,
}

const HEADINGS: [&str; 14] = [
    "SOURCE",
    "DESTINATION",
    "DIALLED",
    "PROTOCOL",
    "SECURITY",
    "BY",
    "CALLS/S",
    "ERRORS",
    "P50",
    "P99",
    "SENT/S",
    "RECEIVED/S",
    "RTT",
    "OPEN",
];

/// Columns that are text.
const TEXTS: usize = 6;

/// Prints the graph once.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    print(options, Style::of_stdout(), &mut out)
}

/// As [`run`], to any writer.
fn print(options: &Options, style: Style, out: &mut impl Write) -> anyhow::Result<()> {
    let text = client::get(&options.server, "/api/v1/graph", false)?
        .text()
        .context("the observer stopped answering")?;
    let answer: Value = serde_json::from_str(&text)
        .context("the answer is not a graph of services; is this the observer's port?")?;
    let text = match options.output {
        Output::Json => format!("{}\n", text.trim_end()),
        Output::Table => table(&answer, style),
        Output::Dot => dot(&answer),
    };
    let written = write!(out, "{text}").and_then(|()| out.flush());
    quiet(written)?;
    Ok(())
}

fn list<'a>(answer: &'a Value, key: &str) -> &'a [Value] {
    let list = answer.get(key).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64)
}

fn percent(ratio: f64) -> String {
    format!("{:.1}%", ratio * 100.0)
}

/// What a node is called: `namespace/name`, with its kind where it is not a workload or service.
fn called(answer: &Value, id: &str) -> String {
    let nodes = list(answer, "nodes");
    let Some(node) = nodes.iter().find(|node| text(node, "id") == id) else {
        return id.to_owned();
    };
    let name = text(node, "name");
    match (text(node, "kind"), text(node, "namespace")) {
        (kind, _) if name.is_empty() => kind.to_owned(),
        ("workload" | "service", "") => name.to_owned(),
        ("workload" | "service", namespace) => format!("{namespace}/{name}"),
        (kind, _) => format!("{kind} {name}"),
    }
}

/// `service.namespace` of what was dialled; empty without.
fn dialled(edge: &Value) -> String {
    match text(edge, "dialled_service") {
        "" => String::new(),
        service => format!("{service}.{}", text(edge, "dialled_namespace")),
    }
}

fn table(answer: &Value, style: Style) -> String {
    let headings = HEADINGS.iter().enumerate().map(|(index, heading)| {
        if index < TEXTS {
            Cell::new(heading, Colour::Dim)
        } else {
            Cell::right(heading, Colour::Dim)
        }
    });
    let mut lines: Vec<Vec<Cell>> = vec![headings.collect()];
    let edges = list(answer, "edges").iter();
    lines.extend(edges.map(|edge| cells(answer, edge)));
    let mut columns = Columns::default();
    for line in &lines {
        columns.measure(line);
    }
    let mut out = String::new();
    for line in &lines {
        out.push_str(columns.line(style, line).trim_end());
        out.push('\n');
    }
    if lines.len() == 1 {
        out.push_str("nobody has called anybody yet\n");
    }
    out
}

fn cells(answer: &Value, edge: &Value) -> Vec<Cell> {
    let known = |key: &str, show: fn(f64) -> String| {
        let text = number(edge, key).map_or("-".to_owned(), show);
        Cell::right(text, Colour::Plain)
    };
    let errors = number(edge, "error_ratio");
    let failing = errors.unwrap_or_default() > 0.0;
    let colour = if failing { Colour::Red } else { Colour::Plain };
    vec![
        Cell::new(called(answer, text(edge, "source")), Colour::Plain),
        Cell::new(called(answer, text(edge, "destination")), Colour::Plain),
        Cell::new(dialled(edge), Colour::Dim),
        Cell::new(text(edge, "protocol"), Colour::Plain),
        Cell::new(text(edge, "security"), Colour::Plain),
        Cell::new(text(edge, "reporter"), Colour::Dim),
        known("requests_per_second", rate),
        Cell::right(errors.map_or("-".to_owned(), percent), colour),
        known("p50_seconds", duration),
        known("p99_seconds", duration),
        known("sent_bytes_per_second", bytes),
        known("received_bytes_per_second", bytes),
        known("rtt_seconds", duration),
        known("open_connections", |count| format!("{count:.0}")),
    ]
}

/// The graph in DOT: nodes of a namespace together, edges in the clear dashed, failing ones red.
fn dot(answer: &Value) -> String {
    let mut out = String::from("digraph services {\n  rankdir=LR;\n  node [shape=box];\n");
    let mut namespaces: Vec<&str> = Vec::new();
    for node in list(answer, "nodes") {
        let namespace = text(node, "namespace");
        if !namespaces.contains(&namespace) {
            namespaces.push(namespace);
        }
    }
    for (index, namespace) in namespaces.into_iter().enumerate() {
        let nodes = list(answer, "nodes").iter();
        let nodes = nodes.filter(|node| text(node, "namespace") == namespace);
        let mut indent = "  ";
        if !namespace.is_empty() {
            let label = quoted(namespace);
            let _ = writeln!(out, "  subgraph cluster_{index} {{\n    label={label};");
            indent = "    ";
        }
        for node in nodes {
            let name = match text(node, "name") {
                "" => text(node, "kind"),
                name => name,
            };
            let kind = match text(node, "workload_kind") {
                "" => text(node, "kind"),
                kind => kind,
            };
            let label = match name == kind {
                true => quoted(name),
                false => quoted(&format!("{name}\n{kind}")),
            };
            let id = quoted(text(node, "id"));
            let _ = writeln!(out, "{indent}{id} [label={label}];");
        }
        if !namespace.is_empty() {
            out.push_str("  }\n");
        }
    }
    for edge in list(answer, "edges") {
        let mut label = text(edge, "protocol").to_owned();
        if let Some(calls) = number(edge, "requests_per_second").filter(|calls| *calls > 0.0) {
            let _ = write!(label, "\n{}/s", rate(calls));
        }
        let errors = number(edge, "error_ratio").unwrap_or_default();
        if errors > 0.0 {
            let _ = write!(label, ", {} failed", percent(errors));
        }
        if let Some(seconds) = number(edge, "p99_seconds") {
            let _ = write!(label, "\np99 {}", duration(seconds));
        }
        let mut style = String::new();
        if text(edge, "security") == "plaintext" {
            style.push_str(", style=dashed");
        }
        if errors > 0.0 {
            style.push_str(", color=red");
        }
        let _ = writeln!(
            out,
            "  {} -> {} [label={}{style}];",
            quoted(text(edge, "source")),
            quoted(text(edge, "destination")),
            quoted(&label)
        );
    }
    out.push_str("}\n");
    out
}

/// A quoted string of DOT, line ends as its `\n`.
fn quoted(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| plain(line).replace('\\', "\\\\").replace('"', "\\\""))
        .collect();
    format!("\"{}\"", lines.join("\\n"))
}

#[cfg(test)]
mod tests;

//! `observer top`: the table of services, again and again.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    thread,
    time::Duration,
};

use anyhow::Context;
use serde_json::Value;

use super::{
    client,
    terminal::{Cell, Colour, Columns, Style, bytes, duration, quiet, rate},
};

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// URL of the observer, as `http://127.0.0.1:9920`.
    pub server: String,
    /// Time between two tables.
    pub interval: Duration,
    /// Print one table and end.
    pub once: bool,
}

/// Clears the screen and moves to its top left corner (ECMA-48: CUP, then ED below).
const CLEAR: &str = "\x1b[H\x1b[J";

const HEADINGS: [&str; 16] = [
    "SIDE", "SERVICE", "WORKLOAD", "CALLS/S", "ERRORS", "P50", "P95", "P99", "ACTIVE", "OLDEST",
    "IN/S", "OUT/S", "OPEN", "SECURED", "COVERED", "LOST",
];

/// Column of the workload of Kubernetes.
const WORKLOAD: usize = 2;

/// Prints tables until nobody reads them, or the observer stops.
pub fn run(options: Options) -> anyhow::Result<()> {
    let terminal = io::stdout().is_terminal();
    let style = Style::of_stdout();
    loop {
        let table = table(&options.server, style)?;
        let mut out = BufWriter::new(io::stdout().lock());
        let clear = if terminal && !options.once { CLEAR } else { "" };
        let written = write!(out, "{clear}{table}").and_then(|()| out.flush());
        if !quiet(written)? || options.once {
            return Ok(());
        }
        drop(out);
        thread::sleep(options.interval.max(Duration::from_millis(100)));
    }
}

/// One table as text.
pub(super) fn table(server: &str, style: Style) -> anyhow::Result<String> {
    let text = client::get(server, "/api/v1/services", false)?
        .text()
        .context("the observer stopped answering")?;
    let answer: Value = serde_json::from_str(&text)
        .context("the answer is not a table of services; is this the observer's port?")?;
    Ok(render(&answer, style))
}

fn render(answer: &Value, style: Style) -> String {
    let rows = answer
        .get("services")
        .and_then(Value::as_array)
        .map(Vec::as_slice);
    let mut rows: Vec<&Value> = rows.unwrap_or_default().iter().collect();
    group(&mut rows);
    // Outside of Kubernetes nobody has one.
    let workloads = rows.iter().any(|row| workload(row).is_some());
    let shown = |index: usize| workloads || index != WORKLOAD;
    let headings = HEADINGS.iter().enumerate().map(|(index, heading)| {
        if index <= WORKLOAD {
            Cell::new(heading, Colour::Dim)
        } else {
            Cell::right(heading, Colour::Dim)
        }
    });
    let mut lines: Vec<Vec<Cell>> = vec![headings.collect()];
    lines.extend(rows.into_iter().map(cells));
    for line in &mut lines {
        let mut index = 0..;
        line.retain(|_| index.next().is_some_and(shown));
    }
    let mut columns = Columns::default();
    for line in &lines {
        columns.measure(line);
    }
    let mut out = String::new();
    for line in &lines {
        out.push_str(&columns.line(style, line));
        out.push('\n');
    }
    if lines.len() == 1 {
        out.push_str("no service has been seen yet\n");
    }
    out
}

/// Puts the services of a namespace together, the namespace with the busiest service first; within
/// it the order stays.
fn group(rows: &mut [&Value]) {
    let namespace = |row: &Value| {
        let namespace = row.get("service_namespace").and_then(Value::as_str);
        namespace.unwrap_or_default().to_owned()
    };
    let mut order: Vec<String> = Vec::new();
    for row in &*rows {
        let namespace = namespace(row);
        if !order.contains(&namespace) {
            order.push(namespace);
        }
    }
    rows.sort_by_key(|row| {
        let own = namespace(row);
        order.iter().position(|namespace| *namespace == own)
    });
}

/// `namespace/workload` of Kubernetes.
fn workload(row: &Value) -> Option<String> {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    Some(format!(
        "{}/{}",
        text("k8s_namespace")?,
        text("k8s_workload")?
    ))
}

fn cells(row: &Value) -> Vec<Cell> {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| row.get(key).and_then(Value::as_f64);
    let known = |key: &str, show: fn(f64) -> String| {
        Cell::right(number(key).map_or("-".to_owned(), show), Colour::Plain)
    };
    let percent =
        |key: &str| number(key).map_or("-".to_owned(), |ratio| format!("{:.1}%", ratio * 100.0));
    let count = |value: f64| format!("{value:.0}");
    let above = |key: &str, colour| {
        if number(key).unwrap_or_default() > 0.0 {
            colour
        } else {
            Colour::Plain
        }
    };
    let name = match text("service_namespace") {
        "" => text("service").to_owned(),
        namespace => format!("{namespace}/{}", text("service")),
    };
    vec![
        Cell::new(text("side"), Colour::Dim),
        Cell::new(name, Colour::Plain),
        Cell::new(workload(row).unwrap_or_default(), Colour::Dim),
        known("calls_per_second", rate),
        Cell::right(percent("error_ratio"), above("error_ratio", Colour::Red)),
        known("p50_seconds", duration),
        known("p95_seconds", duration),
        known("p99_seconds", duration),
        known("in_flight", count),
        known("oldest_in_flight_seconds", duration),
        known("received_bytes_per_second", bytes),
        known("sent_bytes_per_second", bytes),
        known("open_connections", count),
        Cell::right(percent("encrypted_ratio"), Colour::Plain),
        Cell::right(percent("coverage_ratio"), Colour::Plain),
        Cell::right(
            count(number("lost_total").unwrap_or_default()),
            above("lost_total", Colour::Yellow),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables() {
        let answer = json!({"window_seconds": 10, "services": [
            {"service": "web", "service_namespace": "shop", "side": "server",
             "calls_per_second": 120.4, "errors_per_second": 1.2, "error_ratio": 0.01,
             "p50_seconds": 0.002, "p95_seconds": 0.01, "p99_seconds": 1.25, "in_flight": 3,
             "oldest_in_flight_seconds": 12.0, "received_bytes_per_second": 2048.0,
             "sent_bytes_per_second": 5e6, "open_connections": 7, "encrypted_ratio": 0.25, "coverage_ratio": 0.998,
             "lost_total": 0},
            {"service": "sshd", "service_namespace": "", "side": "unknown",
             "calls_per_second": 0.0, "error_ratio": null, "p50_seconds": null,
             "in_flight": 0, "received_bytes_per_second": 0.0, "sent_bytes_per_second": 0.0,
             "open_connections": 1, "encrypted_ratio": null, "coverage_ratio": 0.0,
             "lost_total": 2},
        ]});
        let expected = "\
SIDE     SERVICE   CALLS/S  ERRORS     P50     P95    P99  ACTIVE  OLDEST     IN/S    OUT/S  OPEN  SECURED  COVERED  LOST
server   shop/web      120    1.0%  2.00ms  10.0ms  1.25s       3   12.0s  2.00KiB  4.77MiB     7    25.0%    99.8%     0
unknown  sshd          0.0       -       -       -      -       0       -       0B       0B     1        -     0.0%     2
";
        assert_eq!(render(&answer, Style::plain()), expected);
        assert!(render(&answer, Style::coloured()).contains("\x1b[31m  1.0%\x1b[0m"));
        let answer = json!({"services": [
            {"service": "web", "service_namespace": "shop", "side": "server"},
            {"service": "sshd", "service_namespace": "", "side": "server"},
            {"service": "cart", "service_namespace": "shop", "side": "server",
             "k8s_namespace": "prod", "k8s_workload": "cart-v2"},
        ]});
        let table = render(&answer, Style::plain());
        let words: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().take(3).collect())
            .collect();
        assert_eq!(words[0], ["SIDE", "SERVICE", "WORKLOAD"]);
        assert_eq!(words[1][1], "shop/web");
        assert_eq!(words[2][1..], ["shop/cart", "prod/cart-v2"]);
        assert_eq!(words[3][1], "sshd");
        assert!(render(&json!({}), Style::plain()).ends_with("no service has been seen yet\n"));
    }
}

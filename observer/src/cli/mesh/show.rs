//! The tables of `observer mesh`.

use serde_json::Value;

use super::{Table, View, ago, count, list, number, object, party, port, reasons, span, text};
use crate::cli::terminal::{Cell, Colour, duration};

/// The table for an answer; `wide`: with reasons.
pub(super) fn table(view: View, answer: &Value, wide: bool, now: f64) -> Table {
    let table = match view {
        View::Edges => edges(answer, wide),
        View::Mtls => mtls(answer, wide),
        View::Readiness => readiness(answer, now),
        View::Split => split(answer),
        View::Routes => routes(answer, now),
        View::Authz => authz(answer, wide),
    };
    let observed = span(number(answer, "observed_seconds").unwrap_or_default());
    table.unless_empty(&format!("nothing was seen in {observed}"))
}

fn plain(text: impl AsRef<str>) -> Cell {
    Cell::new(text, Colour::Plain)
}

fn dim(text: impl AsRef<str>) -> Cell {
    Cell::new(text, Colour::Dim)
}

fn right(text: impl AsRef<str>) -> Cell {
    Cell::right(text, Colour::Plain)
}

fn verdict(value: &Value) -> Cell {
    let verdict = text(value, "verdict");
    let colour = match verdict {
        "satisfied" => Colour::Green,
        "violated" => Colour::Red,
        _ => Colour::Yellow,
    };
    Cell::new(verdict, colour)
}

fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |share| format!("{:.1}%", share * 100.0))
}

fn seconds(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), duration)
}

/// What of encryption is not as it should be stands out.
fn encrypted(edge: &Value) -> Cell {
    let share = number(edge, "encrypted_share");
    let colour = match share {
        Some(share) if share >= 1.0 => Colour::Green,
        Some(_) => Colour::Yellow,
        None => Colour::Dim,
    };
    Cell::right(percent(share), colour)
}

/// `istio_mtls 25.0%, plaintext 75.0%`: of requests, or of connections where there are none.
fn observed(edge: &Value) -> String {
    let seen = list(edge, "observed");
    let sum = |key| -> f64 { seen.iter().filter_map(|one| number(one, key)).sum() };
    let key = if sum("requests") > 0.0 {
        "requests"
    } else {
        "connections"
    };
    let total = sum(key);
    if total <= 0.0 {
        return "-".to_owned();
    }
    let parts = seen.iter().filter_map(|one| {
        let share = number(one, key)? / total;
        (share > 0.0).then(|| format!("{} {}", text(one, "security"), percent(Some(share))))
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn explain(table: &mut Table, value: &Value, wide: bool) {
    if wide {
        for reason in reasons(value) {
            table.note(&reason);
        }
    }
}

fn edges(answer: &Value, wide: bool) -> Table {
    let mut table = Table::new(&[
        "CLIENT",
        "SERVER",
        "SERVICE",
        ">PORT",
        ">ENCRYPTED",
        "VERDICT",
        ">RETRIES",
        ">AT CLIENT",
        ">CLIENT PROXY",
        ">NETWORK",
        ">SERVER PROXY",
        ">AT SERVER",
    ]);
    for edge in list(answer, "edges") {
        let latency = edge.get("latency").unwrap_or(&Value::Null);
        let mut cells = vec![
            plain(party(edge.get("client"))),
            plain(party(edge.get("server"))),
            dim(text(edge, "service")),
            right(port(edge)),
            encrypted(edge),
            verdict(edge),
            right(percent(number(edge, "retry_ratio"))),
        ];
        let parts = [
            "client",
            "client_proxy",
            "network",
            "server_proxy",
            "server",
        ];
        cells.extend(parts.map(|part| right(seconds(number(latency, part)))));
        table.row(cells);
        explain(&mut table, edge, wide);
    }
    table
}

fn mtls(answer: &Value, wide: bool) -> Table {
    let mut table = Table::new(&[
        "CLIENT",
        "SERVER",
        ">PORT",
        "CLIENT IN",
        "SERVER IN",
        "DECLARED",
        ">ENCRYPTED",
        "VERDICT",
        "OBSERVED",
    ]);
    for edge in list(answer, "edges") {
        table.row(vec![
            plain(party(edge.get("client"))),
            plain(party(edge.get("server"))),
            right(port(edge)),
            dim(text(edge, "client_plane")),
            dim(text(edge, "server_plane")),
            plain(text(edge, "declared")),
            encrypted(edge),
            verdict(edge),
            plain(observed(edge)),
        ]);
        explain(&mut table, edge, wide);
    }
    for namespace in list(answer, "namespaces") {
        let name = match text(namespace, "namespace") {
            "" => "without a namespace",
            name => name,
        };
        let [edges, encrypted, plaintext, violated] =
            ["edges", "encrypted", "plaintext", "violated"].map(|key| count(namespace, key));
        table.note(&format!(
            "{name}: {edges} edges, {encrypted} all encrypted, {plaintext} with plaintext, \
             {violated} not as declared"
        ));
    }
    table
}

fn readiness(answer: &Value, now: f64) -> Table {
    let mut table = Table::new(&[
        "SERVER",
        "STATE",
        "DECLARED",
        ">OBSERVED",
        ">OF",
        ">CONNECTIONS",
        ">PLAINTEXT",
        "WHY",
    ]);
    for server in list(answer, "readiness") {
        let state = text(server, "state");
        let colour = match state {
            "READY" => Colour::Green,
            "NOT READY" => Colour::Red,
            _ => Colour::Yellow,
        };
        let clients = list(server, "plaintext");
        let plaintext: f64 = clients
            .iter()
            .filter_map(|client| number(client, "connections"))
            .sum();
        let time = |key| right(number(server, key).map_or("-".to_owned(), span));
        table.row(vec![
            plain(party(server.get("workload"))),
            Cell::new(state, colour),
            plain(text(server, "declared")),
            time("observed_seconds"),
            time("window_seconds"),
            right(count(server, "connections")),
            right(format!("{plaintext:.0}")),
            plain(text(server, "why")),
        ]);
        for client in clients {
            let who = match text(client, "address") {
                "" => party(client.get("client")),
                address => format!("{} {address}", party(client.get("client"))),
            };
            let (port, times) = (port(client), count(client, "connections"));
            let last = ago(number(client, "last_seen"), now);
            table.note(&format!(
                "plaintext from {who} to port {port}: {times} connections, the last {last} ago"
            ));
        }
    }
    table
}

fn split(answer: &Value) -> Table {
    let mut table = Table::new(&[
        "OBJECT",
        "RULE",
        "HOST",
        "BACKEND",
        ">DECLARED",
        ">OBSERVED",
        ">REQUESTS",
        ">P",
        "VERDICT",
        "WHY",
    ]);
    for split in list(answer, "splits") {
        for (index, backend) in list(split, "backends").iter().enumerate() {
            let called = match text(backend, "subset") {
                "" => text(backend, "host").to_owned(),
                subset => format!("{} {subset}", text(backend, "host")),
            };
            // What is the same for all of them is told once.
            let once = |text: String| if index == 0 { text } else { String::new() };
            let chance = number(split, "p_value").map_or("-".to_owned(), |p| format!("{p:.2e}"));
            let mut cells = vec![
                plain(once(split.get("object").map(object).unwrap_or_default())),
                plain(once(text(split, "rule").to_owned())),
                dim(once(text(split, "host").to_owned())),
                plain(called),
                right(percent(number(backend, "declared"))),
                right(percent(number(backend, "observed"))),
                right(count(backend, "requests")),
            ];
            if index == 0 {
                cells.extend([right(chance), verdict(split), plain(text(split, "why"))]);
            }
            table.row(cells);
        }
    }
    table
}

fn routes(answer: &Value, now: f64) -> Table {
    let mut table = Table::new(&[
        "OBJECT",
        "RULE",
        "HOST",
        "STATE",
        ">REQUESTS",
        ">OF",
        ">LAST",
        ">TIMEOUT",
        ">RETRIES",
        ">LONGEST",
        "WHY",
    ]);
    for route in list(answer, "routes") {
        let state = text(route, "state");
        let colour = match state {
            "used" => Colour::Green,
            "shadowed" => Colour::Red,
            _ => Colour::Yellow,
        };
        table.row(vec![
            plain(route.get("object").map(object).unwrap_or_default()),
            plain(text(route, "rule")),
            dim(text(route, "host")),
            Cell::new(state, colour),
            right(count(route, "requests")),
            right(count(route, "host_requests")),
            right(ago(number(route, "last_seen"), now)),
            right(seconds(number(route, "timeout_seconds"))),
            right(count(route, "retries")),
            right(seconds(number(route, "longest_seconds"))),
            plain(text(route, "why")),
        ]);
    }
    table
}

fn authz(answer: &Value, wide: bool) -> Table {
    let mut table = Table::new(&[
        "CLIENT", "SERVER", ">PORT", ">ALLOWED", ">DENIED", ">UNKNOWN", ">REFUSED", "VERDICT",
        "IDENTITY",
    ]);
    for one in list(answer, "authorizations") {
        let mut cells = vec![
            plain(party(one.get("client"))),
            plain(party(one.get("server"))),
            right(port(one)),
        ];
        cells.extend(["allowed", "denied", "unknown", "refused"].map(|key| right(count(one, key))));
        let identity = match text(one, "identity") {
            "" => "-",
            identity => identity,
        };
        cells.extend([verdict(one), dim(identity)]);
        table.row(cells);
        explain(&mut table, one, wide);
    }
    table
}

//! Lines of flows, and the command against a real server with a pipeline driven by hand.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use serde_json::json;

use super::*;
use crate::{
    aggregate::{Aggregator, fixture},
    mesh::report::Report,
    model::{
        call::LinkEvent,
        connection::{ConnectFailure, Role},
        time::{Monotonic, WallOffset},
        workload::Peer,
    },
    serve::{self, Hub, Pipeline, Query, Recent},
    telemetry::health::Health,
};

/// Answers what is asked, as the pipeline does between two batches.
fn answer(aggregator: &mut Aggregator, pipeline: &mut Pipeline) {
    while let Some(query) = pipeline.query() {
        match query {
            Query::Snapshot(reply) => {
                let _ = reply.send(aggregator.snapshot(Health::default(), Monotonic(9)));
            }
            Query::Graph(reply) => {
                let _ = reply.send(aggregator.graph(Monotonic(9)));
            }
            Query::GraphIn { window, reply } => {
                let _ = reply.send(aggregator.graph_in(window, Monotonic(9)));
            }
            Query::Mesh { reply, .. } => {
                let _ = reply.send(Arc::new(Report::default()));
            }
            Query::History {
                last,
                filter,
                reply,
            } => {
                let history = aggregator.history();
                let flows = history.last(last, |flow| filter.matches(flow));
                let _ = reply.send(Recent {
                    flows,
                    sequence: history.sequence(),
                });
            }
        }
    }
}

/// A server with some flows; hands the aggregate out to publish more when `live` says so.
fn server(live: mpsc::Receiver<u16>) -> (String, Hub) {
    let offset = WallOffset {
        nanoseconds: 1_700_000_000_000_000_000,
    };
    let (hub, mut pipeline) = serve::channel(serve::Config::default(), offset);
    hub.set_unready(Vec::new());
    let (ready, address) = mpsc::channel();
    let served = hub.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            serve::run(listener, served, std::future::pending()).await;
        });
    });
    thread::spawn(move || {
        let mut aggregator = Aggregator::new(Default::default());
        let peer = Peer::Local(fixture::workload("database"));
        let client = fixture::link_with(2, "web", Role::Client, peer);
        let failure = ConnectFailure::Refused;
        let at = Monotonic(5 * fixture::SECOND);
        let now = Monotonic(6 * fixture::SECOND);
        for event in [
            LinkEvent::Opened(fixture::link(1, "web")),
            fixture::closed(&fixture::link(1, "web"), 2_000),
            LinkEvent::Failed {
                link: client,
                at,
                failure,
            },
        ] {
            aggregator.link(&event, now);
        }
        for (path, status) in [("/", 200), ("/orders/7", 404), ("/pay", 500)] {
            aggregator.call(&fixture::call("web", path, status), None, now);
        }
        loop {
            answer(&mut aggregator, &mut pipeline);
            match live.recv_timeout(std::time::Duration::from_millis(1)) {
                Ok(status) => {
                    let call = fixture::call("web", "/live", status);
                    pipeline.publish(aggregator.call(&call, None, now).unwrap());
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    (format!("http://{}", address.recv().unwrap()), hub)
}

fn printed(options: &Options) -> String {
    let mut out = Vec::new();
    print(options, Style::plain(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn lookups_and_datagrams() {
    let time = "2023-11-14T22:13:20.000000000Z";
    let line = |mut flow: Value| {
        flow["time"] = time.into();
        flow["service"] = "web".into();
        flow["duration_seconds"] = 0.002.into();
        Columns::default().line(Style::plain(), &cells(&flow, false))
    };
    let found = line(json!({
        "kind": "lookup", "side": "client", "peer": "10.96.0.10:53", "name": "db.shop", "type": "A",
        "outcome": "answered", "code": "NOERROR", "error": null,
        "answers": [{"type": "CNAME", "value": "db-0.shop"}, {"type": "A", "value": "192.0.2.5"}],
    }));
    assert_eq!(
        found.trim_end(),
        "22:13:20.000  client  web  ->  10.96.0.10:53  NOERROR  2.00ms  DNS  A db.shop  192.0.2.5"
    );
    let lost = line(json!({
        "kind": "lookup", "side": "server", "peer": "10.0.0.9", "name": "db.shop", "type": "A",
        "outcome": "timeout", "code": null, "error": "timeout", "answers": [],
    }));
    assert_eq!(
        lost.trim_end(),
        "22:13:20.000  server  web  <-  10.0.0.9  timeout  2.00ms  DNS  A db.shop"
    );
    let quic = line(json!({
        "kind": "datagrams", "side": "unknown", "protocol": "quic", "peer": "192.0.2.1:443",
        "server_name": "shop.example", "sent_bytes": 1000, "sent_packets": 3,
        "received_bytes": 0, "received_packets": 0,
    }));
    assert_eq!(
        quic.trim_end(),
        "22:13:20.000  unknown  web  --  192.0.2.1:443  idle  2.00ms  QUIC  \
         shop.example  0.98KiB in 3 sent, 0B in 0 received"
    );
}

#[test]
fn the_last_flows() {
    let (_live, receiver) = mpsc::channel();
    let (server, _hub) = server(receiver);
    let options = Options {
        server,
        ..Options::default()
    };
    let expected = "\
22:13:21.002  server  web  <-  192.0.2.7  opened    TCP  
22:13:25.000  server  web  <-  192.0.2.7  closed  4.00s  TCP  by remote, 19.5KiB sent, 1.95KiB received
22:13:25.000  client  web  ->  database   failed  4.00s  TCP  refused
22:13:22.000  server  web  <-  192.0.2.7     200  10.0ms  GET  /?...
22:13:22.000  server  web  <-  192.0.2.7     404  10.0ms  GET  /orders/7?...
22:13:22.000  server  web  <-  192.0.2.7     500  10.0ms  GET  /pay?...
";
    assert_eq!(printed(&options), expected);

    let filters = Filters {
        path: Some("/orders/*".to_owned()),
        status: Some("4xx,500".to_owned()),
        ..Filters::default()
    };
    let filtered = Options {
        filters,
        ..options.clone()
    };
    assert_eq!(printed(&filtered).lines().count(), 1);

    let json = Options {
        output: Output::Json,
        last: Some(2),
        ..options.clone()
    };
    let paths: Vec<String> = printed(&json)
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["path"]
                .as_str()
                .unwrap()
                .into()
        })
        .collect();
    assert_eq!(paths, ["/orders/7", "/pay"]);

    let wide = printed(&Options {
        output: Output::Wide,
        last: Some(1),
        ..options.clone()
    });
    for part in [
        "2023-11-14T22:13:22.000000000Z",
        "10.0.0.1:8080 <- 192.0.2.7:40000",
        "route=/pay error=500 time_to_first_byte=9.00ms",
        "unit=web.service connection=0000000000000001 ordinal=3",
    ] {
        assert!(wide.contains(part), "no {part} in {wide}");
    }

    let filters = Filters {
        port: Some("http".to_owned()),
        ..Filters::default()
    };
    let wrong = Options { filters, ..options };
    let error = print(&wrong, Style::plain(), &mut Vec::new()).unwrap_err();
    let text = "answered 400: port=http: expected a port from 1 to 65535";
    assert!(error.to_string().ends_with(text), "{error}");
}

#[test]
fn top_shows_the_same_server() {
    let (_live, receiver) = mpsc::channel();
    let (server, _hub) = server(receiver);
    let table = crate::cli::top::table(&server, Style::plain()).unwrap();
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..2], ["server", "shop/web"]);
    // One of three failed; half of the bytes were understood.
    assert_eq!((row[3], row[13]), ("33.3%", "50.0%"), "{table}");
}

/// Takes lines, and then breaks like a closed pipe.
struct Pipe {
    lines: usize,
    taken: Vec<u8>,
    sent: mpsc::Sender<()>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.lines == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.taken.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            self.lines -= 1;
            self.sent.send(()).unwrap();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn following_shows_history_then_live_flows_once_and_ends_quietly() {
    let (live, receiver) = mpsc::channel();
    let (server, _hub) = server(receiver);
    let filters = Filters {
        protocol: Some("http".to_owned()),
        ..Filters::default()
    };
    let output = Output::Json;
    let options = Options {
        server,
        follow: true,
        last: Some(1),
        output,
        filters,
    };
    let (sent, taken) = mpsc::channel();
    let mut pipe = Pipe {
        lines: 3,
        taken: Vec::new(),
        sent,
    };
    let printer = thread::spawn(move || {
        print(&options, Style::plain(), &mut pipe).unwrap();
        pipe.taken
    });
    taken.recv().unwrap();
    // One at a time: each must arrive without another one pushing it.
    for status in [201, 202] {
        live.send(status).unwrap();
        taken.recv().unwrap();
    }
    live.send(203).unwrap();
    let text = String::from_utf8(printer.join().unwrap()).unwrap();
    let statuses: Vec<u64> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["status"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(statuses, [500, 201, 202]);
}

#[test]
fn lost_flows_are_said() {
    let lost = serde_json::json!({"kind": "lost", "count": 12});
    let line = Columns::default().line(Style::plain(), &cells(&lost, false));
    assert_eq!(line, "12 flows lost: this reader was too slow");
}

#[test]
fn procedures_and_handshakes() {
    let call = |status: &str, error: Option<&str>, responses: u64, at_least: bool| {
        let flow = serde_json::json!({
            "kind": "call", "time": "2023-11-14T22:13:22.000000000Z", "side": "client",
            "service": "web", "peer": "shop", "protocol": "grpc", "method": "POST",
            "path": "/shop.Orders/Watch", "status": 200, "outcome": "complete",
            "duration_seconds": 0.01, "error": error, "rpc_system": "grpc",
            "rpc_status": status, "rpc_request_messages": 1,
            "rpc_request_messages_at_least": false, "rpc_response_messages": responses,
            "rpc_response_messages_at_least": at_least,
        });
        Columns::default().line(Style::coloured(), &cells(&flow, false))
    };
    for (line, colour, status, path) in [
        (call("OK", None, 1, false), 32, "OK", "/shop.Orders/Watch"),
        (
            call("INTERNAL", Some("INTERNAL"), 1, false),
            31,
            "INTERNAL",
            "/shop.Orders/Watch",
        ),
        (
            call("NOT_FOUND", None, 40, true),
            33,
            "NOT_FOUND",
            "/shop.Orders/Watch  40+ responses",
        ),
    ] {
        let status = format!("\x1b[{colour}m{status}\x1b[0m");
        assert!(line.contains(&status), "{line:?}");
        assert!(line.contains("  grpc  "), "{line:?}");
        assert!(line.trim_end().ends_with(path), "{line:?}");
    }
    let recognised = serde_json::json!({
        "kind": "connection", "event": "recognised", "time": "2023-11-14T22:13:22.000000000Z",
        "side": "client", "service": "web", "peer": "198.51.100.9:443",
        "application_protocol": "tls", "security": "tls", "tls_version": "1.3",
        "tls_server_name": "shop.example", "tls_alert": 40, "proxied_source": "192.0.2.1:99",
    });
    let line = Columns::default().line(Style::plain(), &cells(&recognised, false));
    let detail = "recognised    TCP  tls, TLS 1.3, shop.example, alert 40, for 192.0.2.1:99";
    assert!(line.ends_with(detail), "{line:?}");
}

#[test]
fn pods_and_what_was_dialled() {
    let flow = json!({
        "kind": "call", "time": "2023-11-14T22:13:20.000000000Z", "side": "client",
        "service": "web", "peer": "cart", "status": 200, "duration_seconds": 0.002,
        "method": "GET", "path": "/", "outcome": "complete", "k8s_namespace": "shop",
        "k8s_pod": "web-5d4f-a", "k8s_container": "main", "peer_kind": "pod",
        "peer_k8s_namespace": "shop", "peer_k8s_pod": "cart-5d4f-k", "peer_zone": "eu-1b",
        "dialled_service": "basket", "dialled_namespace": "shop", "dialled_kind": "cluster_ip",
    });
    let line = |wide| Columns::default().line(Style::plain(), &cells(&flow, wide));
    let short = line(false);
    assert!(
        short.contains("shop/web-5d4f-a  ->  shop/cart-5d4f-k (basket.shop)"),
        "{short}"
    );
    let wide = line(true);
    assert!(
        wide.contains(
            "service=web k8s_container=main peer_kind=pod peer_zone=eu-1b dialled_kind=cluster_ip"
        ),
        "{wide}"
    );
}

#[test]
fn who_is_behind_a_proxy_is_shown() {
    let flow = json!({
        "kind": "call", "time": "2023-11-14T22:13:20.000000000Z", "side": "server",
        "service": "web", "peer": "web", "k8s_namespace": "shop", "k8s_pod": "web-1",
        "peer_k8s_namespace": "shop", "peer_k8s_pod": "web-1", "far_k8s_namespace": "pay",
        "far_k8s_pod": "bill-2", "far_peer": "bill", "status": 200, "duration_seconds": 0.002,
        "method": "GET", "path": "/", "outcome": "complete", "hop": "from_proxy",
        "client_identity": "spiffe://cluster.local/ns/pay/sa/bill", "verdict": "violated",
        "declared_mtls": "strict", "far_security": "plaintext",
    });
    let line = |flow: &Value, wide| {
        let line = Columns::default().line(Style::plain(), &cells(flow, wide));
        line.trim_end().to_owned()
    };
    assert_eq!(
        line(&flow, false),
        "22:13:20.000  server  shop/web-1  <-  pay/bill-2  200  2.00ms  GET  /  not as declared"
    );
    let wide = line(&flow, true);
    for part in [
        "hop=from_proxy",
        "far_security=plaintext",
        "client_identity=spiffe://cluster.local/ns/pay/sa/bill",
        "declared_mtls=strict verdict=violated",
    ] {
        assert!(wide.contains(part), "{wide}");
    }
    // Of several behind a Service nobody knows which.
    let mut service = flow.clone();
    for key in ["far_k8s_pod", "verdict"] {
        service[key] = Value::Null;
    }
    service["hop"] = "direct".into();
    let found = line(&service, false);
    assert!(found.contains("<-  pay/bill  200"), "{found}");
    assert!(!line(&service, true).contains("hop="));
}

#[test]
fn filters_of_the_mesh_are_sent() {
    let options = Options {
        filters: Filters {
            hop: Some("proxy".to_owned()),
            identity: Some("*/sa/a b".to_owned()),
            verdict: Some("violated".to_owned()),
            ..Filters::default()
        },
        ..Options::default()
    };
    let path = options.path();
    assert!(
        path.ends_with("&hop=proxy&identity=%2A%2Fsa%2Fa%20b&verdict=violated"),
        "{path}"
    );
}

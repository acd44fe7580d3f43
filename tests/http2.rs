//! HTTP/2 in the clear, of every peer at hand: each stream is told once at each end, as its client
//! counted it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    process::Command,
    time::Instant,
};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    client,
    flow::BOTH_SIDES,
    h2load::Load,
    peers::{self, Peer},
    place::Place,
    requirement::{Need, lacking},
    server::Server,
    settings,
    tally::{self, Tally},
};
use serde_json::json;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What h2load asks nginx and nghttpd for.
const PATHS: &[(&str, u16, u64)] = &[("/hello", 200, 12), ("/64k", 200, 65536)];

/// Drives a server by `drive`, and compares all calls at both ends with what it counted.
fn check(
    label: &str,
    needs: &[Need],
    start: impl FnOnce(&Place<'_>) -> Result<Server>,
    drive: impl FnOnce(&Place<'_>, &Server) -> Result<Tally>,
) -> Result<()> {
    if lacking(&[&[Need::Observer], needs].concat())? {
        return Ok(());
    }
    let cgroup = Cgroup::create(label)?;
    let place = Place::host(&cgroup);
    let server = start(&place)?;
    let options = Options {
        configuration: Some(settings::long_history()),
        ..Options::default()
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    let started = Instant::now();
    let counted = drive(&place, &server)?;
    let took = started.elapsed();
    ensure!(counted.total() > 0, "the client counted nothing");
    let calls = tally::expect(&agent, label, &counted, &BOTH_SIDES, |_| true)?;
    tally::expect_agreement(&calls, took)?;
    for side in BOTH_SIDES {
        let name = format!("http_{side}_request_duration_seconds_count");
        agent.expect_metric(&name, &[], counted.total())?;
    }
    agent.expect_no_loss()?;
    agent.stop()
}

fn check_h2load(
    label: &str,
    start: impl FnOnce(&Place<'_>) -> Result<Server>,
    tool: &'static str,
    load: (u64, u64, u64),
    arguments: &[&str],
) -> Result<()> {
    let needs = [Need::Tool("h2load"), Need::Tool(tool)];
    check(label, &needs, start, |place, server| {
        let (requests, connections, streams) = load;
        Load {
            address: server.address(),
            paths: PATHS,
            requests,
            connections,
            streams,
            upload: None,
            arguments,
        }
        .run(place)
    })
}

fn nghttpd(place: &Place<'_>) -> Result<Server> {
    Server::nghttpd(place, LOCAL, &[])
}

/// Runs a client of one of the scripts against a server of its kind or another.
fn check_client(
    label: &str,
    needs: &[Need],
    start: impl FnOnce(&Place<'_>) -> Result<Server>,
    command: impl FnOnce(&Place<'_>, &Server) -> Result<Command>,
) -> Result<()> {
    check(label, needs, start, |place, server| {
        Ok(peers::count(&mut command(place, server)?)?.with("version", "2"))
    })
}

fn check_frames(mode: &str) -> Result<()> {
    let needs = [Need::Tool("node"), Need::Peer(Peer::Python)];
    check_client(mode, &needs, Server::node_http2, |place, server| {
        let port = server.address().port().to_string();
        peers::python(place, "frames.py", &[mode, &port])
    })
}

#[test]
fn one_stream_at_a_time_of_nghttpd_is_told() -> Result<()> {
    check_h2load("nghttpd-1", nghttpd, "nghttpd", (4000, 4, 1), &[])
}

#[test]
fn ten_streams_at_a_time_of_nghttpd_are_told() -> Result<()> {
    check_h2load("nghttpd-10", nghttpd, "nghttpd", (4000, 4, 10), &[])
}

#[test]
fn a_hundred_streams_at_a_time_of_nghttpd_are_told() -> Result<()> {
    check_h2load("nghttpd-100", nghttpd, "nghttpd", (4000, 4, 100), &[])
}

#[test]
fn one_stream_at_a_time_of_nginx_is_told() -> Result<()> {
    check_h2load("nginx-1", Server::nginx_http2, "nginx", (4000, 4, 1), &[])
}

#[test]
fn ten_streams_at_a_time_of_nginx_are_told() -> Result<()> {
    check_h2load("nginx-10", Server::nginx_http2, "nginx", (4000, 4, 10), &[])
}

#[test]
fn a_hundred_streams_at_a_time_of_nginx_are_told() -> Result<()> {
    let load = (4000, 4, 100);
    check_h2load("nginx-100", Server::nginx_http2, "nginx", load, &[])
}

#[test]
fn header_tables_of_other_sizes_change_nothing() -> Result<()> {
    let start = |place: &Place<'_>| {
        let sizes = ["--header-table-size=200", "--encoder-header-table-size=70"];
        let more = ["--padding=100", "--trailer=x-sum: 12"];
        Server::nghttpd(place, LOCAL, &[sizes, more].concat())
    };
    let arguments = [
        "--header-table-size=100",
        "--encoder-header-table-size=128",
        "--header=x-one: 0123456789012345678901234567890123456789",
        "--header=x-two: 0123456789012345678901234567890123456789",
    ];
    check_h2load("tables", start, "nghttpd", (2000, 2, 10), &arguments)
}

#[test]
fn uploads_of_many_streams_are_told() -> Result<()> {
    let needs = [Need::Tool("h2load"), Need::Peer(Peer::Go)];
    let folder = tempfile::tempdir()?;
    let upload = folder.path().join("upload");
    fs::write(&upload, vec![b'q'; 100_000])?;
    let start = |place: &Place<'_>| Server::go(place, LOCAL);
    check("uploads", &needs, start, |place, server| {
        Load {
            address: server.address(),
            paths: &[("/count", 200, 12), ("/echo", 200, 100_000)],
            requests: 400,
            connections: 2,
            streams: 20,
            upload: Some(&upload),
            arguments: &[],
        }
        .run(place)
    })
}

#[test]
fn long_bodies_of_several_streams_are_told() -> Result<()> {
    let needs = [Need::Peer(Peer::Go)];
    let start = |place: &Place<'_>| Server::go(place, LOCAL);
    check_client("long", &needs, start, |place, server| {
        let address = server.address().to_string();
        let size = (10 << 20).to_string();
        let arguments = ["load", "-address", &address, "-large", &size];
        let load = ["-connections", "1", "-streams", "4", "-rounds", "4"];
        peers::go(place, &[&arguments[..], &load].concat())
    })
}

#[test]
fn all_that_go_does_is_told() -> Result<()> {
    let start = |place: &Place<'_>| Server::go(place, LOCAL);
    check_client("go", &[Need::Peer(Peer::Go)], start, |place, server| {
        let address = server.address().to_string();
        peers::go(place, &["load", "-address", &address])
    })
}

#[test]
fn all_that_node_does_is_told() -> Result<()> {
    let needs = [Need::Tool("node")];
    check_client("node", &needs, Server::node_http2, |place, server| {
        let port = server.address().port().to_string();
        peers::node(place, "http2.mjs", &["call", &port])
    })
}

#[test]
fn frames_split_at_every_byte_are_told() -> Result<()> {
    check_frames("split")
}

#[test]
fn padding_and_priority_change_nothing() -> Result<()> {
    check_frames("padding")
}

#[test]
fn bodies_in_turns_are_told() -> Result<()> {
    check_frames("interleaved")
}

#[test]
fn changing_header_tables_are_followed() -> Result<()> {
    check_frames("tables")
}

#[test]
fn extended_connects_are_told() -> Result<()> {
    check_frames("connect")
}

#[test]
fn heads_in_many_continuations_are_told() -> Result<()> {
    let needs = [Need::Peer(Peer::Go), Need::Peer(Peer::Python)];
    let start = |place: &Place<'_>| Server::go(place, LOCAL);
    check_client("continuation", &needs, start, |place, server| {
        let port = server.address().port().to_string();
        peers::python(place, "frames.py", &["continuation", &port])
    })
}

/// What curl does with prior knowledge, against any server.
fn check_curl(label: &str, tool: Need, start: fn(&Place<'_>) -> Result<Server>) -> Result<()> {
    check(
        label,
        &[Need::Tool("curl"), tool],
        start,
        |place, server| {
            let mut counted = Tally::default();
            for (path, status, method) in [
                ("/hello", 200, "GET"),
                ("/hello?token=secret", 200, "GET"),
                ("/missing", 404, "GET"),
                ("/hello", 200, "HEAD"),
            ] {
                let url = server.url(path);
                let mut arguments = vec!["--http2-prior-knowledge", &url];
                if method == "HEAD" {
                    arguments.push("--head");
                }
                let fetched = client::curl(place, &arguments)?;
                ensure!(fetched.status == status, "{fetched:?}");
                let fields = json!({
                    "method": method,
                    "path": path.split('?').next(),
                    "query": path.contains('?'),
                    "version": "2",
                    "status": status,
                    "outcome": "complete",
                    "authority": server.address().to_string(),
                    "request_body_bytes": 0,
                    // With --head curl takes the fields for content.
                    "response_body_bytes": if method == "HEAD" { 0 } else { fetched.response_body_bytes },
                });
                counted.add(&fields, 1);
            }
            Ok(counted)
        },
    )
}

#[test]
fn requests_of_curl_to_nghttpd_are_told() -> Result<()> {
    check_curl("curl-nghttpd", Need::Tool("nghttpd"), nghttpd)
}

#[test]
fn requests_of_curl_to_nginx_are_told() -> Result<()> {
    check_curl("curl-nginx", Need::Tool("nginx"), Server::nginx_http2)
}

#[test]
fn requests_of_curl_to_go_are_told() -> Result<()> {
    check_curl("curl-go", Need::Peer(Peer::Go), |place| {
        Server::go(place, LOCAL)
    })
}

#[test]
fn an_upgrade_to_http_2_is_followed() -> Result<()> {
    let needs = [Need::Tool("curl"), Need::Peer(Peer::Go)];
    let start = |place: &Place<'_>| Server::go(place, LOCAL);
    check("upgrade", &needs, start, |place, server| {
        // Two transfers: the second uses the connection that was upgraded by the first.
        let urls = [server.url("/hello"), server.url("/hello/again")];
        let arguments = [
            "--http2", &urls[0], "--next", "--http2", "--silent", &urls[1],
        ];
        let mut command = place.command("curl")?;
        command.args(["--silent"]).args(arguments);
        let text = observer_tests::process::check(&mut command)?;
        ensure!(text == "hello world\nhello world\n", "curl got {text:?}");
        let mut counted = Tally::default();
        for path in ["/hello", "/hello/again"] {
            let fields = json!({
                "method": "GET",
                "path": path,
                "status": 200,
                "outcome": "complete",
                "response_body_bytes": 12,
            });
            counted.add(&fields, 1);
        }
        Ok(counted)
    })
}

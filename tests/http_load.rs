//! Under load every request is counted, at both ends, exactly as often as the client counted it.

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client::{self, Load},
    place::Place,
    requirement::{Need, lacking},
    server::{HELLO, Server},
};

const SERVER_COUNT: &str = "http_server_request_duration_seconds_count";
const CLIENT_COUNT: &str = "http_client_request_duration_seconds_count";

/// Drives nginx by `drive`, which returns the responses by status, and compares the metrics.
fn check(
    label: &str,
    tool: &'static str,
    drive: impl FnOnce(&Place<'_>, &Server) -> Result<Vec<(u16, u64)>>,
) -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool(tool)])? {
        return Ok(());
    }
    let cgroup = Cgroup::create(label)?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let agent = Agent::start(&cgroup)?;
    let truth = drive(&place, &nginx)?;
    for name in [SERVER_COUNT, CLIENT_COUNT] {
        for (status, count) in &truth {
            let code = status.to_string();
            agent.expect_metric(
                name,
                &[("http_response_status_code", code.as_str())],
                *count,
            )?;
        }
        // Nothing besides: no failed calls, no calls without a status.
        let total = truth.iter().map(|(_, count)| count).sum();
        agent.expect_metric(name, &[], total)?;
    }
    agent.expect_no_loss()?;
    let resident = agent.metrics()?.sum("process_resident_memory_bytes", &[]);
    ensure!(resident > 0.0, "the observer does not tell its memory");
    agent.stop()
}

fn check_own_load(label: &str, connections: usize, rounds: usize, pipelined: usize) -> Result<()> {
    check(label, "nginx", |place, nginx| {
        let targets = &["/hello", "/missing", "/hello", "/users/17"];
        let address = nginx.address();
        let load = Load {
            address,
            targets,
            connections,
            rounds,
            pipelined,
        };
        let counted = load.run(place)?;
        ensure!(
            counted.statuses.values().sum::<u64>() == load.requests(),
            "{counted:?}"
        );
        Ok(counted.statuses.into_iter().collect())
    })
}

#[test]
fn keep_alive_requests_are_counted() -> Result<()> {
    check_own_load("keepalive", 8, 2000, 1)
}

#[test]
fn pipelined_requests_are_counted() -> Result<()> {
    check_own_load("pipelined", 8, 250, 16)
}

#[test]
fn keep_alive_requests_of_wrk_are_counted() -> Result<()> {
    check("wrk", "wrk", |place, nginx| {
        let count = client::wrk(place, &nginx.url("/hello"), 16, 20_000, 1, 4)?;
        ensure!(count == 20_000, "wrk counted {count}");
        Ok(vec![(200, count)])
    })
}

#[test]
fn pipelined_requests_of_wrk_are_counted() -> Result<()> {
    check("wrkpipelined", "wrk", |place, nginx| {
        let count = client::wrk(place, &nginx.url("/hello"), 16, 4000, 16, 4)?;
        ensure!(count == 64_000, "wrk counted {count}");
        Ok(vec![(200, count)])
    })
}

#[test]
fn a_connection_for_each_request_is_counted() -> Result<()> {
    check("ab", "ab", |place, nginx| {
        let counted = client::ab(place, &nginx.url("/hello"), 3000, 8, false)?;
        ensure!(
            counted.body_bytes == 3000 * HELLO.len() as u64,
            "{counted:?}"
        );
        Ok(counted.statuses.into_iter().collect())
    })
}

#[test]
fn keep_alive_requests_of_http_1_0_are_counted() -> Result<()> {
    check("abkeepalive", "ab", |place, nginx| {
        let counted = client::ab(place, &nginx.url("/hello"), 5000, 8, true)?;
        Ok(counted.statuses.into_iter().collect())
    })
}

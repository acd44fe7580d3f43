//! Under load every request is counted, at both ends, exactly as often as the client counted it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client::{self, Counted, Load},
    flow::BOTH_SIDES,
    place::Place,
    requirement::{Need, lacking},
    server::{HELLO, Server},
};

/// Held by the load that runs.
static ALONE: Mutex<()> = Mutex::new(());

/// Drives nginx by `drive`, and compares the metrics with what it counted.
fn check(
    label: &str,
    tool: &'static str,
    drive: impl FnOnce(&Place<'_>, &Server) -> Result<Counted>,
) -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool(tool)])? {
        return Ok(());
    }
    // Loads would only measure each other.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cgroup = Cgroup::create(label)?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let agent = Agent::start(&cgroup)?;
    let counted = drive(&place, &nginx)?;
    for side in BOTH_SIDES {
        let requests = format!("http_{side}_request_duration_seconds_count");
        for (status, count) in &counted.statuses {
            let code = status.to_string();
            let labels = [("http_response_status_code", code.as_str())];
            agent.expect_metric(&requests, &labels, *count)?;
        }
        // Nothing besides: no failed calls, no calls without a status.
        agent.expect_metric(&requests, &[], counted.statuses.values().sum())?;
        let bytes = format!("http_{side}_response_body_size_bytes_sum");
        agent.expect_metric(&bytes, &[], counted.body_bytes)?;
        let role = [("role", side)];
        let opened = "observer_tcp_connections_opened_total";
        if tool == "ab" {
            // It opens up to as many connections more as it uses at once, and closes them unused.
            let found = agent.metrics()?.sum(opened, &role);
            let least = counted.connections as f64;
            ensure!(
                (least..=least + 8.0).contains(&found),
                "{opened} is {found}"
            );
        } else {
            agent.expect_metric(opened, &role, counted.connections)?;
        }
    }
    agent.expect_no_loss()?;
    let resident = agent.metrics()?.sum("process_resident_memory_bytes", &[]);
    ensure!(resident > 0.0, "the observer does not tell its memory");
    agent.stop()
}

/// What wrk has counted: it makes one connection more, to try the address.
fn of_wrk(connections: u64, count: u64) -> Counted {
    Counted {
        statuses: BTreeMap::from([(200, count)]),
        body_bytes: count * HELLO.len() as u64,
        connections: connections + 1,
    }
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
        Ok(counted)
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
        Ok(of_wrk(16, count))
    })
}

#[test]
fn pipelined_requests_of_wrk_are_counted() -> Result<()> {
    check("wrkpipelined", "wrk", |place, nginx| {
        let count = client::wrk(place, &nginx.url("/hello"), 16, 4000, 16, 4)?;
        ensure!(count == 64_000, "wrk counted {count}");
        Ok(of_wrk(16, count))
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
        Ok(counted)
    })
}

#[test]
fn every_short_connection_is_counted() -> Result<()> {
    check_own_load("short", 400, 1, 1)
}

#[test]
fn keep_alive_requests_of_http_1_0_are_counted() -> Result<()> {
    check("abkeepalive", "ab", |place, nginx| {
        client::ab(place, &nginx.url("/hello"), 5000, 8, true)
    })
}

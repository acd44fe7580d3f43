//! A call between two processes of the host is seen at both, and each knows who the other is.

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client,
    flow::{BOTH_SIDES, Flow},
    place::Place,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
    wait::PATIENCE,
};

const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn each_end_knows_the_other() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("ends")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let agent = Agent::start(&cgroup)?;
    let fetched = client::curl(&place, &[&nginx.url("/hello")])?;
    ensure!(fetched.status == 200, "{fetched:?}");
    let (near, far) = (
        format!("127.0.0.1:{}", fetched.local_port),
        nginx.address().to_string(),
    );
    for (side, own, other, local, remote) in [
        ("client", "curl", "nginx", &near, &far),
        ("server", "nginx", "curl", &far, &near),
    ] {
        let call = agent
            .exactly(1, "calls", |flow| flow.is_call_at(side))?
            .remove(0);
        ensure!(call.text("service") == own, "{call:?}");
        ensure!(call.text("peer_service") == other, "{call:?}");
        ensure!(
            call.text("local") == local && call.text("remote") == remote,
            "{call:?}"
        );
        ensure!(call.text("command") == own, "{call:?}");
        ensure!(call.text("cgroup") == cgroup.relative()?, "{call:?}");
        for event in ["opened", "closed"] {
            let what = format!("{event}, {side} side");
            let flow = agent
                .exactly(1, &what, |flow| flow.is_event_at(event, side))?
                .remove(0);
            ensure!(flow.text("service") == own, "{flow:?}");
            ensure!(
                flow.text("local") == local && flow.text("remote") == remote,
                "{flow:?}"
            );
        }
    }
    let labels = [("service_name", "nginx"), ("http_route", "/hello")];
    agent.expect_metric("http_server_request_duration_seconds_count", &labels, 1)?;
    let labels = [("service_name", "curl")];
    agent.expect_metric("http_client_request_duration_seconds_count", &labels, 1)?;
    let services = agent.get("/api/v1/services")?;
    ensure!(
        services.contains("nginx") && services.contains("curl"),
        "{services}"
    );
    // Each end measures for itself, and the client's time includes the server's.
    let both = agent.flows()?;
    let duration = |side: &str| -> Result<f64> {
        let call = both.iter().find(|flow| flow.is_call_at(side));
        call.map_or(Ok(0.0), |flow| flow.number("duration_seconds"))
    };
    let (client, server) = (duration("client")?, duration("server")?);
    ensure!(
        server > 0.0 && server <= client + 0.001,
        "client {client} s, server {server} s"
    );
    agent.stop()
}

#[test]
fn the_environment_names_a_service() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("environment")?;
    let place = Place::host(&cgroup);
    let python = Server::python(
        &place,
        &[
            ("OTEL_SERVICE_NAME", "catalogue"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.namespace=shop,service.name=other",
            ),
        ],
    )?;
    let agent = Agent::start(&cgroup)?;
    // A client that lives long enough to be looked at, and is named by the other variable.
    let mut curl = place.command("curl")?;
    curl.env(
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=till,service.namespace=shop",
    );
    client::fetch(&mut curl, &[&python.url("/slow/1500")])?;
    for (side, own, other) in [
        ("client", "till", "catalogue"),
        ("server", "catalogue", "till"),
    ] {
        let call = agent
            .exactly(1, "calls", |flow| flow.is_call_at(side))?
            .remove(0);
        ensure!(call.text("service") == own, "{call:?}");
        ensure!(call.text("service_namespace") == "shop", "{call:?}");
        ensure!(call.text("peer_service") == other, "{call:?}");
    }
    let call = agent
        .exactly(1, "calls", |flow| flow.is_call_at("server"))?
        .remove(0);
    ensure!(call.integer("pid")? == u64::from(python.id()), "{call:?}");
    ensure!(call.text("executable").contains("python3"), "{call:?}");
    agent.stop()
}

#[test]
fn units_and_containers_are_read_from_cgroups() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("runtimes")?;
    let unit = cgroup.child("system.slice/till.service")?;
    let engines = [
        format!("system.slice/docker-{CONTAINER}.scope"),
        format!("docker/{CONTAINER}"),
        format!("machine.slice/libpod-{CONTAINER}.scope"),
        format!("kubepods.slice/kubepods-pod1.slice/cri-containerd-{CONTAINER}.scope"),
        format!("kubepods.slice/kubepods-pod2.slice/crio-{CONTAINER}.scope"),
        format!("kubepods/besteffort/pod3/{CONTAINER}"),
    ];
    let agent = Agent::start(&cgroup)?;
    for (number, engine) in engines.iter().enumerate() {
        let container = cgroup.child(engine)?;
        let python = Server::python(&Place::host(&container), &[])?;
        let path = format!("/status/{}", 200 + number);
        client::curl(&Place::host(&unit), &[&python.url(&path)])?;
        let own = |flow: &Flow| flow.text("path") == path;
        let served = agent.first("the server's call", PATIENCE, |flow: &Flow| {
            flow.is_call_at("server") && own(flow)
        })?;
        ensure!(
            served.text("container") == CONTAINER,
            "{engine}: {served:?}"
        );
        ensure!(
            served.text("peer_service") == "till",
            "{engine}: {served:?}"
        );
        let called = agent.first("the client's call", PATIENCE, |flow: &Flow| {
            flow.is_call_at("client") && own(flow)
        })?;
        ensure!(called.text("unit") == "till.service", "{called:?}");
        ensure!(called.text("service") == "till", "{called:?}");
        ensure!(called.text("cgroup") == unit.relative()?, "{called:?}");
    }
    agent.stop()
}

#[test]
fn processes_that_exit_quickly_are_named() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("short")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let agent = Agent::start(&cgroup)?;
    for _ in 0..50 {
        client::curl(&place, &[&nginx.url("/hello")])?;
    }
    for side in BOTH_SIDES {
        let (service, peer) = if side == "client" {
            ("curl", "nginx")
        } else {
            ("nginx", "curl")
        };
        for call in agent.exactly(50, "calls", |flow| flow.is_call_at(side))? {
            ensure!(call.text("service") == service, "{call:?}");
            ensure!(call.text("peer_service") == peer, "{call:?}");
        }
    }
    agent.stop()
}

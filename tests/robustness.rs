//! The observer ends cleanly, leaves nothing behind, says what it lacks, and needs little.

use std::{
    net::TcpListener,
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{self, Agent, Options},
    cgroup::Cgroup,
    client,
    conversation::{Conversation, Cut},
    flow::Flow,
    place::Place,
    process,
    remains::{self, Remains},
    requirement::{Need, lacking},
    server::Server,
    wait::PATIENCE,
};

const NEEDS: [Need; 4] = [
    Need::Observer,
    Need::Tool("bpftool"),
    Need::Tool("nginx"),
    Need::Tool("curl"),
];

/// Starts an observer, gives it traffic, ends it by `end`, and checks that nothing of it is left.
fn check_end(label: &str, end: impl FnOnce(Agent) -> Result<()>) -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    let cgroup = Cgroup::create(label)?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let agent = Agent::start(&cgroup)?;
    // A connection that outlives the observer, with state of its own in the kernel.
    let mut talk = Conversation::open(&place)?;
    talk.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Cut::Whole)?;
    client::curl(&place, &[&nginx.url("/hello")])?;
    agent.exactly(2, "calls of curl", |flow| flow.text("path") == "/hello")?;
    let held = Remains::of(agent.id())?;
    ensure!(
        !held.programs.is_empty() && !held.maps.is_empty(),
        "it holds nothing: {held:?}"
    );
    ensure!(held.left()? == held, "bpftool does not see {held:?}");
    ensure!(
        !remains::attached_to(cgroup.path())?.is_empty(),
        "nothing is attached"
    );
    end(agent)?;
    held.expect_gone()?;
    let attached = remains::attached_to(cgroup.path())?;
    ensure!(attached.is_empty(), "still attached: {attached:?}");
    // And traffic goes on.
    talk.answer(b"HTTP/1.1 204 No Content\r\n\r\n", Cut::Whole)?;
    ensure!(
        client::curl(&place, &[&nginx.url("/hello")])?.status == 200,
        "nginx is out of reach"
    );
    Ok(())
}

/// Checks that `output` is of a start that failed, with one clear line that has one of `words`.
fn expect_refusal(what: &str, output: &Output, words: &[&str]) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success(),
        "{what}: it ended with success: {text}"
    );
    ensure!(
        output.status.code().is_some(),
        "{what}: {}: {text}",
        output.status
    );
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    ensure!(lines.len() == 1, "{what}: not one line: {text}");
    let line = lines[0].to_lowercase();
    ensure!(
        words.iter().any(|word| line.contains(word)),
        "{what}: none of {words:?}: {text}"
    );
    ensure!(!line.contains("panicked"), "{what}: {text}");
    Ok(())
}

/// The command line by which setpriv(1) runs `program` as nobody with `capabilities` only.
fn as_nobody(program: &str, capabilities: &[&str]) -> Vec<String> {
    let mut set = "-all".to_owned();
    for capability in capabilities {
        set += &format!(",+{capability}");
    }
    let words = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
        &format!("--inh-caps={set}"),
        &format!("--ambient-caps={set}"),
        &format!("--bounding-set={set}"),
        program,
    ];
    words.map(str::to_owned).to_vec()
}

#[test]
fn sigterm_drains_and_leaves_nothing() -> Result<()> {
    check_end("sigterm", Agent::stop)
}

#[test]
fn sigkill_leaves_nothing() -> Result<()> {
    check_end("sigkill", Agent::kill)
}

#[test]
fn sigterm_is_obeyed_soon_under_load_and_with_followers() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("soon")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let agent = Agent::start(&cgroup)?;
    let (_, _follower, _) =
        observer_tests::http::open(agent.address(), "/api/v1/flows?follow=true")?;
    let load = client::Load {
        address: nginx.address(),
        targets: &["/hello"],
        connections: 4,
        rounds: 3000,
        pipelined: 1,
    };
    std::thread::scope(|scope| -> Result<()> {
        let running = scope.spawn(|| load.run(&place));
        agent.first("a call", PATIENCE, Flow::is_call)?;
        let start = Instant::now();
        agent.stop()?;
        ensure!(
            start.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            start.elapsed()
        );
        let counted = running
            .join()
            .map_err(|_| anyhow::anyhow!("the load died"))??;
        ensure!(counted.statuses[&200] == load.requests(), "{counted:?}");
        Ok(())
    })
}

#[test]
fn a_busy_port_is_one_clear_line() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("busy")?;
    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let address = taken.local_addr()?.to_string();
    let path = cgroup.path().display().to_string();
    let output = agent::run(&["agent", "--listen", &address, "--cgroup", &path])?;
    expect_refusal("busy port", &output, &["in use", "busy"])?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        text.contains(&address),
        "it does not name the address: {text}"
    );
    Ok(())
}

#[test]
fn a_missing_cgroup_is_one_clear_line() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    for path in ["/nowhere/at/all", "/tmp"] {
        let output = agent::run(&["agent", "--listen", "127.0.0.1:0", "--cgroup", path])?;
        expect_refusal(path, &output, &["cgroup"])?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(text.contains(path), "it does not name {path}: {text}");
    }
    Ok(())
}

#[test]
fn a_missing_privilege_is_one_clear_line() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("setpriv")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("unprivileged")?;
    let (_folder, copy) = agent::public_copy()?;
    let path = cgroup.path().display().to_string();
    for (capabilities, lacks) in [
        (&[][..], "cap_bpf"),
        (&["bpf"], "cap_net_admin"),
        (&["net_admin"], "cap_bpf"),
    ] {
        let words = as_nobody(&copy.display().to_string(), capabilities);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.args(["agent", "--listen", "127.0.0.1:0", "--cgroup", &path]);
        let output = process::run_within(&mut command, PATIENCE)?;
        expect_refusal(&format!("with {capabilities:?}"), &output, &[lacks])?;
    }
    Ok(())
}

#[test]
fn two_capabilities_are_enough() -> Result<()> {
    if lacking(&[&NEEDS[..], &[Need::Tool("setpriv")]].concat())? {
        return Ok(());
    }
    let cgroup = Cgroup::create("little")?;
    let place = Place::host(&cgroup);
    let (_folder, copy) = agent::public_copy()?;
    let wrapper = as_nobody(&copy.display().to_string(), &["bpf", "net_admin"]);
    let agent = Agent::start_with(
        &cgroup,
        &Options {
            wrapper,
            ..Options::default()
        },
    )?;
    // What threads do takes one more, and everything else works without.
    let log = agent.log()?;
    ensure!(log.contains("missing   observer_write"), "{log}");
    // A server that was there before could not be named: the sockets that a process of another user
    // holds are not told without more privilege.
    let nginx = Server::nginx(&place)?;
    for _ in 0..3 {
        client::curl(&place, &[&nginx.url("/hello")])?;
    }
    for (side, command) in [("client", "curl"), ("server", "nginx")] {
        for call in agent.exactly(3, "calls", |flow| flow.is_call_at(side))? {
            ensure!(call.outline().status == Some(200), "{call:?}");
            // What needs no more than those two: the kernel tells the maker of a socket.
            ensure!(call.text("command") == command, "{call:?}");
        }
    }
    agent.stop()
}

#[test]
fn two_observers_see_the_same() -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("two")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let (first, second) = (Agent::start(&cgroup)?, Agent::start(&cgroup)?);
    client::curl(&place, &[&nginx.url("/hello")])?;
    for agent in [&first, &second] {
        agent.exactly(2, "calls", |flow| flow.is_call())?;
    }
    first.stop()?;
    client::curl(&place, &[&nginx.url("/hello")])?;
    second.exactly(4, "calls", |flow| flow.is_call())?;
    second.stop()
}

#[test]
fn a_bad_configuration_names_key_and_place() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("observer.yaml");
    std::fs::write(&path, "no_such_key: 1\n")?;
    let file = path.display().to_string();
    let start = ["agent", "--listen", "127.0.0.1:0", "--config", &file];
    for arguments in [&["config", "check", &file][..], &start] {
        let output = agent::run(arguments)?;
        ensure!(
            !output.status.success(),
            "{arguments:?}: it ended with success"
        );
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(text.contains("no_such_key"), "{arguments:?}: {text}");
        ensure!(text.contains("observer.yaml"), "{arguments:?}: {text}");
    }
    Ok(())
}

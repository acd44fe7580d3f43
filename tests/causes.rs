//! Inside a process: the request that made it send another is told, and what is told as certain is
//! never another one.

use std::{collections::HashMap, process::Command};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    flow::Flow,
    peers,
    place::Place,
    process,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
    settings, wait,
};

/// Requests before those that count: a process has to prove itself.
const FIRST: u64 = 8;
const CLIENTS: u64 = 16;
const REQUESTS: u64 = 30;

/// The id of the request that one for a path was made for.
type MadeFor = fn(&str) -> Option<&str>;

/// What became of the requests that a service made.
#[derive(Debug, Default)]
struct Told {
    /// With a certain cause.
    certain: u64,
    /// With a likely cause that is the right one.
    likely: u64,
    /// With a likely cause that is another one.
    mistaken: u64,
    /// Without a cause.
    without: u64,
    /// Made for no request, and told with a likely cause.
    background: u64,
}

// === impl Told ===

impl Told {
    /// Compares causes with paths: `/in/ID` makes `/out/ID/N`. A certain cause that is wrong is an
    /// error.
    fn of(flows: &[Flow], made: MadeFor) -> Result<Self> {
        let mut inbound: HashMap<&str, Vec<(u32, &str)>> = HashMap::new();
        for flow in flows.iter().filter(|flow| flow.is_call_at("server")) {
            let sequence = u32::try_from(flow.integer("request_sequence")?)?;
            let calls = inbound.entry(flow.text("connection")).or_default();
            calls.push((sequence, flow.text("path")));
        }
        let mut told = Self::default();
        for flow in flows.iter().filter(|flow| flow.is_call_at("client")) {
            let Some(id) = made(flow.text("path")) else {
                continue;
            };
            let background = id == "background";
            if !background && id.parse::<u64>()? < FIRST {
                continue;
            }
            let Some(certain) = flow.get("cause_certain").as_bool() else {
                told.without += u64::from(!background);
                continue;
            };
            let sequence = u32::try_from(flow.integer("cause_sequence")?)?;
            let calls = inbound.get(flow.text("cause_connection"));
            let cause = calls
                .into_iter()
                .flatten()
                .map(|(first, path)| (sequence.wrapping_sub(*first), *path))
                .filter(|(behind, _)| behind.cast_signed() > 0)
                .min()
                .map(|(_, path)| path);
            let right = cause.and_then(|path| path.strip_prefix("/in/")) == Some(id);
            ensure!(
                right || !certain,
                "{flow:?} is told to be caused by {cause:?}"
            );
            match (background, certain, right) {
                (true, ..) => told.background += 1,
                (false, true, _) => told.certain += 1,
                (false, false, true) => told.likely += 1,
                (false, false, false) => told.mistaken += 1,
            }
        }
        Ok(told)
    }

    fn sum(&self) -> u64 {
        self.certain + self.likely + self.mistaken + self.without
    }
}

/// The id in `/out/ID/N`.
fn made_for(path: &str) -> Option<&str> {
    path.strip_prefix("/out/")?.split('/').next()
}

/// Requests that those from `first` to `last` make.
fn expected(first: u64, last: u64) -> u64 {
    (first..last).map(|id| 1 + id % 3).sum()
}

/// Asks the service that `start` starts before a backend by a `client`, and judges what was told.
fn observe(
    label: &str,
    start: impl FnOnce(&Place<'_>, &str) -> Result<Server>,
    made: MadeFor,
    expected: fn(u64, u64) -> u64,
    client: &str,
) -> Result<Told> {
    let cgroup = Cgroup::create(label)?;
    let place = Place::host(&cgroup);
    let directives = "location / { return 200 \"ok\\n\"; } keepalive_timeout 600s;";
    let backend = Server::nginx_with(&place, "", directives)?;
    let options = Options {
        configuration: Some(settings::long_history()),
        ..Options::default()
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    ensure!(
        agent.log()?.contains("attached  observer_write"),
        "this kernel should tell what threads do: {}",
        agent.log()?
    );
    let service = start(&place, &backend.address().to_string())?;
    ask(&place, &service, ("ask", 0, 1, FIRST))?;
    ask(&place, &service, (client, FIRST, CLIENTS, REQUESTS))?;
    let count = expected(FIRST, FIRST + CLIENTS * REQUESTS);
    let told = wait::until("all calls", wait::PATIENCE, || {
        let flows = agent.flows()?;
        let servers = flows
            .iter()
            .filter(|flow| flow.is_call_at("server") && flow.text("path").starts_with("/in/"));
        if servers.count() < usize::try_from(FIRST + CLIENTS * REQUESTS)? {
            return Ok(None);
        }
        let told = Told::of(&flows, made)?;
        Ok((told.sum() == count).then_some(told))
    })?;
    eprintln!("{label}: {told:?}");
    drop(service);
    agent.stop()?;
    Ok(told)
}

/// Runs a client: its kind, the first id, how many connections, and how many requests on each.
fn ask(
    place: &Place<'_>,
    service: &Server,
    (kind, first, clients, requests): (&str, u64, u64, u64),
) -> Result<()> {
    let mut command = place.command(PYTHON)?;
    command.arg("-B").arg(peers::script("causes.py"));
    command.args([kind, &service.address().to_string()]);
    command.args([first, clients, requests].map(|number| number.to_string()));
    process::check(&mut command).map(drop)
}

fn python(place: &Place<'_>, kind: &str, backend: &str) -> Result<Server> {
    let mut command = place.command(PYTHON)?;
    command.arg("-B").arg(peers::script("causes.py")).arg(kind);
    listening(place, &mut command, backend)
}

fn listening(place: &Place<'_>, command: &mut Command, backend: &str) -> Result<Server> {
    Server::other(place, command, |command, _, port| {
        command.args([&port.to_string(), backend]);
        Ok(())
    })
}

#[test]
fn threads_that_wait_tell_for_certain() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("nginx")])? {
        return Ok(());
    }
    let start = |place: &Place<'_>, backend: &str| python(place, "threads", backend);
    let told = observe("threads", start, made_for, expected, "ask")?;
    ensure!(told.background == 0 && told.mistaken == 0, "{told:?}");
    ensure!(told.certain * 100 >= told.sum() * 90, "{told:?}");
    Ok(())
}

#[test]
fn of_several_requests_at_once_the_first_is_meant() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("nginx")])? {
        return Ok(());
    }
    let start = |place: &Place<'_>, backend: &str| python(place, "threads", backend);
    let told = observe("pipeline", start, made_for, expected, "pipeline")?;
    // The others are in the process' own buffer by then.
    ensure!(told.certain * 100 >= told.sum() * 30, "{told:?}");
    ensure!(told.mistaken == 0, "{told:?}");
    Ok(())
}

#[test]
fn joined_midway_nothing_is_told_wrong() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("nginx")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("joined")?;
    let place = Place::host(&cgroup);
    let directives = "location / { return 200 \"ok\\n\"; } keepalive_timeout 600s;";
    let backend = Server::nginx_with(&place, "", directives)?;
    let service = python(&place, "threads", &backend.address().to_string())?;
    let last = 100_000_000;
    let flows = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&place, &service, ("steadily", FIRST, 8, 700)));
        let options = Options {
            configuration: Some(settings::long_history()),
            ..Options::default()
        };
        let agent = Agent::start_with(&cgroup, &options)?;
        asking.join().expect("the client does not panic")?;
        // What was joined midway is held back until it is beyond doubt.
        ask(&place, &service, ("ask", last, 1, 1))?;
        let end = format!("/in/{last}");
        agent.exactly(1, "the last call", |flow| {
            flow.is_call_at("server") && flow.text("path") == end
        })?;
        let flows = agent.flows()?;
        agent.stop()?;
        anyhow::Ok(flows)
    })?;
    let told = Told::of(&flows, made_for)?;
    eprintln!("joined: {told:?}");
    ensure!(told.background == 0 && told.mistaken == 0, "{told:?}");
    ensure!(told.certain > told.likely + told.without, "{told:?}");
    Ok(())
}

#[test]
fn threads_that_hand_requests_over_are_never_certain() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("nginx")])? {
        return Ok(());
    }
    let start = |place: &Place<'_>, backend: &str| python(place, "handing", backend);
    let told = observe("handing", start, made_for, expected, "ask")?;
    ensure!(told.certain == 0 && told.mistaken == 0, "{told:?}");
    Ok(())
}

#[test]
fn an_event_loop_of_python_is_never_certain() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("nginx")])? {
        return Ok(());
    }
    let start = |place: &Place<'_>, backend: &str| python(place, "loop", backend);
    let told = observe("asyncio", start, made_for, expected, "ask")?;
    ensure!(told.certain == 0, "{told:?}");
    Ok(())
}

#[test]
fn an_event_loop_of_node_is_never_certain() -> Result<()> {
    if lacking(&[
        Need::Observer,
        Need::Tool("node"),
        Need::Tool("nginx"),
        Need::Tool(PYTHON),
    ])? {
        return Ok(());
    }
    let start = |place: &Place<'_>, backend: &str| {
        listening(place, &mut peers::node(place, "causes.mjs", &[])?, backend)
    };
    let told = observe("node", start, made_for, expected, "ask")?;
    ensure!(told.certain == 0, "{told:?}");
    Ok(())
}

#[test]
fn goroutines_are_never_certain() -> Result<()> {
    if lacking(&[
        Need::Observer,
        Need::Tool("go"),
        Need::Tool("nginx"),
        Need::Tool(PYTHON),
    ])? {
        return Ok(());
    }
    let folder = tempfile::tempdir().context("make a folder")?;
    let program = folder.path().join("causes");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(".");
    process::check(build.current_dir(peers::script("causes")))?;
    let start = |place: &Place<'_>, backend: &str| {
        let mut command = place.command(&program.display().to_string())?;
        listening(place, &mut command, backend)
    };
    let told = observe("go", start, made_for, expected, "ask")?;
    ensure!(told.certain == 0, "{told:?}");
    Ok(())
}

#[test]
fn a_proxy_with_an_event_loop_is_never_certain() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool(PYTHON)])? {
        return Ok(());
    }
    let start = |place: &Place<'_>, backend: &str| {
        let directives = format!(
            "location /in/ {{ proxy_pass http://{backend}; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; }}"
        );
        Server::nginx_with(place, "", &directives)
    };
    // It passes requests on as they are; the clients of the test ask the proxy itself.
    let told = observe(
        "proxy",
        start,
        |path| path.strip_prefix("/in/"),
        |first, last| 2 * (last - first),
        "ask",
    )?;
    ensure!(told.certain == 0, "{told:?}");
    // The clients' own requests have no cause.
    ensure!(told.without >= CLIENTS * REQUESTS, "{told:?}");
    Ok(())
}

#[test]
fn threads_are_left_alone_when_that_is_not_wanted() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("nginx")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("nocauses")?;
    let place = Place::host(&cgroup);
    let options = Options {
        configuration: Some("traces:\n  causes: false\n".to_owned()),
        ..Options::default()
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    let log = agent.log()?;
    ensure!(!log.contains("observer_write"), "{log}");
    let backend = Server::nginx(&place)?;
    let service = python(&place, "threads", &backend.address().to_string())?;
    ask(&place, &service, ("ask", 0, 1, FIRST))?;
    let made = |flow: &Flow| {
        flow.is_call_at("client")
            && made_for(flow.text("path")).is_some_and(|id| id != "background")
    };
    let count = usize::try_from(expected(0, FIRST))?;
    for call in agent.exactly(count, "calls", made)? {
        ensure!(call.get("cause_certain").is_null(), "{call:?}");
    }
    agent.stop()
}

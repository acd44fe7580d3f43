//! The agent as a container of the chart on a node that is in no cluster: what it sees, what of it
//! each capability is for, and the profile of its system calls.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    cgroup::Cgroup,
    client,
    flow::Flow,
    http,
    place::Place,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
    wait::{self, PATIENCE},
};
use serde_json::Value;

use super::{
    container::{Container, Node, own_profile},
    objects::{at, each, the, with},
};

const NEEDS: &[Need] = &[
    Need::Helm,
    Need::Observer,
    Need::Tool("crun"),
    Need::Tool("curl"),
    Need::Tool("setpriv"),
];

/// The agent of the chart on `cgroup`, and where it listens; it may not be ready yet.
fn agent(
    cgroup: &Cgroup,
    profile: Option<&Value>,
    without: Option<&str>,
    set: &[&str],
) -> Result<(Container, SocketAddr)> {
    let objects = with(&[&["agent.http.address=loopback", "hub.enabled=false"], set].concat())?;
    let pod = the(&objects, "DaemonSet", "-agent")?.pod().context("pod")?;
    let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let node = Node {
        objects: &objects,
        fields: &[("spec.nodeName", "node-1"), ("status.hostIP", "127.0.0.1")],
        environment: &[
            ("OBSERVER_LISTEN", &address.to_string()),
            ("OBSERVER_SERVER", &format!("http://{address}")),
            (
                "OBSERVER_CGROUP",
                &format!("/sys/fs/cgroup{}", cgroup.relative()?),
            ),
            ("OBSERVER_KUBERNETES_ENABLED", "off"),
        ],
        tokens: &[],
        authority: None,
        hosts: "127.0.0.1 localhost\n",
        network: None,
        profile,
        without,
    };
    Ok((Container::start(&node, pod)?, address))
}

/// Waits until it is ready.
fn await_ready(agent: &mut Container, address: SocketAddr) -> Result<()> {
    wait::until("the agent to be ready", PATIENCE, || {
        ensure!(agent.runs()?, "it ended");
        let ready = http::get(address, "/readyz");
        Ok(ready
            .is_ok_and(|response| response.status == 200)
            .then_some(()))
    })
    .with_context(|| agent.log())
}

/// A server of another user whose environment names the service.
fn server_of_nobody(place: &Place<'_>) -> Result<Server> {
    let mut command = place.command("setpriv")?;
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([PYTHON, "-m", "http.server", "--bind", "127.0.0.1"])
        .env("OTEL_SERVICE_NAME", "shop")
        .current_dir("/");
    Server::other(place, &mut command, |command, _, port| {
        command.arg(port.to_string());
        Ok(())
    })
}

/// Three calls to `server`, as the agent tells them at the server's end.
fn calls(agent: &Container, place: &Place<'_>, server: &Server) -> Result<Vec<Flow>> {
    for _ in 0..3 {
        client::curl(place, &[&server.url("/nothing/7")])?;
    }
    wait::until("the calls", PATIENCE, || {
        let text = agent.exec(&["flows", "--last", "100", "--output", "json"])?;
        let mut flows = Flow::parse_lines(&text)?;
        flows.retain(|flow| flow.is_call_at("server"));
        Ok((flows.len() >= 3).then_some(flows))
    })
}

/// The checks of `observer doctor` that are not well, by name.
fn unwell(agent: &Container) -> Result<Vec<String>> {
    let report: Value = serde_json::from_str(&agent.exec(&["doctor", "-o", "json"])?)?;
    Ok(each(&report, "/checks")
        .filter(|check| check["state"] != "ok")
        .map(|check| check["name"].as_str().unwrap_or_default().to_owned())
        .collect())
}

#[test]
fn the_agent_of_the_chart_sees_who_calls_whom() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("deployed")?;
    let place = Place::host(&cgroup);
    let own = own_profile()?;
    // What threads do takes one capability more, which is given on demand.
    let perfmon = ["agent.capabilities.perfmon=true"];
    let cases: [(_, &[&str], &[&str]); 2] = [(None, &[], &["causes"]), (Some(&own), &perfmon, &[])];
    for (profile, set, expected) in cases {
        let (mut container, address) = agent(&cgroup, profile, None, set)?;
        await_ready(&mut container, address)?;
        let server = server_of_nobody(&place)?;
        for flow in calls(&container, &place, &server)? {
            ensure!(flow.text("service") == "shop", "{flow:?}");
            ensure!(flow.text("peer_service") == "curl", "{flow:?}");
        }
        let unwell = unwell(&container)?;
        ensure!(unwell == expected, "{unwell:?}");
        server.stop()?;
        container.stop()?;
    }
    Ok(())
}

#[test]
fn every_capability_is_for_something() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("capable")?;
    let place = Place::host(&cgroup);
    // Without these nothing is observed, and the agent says so and ends.
    for name in ["BPF", "NET_ADMIN"] {
        let (mut container, _) = agent(&cgroup, None, Some(name), &[])?;
        wait::until("the end of the agent", PATIENCE, || {
            Ok((!container.runs()?).then_some(()))
        })
        .with_context(|| format!("without {name}"))?;
        let log = container.log();
        ensure!(log.contains(&format!("CAP_{name}")), "{name}: {log}");
    }
    // Without these, services of other users are named by less.
    let server = server_of_nobody(&place)?;
    for name in ["SYS_PTRACE", "DAC_READ_SEARCH"] {
        let (mut container, address) = agent(&cgroup, None, Some(name), &[])?;
        await_ready(&mut container, address)?;
        for flow in calls(&container, &place, &server)? {
            ensure!(flow.text("service") != "shop", "{name}: {flow:?}");
        }
        let unwell = unwell(&container)?;
        ensure!(
            unwell == ["proc_capability", "causes"],
            "{name}: {unwell:?}"
        );
        container.stop()?;
    }
    Ok(())
}

#[test]
fn the_profile_of_system_calls_allows_no_way_out() -> Result<()> {
    let profile = own_profile()?;
    ensure!(*at(&profile, "/defaultAction") == "SCMP_ACT_ERRNO");
    let mut allowed = Vec::new();
    for rule in each(&profile, "/syscalls") {
        ensure!(rule["action"] == "SCMP_ACT_ALLOW", "{rule}");
        allowed.extend(each(rule, "/names").filter_map(Value::as_str));
    }
    for name in [
        "add_key",
        "chroot",
        "clone3",
        "delete_module",
        "finit_module",
        "init_module",
        "io_uring_setup",
        "kexec_load",
        "keyctl",
        "mknod",
        "mount",
        "open_by_handle_at",
        "perf_event_open",
        "pidfd_getfd",
        "pivot_root",
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
        "reboot",
        "setns",
        "umount2",
        "unshare",
        "userfaultfd",
    ] {
        ensure!(!allowed.contains(&name), "{name}");
    }
    // New processes, but no new namespaces.
    let clone = each(&profile, "/syscalls")
        .find(|rule| each(rule, "/names").any(|name| name == "clone"))
        .context("clone")?;
    let namespaces = 0x7e02_0000_u64;
    ensure!(clone["args"][0]["value"] == namespaces && clone["args"][0]["valueTwo"] == 0);
    let mut sorted = allowed.clone();
    sorted.sort_unstable();
    sorted.dedup();
    ensure!(sorted.len() == allowed.len(), "a name is there twice");
    Ok(())
}

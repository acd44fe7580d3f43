//! What the agents of a cluster say together: each sees its own node, and calls between two nodes are
//! seen by both.

use std::{fs, net::TcpListener, path::Path, process::Output};

use anyhow::{Context, Result, ensure};
use observer::model::policy::PolicyKind;
use observer_tests::{
    agent::{self, Agent},
    kubernetes::knows,
    mesh::{self, Member, Plane, Spec, Target, service_address, traffic::Requests},
    requirement::lacking,
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

const CONFIGURATION: &str = "mesh:\n  settle: 0s\n  minimum: 5\n";

/// Requests of each client.
const TIMES: u64 = 30;

/// What an agent answers.
fn answer(agent: &Agent, path: &str) -> Result<Value> {
    serde_json::from_str(&agent.get(path)?).with_context(|| format!("{path} is no JSON"))
}

/// Runs the observer for all of `servers`.
fn run(words: &[&str], servers: &[String]) -> Result<Output> {
    let servers = servers
        .iter()
        .flat_map(|server| ["--server", server.as_str()]);
    let words: Vec<&str> = words.iter().copied().chain(servers).collect();
    agent::run(&words)
}

/// What the observer prints as JSON for all of `servers`.
fn together(words: &[&str], servers: &[String]) -> Result<Value> {
    let words: Vec<&str> = words.iter().copied().chain(["-o", "json"]).collect();
    let output = run(&words, servers)?;
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(&text).with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("{words:?}: {text:?} {errors}")
    })
}

/// Those of a list that a key names so.
fn named<'a>(answer: &'a Value, list: &str, key: &str, name: &str) -> Vec<&'a Value> {
    let all = answer[list].as_array().into_iter().flatten();
    all.filter(|one| one[key]["name"] == name).collect()
}

/// The only readiness of `web`, if it is not ready because of `stranger` alone: connections in the
/// clear, as they are told, as clients' ends count them, and as servers' ends do.
fn plaintext(answer: &Value) -> Option<[u64; 3]> {
    let webs = named(answer, "readiness", "workload", "web");
    let [web] = webs[..] else {
        return None;
    };
    let [client] = web["plaintext"].as_array()?.as_slice() else {
        return None;
    };
    let not_ready = web["state"] == "NOT READY" && client["client"]["name"] == "stranger";
    let count = |key: &str| client[key].as_u64();
    let counts = [
        count("connections")?,
        count("at_client")?,
        count("at_server")?,
    ];
    not_ready.then_some(counts)
}

/// Requests of the edge from `front` to `web`: as they are told, and at both ends.
fn requests(answer: &Value) -> Option<[u64; 3]> {
    let edges = named(answer, "edges", "client", "front");
    let edges: Vec<&Value> = edges
        .into_iter()
        .filter(|edge| edge["server"]["name"] == "web" && edge["port"] != 0)
        .collect();
    let [edge] = edges[..] else {
        return None;
    };
    let sum = |key: &str| -> Option<u64> {
        let seen = edge[key].as_array()?.iter();
        seen.map(|one| one["requests"].as_u64()).sum()
    };
    Some([sum("observed")?, sum("at_client")?, sum("at_server")?])
}

/// The findings that `stranger` reaches `web` in the clear.
fn accepted(answer: &Value) -> Vec<&Value> {
    let found = named(answer, "findings", "peer", "stranger");
    let of = |one: &&Value| one["id"] == "M01" && one["workload"]["name"] == "web";
    found.into_iter().filter(of).collect()
}

fn count(finding: &Value) -> u64 {
    finding["count"].as_u64().unwrap_or_default()
}

fn ask(client: &Member<'_>, target: &Target) -> Result<()> {
    let requests = Requests {
        host: &target.name,
        address: target.dialled()?,
        path: "/hop",
        times: TIMES as usize,
        at_once: 1,
        options: &["--header", "Connection: close"],
    };
    requests.expect(&client.app()?, 200).map(drop)
}

/// `web` answers on both nodes; `front` of node 1 calls it through proxies, and `stranger` of node 2
/// in the clear, which policy forbids and proxies take.
#[test]
fn agents_of_two_nodes_speak_as_one() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene("cluster", 2, |mesh| {
        mesh.install(false)?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mesh_findings");
        let strict = fs::read_to_string(folder.join("strict.yaml"))?;
        let first = strict.split("---\n").next().unwrap_or_default();
        mesh.declare(&[serde_saphyr::from_str(first)?])?;
        let front = mesh.pod(1, &Spec::new("front", Plane::Istio))?;
        let stranger = mesh.pod(2, &Spec::new("stranger", Plane::None).opted_out())?;
        let near = mesh.pod(1, &Spec::new("web", Plane::Istio))?;
        let far = mesh.pod(2, &Spec::new("web", Plane::Istio))?;
        let target = Target::new("web", service_address(10, 80), &[&near, &far]);
        mesh.services(&[(&target, "http", &[&near, &far])])?;
        let _servers = [near.serve()?, far.serve()?];
        let _carriers = mesh.carry(&[&near, &far, &front], &[&target])?;
        let agents = [
            mesh.agent_with(1, CONFIGURATION)?,
            mesh.agent_with(2, CONFIGURATION)?,
        ];
        for agent in &agents {
            knows(agent, PolicyKind::PeerAuthentication.resource(), 1)?;
        }
        ask(&front, &target)?;
        ask(&stranger, &target)?;

        let servers: Vec<String> = agents
            .iter()
            .map(|agent| format!("http://{}", agent.address()))
            .collect();
        each_sees_a_part(&agents)?;
        both_see_all(&servers)?;
        findings_are_told_once(&agents, &servers)?;
        silence_is_told(&servers)?;
        mesh::finish(agents)
    })
}

/// Each has some of the connections in the clear at the server's end; those of node 2 all at the
/// client's.
fn each_sees_a_part(agents: &[Agent; 2]) -> Result<()> {
    let mut last = Value::Null;
    let reached = wait::until("each to see a part", PATIENCE, || {
        let mut parts = Vec::new();
        for agent in agents {
            last = answer(agent, "/api/v1/mesh/readiness?window=1m")?;
            match plaintext(&last) {
                Some(part) => parts.push(part),
                None => return Ok(None),
            }
        }
        let [[_, no_client, near], [told, at_client, far]] = parts[..] else {
            return Ok(None);
        };
        let split = near > 0 && far > 0 && near + far == TIMES;
        Ok((split && no_client == 0 && told == TIMES && at_client == TIMES).then_some(()))
    });
    reached.with_context(|| format!("{last:#}"))
}

/// Together both know each call once, and what each end of it counted.
fn both_see_all(servers: &[String]) -> Result<()> {
    let mut last = Value::Null;
    let reached = wait::until("all of it", PATIENCE, || {
        last = together(&["mesh", "readiness", "--window", "1m"], servers)?;
        Ok((plaintext(&last) == Some([TIMES; 3])).then_some(()))
    });
    reached.with_context(|| format!("{last:#}"))?;
    ensure!(last["asked"]["agents"] == 2, "{last:#}");
    ensure!(last["asked"]["answered"] == 2, "{last:#}");
    let edges = together(&["mesh", "edges"], servers)?;
    ensure!(requests(&edges) == Some([TIMES; 3]), "{edges:#}");
    let table = run(&["mesh", "readiness", "--window", "1m"], servers)?;
    let table = String::from_utf8(table.stdout)?;
    ensure!(table.contains("NOT READY"), "{table}");
    ensure!(table.contains("plaintext from shop/stranger"), "{table}");
    ensure!(table.ends_with("asked 2 of 2 agents\n"), "{table}");
    Ok(())
}

/// Both find the same: it is told once, with the counts and times of both.
fn findings_are_told_once(agents: &[Agent; 2], servers: &[String]) -> Result<()> {
    let mut last = Value::Null;
    let reached = wait::until("one finding of both", PATIENCE, || {
        let mut own = Vec::new();
        for agent in agents {
            last = answer(agent, "/api/v1/findings")?;
            match accepted(&last)[..] {
                [found] => own.push(found.clone()),
                _ => return Ok(None),
            }
        }
        last = together(&["findings"], servers)?;
        let found = accepted(&last);
        let [found] = found[..] else {
            return Ok(None);
        };
        let first = own.iter().filter_map(|one| one["first_seen"].as_f64());
        let latest = own.iter().filter_map(|one| one["last_seen"].as_f64());
        let sum: u64 = own.iter().map(count).sum();
        let same = count(found) == sum
            && found["first_seen"].as_f64() == first.reduce(f64::min)
            && found["last_seen"].as_f64() == latest.reduce(f64::max);
        Ok(same.then_some(()))
    });
    reached.with_context(|| format!("{last:#}"))
}

/// An agent that does not answer is told of, and what it sees may be bad.
fn silence_is_told(servers: &[String]) -> Result<()> {
    // Nothing is found of this kind.
    let words = ["findings", "--id", "M36", "--fail-on", "info"];
    let all = run(&words, servers)?;
    ensure!(all.status.success(), "{all:?}");
    let dead = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut servers = servers.to_vec();
    servers.push(format!("http://{dead}"));
    let part = run(&words, &servers)?;
    ensure!(part.status.code() == Some(1), "{part:?}");
    let errors = String::from_utf8(part.stderr)?;
    ensure!(
        errors.contains(&format!("http://{dead} did not answer")),
        "{errors}"
    );
    let table = String::from_utf8(part.stdout)?;
    ensure!(table.ends_with("asked 2 of 3 agents\n"), "{table}");
    let told = together(&["findings", "--id", "M36"], &servers)?;
    ensure!(told["asked"]["agents"] == 3, "{told:#}");
    ensure!(told["asked"]["servers"][2]["error"].is_string(), "{told:#}");
    ensure!(told["findings"] == json!([]), "{told:#}");
    Ok(())
}

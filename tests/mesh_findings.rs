//! What is declared and what is done: each finding is told where they differ, and no other.
//!
//! A case is the objects of a file of `mesh_findings`, what proxies do whatever those say, and the
//! traffic of an ordinary cluster: `front` and `stranger` call `web`.

#[path = "mesh_findings/ambient.rs"]
mod ambient;
#[path = "mesh_findings/cases.rs"]
mod cases;
#[path = "mesh_findings/limits.rs"]
mod limits;
#[path = "mesh_findings/routing.rs"]
mod routing;
#[path = "mesh_findings/security.rs"]
mod security;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use observer::model::policy::PolicyKind;
use observer_tests::{
    agent::Agent,
    apiserver::objects,
    kubernetes::{NAMESPACE, knows, serve_at},
    mesh::{
        self, Member, Mesh, Plane, Spec, Subset, Target,
        istio::{Accepts, Sidecar},
        linkerd, service_address,
        traffic::Requests,
    },
    requirement::lacking,
    server::Server,
    wait::{self, PATIENCE, SETTLE},
};
use serde_json::{Value, json};

/// A finding: its id, and who and what it is about: the client, the server, and what its reasons say.
type Expected = (&'static str, &'static [&'static str]);

/// What is done, whatever is declared.
struct Case {
    /// File of what is declared.
    objects: &'static str,
    /// What `front` is in.
    front: Spec<'static>,
    /// What `web` is in.
    web: Spec<'static>,
    /// The namespace is to be in the mesh.
    injected: bool,
    /// Further labels of the namespace.
    labels: &'static [(&'static str, &'static str)],
    /// Name of the Service's port.
    port: &'static str,
    /// What the sidecar of `web` takes.
    accepts: Accepts,
    /// Paths that it refuses.
    refuses: Option<&'static str>,
    /// What the sidecar of `front` does with requests.
    target: fn(&mut Target),
    /// Its newest version of TLS.
    newest: Option<&'static str>,
    /// These shares of the requests go to `web`, and to another pod of its Service.
    halved: Option<[u32; 2]>,
    /// That pod.
    second: Spec<'static>,
    /// Requests of `front` to a Service of that pod alone.
    direct: usize,
    /// A pod that answers for no Service: `front` gets to it in place of `web`.
    other: Option<Spec<'static>>,
    /// Starts what answers in a pod.
    serves: fn(&Member<'_>) -> Result<Server>,
    /// The requests that the proxy of `web` lets pass.
    passes: Option<u32>,
    /// Requests of `front`: path, how many, status.
    front_asks: &'static [(&'static str, usize, u16)],
    /// Requests of `stranger`, who is in no mesh.
    stranger_asks: Option<(&'static str, usize, u16)>,
    /// Requests of `front` to somebody outside.
    leaves: usize,
    /// What else is done.
    more: fn(&Scene<'_>) -> Result<()>,
    /// What must be found.
    expected: &'static [Expected],
    /// What must not be, of the same ids.
    absent: &'static [Expected],
    /// What may be found too.
    allowed: &'static [&'static str],
}

/// Who there is.
struct Scene<'a> {
    front: &'a Member<'a>,
    stranger: &'a Member<'a>,
    target: &'a Target,
}

const CONFIGURATION: &str = "mesh:\n  settle: 0s\n  minimum: 5\n  unused_after: 0s\n";

/// An ordinary case, in which nothing is wrong.
fn case(objects: &'static str) -> Case {
    Case {
        objects,
        front: Spec::new("front", Plane::Istio),
        web: Spec::new("web", Plane::Istio),
        injected: false,
        labels: &[],
        port: "http",
        accepts: Accepts::Permissive,
        refuses: None,
        target: |_| (),
        newest: None,
        halved: None,
        second: Spec::new("web-v2", Plane::Istio).version("web", "v2"),
        direct: 0,
        other: None,
        serves: |member| member.serve(),
        passes: None,
        front_asks: &[("/hop", 30, 200)],
        stranger_asks: None,
        leaves: 0,
        more: |_| Ok(()),
        expected: &[],
        absent: &[],
        // That a server could take more than it has to is a plan, not a fault.
        allowed: &["M03"],
    }
}

/// The objects of a file.
fn declared(name: &str) -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("mesh_findings/{name}.yaml"));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let blank = |line: &str| line.trim().is_empty() || line.starts_with('#');
    text.split("---\n")
        .filter(|document| !document.lines().all(blank))
        .map(|document| serde_saphyr::from_str(document).context("not YAML"))
        .collect()
}

/// Waits until the agent judges by what is declared, which is a little after it has heard of it.
fn told(agent: &Agent, objects: &[Value]) -> Result<()> {
    for kind in PolicyKind::ALL {
        let own = |object: &&Value| {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            let group = version.split_once('/').map_or("", |(group, _)| group);
            object["kind"] == kind.as_str() && group == kind.group()
        };
        let count = objects.iter().filter(own).count();
        // The configuration of a mesh is no policy, and not among those that judge.
        if count > 0 && kind == PolicyKind::MeshConfig {
            knows(agent, kind.resource(), count)?;
        } else if count > 0 {
            let labels = [("kind", kind.as_str()), ("group", kind.group())];
            let waited = wait::until("objects", 2 * PATIENCE, || {
                let known = agent
                    .metrics()?
                    .sum("observer_mesh_policy_objects", &labels);
                Ok((known == count as f64).then_some(()))
            });
            waited.with_context(|| format!("not {count} of {}", kind.resource()))?;
        }
    }
    // What is declared counts from when edges are next looked at, once a second.
    std::thread::sleep(3 * SETTLE);
    Ok(())
}

/// Ids of findings, with whom and what each is about.
type Found = BTreeSet<(String, BTreeSet<String>)>;

/// Findings now, with whom and what each is about.
fn findings(agent: &Agent) -> Result<(Found, Value)> {
    let answer: Value = serde_json::from_str(&agent.get("/api/v1/findings")?)?;
    let all = answer["findings"].as_array().context("no findings")?;
    let about = |finding: &Value| {
        let names = ["workload", "peer"].map(|key| finding[key]["name"].as_str());
        let names = names.into_iter().flatten().filter(|name| !name.is_empty());
        let reasons = finding["because"].as_array().into_iter().flatten();
        let names = names.chain(reasons.filter_map(|reason| reason["text"].as_str()));
        let id = finding["id"].as_str().unwrap_or_default();
        (id.to_owned(), names.map(str::to_owned).collect())
    };
    let found = all.iter().map(about).collect();
    Ok((found, answer))
}

/// Checks that what must be found is, and nothing that may not.
fn expect(agent: &Agent, case: &Case) -> Result<()> {
    let has = |found: &BTreeSet<(String, BTreeSet<String>)>, (id, names): &Expected| {
        let all = |about: &BTreeSet<String>| names.iter().all(|name| about.contains(*name));
        found.iter().any(|(own, about)| own == id && all(about))
    };
    let missing = || -> Result<Vec<Expected>> {
        let (found, _) = findings(agent)?;
        let expected = case.expected.iter().copied();
        Ok(expected.filter(|one| !has(&found, one)).collect())
    };
    // What is missing is told below, with all that there is.
    let _ = wait::until("findings", PATIENCE, || {
        Ok(missing()?.is_empty().then_some(()))
    });
    // What is not to be found has time to be.
    std::thread::sleep(3 * SETTLE);
    let (found, answer) = findings(agent)?;
    let missing = missing()?;
    let wanted: Vec<&str> = case.expected.iter().map(|(id, _)| *id).collect();
    let strange: Vec<_> = found
        .iter()
        .filter(|(id, _)| !wanted.contains(&&**id) && !case.allowed.contains(&&**id))
        .collect();
    let absent = case.absent.iter();
    let wrong: Vec<_> = absent.filter(|one| has(&found, one)).collect();
    ensure!(
        missing.is_empty() && strange.is_empty() && wrong.is_empty(),
        "missing {missing:?}, not expected {strange:?} {wrong:?} of {answer:#}\n\
         of what was seen: {:#}",
        serde_json::from_str::<Value>(&agent.get("/api/v1/mesh")?)?
    );
    let misunderstood = answer["misunderstood"].as_array();
    ensure!(misunderstood.is_none_or(Vec::is_empty), "{answer:#}");
    Ok(())
}

/// Requests one after the other, each over a connection of its own: those count too.
fn requests<'a>(target: &'a Target, path: &'a str, times: usize) -> Result<Requests<'a>> {
    Ok(Requests {
        host: &target.name,
        address: target.dialled()?,
        path,
        times,
        at_once: 1,
        options: &["--header", "Connection: close"],
    })
}

fn ask<'a>(
    client: &Member<'_>,
    target: &Target,
    asks: impl IntoIterator<Item = &'a (&'a str, usize, u16)>,
) -> Result<()> {
    for (path, times, status) in asks {
        requests(target, path, *times)?.expect(&client.app()?, *status)?;
    }
    Ok(())
}

/// A web server that answers to paths below `/slow` after half a second, with 401.
fn slow(member: &Member<'_>) -> Result<Server> {
    let directives = "location /slow { auth_basic slow; auth_basic_user_file /dev/null; \
                      auth_delay 500ms; }";
    member.serve_with("", directives)
}

/// Starts the proxies of a case.
fn proxies(
    mesh: &Mesh<'_>,
    case: &Case,
    (front, webs): (&Member<'_>, &[&Member<'_>]),
    targets: &[&Target],
) -> Result<Vec<Server>> {
    let mut proxies = Vec::new();
    for web in webs {
        proxies.extend(match web.plane {
            Plane::Istio => Some(mesh.istio(
                web,
                &Sidecar {
                    accepts: case.accepts,
                    refuses: case.refuses,
                    serves: web.serves,
                    ..Sidecar::default()
                },
            )?),
            Plane::Linkerd => Some(mesh.linkerd(
                web,
                &linkerd::Sidecar {
                    limit: case.passes,
                    ..linkerd::Sidecar::default()
                },
            )?),
            Plane::None | Plane::Ambient => None,
        });
    }
    proxies.extend(match front.plane {
        Plane::Istio => Some(mesh.istio(
            front,
            &Sidecar {
                targets,
                newest: case.newest,
                ..Sidecar::default()
            },
        )?),
        Plane::Linkerd => Some(mesh.linkerd(
            front,
            &linkerd::Sidecar {
                targets,
                ..linkerd::Sidecar::default()
            },
        )?),
        Plane::None | Plane::Ambient => None,
    });
    Ok(proxies)
}

fn check(case: &Case) -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene(case.objects, 1, |mesh| {
        mesh.install(case.injected)?;
        if !case.labels.is_empty() {
            let namespace = objects::namespace(NAMESPACE);
            mesh.site().api.change(&namespace, |object| {
                for (name, value) in case.labels {
                    object["metadata"]["labels"][*name] = json!(value);
                }
            })?;
        }
        let objects = declared(case.objects)?;
        mesh.declare(&objects)?;
        let front = mesh.pod(1, &case.front)?;
        let stranger = mesh.pod(1, &Spec::new("stranger", Plane::None).opted_out())?;
        let web = mesh.pod(1, &case.web)?;
        let pod = |spec| mesh.pod(1, spec);
        let second = case.halved.map(|_| pod(&case.second)).transpose()?;
        let other = case.other.as_ref().map(pod).transpose()?;
        let webs: Vec<&Member<'_>> = [Some(&web), second.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        let all: Vec<&Member<'_>> = webs.iter().copied().chain(other.as_ref()).collect();
        let reached = other.as_ref().unwrap_or(&web);
        let mut target = Target::new("web", service_address(10, 80), &[reached]);
        if let (Some(shares), Some(second)) = (case.halved, &second) {
            target.subsets = vec![
                Subset::new("v1", shares[0], &[&web]),
                Subset::new("v2", shares[1], &[second]),
            ];
        }
        (case.target)(&mut target);
        let direct = Target::new("direct", service_address(11, 80), &webs[1..]);
        let mut services = vec![(&target, case.port, &webs[..])];
        if case.direct > 0 {
            services.push((&direct, case.port, &webs[1..]));
        }
        mesh.services(&services)?;
        if case.direct > 0 {
            let mut service = objects::service(&direct.name, &[80]);
            service["metadata"]["namespace"] = json!(NAMESPACE);
            mesh.site().api.change(&service, |object| {
                object["spec"]["selector"] = json!({"app": "web", "version": "v2"});
            })?;
        }
        let servers = all.iter().map(|web| (case.serves)(web));
        let _servers = servers.collect::<Result<Vec<_>>>()?;
        let targets: Vec<&Target> = services.iter().map(|(target, ..)| *target).collect();
        let _proxies = proxies(mesh, case, (&front, &all), &targets)?;
        let outside = mesh.outside();
        let _outside = serve_at(&outside, "outside")?;
        let agent = mesh.agent_with(1, CONFIGURATION)?;
        told(&agent, &objects)?;
        ask(&front, &target, case.front_asks)?;
        ask(&stranger, &target, &case.stranger_asks)?;
        if case.direct > 0 {
            ask(&front, &direct, &[("/hop", case.direct, 200)])?;
        }
        if case.leaves > 0 {
            let foreign = Target {
                name: "registered.nowhere.test".to_owned(),
                address: Some("192.0.2.2:8080".parse()?),
                ..Target::default()
            };
            ask(&front, &foreign, &[("/away", case.leaves, 200)])?;
        }
        (case.more)(&Scene {
            front: &front,
            stranger: &stranger,
            target: &target,
        })?;
        expect(&agent, case)?;
        mesh::finish([agent])
    })
}

/// Whether servers could take mutual TLS only, and who keeps them from it.
#[test]
fn readiness_names_who_still_sends_plaintext() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene("readiness", 1, |mesh| {
        mesh.install(false)?;
        let objects = declared("permissive")?;
        mesh.declare(&objects)?;
        let front = mesh.pod(1, &Spec::new("front", Plane::Istio))?;
        let stranger = mesh.pod(1, &Spec::new("stranger", Plane::None))?;
        let web = mesh.pod(1, &Spec::new("web", Plane::Istio))?;
        let target = Target::new("web", service_address(10, 80), &[&web]);
        mesh.services(&[(&target, "http", &[&web])])?;
        let _server = web.serve()?;
        let _carriers = mesh.carry(&[&web, &front], &[&target])?;
        let agent = mesh.agent_with(1, CONFIGURATION)?;
        told(&agent, &objects)?;
        let states = |wanted: &str, plaintext: &[&str]| -> Result<()> {
            let path = "/api/v1/mesh/readiness?window=1m";
            let mut last = Value::Null;
            let reached = wait::until("readiness", PATIENCE, || {
                last = serde_json::from_str(&agent.get(path)?)?;
                let all = last["readiness"].as_array().into_iter().flatten();
                let own: Vec<&Value> = all.filter(|one| one["workload"]["name"] == "web").collect();
                let [own] = own[..] else {
                    return Ok(None);
                };
                let clients = own["plaintext"].as_array().into_iter().flatten();
                let clients = clients.filter_map(|client| client["client"]["name"].as_str());
                let clients: Vec<&str> = clients.collect();
                Ok((own["state"] == wanted && clients == plaintext).then_some(()))
            });
            reached.with_context(|| format!("{wanted} {plaintext:?}: {last:#}"))
        };
        ask(&front, &target, &[("/hop", 30, 200)])?;
        // A minute is the shortest window, and longer than this test looks.
        states("INSUFFICIENT", &[])?;
        ask(&stranger, &target, &[("/plain", 30, 200)])?;
        states("NOT READY", &["stranger"])?;
        ensure!(agent.metrics()?.losses().is_empty());
        agent.stop()
    })
}

/// Every file is a case's, and says what the API takes.
#[test]
fn all_files_are_objects_of_kinds_that_are_known() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mesh_findings");
    let source = concat!(
        include_str!("mesh_findings.rs"),
        include_str!("mesh_findings/ambient.rs"),
        include_str!("mesh_findings/cases.rs"),
        include_str!("mesh_findings/limits.rs"),
        include_str!("mesh_findings/routing.rs"),
        include_str!("mesh_findings/security.rs"),
    );
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.context("no name")?;
        ensure!(
            source.contains(&format!("(\"{name}\")")),
            "{name} is nobody's"
        );
        for object in declared(name)? {
            observer_tests::apiserver::path(&object)?;
            let namespace = &object["metadata"]["namespace"];
            ensure!(
                [json!(NAMESPACE), json!("istio-system")].contains(namespace),
                "{object}"
            );
        }
    }
    Ok(())
}

//! What sidecars as of Istio do besides carrying: split, repeat, refuse, answer by themselves.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    apiserver,
    kubernetes::ask_with,
    mesh::{
        self, Mesh, Plane, Spec, Subset, Target,
        istio::Sidecar,
        service_address,
        traffic::{Requests, expect_calls, expect_edges},
    },
    requirement::lacking,
};

const SECURITY: &str = "istio_mtls";

/// A client and a server that differ from an ordinary pair in `change` and in what the server's
/// sidecar refuses: a client's requests are answered with `status`, and the server has seen `seen` of
/// them.
fn pair(
    mesh: &Mesh<'_>,
    change: impl FnOnce(&mut Target),
    refuses: Option<&str>,
    (path, status): (&str, u16),
    security: &str,
    seen: impl FnOnce(u64) -> u64,
) -> Result<()> {
    let front = mesh.pod(1, &Spec::new("front", Plane::Istio))?;
    let web = mesh.pod(1, &Spec::new("web", Plane::Istio))?;
    let mut target = Target::new("web", service_address(10, 80), &[&web]);
    change(&mut target);
    mesh.services(&[(&target, "http", &[&web])])?;
    let _web = web.serve()?;
    let inbound = Sidecar {
        refuses,
        ..Sidecar::default()
    };
    let outbound = Sidecar {
        targets: &[&target],
        ..Sidecar::default()
    };
    let _sidecars = [mesh.istio(&web, &inbound)?, mesh.istio(&front, &outbound)?];
    let agent = mesh.agent(1)?;
    let requests = Requests {
        host: "web",
        address: target.dialled()?,
        path,
        times: 24,
        at_once: 3,
        options: &[],
    };
    let counted = requests.expect(&front.app()?, status)?;
    let seen = seen(counted);
    expect_edges(
        &[&agent],
        &[
            (("client", "front", "web", security), counted),
            (("server", "front", "web", security), seen),
        ],
    )?;
    expect_calls(&[&agent], "client", &[("front", counted)])?;
    expect_calls(&[&agent], "server", &[("web", seen)])?;
    mesh::finish([agent])
}

/// Each of `cases` against the double; the first against the real server of the API too.
#[test]
fn the_api_server_itself_tells_the_same() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    apiserver::each(|api| {
        mesh::scene_of(api, "api", 1, |mesh| {
            pair(
                mesh,
                |_| (),
                None,
                ("/hop", 200),
                SECURITY,
                |counted| counted,
            )
        })
    })
}

#[test]
fn what_a_proxy_repeats_is_one_call_of_its_client() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    let change = |target: &mut Target| target.retries = 2;
    mesh::scene("retries", 1, |mesh| {
        pair(
            mesh,
            change,
            None,
            ("/unavailable", 503),
            SECURITY,
            |counted| 3 * counted,
        )
    })
}

#[test]
fn what_a_proxy_answers_is_a_call_of_its_client_alone() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    let change = |target: &mut Target| target.fault = Some((503, 100));
    mesh::scene("fault", 1, |mesh| {
        // Nothing ever was on the wire.
        pair(mesh, change, None, ("/hop", 503), "unknown", |_| 0)
    })?;
    mesh::scene("refused", 1, |mesh| {
        pair(mesh, |_| (), Some("/hop"), ("/hop", 403), SECURITY, |_| 0)
    })
}

#[test]

fn the_backends_of_a_split_are_told_at_their_own_ends() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene("split", 2, |mesh| {
        let front = mesh.pod(1, &Spec::new("front", Plane::Istio))?;
        let old = mesh.pod(1, &Spec::new("web-v1", Plane::Istio).version("web", "v1"))?;
        let new = mesh.pod(2, &Spec::new("web-v2", Plane::Istio).version("web", "v2"))?;
        let target = Target {
            subsets: vec![Subset::new("v1", 3, &[&old]), Subset::new("v2", 1, &[&new])],
            ..Target::new("web", service_address(10, 80), &[&old])
        };
        mesh.services(&[(&target, "http", &[&old, &new])])?;
        let _servers = [old.serve()?, new.serve()?];
        let _sidecars = mesh.carry(&[&old, &new, &front], &[&target])?;
        let agents = [mesh.agent(1)?, mesh.agent(2)?];
        let all: Vec<&Agent> = agents.iter().collect();
        let known = format!("web:80:{}", target.dialled()?.ip());
        let answers = ask_with(&front.app()?, "web/split", 80, &["--resolve", &known])?;
        let shares: BTreeMap<&str, u64> = (answers.iter())
            .map(|(line, count)| (line.as_str(), *count as u64))
            .collect();
        let share = |pod: &str| shares.get(pod).copied().unwrap_or(0);
        let (first, second) = (share(old.known.pod.name()), share(new.known.pod.name()));
        ensure!(
            first > second && second > 0 && first + second == 80,
            "{answers:?}"
        );
        expect_edges(
            &all,
            &[
                // Which of them it was is the proxy's choice, request by request.
                (("client", "front", "web", SECURITY), 80),
                (("server", "front", "web-v1", SECURITY), first),
                (("server", "front", "web-v2", SECURITY), second),
            ],
        )?;
        mesh::finish(agents)
    })
}

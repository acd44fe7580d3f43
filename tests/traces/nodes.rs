//! On a cluster agents of two nodes join what passes between them, behind a Service too.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use observer_tests::{
    apiserver::{double::Double, objects},
    collector::{self, Collector},
    kubernetes::{Control, Site},
    node::{Backend, Cluster, Layout, Service},
    requirement::Need,
    settings,
};
use serde_json::json;

use crate::chain::{Chain, HOPS, Sites, cannot_run, judge};

const VIRTUAL: &str = "10.96.0.10";
const PORT: u16 = 8080;

#[test]
fn agents_of_two_nodes_join_pods() -> Result<()> {
    if cannot_run(&[Need::Tool("ip"), Need::Tool("nft")])? {
        return Ok(());
    }
    let api = Double::start()?;
    let cluster = Cluster::create("traces", &[Layout::Containerd, Layout::Crio])?;
    let site = Site::new(&api, &cluster, 2)?;
    let [caller, front, second] =
        ["caller", "front", "second"].map(|name| site.pod(1, name, Control::Bare));
    let [first, third, fourth] =
        ["first", "third", "fourth"].map(|name| site.pod(2, name, Control::Bare));
    let (caller, front, second) = (caller?, front?, second?);
    let (first, third, fourth) = (first?, third?, fourth?);

    let mut object = objects::service("first", &[80]);
    object["spec"]["clusterIP"] = json!(VIRTUAL);
    site.service(object, &[&first])?;
    let backend = Backend {
        pod: &first.pod,
        port: PORT,
    };
    cluster.serve(&[Service {
        addresses: vec![VIRTUAL.parse()?],
        port: 80,
        node_port: None,
        local_only: false,
        backends: vec![backend],
    }])?;

    let pods = [&front, &first, &second, &third, &fourth];
    let address = |known: &&observer_tests::kubernetes::Known<'_>| {
        SocketAddr::new(known.pod.addresses()[0], PORT)
    };
    let chain = Chain::start(
        &Sites {
            front: front.pod.container("app")?,
            first: first.pod.container("app")?,
            second: second.pod.container("app")?,
            third: third.pod.container("app")?,
            fourth: fourth.pod.container("app")?,
            addresses: pods.each_ref().map(address),
            virtual_first: Some(SocketAddr::new(VIRTUAL.parse()?, 80)),
        },
        true,
    )?;
    let outside = cluster.outside();
    let collector = Collector::start_with(&collector::Options {
        namespace: outside.namespace(),
        address: Some("192.0.2.2".parse()?),
        ..collector::Options::default()
    })?;
    let settings = settings::tracing(&collector.grpc(), &[]);
    let agents = [
        site.agent(1, &[], &settings)?,
        site.agent(2, &[], &settings)?,
    ];
    let place = caller.pod.container("app")?;
    for (first, options) in [
        ("plain", json!({"count": 10, "threads": 4})),
        (
            "fields",
            json!({"count": 10, "threads": 4, "headers": true}),
        ),
    ] {
        let (asked, spans) = chain.drive(&place, &collector, first, options)?;
        let verdict = judge(&format!("pods, {first}"), &asked, &spans);
        verdict.expect_joined()?;
        ensure!(verdict.hops == HOPS * asked.len(), "{}", verdict.outline());
        for span in &spans {
            let pod = span.resource.text("k8s.pod.name");
            ensure!(!pod.is_empty() && pod == span.service(), "{span:?}");
        }
    }
    for agent in agents {
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

//! Both ends of a request are one hop of one trace, without a word between them.

use std::net::SocketAddr;

use anyhow::{Result, anyhow, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    collector::{Collector, SpanSeen},
    hop::{self, Services, Spec},
    link::{Faults, Link},
    namespace::{self, Namespace},
    place::Place,
    process,
    requirement::Need,
    server::Server,
    settings,
    wait::{self, PATIENCE, SETTLE},
};
use serde_json::json;

use crate::chain::{Chain, HOPS, Sites, addresses, cannot_run, is_of, judge, observe};

#[test]
fn a_chain_without_fields_is_joined() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let (cgroup, collector) = (Cgroup::create("chain")?, Collector::start()?);
    let place = Place::host(&cgroup);
    let chain = Chain::start(&Sites::at(place)?, true)?;
    let agent = observe(&cgroup, &collector, &[])?;
    for (first, options) in [
        ("one", json!({"count": 10})),
        ("many", json!({"count": 10, "threads": 6})),
        (
            "pipelined",
            json!({"count": 12, "threads": 2, "pipelined": 4}),
        ),
        ("new", json!({"count": 6, "threads": 3, "new": true})),
    ] {
        let (asked, spans) = chain.drive(&place, &collector, first, options)?;
        let verdict = judge(first, &asked, &spans);
        verdict.expect_joined()?;
        ensure!(verdict.hops == HOPS * asked.len(), "{}", verdict.outline());
        // With one request at a time what is not certain is not wrong either.
        ensure!(
            first != "one" || verdict.misled == 0,
            "{}",
            verdict.outline()
        );
    }
    collector.expect_without(&["secret-query", "secret-authorization", "secret-cookie"])?;
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn a_chain_that_hands_on_fields_is_one_trace() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let (cgroup, collector) = (Cgroup::create("fields")?, Collector::start()?);
    let place = Place::host(&cgroup);
    let chain = Chain::start(&Sites::at(place)?, true)?;
    let agent = observe(&cgroup, &collector, &[])?;
    let options = json!({"count": 10, "threads": 4, "headers": true});
    let (asked, spans) = chain.drive(&place, &collector, "fields", options)?;
    let verdict = judge("fields", &asked, &spans);
    verdict.expect_joined()?;
    ensure!(verdict.hops == HOPS * asked.len(), "{}", verdict.outline());
    for one in &asked {
        // Only what the third asks for has no fields.
        let without = format!("{}_0_1_0", one.path);
        for span in spans.iter().filter(|span| is_of(span, "fields")) {
            let ident = one.path.trim_start_matches("/hop/");
            let path = span.path();
            let own = path.ends_with(ident) || path.contains(&format!("{ident}_"));
            if own && path != without {
                ensure!(span.trace == one.trace, "{one:?}: {}", span.outline());
            }
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn translated_addresses_hide_no_hop() -> Result<()> {
    if cannot_run(&[Need::Tool("ip"), Need::Tool("nft")])? {
        return Ok(());
    }
    let (cgroup, collector) = (Cgroup::create("translated")?, Collector::start()?);
    let (near, far) = (Namespace::create("near")?, Namespace::create("far")?);
    namespace::join((&near, &["10.78.0.1/24"]), (&far, &["10.78.0.2/24"]))?;
    near.run("ip", &["route", "add", "10.96.0.0/16", "via", "10.78.0.2"])?;
    near.rules(
        "table ip services { chain output { type nat hook output priority -100; \
         ip daddr 10.96.0.10 tcp dport 80 dnat to 10.78.0.2:8080; }; \
         chain postrouting { type nat hook postrouting priority 100; \
         ip daddr 10.78.0.2 masquerade fully-random; }; }",
    )?;
    let (caller, place) = (Place::inside(&cgroup, &near), Place::inside(&cgroup, &far));
    let services = Services::new()?;
    let spec = Spec {
        name: "behind",
        ..Spec::default()
    };
    let _server = services.python(&place, "10.78.0.2:8080".parse()?, spec)?;
    let agent = observe(&cgroup, &collector, &["peers: all"])?;
    let options = json!({
        "url": "http://10.96.0.10:80", "first": "nat", "count": 10, "threads": 3, "new": true,
    });
    let asked = hop::ask(&caller, &options)?;
    let spans = collector.exactly(2 * asked.len(), "spans", |span| is_of(span, "nat"))?;
    let verdict = judge("translated", &asked, &spans);
    verdict.expect_joined()?;
    ensure!(verdict.hops == asked.len(), "{}", verdict.outline());
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn two_observers_join_what_neither_sees_alone() -> Result<()> {
    if cannot_run(&[Need::Tool("ip")])? {
        return Ok(());
    }
    let collector = Collector::start()?;
    let cgroups = [Cgroup::create("one")?, Cgroup::create("other")?];
    let networks = [Namespace::create("one")?, Namespace::create("other")?];
    let ([one, other], [near, far]) = (&cgroups, &networks);
    namespace::join((near, &["10.77.0.1/24"]), (far, &["10.77.0.2/24"]))?;
    let (here, there) = (Place::inside(one, near), Place::inside(other, far));
    let [front, second] = addresses(&here, "10.77.0.1".parse()?)?;
    let [first, third, fourth] = addresses(&there, "10.77.0.2".parse()?)?;
    let chain = Chain::start(
        &Sites {
            front: here,
            first: there,
            second: here,
            third: there,
            fourth: there,
            addresses: [front, first, second, third, fourth],
            virtual_first: None,
        },
        true,
    )?;
    let agents = [
        observe(one, &collector, &["peers: all"])?,
        observe(other, &collector, &["peers: all"])?,
    ];
    for (first, options) in [
        ("plain", json!({"count": 10, "threads": 4})),
        (
            "fields",
            json!({"count": 10, "threads": 4, "headers": true}),
        ),
    ] {
        let (asked, spans) = chain.drive(&here, &collector, first, options)?;
        let verdict = judge(&format!("two observers, {first}"), &asked, &spans);
        verdict.expect_joined()?;
        ensure!(verdict.hops == HOPS * asked.len(), "{}", verdict.outline());
    }
    for agent in agents {
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn two_observers_keep_the_same_traces() -> Result<()> {
    if cannot_run(&[Need::Tool("ip")])? {
        return Ok(());
    }
    let collector = Collector::start()?;
    let (one, other) = (Cgroup::create("one")?, Cgroup::create("other")?);
    let (near, far) = (Namespace::create("one")?, Namespace::create("other")?);
    namespace::join((&near, &["10.75.0.1/24"]), (&far, &["10.75.0.2/24"]))?;
    let (here, there) = (Place::inside(&one, &near), Place::inside(&other, &far));
    let [address] = addresses(&there, "10.75.0.2".parse()?)?;
    let services = Services::new()?;
    let spec = Spec {
        name: "last",
        ..Spec::default()
    };
    let _last = services.python(&there, address, spec)?;
    let agents = [&one, &other].map(|cgroup| -> Result<Agent> {
        let text = settings::tracing(&collector.grpc(), &["peers: all", "ratio: 0.3"]);
        let options = Options {
            configuration: Some(text.replace("sampler: always", "sampler: parent")),
            ..Options::default()
        };
        Agent::start_with(cgroup, &options)
    });
    let mut options = json!({
        "url": format!("http://{address}"), "first": "share", "count": 100, "threads": 4,
    });
    let asked = hop::ask(&here, &options)?;
    // Whose caller keeps a trace, keeps it.
    options["first"] = json!("kept");
    options["headers"] = json!(true);
    options["count"] = json!(10);
    let kept = hop::ask(&here, &options)?;
    let found = collector.exactly(2 * kept.len(), "spans", |span| is_of(span, "kept"))?;
    judge("kept by their fields", &kept, &found).expect_joined()?;
    collector.settle(SETTLE)?;
    let spans: Vec<SpanSeen> = collector.spans()?;
    let spans: Vec<SpanSeen> = spans
        .into_iter()
        .filter(|span| is_of(span, "share"))
        .collect();
    let verdict = judge("a share", &asked, &spans);
    verdict.expect_joined()?;
    // Both ends of each, and about as many as was asked for: 120 of 400, give or take five deviations.
    ensure!(2 * verdict.hops == spans.len(), "{}", verdict.outline());
    ensure!((74..166).contains(&verdict.hops), "{}", verdict.outline());
    for agent in agents {
        let agent = agent?;
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn many_short_connections_share_no_id() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let (cgroup, collector) = (Cgroup::create("many")?, Collector::start()?);
    let place = Place::host(&cgroup);
    let answer = "location /hop/ { return 200 \"done\"; }";
    let nginx = Server::nginx_with(&place, "", answer)?;
    let agent = observe(&cgroup, &collector, &[])?;
    let options = json!({
        "url": nginx.url(""), "first": "many", "count": 250, "threads": 6, "new": true,
    });
    let asked = hop::ask(&place, &options)?;
    let spans = collector.exactly(2 * asked.len(), "spans", |span| is_of(span, "many"))?;
    let verdict = judge("many connections", &asked, &spans);
    verdict.expect_joined()?;
    ensure!(verdict.hops == asked.len(), "{}", verdict.outline());
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn connections_that_are_older_than_the_agent_are_joined() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let (cgroup, collector) = (Cgroup::create("older")?, Collector::start()?);
    let place = Place::host(&cgroup);
    let [first, last] = addresses(&place, "127.0.0.1".parse()?)?;
    let services = Services::new()?;
    let spec = Spec {
        name: "last",
        ..Spec::default()
    };
    let _last = services.python(&place, last, spec)?;
    let next = [format!("http://{last}")];
    let spec = Spec {
        name: "first",
        next: &next,
        ..Spec::default()
    };
    let _first = services.python(&place, first, spec)?;
    let options = json!({
        "url": format!("http://{first}"), "first": "older", "count": 50, "threads": 4,
        "pause": 0.1,
    });
    let mut asking = hop::asking(&place, &options)?;
    let client = std::thread::spawn(move || process::check(&mut asking));
    wait::until("connections", PATIENCE, || {
        Ok((services.handled()?.len() > 8).then_some(()))
    })?;
    let agent = observe(&cgroup, &collector, &[])?;
    let printed = client.join().map_err(|_| anyhow!("the client died"))??;
    let asked = hop::read(&printed)?;
    collector.settle(2 * SETTLE)?;
    let spans = collector.spans()?;
    let verdict = judge("older connections", &asked, &spans);
    verdict.expect_nothing_wrong()?;
    // Of what was under way then an end may be missing; everything after it is whole.
    let servers = spans.iter().filter(|span| span.is_server()).count();
    ensure!(
        verdict.torn.len() <= 8 && verdict.hops + 8 >= servers && verdict.hops > 50,
        "{servers} servers, {}: {:?}",
        verdict.outline(),
        verdict.torn
    );
    agent.stop()
}

#[test]
fn a_lossy_link_joins_nothing_wrong() -> Result<()> {
    if cannot_run(&[Need::Tool("ip"), Need::Tun])? {
        return Ok(());
    }
    let faults = Faults {
        dropped: 30,
        duplicated: 30,
        reordered: 60,
    };
    let collector = Collector::start()?;
    let (one, other) = (Cgroup::create("left")?, Cgroup::create("right")?);
    let link = Link::create(7, faults)?;
    let (here, there) = (
        Place::inside(&one, link.left()),
        Place::inside(&other, link.right()),
    );
    let services = Services::new()?;
    let address = SocketAddr::from((Link::RIGHT, 7000));
    let [last] = addresses(&there, Link::RIGHT.into())?;
    let spec = Spec {
        name: "last",
        ..Spec::default()
    };
    let _last = services.python(&there, last, spec)?;
    let next = [format!("http://{last}")];
    let spec = Spec {
        name: "first",
        next: &next,
        connect: "pool",
        ..Spec::default()
    };
    let _first = services.python(&there, address, spec)?;
    let agents = [
        observe(&one, &collector, &["peers: all"])?,
        observe(&other, &collector, &["peers: all"])?,
    ];
    let options = json!({
        "url": format!("http://{address}"), "first": "loss", "count": 40, "threads": 4,
        "pipelined": 2,
    });
    let asked = hop::ask(&here, &options)?;
    let spans = collector.exactly(4 * asked.len(), "spans", |span| is_of(span, "loss"))?;
    let verdict = judge("lossy", &asked, &spans);
    verdict.expect_nothing_wrong()?;
    // A first segment that comes twice or late is the same segment all the same.
    ensure!(
        verdict.hops * 10 >= 2 * asked.len() * 9,
        "most are joined: {}",
        verdict.outline()
    );
    for agent in agents {
        agent.stop()?;
    }
    let suffered = link.finish()?;
    ensure!(suffered.faults.dropped > 0, "too kind a link: {suffered:?}");
    Ok(())
}

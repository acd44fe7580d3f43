//! The request that made a service ask another is its parent where that is certain, and never a
//! wrong one.

use anyhow::{Result, ensure};
use observer_tests::{
    cgroup::Cgroup,
    collector::Collector,
    hop::{self, Services, Spec},
    place::Place,
    truth::Verdict,
};
use serde_json::{Value, json};

use crate::chain::{addresses, cannot_run, is_of, judge, observe};

/// Two services in Python, the first as `spec` says, and the verdict on what the client asked.
fn ask(label: &str, spec: Spec<'_>, kind: &str, mut options: Value) -> Result<(Verdict, usize)> {
    let (cgroup, collector) = (Cgroup::create(label)?, Collector::start()?);
    let place = Place::host(&cgroup);
    let [first, last] = addresses(&place, "127.0.0.1".parse()?)?;
    let services = Services::new()?;
    let end = Spec {
        name: "last",
        ..Spec::default()
    };
    let _last = services.python(&place, last, end)?;
    let next = [format!("http://{last}"), format!("http://{last}")];
    let spec = Spec {
        name: "first",
        next: &next,
        ..spec
    };
    let _first = match kind {
        "node" => services.node(&place, first, spec)?,
        _ => services.python(&place, first, spec)?,
    };
    let agent = observe(&cgroup, &collector, &[])?;
    // A process has to show that it answers where it reads before its threads tell for certain.
    options["url"] = json!(format!("http://{first}"));
    let mut early = options.clone();
    early["first"] = json!("early");
    let before = hop::ask(&place, &early)?;
    collector.exactly(6 * before.len(), "early spans", |span| is_of(span, "early"))?;
    options["first"] = json!("cause");
    let asked = hop::ask(&place, &options)?;
    let spans = collector.exactly(6 * asked.len(), "spans", |span| is_of(span, "cause"))?;
    let verdict = judge(label, &asked, &spans);
    verdict.expect_joined()?;
    agent.expect_no_loss()?;
    agent.stop()?;
    Ok((verdict, 2 * asked.len()))
}

#[test]
fn a_thread_for_each_connection_tells_every_cause() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let options = json!({"count": 10, "threads": 4});
    let (verdict, caused) = ask("threads", Spec::default(), "python", options)?;
    ensure!(verdict.caused == caused, "{}", verdict.outline());
    Ok(())
}

#[test]
fn shared_connections_tell_every_cause_too() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let spec = Spec {
        connect: "pool",
        ..Spec::default()
    };
    let options = json!({"count": 10, "threads": 4});
    let (verdict, caused) = ask("pool", spec, "python", options)?;
    ensure!(verdict.caused == caused, "{}", verdict.outline());
    Ok(())
}

#[test]
fn threads_that_work_for_others_mislead_nobody() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let spec = Spec {
        connect: "pool",
        workers: true,
        ..Spec::default()
    };
    let options = json!({"count": 10, "threads": 4});
    let (verdict, _) = ask("workers", spec, "python", options)?;
    ensure!(
        verdict.caused + verdict.certain_links == 0,
        "{}",
        verdict.outline()
    );
    Ok(())
}

#[test]
fn one_thread_for_everything_misleads_nobody() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let options = json!({"count": 12, "threads": 4, "pipelined": 3});
    let (verdict, _) = ask("turns", Spec::default(), "node", options)?;
    ensure!(
        verdict.caused + verdict.certain_links == 0,
        "{}",
        verdict.outline()
    );
    Ok(())
}

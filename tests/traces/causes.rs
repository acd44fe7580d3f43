//! The request that made a service ask another is its parent where that is certain, and never a
//! wrong one.

use anyhow::{Result, ensure};
use observer_tests::{
    cgroup::Cgroup,
    collector::{Collector, SpanSeen},
    hop::{self, Asked, Services, Spec},
    namespace::{self, Namespace},
    place::Place,
    requirement::Need,
    truth::Verdict,
};
use serde_json::{Value, json};

use crate::chain::{addresses, cannot_run, is_of, judge, observe};

/// Where the service is that is asked by the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    /// Observed by the same agent.
    Here,
    /// On another network, observed by another agent.
    Elsewhere,
    /// Observed by nobody.
    Unseen,
}

/// What was asked, what was seen of it, and the verdict.
struct Told {
    asked: Vec<Asked>,
    spans: Vec<SpanSeen>,
    verdict: Verdict,
    /// Requests that the first service made.
    caused: usize,
}

/// A client asks a service, of this kind and as `spec` says, which asks another one in Python twice.
fn ask(label: &str, spec: Spec<'_>, kind: &str, far: Far, mut options: Value) -> Result<Told> {
    let collector = Collector::start()?;
    let (one, other) = (Cgroup::create(label)?, Cgroup::create("far")?);
    let networks = match far {
        Far::Elsewhere => Some((Namespace::create("near")?, Namespace::create("far")?)),
        Far::Here | Far::Unseen => None,
    };
    let (place, beyond) = match &networks {
        Some((near, far)) => {
            namespace::join((near, &["10.76.0.1/24"]), (far, &["10.76.0.2/24"]))?;
            (Place::inside(&one, near), Place::inside(&other, far))
        }
        None if far == Far::Here => (Place::host(&one), Place::host(&one)),
        None => (Place::host(&one), Place::host(&other)),
    };
    let (near_ip, far_ip) = match far {
        Far::Elsewhere => ("10.76.0.1", "10.76.0.2"),
        Far::Here | Far::Unseen => ("127.0.0.1", "127.0.0.1"),
    };
    let [first] = addresses(&place, near_ip.parse()?)?;
    let [last] = addresses(&beyond, far_ip.parse()?)?;
    let services = Services::new()?;
    let end = Spec {
        name: "last",
        ..Spec::default()
    };
    let _last = services.python(&beyond, last, end)?;
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
    let peers: &[&str] = match far {
        Far::Elsewhere => &["peers: all"],
        Far::Here | Far::Unseen => &[],
    };
    let mut agents = vec![observe(&one, &collector, peers)?];
    if far == Far::Elsewhere {
        agents.push(observe(&other, &collector, peers)?);
    }
    let ends = if far == Far::Unseen { 4 } else { 6 };
    // A process has to show that it answers where it reads before its threads tell for certain.
    options["url"] = json!(format!("http://{first}"));
    let mut early = options.clone();
    early["first"] = json!("early");
    let before = hop::ask(&place, &early)?;
    collector.exactly(ends * before.len(), "early spans", |span| {
        is_of(span, "early")
    })?;
    options["first"] = json!("cause");
    let asked = hop::ask(&place, &options)?;
    let spans = collector.exactly(ends * asked.len(), "spans", |span| is_of(span, "cause"))?;
    let verdict = judge(label, &asked, &spans);
    verdict.expect_joined()?;
    for agent in agents {
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(Told {
        caused: 2 * asked.len(),
        asked,
        spans,
        verdict,
    })
}

/// Requests that four threads of the client make.
fn requests() -> Value {
    json!({"count": 10, "threads": 4})
}

fn with_headers() -> Value {
    json!({"count": 10, "threads": 4, "headers": true})
}

impl Told {
    /// Fails unless every request that the first service made hangs under its cause.
    fn expect_all_caused(&self) -> Result<()> {
        let Self {
            verdict, caused, ..
        } = self;
        ensure!(verdict.caused == *caused, "{}", verdict.outline());
        Ok(())
    }

    /// Fails unless every span is in the trace that the client said.
    fn expect_one_trace(&self) -> Result<()> {
        for span in &self.spans {
            let root = span.path().split('_').next();
            let asked = self.asked.iter().find(|asked| Some(&*asked.path) == root);
            let trace = asked.map(|asked| asked.trace.as_str());
            ensure!(trace == Some(&span.trace), "{asked:?}: {}", span.outline());
        }
        Ok(())
    }
}

#[test]
fn a_thread_for_each_connection_tells_every_cause() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let told = ask("threads", Spec::default(), "python", Far::Here, requests())?;
    told.expect_all_caused()
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
    ask("pool", spec, "python", Far::Here, requests())?.expect_all_caused()
}

#[test]
fn a_trace_goes_on_where_a_service_drops_its_fields() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let told = ask(
        "dropped",
        Spec::default(),
        "python",
        Far::Here,
        with_headers(),
    )?;
    told.expect_all_caused()?;
    told.expect_one_trace()
}

#[test]
fn a_service_that_hands_fields_on_is_in_between() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let spec = Spec {
        forward: true,
        connect: "new",
        ..Spec::default()
    };
    let told = ask("handed", spec, "python", Far::Here, with_headers())?;
    told.expect_all_caused()?;
    told.expect_one_trace()
}

#[test]
fn what_another_agent_tells_is_linked_to_its_cause() -> Result<()> {
    if cannot_run(&[Need::Tool("ip")])? {
        return Ok(());
    }
    let told = ask(
        "apart",
        Spec::default(),
        "python",
        Far::Elsewhere,
        requests(),
    )?;
    let verdict = &told.verdict;
    ensure!(
        verdict.certain_links == told.caused,
        "{}",
        verdict.outline()
    );
    let told = ask(
        "apart",
        Spec::default(),
        "python",
        Far::Elsewhere,
        with_headers(),
    )?;
    let verdict = &told.verdict;
    ensure!(
        verdict.certain_links == told.caused,
        "{}",
        verdict.outline()
    );
    Ok(())
}

#[test]
fn what_nobody_tells_hangs_under_its_cause() -> Result<()> {
    if cannot_run(&[])? {
        return Ok(());
    }
    let told = ask(
        "unseen",
        Spec::default(),
        "python",
        Far::Unseen,
        with_headers(),
    )?;
    told.expect_all_caused()?;
    told.expect_one_trace()
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
    let verdict = ask("workers", spec, "python", Far::Here, requests())?.verdict;
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
    let verdict = ask("turns", Spec::default(), "node", Far::Here, options)?.verdict;
    ensure!(
        verdict.caused + verdict.certain_links == 0,
        "{}",
        verdict.outline()
    );
    Ok(())
}

//! SIGHUP applies a changed configuration without detaching, and refuses a bad one.

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    conversation::{Conversation, Cut},
    flow::Flow,
    place::{Handshake, Place},
    remains::Remains,
    requirement::{Need, lacking},
    settings, wait,
};

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn exchange(talk: &mut Conversation, path: &str) -> Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    talk.ask(request.as_bytes(), Cut::Whole)?;
    talk.answer(RESPONSE, Cut::Whole)
}

#[test]
fn ignored_ports_change_without_detaching() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("reload")?;
    let place = Place::host(&cgroup);
    let loud = place.listen("127.0.0.1:0".parse()?)?;
    let quiet = place.listen("127.0.0.1:0".parse()?)?;
    let port = quiet.local_addr()?.port();
    let configuration = Some(settings::ignoring_ports(&[]));
    let agent = Agent::start_with(
        &cgroup,
        &Options {
            configuration,
            ..Options::default()
        },
    )?;
    let speak = |path: &str| -> Result<()> {
        for listener in [&loud, &quiet] {
            let mut talk = Conversation::accept(&place, listener, Handshake::Plain)?;
            exchange(&mut talk, path)?;
            talk.close_by_client()?;
        }
        Ok(())
    };
    let told = |path: &'static str| move |flow: &Flow| flow.text("path") == path;
    let mut kept = Conversation::accept(&place, &loud, Handshake::Plain)?;
    exchange(&mut kept, "/kept")?;
    speak("/all")?;
    agent.exactly(4, "calls before", told("/all"))?;
    let held = Remains::of(agent.id())?;

    agent.reload(&settings::ignoring_ports(&[port]))?;
    // The signal is answered within moments; probes tell when.
    let mut probes = 0;
    wait::until("the new configuration", wait::PATIENCE, || {
        probes += 1;
        let path = format!("/probe{probes}");
        speak(&path)?;
        std::thread::sleep(wait::SETTLE);
        let seen = agent
            .flows()?
            .iter()
            .filter(|flow| flow.text("path") == path)
            .count();
        Ok((seen == 2).then_some(()))
    })?;
    speak("/loud")?;
    for flow in agent.exactly(2, "calls of the port that is left", told("/loud"))? {
        let own = loud.local_addr()?.to_string();
        ensure!(
            flow.text("local") == own || flow.text("remote") == own,
            "{flow:?}"
        );
    }
    ensure!(
        Remains::of(agent.id())?.programs == held.programs,
        "the programs were loaded again"
    );

    // A bad configuration is refused, and the one before stays.
    agent.reload("no_such_key: 1\n")?;
    wait::until("a complaint", wait::PATIENCE, || {
        Ok(agent.log()?.contains("no_such_key").then_some(()))
    })?;
    speak("/refused")?;
    agent.exactly(2, "calls after a bad configuration", told("/refused"))?;

    agent.reload(&settings::ignoring_ports(&[]))?;
    let mut probes = 100;
    wait::until("the first configuration", wait::PATIENCE, || {
        probes += 1;
        let path = format!("/probe{probes}");
        speak(&path)?;
        std::thread::sleep(wait::SETTLE);
        let seen = agent
            .flows()?
            .iter()
            .filter(|flow| flow.text("path") == path)
            .count();
        Ok((seen == 4).then_some(()))
    })?;
    // A connection that was open all the time has missed nothing.
    exchange(&mut kept, "/kept")?;
    agent.exactly(4, "calls of a connection that stayed", told("/kept"))?;
    kept.close_by_client()?;
    agent.stop()
}

//! Each kind of misbehaviour of the double.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    apiserver::{
        Cluster, READER,
        client::{Client, Watch},
        double::Double,
        faults::{Act, Fault},
        objects::Pod,
    },
    wait::PATIENCE,
};

const PODS: &str = "/api/v1/pods";

/// A double with one pod, and a client that is not its administrator.
fn start() -> Result<(Double, Client)> {
    let double = Double::start()?;
    let cluster: &dyn Cluster = &double;
    let token = cluster.account("observer", READER)?;
    cluster.create(&Pod::new("a").build())?;
    let client = cluster.admin().with_token(Some(&token));
    Ok((double, client))
}

fn watch(client: &Client) -> Result<Watch> {
    let mut watch = client.watch(&format!("{PODS}?watch=1&allowWatchBookmarks=true"))?;
    let first = watch.next(PATIENCE)?.context("no event")?;
    ensure!(first["type"] == "ADDED", "{first}");
    Ok(watch)
}

#[test]
fn requests_are_turned_away_as_often_as_told() -> Result<()> {
    let (double, client) = start()?;
    for code in [429, 500, 503] {
        let fault = Fault::new(Act::Busy(code, Some(7)))
            .verb("list")
            .resource("pods")
            .times(2);
        double.misbehave(fault);
        for _ in 0..2 {
            let answer = client.get(PODS)?;
            ensure!(
                answer.code == code && answer.headers["retry-after"] == "7",
                "{answer:?}"
            );
            ensure!(answer.json()?["kind"] == "Status");
            ensure!(client.get("/api/v1/nodes")?.code == 200, "another resource");
        }
        ensure!(client.get(PODS)?.code == 200);
    }
    // The administrator is never turned away.
    double.misbehave(Fault::new(Act::Busy(500, None)));
    ensure!(double.admin().get(PODS)?.code == 200 && client.get("/version")?.code == 500);
    double.behave();
    ensure!(client.get("/version")?.code == 200);
    Ok(())
}

#[test]
fn streaming_lists_are_refused_while_watches_are_not() -> Result<()> {
    let (double, client) = start()?;
    double.misbehave(Fault::new(Act::NoStreamingLists).streaming_lists());
    let path = format!(
        "{PODS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&\
         allowWatchBookmarks=true"
    );
    let refused = client.get(&path)?;
    ensure!(
        refused.code == 422 && refused.json()?["reason"] == "Invalid",
        "{refused:?}"
    );
    watch(&client)?;
    Ok(())
}

#[test]
fn answers_are_slow_cut_or_garbage() -> Result<()> {
    let (double, client) = start()?;
    let whole = client.get(PODS)?.body.len();
    let delay = Duration::from_millis(10);
    double.misbehave(Fault::new(Act::Slow(whole / 20, delay)).times(1));
    let begun = Instant::now();
    ensure!(client.get(PODS)?.body.len() == whole);
    ensure!(begun.elapsed() >= delay * 20, "{:?}", begun.elapsed());
    double.misbehave(Fault::new(Act::Cut(whole / 2)).times(1));
    let cut = client.get(PODS);
    ensure!(cut.is_err(), "{cut:?}");
    double.misbehave(Fault::new(Act::Garbage("<html>".to_owned())).times(1));
    let garbage = client.get(PODS)?;
    ensure!(
        garbage.code == 200 && garbage.body.starts_with(b"<html>{"),
        "{garbage:?}"
    );
    ensure!(client.get(PODS)?.json().is_ok());
    Ok(())
}

#[test]
fn watches_hear_what_the_test_says() -> Result<()> {
    let (double, client) = start()?;
    let mut first = watch(&client)?;
    double.inject("pods", "garbage");
    ensure!(first.line(PATIENCE)?.as_deref() == Some("garbage"));
    double.inject("services", "not for this one");
    double.bookmark("pods");
    let bookmark = first.next(PATIENCE)?.context("no event")?;
    ensure!(bookmark["type"] == "BOOKMARK", "{bookmark}");
    double.cut("pods");
    // What came of the event that was cut is told or not; then there is an error.
    let mut broken = first.line(PATIENCE);
    if broken.is_ok() {
        broken = first.line(PATIENCE);
    }
    ensure!(broken.is_err(), "{broken:?}");
    let mut second = watch(&client)?;
    double.end("pods");
    ensure!(second.next(PATIENCE)?.is_none());
    double.bookmark_every(Duration::from_millis(20));
    let mut third = watch(&client)?;
    for _ in 0..3 {
        let event = third.next(PATIENCE)?.context("no event")?;
        ensure!(event["type"] == "BOOKMARK", "{event}");
    }
    Ok(())
}

#[test]
fn tokens_end_and_certificates_change() -> Result<()> {
    let (double, client) = start()?;
    ensure!(client.get(PODS)?.code == 200);
    let token = (&double as &dyn Cluster).token("observer", &[], None)?;
    double.change_certificate()?;
    ensure!(client.get(PODS)?.code == 200);
    let other = client.with_token(Some(&token));
    double.expire(&token);
    let refused = other.get(PODS)?;
    ensure!(
        refused.code == 401 && refused.json()?["reason"] == "Unauthorized",
        "{refused:?}"
    );
    ensure!(client.get(PODS)?.code == 200, "the other token");
    double.pretend()?;
    let untrusted = client.get(PODS);
    ensure!(untrusted.is_err(), "{untrusted:?}");
    Ok(())
}

#[test]
fn a_silent_server_accepts_and_says_nothing() -> Result<()> {
    let (mut double, client) = start()?;
    let mut watch = watch(&client)?;
    double.fall_silent();
    ensure!(
        !matches!(watch.next(PATIENCE), Ok(Some(_))),
        "the watch goes on"
    );
    let stream = std::net::TcpStream::connect(double.address())?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut byte = [0];
    let error = std::io::Read::read(&mut &stream, &mut byte);
    ensure!(error.is_err(), "{error:?} bytes");
    Cluster::start(&mut double)?;
    ensure!(client.get(PODS)?.code == 200);
    double.misbehave(Fault::new(Act::Silence).verb("list"));
    ensure!(double.admin().get(PODS)?.code == 200);
    Ok(())
}

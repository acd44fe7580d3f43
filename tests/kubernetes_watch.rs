//! What a watch of Kubernetes' API tells, and what it asks for, whatever the server does.

#[path = "kubernetes_watch/watcher.rs"]
mod watcher;

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use observer::cluster::{
    object::Kind,
    status::Reason,
    watch::{Scope, Timing},
};
use observer_tests::{
    apiserver::{
        Cluster, READER,
        double::Double,
        each,
        faults::{Act, Fault},
        objects::{self, Pod},
        real::Real,
    },
    wait::{self, PATIENCE},
};
use serde_json::json;

use watcher::*;

#[test]
fn a_cluster_is_told_whole_and_then_as_it_changes() -> Result<()> {
    each(|cluster| {
        cluster.create(&objects::node(
            "node-0",
            "10.9.0.1",
            &["10.1.0.0/24"],
            "eu-1a",
        ))?;
        let owner = ("argoproj.io/v1alpha1", "Rollout", "shop");
        let set = cluster.create(&objects::replica_set("shop-1", Some(owner)))?;
        let mut shop = Pod::new("shop-1-a")
            .running("node-0", &["10.1.0.5"])
            .build();
        shop["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-1", "controller": true,
            "uid": set["metadata"]["uid"],
        }]);
        let shop = cluster.create(&shop)?;
        cluster.create(&objects::service("web", &[80]))?;
        cluster.create(&objects::slice_of("web", 0, &[&shop]))?;
        let mut watcher = Watcher::start(cluster, Scope::Cluster, READER)?;
        for kind in Kind::ALL {
            watcher.complete(kind, 1)?;
        }
        watcher.knows(Kind::Pod, &["shop-1-a<Rollout/shop"])?;
        watcher.knows(Kind::Node, &["node-0"])?;
        ensure!(watcher.of(Kind::Service).contains(&"web".to_owned()));
        ensure!(watcher.of(Kind::Endpoints).contains(&"web".to_owned()));
        cluster.create(&pod("new"))?;
        watcher.knows(Kind::Pod, &["new", "shop-1-a<Rollout/shop"])?;
        cluster.remove(&shop)?;
        watcher.knows(Kind::Pod, &["new"])?;
        // Each kind was listed once, one way or the other.
        for kind in Kind::ALL {
            ensure!(watcher.completed[&kind] == 1, "{:?}", watcher.completed);
        }
        Ok(())
    })
}

#[test]
fn a_node_sees_its_own_pods_only() -> Result<()> {
    each(|cluster| {
        cluster.create(&pod("here"))?;
        cluster.create(&Pod::new("there").running("node-1", &["10.1.1.4"]).build())?;
        cluster.create(&Pod::new("nowhere").build())?;
        let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
        watcher.knows(Kind::Pod, &["here"])?;
        cluster.create(
            &Pod::new("elsewhere")
                .running("node-1", &["10.1.1.5"])
                .build(),
        )?;
        cluster.create(&pod("too"))?;
        watcher.knows(Kind::Pod, &["here", "too"])?;
        for request in cluster.requests()? {
            ensure!(request.resource == "pods", "{request:?}");
            ensure!(
                request.query["fieldSelector"] == "spec.nodeName=node-0",
                "{request:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn forgotten_history_is_listed_again() -> Result<()> {
    each(|cluster| {
        cluster.create(&pod("first"))?;
        let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
        watcher.knows(Kind::Pod, &["first"])?;
        cluster.stop()?;
        cluster.start()?;
        let old = cluster.read(&pod("first"))?;
        cluster.remove(&old)?;
        cluster.create(&pod("second"))?;
        cluster.forget()?;
        watcher.knows(Kind::Pod, &["second"])
    })
}

#[test]
fn a_connection_that_ends_is_resumed_without_a_list() -> Result<()> {
    let (double, mut watcher) = watched()?;
    let cluster: &dyn Cluster = &double;
    let listed = watcher.completed[&Kind::Pod];
    for (number, end) in [Double::end, Double::cut].iter().enumerate() {
        // What was told by a bookmark need not be told again, even if history is forgotten.
        cluster.create(&Pod::new(&format!("far-{number}")).build())?;
        double.bookmark("pods");
        let watches = cluster.count("watch", "pods")?;
        end(&double, "pods");
        wait::until("another watch", PATIENCE, || {
            Ok((cluster.count("watch", "pods")? > watches).then_some(()))
        })?;
        cluster.create(&pod(&format!("later-{number}")))?;
    }
    watcher.knows(Kind::Pod, &["first", "later-0", "later-1"])?;
    ensure!(
        watcher.completed[&Kind::Pod] == listed,
        "it was listed again"
    );
    Ok(())
}

#[test]
fn a_server_that_is_away_or_out_of_its_mind_is_asked_again_in_peace() -> Result<()> {
    let (mut double, mut watcher) = watched()?;
    (&double as &dyn Cluster).create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])?;
    double.stop()?;
    double.start()?;
    (&double as &dyn Cluster).create(&pod("third"))?;
    watcher.knows(Kind::Pod, &["first", "second", "third"])?;
    for line in [
        "garbage",
        "{\"type\":\"MODIFIED\"}",
        "{\"type\":\"ADDED\",\"object\":{}}",
        "[]",
    ] {
        double.inject("pods", line);
    }
    (&double as &dyn Cluster).create(&pod("zeta"))?;
    watcher.knows(Kind::Pod, &["first", "second", "third", "zeta"])?;
    for act in [
        Act::Busy(503, None),
        Act::Busy(429, Some(1)),
        Act::Garbage("<html>\n".to_owned()),
    ] {
        double.misbehave(Fault::new(act).times(3));
    }
    double.disconnect();
    (&double as &dyn Cluster).remove(&pod("first"))?;
    watcher.knows(Kind::Pod, &["second", "third", "zeta"])?;
    let requests = (&double as &dyn Cluster).requests()?.len();
    ensure!(requests < 60, "{requests} requests");
    Ok(())
}

#[test]
fn a_token_that_ends_is_read_anew() -> Result<()> {
    let (double, mut watcher) = watched()?;
    let cluster: &dyn Cluster = &double;
    // One that can stream asks once.
    cluster.expect_requests(&[("watch", "pods", 1)])?;
    let token = cluster.token("observer", &[], None)?;
    fs::write(watcher.folder.path().join("token"), token)?;
    double.expire(&watcher.token);
    double.disconnect();
    cluster.create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])
}

#[test]
fn a_slow_server_is_waited_for() -> Result<()> {
    let double = Double::start()?;
    let cluster: &dyn Cluster = &double;
    for number in 0..5 {
        cluster.create(&pod(&format!("pod-{number}")))?;
    }
    // Longer in all than any one wait may be.
    double.misbehave(Fault::new(Act::Slow(100, Duration::from_millis(15))).verb("watch"));
    let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
    watcher.complete(Kind::Pod, 1)?;
    watcher.knows(Kind::Pod, &["pod-0", "pod-1", "pod-2", "pod-3", "pod-4"])?;
    cluster.expect_requests(&[("watch", "pods", 1)])
}

#[test]
fn a_server_without_streaming_lists_is_listed() -> Result<()> {
    let double = Double::start()?;
    let cluster: &dyn Cluster = &double;
    double.misbehave(Fault::new(Act::NoStreamingLists).streaming_lists());
    cluster.create(&pod("first"))?;
    let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
    watcher.complete(Kind::Pod, 1)?;
    watcher.knows(Kind::Pod, &["first"])?;
    cluster.create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])?;
    // One watch refused, one list, one watch.
    cluster.expect_requests(&[("watch", "pods", 2), ("list", "pods", 1)])
}

#[test]
fn what_may_not_be_read_does_not_keep_the_rest() -> Result<()> {
    each(|cluster| {
        cluster.create(&pod("first"))?;
        cluster.create(&objects::node("node-0", "10.9.0.1", &[], ""))?;
        let mut watcher = Watcher::start(cluster, Scope::Cluster, &READER[1..])?;
        watcher.complete(Kind::Endpoints, 1)?;
        ensure!(watcher.of(Kind::Node).is_empty() && watcher.of(Kind::Pod).is_empty());
        cluster.allow("observer", READER)?;
        watcher.knows(Kind::Node, &["node-0"])?;
        watcher.knows(Kind::Pod, &["first"])
    })
}

/// Times of which hours pass in seconds.
fn hasty() -> Timing {
    Timing {
        answer: Duration::from_millis(400),
        idle: Duration::from_millis(900),
        first_events: Duration::from_millis(400),
        // Half of it is longer than any test waits for a watch that must not end.
        watch: Duration::from_secs(10),
        first_pause: Duration::from_millis(8),
        longest_pause: Duration::from_millis(600),
        ..Timing::default()
    }
}

/// As [`watched`], with times of which hours pass in seconds.
fn hastily_watched() -> Result<(Double, Watcher)> {
    let double = Double::start()?;
    double.bookmark_every(Duration::from_millis(150));
    let cluster: &dyn Cluster = &double;
    cluster.create(&pod("first"))?;
    let scope = Scope::Node("node-0".to_owned());
    let mut watcher = Watcher::start_with(cluster, scope, READER, hasty())?;
    watcher.complete(Kind::Pod, 1)?;
    watcher.knows(Kind::Pod, &["first"])?;
    Ok((double, watcher))
}

#[test]
fn bookmarks_keep_a_quiet_watch_and_their_lack_ends_it() -> Result<()> {
    let (double, mut watcher) = hastily_watched()?;
    // Three times the silence that ends a watch.
    std::thread::sleep(Duration::from_millis(2700));
    (&double as &dyn Cluster).expect_requests(&[("watch", "pods", 1)])?;
    ensure!(watcher.pods()?.failing.is_none(), "{:?}", watcher.pods()?);
    double.bookmark_every(Duration::from_secs(3600));
    double.end("pods");
    watcher.fails(Reason::Silent)?;
    watcher.knows(Kind::Pod, &["first"])
}

#[test]
fn bookmarks_keep_a_quiet_watch_that_was_resumed() -> Result<()> {
    let (double, watcher) = hastily_watched()?;
    double.end("pods");
    std::thread::sleep(Duration::from_millis(2700));
    (&double as &dyn Cluster).expect_requests(&[("watch", "pods", 2)])?;
    ensure!(watcher.pods()?.failing.is_none(), "{:?}", watcher.pods()?);
    Ok(())
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_left_and_found_again() -> Result<()> {
    let (mut double, mut watcher) = hastily_watched()?;
    double.fall_silent();
    watcher.fails(Reason::Silent)?;
    watcher.knows(Kind::Pod, &["first"])?;
    double.start()?;
    (&double as &dyn Cluster).create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])?;
    ensure!(watcher.pods()?.failing.is_none(), "{:?}", watcher.pods()?);
    // One that reads the request, and does not answer it.
    double.misbehave(Fault::new(Act::Silence));
    double.disconnect();
    watcher.fails(Reason::Silent)?;
    double.behave();
    (&double as &dyn Cluster).create(&pod("third"))?;
    watcher.knows(Kind::Pod, &["first", "second", "third"])
}

#[test]
fn a_certificate_that_nobody_trusts_is_refused_and_a_new_authority_is_read() -> Result<()> {
    let (double, mut watcher) = hastily_watched()?;
    let cluster: &dyn Cluster = &double;
    let distrusts = |watcher: &Watcher| {
        wait::until("an error that says so", 3 * PATIENCE, || {
            let failing = watcher.pods()?.failing;
            let told = failing.is_some_and(|(_, detail)| detail.contains("certificate"));
            Ok(told.then_some(()))
        })
    };
    let stranger = double.pretend()?;
    distrusts(&watcher)?;
    // Put back.
    double.change_certificate()?;
    cluster.create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])?;
    // Another authority, and its certificate in the place of the first one's.
    drop(stranger);
    let stranger = double.pretend()?;
    distrusts(&watcher)?;
    watcher.knows(Kind::Pod, &["first", "second"])?;
    fs::copy(stranger.certificate(), watcher.folder.path().join("ca.crt"))?;
    let waited = wait::until("trust", 3 * PATIENCE, || {
        Ok(watcher.pods()?.failing.is_none().then_some(()))
    });
    waited.with_context(|| format!("{:?}", watcher.pods()))
}

#[test]
fn events_that_come_twice_or_in_another_order_lead_to_the_same() -> Result<()> {
    let (double, mut watcher) = watched()?;
    let cluster: &dyn Cluster = &double;
    let second = cluster.create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])?;
    let line = |kind: &str, object: &serde_json::Value| {
        json!({"type": kind, "object": object}).to_string()
    };
    for _ in 0..3 {
        double.inject("pods", &line("ADDED", &second));
    }
    // Of one that nobody knows, and twice.
    let mut third = second.clone();
    third["metadata"]["uid"] = json!("a-third");
    third["metadata"]["name"] = json!("third");
    double.inject("pods", &line("DELETED", &third));
    double.inject("pods", &line("MODIFIED", &third));
    watcher.knows(Kind::Pod, &["first", "second", "third"])?;
    double.inject("pods", &line("DELETED", &third));
    double.inject("pods", &line("DELETED", &third));
    watcher.knows(Kind::Pod, &["first", "second"])?;
    // An older version of the resource after a newer one.
    let mut older = second.clone();
    older["metadata"]["resourceVersion"] = json!("1");
    double.inject("pods", &line("MODIFIED", &older));
    cluster.create(&pod("zeta"))?;
    watcher.knows(Kind::Pod, &["first", "second", "zeta"])?;
    ensure!(watcher.completed[&Kind::Pod] == 1, "it was listed again");
    Ok(())
}

#[test]
fn a_server_that_is_away_for_long_is_asked_seldom() -> Result<()> {
    let (mut double, mut watcher) = hastily_watched()?;
    double.misbehave(Fault::new(Act::Busy(503, None)));
    double.disconnect();
    watcher.fails(Reason::Server)?;
    // Past the pauses that grow.
    std::thread::sleep(Duration::from_secs(2));
    let errors = |watcher: &Watcher| -> Result<u64> {
        Ok(watcher.pods()?.errors.iter().map(|(_, count)| count).sum())
    };
    let before = (errors(&watcher)?, Instant::now());
    std::thread::sleep(Duration::from_secs(6));
    let tries = errors(&watcher)? - before.0;
    // A try after each 300 to 600 milliseconds: at 100 times the pace, one to two a minute.
    let least = before.1.elapsed().as_millis() / 600;
    let most = before.1.elapsed().as_millis() / 300 + 1;
    ensure!(
        (least / 2..=most).contains(&u128::from(tries)),
        "{tries} tries instead of {least} to {most}"
    );
    // Also one that is not there at all.
    double.behave();
    double.stop()?;
    watcher.fails(Reason::Connection)?;
    std::thread::sleep(Duration::from_secs(2));
    let before = (errors(&watcher)?, Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let tries = errors(&watcher)? - before.0;
    let most = before.1.elapsed().as_millis() / 300 + 1;
    ensure!(u128::from(tries) <= most, "{tries} tries, {most} at most");
    double.start()?;
    (&double as &dyn Cluster).create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])
}

#[test]
fn a_server_that_is_away_at_first_is_not_taken_for_an_old_one() -> Result<()> {
    let mut double = Double::start()?;
    (&double as &dyn Cluster).create(&pod("first"))?;
    let token = (&double as &dyn Cluster).account("observer", READER)?;
    double.stop()?;
    let scope = Scope::Node("node-0".to_owned());
    let mut watcher = Watcher::start_as(&double, scope, token, hasty())?;
    wait::until("some tries", PATIENCE, || {
        // It may not have begun.
        let errors = watcher.pods().map(|row| row.errors).unwrap_or_default();
        Ok((errors.iter().map(|(_, count)| count).sum::<u64>() > 4).then_some(()))
    })?;
    double.start()?;
    watcher.complete(Kind::Pod, 1)?;
    (&double as &dyn Cluster).expect_requests(&[("watch", "pods", 1)])
}

#[test]
fn tokens_that_end_again_and_again_lose_nothing() -> Result<()> {
    let (double, mut watcher) = hastily_watched()?;
    let cluster: &dyn Cluster = &double;
    let mut token = watcher.token.clone();
    let mut names = vec!["first".to_owned()];
    for number in 0..6 {
        let next = cluster.token("observer", &[], None)?;
        fs::write(watcher.folder.path().join("token"), &next)?;
        double.expire(&token);
        token = next;
        double.disconnect();
        let name = format!("pod-{number}");
        cluster.create(&pod(&name))?;
        names.push(name);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        watcher.knows(Kind::Pod, &names)?;
    }
    // One that is not renewed for a while: what was known stays.
    double.expire(&token);
    double.disconnect();
    let detail = watcher.fails(Reason::Unauthorized)?;
    ensure!(!detail.contains(&token), "{detail}");
    std::thread::sleep(Duration::from_secs(1));
    let requests = cluster.count("watch", "pods")?;
    ensure!(requests < 60, "{requests} requests");
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    watcher.knows(Kind::Pod, &known)?;
    let next = cluster.token("observer", &[], None)?;
    fs::write(watcher.folder.path().join("token"), next)?;
    cluster.create(&pod("zeta"))?;
    let known: Vec<&str> = known.into_iter().chain(["zeta"]).collect();
    watcher.knows(Kind::Pod, &known)
}

#[test]
fn the_real_server_that_ends_is_missed_at_once_and_found_again() -> Result<()> {
    let Some(mut real) = Real::start()? else {
        return Ok(());
    };
    let cluster: &mut dyn Cluster = &mut real;
    cluster.create(&pod("first"))?;
    let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
    watcher.knows(Kind::Pod, &["first"])?;
    let began = Instant::now();
    cluster.stop()?;
    watcher.fails(Reason::Connection)?;
    let noticed = began.elapsed();
    println!("noticed {noticed:?} after SIGTERM was sent");
    ensure!(noticed < Duration::from_secs(20), "{noticed:?}");
    watcher.knows(Kind::Pod, &["first"])?;
    cluster.start()?;
    cluster.create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])
}

#[test]
fn the_real_server_without_streaming_lists_is_listed() -> Result<()> {
    let Some(real) = Real::start_with("WatchList=false")? else {
        return Ok(());
    };
    let cluster: &dyn Cluster = &real;
    cluster.create(&pod("first"))?;
    let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
    watcher.complete(Kind::Pod, 1)?;
    watcher.knows(Kind::Pod, &["first"])?;
    cluster.create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])?;
    ensure!(
        cluster.count("list", "pods")? == 1,
        "{:?}",
        cluster.requests()?
    );
    Ok(())
}

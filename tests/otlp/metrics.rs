//! Metrics over OTLP add up to what clients counted, whether they tell all or what was added.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client::Load,
    collector::{Collector, MetricSeen},
    peers::Peer,
    place::Place,
    requirement::{Need, lacking},
    server::Server,
    wait::{self, PATIENCE},
};

use crate::{now, observe};

/// Requests of a round.
const ROUND: u64 = 80;

fn configuration(collector: &Collector, temporality: &str, histograms: &str) -> String {
    format!(
        "otlp:\n  endpoint: {}\n  protocol: grpc\n  traces:\n    enabled: false\n  logs:\n    \
         enabled: false\n  metrics:\n    interval: 1s\n    temporality: {temporality}\n    \
         histograms: {histograms}\n",
        collector.grpc()
    )
}

fn drive(place: &Place<'_>, nginx: &Server) -> Result<()> {
    let load = Load {
        address: nginx.address(),
        targets: &["/hello", "/nothing", "/error", "/empty-of-all"],
        connections: 4,
        rounds: (ROUND / 8) as usize,
        pipelined: 2,
    };
    let counted = load.run(place)?;
    ensure!(
        counted.statuses.values().sum::<u64>() == ROUND,
        "{counted:?}"
    );
    Ok(())
}

/// The points of a metric by series, in the order in which they came.
fn series<'a>(points: &'a [MetricSeen], name: &str) -> BTreeMap<String, Vec<&'a MetricSeen>> {
    let mut series = BTreeMap::<String, Vec<_>>::new();
    for point in points.iter().filter(|point| point.name == name) {
        let key = format!("{:?} {:?}", point.resource, point.attributes);
        series.entry(key).or_default().push(point);
    }
    series
}

/// Values in the histograms of `name` up to now: the last of each series, or all of them.
fn total(points: &[MetricSeen], name: &str, delta: bool) -> u64 {
    let series = series(points, name);
    let of = |points: &Vec<&MetricSeen>| -> u64 {
        match delta {
            true => points.iter().map(|point| point.count).sum(),
            false => points.last().map_or(0, |point| point.count),
        }
    };
    series.values().map(of).sum()
}

/// Drives three rounds and expects their sum at both ends; returns all points.
fn rounds(agent: &Agent, collector: &Collector, delta: bool) -> Result<Vec<MetricSeen>> {
    let mut points = collector.metrics()?;
    for side in ["server", "client"] {
        let name = format!("http.{side}.request.duration");
        let waited = wait::until(&name, PATIENCE, || {
            points = collector.metrics()?;
            Ok((total(&points, &name, delta) >= 3 * ROUND).then_some(()))
        });
        let found = total(&points, &name, delta);
        waited.with_context(|| format!("{found} in {name}"))?;
        ensure!(found == 3 * ROUND, "{name}: {found}");
    }
    agent.expect_metric("http_server_request_duration_seconds_count", &[], 3 * ROUND)?;
    Ok(points)
}

fn check(label: &str, delta: bool, histograms: &str) -> Result<Vec<MetricSeen>> {
    let (cgroup, collector) = (Cgroup::create(label)?, Collector::start()?);
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let temporality = if delta { "delta" } else { "cumulative" };
    let begun = now();
    let agent = observe(&cgroup, &configuration(&collector, temporality, histograms))?;
    for _ in 0..3 {
        drive(&place, &nginx)?;
        // The next round is in another export.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let points = rounds(&agent, &collector, delta)?;
    for (key, points) in series(&points, "http.server.request.duration") {
        let first = points[0];
        ensure!(
            first.unit == "s" && first.resource.text("service.name") == "nginx",
            "{first:?}"
        );
        ensure!(
            first.attributes.text("http.request.method") == "GET",
            "{first:?}"
        );
        ensure!(
            first.attributes.kind("http.response.status_code") == "int",
            "{first:?}"
        );
        ensure!(first.attributes.text("url.scheme") == "http", "{first:?}");
        ensure!(
            first.attributes.get("service.name").is_null(),
            "told twice: {first:?}"
        );
        for point in &points {
            ensure!(point.temporality == temporality.to_uppercase(), "{point:?}");
            ensure!(
                begun <= point.start && point.start < point.time,
                "{point:?}"
            );
            ensure!(point.time <= now(), "{point:?}");
            let inside: u64 = point.counts.iter().sum::<u64>() + point.zero_count;
            ensure!(inside == point.count, "buckets: {point:?}");
            ensure!(
                point.sum.is_some_and(|sum| (0.0..60.0).contains(&sum)),
                "{point:?}"
            );
        }
        for pair in points.windows(2) {
            let [earlier, later] = pair else { continue };
            if delta {
                ensure!(
                    later.start >= earlier.time,
                    "{key}: times overlap: {pair:?}"
                );
            } else {
                ensure!(
                    later.start == earlier.start,
                    "{key}: it started again: {pair:?}"
                );
                ensure!(
                    later.count >= earlier.count && later.time > earlier.time,
                    "{pair:?}"
                );
            }
        }
    }
    agent.expect_no_loss()?;
    agent.stop()?;
    Ok(points)
}

fn cannot_run() -> Result<bool> {
    lacking(&[
        Need::Observer,
        Need::Peer(Peer::Python),
        Need::Tool("nginx"),
    ])
}

#[test]
fn cumulative_metrics_add_up() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let points = check("cumulative", false, "explicit")?;
    let name = "http.server.request.duration";
    for point in points.iter().filter(|point| point.name == name) {
        ensure!(
            point.form == "histogram" && point.bounds.contains(&0.005),
            "{point:?}"
        );
        ensure!(point.counts.len() == point.bounds.len() + 1, "{point:?}");
    }
    Ok(())
}

#[test]
fn deltas_add_up() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let points = check("delta", true, "exponential")?;
    let name = "http.server.request.duration";
    for point in points.iter().filter(|point| point.name == name) {
        ensure!(point.form == "exponential_histogram", "{point:?}");
        ensure!(
            point.scale.is_some_and(|scale| scale >= 2),
            "coarse: {point:?}"
        );
    }
    Ok(())
}

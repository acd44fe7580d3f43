//! Numbers of equal exchanges: what a client counted, against the flows of both ends.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::{
    agent::Agent,
    flow::{BOTH_SIDES, Flow},
    wait::{self, PATIENCE, SETTLE},
};

/// Exchanges by some fields of their flows, each with its number. A record may leave fields out
/// that it cannot know: flows are compared in what a record has.
#[derive(Clone, Default, PartialEq)]
pub struct Tally {
    records: Vec<(Map<String, Value>, u64)>,
}

/// What must be the same at both ends of an exchange.
const COMMON: &[&str] = &[
    "method",
    "path",
    "status",
    "version",
    "stream",
    "request_head_bytes",
    "request_body_bytes",
    "response_head_bytes",
    "response_body_bytes",
];

/// How much longer an exchange may seem to take at its server than at its client.
const SLACK: f64 = 0.05;

// === impl Tally ===

impl Tally {
    /// Reads JSON lines: fields of flows, and their `count`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut tally = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut record: Map<String, Value> =
                serde_json::from_str(line).with_context(|| format!("count {line:?}"))?;
            let count = record.remove("count").and_then(|count| count.as_u64());
            let count = count.with_context(|| format!("no count: {line}"))?;
            tally.records.push((record, count));
        }
        Ok(tally)
    }

    /// Adds `count` exchanges with these fields, which have to be an object.
    pub fn add(&mut self, fields: &Value, count: u64) {
        let record = fields.as_object().cloned().unwrap_or_default();
        self.records.push((record, count));
    }

    /// Gives every record the field `name`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        for (record, _) in &mut self.records {
            record.insert(name.to_owned(), value.clone());
        }
        self
    }

    /// Takes the field `name` from every record.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        for (record, _) in &mut self.records {
            record.remove(name);
        }
        self
    }

    /// Only the records that `wanted` picks.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&Map<String, Value>) -> bool) -> Self {
        self.records.retain(|(record, _)| wanted(record));
        self
    }

    /// Exchanges in all.
    pub fn total(&self) -> u64 {
        self.records.iter().map(|(_, count)| count).sum()
    }

    /// Where `flows` differ from it: one line for each record with another number, and for flows
    /// that no record has.
    fn differences(&self, flows: &[Flow]) -> Vec<String> {
        // Records have few sets of fields, so that a flow is looked up once for each of these.
        let mut shapes: BTreeMap<Vec<&str>, BTreeMap<String, (u64, u64)>> = BTreeMap::new();
        for (record, count) in &self.records {
            let names: Vec<&str> = record.keys().map(String::as_str).collect();
            let values: Vec<&Value> = record.values().collect();
            let known = shapes.entry(names).or_default();
            known.entry(text(&values)).or_default().0 += count;
        }
        let mut strange: BTreeMap<String, (u64, String)> = BTreeMap::new();
        'flows: for flow in flows {
            for (names, known) in &mut shapes {
                let values: Vec<&Value> = names.iter().map(|name| flow.get(name)).collect();
                if let Some((_, found)) = known.get_mut(&text(&values)) {
                    *found += 1;
                    continue 'flows;
                }
            }
            let shape = shapes.keys().next().cloned().unwrap_or_default();
            let values: Vec<&Value> = shape.iter().map(|name| flow.get(name)).collect();
            let entry = strange
                .entry(format!("{shape:?}: {}", text(&values)))
                .or_insert_with(|| (0, format!("{flow:?}")));
            entry.0 += 1;
        }
        let mut differences = Vec::new();
        for (names, known) in shapes {
            for (values, (expected, found)) in known {
                if expected != found {
                    differences.push(format!(
                        "{found} instead of {expected}: {names:?}: {values}"
                    ));
                }
            }
        }
        for (values, (count, example)) in strange {
            differences.push(format!("{count} not expected: {values}, such as {example}"));
        }
        differences
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self
            .records
            .iter()
            .map(|(record, count)| format!("{count} {}", Value::Object(record.clone())));
        formatter.debug_list().entries(lines).finish()
    }
}

/// Fails unless the calls that `wanted` picks are those of `tally`: at each side of `sides`, and
/// none besides.
pub fn expect(
    agent: &Agent,
    what: &str,
    tally: &Tally,
    sides: &[&str],
    wanted: impl Fn(&Flow) -> bool,
) -> Result<Vec<Flow>> {
    let pick = || -> Result<Vec<Flow>> {
        let flows = agent.flows()?;
        Ok(flows
            .into_iter()
            .filter(|flow| flow.is_call() && sides.contains(&flow.text("side")) && wanted(flow))
            .collect())
    };
    let total = tally.total() as usize * sides.len();
    let mut before = usize::MAX;
    let started = std::time::Instant::now();
    loop {
        let found = pick()?.len();
        // Enough, or no more for a while.
        if found >= total || (found == before && started.elapsed() > PATIENCE) {
            break;
        }
        before = found;
        std::thread::sleep(SETTLE / 2);
    }
    std::thread::sleep(SETTLE);
    let found = pick()?;
    let mut problems = Vec::new();
    for side in sides {
        let own: Vec<Flow> = found
            .iter()
            .filter(|flow| flow.text("side") == *side)
            .cloned()
            .collect();
        for difference in tally.differences(&own) {
            problems.push(format!("{side}: {difference}"));
        }
    }
    if !problems.is_empty() {
        let most = problems.len().min(12);
        bail!(
            "{what}: {} of {total}, {} differences\n{}\nlost: {:?}\n{}",
            found.len(),
            problems.len(),
            problems[..most].join("\n"),
            agent.metrics()?.losses(),
            agent.log()?
        );
    }
    Ok(found)
}

/// Fails unless each of `calls` has one at the other end that tells the same, and durations fit
/// together and into `within`.
pub fn expect_agreement(calls: &[Flow], within: Duration) -> Result<()> {
    let mut ends: BTreeMap<String, BTreeMap<&str, &Flow>> = BTreeMap::new();
    for call in calls {
        let (near, far) = match call.text("side") {
            "client" => (call.text("local"), call.text("remote")),
            _ => (call.text("remote"), call.text("local")),
        };
        // Without streams the order is the same at both ends.
        let number = match call.get("stream") {
            Value::Null => call.get("ordinal"),
            stream => stream,
        };
        let key = format!("{near} {far} {number} {}", call.text("version"));
        let earlier = ends.entry(key).or_default().insert(call.text("side"), call);
        ensure!(
            earlier.is_none(),
            "a stream is told twice: {call:?} and {earlier:?}"
        );
    }
    for (key, pair) in ends {
        let [Some(client), Some(server)] = BOTH_SIDES.map(|side| pair.get(side)) else {
            bail!("{key} is told at one end only: {pair:?}");
        };
        for name in COMMON {
            ensure!(
                client.get(name) == server.get(name),
                "{name} differs: {client:?} and {server:?}"
            );
        }
        let (long, short) = (
            client.number("duration_seconds")?,
            server.number("duration_seconds")?,
        );
        ensure!(
            short >= 0.0 && short <= long + SLACK && long <= within.as_secs_f64(),
            "durations: {client:?} and {server:?}, all within {within:?}"
        );
    }
    Ok(())
}

fn text(values: &[&Value]) -> String {
    let words: Vec<String> = values.iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// Waits until the observer has `count` calls that `wanted` picks, or no more come.
pub fn settle(agent: &Agent, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>> {
    let mut before = usize::MAX;
    wait::until("the observer to catch up", 3 * PATIENCE, || {
        std::thread::sleep(SETTLE);
        let found: Vec<Flow> = agent.flows()?.into_iter().filter(&wanted).collect();
        let still = found.len() == before;
        before = found.len();
        Ok(still.then_some(found))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_numbers_and_other_flows_are_differences() {
        let mut tally = Tally::parse(r#"{"path":"/a","status":200,"count":2}"#).unwrap();
        tally.add(&serde_json::json!({"path": "/b"}), 1);
        assert_eq!(tally.total(), 3);
        let flow = |text| Flow::parse(text).unwrap();
        let (a, b) = (
            flow(r#"{"path":"/a","status":200,"size":1}"#),
            flow(r#"{"path":"/b","status":500}"#),
        );
        assert!(
            tally
                .differences(&[a.clone(), a.clone(), b.clone()])
                .is_empty()
        );
        assert_eq!(tally.differences(&[a.clone(), b.clone()]).len(), 1);
        assert_eq!(
            tally
                .differences(&[a.clone(), a.clone(), a.clone(), b.clone()])
                .len(),
            1
        );
        let other = flow(r#"{"path":"/a","status":404}"#);
        assert_eq!(tally.differences(&[a.clone(), a, b, other]).len(), 1);
        let named = tally
            .with("side", "client")
            .only(|record| record["path"] == "/b");
        assert_eq!(named.total(), 1);
        assert_eq!(named.without("side").records[0].0.len(), 1);
    }
}

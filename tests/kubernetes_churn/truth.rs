//! What the pods noted of themselves, and how what agents tell compares with it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use observer_tests::flow::Flow;

use super::world::Life;

/// What is true of all calls.
pub(crate) struct Truth {
    calls: HashMap<String, Call>,
    lives: Vec<Life>,
}

/// A call, as both of its ends noted it.
#[derive(Clone, Debug, Default)]
struct Call {
    client: String,
    local: String,
    remote: String,
    /// Who says that it answered.
    served: Option<String>,
    /// Who answered, by the answer.
    answered: Option<String>,
}

/// How names compare with the truth, at one end of what is told.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The true pod.
    pub(crate) right: usize,
    /// None, though there is one.
    pub(crate) unknown: usize,
    /// Another pod.
    pub(crate) wrong: usize,
    /// Nobody knows which is the true one.
    pub(crate) open: usize,
}

/// How all that was told compares with the truth.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// By what is told, and of which end.
    pub(crate) names: BTreeMap<(&'static str, &'static str), Names>,
    /// What was told of calls that nobody noted, of the wrong connection, too often or not at all.
    pub(crate) faults: Vec<String>,
    /// Names that are unknown, by the age of the pod.
    pub(crate) unknown: BTreeMap<(&'static str, &'static str, &'static str), usize>,
    /// Some that are wrong or unknown, to be looked at.
    pub(crate) samples: Vec<String>,
    /// What they are like: one is enough of each.
    shown: BTreeSet<(&'static str, &'static str, String, Option<String>)>,
    /// Calls that were answered.
    pub(crate) answered: usize,
}

const MOST_SAMPLES: usize = 40;

/// Nanoseconds since the Unix epoch of an RFC 3339 time in UTC.
fn nanoseconds(text: &str) -> Option<u64> {
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    // Days of the civil calendar, of years that begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days - 719_468;
    let seconds = days * 86_400 + field(11, 13)? * 3600 + field(14, 16)? * 60 + field(17, 19)?;
    let fraction = text.get(20..)?.trim_end_matches('Z');
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    Some(seconds * 1_000_000_000 + fraction)
}

fn address(flow: &Flow, field: &str) -> Option<SocketAddr> {
    flow.text(field).parse().ok()
}

// === impl Truth ===

impl Truth {
    /// Reads what all pods noted.
    pub(crate) fn read(folder: &Path, lives: Vec<Life>) -> Result<Self> {
        let mut calls: HashMap<String, Call> = HashMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            for line in fs::read_to_string(&path)?.lines() {
                let words: Vec<&str> = line.split(' ').collect();
                match *words {
                    ["listening", _] => {}
                    ["served", path, uid] => {
                        let served = &mut calls.entry(path.to_owned()).or_default().served;
                        ensure!(
                            served.replace(uid.to_owned()).is_none(),
                            "served twice: {path}"
                        );
                    }
                    ["asked", path, uid, local, remote] => {
                        let call = calls.entry(path.to_owned()).or_default();
                        uid.clone_into(&mut call.client);
                        local.clone_into(&mut call.local);
                        remote.clone_into(&mut call.remote);
                    }
                    ["answered", path, uid] => {
                        calls.entry(path.to_owned()).or_default().answered = Some(uid.to_owned());
                    }
                    _ => anyhow::bail!("{}: {line:?}", path.display()),
                }
            }
        }
        for (path, call) in &calls {
            ensure!(
                !call.client.is_empty(),
                "{path} was served, and nobody asked"
            );
            let lied = call.answered.is_some() && call.answered != call.served;
            ensure!(!lied, "{path}: {call:?}");
        }
        Ok(Self { calls, lives })
    }

    /// Compares what the agents tell, of node 1 and of node 2.
    pub(crate) fn judge(&self, told: &[Vec<Flow>; 2]) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
        for (number, flows) in (1..).zip(told) {
            // Who is at the ends of a connection, by calls over it.
            let mut ends: HashMap<&str, (Option<&str>, Option<&str>)> = HashMap::new();
            for flow in flows.iter().filter(|flow| flow.is_call()) {
                let Some(call) = self.calls.get(flow.text("path")) else {
                    verdict.faults.push(format!("nobody called: {flow:?}"));
                    continue;
                };
                let (own, far) = call.ends(flow);
                let known = ends.entry(flow.text("connection")).or_default();
                *known = (known.0.or(own), known.1.or(far));
            }
            for flow in flows {
                if let Some(call) = self.calls.get(flow.text("path")) {
                    let side = flow.get("side").as_str().unwrap_or_default();
                    if flow.text("outcome") == "complete" && flow.get("status") == 200 {
                        *seen.entry((flow.text("path"), side)).or_default() += 1;
                    }
                    if side == "client" && flow.text("local") != call.local {
                        verdict.faults.push(format!("{call:?} is told as {flow:?}"));
                    }
                }
                self.compare(&mut verdict, number, flow, &ends)?;
            }
        }
        for (path, call) in &self.calls {
            verdict.answered += usize::from(call.answered.is_some());
            for side in ["client", "server"] {
                let count = seen.get(&(&**path, side)).copied().unwrap_or_default();
                let expected = usize::from(call.answered.is_some());
                if count < expected || count > 1 {
                    let fault = format!("{path} is told {count} times, {side} side: {call:?}");
                    verdict.faults.push(fault);
                }
            }
        }
        Ok(verdict)
    }

    fn compare(
        &self,
        verdict: &mut Verdict,
        number: usize,
        flow: &Flow,
        ends: &HashMap<&str, (Option<&str>, Option<&str>)>,
    ) -> Result<()> {
        let time = nanoseconds(flow.text("time")).with_context(|| format!("no time: {flow:?}"))?;
        let began = match (flow.text("event"), flow.number("duration_seconds")) {
            ("closed" | "failed", Ok(seconds)) => time - (seconds * 1e9) as u64,
            _ => time,
        };
        let what = match (flow.text("kind"), flow.text("event")) {
            ("call", _) => "call",
            (_, "opened") => "opened",
            (_, "closed") => "closed",
            (_, "failed") => "failed",
            _ => return Ok(()),
        };
        let (own, far) = ends
            .get(flow.text("connection"))
            .copied()
            .unwrap_or_default();
        let local = address(flow, "local").map(|local| local.ip());
        let own = own.or_else(|| self.holder(local?, began));
        let remote = address(flow, "remote").map(|remote| remote.ip());
        let far = far.or_else(|| self.holder(remote?, began));
        for (end, field, truth, ip) in [
            ("own", "k8s_pod_uid", own, local),
            ("peer", "peer_k8s_pod_uid", far, remote),
        ] {
            let names = verdict.names.entry((what, end)).or_default();
            let told = flow.get(field).as_str();
            let judged = match (told, truth) {
                (Some(told), Some(truth)) if told == truth => {
                    names.right += 1;
                    continue;
                }
                // To what nobody has, or to a virtual address that nobody answers at.
                (None, None) => {
                    names.open += 1;
                    continue;
                }
                (Some(told), None) if self.is_next_to(told, ip, began) => {
                    names.open += 1;
                    continue;
                }
                (Some(_), _) => {
                    names.wrong += 1;
                    "wrong"
                }
                (None, Some(uid)) => {
                    names.unknown += 1;
                    let age = self.age(uid, began);
                    *verdict.unknown.entry((what, end, age)).or_default() += 1;
                    age
                }
            };
            let alike = (
                judged,
                what,
                flow.text("side").to_owned(),
                told.or(truth).map(str::to_owned),
            );
            let first = verdict.shown.insert(alike);
            if judged == "wrong" || first && verdict.samples.len() < MOST_SAMPLES {
                let mut text = format!(
                    "{judged} {end} of {what}, node {number}, {} {} -> {} ({}), at {}: told {told:?}, true {truth:?};",
                    flow.text("side"),
                    flow.text("local"),
                    flow.text("remote"),
                    flow.text("peer_kind"),
                    time / 1_000_000,
                );
                let seconds = |at: u64| (at as f64 - began as f64) / 1e9;
                let involved = |life: &&Life| {
                    Some(&*life.uid) == told
                        || Some(&*life.uid) == truth
                        || Some(life.address) == ip
                };
                for life in self.lives.iter().filter(involved) {
                    let near = [life.up, life.down]
                        .iter()
                        .any(|at| seconds(*at).abs() < 20.0);
                    if near || Some(&*life.uid) == told || Some(&*life.uid) == truth {
                        write!(
                            text,
                            " [{} node {} up {:.2} told {:.2} ending {:.2} down {:.2}]",
                            life.uid.rsplit('-').next().unwrap_or_default(),
                            life.node,
                            seconds(life.up),
                            seconds(life.told),
                            seconds(life.ending),
                            seconds(life.down),
                        )?;
                    }
                }
                verdict.samples.push(text);
            }
        }
        Ok(())
    }

    /// Who has an address.
    fn holder(&self, address: IpAddr, at: u64) -> Option<&str> {
        let has = |life: &&Life| life.address == address && life.up <= at && at < life.down;
        self.lives.iter().find(has).map(|life| &*life.uid)
    }

    /// How old a pod was, as far as the API told of it by then.
    fn age(&self, uid: &str, at: u64) -> &'static str {
        match self.lives.iter().find(|life| life.uid == uid) {
            Some(life) if at < life.told => "not yet told",
            Some(life) if at >= life.ending => "ending",
            Some(life) if at < life.told + 3_000_000_000 => "told just then",
            _ => "known",
        }
    }

    /// Whether a pod is the last that had an address that nobody has, or the next.
    fn is_next_to(&self, uid: &str, address: Option<IpAddr>, at: u64) -> bool {
        let at_address = || {
            self.lives
                .iter()
                .filter(|life| Some(life.address) == address)
        };
        let last = at_address()
            .filter(|life| life.down <= at)
            .max_by_key(|life| life.down);
        let next = at_address()
            .filter(|life| life.up > at)
            .min_by_key(|life| life.up);
        [last, next]
            .into_iter()
            .flatten()
            .any(|life| life.uid == uid)
    }
}

// === impl Call ===

impl Call {
    /// The uids of the pods at the side that a flow is told of, and at the other.
    fn ends(&self, flow: &Flow) -> (Option<&str>, Option<&str>) {
        let server = self.served.as_deref();
        match flow.text("side") {
            "client" => (Some(&self.client), server),
            _ => (server, Some(&self.client)),
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Part of the names that are unknown, of all that have one.
    pub(crate) fn part_unknown(&self, wanted: impl Fn(&str, &str) -> bool) -> f64 {
        let (mut unknown, mut all) = (0, 0);
        for ((what, end), names) in &self.names {
            if wanted(what, end) {
                unknown += names.unknown;
                all += names.unknown + names.right + names.wrong;
            }
        }
        unknown as f64 / (all as f64).max(1.0)
    }

    /// All of it, for people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} calls were answered\n", self.answered);
        for ((what, end), names) in &self.names {
            let Names {
                right,
                unknown,
                wrong,
                open,
            } = names;
            text += &format!(
                "{what} {end}: {right} right, {unknown} unknown, {wrong} wrong, {open} open\n"
            );
        }
        for ((what, end, age), count) in &self.unknown {
            text += &format!("{count} unknown, {what} {end}: {age}\n");
        }
        let shown = self.faults.iter().take(10).chain(&self.samples);
        shown.fold(text, |text, line| text + line + "\n")
    }
}

#[test]
fn times_are_read() {
    assert_eq!(nanoseconds("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(nanoseconds("1970-01-01"), None);
    assert_eq!(
        nanoseconds("1970-01-02T00:00:01.5Z"),
        Some(86_401_500_000_000)
    );
    assert_eq!(
        nanoseconds("2026-11-22T23:40:06.000000001Z"),
        Some(1_795_390_806_000_000_001)
    );
}

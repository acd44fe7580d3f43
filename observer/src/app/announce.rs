//! Findings as Events of the cluster: those that are bad, once when they open.

use std::time::Duration;

use hashbrown::HashMap;

use crate::{
    cluster::events::{Happening, Sender},
    mesh::report::{Finding, Party, Report},
    model::time::Monotonic,
};

/// What was told, and where to tell.
pub(super) struct Announcer {
    sender: Sender,
    /// What was told, and when it was last so.
    told: HashMap<String, Monotonic>,
    looked: Option<Monotonic>,
}

/// Between two looks at what was found.
const LOOK: Duration = Duration::from_secs(10);

/// What was not so for this long is told again when it is: as long as the API server keeps Events.
const FORGET: Duration = Duration::from_secs(3_600);

/// Most that is remembered as told.
const MOST: usize = 4_096;

// === impl Announcer ===

impl Announcer {
    pub(super) fn new(sender: Sender) -> Self {
        Self {
            sender,
            told: HashMap::new(),
            looked: None,
        }
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&mut self, now: Monotonic) -> bool {
        let due = self.looked.is_none_or(|looked| now.since(looked) >= LOOK);
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// Tells what is bad and was not told.
    pub(super) fn look(&mut self, report: &Report, now: Monotonic) {
        self.told.retain(|_, last| now.since(*last) < FORGET);
        for finding in &report.findings {
            let Some(happening) = happening(finding) else {
                continue;
            };
            let Happening {
                namespace,
                kind,
                name,
                subject,
                ..
            } = &happening;
            let key = format!("{namespace}/{kind}/{name} {subject}");
            if let Some(last) = self.told.get_mut(&key) {
                *last = now;
                continue;
            }
            // What finds no room is told at the next look.
            if self.told.len() < MOST && self.sender.send(happening) {
                self.told.insert(key, now);
            }
        }
    }

    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }
}

/// What to tell of a finding, if it is bad and about an object.
fn happening(finding: &Finding) -> Option<Happening> {
    let object = &finding.workload;
    let bad = matches!(finding.severity, "critical" | "high");
    let known = object.kind == "workload" && !object.namespace.is_empty();
    if !bad || !known {
        return None;
    }
    let peer = finding.peer.as_ref().map(called).unwrap_or_default();
    let port = match finding.port {
        0 => String::new(),
        port => format!(" port {port}"),
    };
    let whom = match peer.as_str() {
        "" => String::new(),
        peer => format!(" (with {peer}{port})"),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds since 1970"
    )]
    let at = finding.first_seen.max(0.0) as u64;
    Some(Happening {
        namespace: object.namespace.clone(),
        kind: object.workload_kind.clone(),
        name: object.name.clone(),
        subject: format!("{} {peer}{port}", finding.id),
        reason: reason(finding.name),
        note: format!(
            "{}: {}{whom}. {}",
            finding.id, finding.summary, finding.advice
        ),
        at,
    })
}

fn called(party: &Party) -> String {
    match (party.namespace.as_str(), party.name.as_str()) {
        (_, "") => party.kind.to_owned(),
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

/// `PlaintextAcceptedUnderStrict` for `plaintext_accepted_under_strict`, as reasons are written.
fn reason(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for word in name.split('_') {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        cluster::{client::Client, events},
        mesh::report::fixture,
    };

    const NOW: Monotonic = Monotonic(1_000_000_000);

    fn announcer() -> Announcer {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Arc::new(Client::with_config(config).unwrap());
        let (sender, task) = events::start(client, "n".to_owned());
        // Nobody takes what waits.
        std::mem::forget(task);
        Announcer::new(sender)
    }

    #[test]
    fn what_is_bad_is_told() {
        let report = fixture::report();
        let told: Vec<Option<Happening>> = report.findings.iter().map(happening).collect();
        let expected = Happening {
            namespace: "shop".to_owned(),
            kind: "Deployment".to_owned(),
            name: "cart".to_owned(),
            subject: "M01 old/batch port 8080".to_owned(),
            reason: "PlaintextAcceptedUnderStrict".to_owned(),
            note:
                "M01: plaintext is accepted although only mutual TLS is declared (with old/batch \
                   port 8080). Look for ports that are left out of the mesh."
                    .to_owned(),
            at: 1_500,
        };
        assert_eq!(told, [Some(expected), None], "a low one is not told");
        let mut outside = report.findings[0].clone();
        outside.workload = fixture::outside();
        assert_eq!(happening(&outside), None);
    }

    #[tokio::test]
    async fn it_is_told_once_while_it_is_so() {
        let mut announcer = announcer();
        let report = fixture::report();
        assert!(announcer.is_due(NOW));
        assert!(!announcer.is_due(NOW.plus(Duration::from_secs(9))));
        for seconds in [0, 10, 3_000, 6_000] {
            announcer.look(&report, NOW.plus(Duration::from_secs(seconds)));
            assert_eq!(announcer.told.len(), 1);
        }
        // It ended, for long.
        let later = NOW.plus(Duration::from_secs(10_000));
        announcer.look(&Report::default(), later);
        assert!(announcer.told.is_empty());
        announcer.look(&report, later);
        assert_eq!(announcer.told.len(), 1);
        let dropped = announcer.sender().losses()[1].count;
        assert_eq!(dropped, 0);
    }

    #[tokio::test]
    async fn what_finds_no_room_waits_for_the_next_look() {
        let mut announcer = announcer();
        let mut report = Report::default();
        for port in 1..=100 {
            let mut finding = fixture::report().findings[0].clone();
            finding.port = port;
            report.findings.push(finding);
        }
        announcer.look(&report, NOW);
        assert_eq!(announcer.told.len(), 64);
        assert_eq!(announcer.sender().losses()[1].count, 36);
    }
}

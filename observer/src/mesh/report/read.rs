//! Reads reports of other agents: words become those that are known, and findings those of the
//! catalogue.

use serde::{Deserialize, Deserializer, de::Error};

use super::{Party, Reason, Sample, Word};
use crate::mesh::findings::{Id, Severity};

/// All words of reports but ids, names and severities of findings.
const WORDS: [&str; 40] = [
    // How something was secured.
    "plaintext",
    "tls",
    "istio_mtls",
    "hbone",
    "linkerd_mtls",
    "unknown",
    // Who carries traffic.
    "none",
    "istio_sidecar",
    "istio_ambient",
    "linkerd",
    // What is declared.
    "strict",
    "permissive",
    "disabled",
    "no_mesh",
    // Verdicts.
    "satisfied",
    "violated",
    // Kinds of parties.
    "workload",
    "kubernetes_service",
    "identity",
    "node",
    "network",
    "name",
    "outside",
    "service",
    // Readiness.
    "READY",
    "NOT READY",
    "INSUFFICIENT",
    // Rules of routes.
    "used",
    "unused",
    "shadowed",
    // Where times are taken.
    "client",
    "server",
    "wire_client",
    "wire_server",
    "upstream",
    // Severities.
    "critical",
    "high",
    "medium",
    "low",
    "info",
];

/// [`super::Finding`] as it is written. What the catalogue has is taken from there.
#[derive(Deserialize)]
pub(super) struct Finding {
    id: String,
    severity: String,
    workload: Party,
    peer: Option<Party>,
    port: u16,
    about: String,
    summary: String,
    because: Vec<Reason>,
    count: u64,
    first_seen: f64,
    last_seen: f64,
    samples: Vec<Sample>,
}

/// A word that is known. An agent that says another one has another version, and may mean anything.
pub(super) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = WORDS.into_iter().find(|word| *word == text);
    known.ok_or_else(|| D::Error::custom(format!("{text:?} is no word that is known")))
}

impl TryFrom<Finding> for super::Finding {
    type Error = String;

    fn try_from(read: Finding) -> Result<Self, String> {
        let id =
            Id::of(&read.id).ok_or_else(|| format!("{} is no finding that is known", read.id))?;
        let entry = id.entry();
        let severity = Severity::of(&read.severity)
            .ok_or_else(|| format!("{:?} is no severity", read.severity))?;
        Ok(Self {
            id: entry.code,
            name: entry.name,
            severity: severity.as_str(),
            workload: read.workload,
            peer: read.peer,
            port: read.port,
            about: read.about,
            summary: read.summary,
            advice: entry.advice,
            because: read.because,
            count: read.count,
            first_seen: read.first_seen,
            last_seen: read.last_seen,
            samples: read.samples,
            see: entry.see,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mesh::report::{Report, fixture},
        model::{
            mesh::{DeclaredMtls, Plane, Verdict},
            security::Security,
        },
    };

    #[test]
    fn what_is_written_is_read() {
        let mut report = fixture::report();
        for finding in &mut report.findings {
            let entry = Id::of(finding.id).unwrap().entry();
            (finding.name, finding.advice, finding.see) = (entry.name, entry.advice, entry.see);
        }
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn every_word_that_is_written_is_known() {
        let mut words: Vec<&str> = Security::ALL.iter().map(|it| it.as_str()).collect();
        words.extend(
            [
                Plane::None,
                Plane::IstioSidecar,
                Plane::IstioAmbient,
                Plane::Linkerd,
            ]
            .map(Plane::as_str),
        );
        words.extend(
            [
                DeclaredMtls::Strict,
                DeclaredMtls::Permissive,
                DeclaredMtls::Disabled,
                DeclaredMtls::NoMesh,
                DeclaredMtls::Unknown,
            ]
            .map(DeclaredMtls::as_str),
        );
        words
            .extend([Verdict::Satisfied, Verdict::Violated, Verdict::Unknown].map(Verdict::as_str));
        words.extend(Severity::ALL.map(Severity::as_str));
        for word in words {
            assert!(WORDS.contains(&word), "{word}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (key, value) in [("id", "M99"), ("severity", "awful")] {
            let mut text = serde_json::to_value(fixture::report()).unwrap();
            text["findings"][0][key] = value.into();
            assert!(serde_json::from_value::<Report>(text).is_err(), "{value}");
        }
        let mut text = serde_json::to_value(fixture::report()).unwrap();
        text["edges"][0]["verdict"] = "perhaps".into();
        let error = serde_json::from_value::<Report>(text).unwrap_err();
        assert!(error.to_string().contains("perhaps"), "{error}");
    }
}

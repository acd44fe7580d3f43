//! Findings open, add up, close and do not grow beyond their limit.

use super::*;

fn party(name: &str) -> Arc<Party> {
    Arc::new(Party {
        kind: "workload",
        namespace: "shop".to_owned(),
        workload_kind: "Deployment".to_owned(),
        name: name.to_owned(),
    })
}

fn key(id: Id, workload: &str, peer: Option<&str>) -> Key {
    Key {
        id,
        workload: party(workload),
        peer: peer.map(party),
        port: 8080,
        about: "".into(),
    }
}

fn saying(summary: &str) -> Saying {
    Saying {
        summary: summary.to_owned(),
        ..Saying::default()
    }
}

fn sample(at: u64) -> Sample {
    Sample {
        at: Monotonic(at),
        client: "10.0.0.1:4000".parse().expect("an address"),
        server: "10.0.0.2:8080".parse().expect("an address"),
        security: Security::Plaintext,
        request: None,
        status: None,
    }
}

fn samples(at: &[u64]) -> Samples {
    let mut samples = Samples::default();
    for at in at {
        samples.push(sample(*at));
    }
    samples
}

#[test]
fn a_finding_adds_up_and_keeps_the_newest_samples() {
    let mut findings = Findings::new(10);
    let one = key(Id::M01, "cart", Some("web"));
    findings.raise(
        one.clone(),
        Monotonic(10),
        2,
        &samples(&[8, 10]),
        saying("a"),
    );
    findings.raise(
        one.clone(),
        Monotonic(20),
        4,
        &samples(&[17, 18, 19, 20]),
        saying("b"),
    );
    let mut report = Vec::new();
    findings.report(&mut report, WallOffset { nanoseconds: 0 });
    let [found] = report.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!((found.id, found.count, &*found.summary), ("M01", 6, "b"));
    assert_eq!((found.first_seen, found.last_seen), (1e-8, 2e-8));
    assert_eq!(found.severity, "critical");
    let kept: Vec<f64> = found.samples.iter().map(|sample| sample.at).collect();
    assert_eq!(kept, [1e-8, 1.7e-8, 1.8e-8, 1.9e-8, 2e-8]);
    assert!(findings.close(&one.borrowed()));
    assert!(!findings.close(&one.borrowed()));
    assert!(findings.is_empty());
}

#[test]
fn a_state_counts_once() {
    let mut findings = Findings::new(10);
    let none = Samples::default();
    for at in 1..5 {
        findings.assert(
            key(Id::M34, "cart", None),
            Monotonic(at),
            &none,
            saying("a"),
        );
    }
    let key = key(Id::M34, "cart", None);
    let open = findings.get(&key.borrowed()).expect("it is open");
    assert_eq!(
        (open.count, open.first, open.last),
        (1, Monotonic(1), Monotonic(4))
    );
    findings.expire(Monotonic(4));
    assert_eq!(findings.len(), 1);
    findings.expire(Monotonic(5));
    assert!(findings.is_empty());
}

#[test]
fn what_does_not_fit_is_counted() {
    let mut findings = Findings::new(2);
    for name in ["a", "b", "c", "a", "d"] {
        findings.raise(
            key(Id::M07, name, None),
            Monotonic(1),
            1,
            &Samples::default(),
            saying(name),
        );
    }
    assert_eq!((findings.len(), findings.dropped()), (2, 2));
}

#[test]
fn the_worst_come_first() {
    let mut findings = Findings::new(10);
    for (id, severity) in [
        (Id::M03, None),
        (Id::M06, None),
        (Id::M01, None),
        (Id::M11, Some(Severity::Critical)),
        (Id::M04, None),
    ] {
        let saying = Saying {
            severity,
            ..saying("a")
        };
        findings.raise(
            key(id, "a", None),
            Monotonic(1),
            1,
            &Samples::default(),
            saying,
        );
    }
    let mut report = Vec::new();
    findings.report(&mut report, WallOffset::default());
    worst_first(&mut report);
    let ids: Vec<&str> = report.iter().map(|finding| finding.id).collect();
    assert_eq!(ids, ["M01", "M11", "M06", "M04", "M03"]);
}

#[test]
fn the_catalogue_is_whole() {
    let mut names = hashbrown::HashSet::new();
    for (index, id) in Id::ALL.into_iter().enumerate() {
        let entry = id.entry();
        assert_eq!(entry.id, id);
        assert_eq!(id as usize, index);
        assert_eq!(entry.code, format!("M{:02}", index + 1));
        assert_eq!(Id::of(entry.code), Some(id));
        assert!(names.insert(entry.name), "{}", entry.name);
        assert!(
            entry
                .name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{}",
            entry.name
        );
        for text in [entry.title, entry.advice] {
            assert!(text.ends_with('.') && text.len() < 240, "{text}");
        }
        for code in entry.see {
            assert!(code.starts_with("KIA") || code.starts_with("IST"), "{code}");
        }
    }
    assert_eq!(Id::of("M37"), None);
}

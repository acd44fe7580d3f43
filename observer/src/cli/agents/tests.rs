//! Several agents, some of which do not answer, or answer something else.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use super::*;
use crate::mesh::report::{answer::Answer, fixture};

const VIEWS: [View; 7] = [
    View::Mtls,
    View::Readiness,
    View::Split,
    View::Routes,
    View::Authz,
    View::Findings,
    View::Edges,
];

/// An agent that has this report; its URL.
fn agent(report: Report) -> String {
    serve(move |path| {
        let mut views = VIEWS.into_iter();
        let view = views.find(|view| view.path() == path).unwrap();
        serde_json::to_string(&Answer::new(view, report.clone())).unwrap()
    })
}

/// Answers requests for as long as the test runs.
fn serve(body: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            let line = head.next().unwrap().unwrap();
            let target = line.split(' ').nth(1).unwrap();
            let body = body(target.split('?').next().unwrap());
            while !head.next().unwrap().unwrap().is_empty() {}
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    url
}

fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn of(servers: &[String]) -> Agents {
    Agents {
        servers: servers.to_vec(),
        all: false,
    }
}

fn questions(view: View) -> Vec<(View, Filters)> {
    vec![(view, vec![("namespace", None)])]
}

#[test]
fn all_become_one() {
    let both = [agent(fixture::report()), agent(fixture::report())];
    for (view, count) in [
        (View::Findings, 2),
        (View::Edges, 2),
        (View::Mtls, 2),
        (View::Readiness, 1),
        (View::Split, 1),
        (View::Routes, 1),
        (View::Authz, 1),
    ] {
        let Cluster { report, asked } = of(&both).ask(&questions(view)).unwrap();
        assert_eq!(asked.line(), "asked 2 of 2 agents");
        assert_eq!(asked.missing(), 0);
        let Report {
            edges,
            findings,
            readiness,
            splits,
            routes,
            authorizations,
            ..
        } = report;
        let found = edges.len()
            + findings.len()
            + readiness.len()
            + splits.len()
            + routes.len()
            + authorizations.len();
        assert_eq!(found, count, "{view:?}");
    }
}

#[test]
fn who_does_not_answer_is_told() {
    let odd = serve(|_| "{\"edges\": [{\"client\": 1}]}".to_owned());
    let all = [agent(fixture::report()), nobody(), odd];
    let cluster = of(&all).ask(&questions(View::Edges)).unwrap();
    assert_eq!(cluster.report.edges.len(), 2);
    assert_eq!(cluster.asked.line(), "asked 1 of 3 agents");
    assert_eq!(cluster.asked.missing(), 2);
    let told = serde_json::to_value(&cluster.asked).unwrap();
    assert_eq!((&told["agents"], &told["answered"]), (&3.into(), &1.into()));
    let errors: Vec<&str> = told["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|server| server["error"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(errors[0], "none");
    assert!(errors[1].contains("is its agent running"), "{errors:?}");
    assert!(errors[2].contains("no agent of this version"), "{errors:?}");
}

#[test]
fn without_any_answer_there_is_none() {
    let error = of(&[nobody(), nobody()])
        .ask(&questions(View::Edges))
        .unwrap_err();
    assert_eq!(error.to_string(), "none of 2 agents answered");
}

#[test]
fn the_same_agent_is_asked_once() {
    let url = agent(fixture::report());
    let twice = of(&[url.clone(), url.clone()]);
    let cluster = twice.ask(&questions(View::Findings)).unwrap();
    assert_eq!(cluster.asked.line(), "asked 1 of 1 agents");
    // All of a name, which here is one.
    let all = Agents {
        servers: vec![url],
        all: true,
    };
    assert_eq!(all.only(), None);
    let cluster = all.ask(&questions(View::Findings)).unwrap();
    assert_eq!(cluster.report.findings.first().unwrap().count, 150);
    let nowhere = Agents {
        servers: vec!["http://nobody.invalid:1".to_owned()],
        all: true,
    };
    assert!(nowhere.ask(&questions(View::Findings)).is_err());
}

//! What is true of spans whose paths say which request caused which, see [`crate::hop`].

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use crate::{collector::SpanSeen, hop::Asked};

/// Spans held against the truth: how many are joined, and every one that says what is wrong.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Spans of servers under the span of their own client.
    pub hops: usize,
    /// Spans of servers under the span that the client itself named.
    pub headers: usize,
    /// Spans of servers under none, though their client's span is there.
    pub torn: Vec<String>,
    /// Spans of clients under the request that caused them.
    pub caused: usize,
    /// Spans of clients under the span that the fields they sent name.
    pub handed_on: usize,
    /// Spans of clients that are linked to the request that caused them, said to be for certain.
    pub certain_links: usize,
    /// Spans of clients that are linked to the request that caused them, as far as is known.
    pub probable_links: usize,
    /// Spans of clients that a request caused, without parent and link.
    pub alone: usize,
    /// Spans of clients that are linked to another request than their cause, which was said not to
    /// be certain.
    pub misled: usize,
    /// What is wrong: a parent, a trace, an id.
    pub wrong: Vec<String>,
}

/// Path of the request that caused the one of `path`.
fn cause_of(path: &str) -> Option<&str> {
    path.rsplit_once('_').map(|(cause, _)| cause)
}

/// The end of a path that tells requests apart: by HTTP and by gRPC the same.
fn ident(path: &str) -> Option<&str> {
    path.strip_prefix("/hop/")
        .or_else(|| path.split_once("Echo/Phase").map(|(_, ident)| ident))
}

// === impl Verdict ===

impl Verdict {
    /// Of `spans`, which `asked` have begun.
    pub fn of(spans: &[SpanSeen], asked: &[Asked]) -> Self {
        let mut verdict = Self::default();
        let named: BTreeMap<&str, &Asked> = asked
            .iter()
            .filter_map(|asked| Some((ident(&asked.path)?, asked)))
            .collect();
        let mut ends: BTreeMap<(&str, bool), &SpanSeen> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for span in spans {
            if !ids.insert(&span.id) {
                verdict
                    .wrong
                    .push(format!("an id twice: {}", span.outline()));
            }
            let Some(ident) = ident(span.path()) else {
                continue;
            };
            if ends.insert((ident, span.is_server()), span).is_some() {
                verdict
                    .wrong
                    .push(format!("told twice: {}", span.outline()));
            }
        }
        for ((ident, is_server), span) in &ends {
            let root = ident.split('_').next().unwrap_or_default();
            let origin = named.get(root).copied();
            if *is_server {
                verdict.server(span, ends.get(&(*ident, false)).copied(), origin);
            } else {
                let cause = cause_of(ident).and_then(|cause| ends.get(&(cause, true)));
                verdict.client(span, cause.copied(), origin);
            }
        }
        verdict
    }

    fn server(&mut self, span: &SpanSeen, client: Option<&SpanSeen>, origin: Option<&Asked>) {
        let outline = span.outline();
        if let Some(client) = client {
            if span.trace == client.trace && span.parent == client.id {
                self.hops += 1;
                if span.source() != "hop" {
                    self.wrong
                        .push(format!("a hop by {}: {outline}", span.source()));
                }
                return;
            }
            if span.trace != client.trace {
                self.torn
                    .push(format!("{outline} though {}", client.outline()));
            }
        }
        if span.parent.is_empty() {
            if client.is_some() {
                self.torn.push(outline);
            }
        } else if origin.is_some_and(|asked| span.parent == asked.span && span.trace == asked.trace)
        {
            self.headers += 1;
        } else {
            // A parent that is told by nobody is as wrong as another one's.
            self.wrong.push(format!(
                "a server's parent: {outline}, client: {:?}",
                client.map(SpanSeen::outline)
            ));
        }
    }

    fn client(&mut self, span: &SpanSeen, cause: Option<&SpanSeen>, origin: Option<&Asked>) {
        let outline = span.outline();
        let of_cause = |trace: &str, id: &str| {
            cause.is_some_and(|cause| cause.trace == trace && cause.id == id)
        };
        for link in &span.links {
            let right = of_cause(&link.trace, &link.id);
            match (right, link.attributes.get("observer.link.certain") == true) {
                (true, true) => self.certain_links += 1,
                (true, false) => self.probable_links += 1,
                (false, false) => self.misled += 1,
                (false, true) => self.wrong.push(format!(
                    "a link for certain to {}/{}: {outline}, cause: {:?}",
                    link.trace,
                    link.id,
                    cause.map(SpanSeen::outline)
                )),
            }
        }
        if span.parent.is_empty() {
            self.alone += usize::from(cause.is_some() && span.links.is_empty());
        } else if of_cause(&span.trace, &span.parent) {
            self.caused += 1;
            if span.source() != "thread" {
                self.wrong
                    .push(format!("a cause by {}: {outline}", span.source()));
            }
        } else if origin.is_some_and(|asked| span.parent == asked.span && span.trace == asked.trace)
        {
            self.handed_on += 1;
        } else {
            self.wrong.push(format!(
                "a client's parent: {outline}, cause: {:?}",
                cause.map(SpanSeen::outline)
            ));
        }
    }

    /// Fails if anything is wrong; what is torn or alone is not.
    pub fn expect_nothing_wrong(&self) -> Result<()> {
        let most = self.wrong.len().min(10);
        ensure!(
            self.wrong.is_empty(),
            "{} wrong, such as {:#?}; {}",
            self.wrong.len(),
            &self.wrong[..most],
            self.outline()
        );
        Ok(())
    }

    /// Fails if anything is wrong, or a server's span is not joined with that of its client.
    pub fn expect_joined(&self) -> Result<()> {
        self.expect_nothing_wrong()?;
        let most = self.torn.len().min(10);
        ensure!(
            self.torn.is_empty(),
            "{} torn, such as {:#?}; {}",
            self.torn.len(),
            &self.torn[..most],
            self.outline()
        );
        Ok(())
    }

    /// Its numbers in one line.
    pub fn outline(&self) -> String {
        format!(
            "{} hops, {} by fields, {} torn; {} caused, {} handed on, {} and {} linked, {} alone, {} misled; {} wrong",
            self.hops,
            self.headers,
            self.torn.len(),
            self.caused,
            self.handed_on,
            self.certain_links,
            self.probable_links,
            self.alone,
            self.misled,
            self.wrong.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn span(
        kind: &str,
        path: &str,
        (trace, id, parent): (&str, &str, &str),
        source: &str,
    ) -> SpanSeen {
        let place = if kind == "SERVER" {
            "url.path"
        } else {
            "url.full"
        };
        let text = if kind == "SERVER" {
            path.to_owned()
        } else {
            format!("http://a.test{path}")
        };
        let value = json!({
            "resource": {}, "schema": "", "scope": {"name": "", "version": ""}, "trace": trace,
            "id": id, "parent": parent, "state": "", "flags": 0, "name": "GET", "span_kind": kind,
            "start": 0, "end": 0, "status": "UNSET", "message": "", "links": [], "events": [],
            "attributes": {place: ["string", text], "observer.parent.source": ["string", source]},
            "number": 1,
        });
        serde_json::from_value(value).unwrap()
    }

    fn linked(mut span: SpanSeen, trace: &str, id: &str, certain: bool) -> SpanSeen {
        let link = json!({
            "trace": trace, "id": id, "attributes": {"observer.link.certain": ["bool", certain]},
        });
        span.links.push(serde_json::from_value(link).unwrap());
        span
    }

    /// `/hop/a` is asked, and asks for `/hop/a_0`.
    fn chain() -> Vec<SpanSeen> {
        vec![
            span("CLIENT", "/hop/a", ("t", "1", ""), "root"),
            span("SERVER", "/hop/a", ("t", "2", "1"), "hop"),
            span("CLIENT", "/hop/a_0", ("t", "3", "2"), "thread"),
            span("SERVER", "/hop/a_0", ("t", "4", "3"), "hop"),
        ]
    }

    #[test]
    fn what_hangs_together_is_joined() {
        let verdict = Verdict::of(&chain(), &[]);
        verdict.expect_joined().unwrap();
        assert_eq!((verdict.hops, verdict.caused, verdict.alone), (2, 1, 0));
    }

    #[test]
    fn what_hangs_elsewhere_is_wrong() {
        for (number, parent) in [(1, "3"), (2, "4"), (3, "1"), (0, "2")] {
            let mut spans = chain();
            spans[number].parent = parent.to_owned();
            let verdict = Verdict::of(&spans, &[]);
            assert_eq!(verdict.wrong.len(), 1, "{number}: {}", verdict.outline());
        }
        let mut spans = chain();
        spans[3].id = "2".to_owned();
        assert!(Verdict::of(&spans, &[]).expect_nothing_wrong().is_err());
        let mut spans = chain();
        spans[2].attributes = spans[0].attributes.clone();
        assert!(Verdict::of(&spans, &[]).expect_nothing_wrong().is_err());
    }

    #[test]
    fn what_hangs_under_nothing_is_torn() {
        let mut spans = chain();
        spans[3].parent.clear();
        let verdict = Verdict::of(&spans, &[]);
        verdict.expect_nothing_wrong().unwrap();
        assert!(verdict.expect_joined().is_err());
    }

    #[test]
    fn links_are_right_or_misled_or_wrong() {
        let lone = span("CLIENT", "/hop/a_0", ("u", "3", ""), "root");
        for (id, certain, expected) in [
            ("2", true, (1, 0, 0, 0)),
            ("2", false, (0, 1, 0, 0)),
            ("4", false, (0, 0, 1, 0)),
            ("4", true, (0, 0, 0, 1)),
        ] {
            let spans = [
                span("SERVER", "/hop/a", ("t", "2", ""), "root"),
                linked(lone.clone(), "t", id, certain),
            ];
            let verdict = Verdict::of(&spans, &[]);
            let found = (
                verdict.certain_links,
                verdict.probable_links,
                verdict.misled,
                verdict.wrong.len(),
            );
            assert_eq!(found, expected, "{id} {certain}");
        }
    }

    #[test]
    fn fields_name_parents_too() {
        let asked = Asked {
            path: "/hop/a".to_owned(),
            trace: "t".to_owned(),
            span: "9".to_owned(),
            started: 0,
            ended: 0,
        };
        let spans = [
            span("SERVER", "/hop/a", ("t", "2", "9"), "tracecontext"),
            span("CLIENT", "/hop/a_0", ("t", "3", "9"), "tracecontext"),
        ];
        let verdict = Verdict::of(&spans, std::slice::from_ref(&asked));
        verdict.expect_joined().unwrap();
        assert_eq!((verdict.headers, verdict.handed_on), (1, 1));
        assert_eq!(Verdict::of(&spans, &[]).wrong.len(), 2);
    }
}

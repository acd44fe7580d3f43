//! Asks one agent, or all of a cluster, and makes one report of what those of a cluster answer.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, bail};
use serde::Serialize;

use super::{client, terminal};
use crate::mesh::report::{Report, answer::View, conclude, merge};

/// Parameters of a query, as the server names them; those without a value are left out.
pub type Filters = Vec<(&'static str, Option<String>)>;

/// Which agents to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agents {
    /// URLs, as `http://127.0.0.1:9920`.
    pub servers: Vec<String>,
    /// All that have one of their names are meant, not one of them.
    pub all: bool,
}

/// What several agents answered.
#[derive(Debug)]
pub(super) struct Cluster {
    /// All of it.
    pub(super) report: Report,
    /// Who was asked.
    pub(super) asked: Asked,
}

/// Who was asked.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Asked {
    /// How many agents.
    agents: usize,
    /// How many of them answered.
    answered: usize,
    /// All of them.
    servers: Vec<Server>,
}

/// An agent that was asked.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Server {
    /// Its URL.
    server: String,
    /// Why it did not answer; `null` if it did.
    error: Option<String>,
}

/// Most agents that are asked at once.
const AT_ONCE: usize = 16;

// === impl Agents ===

impl Agents {
    /// The only one that is to be asked; `None` if they are a cluster's.
    pub fn only(&self) -> Option<&str> {
        match self.servers.as_slice() {
            [server] if !self.all => Some(server),
            _ => None,
        }
    }

    /// What all of them answer to questions, together. Fails only if none answers: the others are told
    /// in what comes back, and on stderr.
    pub(super) fn ask(&self, questions: &[(View, Filters)]) -> anyhow::Result<Cluster> {
        let mut names = BTreeSet::new();
        let mut servers: Vec<Result<String, Server>> = Vec::new();
        for server in &self.servers {
            match self.addresses(server) {
                Ok(addresses) => {
                    let new = addresses.into_iter().filter(|it| names.insert(it.clone()));
                    servers.extend(new.map(Ok));
                }
                Err(error) => servers.push(Err(Server::failed(server, &error))),
            }
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut answers = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                match servers.get(at) {
                    None => return answers,
                    Some(Err(_)) => {}
                    Some(Ok(server)) => answers.push((at, report(server, questions))),
                }
            }
        };
        let mut answers = Vec::new();
        thread::scope(|scope| {
            let workers = (0..servers.len().min(AT_ONCE)).map(|_| scope.spawn(work));
            for worker in workers.collect::<Vec<_>>() {
                // A worker that ended early leaves what it was to ask without an answer.
                answers.extend(worker.join().unwrap_or_default());
            }
        });
        answers.sort_by_key(|(at, _)| *at);
        let mut answers = answers.into_iter().peekable();
        let (mut reports, mut asked) = (Vec::new(), Asked::default());
        for (at, server) in servers.into_iter().enumerate() {
            let answer = answers.next_if(|(of, _)| *of == at);
            asked.servers.push(match (server, answer) {
                (Err(failed), _) => failed,
                (Ok(server), Some((_, Ok(report)))) => {
                    reports.push(report);
                    Server {
                        server,
                        error: None,
                    }
                }
                (Ok(server), Some((_, Err(error)))) => Server::failed(&server, &error),
                (Ok(server), None) => {
                    Server::failed(&server, &anyhow::anyhow!("it could not be asked"))
                }
            });
        }
        asked.agents = asked.servers.len();
        asked.answered = reports.len();
        for line in asked.failures() {
            eprintln!("observer: {line}");
        }
        if reports.is_empty() {
            bail!("none of {} agents answered", asked.agents);
        }
        Ok(Cluster {
            report: conclude(merge(reports), asked.missing()),
            asked,
        })
    }

    fn addresses(&self, server: &str) -> anyhow::Result<Vec<String>> {
        match self.all {
            true => client::addresses(server),
            false => Ok(vec![server.to_owned()]),
        }
    }
}

/// What one agent answers to all questions.
fn report(server: &str, questions: &[(View, Filters)]) -> anyhow::Result<Report> {
    let mut whole = Report::default();
    for (view, filters) in questions {
        let text = ask(server, view.path(), filters)?;
        let answer: Report = serde_json::from_str(&text)
            .with_context(|| format!("{server} answers as no agent of this version does"))?;
        whole.observed_seconds = answer.observed_seconds;
        match view {
            View::Findings => {
                whole.findings = answer.findings;
                whole.misunderstood = answer.misunderstood;
                whole.ignored = answer.ignored;
            }
            View::Edges | View::Mtls => whole.edges = answer.edges,
            View::Readiness => whole.readiness = answer.readiness,
            View::Split => whole.splits = answer.splits,
            View::Routes => (whole.routes, whole.uses) = (answer.routes, answer.uses),
            View::Authz => {
                (whole.authorizations, whole.grants) = (answer.authorizations, answer.grants);
            }
        }
    }
    Ok(whole)
}

/// What an agent answers to `path` with `filters`.
pub(super) fn ask(server: &str, path: &str, filters: &Filters) -> anyhow::Result<String> {
    let mut query = String::new();
    for (name, value) in filters {
        if let Some(value) = value {
            let separator = if query.is_empty() { '?' } else { '&' };
            let _ = write!(query, "{separator}{name}={}", client::encode(value));
        }
    }
    client::get(server, &format!("{path}{query}"), false)?
        .text()
        .context("the observer stopped answering")
}

// === impl Asked ===

impl Asked {
    /// How many agents did not answer.
    pub(super) fn missing(&self) -> usize {
        self.agents.saturating_sub(self.answered)
    }

    /// How many answered: the line below a table.
    pub(super) fn line(&self) -> String {
        format!("asked {} of {} agents", self.answered, self.agents)
    }

    fn failures(&self) -> impl Iterator<Item = String> + '_ {
        self.servers.iter().filter_map(|it| {
            let error = terminal::plain(it.error.as_deref()?);
            Some(format!("{} did not answer: {error}", it.server))
        })
    }
}

// === impl Server ===

impl Server {
    fn failed(server: &str, error: &anyhow::Error) -> Self {
        Self {
            server: server.to_owned(),
            error: Some(format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests;

//! Rules of Prometheus: what is recorded, and what somebody is told of.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::query::{Query, Series};

mod alerts;
mod recording;
mod slo;

/// A file of rules.
#[derive(Debug)]
pub(super) struct File {
    /// Its name, without the ending.
    pub(super) name: &'static str,
    pub(super) groups: Vec<Group>,
}

/// Rules that are evaluated together, in order.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) interval: &'static str,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug)]
pub(super) enum Rule {
    Record(Record),
    Alert(Alert),
}

/// A query whose answer is kept under a name: `level:metric:operations`.
#[derive(Clone, Debug)]
pub(super) struct Record {
    name: String,
    query: Query,
}

/// Something that somebody is told of.
#[derive(Debug)]
pub(super) struct Alert {
    pub(super) name: &'static str,
    /// How long it must hold.
    pub(super) hold: &'static str,
    pub(super) severity: &'static str,
    /// Labels that tell alerts of one name apart, besides those of the query.
    pub(super) more: &'static [(&'static str, &'static str)],
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) query: Query,
}

/// Where runbooks are; the chart puts its value `prometheusRule.runbooks` in the place of this.
const RUNBOOKS: &str = "deploy/README.md";

/// All files.
pub(super) fn all() -> Vec<File> {
    vec![
        File {
            name: "recording",
            groups: vec![recording::edges(), recording::services()],
        },
        File {
            name: "slo",
            groups: vec![slo::recording(), slo::alerts()],
        },
        File {
            name: "alerts",
            groups: vec![alerts::traffic(), alerts::mesh(), alerts::observation()],
        },
    ]
}

/// All alerts, with the name and interval of their group.
pub(super) fn alerts() -> Vec<(&'static str, &'static str, Vec<Alert>)> {
    let groups = all().into_iter().flat_map(|file| file.groups);
    let groups = groups.map(|group| {
        let alerts = group.rules.into_iter().filter_map(|rule| match rule {
            Rule::Alert(alert) => Some(alert),
            Rule::Record(_) => None,
        });
        (group.name, group.interval, alerts.collect::<Vec<_>>())
    });
    groups.filter(|(.., alerts)| !alerts.is_empty()).collect()
}

// === impl File ===

impl File {
    /// The file as Prometheus and the operator read it.
    pub(super) fn json(&self) -> Result<Value> {
        let groups: Result<Vec<Value>> = self.groups.iter().map(Group::json).collect();
        Ok(json!({"groups": groups?}))
    }
}

// === impl Group ===

impl Group {
    fn json(&self) -> Result<Value> {
        let rules: Result<Vec<Value>> = self.rules.iter().map(Rule::json).collect();
        Ok(json!({"name": self.name, "interval": self.interval, "rules": rules?}))
    }
}

// === impl Rule ===

impl Rule {
    fn json(&self) -> Result<Value> {
        match self {
            Self::Record(record) => {
                let query = record.query.text().context(record.name.clone())?;
                Ok(json!({"record": record.name, "expr": query}))
            }
            Self::Alert(alert) => Ok(json!({
                "alert": alert.name,
                "expr": alert.query.text().context(alert.name)?,
                "for": alert.hold,
                "labels": alert.labels(),
                "annotations": alert.annotations(),
            })),
        }
    }
}

// === impl Record ===

impl Record {
    pub(super) fn new(name: &str, query: Query) -> Self {
        Self {
            name: name.to_owned(),
            query,
        }
    }

    /// What it records, to be used in other queries.
    pub(super) fn series(&self) -> Series {
        let labels: BTreeSet<&'static str> = self.query.labels().clone();
        Series::recorded(&self.name, &labels)
    }

    /// The same as a value of now, with the labels that it has.
    pub(super) fn now(&self) -> Query {
        self.series().now()
    }
}

// === impl Alert ===

impl Alert {
    pub(super) fn labels(&self) -> Value {
        let mut labels = json!({"severity": self.severity});
        for (name, value) in self.more {
            labels[*name] = json!(value);
        }
        labels
    }

    pub(super) fn annotations(&self) -> Value {
        json!({
            "summary": self.summary,
            "description": self.description,
            "runbook_url": format!("{RUNBOOKS}#{}", self.name.to_lowercase()),
        })
    }
}

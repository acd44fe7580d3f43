//! The queries of the dashboards and rules in the repository, as Grafana and Prometheus would ask them.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use observer_tests::chart;
use serde_json::Value;

/// Something that is asked.
#[derive(Debug)]
pub(crate) struct Query {
    /// Title of the dashboard and panel, or name of the rule.
    pub(crate) place: String,
    pub(crate) expression: String,
    /// Whether it should have data; alerts should not.
    pub(crate) data: bool,
}

/// Files below a folder of the chart, with their content.
fn files(folder: &str) -> Result<Vec<(PathBuf, String)>> {
    let folder = chart::folder().join("files").join(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let content = fs::read_to_string(&path)?;
        files.push((path, content));
    }
    files.sort();
    Ok(files)
}

/// Files of rules.
pub(crate) fn rule_files() -> Result<Vec<(PathBuf, String)>> {
    files("rules")
}

fn each<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// What records and alerts ask.
pub(crate) fn rules() -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for (_, content) in rule_files()? {
        let file: Value = serde_saphyr::from_str(&content)?;
        for rule in each(&file, "groups").flat_map(|group| each(group, "rules")) {
            queries.push(Query {
                place: format!("{}{}", text(rule, "record"), text(rule, "alert")),
                expression: text(rule, "expr").to_owned(),
                data: rule.get("record").is_some(),
            });
        }
    }
    Ok(queries)
}

/// What panels and variables ask, with every variable at "All".
pub(crate) fn dashboards() -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for (_, content) in files("dashboards")? {
        let board: Value = serde_json::from_str(&content)?;
        let title = text(&board, "title");
        let variables: Vec<&Value> = each(&board["templating"], "list").collect();
        let filled = |expression: &str| {
            let mut filled = expression
                .replace("$__rate_interval", "1m")
                .replace("$__range", "1m");
            // Longer names first: one may start with another.
            let mut names: Vec<&str> = variables.iter().map(|it| text(it, "name")).collect();
            names.sort_by_key(|name| std::cmp::Reverse(name.len()));
            for name in names {
                filled = filled.replace(&format!("${name}"), ".*");
            }
            filled
        };
        for panel in each(&board, "panels") {
            for target in each(panel, "targets") {
                let expression = text(target, "expr");
                if !expression.is_empty() {
                    queries.push(Query {
                        place: format!("{title}: {}", text(panel, "title")),
                        expression: filled(expression),
                        data: true,
                    });
                }
            }
        }
        for variable in &variables {
            let definition = text(variable, "definition");
            let asked = definition
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'))
                .and_then(|rest| rest.rsplit_once(", "));
            if let Some((selector, label)) = asked {
                queries.push(Query {
                    place: format!("{title}: variable {}", text(variable, "name")),
                    expression: format!("count by ({label}) ({})", filled(selector)),
                    data: true,
                });
            }
        }
    }
    Ok(queries)
}

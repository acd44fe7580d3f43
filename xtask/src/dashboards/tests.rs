//! What is generated: it is what is in the repository, every query asks for metrics and labels that
//! there are, dashboards have a form that Grafana takes, and every alert has a runbook.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use promql_parser::parser::{self, AggregateExpr, Expr, LabelModifier, VectorSelector};
use serde_json::Value;

use super::*;
use contract::{FAMILIES, Kind, SCRAPED, UP};

/// Labels by name of a metric, as Prometheus has it.
type Metrics = BTreeMap<String, BTreeSet<String>>;

fn metrics() -> Result<Metrics> {
    let mut metrics = Metrics::new();
    for family in FAMILIES.iter().copied().chain([&UP]) {
        let labels: BTreeSet<String> = family
            .labels
            .iter()
            .chain(&SCRAPED)
            .map(|label| (*label).to_owned())
            .collect();
        if family.kind == Kind::Histogram {
            let mut with_bound = labels.clone();
            with_bound.insert("le".to_owned());
            metrics.insert(format!("{}_bucket", family.name), with_bound);
            for suffix in ["_count", "_sum"] {
                metrics.insert(format!("{}{suffix}", family.name), labels.clone());
            }
        } else {
            metrics.insert(family.name.to_owned(), labels);
        }
    }
    // What is recorded is a metric for the rules behind it.
    for (record, expression) in recorded()? {
        let labels = judge(&expression, &metrics)?;
        ensure!(
            record.split(':').count() == 3,
            "{record} is not level:metric:operations"
        );
        ensure!(
            metrics.insert(record.clone(), labels).is_none(),
            "{record} twice"
        );
    }
    Ok(metrics)
}

fn rules() -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for file in rules::all() {
        for group in file.json()?["groups"].as_array().into_iter().flatten() {
            all.extend(group["rules"].as_array().into_iter().flatten().cloned());
        }
    }
    Ok(all)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn recorded() -> Result<Vec<(String, String)>> {
    let records = rules()?
        .into_iter()
        .filter(|rule| rule.get("record").is_some());
    Ok(records
        .map(|rule| {
            (
                text(&rule, "record").to_owned(),
                text(&rule, "expr").to_owned(),
            )
        })
        .collect())
}

/// Labels of the result of an expression; an error names what is not in the contract.
fn judge(expression: &str, metrics: &Metrics) -> Result<BTreeSet<String>> {
    let plain = expression
        .replace("$__rate_interval", "5m")
        .replace("$__range", "1h");
    let parsed = parser::parse(&plain).map_err(|error| anyhow::anyhow!("{error}: {plain}"))?;
    labels(&parsed, metrics).with_context(|| plain)
}

fn labels(expression: &Expr, metrics: &Metrics) -> Result<BTreeSet<String>> {
    Ok(match expression {
        Expr::VectorSelector(selector) => of_selector(selector, metrics)?,
        Expr::MatrixSelector(matrix) => of_selector(&matrix.vs, metrics)?,
        Expr::Aggregate(aggregate) => of_aggregate(aggregate, metrics)?,
        Expr::Paren(inner) => labels(&inner.expr, metrics)?,
        Expr::Unary(inner) => labels(&inner.expr, metrics)?,
        Expr::Subquery(inner) => labels(&inner.expr, metrics)?,
        Expr::Call(call) => {
            let mut found = BTreeSet::new();
            for argument in &call.args.args {
                found.extend(labels(argument, metrics)?);
            }
            if call.func.name == "histogram_quantile" {
                ensure!(found.remove("le"), "a quantile of what has no le");
            }
            found
        }
        Expr::Binary(binary) => {
            let left = labels(&binary.lhs, metrics)?;
            let right = labels(&binary.rhs, metrics)?;
            let matching = binary.modifier.as_ref().and_then(|it| it.matching.as_ref());
            let scalar = |expression: &Expr| match expression {
                Expr::Paren(inner) => {
                    matches!(*inner.expr, Expr::NumberLiteral(_) | Expr::Binary(_))
                }
                expression => matches!(expression, Expr::NumberLiteral(_)),
            };
            match matching {
                Some(LabelModifier::Include(on)) => {
                    for label in &on.labels {
                        ensure!(
                            left.contains(label) && right.contains(label),
                            "on ({label}) is not on both sides"
                        );
                    }
                }
                _ if scalar(&binary.lhs) || scalar(&binary.rhs) => {}
                _ => ensure!(
                    left == right || left.is_empty() || right.is_empty(),
                    "{left:?} never meets {right:?}"
                ),
            }
            if left.is_empty() { right } else { left }
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => BTreeSet::new(),
        Expr::Extension(_) => bail!("an extension"),
    })
}

fn of_selector(selector: &VectorSelector, metrics: &Metrics) -> Result<BTreeSet<String>> {
    let name = selector.name.as_deref().unwrap_or_default();
    let Some(known) = metrics.get(name) else {
        bail!("there is no metric {name:?}");
    };
    for matcher in &selector.matchers.matchers {
        ensure!(
            known.contains(&matcher.name),
            "{name} has no label {}",
            matcher.name
        );
    }
    Ok(known.clone())
}

fn of_aggregate(aggregate: &AggregateExpr, metrics: &Metrics) -> Result<BTreeSet<String>> {
    let inner = labels(&aggregate.expr, metrics)?;
    let operator = aggregate.op.to_string();
    if operator == "topk" {
        return Ok(inner);
    }
    match &aggregate.modifier {
        None => Ok(BTreeSet::new()),
        Some(LabelModifier::Include(by)) => {
            for label in &by.labels {
                ensure!(
                    inner.contains(label),
                    "{operator} by {label}, which is not there"
                );
            }
            Ok(by.labels.iter().cloned().collect())
        }
        Some(LabelModifier::Exclude(_)) => bail!("without is not used here"),
    }
}

/// Title of a dashboard and a panel, and its expression.
fn expressions() -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for board in boards::all() {
        let json = board.json()?;
        for panel in json["panels"].as_array().into_iter().flatten() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let place = format!("{}: {}", board.title, text(panel, "title"));
                let expression = text(target, "expr");
                if !expression.is_empty() {
                    all.push((place, expression.to_owned()));
                }
            }
        }
        for variable in json["templating"]["list"].as_array().into_iter().flatten() {
            let query = text(variable, "definition");
            if let Some(asked) = query.strip_prefix("label_values(") {
                let (selector, label) = asked
                    .trim_end_matches(')')
                    .rsplit_once(", ")
                    .unwrap_or_default();
                let place = format!("{}: variable {}", board.title, text(variable, "name"));
                all.push((place, format!("count by ({label}) ({selector})")));
            }
        }
    }
    Ok(all)
}

#[test]
fn every_query_asks_for_what_there_is() -> Result<()> {
    let metrics = metrics()?;
    let mut all = expressions()?;
    for rule in rules()? {
        let name = format!("{}{}", text(&rule, "record"), text(&rule, "alert"));
        all.push((name, text(&rule, "expr").to_owned()));
    }
    ensure!(all.len() > 150, "only {} queries", all.len());
    for (place, expression) in all {
        judge(&expression, &metrics).with_context(|| place)?;
    }
    Ok(())
}

#[test]
fn what_there_is_not_is_found() -> Result<()> {
    let metrics = metrics()?;
    for (expression, told) in [
        ("rate(observer_lost_total[5m])", "no metric"),
        ("observer_loss_total{reasons=\"x\"}", "no label reasons"),
        (
            "sum by (node) (rate(observer_loss_total[5m]))",
            "sum by node",
        ),
        ("histogram_quantile(0.5, observer_loss_total)", "no le"),
        ("up and observer_loss_total", "never meets"),
        ("rate(up[5m)", "rate(up[5m)"),
    ] {
        let error = format!("{:#}", judge(expression, &metrics).unwrap_err());
        ensure!(error.contains(told), "{error}");
    }
    Ok(())
}

#[test]
fn the_files_are_those_in_the_repository() -> Result<()> {
    check(&root(), &files()?)
}

#[test]
fn a_changed_and_a_strange_file_are_found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = BTreeMap::from([(format!("{RULES}/a.yaml"), "a\n".to_owned())]);
    ensure!(check(folder.path(), &files).is_err());
    fs::create_dir_all(folder.path().join(RULES))?;
    fs::write(folder.path().join(RULES).join("a.yaml"), "a\n")?;
    check(folder.path(), &files)?;
    fs::write(folder.path().join(RULES).join("b.yaml"), "b\n")?;
    ensure!(check(folder.path(), &files).is_err());
    Ok(())
}

#[test]
fn dashboards_have_the_form_that_grafana_takes() -> Result<()> {
    let (mut uids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for board in boards::all() {
        let json = board.json()?;
        let uid = text(&json, "uid").to_owned();
        // Grafana takes 40 characters at most.
        ensure!(uid.len() <= 40 && uids.insert(uid.clone()), "{uid}");
        ensure!(titles.insert(text(&json, "title").to_owned()), "{uid}");
        ensure!(
            (39..=42).contains(&json["schemaVersion"].as_u64().unwrap_or(0)),
            "{uid}"
        );
        let variables: Vec<&Value> = json["templating"]["list"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let names: BTreeSet<&str> = variables.iter().map(|it| text(it, "name")).collect();
        ensure!(names.len() == variables.len(), "{uid}: a variable twice");
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in json["panels"].as_array().into_iter().flatten() {
            let place = format!("{uid}: {}", text(panel, "title"));
            ensure!(
                ids.insert(panel["id"].as_u64()),
                "{place}: its id is not its own"
            );
            ensure!(!text(panel, "title").is_empty(), "{place}");
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX);
            ensure!(
                at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24,
                "{place}: outside"
            );
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    ensure!(taken.insert((x, y)), "{place}: over another panel");
                }
            }
            if text(panel, "type") == "row" {
                continue;
            }
            ensure!(
                !text(&panel["fieldConfig"]["defaults"], "unit").is_empty(),
                "{place}: no unit"
            );
            let targets: Vec<&Value> = panel["targets"].as_array().into_iter().flatten().collect();
            let letters: BTreeSet<&str> = targets.iter().map(|it| text(it, "refId")).collect();
            ensure!(
                !targets.is_empty() && letters.len() == targets.len(),
                "{place}: refIds"
            );
            for source in targets.iter().copied().chain([panel]) {
                let uid = text(&source["datasource"], "uid");
                let name = uid.strip_prefix("${").and_then(|uid| uid.strip_suffix('}'));
                ensure!(
                    name.is_some_and(|name| names.contains(name)),
                    "{place}: data source {uid}"
                );
            }
        }
        // Every variable that is named is there.
        let all = serde_json::to_string(&json)?;
        for (at, _) in all.match_indices('$') {
            let rest = all
                .get(at + 1..)
                .unwrap_or_default()
                .trim_start_matches('{');
            let end =
                rest.find(|character: char| !(character.is_alphanumeric() || character == '_'));
            let name = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            ensure!(
                names.contains(name) || name.starts_with("__"),
                "{uid}: there is no variable {name}"
            );
        }
    }
    Ok(())
}

#[test]
fn every_alert_tells_what_to_do() -> Result<()> {
    let readme = fs::read_to_string(root().join("deploy/README.md"))?;
    let headings: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(str::to_lowercase)
        .collect();
    let mut seen = BTreeSet::new();
    for (.., alerts) in rules::alerts() {
        for alert in alerts {
            let annotations = alert.annotations();
            let name = alert.name;
            ensure!(seen.insert((name, alert.more)), "{name} twice");
            ensure!(["critical", "warning"].contains(&alert.severity), "{name}");
            ensure!(!alert.hold.is_empty(), "{name}");
            for key in ["summary", "description"] {
                ensure!(!text(&annotations, key).is_empty(), "{name}: no {key}");
            }
            let url = text(&annotations, "runbook_url");
            let anchor = url.split_once('#').map(|(_, anchor)| anchor.to_owned());
            ensure!(
                anchor.is_some_and(|anchor| headings.contains(&anchor)),
                "{name}: {url} is not there"
            );
            // What a text names, the result has.
            let labels = alert.query.labels();
            for key in ["summary", "description"] {
                for named in text(&annotations, key).split("$labels.").skip(1) {
                    let end = named.find([' ', '}']).unwrap_or(named.len());
                    let label = named.get(..end).unwrap_or_default();
                    ensure!(
                        labels.contains(label),
                        "{name}: its result has no label {label}"
                    );
                }
            }
        }
    }
    Ok(())
}

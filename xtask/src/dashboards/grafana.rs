//! Provisioning of Grafana: data sources, where dashboards are, and the alerts as Grafana's own.

use anyhow::Result;
use serde_json::{Value, json};

use super::{contract, rules};

/// Ids of data sources that refer to each other.
const PROMETHEUS: &str = "observer-prometheus";
const TEMPO: &str = "observer-tempo";
const LOKI: &str = "observer-loki";

/// Files by name.
pub(super) fn provisioning() -> Result<Vec<(&'static str, Value)>> {
    Ok(vec![
        ("datasources/observer.yaml", data_sources()),
        ("dashboards/observer.yaml", dashboards()),
        ("alerting/observer.yaml", alerting()?),
    ])
}

/// Addresses are variables of Grafana's environment.
fn data_sources() -> Value {
    let tags = json!([
        {"key": "service.name", "value": "service_name"},
        {"key": "service.namespace", "value": "service_namespace"},
    ]);
    let source = |uid: &str, name: &str, kind: &str, address: &str, data: Value| {
        json!({
            "uid": uid, "name": name, "type": kind, "access": "proxy", "orgId": 1,
            "url": format!("${{{address}}}"), "editable": true, "jsonData": data,
        })
    };
    // The tags of a span stand where matchers do.
    let durations = contract::HTTP_SERVER_DURATION.name;
    let rate = format!("sum(rate({durations}_count{{$$__tags}}[5m]))");
    let slow =
        format!("histogram_quantile(0.95, sum by (le) (rate({durations}_bucket{{$$__tags}}[5m])))");
    json!({
        "apiVersion": 1,
        "datasources": [
            source(PROMETHEUS, "Observer Prometheus", "prometheus", "OBSERVER_PROMETHEUS_URL", json!({
                "httpMethod": "POST", "timeInterval": "30s",
                "exemplarTraceIdDestinations": [{"name": "trace_id", "datasourceUid": TEMPO}],
            })),
            source(TEMPO, "Observer Tempo", "tempo", "OBSERVER_TEMPO_URL", json!({
                "serviceMap": {"datasourceUid": PROMETHEUS},
                "nodeGraph": {"enabled": true},
                "tracesToMetrics": {
                    "datasourceUid": PROMETHEUS, "tags": tags,
                    "spanStartTimeShift": "-5m", "spanEndTimeShift": "5m",
                    "queries": [{"name": "Requests", "query": rate}, {"name": "p95", "query": slow}],
                },
                "tracesToLogsV2": {
                    "datasourceUid": LOKI, "tags": tags, "filterByTraceID": true,
                    "spanStartTimeShift": "-5m", "spanEndTimeShift": "5m",
                },
            })),
            source(LOKI, "Observer Loki", "loki", "OBSERVER_LOKI_URL", json!({
                "derivedFields": [{
                    "name": "trace", "datasourceUid": TEMPO, "matcherType": "label",
                    "matcherRegex": "trace_id", "url": "$${__value.raw}",
                }],
            })),
            source("observer-agent", "Observer agent", "yesoreyeram-infinity-datasource", "OBSERVER_AGENT_URL", json!({
                "allowedHosts": ["${OBSERVER_AGENT_URL}"], "auth_method": "none",
            })),
        ],
    })
}

fn dashboards() -> Value {
    json!({
        "apiVersion": 1,
        "providers": [{
            "name": "observer", "folder": "Observer", "folderUid": "observer", "orgId": 1,
            "type": "file", "allowUiUpdates": false, "disableDeletion": false,
            "updateIntervalSeconds": 30,
            // The files of deploy/helm/observer/files/dashboards.
            "options": {"path": "${OBSERVER_DASHBOARDS}", "foldersFromFilesStructure": false},
        }],
    })
}

/// The alerts of Prometheus, for those who have no Alertmanager. Their queries answer with what is
/// wrong and with nothing otherwise, so anything is an alert. What they use must be recorded.
fn alerting() -> Result<Value> {
    let mut groups = Vec::new();
    for (name, interval, alerts) in rules::alerts() {
        let mut rules = Vec::new();
        for alert in alerts {
            let mut uid = alert.name.to_lowercase();
            for (_, value) in alert.more {
                uid.push('-');
                uid.push_str(value);
            }
            let escaped = |text: Value| -> Value {
                // `$` would be a variable of the environment.
                let text = text.to_string().replace('$', "$$");
                serde_json::from_str(&text).unwrap_or_default()
            };
            rules.push(json!({
                "uid": uid,
                "title": match alert.more.first() {
                    Some((_, value)) => format!("{} {value}", alert.name),
                    None => alert.name.to_owned(),
                },
                "condition": "C",
                "data": [
                    {
                        "refId": "A",
                        "relativeTimeRange": {"from": 600, "to": 0},
                        "datasourceUid": PROMETHEUS,
                        "model": {
                            "refId": "A", "instant": true, "range": false,
                            "expr": format!("({}) * 0 + 1", alert.query.text()?),
                        },
                    },
                    {
                        "refId": "C",
                        "datasourceUid": "__expr__",
                        "model": {
                            "refId": "C", "type": "threshold", "expression": "A",
                            "conditions": [{"evaluator": {"type": "gt", "params": [0]}}],
                        },
                    },
                ],
                "for": alert.hold,
                "noDataState": "OK",
                "execErrState": "Error",
                "labels": alert.labels(),
                "annotations": escaped(alert.annotations()),
            }));
        }
        groups.push(json!({
            "orgId": 1, "name": name, "folder": "Observer", "interval": interval, "rules": rules,
        }));
    }
    Ok(json!({"apiVersion": 1, "groups": groups}))
}

//! Dashboards of Grafana in the Classic schema: panels flow into rows of 24 columns by themselves.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::query::{Query, Series};

/// A dashboard.
#[derive(Debug)]
pub(super) struct Board {
    /// Stable id, also the name of its file.
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) variables: Vec<Variable>,
    pub(super) rows: Vec<Row>,
}

/// Panels under a title.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

/// One panel.
#[derive(Debug)]
pub(super) struct Panel {
    kind: &'static str,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    width: u32,
    height: u32,
    targets: Vec<Target>,
    options: Value,
    custom: Value,
    thresholds: Option<Value>,
    transformations: Value,
    links: Value,
}

/// What a variable of a dashboard is.
#[derive(Debug)]
pub(super) struct Variable {
    name: &'static str,
    label: &'static str,
    kind: VariableKind,
}

#[derive(Debug)]
enum VariableKind {
    /// A data source of this type.
    DataSource(&'static str),
    /// Values of a label.
    Values(Series, &'static str),
    /// What is typed.
    Text(&'static str),
    /// One of these.
    Choice(&'static [&'static str]),
}

#[derive(Debug)]
enum Target {
    Prometheus {
        query: Query,
        legend: &'static str,
        instant: bool,
        exemplar: bool,
    },
    /// Something for another data source, whose variable is named.
    Other {
        source: (&'static str, &'static str),
        body: Value,
    },
}

/// Variable of the data source Prometheus.
const PROMETHEUS: (&str, &str) = ("prometheus", "${datasource}");
/// That of Infinity.
pub(super) const INFINITY: (&str, &str) = ("yesoreyeram-infinity-datasource", "${infinity}");
/// That of Tempo.
pub(super) const TEMPO: (&str, &str) = ("tempo", "${tempo}");

/// The Classic schema of Grafana 11, which newer ones read.
const SCHEMA: u32 = 39;

const COLUMNS: u32 = 24;

// === impl Panel ===

impl Panel {
    fn new(kind: &'static str, title: &'static str, unit: &'static str) -> Self {
        Self {
            kind,
            title,
            description: "",
            unit,
            width: 8,
            height: 8,
            targets: Vec::new(),
            options: json!({}),
            custom: json!({}),
            thresholds: None,
            transformations: json!([]),
            links: json!([]),
        }
    }

    /// Lines over time.
    pub(super) fn lines(title: &'static str, unit: &'static str) -> Self {
        Self {
            options: json!({
                "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table",
                           "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"}
            }),
            custom: json!({"drawStyle": "line", "fillOpacity": 8, "lineWidth": 1,
                           "showPoints": "never", "spanNulls": false}),
            ..Self::new("timeseries", title, unit)
        }
    }

    /// Lines that are stacked.
    pub(super) fn stack(title: &'static str, unit: &'static str) -> Self {
        let mut panel = Self::lines(title, unit);
        panel.custom["stacking"] = json!({"group": "A", "mode": "normal"});
        panel.custom["fillOpacity"] = json!(30);
        panel
    }

    /// One number.
    pub(super) fn number(title: &'static str, unit: &'static str) -> Self {
        Self {
            width: 4,
            height: 4,
            options: json!({
                "colorMode": "value", "graphMode": "area", "justifyMode": "auto",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "textMode": "auto"
            }),
            ..Self::new("stat", title, unit)
        }
    }

    /// Rows of labels and a value.
    pub(super) fn table(title: &'static str, unit: &'static str) -> Self {
        Self {
            width: 12,
            options: json!({"cellHeight": "sm", "showHeader": true,
                            "sortBy": [{"desc": true, "displayName": "Value"}]}),
            custom: json!({"align": "auto", "cellOptions": {"type": "auto"}, "filterable": true}),
            transformations: json!([
                {"id": "organize", "options": {"excludeByName": {"Time": true}, "indexByName": {},
                                               "renameByName": {}}}
            ]),
            ..Self::new("table", title, unit)
        }
    }

    /// A graph of nodes and edges.
    pub(super) fn nodes(title: &'static str) -> Self {
        Self {
            width: COLUMNS,
            height: 18,
            ..Self::new("nodeGraph", title, "short")
        }
    }

    /// What it tells, and how to read it.
    pub(super) fn about(self, description: &'static str) -> Self {
        Self {
            description,
            ..self
        }
    }

    /// So many of 24 columns.
    pub(super) fn wide(self, width: u32) -> Self {
        Self { width, ..self }
    }

    /// Green below the first limit, then orange, then red.
    pub(super) fn worse_above(self, orange: f64, red: f64) -> Self {
        self.coloured("green", ("orange", orange), ("red", red))
    }

    /// Red below the first limit, then orange, then green.
    pub(super) fn better_above(self, orange: f64, green: f64) -> Self {
        self.coloured("red", ("orange", orange), ("green", green))
    }

    fn coloured(self, base: &str, first: (&str, f64), second: (&str, f64)) -> Self {
        let steps = json!([
            {"color": base, "value": null},
            {"color": first.0, "value": first.1},
            {"color": second.0, "value": second.1},
        ]);
        Self {
            thresholds: Some(json!({"mode": "absolute", "steps": steps})),
            ..self
        }
    }

    /// A link to another dashboard, which keeps time and variables.
    pub(super) fn link(self, title: &'static str, uid: &'static str) -> Self {
        let url = format!("/d/{uid}?${{__url_time_range}}&${{__all_variables}}");
        Self {
            links: json!([{"title": title, "url": url}]),
            ..self
        }
    }

    /// A query over time, or of now for tables and numbers.
    pub(super) fn query(self, legend: &'static str, query: Query) -> Self {
        let instant = self.kind == "table";
        self.target(Target::Prometheus {
            query,
            legend,
            instant,
            exemplar: false,
        })
    }

    /// The same, with links to the traces of single calls.
    pub(super) fn query_with_traces(self, legend: &'static str, query: Query) -> Self {
        self.target(Target::Prometheus {
            query,
            legend,
            instant: false,
            exemplar: true,
        })
    }

    /// A query of another data source.
    pub(super) fn other(self, source: (&'static str, &'static str), body: Value) -> Self {
        self.target(Target::Other { source, body })
    }

    fn target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    fn json(&self, id: u32, x: u32, y: u32) -> Result<Value> {
        let mut targets = Vec::new();
        for (target, letter) in self.targets.iter().zip('A'..='Z') {
            targets.push(target.json(letter, self.kind)?);
        }
        ensure!(
            !targets.is_empty(),
            "the panel {} asks for nothing",
            self.title
        );
        let source = targets.first().map(|target| target["datasource"].clone());
        let mut defaults = json!({"custom": self.custom, "unit": self.unit, "mappings": []});
        if let Some(thresholds) = &self.thresholds {
            defaults["thresholds"] = thresholds.clone();
            defaults["color"] = json!({"mode": "thresholds"});
        }
        Ok(json!({
            "id": id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": source,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "links": self.links,
            "options": self.options,
            "targets": targets,
            "transformations": self.transformations,
        }))
    }
}

// === impl Target ===

impl Target {
    fn json(&self, letter: char, kind: &str) -> Result<Value> {
        match self {
            Self::Prometheus {
                query,
                legend,
                instant,
                exemplar,
            } => Ok(json!({
                "refId": letter.to_string(),
                "datasource": source(PROMETHEUS),
                "editorMode": "code",
                "expr": query.text()?,
                "legendFormat": if legend.is_empty() { "__auto" } else { legend },
                "format": if kind == "table" { "table" } else { "time_series" },
                "instant": instant,
                "range": !instant,
                "exemplar": exemplar,
            })),
            Self::Other {
                source: found,
                body,
            } => {
                let mut target = body.clone();
                target["refId"] = json!(letter.to_string());
                target["datasource"] = source(*found);
                Ok(target)
            }
        }
    }
}

fn source((kind, uid): (&str, &str)) -> Value {
    json!({"type": kind, "uid": uid})
}

// === impl Variable ===

impl Variable {
    const fn of(name: &'static str, label: &'static str, kind: VariableKind) -> Self {
        Self { name, label, kind }
    }

    /// The Prometheus that is asked.
    pub(super) const fn prometheus() -> Self {
        Self::of(
            "datasource",
            "Prometheus",
            VariableKind::DataSource("prometheus"),
        )
    }

    /// The Infinity that asks an agent.
    pub(super) const fn infinity() -> Self {
        let kind = VariableKind::DataSource("yesoreyeram-infinity-datasource");
        Self::of("infinity", "Agent (Infinity)", kind)
    }

    /// The Tempo whose service graph is shown.
    pub(super) const fn tempo() -> Self {
        Self::of("tempo", "Tempo", VariableKind::DataSource("tempo"))
    }

    /// Values of a label, several at a time, all by default.
    pub(super) const fn values(
        name: &'static str,
        label: &'static str,
        series: Series,
        of: &'static str,
    ) -> Self {
        Self::of(name, label, VariableKind::Values(series, of))
    }

    /// What is typed, a default first.
    pub(super) const fn text(
        name: &'static str,
        label: &'static str,
        default: &'static str,
    ) -> Self {
        Self::of(name, label, VariableKind::Text(default))
    }

    /// One of these, the first by default.
    pub(super) const fn choice(
        name: &'static str,
        label: &'static str,
        choices: &'static [&'static str],
    ) -> Self {
        Self::of(name, label, VariableKind::Choice(choices))
    }

    fn json(&self) -> Result<Value> {
        let Self { name, label, kind } = self;
        Ok(match kind {
            VariableKind::DataSource(kind) => json!({
                "name": name, "label": label, "type": "datasource", "query": kind, "hide": 0,
                "includeAll": false, "multi": false, "refresh": 1, "regex": "", "options": [],
                "current": {}
            }),
            VariableKind::Values(series, of) => {
                let query = series.values_of(of)?;
                json!({
                    "name": name, "label": label, "type": "query", "datasource": source(PROMETHEUS),
                    "definition": query, "hide": 0, "includeAll": true, "allValue": ".*",
                    "multi": true, "refresh": 2, "regex": "", "sort": 1, "options": [],
                    "query": {"qryType": 1, "query": query, "refId": format!("variable-{name}")},
                    "current": {"selected": true, "text": ["All"], "value": ["$__all"]}
                })
            }
            VariableKind::Text(default) => {
                let option = json!({"selected": true, "text": default, "value": default});
                json!({
                    "name": name, "label": label, "type": "textbox", "query": default, "hide": 0,
                    "current": option, "options": [option]
                })
            }
            VariableKind::Choice(choices) => {
                let first = choices.first().context("nothing to choose from")?;
                let options: Vec<Value> = choices
                    .iter()
                    .map(|choice| json!({"selected": choice == first, "text": choice, "value": choice}))
                    .collect();
                json!({
                    "name": name, "label": label, "type": "custom", "query": choices.join(","),
                    "hide": 0, "includeAll": false, "multi": false, "options": options,
                    "current": {"selected": true, "text": first, "value": first}
                })
            }
        })
    }
}

// === impl Board ===

impl Board {
    /// The dashboard as Grafana imports it.
    pub(super) fn json(&self) -> Result<Value> {
        let mut panels = Vec::new();
        let (mut y, mut id) = (0, 0);
        let mut next = || {
            id += 1;
            id
        };
        for row in &self.rows {
            panels.push(json!({
                "id": next(), "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    (x, y, tallest) = (0, y + tallest, 0);
                }
                let json = panel.json(next(), x, y);
                panels.push(json.with_context(|| format!("{}: {}", self.title, panel.title))?);
                x += panel.width;
                tallest = tallest.max(panel.height);
            }
            y += tallest;
        }
        let variables: Result<Vec<Value>> = self.variables.iter().map(Variable::json).collect();
        Ok(json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["observer"],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "",
            "annotations": {"list": []},
            "links": [{
                "type": "dashboards", "tags": ["observer"], "title": "Observer", "asDropdown": true,
                "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link",
                "tooltip": "", "url": ""
            }],
            "templating": {"list": variables?},
            "panels": panels,
        }))
    }
}

//! A Prometheus of its own: its folder, its port on loopback, one target.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http,
    process::{self, Process},
    requirement::find_tool,
    wait,
};

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    folder: TempDir,
}

/// How long it may take to start, and to have scraped.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `promtool check metrics` says of an exposition in text; empty when all is well.
pub fn lint(text: &str) -> Result<String> {
    let mut input = tempfile::tempfile().context("make a file")?;
    input.write_all(text.as_bytes())?;
    std::io::Seek::rewind(&mut input)?;
    let mut command = Command::new(find_tool("promtool").context("no promtool")?);
    command.args(["check", "metrics"]).stdin(input);
    let output = process::run_within(&mut command, PATIENCE)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() || !said.is_empty(), "{output:?}");
    Ok(said)
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts one that scrapes `/metrics` of `target` every second, with `features`.
    pub fn start(target: SocketAddr, features: &[&str]) -> Result<Self> {
        Self::start_with_rules(target, features, &[])
    }

    /// As [`Self::start`], with files of rules, each by its content.
    pub fn start_with_rules(
        target: SocketAddr,
        features: &[&str],
        rules: &[String],
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let address = TcpListener::bind(("127.0.0.1", 0))
            .context("find a free port")?
            .local_addr()?;
        let configuration = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             rule_files: ['{}/*.rules']\n\
             scrape_configs:\n  - job_name: observer\n    static_configs: [{{targets: ['{target}']}}]\n",
            folder.path().display()
        );
        for (number, content) in rules.iter().enumerate() {
            let path = folder.path().join(format!("{number}.rules"));
            fs::write(path, content).context("write rules")?;
        }
        fs::write(&configuration, text).context("write configuration")?;
        let log = File::create(folder.path().join("log")).context("make a log")?;
        let mut command = Command::new(find_tool("prometheus").context("no prometheus")?);
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args(
                features
                    .iter()
                    .map(|name| format!("--enable-feature={name}")),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut prometheus = Self {
            process: Process::spawn(&mut command)?,
            address,
            folder,
        };
        wait::until("Prometheus to be ready", PATIENCE, || {
            ensure!(
                prometheus.process.ended()?.is_none(),
                "{}",
                prometheus.log()
            );
            let ready = http::get(address, "/-/ready");
            Ok(ready.is_ok_and(|it| it.status == 200).then_some(()))
        })?;
        Ok(prometheus)
    }

    /// All that it printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The one value of an expression of PromQL; `None` while there is none.
    pub fn value(&self, expression: &str) -> Result<Option<f64>> {
        let answer = self.ask(&format!("/api/v1/query?query={}", encoded(expression)))?;
        let results = answer["result"].as_array().context("no result")?;
        ensure!(results.len() <= 1, "{expression}: {} series", results.len());
        let Some(result) = results.first() else {
            return Ok(None);
        };
        let value = result["value"][1]
            .as_str()
            .with_context(|| format!("{result}"))?;
        Ok(Some(value.parse()?))
    }

    /// The series that an expression of PromQL has for its value now.
    pub fn series(&self, expression: &str) -> Result<Vec<Value>> {
        let answer = self.ask(&format!("/api/v1/query?query={}", encoded(expression)))?;
        let series = answer["result"].as_array().context("no result")?;
        Ok(series.clone())
    }

    /// Names of rules that could not be evaluated, with why; all were evaluated once.
    pub fn broken_rules(&self) -> Result<Vec<String>> {
        let answer = self.ask("/api/v1/rules")?;
        let groups = answer["groups"].as_array().context("no groups")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        let broken = rules.flatten().filter(|rule| rule["health"] != "ok");
        Ok(broken
            .map(|rule| format!("{}: {}", rule["name"], rule["lastError"]))
            .collect())
    }

    /// Waits until an expression has `expected` for its value.
    pub fn expect(&self, expression: &str, expected: f64) -> Result<()> {
        let mut last = None;
        let found = wait::until(expression, PATIENCE, || {
            last = self.value(expression)?;
            Ok((last == Some(expected)).then_some(()))
        });
        found.with_context(|| format!("{expression} is {last:?}, not {expected}; {}", self.log()))
    }

    /// Labels and values of the exemplars of a selector.
    pub fn exemplars(&self, selector: &str) -> Result<Vec<Value>> {
        let query = format!(
            "/api/v1/query_exemplars?query={}&start=0&end=4102444800",
            encoded(selector)
        );
        let answer = self.ask(&query)?;
        let series = answer.as_array().context("no series")?.iter();
        let exemplars = series.filter_map(|it| it["exemplars"].as_array());
        Ok(exemplars.flatten().cloned().collect())
    }

    fn ask(&self, target: &str) -> Result<Value> {
        let response = http::get(self.address, target)?;
        let answer: Value = serde_json::from_str(&response.body)
            .with_context(|| format!("{target}: {}", response.body))?;
        ensure!(answer["status"] == "success", "{target}: {answer}");
        Ok(answer["data"].clone())
    }
}

/// Percent-encodes all but what needs none in a query (RFC 3986 section 2.3).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

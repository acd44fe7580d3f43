//! Flows as the observer reports them, and what a test expects of them.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

/// One flow: a call, or a change of a connection.
#[derive(Clone, PartialEq)]
pub struct Flow(Value);

/// What one exchange must be reported as, at each socket that saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Status of the final response.
    pub status: Option<u16>,
    /// How it ended, `complete` and the like.
    pub outcome: String,
    /// Bytes of the request head and of its content.
    pub request: (u64, u64),
    /// Bytes of the final response head and of its content.
    pub response: (u64, u64),
}

/// The sides of a connection, as flows name them.
pub const BOTH_SIDES: [&str; 2] = ["client", "server"];

// === impl Flow ===

impl Flow {
    /// Reads a line.
    pub fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("flow {line:?}"))?;
        anyhow::ensure!(value.is_object(), "flow is no object: {line}");
        Ok(Self(value))
    }

    /// Reads JSON lines.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>> {
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(Self::parse)
            .collect()
    }

    /// Field `name`, `null` when it is missing.
    pub fn get(&self, name: &str) -> &Value {
        &self.0[name]
    }

    /// Text of field `name`, empty when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).as_str().unwrap_or_default()
    }

    /// Number of field `name`.
    pub fn number(&self, name: &str) -> Result<f64> {
        self.get(name)
            .as_f64()
            .with_context(|| format!("no number {name} in {self:?}"))
    }

    /// Integer of field `name`.
    pub fn integer(&self, name: &str) -> Result<u64> {
        self.get(name)
            .as_u64()
            .with_context(|| format!("no integer {name} in {self:?}"))
    }

    /// Whether it is a call.
    pub fn is_call(&self) -> bool {
        self.text("kind") == "call"
    }

    /// Whether it is a call seen at `side`.
    pub fn is_call_at(&self, side: &str) -> bool {
        self.is_call() && self.text("side") == side
    }

    /// Whether it is `event` of a connection, seen at `side`.
    pub fn is_event_at(&self, event: &str, side: &str) -> bool {
        self.text("kind") == "connection"
            && self.text("event") == event
            && self.text("side") == side
    }

    /// Whether it belongs to the connection between these ports: the client's and the server's.
    pub fn connects(&self, client: u16, server: u16) -> bool {
        let (local, remote) = match self.text("side") {
            "client" => (client, server),
            _ => (server, client),
        };
        port_of(self.text("local")) == Some(local) && port_of(self.text("remote")) == Some(remote)
    }

    /// It as what a test would expect.
    pub fn outline(&self) -> Expected {
        let bytes = |name| self.get(name).as_u64().unwrap_or(u64::MAX);
        let status = self.get("status").as_u64();
        Expected {
            method: self.text("method").to_owned(),
            path: self.text("path").to_owned(),
            status: status.and_then(|status| status.try_into().ok()),
            outcome: self.text("outcome").to_owned(),
            request: (bytes("request_head_bytes"), bytes("request_body_bytes")),
            response: (bytes("response_head_bytes"), bytes("response_body_bytes")),
        }
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Port at the end of `address`.
pub fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

// === impl Expected ===

impl Expected {
    /// A complete exchange with the sizes of `request` and `response`, each head and content.
    pub fn complete(
        method: &str,
        path: &str,
        status: u16,
        request: (u64, u64),
        response: (u64, u64),
    ) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            status: Some(status),
            outcome: "complete".to_owned(),
            request,
            response,
        }
    }

    /// It with another outcome.
    pub fn but(self, outcome: &str) -> Self {
        Self {
            outcome: outcome.to_owned(),
            ..self
        }
    }
}

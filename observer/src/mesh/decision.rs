//! What policy comes to for one call, whichever mesh it is of, and which objects decided.
//!
//! Everything here is three-valued: what cannot be told is [`Certainty::Unknown`] or has a variant
//! `Unknown` with its reason, never a guess.

use std::{borrow::Cow, net::IpAddr, time::Duration};

use crate::model::{kubernetes::Pod, mesh::Identity, policy::ObjectRef};

/// A value, and why it is that: what decided, the strongest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision<T> {
    /// The value.
    pub value: T,
    /// Why.
    pub because: Vec<Reason>,
}

/// Part of why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The object that says so; `None` for defaults and for what was observed.
    pub object: Option<ObjectRef>,
    /// In words: `mode STRICT for the workload`.
    pub text: Cow<'static, str>,
}

/// Yes, no, or it cannot be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certainty {
    /// Yes.
    Yes,
    /// No.
    No,
    /// It depends on something that is not observed.
    #[default]
    Unknown,
}

/// What a server's side takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Accepts {
    /// Mutual TLS only.
    Mutual,
    /// Mutual TLS and plaintext.
    Both,
    /// Plaintext only: mutual TLS is not terminated.
    Plaintext,
    /// It is in no mesh.
    NoMesh,
    /// It cannot be told, and why.
    Unknown(Cow<'static, str>),
    /// Nothing was asked yet.
    #[default]
    Unasked,
}

/// What a client's proxy is to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sends {
    /// Mutual TLS of the mesh.
    Mutual,
    /// TLS with a certificate of the application's operator, or none: `SIMPLE` and `MUTUAL`.
    Tls,
    /// Plaintext.
    Plaintext,
    /// Nobody: the client has no proxy.
    NoProxy,
    /// It cannot be told, and why.
    Unknown(Cow<'static, str>),
}

/// Whom a client means, and who served it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Destination<'a> {
    /// Namespace and name of the Service that was dialled, if it was one.
    pub service: Option<(&'a str, &'a str)>,
    /// Name that was asked for: `:authority`, `Host`, or the server name of TLS; with a port where
    /// one was written. Empty when unknown.
    pub authority: &'a str,
    /// Port as dialled: the Service's, where it was one.
    pub port: u16,
    /// The pod that served it, where that is known.
    pub pod: Option<&'a Pod>,
    /// Port of that pod, 0 when unknown.
    pub pod_port: u16,
    /// Address outside, where it is no pod.
    pub address: Option<IpAddr>,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Method; empty when unknown.
    pub method: &'a str,
    /// Path without query; empty when unknown.
    pub path: &'a str,
    /// `:authority` or `Host`; empty when unknown.
    pub authority: &'a str,
    /// The path is a remote procedure: `/package.Service/Method`.
    pub grpc: bool,
    /// Fields that are known, names in lower case; all others are not known, rather than absent.
    pub headers: &'a [(&'a str, &'a str)],
}

/// Who calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// Its pod, where that is known.
    pub pod: Option<&'a Pod>,
    /// The identity that a proxy proved; `None` without one.
    pub identity: Option<&'a Identity>,
    /// Whether the connection between both proxies was mutual TLS; `None` when that is not known.
    pub mutual: Option<bool>,
    /// Its address, where that is known.
    pub address: Option<IpAddr>,
}

/// How a request is routed.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Routing {
    /// Nothing is declared for where it goes.
    #[default]
    Undeclared,
    /// By this rule.
    Rule(Box<Rule>),
    /// There are routes, and none matches: it is answered with 404.
    Unmatched,
    /// It cannot be told which: the first rules that may match, and why it cannot be told.
    Unknown {
        /// The first that may match, in order.
        candidates: Vec<Rule>,
        /// Why.
        why: Cow<'static, str>,
    },
}

/// A rule of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The object that it stands in.
    pub object: ObjectRef,
    /// Its name, or its number from 0.
    pub name: Box<str>,
    /// Where it leads, with shares that add up to 1; empty for those that answer themselves.
    pub backends: Vec<Backend>,
    /// Whole time that a request may take; `None` when it has no limit.
    pub timeout: Option<Duration>,
    /// Attempts; `None` when none is declared and the mesh's default applies.
    pub retries: Option<Retries>,
    /// Copies.
    pub mirrors: Vec<(Backend, f64)>,
    /// Injected faults.
    pub fault: Option<Fault>,
    /// It redirects or answers by itself: nothing is sent on.
    pub answers: bool,
    /// Something it declares is not understood; what.
    pub partial: Option<Cow<'static, str>>,
}

/// A rule as it is declared, whether or not anything matches it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredRule {
    /// The object that it stands in.
    pub object: ObjectRef,
    /// Its name, or its number from 0: that of [`Self::rule`].
    pub name: Box<str>,
    /// Hosts and Services that it is about: full names where they are in the cluster.
    pub hosts: Vec<Box<str>>,
    /// What it comes to.
    pub rule: Rule,
}

/// Where a rule leads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backend {
    /// Host or Service: a full name, `cart.shop.svc.cluster.local`, where it is in the cluster.
    pub host: Box<str>,
    /// Subset of a DestinationRule; empty without.
    pub subset: Box<str>,
    /// Port of the Service; 0 when the rule leaves it open.
    pub port: u16,
    /// Share of the requests, 0 to 1.
    pub share: f64,
    /// Labels that the pods of the subset have; empty without.
    pub labels: Vec<(Box<str>, Box<str>)>,
}

/// Retries of failed requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Attempts after the first; `u32::MAX` where a budget is their only limit.
    pub attempts: u32,
    /// Time of each attempt; `None` for that of the request.
    pub per_try: Option<Duration>,
}

/// Faults that are injected on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// Share of requests that are answered with a failure, 0 to 1.
    pub abort_share: f64,
    /// With this status of HTTP; 0 when it is one of gRPC.
    pub abort_status: u16,
    /// Share of requests that are delayed, 0 to 1.
    pub delay_share: f64,
    /// For so long.
    pub delay: Duration,
}

/// Whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may.
    Allowed,
    /// It is refused.
    Denied,
    /// It would be refused, and is only logged.
    Audited,
    /// It depends on what is not observed; why.
    Unknown(Cow<'static, str>),
}

/// Whether a destination outside of the cluster may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// An object declares it.
    Declared,
    /// It is not declared, and everything may be reached.
    Open,
    /// It is not declared, and only what is declared may be reached; or an object refuses it.
    Closed,
    /// It cannot be told; why.
    Unknown(Cow<'static, str>),
}

// === impl Decision ===

impl<T> Decision<T> {
    /// A value that one reason decided.
    pub fn by(value: T, reason: Reason) -> Self {
        Self {
            value,
            because: vec![reason],
        }
    }
}

// === impl Reason ===

impl Reason {
    /// An object says so.
    pub fn of(object: ObjectRef, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            object: Some(object),
            text: text.into(),
        }
    }

    /// A default, or what was observed.
    pub fn plain(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            object: None,
            text: text.into(),
        }
    }
}

// === impl Certainty ===

impl Certainty {
    /// Both.
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    /// Any.
    pub const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            _ => Self::Unknown,
        }
    }

    /// The opposite.
    pub const fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl From<bool> for Certainty {
    fn from(value: bool) -> Self {
        if value { Self::Yes } else { Self::No }
    }
}

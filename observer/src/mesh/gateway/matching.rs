//! Whether a request matches a rule of a route, and how specific that is.

use regex::Regex;

use super::content::{GrpcMethod, MatchContent, MethodContent, ValueContent};
use crate::mesh::{
    decision::{Certainty, Request},
    pattern::pattern,
    policy::Misunderstood,
};

/// What all must be true of a request.
#[derive(Clone, Debug)]
pub(in crate::mesh) struct Match {
    path: PathMatch,
    method: Option<Box<str>>,
    headers: Vec<FieldMatch>,
    /// Parameters of the query; they are not observed.
    parameters: usize,
}

/// How specific a match is, more is greater: the path's kind, its length, whether the method counts,
/// and how many fields and parameters do.
pub(in crate::mesh) type Weight = (u8, usize, bool, usize, usize);

/// How a pattern of a path is weighed against a prefix, which the Gateway API leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mesh) enum Patterns {
    /// Any prefix but `/` goes before any pattern.
    AfterPrefixes,
    /// By what they match: a pattern matches the whole path.
    ByLength,
}

#[derive(Clone, Debug)]
enum PathMatch {
    Exact(Box<str>),
    /// Without the `/` at its end: empty matches all.
    Prefix(Box<str>),
    Pattern(Regex),
    /// A method of gRPC of any service.
    Method(Box<str>),
}

#[derive(Clone, Debug)]
struct FieldMatch {
    /// In lower case.
    name: Box<str>,
    value: ValueMatch,
}

#[derive(Clone, Debug)]
enum ValueMatch {
    Exact(Box<str>),
    Pattern(Regex),
}

// === impl Match ===

impl Match {
    /// Matches all.
    pub(super) fn all() -> Self {
        Self {
            path: PathMatch::Prefix(Box::default()),
            method: None,
            headers: Vec::new(),
            parameters: 0,
        }
    }

    pub(super) fn read(content: MatchContent) -> Result<Self, Misunderstood> {
        let mut all = Self::all();
        if let Some(path) = content.path {
            all.path = PathMatch::read(&path)?;
        }
        match content.method {
            Some(MethodContent::Http(method)) => all.method = Some(method),
            Some(MethodContent::Grpc(method)) => all.path = PathMatch::of_grpc(&method)?,
            None => {}
        }
        all.headers = content
            .headers
            .into_iter()
            .map(FieldMatch::read)
            .collect::<Result<_, _>>()?;
        all.parameters = content.query_params.len();
        Ok(all)
    }

    /// Whether a request matches.
    pub(super) fn matches(&self, request: &Request<'_>) -> Certainty {
        let method = match &self.method {
            None => Certainty::Yes,
            Some(_) if request.method.is_empty() => Certainty::Unknown,
            Some(method) => (*request.method == **method).into(),
        };
        let parameters = if self.parameters == 0 {
            Certainty::Yes
        } else {
            Certainty::Unknown
        };
        let headers = self.headers.iter().map(|field| field.matches(request));
        headers
            .fold(method.and(parameters), Certainty::and)
            .and(self.path.matches(request))
    }

    /// How specific it is for a request that it matches.
    pub(super) fn weight(&self, request: &Request<'_>, patterns: Patterns) -> Weight {
        let (kind, length) = self.path.weight(request, patterns);
        let method = self.method.is_some();
        (kind, length, method, self.headers.len(), self.parameters)
    }
}

// === impl PathMatch ===

impl PathMatch {
    fn read(content: &ValueContent) -> Result<Self, Misunderstood> {
        let value = content.value.as_deref().unwrap_or("/");
        match &*content.kind {
            "Exact" => Ok(Self::Exact(value.into())),
            "" | "PathPrefix" => Ok(Self::Prefix(value.trim_end_matches('/').into())),
            "RegularExpression" => Ok(Self::Pattern(pattern(value)?)),
            other => Err(format!("`{other}` is no type of a match of paths")),
        }
    }

    fn of_grpc(content: &GrpcMethod) -> Result<Self, Misunderstood> {
        let (service, method) = (&*content.service, &*content.method);
        match &*content.kind {
            "" | "Exact" => Ok(match (service, method) {
                ("", "") => Self::Prefix(Box::default()),
                (_, "") => Self::Prefix(format!("/{service}").into()),
                ("", _) => Self::Method(method.into()),
                _ => Self::Exact(format!("/{service}/{method}").into()),
            }),
            "RegularExpression" => {
                let any = |text: &str| if text.is_empty() { "[^/]+" } else { text }.to_owned();
                let (service, method) = (any(service), any(method));
                Ok(Self::Pattern(pattern(&format!(
                    "/(?:{service})/(?:{method})"
                ))?))
            }
            other => Err(format!("`{other}` is no type of a match of methods")),
        }
    }

    fn matches(&self, request: &Request<'_>) -> Certainty {
        let path = request.path;
        match self {
            Self::Prefix(prefix) if prefix.is_empty() => Certainty::Yes,
            _ if path.is_empty() => Certainty::Unknown,
            Self::Exact(exact) => (*path == **exact).into(),
            Self::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix);
                // By elements: `/cart` has `/cart/1`, not `/carton`.
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    .into()
            }
            Self::Pattern(pattern) => pattern.is_match(path).into(),
            Self::Method(method) => path
                .rsplit_once('/')
                .is_some_and(|(service, it)| *it == **method && service.len() > 1)
                .into(),
        }
    }

    fn weight(&self, request: &Request<'_>, patterns: Patterns) -> (u8, usize) {
        let by_length = patterns == Patterns::ByLength;
        match self {
            Self::Exact(exact) => (3, exact.len()),
            Self::Pattern(_) if by_length => (2, request.path.len()),
            Self::Prefix(prefix) if by_length => (2, prefix.len().max(1)),
            Self::Prefix(prefix) if prefix.is_empty() => (0, 0),
            Self::Prefix(prefix) => (2, prefix.len()),
            Self::Method(method) => (1, method.len()),
            Self::Pattern(_) => (1, 0),
        }
    }
}

// === impl FieldMatch ===

impl FieldMatch {
    fn read(content: ValueContent) -> Result<Self, Misunderstood> {
        let value = content.value.unwrap_or_default();
        let value = match &*content.kind {
            "" | "Exact" => ValueMatch::Exact(value),
            "RegularExpression" => ValueMatch::Pattern(pattern(&value)?),
            other => return Err(format!("`{other}` is no type of a match of fields")),
        };
        Ok(Self {
            name: content.name.to_ascii_lowercase().into(),
            value,
        })
    }

    /// Only fields that are known tell.
    fn matches(&self, request: &Request<'_>) -> Certainty {
        let known = request
            .headers
            .iter()
            .find(|(name, _)| **name == *self.name);
        match (known, &self.value) {
            (None, _) => Certainty::Unknown,
            (Some((_, value)), ValueMatch::Exact(exact)) => (**value == **exact).into(),
            (Some((_, value)), ValueMatch::Pattern(pattern)) => pattern.is_match(value).into(),
        }
    }
}

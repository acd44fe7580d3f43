//! Texts of filters: patterns, and what a value may be.

use std::time::Duration;

use super::{Secured, Status};
use crate::model::{rpc::RpcEnd, security::Security, trace::TraceId};

/// `pattern` matches as many of the last `parts` as it has itself, with a `/` between them. A `*`
/// does not reach over one.
pub(super) fn path(pattern: &str, parts: &[&str]) -> bool {
    let mut parts = parts.iter().rev();
    pattern
        .rsplit('/')
        .all(|pattern| parts.next().is_some_and(|part| glob(pattern, part)))
}

/// `text` is `pattern`, in which every `*` stands for any characters.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(start) => rest = rest.get(start + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

pub(super) fn parse_trace(text: &str) -> Option<TraceId> {
    // A number may have a sign.
    let right = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = right.then(|| u128::from_str_radix(text, 16).ok())??;
    TraceId::new(number.to_be_bytes())
}

pub(super) fn parse_security(text: &str) -> Option<Secured> {
    if text == "encrypted" {
        return Some(Secured::Encrypted);
    }
    let mut all = Security::ALL.into_iter();
    all.find(|security| security.as_str() == text)
        .map(Secured::Is)
}

pub(super) fn parse_status(text: &str) -> Option<Status> {
    let named = RpcEnd::STATUSES
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(text));
    if let Some(name) = named {
        return Some(Status::Named(name));
    }
    let (lowest, highest) = parse_range(text)?;
    Some(Status::Range(lowest, highest))
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|status| digits && (100..=999).contains(status))
    };
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    match text.split_once('-') {
        Some((lowest, highest)) => {
            let range = (status(lowest)?, status(highest)?);
            (range.0 <= range.1).then_some(range)
        }
        None => status(text).map(|status| (status, status)),
    }
}

pub(in crate::serve) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !(character.is_ascii_digit() || character == '.'))?;
    let (number, unit) = text.split_at_checked(digits)?;
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number * scale).ok()
}

//! One request to the API server, its answer piece by piece, and what a failure means.

use std::{future::poll_fn, pin::Pin, time::Duration};

use hyper::{
    Response,
    body::{Body as _, Bytes},
    header::RETRY_AFTER,
};
use kube::client::Body;
use tokio::time::timeout;

use super::{Scope, Timing};
use crate::cluster::{
    client::Client,
    read::{self, Resource},
    status::Reason,
};

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) detail: String,
    /// What the server asks for.
    pub(super) retry_after: Option<Duration>,
    /// The server cannot tell the version that was asked for: it was restored from a backup.
    pub(super) from_the_future: bool,
    /// The request itself is not understood, rather than not served now.
    pub(super) not_understood: bool,
    /// One of both ends does not trust the other's certificate.
    pub(super) untrusted: bool,
    /// There is nothing of this path.
    pub(super) missing: bool,
    /// An answer had begun.
    pub(super) begun: bool,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    idle: Duration,
}

/// Objects as they are.
const JSON: &str = "application/json";
/// Their metadata alone.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// Most bytes of an answer that tells a failure.
const MAX_FAILURE: usize = 64 << 10;
/// Longest that a server is given its way with `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Longest detail of a failure, bytes.
const MAX_DETAIL: usize = 512;

/// Path of a resource, all over the cluster; empty for what a mesh is told, as that depends.
pub(super) fn path(resource: Resource) -> &'static str {
    match resource {
        Resource::Pods => "/api/v1/pods",
        Resource::Services => "/api/v1/services",
        Resource::EndpointSlices => "/apis/discovery.k8s.io/v1/endpointslices",
        Resource::Nodes => "/api/v1/nodes",
        Resource::ReplicaSets => "/apis/apps/v1/replicasets",
        Resource::Jobs => "/apis/batch/v1/jobs",
        Resource::Policy(_) => "",
    }
}

/// API group of a resource; empty for the core's.
pub(super) fn group(resource: Resource) -> &'static str {
    if let Resource::Policy(kind) = resource {
        return kind.group();
    }
    let named = path(resource).strip_prefix("/apis/");
    named.map_or("", |rest| {
        rest.split_once('/').map_or(rest, |(group, _)| group)
    })
}

/// Path of one object.
pub(super) fn path_of(resource: Resource, namespace: &str, name: &str) -> String {
    let (group, plural) = path(resource).rsplit_once('/').unwrap_or_default();
    format!(
        "{group}/namespaces/{}/{plural}/{}",
        encoded(namespace),
        encoded(name)
    )
}

/// What of a resource is asked for, as parameters; empty or with `&` at its end.
pub(super) fn selector(resource: Resource, scope: &Scope) -> String {
    match (resource, scope) {
        (Resource::Pods, Scope::Node(node)) => {
            format!("fieldSelector=spec.nodeName%3D{}&", encoded(node))
        }
        _ => String::new(),
    }
}

/// Text for a URL.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What is accepted as an answer.
pub(super) fn accepted(resource: Resource, list: bool) -> &'static str {
    match (resource, list) {
        (Resource::ReplicaSets | Resource::Jobs, true) => METADATA_LIST,
        (Resource::ReplicaSets | Resource::Jobs, false) => METADATA,
        _ => JSON,
    }
}

/// Asks, and waits for an answer that tells success.
pub(super) async fn ask(
    client: &Client,
    path: &str,
    accept: &'static str,
    timing: &Timing,
) -> Result<Answer, Failure> {
    let response = match timeout(timing.answer, client.get(path, accept)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(Failure::of_client(&error)),
        Err(_) => {
            let detail = format!("no answer within {:?}", timing.answer);
            return Err(Failure::new(Reason::Silent, detail));
        }
    };
    let code = response.status();
    if code.is_success() {
        return Ok(Answer {
            body: response.into_body(),
            idle: timing.idle,
        });
    }
    let retry_after = retry_after(&response);
    let mut answer = Answer {
        body: response.into_body(),
        idle: timing.answer,
    };
    let mut told = Vec::new();
    while told.len() < MAX_FAILURE {
        match answer.next().await {
            Ok(Some(bytes)) => told.extend_from_slice(&bytes),
            Ok(None) | Err(_) => break,
        }
    }
    let mut status = read::status(&told);
    status.code = code.as_u16();
    let mut failure = Failure::of_status(&status);
    failure.retry_after = retry_after;
    Err(failure)
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Whether TLS failed, rather than what is below it. Errors of I/O do not tell what they wrap as
/// their source.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let within = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || within.is_some_and(|within| is_of_tls(within))
}

// === impl Answer ===

impl Answer {
    /// Longest that nothing may come.
    pub(super) fn set_idle(&mut self, idle: Duration) {
        self.idle = idle;
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let body = &mut self.body;
        let deadline = tokio::time::sleep(self.idle);
        tokio::pin!(deadline);
        loop {
            let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
            let frame = tokio::select! {
                biased;
                frame = frame => frame,
                () = &mut deadline => {
                    let detail = format!("nothing came for {:?}", self.idle);
                    return Err(Failure::new(Reason::Silent, detail));
                }
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::of_client(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Ok(Some(bytes)),
                    // Trailers.
                    Err(_) => {}
                },
            }
        }
    }
}

// === impl Failure ===

impl Failure {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if detail.len() > MAX_DETAIL {
            detail = detail.chars().take(MAX_DETAIL / 4).collect();
        }
        Self {
            reason,
            detail,
            retry_after: None,
            from_the_future: false,
            not_understood: false,
            untrusted: false,
            missing: false,
            begun: false,
        }
    }

    /// By a status: of an answer, or of an event of a watch.
    pub(super) fn of_status(status: &read::Status) -> Self {
        let reason = match (status.code, &*status.reason) {
            (410, _) | (_, "Expired" | "Gone") => Reason::Expired,
            (401, _) | (_, "Unauthorized") => Reason::Unauthorized,
            (403, _) | (_, "Forbidden") => Reason::Forbidden,
            (429, _) | (_, "TooManyRequests") => Reason::Throttled,
            (500.., _) => Reason::Server,
            _ => Reason::Refused,
        };
        let detail = match &*status.message {
            "" => format!("status {}", status.code),
            message => format!("status {}: {message}", status.code),
        };
        Self {
            missing: status.code == 404,
            from_the_future: status.message.contains("Too large resource version"),
            not_understood: reason == Reason::Refused || matches!(status.code, 500 | 501),
            ..Self::new(reason, detail)
        }
    }

    fn of_client(error: &kube::Error) -> Self {
        let reason = match error {
            kube::Error::Auth(_) => Reason::Unauthorized,
            _ => Reason::Connection,
        };
        let mut detail = error.to_string();
        let mut cause = std::error::Error::source(error);
        let mut untrusted = false;
        while let Some(inner) = cause {
            untrusted |= is_of_tls(inner);
            let text = inner.to_string();
            if !detail.contains(&text) {
                detail = format!("{detail}: {text}");
            }
            cause = inner.source();
        }
        Self {
            untrusted,
            ..Self::new(reason, detail)
        }
    }
}

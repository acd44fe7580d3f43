//! Request heads, shared: equal heads are one allocation. What differs in each is beside them.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{
    forwarded::{Answered, Asked, Cache},
    http1::head::Request,
    trace_context::Collector,
};
use crate::{
    model::{exchange::RequestHead, mesh::Forwarded, trace::TraceContext},
    telemetry::health::Loss,
};

/// Longest path that is kept, bytes.
const MAX_PATH: usize = 1024;
/// Longest authority that is kept, bytes (RFC 1035 allows 253 for a name).
const MAX_AUTHORITY: usize = 261;
/// Longest user agent that is kept, bytes.
const MAX_USER_AGENT: usize = 128;

/// A cache of heads with one place for each hash. What is looked up is compared in full, so a
/// collision costs an allocation and nothing else. Only what [`RequestHead`] has is kept.
pub struct Heads {
    places: Vec<Option<Arc<RequestHead>>>,
    hasher: foldhash::fast::RandomState,
    forwarded: Cache,
    /// Fields that should tell a trace and could not be read.
    malformed: u64,
}

// === impl Heads ===

impl Heads {
    /// A cache of `places` heads, rounded up to a power of two.
    pub fn new(places: usize) -> Self {
        Self {
            places: vec![None; places.next_power_of_two()],
            hasher: foldhash::fast::RandomState::default(),
            forwarded: Cache::default(),
            malformed: 0,
        }
    }

    /// What the fields of a request say of its trace. Fields that could not be read are counted.
    pub fn context(&mut self, fields: &Collector) -> Option<Arc<TraceContext>> {
        self.malformed += fields.malformed();
        fields.context().map(Arc::new)
    }

    /// What proxies told in the fields of a request; `None` when they told nothing.
    pub fn asked(&mut self, asked: &Asked<'_>, fields: &Collector) -> Option<Arc<Forwarded>> {
        self.forwarded.asked(asked, fields.request_id())
    }

    /// What proxies told in the fields of a request and in those of its response.
    pub fn answered(
        &mut self,
        asked: Option<Arc<Forwarded>>,
        answered: Answered,
    ) -> Option<Arc<Forwarded>> {
        self.forwarded.answered(asked, answered)
    }

    /// Fields that should tell a trace and could not be read, since start.
    pub fn loss(&self) -> Loss {
        Loss {
            stage: "assemble",
            reason: "trace_context",
            count: self.malformed,
        }
    }

    /// The shared head that is equal to `request`.
    pub fn intern(&mut self, request: &Request<'_>) -> Arc<RequestHead> {
        let mut hasher = self.hasher.build_hasher();
        request.path.hash(&mut hasher);
        request.method.hash(&mut hasher);
        request.authority.hash(&mut hasher);
        request.user_agent.hash(&mut hasher);
        let index = hasher.finish() as usize & (self.places.len() - 1);
        if let Some(Some(head)) = self.places.get(index)
            && same(head, request)
        {
            return Arc::clone(head);
        }
        let head = Arc::new(own(request));
        if let Some(place) = self.places.get_mut(index) {
            *place = Some(Arc::clone(&head));
        }
        head
    }
}

fn same(head: &RequestHead, request: &Request<'_>) -> bool {
    head.path.as_bytes() == request.path
        && head.method.as_bytes() == request.method
        && head.authority.as_bytes() == request.authority
        && head.user_agent.as_bytes() == request.user_agent
        && head.has_query == request.has_query
        && head.version == request.version
        && head.scheme.as_deref().map(str::as_bytes) == request.scheme
        && !head.truncated
}

fn own(request: &Request<'_>) -> RequestHead {
    RequestHead {
        method: text(request.method, request.method.len()),
        path: text(request.path, MAX_PATH),
        has_query: request.has_query,
        scheme: request.scheme.map(|scheme| text(scheme, scheme.len())),
        authority: text(request.authority, MAX_AUTHORITY),
        user_agent: text(request.user_agent, MAX_USER_AGENT),
        version: request.version,
        truncated: request.path.len() > MAX_PATH,
    }
}

fn text(bytes: &[u8], limit: usize) -> Box<str> {
    let cut = &bytes[..bytes.len().min(limit)];
    match std::str::from_utf8(cut) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(cut).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::http1::head::{self, Parsed};

    fn parse(text: &str) -> Request<'_> {
        match head::request(text.as_bytes(), 0) {
            Parsed::Complete(request, _) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn equal_heads_are_shared_and_others_are_not() {
        let mut heads = Heads::new(1);
        let first = heads.intern(&parse(
            "GET /a?x=1 HTTP/1.1\r\nHost: h\r\nCookie: a\r\n\r\n",
        ));
        let second = heads.intern(&parse(
            "GET /a?x=2 HTTP/1.1\r\nHost: h\r\nCookie: b\r\n\r\n",
        ));
        assert!(
            Arc::ptr_eq(&first, &second),
            "query and cookie are not part of it"
        );
        let third = heads.intern(&parse("GET /b?x=2 HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(&*third.path, "/b");
        let fourth = heads.intern(&parse("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(!fourth.has_query);
    }

    #[test]
    fn long_paths_are_cut_and_say_so() {
        let mut heads = Heads::new(4);
        let text = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(5000));
        let head = heads.intern(&parse(&text));
        assert_eq!(head.path.len(), MAX_PATH);
        assert!(head.truncated);
    }
}

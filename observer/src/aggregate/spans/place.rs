//! Where a span belongs, as far as its own call tells.

use super::{FarEnd, ids::Names};
use crate::model::{
    call::Call,
    span::SpanLink,
    trace::{ParentSource, SpanId, TraceContext, TraceId},
};

/// Where a span belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) trace: TraceId,
    pub(super) parent: Option<SpanId>,
    pub(super) source: ParentSource,
    pub(super) link: Option<SpanLink>,
}

// === impl Place ===

impl Place {
    /// Of a client's call by itself.
    pub(super) fn client(call: &Call, names: Names) -> Self {
        let context = call.exchange.context.as_deref();
        Self::by_context(context, names)
    }

    /// Of a server's call by itself.
    pub(super) fn server(call: &Call, names: Names, far: FarEnd) -> Self {
        let context = call.exchange.context.as_deref();
        let by_context = Self::by_context(context, names);
        if far == FarEnd::Unseen {
            return by_context;
        }
        Self {
            parent: Some(names.client),
            source: ParentSource::Hop,
            ..by_context
        }
    }

    fn by_context(context: Option<&TraceContext>, names: Names) -> Self {
        let parent = context.and_then(|context| context.parent);
        let source = match (context, parent) {
            (Some(context), Some(_)) => ParentSource::Header(context.propagation),
            _ => ParentSource::Root,
        };
        Self {
            trace: context.map_or(names.trace, |context| context.trace),
            parent,
            source,
            link: None,
        }
    }
}

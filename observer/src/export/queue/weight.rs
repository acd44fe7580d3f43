//! About how much memory an item holds while it waits.

use crate::model::{
    call::{Call, Link},
    exchange::RequestHead,
    lookup::Resolution,
    rpc::Rpc,
    span::{Access, Span, Subject},
    trace::TraceContext,
};

/// Something that waits.
pub trait Weigh {
    /// Bytes that it holds, about, itself among them.
    fn weight(&self) -> usize;
}

/// What an allocation costs beside its bytes.
const OVERHEAD: usize = 16;

// === impl Weigh ===

impl Weigh for Span {
    fn weight(&self) -> usize {
        let context = self.context.as_ref().map_or(0, |context| {
            size_of::<TraceContext>() + context.state.len() + OVERHEAD
        });
        let subject = match &self.subject {
            Subject::Call(call) => call.weight(),
            Subject::Lookup(lookup) => lookup.weight(),
        };
        size_of::<Self>() + context + subject
    }
}

impl Weigh for Access {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.call.weight()
    }
}

impl Weigh for Call {
    fn weight(&self) -> usize {
        let RequestHead {
            method,
            path,
            scheme,
            authority,
            user_agent,
            ..
        } = &*self.exchange.request;
        let scheme = scheme.as_ref().map_or(0, |scheme| scheme.len());
        let head = method.len() + path.len() + scheme + authority.len() + user_agent.len();
        let rpc = self.exchange.rpc.as_ref().map_or(0, |_| size_of::<Rpc>());
        // The link is shared by the calls of a connection, of which this may be the only one.
        let link = size_of::<Link>() + self.link.connection.owner.command.len();
        let sizes = size_of::<Self>() + size_of::<RequestHead>();
        sizes + head + rpc + link + self.route.len() + 4 * OVERHEAD
    }
}

impl Weigh for Resolution {
    fn weight(&self) -> usize {
        let answers = self.lookup.answers.iter();
        let names: usize = answers
            .map(|answer| size_of_val(answer) + answer.name.len() + OVERHEAD)
            .sum();
        size_of::<Self>() + self.lookup.name.len() + names + OVERHEAD
    }
}

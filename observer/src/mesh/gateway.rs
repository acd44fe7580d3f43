//! The Gateway API's routes, and which of them a request matches.

use super::{
    decision::{Decision, DeclaredRule, Destination, Request, Routing},
    policy::{Context, Misunderstood},
};
use crate::model::{kubernetes::Pod, policy::PolicyObject};

/// Objects of the Gateway API.
#[derive(Debug, Default)]
pub struct Gateways {}

// === impl Gateways ===

impl Gateways {
    /// Takes an object; an error says what is wrong with it.
    pub(super) fn set(&mut self, _object: &PolicyObject) -> Result<(), Misunderstood> {
        Ok(())
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, _object: &PolicyObject) {}

    /// How routes of the Service that was dialled lead a request; `None` when no route that is in
    /// effect has the Service as its parent, for this client: routes of the client's own namespace
    /// go before those of the Service's. Only what is dialled by its cluster IP is routed.
    pub fn route(
        &self,
        _context: &Context,
        _client: Option<&Pod>,
        _to: &Destination<'_>,
        _request: &Request<'_>,
    ) -> Option<Decision<Routing>> {
        None
    }

    /// How routes of a Gateway, namespace and name, lead a request; `None` when no route that is in
    /// effect has it as its parent.
    pub fn gateway_route(
        &self,
        _context: &Context,
        _gateway: (&str, &str),
        _to: &Destination<'_>,
        _request: &Request<'_>,
    ) -> Option<Decision<Routing>> {
        None
    }

    /// All rules of all routes, in no order.
    pub fn rules(&self, _context: &Context) -> Vec<DeclaredRule> {
        Vec::new()
    }
}

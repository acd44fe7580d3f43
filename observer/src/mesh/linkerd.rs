//! Linkerd's objects, and what they come to.

use super::{
    decision::{Accepts, Access, Caller, Decision, Destination, Egress, Request, Routing, Sends},
    gateway::Gateways,
    policy::{Context, Misunderstood},
};
use crate::model::{kubernetes::Pod, policy::PolicyObject};

/// Linkerd's objects.
#[derive(Debug, Default)]
pub struct Linkerd {}

fn undecided<T>(value: T) -> Decision<T> {
    Decision {
        value,
        because: Vec::new(),
    }
}

// === impl Linkerd ===

impl Linkerd {
    /// Takes an object of its own; an error says what is wrong with it.
    pub(super) fn set(&mut self, _object: &PolicyObject) -> Result<(), Misunderstood> {
        Ok(())
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, _object: &PolicyObject) {}

    /// Whether a pod has Linkerd's proxy.
    pub fn has(&self, _pod: &Pod) -> bool {
        false
    }

    /// See [`super::policy::Policies::accepts`].
    pub fn accepts(&self, _context: &Context, _server: &Pod, _port: u16) -> Decision<Accepts> {
        undecided(Accepts::NoMesh)
    }

    /// See [`super::policy::Policies::sends`].
    pub fn sends(
        &self,
        _context: &Context,
        _client: &Pod,
        _to: &Destination<'_>,
    ) -> Decision<Sends> {
        undecided(Sends::NoProxy)
    }

    /// See [`super::policy::Policies::routing`].
    pub fn routing(
        &self,
        _context: &Context,
        _gateways: &Gateways,
        _client: Option<&Pod>,
        _to: &Destination<'_>,
        _request: &Request<'_>,
    ) -> Decision<Routing> {
        undecided(Routing::Undeclared)
    }

    /// See [`super::policy::Policies::access`].
    pub fn access(
        &self,
        _context: &Context,
        _server: &Pod,
        _port: u16,
        _caller: &Caller<'_>,
        _request: Option<&Request<'_>>,
    ) -> Decision<Access> {
        undecided(Access::Allowed)
    }

    /// See [`super::policy::Policies::egress`].
    pub fn egress(
        &self,
        _context: &Context,
        _client: &Pod,
        _to: &Destination<'_>,
    ) -> Decision<Egress> {
        undecided(Egress::Open)
    }
}

//! The Gateway API's routes, and which of them a request matches.

use super::policy::Misunderstood;
use crate::model::policy::PolicyObject;

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
}

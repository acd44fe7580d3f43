//! NetworkPolicies, as far as they name ports.

use super::policy::Misunderstood;
use crate::model::policy::PolicyObject;

/// NetworkPolicies.
#[derive(Debug, Default)]
pub struct Networks {}

// === impl Networks ===

impl Networks {
    /// Takes an object; an error says what is wrong with it.
    pub(super) fn set(&mut self, _object: &PolicyObject) -> Result<(), Misunderstood> {
        Ok(())
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, _object: &PolicyObject) {}
}

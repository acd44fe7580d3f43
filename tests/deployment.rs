//! What is deployed to a cluster: every object is valid, asks for no more than it needs, fits the
//! others, and goes again.

#[path = "deployment/container.rs"]
mod container;
#[path = "deployment/installation.rs"]
mod installation;
#[path = "deployment/node.rs"]
mod node;
#[path = "deployment/objects.rs"]
mod objects;
#[path = "deployment/rights.rs"]
mod rights;
#[path = "deployment/rollout.rs"]
mod rollout;
#[path = "deployment/security.rs"]
mod security;
#[path = "deployment/shape.rs"]
mod shape;
#[path = "deployment/values.rs"]
mod values;
#[path = "deployment/workloads.rs"]
mod workloads;

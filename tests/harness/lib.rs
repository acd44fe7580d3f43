//! Harness of the end-to-end tests: real servers, clients and links around a real observer.
//!
//! A test makes a [`cgroup::Cgroup`], starts an [`agent::Agent`] on it, drives traffic from a
//! [`place::Place`] in it, and compares what the observer says with what the clients counted.

pub mod agent;
pub mod cgroup;
pub mod client;
pub mod conversation;
pub mod flow;
pub mod http;
pub mod link;
pub mod metrics;
pub mod namespace;
pub mod place;
pub mod process;
pub mod remains;
pub mod requirement;
pub mod server;
pub mod settings;
pub mod wait;
pub mod witness;

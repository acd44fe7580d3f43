//! Harness of the end-to-end tests: real servers, clients and links around a real observer.
//!
//! A test makes a [`cgroup::Cgroup`], starts an [`agent::Agent`] on it, drives traffic from a
//! [`place::Place`] in it, and compares what the observer says with what the clients counted.
//!
//! `OBSERVER_BIN` names the observer to test; without it the workspace's release build is taken,
//! then its debug build. A test that lacks something says so and is skipped, unless
//! `OBSERVER_TESTS_REQUIRE=1`. Whatever a test makes (cgroups, namespaces, processes, files) has a
//! name of its own and is gone when the test ends, so tests may run side by side.

pub mod agent;
pub mod apiserver;
pub mod certificates;
pub mod cgroup;
pub mod chart;
pub mod client;
pub mod collector;
pub mod control_plane;
pub mod conversation;
pub mod flow;
pub mod followers;
pub mod h2load;
pub mod hop;
pub mod http;
pub mod kubernetes;
pub mod link;
pub mod mesh;
pub mod metrics;
pub mod namespace;
pub mod node;
pub mod peers;
pub mod place;
pub mod process;
pub mod prometheus;
pub mod relay;
pub mod remains;
pub mod requirement;
pub mod resolver;
pub mod rotel;
pub mod server;
pub mod settings;
pub mod tally;
pub mod truth;
pub mod wait;
pub mod witness;

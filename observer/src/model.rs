//! Values that cross the borders between stages: no logic, no I/O.

pub mod call;
pub mod connection;
pub mod datagram;
pub mod event;
pub mod exchange;
pub mod kubernetes;
pub mod lookup;
pub mod mesh;
pub mod policy;
pub mod resource_attributes;
pub mod rpc;
pub mod security;
pub mod span;
pub mod time;
pub mod trace;
pub mod workload;

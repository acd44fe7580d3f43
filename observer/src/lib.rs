//! Observer: kernel records in, service metrics and live flows out.
//!
//! Data goes one way, and every stage is a folder named by a verb:
//!
//! ```text
//! kernel record -> capture RawBatch -> decode Event -> assemble Exchange
//!     -> enrich Call -> aggregate Snapshot -> serve, export
//! ```
//!
//! What the stages read is a noun: [`model`] (values), [`config`], [`host`] (this machine),
//! [`mesh`] (what service meshes show), [`telemetry`] (our own health). A stage imports `model` and nouns, never another stage;
//! only [`app`] knows them all.

// A flow in full is one long `json!` in the tests.
#![cfg_attr(test, recursion_limit = "256")]

pub mod aggregate;
pub mod app;
pub mod assemble;
pub mod capture;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod decode;
pub mod enrich;
pub mod export;
pub mod host;
pub mod listen;
pub mod mesh;
pub mod model;
pub mod serve;
pub mod telemetry;

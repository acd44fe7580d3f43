//! Spans hang together as the requests did: services tell by the paths of their requests what
//! caused what, and every parent, link and id is held against that.

#[path = "traces/causes.rs"]
mod causes;
#[path = "traces/chain.rs"]
mod chain;
#[path = "traces/hops.rs"]
mod hops;
#[path = "traces/nodes.rs"]
mod nodes;

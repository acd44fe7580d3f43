//! One call through the proxies of a mesh is one call: each end counts it once, at its application's
//! own socket, with whom the other application is and how the wire between was secured.

#[path = "mesh_hops/calls.rs"]
mod calls;
#[path = "mesh_hops/gateways.rs"]
mod gateways;
#[path = "mesh_hops/planes.rs"]
mod planes;
#[path = "mesh_hops/shares.rs"]
mod shares;
#[path = "mesh_hops/sidecars.rs"]
mod sidecars;
#[path = "mesh_hops/waypoints.rs"]
mod waypoints;

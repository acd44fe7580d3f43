//! One call through the proxies of a mesh is one call: each end counts it once, at its application's
//! own socket, with whom the other application is and how the wire between was secured.

#[path = "mesh_hops/calls.rs"]
mod calls;
#[path = "mesh_hops/planes.rs"]
mod planes;
#[path = "mesh_hops/sidecars.rs"]
mod sidecars;

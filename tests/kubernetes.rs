//! On a Kubernetes cluster every call names its pods, services and workloads: what agents on its
//! nodes say equals what clients and servers counted.

#[path = "kubernetes/pods.rs"]
mod pods;

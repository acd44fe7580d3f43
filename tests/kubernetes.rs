//! On a Kubernetes cluster every call names its pods, services and workloads: what agents on its
//! nodes say equals what clients and servers counted.

#[path = "kubernetes/choice.rs"]
mod choice;
#[path = "kubernetes/hub.rs"]
mod hub;
#[path = "kubernetes/knowledge.rs"]
mod knowledge;
#[path = "kubernetes/pods.rs"]
mod pods;
#[path = "kubernetes/services.rs"]
mod services;

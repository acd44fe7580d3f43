//! Resources of workloads and of the observer.

//! Exchanges to calls: who, with whom, which route.

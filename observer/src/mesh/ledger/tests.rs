//! Cases of objects, traffic and what is found.

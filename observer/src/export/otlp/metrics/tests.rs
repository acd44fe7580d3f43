//! Metrics, decoded and compared.

//! Spans, decoded and compared.

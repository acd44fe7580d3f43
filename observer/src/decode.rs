//! Bytes to events, total and checked.

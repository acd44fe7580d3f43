//! The only wiring: builds the stages, connects them, drains them.

//! Tests of the sender against collectors that misbehave.
